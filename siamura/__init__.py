"""Siamese metric learning for musculoskeletal radiographs.

The public names are imported on first use: ``import siamura`` alone costs milliseconds and loads neither
torch nor OpenCV.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = [*__all__, "__version__"]
