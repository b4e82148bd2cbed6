"""The report of a run: its page, its model card, its figures, and published figures to stand beside."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
