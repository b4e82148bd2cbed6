"""Networks: trunks by name, embedding heads, and what is built of them."""

from .embedding import EmbeddingNet
from .heads import EmbeddingHead, GeM
from .trunks import TRUNKS, Trunk, fold_grey
from .weights import load_weights, read_weights

__all__ = [
    "TRUNKS",
    "EmbeddingHead",
    "EmbeddingNet",
    "GeM",
    "Trunk",
    "fold_grey",
    "load_weights",
    "read_weights",
]
