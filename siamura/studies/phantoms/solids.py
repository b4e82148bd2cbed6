"""Solids of an X-ray scene: tapered tubes with a wall, and the length of each ray inside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SAMPLES = 513
"""Samples of a profile along the axis of a solid."""

POSITION: Floats = np.linspace(0, 1, SAMPLES, dtype=np.float32)


def _frozen(values: npt.ArrayLike) -> Floats:
    """Return a read-only copy: results of the cached functions below are shared."""
    array = np.array(values, np.float32)
    array.flags.writeable = False
    return array


@lru_cache(maxsize=512)
def profile(*points: tuple[float, float]) -> Floats:
    """Smooth curve through `points` (position 0..1 along the axis, value), flat at each of them."""
    at = np.asarray([p[0] for p in points])
    value = np.asarray([p[1] for p in points])
    left = np.clip(np.searchsorted(at, POSITION, side="right") - 1, 0, len(at) - 2)
    share = np.clip((POSITION - at[left]) / np.maximum(at[left + 1] - at[left], 1e-6), 0, 1)
    share = share * share * (3 - 2 * share)
    return _frozen(value[left] + (value[left + 1] - value[left]) * share)


@lru_cache(maxsize=512)
def rounding(start: float, end: float, power: float = 2.5) -> Floats:
    """Factor 0..1 that rounds both ends of a profile off, over shares `start` and `end` of the length."""
    near = np.clip((start - POSITION) / max(start, 1e-6), 0, 1)
    far = np.clip((POSITION - (1 - end)) / max(end, 1e-6), 0, 1)
    return _frozen(((1 - near**power) * (1 - far**power)) ** (1 / power))


@dataclass(frozen=True)
class Solid:
    """A tube with elliptic cross-sections around a straight or bowed axis, all lengths in millimetres.

    Parameters
    ----------
    name
        What it is, e.g. ``"middle proximal phalanx"``.
    start, end
        The axis in the plane of the film (x to the right, y down).
    left, right : float32 (SAMPLES,)
        Half widths on either side of the axis, from start to end.
    depth : float32 (SAMPLES,)
        Half depths along the beam.
    wall : float32 (SAMPLES,)
        Thickness of the cortex; 0 for soft tissue.
    spongy : float32 (SAMPLES,)
        Attenuation of the inside as a share of the wall's.
    bow
        Sideways deviation of the axis at mid-length.
    hollow
        How far the start is hollowed (an articular facet).
    notch
        How deep the end is notched between two condyles.
    density
        Factor on the attenuation.
    """

    name: str
    start: tuple[float, float]
    end: tuple[float, float]
    left: Floats
    right: Floats
    depth: Floats
    wall: Floats = field(default_factory=lambda: np.zeros(SAMPLES, np.float32))
    spongy: Floats = field(default_factory=lambda: np.ones(SAMPLES, np.float32))
    bow: float = 0.0
    hollow: float = 0.0
    notch: float = 0.0
    density: float = 1.0

    @property
    def length(self) -> float:
        """Length of the axis in the film, at least 1 mm."""
        return max(float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1])), 1.0)

    @property
    def axis(self) -> tuple[float, float]:
        """Unit vector from start to end."""
        dx, dy = self.end[0] - self.start[0], self.end[1] - self.start[1]
        norm = float(np.hypot(dx, dy))
        return (dx / norm, dy / norm) if norm > 1e-6 else (0.0, -1.0)

    def half_width(self, position: float) -> float:
        """Mean half width at a position 0..1 along the axis."""
        i = int(np.clip(position, 0, 1) * (SAMPLES - 1))
        return float(self.left[i] + self.right[i]) / 2

    def point(self, along: float, across: float = 0.0) -> tuple[float, float]:
        """Place on the film of a point `along` the axis and `across` it, both in mm."""
        ax, ay = self.axis
        return self.start[0] + along * ax - across * ay, self.start[1] + along * ay + across * ax

    def local(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Coordinates along and across the axis (mm) of points of the film (mm)."""
        ax, ay = self.axis
        dx, dy = x - np.float32(self.start[0]), y - np.float32(self.start[1])
        return (dx * np.float32(ax) + dy * np.float32(ay), dy * np.float32(ax) - dx * np.float32(ay))

    def chords(self, along: Floats, across: Floats) -> tuple[Floats, Floats]:
        """Length of the ray in the wall and in the inside (mm) at local coordinates.

        Parameters
        ----------
        along, across : float32 (H, W)
            Coordinates in mm from `local`.

        Returns
        -------
        wall, inside : float32 (H, W)
        """
        s = along * np.float32(1 / self.length)
        u = across
        if self.bow:
            u = u - np.float32(4 * self.bow) * s * (1 - s)
        if self.hollow or self.notch:
            reach = np.float32(max(self.half_width(0.06), 0.5))
            v2 = np.minimum((u / reach) ** 2, np.float32(1.0))
            s0 = np.float32(self.hollow / self.length) * (1 - v2)
            s1 = 1 - np.float32(self.notch / self.length) * np.exp(-7 * v2)
            s = (s - s0) / (s1 - s0)
        index = np.clip(s * (SAMPLES - 1), 0, SAMPLES - 1).astype(np.int32)
        width = np.where(u < 0, self.left[index], self.right[index])
        depth, wall = self.depth[index], self.wall[index]
        depth = np.where((s < 0) | (s > 1), np.float32(0), depth)
        tiny = np.float32(1e-3)
        outer = depth * np.sqrt(np.maximum(1 - (u / np.maximum(width, tiny)) ** 2, 0))
        if not wall.any():
            return np.zeros_like(outer), 2 * outer
        width_in, depth_in = width - wall, np.maximum(depth - wall, 0)
        inner = depth_in * np.sqrt(np.maximum(1 - (u / np.maximum(width_in, tiny)) ** 2, 0))
        inner = np.where(width_in > tiny, np.minimum(inner, outer), np.float32(0))
        # the joint surfaces carry a plate of compact bone, seen edge-on as a bright line
        plate = np.float32(min(0.04 * float(max(self.left.max(), self.right.max())) + 0.15, 0.7))
        inner *= np.clip((np.minimum(s, 1 - s) * np.float32(self.length) - plate) / plate, 0, 1)
        return 2 * (outer - inner), 2 * inner

    def reach(self) -> float:
        """Largest distance of the surface from the axis, in mm."""
        return float(max(self.left.max(), self.right.max())) + abs(self.bow)


def blend(first: Floats, second: Floats, share: float) -> Floats:
    """Mix of two profiles: `first` at share 0, `second` at share 1."""
    return (first * np.float32(1 - share) + second * np.float32(share)).astype(np.float32)
