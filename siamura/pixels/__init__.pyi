from .augmentation import Augmentation
from .checks import check_gray, check_radiograph
from .dataset import RadiographDataset
from .geometry import Geometry
from .preprocessing import CLAHE, Preprocess
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
    "check_gray",
    "check_radiograph",
    "read_image",
]
