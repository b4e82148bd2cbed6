from .augmentation import Augmentation
from .dataset import BatchLoader, RadiographDataset
from .geometry import Geometry
from .preprocessing import CLAHE, Preprocess
from .reading import UnreadableImage, read_image
from .store import StoreError

__all__ = [
    "CLAHE",
    "Augmentation",
    "BatchLoader",
    "Geometry",
    "Preprocess",
    "RadiographDataset",
    "StoreError",
    "UnreadableImage",
    "read_image",
]
