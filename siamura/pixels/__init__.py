"""An image's way from a file to the network: read, made even, kept, drawn as batches.

The names are imported on first use; nothing here loads torch or OpenCV at import time.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
