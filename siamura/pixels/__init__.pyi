from .augmentation import Augmentation
from .dataset import RadiographDataset, loader
from .preprocessing import CLAHE, Geometry, Preprocess
from .reading import UnreadableImage, read_image
from .store import StoreError

__all__ = [
    "CLAHE",
    "Augmentation",
    "Geometry",
    "Preprocess",
    "RadiographDataset",
    "StoreError",
    "UnreadableImage",
    "loader",
    "read_image",
]
