"""Metric-learning losses, exact and fast, at home in pytorch-metric-learning."""

from .base import DistributedLossWrapper
from .batch_hard import BatchHardTripletLoss
from .focal import TripletFocalLoss
from .localisation import localisation_loss
from .memory import CrossBatchMemory, SelfSupervisedLoss
from .selectively_contrastive import SelectivelyContrastiveLoss
from .semi_hard import SemiHardTripletLoss
from .triplet import TripletLoss

__all__ = [
    "BatchHardTripletLoss",
    "CrossBatchMemory",
    "DistributedLossWrapper",
    "SelectivelyContrastiveLoss",
    "SelfSupervisedLoss",
    "SemiHardTripletLoss",
    "TripletFocalLoss",
    "TripletLoss",
    "localisation_loss",
]
