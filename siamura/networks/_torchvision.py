"""torchvision's classifiers, without torch's compiler."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

__all__ = ["torchvision_models"]

_UTILS = "torch._dynamo.utils"


def torchvision_models() -> Any:
    """Import ``torchvision.models``.

    Its ``ops.roi_align``, which no classifier uses, imports the whole of torch's compiler for one function, which
    takes three quarters of the time that loading a network takes. That function is imported when it is called.
    """
    if "torchvision" not in sys.modules and _UTILS not in sys.modules:
        stand_in: Any = types.ModuleType(_UTILS)
        stand_in.is_compile_supported = lambda device: importlib.import_module(_UTILS).is_compile_supported(
            device
        )
        sys.modules[_UTILS] = stand_in
        try:
            importlib.import_module("torchvision.models")
        except (
            ImportError,
            AttributeError,
        ):  # another version of torchvision asks for more; below it gets it
            pass
        finally:
            if sys.modules.get(_UTILS) is stand_in:
                del sys.modules[_UTILS]
    return importlib.import_module("torchvision.models")
