"""Whether a file of weights can belong to a trunk, before the trunk is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ._torchvision import torchvision_models
from .timm_trunks import TIMM, import_timm
from .torchvision_trunks import known

__all__ = ["check_trunk"]


def check_trunk(name: str, shapes: Mapping[str, Sequence[int]]) -> None:
    """See, before it is made, that a trunk is about as large as the weights that are to fill it.

    Parameters
    ----------
    name : str
        See `Trunk`.
    shapes : mapping of str to sequence of int
        Of the file's tensors.

    Raises
    ------
    ValueError
        If no such trunk is known, or it is more than twice as large.
    """
    with torch.device("meta"), _Undrawn(), torch.random.fork_rng(devices=[]):  # takes no memory
        if name.startswith(TIMM):
            model = import_timm(name.removeprefix(TIMM)).create_model(
                name.removeprefix(TIMM), pretrained=False, num_classes=0
            )
        else:
            models = torchvision_models()
            options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
            model = models.get_model(known(name), weights=None, **options)
    wanted = sum(weight.numel() for weight in model.parameters())
    held = sum(math.prod(shape) for shape in shapes.values())
    # A model with its classifier, which the file does not hold: VGG's has 120 million weights.
    tops = sum(
        weight.numel()
        for top in ("classifier", "fc", "head", "heads", "aux1", "aux2", "AuxLogits")
        if isinstance(module := getattr(model, top, None), nn.Module)
        for weight in module.parameters()
    )
    if wanted - tops > 2 * held:
        raise ValueError(
            f"trunk={name!r} has {wanted - tops} weights, and the file of weights beside it holds {held}; they do not "
            "belong together."
        )


class _Undrawn(TorchFunctionMode):
    """Leave out what is done in place, as all that draws weights: on the meta device it imports torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function, or give its first argument as it is."""
        name = getattr(func, "__name__", "")
        kwargs = kwargs or {}
        if name.endswith("_") and not name.endswith("__") and (args or "tensor" in kwargs):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
