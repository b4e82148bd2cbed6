"""Where a network looked: class activation maps, what they are maps of, and whether they are right."""

from .boxes import box_iou, centre_box, find_boxes
from .explaining import Explanation, embed_image, explain
from .maps import METHODS, activation_map, agreement, smooth_map
from .perturbing import faithfulness, perturbation_curves
from .quality import hits, localisation, mean_place, summary
from .randomising import randomised_weights
from .sheets import feature_maps, feature_sheet, similar_sheet
from .targets import (
    CentroidSimilarity,
    Difference,
    HeadLogit,
    Logit,
    NearestSimilarity,
    Similarity,
    Target,
)
from .watching import choose_layer, choose_layers, undisturbed, watch

__all__ = [
    "METHODS",
    "CentroidSimilarity",
    "Difference",
    "Explanation",
    "HeadLogit",
    "Logit",
    "NearestSimilarity",
    "Similarity",
    "Target",
    "activation_map",
    "agreement",
    "box_iou",
    "centre_box",
    "choose_layer",
    "choose_layers",
    "embed_image",
    "explain",
    "faithfulness",
    "feature_maps",
    "feature_sheet",
    "find_boxes",
    "hits",
    "localisation",
    "mean_place",
    "perturbation_curves",
    "randomised_weights",
    "similar_sheet",
    "smooth_map",
    "summary",
    "undisturbed",
    "watch",
]
