"""Figures for papers: colour-blind safe, legible in one column, each saying what it was measured on.

Every function returns a `matplotlib.figure.Figure` and leaves pyplot alone: nothing to close,
nothing shown by itself. Save one with ``figure.savefig("roc.pdf")``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
