"""Training: fit a distance or a classifier, and embed."""

# On use, since to embed needs neither Lightning nor an optimiser: importing them takes seconds.
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
