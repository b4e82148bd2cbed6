"""Training: fit a distance or a classifier, and embed."""

from .callbacks import Averaging, CollapseWarning, CollapseWatch
from .embedding import embed
from .metric import fit

__all__ = ["Averaging", "CollapseWarning", "CollapseWatch", "embed", "fit"]
