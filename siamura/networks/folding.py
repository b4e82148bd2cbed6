"""One grey channel in place of three."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["fold_grey"]


def fold_grey(model: nn.Module) -> None:
    """Sum the first convolution's three input channels into one, in place.

    A grey image normalised by ONE mean and deviation and repeated over three channels gives the same output
    as that image through the folded convolution, for a third of the first layer's work. With one mean a
    channel it would not: zero padding stands for another grey in each channel there.

    Parameters
    ----------
    model : Module
        Its first convolution with three input channels is replaced. A model that has one channel already is
        left alone.

    Raises
    ------
    ValueError
        If the first convolution has another number of channels, or does not use its weights as they are.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3))
    >>> image = torch.rand(1, 1, 8, 8)
    >>> before = model(image.expand(-1, 3, -1, -1))
    >>> fold_grey(model)
    >>> bool(torch.allclose(model(image), before, atol=1e-5))
    True
    """
    found = next(((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)
    if found is None:
        raise ValueError(f"{type(model).__name__} has no convolution to fold.")
    name, conv = found
    if conv.in_channels == 1:
        return
    if conv.in_channels != 3 or conv.groups != 1:
        raise ValueError(
            f"the first convolution ({name}) has {conv.in_channels} channels, not 3; cannot fold it."
        )
    whole = conv.weight
    with torch.no_grad():
        side = 2 * max(conv.kernel_size)
        probe = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0)).to(whole)
        wanted = conv(probe.expand(-1, 3, -1, -1))
        conv.weight = nn.Parameter(whole.sum(1, keepdim=True))
        conv.in_channels = 1
        # Convolutions that standardise their weights would do so anew with the sum.
        if not torch.allclose(conv(probe), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max())):
            conv.weight, conv.in_channels = whole, 3
            raise ValueError(
                f"the first convolution ({name}, {type(conv).__name__}) rescales its weights; cannot fold it."
            )
