"""Bones and soft tissue of a person, each a solid between two points of the film."""

from __future__ import annotations

import numpy as np

from .people import Person
from .solids import POSITION, Floats, Solid, blend, profile, rounding


def _bone(
    name: str,
    start: tuple[float, float],
    end: tuple[float, float],
    person: Person,
    *,
    frontal: Floats,
    palmar: Floats,
    dorsal: Floats,
    share: float,
    wall: Floats,
    spongy: Floats,
    ends: tuple[float, float] = (0.06, 0.08),
    bow: float = 0.0,
    hollow: float = 0.0,
    notch: float = 0.0,
) -> Solid:
    round_off = rounding(*ends)
    left, right = blend(frontal, palmar, share) * round_off, blend(frontal, dorsal, share) * round_off
    depth = blend((palmar + dorsal) * np.float32(0.5), frontal, share) * rounding(ends[0] * 0.8, ends[1], 2.0)
    return Solid(
        name, start, end, left, right, depth, wall * np.float32(person.cortex), spongy,
        bow=bow * share, hollow=hollow * (1 - 0.5 * share), notch=notch * (1 - share), density=person.density,
    )  # fmt: skip


def phalanx(
    name: str,
    start: tuple[float, float],
    end: tuple[float, float],
    width: float,
    person: Person,
    share: float,
) -> Solid:
    """Proximal or middle phalanx: flared base, waist, two condyles at the head; `width` of the base in mm."""
    w = np.float32(width / 2)
    frontal = (
        profile((0, 0.96), (0.07, 1.0), (0.3, 0.72), (0.6, 0.61), (0.82, 0.72), (0.94, 0.8), (1, 0.78)) * w
    )
    dorsal = profile((0, 0.7), (0.08, 0.72), (0.4, 0.56), (0.75, 0.46), (0.92, 0.5), (1, 0.4)) * w
    palmar = (
        profile((0, 0.78), (0.07, 0.82), (0.3, 0.5), (0.55, 0.42), (0.8, 0.52), (0.92, 0.72), (1, 0.6)) * w
    )
    wall = profile(
        (0, 0.35), (0.12, 0.5), (0.35, 1.3), (0.55, 1.75), (0.72, 1.3), (0.88, 0.5), (1, 0.4)
    ) * np.float32(width / 14)
    spongy = profile((0, 0.36), (0.2, 0.26), (0.45, 0.1), (0.65, 0.1), (0.85, 0.26), (1, 0.36))
    return _bone(
        name, start, end, person, frontal=frontal, palmar=palmar, dorsal=dorsal, share=share,
        wall=wall, spongy=spongy, ends=(0.06, 0.13 + 0.06 * share), bow=0.06 * width, hollow=0.11 * width,
        notch=0.1 * width,
    )  # fmt: skip


def tip(
    name: str,
    start: tuple[float, float],
    end: tuple[float, float],
    width: float,
    person: Person,
    share: float,
) -> Solid:
    """Distal phalanx: flared base, narrow waist, a tuft with a ragged edge."""
    w = np.float32(width / 2)
    rng = np.random.default_rng(person.seed)
    ragged = np.convolve(rng.normal(0, 1, len(POSITION)), np.hanning(25) / 6, mode="same").astype(np.float32)
    ragged *= np.clip((POSITION - 0.72) / 0.1, 0, 1) * np.float32(0.035 * width)
    frontal = (
        profile((0, 0.96), (0.1, 1.0), (0.32, 0.56), (0.6, 0.4), (0.72, 0.46), (0.86, 0.66), (1, 0.6)) * w
    )
    dorsal = profile((0, 0.66), (0.12, 0.6), (0.5, 0.3), (0.85, 0.26), (1, 0.2)) * w
    palmar = profile((0, 0.66), (0.12, 0.62), (0.45, 0.3), (0.85, 0.36), (1, 0.24)) * w
    wall = profile((0, 0.3), (0.15, 0.45), (0.5, 1.0), (0.75, 0.6), (1, 0.3)) * np.float32(width / 12)
    spongy = profile((0, 0.36), (0.3, 0.26), (0.6, 0.2), (0.85, 0.34), (1, 0.34))
    return _bone(
        name, start, end, person, frontal=frontal + ragged, palmar=palmar, dorsal=dorsal, share=share,
        wall=wall, spongy=spongy, ends=(0.07, 0.17), hollow=0.05 * width,
    )  # fmt: skip


def metacarpal(
    name: str,
    start: tuple[float, float],
    end: tuple[float, float],
    width: float,
    person: Person,
    share: float,
) -> Solid:
    """Metacarpal: squarish base, slender shaft, round head."""
    w = np.float32(width / 2)
    frontal = (
        profile((0, 0.95), (0.08, 1.0), (0.3, 0.6), (0.55, 0.55), (0.8, 0.78), (0.92, 0.98), (1, 0.9)) * w
    )
    dorsal = profile((0, 0.9), (0.1, 0.85), (0.5, 0.6), (0.85, 0.7), (1, 0.6)) * w
    palmar = profile((0, 0.9), (0.1, 0.8), (0.5, 0.5), (0.8, 0.75), (0.92, 1.05), (1, 0.9)) * w
    wall = profile((0, 0.4), (0.15, 0.7), (0.45, 2.1), (0.6, 2.1), (0.82, 0.7), (1, 0.4)) * np.float32(
        width / 16
    )
    spongy = profile((0, 0.34), (0.2, 0.26), (0.5, 0.08), (0.8, 0.24), (1, 0.34))
    return _bone(
        name, start, end, person, frontal=frontal, palmar=palmar, dorsal=dorsal, share=share,
        wall=wall, spongy=spongy, ends=(0.04, 0.11), bow=0.12 * width, hollow=0.05 * width,
    )  # fmt: skip


def long_bone(
    name: str,
    start: tuple[float, float],
    end: tuple[float, float],
    widths: tuple[float, float, float],
    person: Person,
    *,
    wall: float = 3.5,
    ends: tuple[float, float] = (0.04, 0.04),
    bow: float = 0.0,
    flare: tuple[float, float] = (0.16, 0.16),
    notch: float = 0.0,
    depth: float = 0.85,
) -> Solid:
    """Long bone with widths (mm) at its start, shaft and end."""
    a, m, b = (x / 2 for x in widths)
    half = profile(
        (0, a * 0.97),
        (flare[0] * 0.35, a),
        (flare[0] * 1.6, m * 1.05),
        (0.5, m),
        (1 - flare[1] * 1.6, m * 1.05),
        (1 - flare[1] * 0.35, b),
        (1, b * 0.97),
    )
    cortex = profile(
        (0, 0.6),
        (flare[0], 0.9),
        (min(0.45, flare[0] * 2.2), wall),
        (max(0.55, 1 - flare[1] * 2.2), wall),
        (1 - flare[1], 0.9),
        (1, 0.6),
    )
    spongy = profile((0, 0.26), (flare[0], 0.22), (0.4, 0.06), (0.6, 0.06), (1 - flare[1], 0.22), (1, 0.26))
    half = half * rounding(*ends)
    return Solid(
        name, start, end, half, half, half * np.float32(depth),
        np.minimum(cortex * np.float32(person.cortex), m * 0.7), spongy,
        bow=bow, notch=notch, density=person.density,
    )  # fmt: skip


def pebble(
    name: str,
    centre: tuple[float, float],
    length: float,
    width: float,
    turn: float,
    person: Person,
    wobble: float,
) -> Solid:
    """Short bone such as a carpal: an irregular ellipsoid with a thin shell."""
    a = np.deg2rad(turn)
    dx, dy = np.sin(a) * length / 2, -np.cos(a) * length / 2
    w = width / 2
    left = profile((0, w * (0.85 + wobble)), (0.35, w * (1 - wobble)), (0.7, w), (1, w * 0.8)) * rounding(
        0.34, 0.34, 2.3
    )
    right = profile((0, w * 0.8), (0.4, w), (0.7, w * (1 - wobble)), (1, w * (0.85 + wobble))) * rounding(
        0.34, 0.34, 2.3
    )
    shell = np.full_like(left, 0.8 * person.cortex)
    return Solid(
        name, (centre[0] - dx, centre[1] - dy), (centre[0] + dx, centre[1] + dy), left, right,
        ((left + right) / 2 * np.float32(0.8)).astype(np.float32), shell, np.full_like(left, 0.3),
        density=person.density,
    )  # fmt: skip


def flesh(
    start: tuple[float, float],
    end: tuple[float, float],
    widths: tuple[float, ...],
    depth: float,
    ends: tuple[float, float],
) -> Solid:
    """Soft tissue: half widths (mm) evenly spaced along the axis, half depth as a share of them."""
    at = np.linspace(0, 1, len(widths))
    half = profile(*zip(at.tolist(), widths, strict=True)) * rounding(*ends, 2.0)
    return Solid("soft tissue", start, end, half, half, half * np.float32(depth))
