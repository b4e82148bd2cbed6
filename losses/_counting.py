"""Sort and count: how many triplets each distance takes part in, without a list of triplets.

For one anchor, a positive at distance x and a negative at y make an active triplet if x - y + margin > 0.
With all distances of the anchor in one sorted row, the negatives that stand before the positive's threshold
are the ones it is active with, and the positives that stand after a negative's distance are the ones that
negative is active with. The counts are the exact weights of the distances in the sum of all triplets, hence
its exact gradient: O(R log R) for an anchor instead of O(R²).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ._pairs import Block

Floats = npt.NDArray[np.float32]
_SIGN = np.int32(-(2**31))


def computes_in_numpy(values: Tensor) -> bool:
    """Return whether NumPy does the work: on a processor, where the cost of an operation rules small batches."""
    return values.device.type == "cpu" and values.dtype == torch.float32


def count_active_triplets(keys: Tensor, block: Block, margin: float) -> tuple[Tensor, Tensor]:
    """Return the weight of every distance in the sum of all triplets, and the number of active triplets.

    Parameters
    ----------
    keys : floating (r, R)
        Distances; similarities with a minus.
    block : Block
        Which of the pairs are positive and which negative.
    margin : float

    Returns
    -------
    weights : like `keys`
        Active triplets of each positive, minus those of each negative.
    active : scalar tensor
        Triplets with ``(x - y) + margin > 0``, evaluated as floating point evaluates it.
    """
    if computes_in_numpy(keys) and block.times_positive is None:
        return _packed(keys, block, margin)
    return _searched(keys, block, margin)


def _reach(margin: float) -> tuple[float, bool]:
    """Return d, and whether it is in reach itself: fl32(y - x) < fl32(margin) means y <= x + d (or y < x + d)."""
    above = np.float32(margin)
    below = np.nextafter(above, np.float32(-np.inf))
    even = not int(np.array(below).view(np.int32)) & 1  # a tie rounds to the even neighbour
    return (float(above) + float(below)) / 2, even


def _packed(keys: Tensor, block: Block, margin: float) -> tuple[Tensor, Tensor]:
    """Sort one 64-bit word a pair: distance above, kind and place below.

    NumPy sorts such words by SIMD, many times faster than ``torch.sort``; choices are made by bit masks,
    since branches on labels cannot be predicted.
    """
    distances = keys.numpy()
    rows, columns = distances.shape
    wide = distances.astype(np.float64)
    reach, inclusive = _reach(margin)
    wide += reach
    limits = wide.astype(np.float32)
    down = limits > wide
    if not inclusive:
        down |= (limits == wide) & (limits != distances)
    if reach < 0:  # too little for a large distance to feel
        down |= limits >= distances
    plain, order = distances.view(np.int32), limits.view(np.int32)
    if not (margin > 0 and _rising(distances)):
        plain, order = _turn(plain), _turn(order)
    order = order - down
    # A positive ranks by its threshold, a negative by its distance, anything else before all.
    order ^= plain
    order &= -block.positive.numpy().astype(np.int32)
    order ^= plain
    least = np.iinfo(np.int32).min
    if block.diagonal:
        places = np.arange(rows)
        order[places, places + block.start] = least
        kind = block.negative.numpy()
    else:
        kind = block.negative.numpy()
        np.copyto(order, least, where=~(kind | block.positive.numpy()))
    words = np.empty((rows, columns), dtype=np.int64)
    halves = words.view(np.int32).reshape(rows, columns, 2)  # little-endian: the lower half comes first
    halves[..., 1] = order
    low = kind.astype(np.int32)
    low -= 1
    low &= _SIGN  # the top bit: no negative, so after the negatives of equal distance
    low |= np.arange(columns, dtype=np.int32)
    halves[..., 0] = low
    words.sort(axis=1)
    np.copyto(low, halves[..., 0])
    late = low >> 31
    before = torch.from_numpy(late).cumsum(1, dtype=torch.int32).numpy()  # minus the others up to here
    of_positive = before + np.arange(1, columns + 1, dtype=np.int32)
    ranks = before[:, -1:] - before
    of_positive ^= ranks
    of_positive &= late
    ranks ^= of_positive
    active = torch.from_numpy(ranks).abs().sum() // 2  # each triplet counts for its positive and its negative
    low &= np.int32(0x7FFFFFFF)
    weights = torch.empty(rows, columns, dtype=keys.dtype, device=keys.device)
    weights.scatter_(1, torch.from_numpy(low).long(), torch.from_numpy(ranks).float())
    return weights, active


def _turn(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return integers in the order of the floats with these bits, -0.0 equal to 0.0."""
    sign = bits >> 31
    flipped: npt.NDArray[np.int32] = (bits ^ (sign & np.int32(0x7FFFFFFF))) - sign
    return flipped


def ordinals(values: Floats) -> npt.NDArray[np.int32]:
    """Return integers in the order of the values."""
    bits = values.view(np.int32)
    return bits if _rising(values) else _turn(bits)


def _rising(values: Floats) -> bool:
    """Return whether the bits, read as integers, have the order of the values: no sign is set."""
    return int(values.view(np.int32).min(initial=0)) >= 0


def sort_rows(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return every row in rising order, and where its values stood."""
    if not computes_in_numpy(keys):
        return keys.sort(1)
    words = ordinals(keys.numpy()).astype(np.int64) << 32
    words |= np.arange(keys.shape[1])
    words.sort(axis=1)
    order = torch.from_numpy(words & 0xFFFFFFFF)
    return keys.gather(1, order), order


def _searched(keys: Tensor, block: Block, margin: float) -> tuple[Tensor, Tensor]:
    """Do the same with torch alone, for any device and for pairs that count more than once."""
    up, down = (count.to(keys.dtype) for count in block.times)
    ordered, order = sort_rows(keys.masked_fill(~block.negative, torch.inf))
    if keys.dtype == torch.float32 and keys.device.type != "mps":
        reach, inclusive = _reach(margin)
        exact = keys.double() + reach
        limits = exact.float()
        down_one = limits > exact
        if not inclusive:
            down_one |= (limits == exact) & (limits != keys)
        if reach < 0:
            down_one |= limits >= keys
        limits = torch.where(down_one, torch.nextafter(limits, limits.new_tensor(-torch.inf)), limits)
    else:
        limits = keys + margin
        lower = torch.nextafter(limits, limits.new_tensor(-torch.inf))
        limits = torch.where(limits - keys < margin, limits, lower)
    rank = torch.searchsorted(ordered, limits, right=True)
    negatives = torch.nn.functional.pad(down.gather(1, order).cumsum(1), (1, 0))
    of_positive = negatives.gather(1, rank) * up
    histogram = torch.zeros_like(negatives).scatter_add_(1, rank, up)
    later = up.sum(1, keepdim=True) - histogram.cumsum(1)[:, :-1]
    of_negative = torch.empty_like(keys).scatter_(1, order, later) * down
    return of_positive - of_negative, of_positive.sum(dtype=torch.float64)
