"""Where a network looked: class activation maps, what they are maps of, and whether they are right."""

from .boxes import box_iou, centre_box, find_boxes, peak_of
from .explaining import embed_image, explain, explain_views
from .heat_map import Explanation
from .hooks import capture_layer, choose_layer, choose_layers, frozen_eval
from .maps import METHODS, activation_map, agreement, smooth_map
from .perturbing import faithfulness, perturbation_curves
from .quality import hits, localisation, mean_place, summary
from .randomising import randomised_weights
from .sheets import feature_maps, shared_maps
from .targets import (
    CentroidSimilarity,
    Difference,
    HeadLogit,
    Logit,
    NearestSimilarity,
    Similarity,
    Target,
)

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
    "capture_layer",
    "centre_box",
    "choose_layer",
    "choose_layers",
    "embed_image",
    "explain",
    "explain_views",
    "faithfulness",
    "feature_maps",
    "find_boxes",
    "frozen_eval",
    "hits",
    "localisation",
    "mean_place",
    "peak_of",
    "perturbation_curves",
    "randomised_weights",
    "shared_maps",
    "smooth_map",
    "summary",
]
