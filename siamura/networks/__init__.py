"""Networks: trunks by name, embedding heads, classifiers, and the pair form."""

from .classifier import TOPS, Classifier, ClassifierHead, Top
from .embedding import EmbeddingNet
from .embedding_head import EmbeddingHead, GeM
from .folding import fold_grey
from .hub import push_to_hub
from .pairs import DistanceHead, PairLoss, PairNet
from .trunks import TRUNKS, Trunk
from .weights import load_weights, read_weights

__all__ = [
    "TOPS",
    "TRUNKS",
    "Classifier",
    "ClassifierHead",
    "DistanceHead",
    "EmbeddingHead",
    "EmbeddingNet",
    "GeM",
    "PairLoss",
    "PairNet",
    "Top",
    "Trunk",
    "fold_grey",
    "load_weights",
    "push_to_hub",
    "read_weights",
]
