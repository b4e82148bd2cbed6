"""Local abnormalities of one bone: broken, chipped, eaten away, or held by metal."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .solids import Floats, Solid

KINDS = ("fracture", "fragment", "lytic", "hardware")
SHARES = (0.3, 0.14, 0.3, 0.26)
METAL = 0.75
"""Attenuation of steel per mm at these energies; the detector saturates long before."""


@dataclass(frozen=True)
class Lesion:
    """An abnormality: its kind, the place along the bone (0..1), and the numbers that shape it (0..1)."""

    kind: str
    place: float
    scale: float
    traits: tuple[float, ...]

    @classmethod
    def draw(cls, seed: np.random.SeedSequence, scale: float) -> Lesion:
        """Draw a lesion for one study."""
        rng = np.random.default_rng(seed)
        kind = str(rng.choice(KINDS, p=SHARES))
        return cls(kind, float(rng.random()), scale, tuple(rng.uniform(0, 1, 10).tolist()))

    def within(self, low: float, high: float) -> Lesion:
        """Put the lesion between `low` and `high` along its bone, a fragment at the end that is nearer."""
        q = list(self.traits)
        if self.kind == "fragment" and (low > 0.4 or high < 0.6):
            q[1] = 1.0 if low > 0.4 else 0.0
        return replace(self, place=low + (high - low) * self.place, traits=tuple(q))


def _attenuation(bone: Solid, along: Floats, across: Floats, texture: Floats) -> Floats:
    wall, inside = bone.chords(along, across)
    index = np.clip(along * np.float32(512 / bone.length), 0, 512).astype(np.int32)
    return np.asarray((wall + inside * bone.spongy[index] * texture) * np.float32(bone.density), np.float32)


def healthy(bone: Solid, along: Floats, across: Floats, texture: Floats) -> Floats:
    """Bone in the ray, in mm of compact bone.

    Parameters
    ----------
    bone
        The bone.
    along, across : float32 (H, W)
        Local coordinates in mm.
    texture : float32 (H, W)
        Factor on the spongy inside, about 1.
    """
    return _attenuation(bone, along, across, texture)


def _smooth(x: Floats) -> Floats:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x), np.float32)


def _broken(
    bone: Solid,
    along: Floats,
    across: Floats,
    texture: Floats,
    *,
    at: tuple[float, float],
    slope: float,
    gap: float,
    shift: tuple[float, float],
    turn: float,
    jag: tuple[float, float, float],
) -> Floats:
    """Bone cut by a jagged line through `at`; the far side is shifted (mm) and turned (radians)."""

    def beyond(t: Floats, u: Floats) -> Floats:
        c, s = np.float32(np.cos(slope)), np.float32(np.sin(slope))
        line = (t - np.float32(at[0])) * c + (u - np.float32(at[1])) * s
        coarse = np.float32(0.6 * jag[0]) * np.sin(u * np.float32(jag[1]) + np.float32(jag[2]))
        fine = np.float32(0.4 * jag[0]) * np.sin(u * np.float32(2.7 * jag[1]))
        return np.asarray(line + coarse + fine, np.float32)

    half, soft = np.float32(gap / 2), np.float32(1 / 0.35)
    near = _attenuation(bone, along, across, texture) * np.clip(
        (-beyond(along, across) - half) * soft + 0.5, 0, 1
    )
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    t0, u0 = along - np.float32(at[0] + shift[0]), across - np.float32(at[1] + shift[1])
    t, u = c * t0 + s * u0 + np.float32(at[0]), c * u0 - s * t0 + np.float32(at[1])
    far = _attenuation(bone, t, u, texture) * np.clip((beyond(t, u) - half) * soft + 0.5, 0, 1)
    return np.asarray(near + far, np.float32)


def apply(
    lesion: Lesion, bone: Solid, along: Floats, across: Floats, texture: Floats, angle: float
) -> tuple[Floats, Floats]:
    """Bone (mm of compact bone) and metal (mm) in the ray, with the lesion in it.

    Parameters
    ----------
    lesion
        What to draw.
    bone
        The bone that has it.
    along, across, texture : float32 (H, W)
        As for `healthy`.
    angle
        Projection angle in degrees: displacement across the bone shortens with it.
    """
    q, k = lesion.traits, lesion.scale
    t0 = lesion.place * bone.length
    width = bone.half_width(lesion.place)
    sign = 1.0 if q[0] > 0.5 else -1.0
    seen = float(np.cos(np.deg2rad(angle) - 2 * np.pi * q[9]))
    none = np.zeros_like(along)
    if lesion.kind == "fracture":
        steep = sign * (0.25 + 0.75 * q[1])
        return _broken(
            bone, along, across, texture, at=(t0, 0.0), slope=steep, gap=(1.0 + 1.0 * q[2]) * k,
            shift=((0.2 + 0.6 * q[3]) * k, sign * (1.4 + 2.2 * q[4]) * k * (0.55 + 0.45 * abs(seen))),
            turn=sign * (0.1 + 0.25 * q[5]) * (0.5 + 0.5 * abs(seen)), jag=(0.3 * k, 1.6 / k, 6.28 * q[6]),
        ), none  # fmt: skip
    if lesion.kind == "fragment":
        # a corner of the base or of the head breaks off and moves outwards
        head = q[1] > 0.5
        reach = min((0.28 + 0.12 * q[2]) * bone.length, 16 * k)
        edge = sign * bone.half_width(0.93 if head else 0.07)
        corner = (bone.length - reach * 0.8 if head else reach * 0.8, edge * 0.75)
        slope = (1.0 if head else np.pi - 1.0) * sign
        return _broken(
            bone, along, across, texture, at=corner, slope=slope, gap=1.0 * k,
            shift=((0.5 + 0.8 * q[4]) * k * (1 if head else -1), sign * (1.6 + 1.6 * q[3]) * k),
            turn=sign * (0.1 + 0.4 * q[5]), jag=(0.25 * k, 1.8 / k, 6.28 * q[6]),
        ), none  # fmt: skip
    if lesion.kind == "lytic":
        long, short = (4.0 + 3.0 * q[1]) * k, width * (0.85 + 0.2 * q[2])
        long = min(long, 0.32 * bone.length)
        u0 = sign * width * 0.25 * q[3]
        bulge = 1 + (0.15 + 0.25 * q[4]) * np.exp(-(((along - t0) / long) ** 2))
        dt, du = (along - np.float32(t0)) / np.float32(long), (across - np.float32(u0)) / np.float32(short)
        bearing = np.arctan2(du, dt)
        r = np.sqrt(dt * dt + du * du) * (
            1 + 0.12 * np.sin(3 * bearing + 6 * q[5]) + 0.08 * np.sin(5 * bearing + 6 * q[6])
        )
        hole = _smooth((1.12 - r) / np.float32(0.3))
        rim = np.exp(-(((r - 1.08) / 0.12) ** 2)) * np.float32(0.35 * q[7])
        body = _attenuation(bone, along, (across / bulge).astype(np.float32), texture)
        return (body * (1 - np.float32(0.7 + 0.2 * q[8]) * hole) * (1 + rim)).astype(np.float32), none
    return healthy(bone, along, across, texture), _metal(lesion, bone, along, across, angle)


def _rod(
    along: Floats, across: Floats, a: tuple[float, float], b: tuple[float, float], radius: float
) -> tuple[Floats, Floats]:
    """Thickness of a round rod from `a` to `b` (mm), and the share 0..1 along it."""
    dt, du = b[0] - a[0], b[1] - a[1]
    length = max(float(np.hypot(dt, du)), 1e-3)
    s = (
        (along - np.float32(a[0])) * np.float32(dt) + (across - np.float32(a[1])) * np.float32(du)
    ) / np.float32(length)
    d = (
        (across - np.float32(a[1])) * np.float32(dt) - (along - np.float32(a[0])) * np.float32(du)
    ) / np.float32(length)
    over = np.maximum(np.maximum(-s, s - np.float32(length)), 0)
    inside = np.maximum(np.float32(radius**2) - d * d - over * over, 0)
    return np.asarray(2 * np.sqrt(inside), np.float32), np.asarray(s / np.float32(length), np.float32)


def _metal(lesion: Lesion, bone: Solid, along: Floats, across: Floats, angle: float) -> Floats:
    """Millimetres of steel in the ray: wires, a plate with screws, or a single screw."""
    q, k = lesion.traits, float(np.sqrt(lesion.scale))
    length, width = bone.length, bone.half_width(lesion.place)
    sign = 1.0 if q[0] > 0.5 else -1.0
    small = bone.length < 20
    if q[1] < 0.4 or small:  # one or two wires
        lean = (q[2] - 0.5) * 0.5 * width
        start, stop = (-0.1 - 0.15 * q[3]) * length, (0.72 + 0.3 * q[4]) * length
        metal, _ = _rod(along, across, (start, -lean), (stop, lean), (0.85 + 0.35 * q[5]) * k)
        if q[6] > 0.4:
            other, _ = _rod(
                along,
                across,
                (0.02 * length, sign * width * 1.5),
                (0.9 * length, -sign * width * 0.8),
                0.55 * k,
            )
            metal = np.maximum(metal, other)
        return metal
    if q[1] < 0.8:  # plate and screws
        share = float(np.sin(np.deg2rad(angle)) ** 2)
        half, mid = (0.28 + 0.12 * q[2]) * length, 0.52 * length
        lift = sign * (width * 1.02) * share
        flat = (2.5 * (1 - share) + 0.9 * share) * k
        box = np.maximum(np.abs(along - np.float32(mid)) - np.float32(half - flat), 0)
        away = np.sqrt(box**2 + (across - np.float32(lift)) ** 2)
        metal = np.where(away < flat, np.float32((0.9 + 1.5 * share) * k), np.float32(0)).astype(np.float32)
        for i in range(4 + int(q[3] > 0.5)):
            t = mid + half * (-0.85 + 1.7 * i / (3 + int(q[3] > 0.5)))
            tall = sign * width * 2.0 * share + 0.2
            screw, _ = _rod(along, across, (t, lift), (t, lift - tall), 0.85 * k)
            metal = np.maximum(metal, screw * np.float32(1.3))
        return metal
    a = (lesion.place * length - 0.12 * length, -sign * width * 1.15)
    b = (lesion.place * length + 0.22 * length, sign * width * 0.95)
    metal, s = _rod(along, across, a, b, 1.5 * k)
    core, _ = _rod(along, across, a, b, 0.95 * k)
    thread = 0.5 + 0.5 * np.sin(s * np.float32(70))
    return np.asarray(core + (metal - core) * thread, np.float32)
