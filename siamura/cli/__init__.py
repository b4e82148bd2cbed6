"""The ``siamura`` command: results on standard output, progress on standard error, status 2 for bad input."""

import lazy_loader

# Imported on first use: the command says a word on the terminal before it imports anything slow.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
