"""Small images first, then larger ones: progressive resizing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["check_start_size", "side_at", "to_side"]

_STEP = 32  # pixels; most trunks halve the image five times
_GROWS = 2 / 3  # share of the run


def side_at(step: int, total: int, start: int, full: int) -> int:
    """Side of the images at a step, in pixels: from `start` to `full` over the first two thirds of a run.

    In steps of 32 pixels, each about equally long.

    References
    ----------
    M. Tan, Q. V. Le, EfficientNetV2: smaller models and faster training, ICML 2021, section 4.2 (algorithm 1).

    Examples
    --------
    >>> [side_at(step, 9, 64, 128) for step in range(9)]
    [64, 64, 96, 96, 128, 128, 128, 128, 128]
    """
    stages = -(-(full - start) // _STEP) + 1
    stage = int(step / (_GROWS * total) * stages)
    return min(full, start + _STEP * stage)


def to_side(images: Tensor, side: int) -> Tensor:
    """Make images (B, C, S, S) smaller, to float32 (B, C, side, side); those of this side stay as they are."""
    if images.shape[-1] == side:
        return images
    return nn.functional.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)


def check_start_size(net: nn.Module, start: int, images: Tensor) -> None:
    """Refuse a first side that is no smaller than the images', or that the network does not take.

    Raises
    ------
    ValueError
        With the reason.
    """
    full = int(images.shape[-1])
    if start >= full:
        raise ValueError(
            f"start_size={start} must be smaller than the images, which have {full} x {full} pixels."
        )
    was = net.training
    try:
        with torch.inference_mode():
            net.eval()(to_side(images[:1], start).to(next(net.parameters()).device))
    except (RuntimeError, ValueError, AssertionError) as error:
        told = str(error).split("\n")[0]
        raise ValueError(
            f"start_size={start}: the network does not take images of this side ({told})."
        ) from error
    finally:
        net.train(was)
