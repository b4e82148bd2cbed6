"""``python -m siamura.cli``."""

from . import main

main()
