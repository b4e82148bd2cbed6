"""A small network trained on phantoms, with its heads, its cases and three studies to ask about.

``examples/train_demo.py`` makes it again. Everything in it is drawn: it says nothing about patients.
"""

from .drawing import draw
from .loading import Demo, load_demo
from .reading import Answer, vote_interval

__all__ = ["Answer", "Demo", "draw", "load_demo", "vote_interval"]
