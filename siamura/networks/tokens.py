"""Tokens as feature maps: where the patches lie in a sequence, and in which order its axes stand."""

from __future__ import annotations

from torch import Tensor

__all__ = ["grid_of", "map_of"]

_MOST = 32  # class, distillation and register tokens before the patches; the most known is 17


def grid_of(count: int, height: int, width: int) -> tuple[int, int] | None:
    """Rows and columns of so many patches over an image, or None where they fill no grid of its proportions.

    Examples
    --------
    >>> grid_of(196, 224, 224), grid_of(8, 64, 128), grid_of(197, 224, 224)
    ((14, 14), (2, 4), None)
    """
    if count < 1:
        return None
    rows = round((count * height / width) ** 0.5)
    columns = count // max(rows, 1)
    if rows * columns != count or abs(rows * width - columns * height) > max(height, width):
        return None
    return rows, columns


def map_of(
    out: Tensor, size: tuple[int, int], *, prefix: int | None = None, channels_last: bool = False
) -> Tensor | None:
    """What a layer gave, as a feature map; class and register tokens are left out.

    Parameters
    ----------
    out : Tensor
        A map (B, C, h, w), a map with the channels last (B, h, w, C), or tokens (B, n, C).
    size : tuple of int
        Height and width of the images.
    prefix : int, optional
        Tokens before the patches, where it is known; else the smallest number that leaves a grid.
    channels_last : bool
        Which order to take where both would do.

    Returns
    -------
    Tensor (B, C, h, w) or None
        A view, so that gradients pass. None where it is neither.

    Examples
    --------
    >>> import torch
    >>> map_of(torch.zeros(2, 5, 8), (64, 64)).shape, map_of(torch.zeros(2, 4, 4, 8), (64, 64)).shape
    (torch.Size([2, 8, 2, 2]), torch.Size([2, 8, 4, 4]))
    """
    height, width = size
    if out.ndim == 4:
        first = _proportional(out.shape[2], out.shape[3], height, width)
        last = _proportional(out.shape[1], out.shape[2], height, width)
        if last and (channels_last or not first):
            return out.permute(0, 3, 1, 2)
        return out if first else None
    if out.ndim != 3:
        return None
    tokens = int(out.shape[1])
    known = () if prefix is None else (prefix,)
    for before in (*known, *range(min(tokens, _MOST))):
        grid = grid_of(tokens - before, height, width)
        if grid is not None:
            return out[:, before:].transpose(1, 2).reshape(out.shape[0], -1, *grid)
    return None


def _proportional(rows: int, columns: int, height: int, width: int) -> bool:
    return abs(rows * width - columns * height) <= max(height, width)
