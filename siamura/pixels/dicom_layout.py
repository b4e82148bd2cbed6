"""Where in its bits a stored value stands, and whether it has a sign: the header's word, checked against the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .formats import Damaged
from .levels import LEAST_PIXELS, Counts

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

OVERLAYS: Final = tuple(0x60000102 + (group << 16) for group in range(0, 0x20, 2))
"""Overlay Bit Position of every overlay that a header may have: above 0, it stands in the pixels' own bits."""


class Layout(NamedTuple):
    """Which bits of a code are its value.

    Parameters
    ----------
    shift : int
        Bits below the value.
    bits : int
        Bits of the value.
    signed : bool
        Whether they are a two's complement.
    """

    shift: int
    bits: int
    signed: bool

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest value."""
        low = -(1 << self.bits - 1) if self.signed else 0
        return low, low + (1 << self.bits) - 1

    def values(self, allocated: int) -> NDArray[np.int64]:
        """Give the value of every code of so many bits."""
        values = np.arange(1 << allocated) >> self.shift & (1 << self.bits) - 1
        if self.signed:
            values -= (values >> self.bits - 1) << self.bits
        return values


def find_layout(header: Dataset, codes: NDArray[Any], counts: Counts) -> tuple[Layout, list[str]]:
    """Take the layout from the header, and mend it where the codes contradict it.

    Parameters
    ----------
    header : Dataset
    codes : uint8 or uint16 (H, W)
        As they are stored.
    counts : int64 (256,) or (65536,)
        Their histogram.

    Returns
    -------
    Layout
    list of str
        What of the header was not believed, and why.
    """
    allocated, bits = int(header.BitsAllocated), int(header.BitsStored)
    top = header.get("HighBit")
    top = bits - 1 if top is None else int(top)
    layout = Layout(top + 1 - bits, bits, bool(header.PixelRepresentation))
    if not 0 <= layout.shift <= allocated - bits:
        raise Damaged(f"its high bit {top} does not go with {bits} of {allocated} bits")
    if counts.sum() < LEAST_PIXELS:
        return layout, []
    layout, said = _placed(header, layout, codes, counts, allocated)
    signed, more = check_sign(layout, codes, counts, allocated)
    return layout._replace(signed=signed), said + more


def _placed(
    header: Dataset, layout: Layout, codes: NDArray[Any], counts: Counts, allocated: int
) -> tuple[Layout, list[str]]:
    """Compare BitsStored and HighBit with the bits that the codes use."""
    total, every = counts.sum(), np.arange(1 << allocated)
    shift, bits, signed = layout
    low = counts[(every & (1 << shift) - 1) != 0].sum() / total if shift else 0.0
    if low >= 0.05 and counts[every >> bits > 0].sum() <= 0.001 * total:
        return Layout(0, bits, signed), [
            f"its HighBit says that the lowest {shift} bits are no part of the values, but the data fill them and "
            "not the highest; they were taken for the values"
        ]
    over = every >> shift + bits
    if signed:  # a sign may go on above the value
        negative = (every >> shift + bits - 1 & 1).astype(bool)
        over = np.where(negative & (over == (1 << allocated - shift - bits) - 1), 0, over)
    share = counts[over != 0].sum() / total
    # Old devices put overlays above the values; a bit of the values itself makes neighbours alike.
    if share < 0.005 or any((tag in header) and int(header[tag].value or 0) > 0 for tag in OVERLAYS):
        return layout, []
    rows = codes[:: max(1, codes.size >> 20)].astype(np.int64)
    masked = rows >> shift & (1 << bits) - 1
    smoother = np.abs(np.diff(rows >> shift)).mean() < np.abs(np.diff(masked)).mean()
    if share < 0.2 and not smoother:
        return layout, []
    present = np.flatnonzero(counts)
    needed = allocated - shift if signed else int(present[-1] >> shift).bit_length()
    return Layout(shift, needed, signed), [
        f"its BitsStored is {bits}, but {100 * share:.0f} % of its pixels need up to {needed} bits, which were taken"
    ]


def check_sign(layout: Layout, codes: NDArray[Any], counts: Counts, allocated: int) -> tuple[bool, list[str]]:
    """Compare the sign with the data: read wrongly, the lower part of their histogram stands above the upper.

    Both ends of the range are then filled by many different values, and there is a wide gap between; or, where
    the data fill the range, neighbouring pixels jump from one end to the other.

    Parameters
    ----------
    layout : Layout
    codes : uint8 or uint16 (H, W)
        As they are stored.
    counts : int64 (256,) or (65536,)
        Their histogram.
    allocated : int
        Bits of a code.

    Returns
    -------
    bool
        Whether the values are signed.
    list of str
        Why that differs from `layout`; empty where it does not.
    """
    size = 1 << layout.bits
    values = layout.values(allocated)
    by_value = np.bincount(values - layout.range[0], weights=counts, minlength=size)
    edge, many = size // 32, min(16, size // 64)
    present = np.flatnonzero(by_value)
    if many < 2 or min(np.sum(present < edge), np.sum(present >= size - edge)) < many:
        return layout.signed, []
    gaps = np.diff(present)
    at = int(gaps.argmax())
    below = by_value[: present[at] + 1].sum() / by_value.sum()
    # The gap must lie where the other reading begins and ends.
    apart = gaps[at] >= size / 4 and 0.005 <= below <= 0.995 and present[at] < size // 2 <= present[at + 1]
    if not apart and not _jumps(layout, codes):
        return layout.signed, []
    word = "unsigned" if layout.signed else "signed"
    return not layout.signed, [
        f"its header says {'signed' if layout.signed else 'unsigned'} values, but the data are continuous only if "
        f"{word}; {word} was taken"
    ]


def _jumps(layout: Layout, codes: NDArray[Any]) -> bool:
    """Return whether many neighbours lie at opposite ends of the range, and hardly any by the other reading."""
    shift, bits, signed = layout
    half = 1 << bits - 1
    rows = (codes[:: max(1, codes.size >> 20)].astype(np.int32) >> shift) & (2 * half - 1)
    here, there = (
        float((np.abs(np.diff(rows ^ half if with_sign else rows)) > half).mean())
        for with_sign in (signed, not signed)
    )
    return here >= 0.001 and here > 20 * there
