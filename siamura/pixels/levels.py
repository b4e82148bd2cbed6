"""Which values of an image become black and white: a header's word is checked against the values themselves.

Images of more than 8 bits are mapped by a table over all values, made from their histogram: that needs little
memory for any number of pixels, and the same table tells whether a header's mapping shows what the data hold.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .formats import Damaged, Grey

LEAST_PIXELS: Final = 256
"""With fewer pixels there are no statistics, and the header is used."""

LEAST_SPAN: Final = 100
"""Values less far apart are noise of a blank image, not an image that a header hides."""

LEAST_GREYS: Final = 128
"""A mapping that spends fewer of the 256 greys on the data does not fit them."""

CHUNK: Final = 1 << 21
"""Pixels worked on at once, so that no copy of a whole image in a wider type is made."""

Counts = NDArray[np.int64]


class Core(NamedTuple):
    """The range of all values but a few that lie far off.

    Parameters
    ----------
    low, high : float
        Its ends.
    outside : int
        Pixels beyond.
    inner : float
        How far apart the values are without the half per cent at either end.
    """

    low: float
    high: float
    outside: int
    inner: float


def chunks(length: int, width: int = 1) -> list[slice]:
    """Cut rows of some width into slices of about `CHUNK` pixels."""
    step = max(1, CHUNK // max(1, width))
    return [slice(start, start + step) for start in range(0, length, step)]


def histogram(codes: NDArray[Any], size: int) -> Counts:
    """Count how often each value from 0 to ``size - 1`` occurs."""
    flat = codes.reshape(-1)
    counts = np.zeros(size, np.int64)
    for part in chunks(len(flat)):
        counts += np.bincount(flat[part], minlength=size)
    return counts


def look_up(table: Grey, codes: NDArray[Any]) -> Grey:
    """Map every pixel by a table."""
    out = np.empty(codes.shape, np.uint8)
    for rows in chunks(len(codes), codes.shape[-1]):
        out[rows] = table[codes[rows]]
    return out


def core_range(values: NDArray[Any], counts: Counts) -> Core:
    """Find the range of all values but a few that lie far off: hot pixels, dead pixels.

    What counts is what is left without the half per cent (at most 1000 pixels) at either end, and all values
    that lie beyond it by less than half its width. One or two values at an end that stand alone (a border, a
    marker) do not count either, whatever their number, where they would leave a quarter of the greys to the rest.

    Parameters
    ----------
    values : (K,)
        Different values, ascending.
    counts : int64 (K,)
        Pixels that have them, all above 0.
    """
    total = int(counts.sum())
    whole = Core(float(values[0]), float(values[-1]), 0, float(values[-1]) - float(values[0]))
    tail = min(int(0.005 * total), 1000)
    if total < LEAST_PIXELS or tail == 0:
        return whole
    image = _without_fill(values)
    if image != slice(0, len(values)):
        inner = core_range(values[image], counts[image])
        return inner._replace(outside=total - int(counts[image].sum()) + inner.outside)
    below = np.cumsum(counts)
    low = float(values[np.searchsorted(below, tail, side="right")])
    high = float(values[np.searchsorted(below, total - tail, side="left")])
    width = high - low
    if width <= 0:
        return whole
    inside = (values >= low - width / 2) & (values <= high + width / 2)
    kept = values[inside]
    return Core(float(kept[0]), float(kept[-1]), total - int(counts[inside].sum()), width)


def _without_fill(values: NDArray[Any]) -> slice:
    """Find the values but for one or two at either end that lie apart by more than the width of all others."""
    many = len(values)
    for left in (4, 3, 2, 1):
        for first in range(max(0, left - 2), min(2, left) + 1):
            stop = many - (left - first)
            if stop - first < LEAST_SPAN:
                continue
            low, high = float(values[first]), float(values[stop - 1])
            apart = (first == 0 or low - float(values[first - 1]) >= high - low) and (
                stop == many or float(values[stop]) - high >= high - low
            )
            if apart and 4 * (high - low) <= float(values[-1]) - float(values[0]):
                return slice(first, stop)
    return slice(0, many)


def stretch(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """Map a range of values to 0 to 1; what lies beyond is held at its ends."""
    scaled = (np.asarray(values, np.float64) - low) / (high - low)
    return np.clip(scaled, 0.0, 1.0, out=scaled)


def window(values: NDArray[Any]) -> tuple[Grey, list[str]]:
    """Map an image's own range to 0 to 255; a constant image becomes 0.

    Returns
    -------
    uint8, same shape
    list of str
        What was done about values that lie far off; empty for most images.
    """
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        counts = histogram(values, 1 << 8 * values.dtype.itemsize)
        present = np.flatnonzero(counts)
        core = core_range(present, counts[present])
        table = np.zeros(len(counts), np.uint8)
        table[present] = _scaled(present, core.low, core.high)
        return look_up(table, values), _hot(core, present[0], present[-1])
    if values.dtype.kind == "f" and not all(np.isfinite(values[rows]).all() for rows in _rows(values)):
        raise Damaged("it holds values that are not finite (NaN or infinite)")
    least, most = float(values.min()), float(values.max())
    core = _sampled_core(values, least, most)
    out = np.empty(values.shape, np.uint8)
    for rows in _rows(values):
        out[rows] = _scaled(values[rows], core.low, core.high)
    return out, _hot(core, least, most)


def check_mapping(
    values: NDArray[Any], out: NDArray[np.float64], counts: Counts
) -> tuple[NDArray[np.float64], str]:
    """Check a header's mapping against the values, and replace it where it does not show them.

    Parameters
    ----------
    values : (K,)
        What is mapped, for each code that a pixel may have; in any order.
    out : float64 (K,)
        What the header makes of them, 0 to 1.
    counts : int64 (K,)
        Pixels of each code, those of padding left out.

    Returns
    -------
    float64 (K,)
        `out`, or a mapping that fits the data.
    str
        What was done; empty where the header is followed.
    """
    present = np.flatnonzero(counts)
    if counts[present].sum() < LEAST_PIXELS or len(present) < 2:
        return out, ""
    order = present[np.argsort(values[present], kind="stable")]
    core = core_range(values[order], counts[order])
    codes = np.sort(present)
    if core_range(codes, counts[codes]).inner < LEAST_SPAN or not core.high > core.low:
        return out, ""
    own = stretch(values, core.low, core.high)
    clipped = _at_ends(out[present], counts[present])
    between = values[present][(out[present] > 0.002) & (out[present] < 0.998)]
    seen = float(np.ptp(between)) / core.inner if len(between) else 0.0
    # A window that suits the data may clip much, but not both most pixels and nearly the whole of their range.
    blind = clipped >= 0.9 or (clipped >= 0.5 and seen < 0.125)
    blind = blind and _at_ends(own[present], counts[present]) <= 0.5
    by_grey = present[np.argsort(out[present], kind="stable")]
    shown = core_range(out[by_grey], counts[by_grey])
    if not blind and 255 * shown.inner >= LEAST_GREYS:
        return out, ""
    if not blind and shown.high > shown.low:
        wider = stretch(out, shown.low, shown.high)
        if _greys(wider[present]) >= min(200, 0.75 * _greys(own[present])):
            return wider, (
                f"its header's mapping shows the data in {max(1, round(255 * shown.inner))} of 256 greys; these were "
                "spread over all"
            )
    if out[order[-1]] < out[order[0]]:
        own = 1.0 - own
    if blind:
        said = f"its header's mapping makes {100 * clipped:.0f} % of the pixels black or white"
    else:
        said = f"its header's mapping shows the data in {_greys(out[present])} of 256 greys"
    return own, f"{said}; the range of the data, {core.low:g} to {core.high:g}, was taken instead"


def _scaled(values: NDArray[Any], low: float, high: float) -> Grey:
    if low == high:
        return np.zeros(values.shape, np.uint8)
    scaled = values.astype(np.float64)
    scaled -= low
    scaled *= 255.0 / (high - low)
    return np.rint(np.clip(scaled, 0.0, 255.0, out=scaled)).astype(np.uint8)


def _rows(values: NDArray[Any]) -> list[slice]:
    return chunks(len(values), values.shape[-1])


def _sampled_core(values: NDArray[Any], least: float, most: float) -> Core:
    """Find the core of values of any type, from a million of them at most."""
    flat = values.reshape(-1)
    some, counts = np.unique(flat[:: max(1, len(flat) >> 20)], return_counts=True)
    core = core_range(some, counts.astype(np.int64))
    if core.outside == 0 and core.inner >= (most - least) / 2:
        return Core(least, most, 0, core.inner)
    tail = min(int(0.005 * len(flat)), 1000)
    # The ends are those of all values, of which the sample may lack some.
    low, high, outside = core.high, core.low, 0
    floor, ceiling = core.low - core.inner / 2, core.high + core.inner / 2
    for part in chunks(len(flat)):
        inside = flat[part][(flat[part] >= floor) & (flat[part] <= ceiling)]
        outside += len(flat[part]) - len(inside)
        if len(inside):
            low, high = min(low, float(inside.min())), max(high, float(inside.max()))
    if outside == 0 or outside > 2 * max(tail, core.outside / int(counts.sum()) * len(flat)):
        return Core(least, most, 0, core.inner)
    return Core(low, high, outside, core.inner)


def _hot(core: Core, least: float, most: float) -> list[str]:
    if core.outside == 0:
        return []
    which = "1 pixel lies" if core.outside == 1 else f"{core.outside} pixels lie"
    return [
        f"{which} far off the others, within {float(least):g} to {float(most):g}; the range of the others, "
        f"{core.low:g} to {core.high:g}, was taken"
    ]


def _at_ends(out: NDArray[np.float64], counts: Counts) -> float:
    """Share of pixels in the darkest and in the brightest grey that occur."""
    greys = np.rint(255 * out)
    return float(counts[(greys == greys.min()) | (greys == greys.max())].sum() / counts.sum())


def _greys(out: NDArray[np.float64]) -> int:
    return len(np.unique(np.rint(255 * out)))
