from .counts import class_counts
from .curves import accuracy_curves, loss_curves
from .decisions import decision_curve
from .heat_maps import feature_maps, heat_map
from .images import augmentation_sheet, clahe_pairs, neighbours
from .probabilities import precision_recall, reliability, roc
from .projection import project
from .scatter import embedding
from .scores import confusion, part_bars
from .similar import similar_cases

__all__ = [
    "accuracy_curves",
    "augmentation_sheet",
    "clahe_pairs",
    "class_counts",
    "confusion",
    "decision_curve",
    "embedding",
    "feature_maps",
    "heat_map",
    "loss_curves",
    "neighbours",
    "part_bars",
    "precision_recall",
    "project",
    "reliability",
    "roc",
    "similar_cases",
]
