"""Hands, fingers, arms and shoulders as solids, projected at an angle (0: frontal, 90 degrees: lateral)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .solids import POSITION, Floats, Solid, blend, profile, rounding

Point3 = tuple[float, float, float]


@dataclass(frozen=True)
class Person:
    """What stays the same in all views of one patient."""

    size: float
    cortex: float
    density: float
    flesh: float
    gap: float
    spread: float
    seed: int

    @classmethod
    def draw(cls, seed: np.random.SeedSequence) -> Person:
        """Draw a person."""
        rng = np.random.default_rng(seed)
        return cls(
            size=float(np.clip(rng.normal(1.0, 0.07), 0.82, 1.18)),
            cortex=float(rng.uniform(0.75, 1.2)),
            density=float(rng.uniform(0.85, 1.15)),
            flesh=float(rng.uniform(0.88, 1.25)),
            gap=float(rng.uniform(0.9, 1.7)),
            spread=float(rng.uniform(0.4, 1.5)),
            seed=int(rng.integers(2**31)),
        )


@dataclass
class Scene:
    """Bones and soft tissue of one view, in millimetres on the film."""

    bones: list[Solid] = field(default_factory=list)
    flesh: list[list[Solid]] = field(default_factory=list)
    """Groups: within one the thickest solid counts, groups are melted together."""
    core: list[str] = field(default_factory=list)
    """Names of the bones the view is made for: lesions sit in one of them."""
    centre: tuple[float, float] = (0.0, 0.0)
    upright: float = 0.0
    """Rotation in degrees that turns the part of interest upright."""
    extent: tuple[float, float] = (80.0, 110.0)
    """Range of the long side of the field in mm."""
    lesion_scale: float = 1.0


@dataclass(frozen=True)
class Pose:
    """How the part lies under the tube."""

    angle: float
    """Rotation about the long axis in degrees."""
    bend: float
    digit: int
    rng_seed: int

    def rng(self) -> np.random.Generator:
        """Return a generator for the small variations of the pose."""
        return np.random.default_rng(self.rng_seed)


def project(point: Point3, angle: float) -> tuple[float, float]:
    """Parallel projection after a rotation of `angle` degrees about the y axis."""
    a = np.deg2rad(angle)
    return float(point[0] * np.cos(a) + point[2] * np.sin(a)), float(point[1])


def side(angle: float) -> float:
    """Share of the lateral shape at an angle: 0 frontal, 1 lateral."""
    return float(np.sin(np.deg2rad(angle)) ** 2)


# Bones ------------------------------------------------------------------------------------------------


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
    depth = blend((palmar + dorsal) / 2, frontal, share) * rounding(ends[0] * 0.8, ends[1], 2.0)
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
    w = width / 2
    frontal = profile(
        (0, w * 0.96),
        (0.07, w),
        (0.3, w * 0.72),
        (0.6, w * 0.61),
        (0.82, w * 0.72),
        (0.94, w * 0.8),
        (1, w * 0.78),
    )
    dorsal = profile(
        (0, w * 0.7), (0.08, w * 0.72), (0.4, w * 0.56), (0.75, w * 0.46), (0.92, w * 0.5), (1, w * 0.4)
    )
    palmar = profile(
        (0, w * 0.78),
        (0.07, w * 0.82),
        (0.3, w * 0.5),
        (0.55, w * 0.42),
        (0.8, w * 0.52),
        (0.92, w * 0.72),
        (1, w * 0.6),
    )
    wall = profile(
        (0, 0.35), (0.12, 0.5), (0.35, 1.3), (0.55, 1.75), (0.72, 1.3), (0.88, 0.5), (1, 0.4)
    ) * np.float32(width / 14)
    spongy = profile((0, 0.36), (0.2, 0.26), (0.45, 0.1), (0.65, 0.1), (0.85, 0.26), (1, 0.36))
    return _bone(
        name, start, end, person, frontal=frontal, palmar=palmar, dorsal=dorsal, share=share, wall=wall, spongy=spongy,
        ends=(0.05, 0.09 + 0.08 * share), bow=0.06 * width, hollow=0.075 * width, notch=0.09 * width,
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
    w = width / 2
    rng = np.random.default_rng(person.seed)
    ragged = np.convolve(rng.normal(0, 1, len(POSITION)), np.hanning(25) / 6, mode="same").astype(np.float32)
    ragged *= np.clip((POSITION - 0.72) / 0.1, 0, 1) * np.float32(0.035 * width)
    frontal = profile(
        (0, w * 0.96),
        (0.1, w),
        (0.32, w * 0.56),
        (0.6, w * 0.4),
        (0.72, w * 0.46),
        (0.86, w * 0.66),
        (1, w * 0.6),
    )
    dorsal = profile((0, w * 0.66), (0.12, w * 0.6), (0.5, w * 0.3), (0.85, w * 0.26), (1, w * 0.2))
    palmar = profile((0, w * 0.66), (0.12, w * 0.62), (0.45, w * 0.3), (0.85, w * 0.36), (1, w * 0.24))
    wall = profile((0, 0.3), (0.15, 0.45), (0.5, 1.0), (0.75, 0.6), (1, 0.3)) * np.float32(width / 12)
    spongy = profile((0, 0.36), (0.3, 0.26), (0.6, 0.2), (0.85, 0.34), (1, 0.34))
    return _bone(
        name, start, end, person, frontal=frontal + ragged, palmar=palmar, dorsal=dorsal, share=share, wall=wall,
        spongy=spongy, ends=(0.07, 0.17), hollow=0.05 * width, notch=0.0,
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
    w = width / 2
    frontal = profile(
        (0, w * 0.95),
        (0.08, w),
        (0.3, w * 0.6),
        (0.55, w * 0.55),
        (0.8, w * 0.78),
        (0.92, w * 0.98),
        (1, w * 0.9),
    )
    dorsal = profile((0, w * 0.9), (0.1, w * 0.85), (0.5, w * 0.6), (0.85, w * 0.7), (1, w * 0.6))
    palmar = profile(
        (0, w * 0.9), (0.1, w * 0.8), (0.5, w * 0.5), (0.8, w * 0.75), (0.92, w * 1.05), (1, w * 0.9)
    )
    wall = profile((0, 0.4), (0.15, 0.7), (0.45, 2.1), (0.6, 2.1), (0.82, 0.7), (1, 0.4)) * np.float32(
        width / 16
    )
    spongy = profile((0, 0.34), (0.2, 0.26), (0.5, 0.08), (0.8, 0.24), (1, 0.34))
    return _bone(
        name, start, end, person, frontal=frontal, palmar=palmar, dorsal=dorsal, share=share, wall=wall, spongy=spongy,
        ends=(0.04, 0.11), bow=0.12 * width, hollow=0.05 * width,
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
        name, start, end, half, half, half * np.float32(depth), np.minimum(cortex * np.float32(person.cortex), m * 0.7),
        spongy, bow=bow, notch=notch, density=person.density,
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
        ((left + right) / 2 * np.float32(0.8)).astype(np.float32), shell, np.full_like(left, 0.3), density=person.density,
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


# Hand -------------------------------------------------------------------------------------------------

FINGERS = ("thumb", "index", "middle", "ring", "little")
# lengths of metacarpal and phalanges, widths of their bases, MCP joint (x, y), heading in degrees, base (x, y)
_DIGITS: dict[
    str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, float], float, tuple[float, float]]
] = {
    "thumb": ((44, 31, 22), (16, 15, 13.5), (-50, 30), -38, (-24, 64)),
    "index": ((66, 40, 23.5, 17), (16.5, 15, 13, 11), (-25, 2), -7, (-13, 66)),
    "middle": ((63, 44, 27.5, 18), (16.5, 15.5, 13.5, 11.5), (-4, -2), -1, (-3, 63)),
    "ring": ((56, 41, 26.5, 18), (15, 14.5, 12.5, 11.5), (16, 3), 5, (7, 60)),
    "little": ((51, 32.5, 18.5, 16), (14.5, 13, 11, 10), (33, 13), 13, (16, 60)),
}
_PHALANGES = ("proximal", "middle", "distal")


def _chain(
    digit: str, person: Person, angle: float, heading: float, flexion: list[float]
) -> tuple[list[Solid], list[Solid], list[tuple[float, float]]]:
    """Bones, flesh and joints (film, mm) of one digit."""
    lengths, widths, joint, _, base = _DIGITS[digit]
    k, share = person.size, side(angle)
    at: Point3 = (joint[0] * k, joint[1] * k, 0.0)
    carpal: Point3 = (base[0] * k, base[1] * k, 0.0)
    bones = [
        metacarpal(
            f"{digit} metacarpal", project(carpal, angle), project(at, angle), widths[0] * k, person, share
        )
    ]
    soft, joints = [], [project(at, angle)]
    h, f = np.deg2rad(heading), 0.0
    phalanges = ("proximal", "distal") if digit == "thumb" else _PHALANGES
    for i, (label, length, width) in enumerate(zip(phalanges, lengths[1:], widths[1:], strict=True)):
        f += np.deg2rad(flexion[i])
        way = (float(np.sin(h) * np.cos(f)), float(-np.cos(h) * np.cos(f)), float(np.sin(f)))
        gap = person.gap * (1.25 if i == 0 else 1.0)

        def on(distance: float, at: Point3 = at, way: Point3 = way) -> Point3:
            return (at[0] + distance * way[0], at[1] + distance * way[1], at[2] + distance * way[2])

        first, last = on(gap), on(gap + length * k)
        a, b = project(first, angle), project(last, angle)
        make = tip if label == "distal" else phalanx
        bones.append(make(f"{digit} {label} phalanx", a, b, width * k, person, share))
        r = width * k * 0.66 * person.flesh
        distal = label == "distal"
        over = project(on(gap + length * k + (3.6 * k if distal else 4.0)), angle)
        under = project(on(-5.0 if i else -9.0), angle)
        shape = (
            (r * 0.98, r * 0.97, r * 0.93, r * 0.8)
            if distal
            else (r * 1.05, r * 1.0, r * 0.96, r * 1.0, r * 0.98)
        )
        soft.append(flesh(under, over, shape, 0.88, (0.16, 0.42) if distal else (0.16, 0.14)))
        at = on(gap + length * k)
        joints.append(b)
    return bones, soft, joints


def hand(person: Person, pose: Pose) -> tuple[Scene, dict[str, list[tuple[float, float]]]]:
    """Whole hand with wrist, and the joints of each digit."""
    rng, scene, joints = pose.rng(), Scene(), {}
    k, angle = person.size, pose.angle
    lateral = side(angle)
    for number, digit in enumerate(FINGERS):
        heading = _DIGITS[digit][3] * person.spread + float(rng.normal(0, 1.2))
        chosen = number == pose.digit
        curl = pose.bend * (0.25 if chosen else 0.3 + 0.7 * lateral)
        if lateral > 0.6 and not chosen and digit != "thumb":
            curl += float(rng.uniform(30, 60)) * (1.0 if pose.digit >= 0 else 0.25)
        flexion = [
            curl * float(rng.uniform(0.6, 1.2)),
            curl * float(rng.uniform(0.7, 1.4)),
            curl * float(rng.uniform(0.3, 0.8)),
        ]
        if digit == "thumb":
            flexion = [float(rng.uniform(0, 10)), float(rng.uniform(0, 12)), 0.0]
            heading -= 12 * lateral
        bones, soft, at = _chain(digit, person, angle, heading, flexion)
        scene.bones += bones
        scene.flesh.append(soft)
        joints[digit] = at
    turn = np.cos(np.deg2rad(angle))
    carpals = (
        ("scaphoid", -13, 81, 22, 12, 35), ("lunate", -1, 83, 15, 14, 0), ("triquetrum", 10, 80, 14, 12, -25),
        ("pisiform", 14, 77, 8, 8, 0), ("trapezium", -20, 71, 14, 14, 20), ("trapezoid", -11, 70, 12, 12, 0),
        ("capitate", -1, 70, 20, 13, 0), ("hamate", 10, 69, 17, 14, -10),
    )  # fmt: skip
    for name, x, y, length, width, tilt in carpals:
        z = float(np.random.default_rng(person.seed + len(name)).normal(0, 3))
        centre = project((x * k, y * k, z), angle)
        wobble = float(np.random.default_rng(person.seed + x + 50).uniform(-0.12, 0.12))
        scene.bones.append(pebble(name, centre, length * k, width * k, tilt * turn, person, wobble))
    down = 150 * k
    radius_end, ulna_end = project((-7 * k, 91 * k, 0), angle), project((16 * k, 93 * k, -3), angle)
    scene.bones.append(
        long_bone(
            "radius",
            project((-9 * k, 91 * k + down, 0), angle),
            radius_end,
            (14, 13 * k, (31 - 10 * lateral) * k),
            person,
            wall=2.6,
            flare=(0.1, 0.16),
            ends=(0.02, 0.03),
        )
    )
    scene.bones.append(
        long_bone(
            "ulna",
            project((14 * k, 91 * k + down, -3), angle),
            ulna_end,
            (12, 11 * k, 16 * k),
            person,
            wall=2.4,
            flare=(0.1, 0.09),
            ends=(0.02, 0.03),
        )
    )
    wide, thin = 41 * k, 15 * k * person.flesh
    palm = (wide * (1 - lateral) + thin * 1.2 * lateral) * 1.04
    top, bottom = project((3 * k, -14 * k, 0), angle), project((-2 * k, 84 * k, 0), angle)
    thick = thin / palm * (1 - lateral) + wide * 0.55 / palm * lateral
    scene.flesh.append([
        flesh(bottom, top, (palm * 0.78, palm * 0.9, palm, palm * 1.02, palm * 0.97), thick, (0.1, 0.16)),
        flesh(project((2 * k, 250 * k, 0), angle), project((2 * k, 70 * k, 0), angle), (34 * k, 30 * k, 27 * k, 28 * k, 31 * k), 0.62, (0.02, 0.14)),
        flesh(project((-10 * k, 72 * k, 4), angle), project((-44 * k, 24 * k, 6), angle), (17 * k, 19 * k, 17 * k, 13 * k), 0.8, (0.2, 0.2)),
    ])  # fmt: skip
    return scene, joints


def finger_scene(person: Person, pose: Pose) -> Scene:
    """Finger film: one digit fills it, its neighbours lie beside."""
    scene, joints = hand(person, pose)
    digit = FINGERS[pose.digit]
    at = joints[digit]
    base, end = at[0], at[-1]
    rng = pose.rng()
    centre = float(rng.uniform(0.5, 0.62))
    scene.centre = (base[0] + (end[0] - base[0]) * centre, base[1] + (end[1] - base[1]) * centre)
    scene.upright = float(np.rad2deg(np.arctan2(end[0] - base[0], -(end[1] - base[1]))))
    length = float(np.hypot(end[0] - base[0], end[1] - base[1]))
    scene.extent = (max(1.0 * length, 50), max(1.3 * length, 60))
    scene.core = [
        bone.name for bone in scene.bones if bone.name.startswith(digit) and "metacarpal" not in bone.name
    ]
    return scene


def hand_scene(person: Person, pose: Pose) -> Scene:
    """Hand film."""
    scene, _ = hand(person, pose)
    k = person.size
    scene.centre = project((-4 * k, 2 * k, 0), pose.angle)
    scene.extent = (190 * k, 225 * k)
    scene.core = [bone.name for bone in scene.bones if "metacarpal" in bone.name or "proximal" in bone.name]
    scene.lesion_scale = 1.7
    return scene


def wrist_scene(person: Person, pose: Pose) -> Scene:
    """Wrist film: carpus, both forearm ends, metacarpal bases."""
    scene, _ = hand(person, pose)
    k = person.size
    scene.centre = project((0, 88 * k, 0), pose.angle)
    scene.extent = (110 * k, 150 * k)
    scene.core = ["radius", "ulna"]
    scene.lesion_scale = 1.5
    return scene


# Arm --------------------------------------------------------------------------------------------------


def forearm_scene(person: Person, pose: Pose) -> Scene:
    """Forearm film: radius and ulna between wrist and elbow."""
    k, lateral = person.size, side(pose.angle)
    apart = 15 * k * (1 - 0.75 * lateral)
    rng = pose.rng()
    bones = [
        long_bone(
            "radius",
            (-apart * 0.6, 118 * k),
            (-apart, -118 * k),
            (20 * k, 14 * k, 31 * k),
            person,
            wall=3.0,
            bow=-5 * k,
            flare=(0.06, 0.12),
        ),
        long_bone(
            "ulna",
            (apart * 0.6, 128 * k),
            (apart, -112 * k),
            (27 * k, 13.5 * k, 16 * k),
            person,
            wall=3.0,
            bow=3 * k,
            flare=(0.14, 0.06),
        ),
        long_bone(
            "humerus",
            (2, 240 * k),
            (2, 124 * k),
            (24 * k, 24 * k, 60 * k - 30 * lateral * k),
            person,
            wall=4,
            flare=(0.1, 0.3),
        ),
        pebble("scaphoid", (-10 * k, -128 * k), 20 * k, 14 * k, 30, person, 0.05),
        pebble("lunate", (1 * k, -127 * k), 15 * k, 15 * k, 0, person, 0.05),
        pebble("triquetrum", (12 * k, -127 * k), 14 * k, 13 * k, 0, person, -0.05),
        pebble("capitate", (0, -142 * k), 22 * k, 14 * k, 0, person, 0.05),
    ]
    r = 40 * k * person.flesh
    soft = [
        [flesh((0, 200 * k), (0, -170 * k), (r * 1.15, r * 1.1, r, r * 0.8, r * 0.68), 0.85, (0.05, 0.05))]
    ]
    return Scene(
        bones, soft, ["radius", "ulna"], (float(rng.normal(0, 3)), 0.0), 0.0, (265 * k, 310 * k), 2.3
    )


def elbow_scene(person: Person, pose: Pose) -> Scene:
    """Elbow film: straight from the front, bent at a right angle from the side."""
    k, lateral = person.size, side(pose.angle)
    bend = np.deg2rad((80 + pose.bend) * lateral)
    way = (float(np.sin(bend)), float(-np.cos(bend)))

    def on(distance: float, across: float) -> tuple[float, float]:
        return (distance * way[0] - across * way[1], distance * way[1] + across * way[0])

    apart = 10 * k * (1 - 0.7 * lateral)
    bones = [
        long_bone("humerus", (0, 170 * k), (0, 2 * k), (25 * k, 23 * k, (62 - 32 * lateral) * k), person, wall=4.2, flare=(0.1, 0.28), notch=4 * k * (1 - lateral), ends=(0.02, 0.05)),
        long_bone("radius", on(3 * k, -apart - 5 * k), on(150 * k, -apart), (22 * k, 14 * k, 16 * k), person, wall=3, flare=(0.09, 0.1)),
        long_bone("ulna", on(-10 * k - 6 * lateral * k, apart - 2 * k), on(150 * k, apart), (26 * k, 15 * k, 15 * k), person, wall=3, flare=(0.18, 0.1), ends=(0.06, 0.02)),
    ]  # fmt: skip
    r = 44 * k * person.flesh
    soft = [
        [
            flesh(
                (0, 200 * k),
                (way[0] * 12 * k, way[1] * 12 * k),
                (r * 1.05, r, r * 0.95, r * 0.95),
                0.85,
                (0.03, 0.25),
            ),
            flesh(on(-22 * k, 0), on(190 * k, 0), (r * 0.95, r, r * 0.92, r * 0.8), 0.85, (0.25, 0.03)),
        ]
    ]
    return Scene(
        bones, soft, ["humerus", "radius", "ulna"], on(8 * k * lateral, 0), 0.0, (150 * k, 200 * k), 1.9
    )


def humerus_scene(person: Person, pose: Pose) -> Scene:
    """Humerus film: the whole bone, shoulder at the top."""
    k, lateral = person.size, side(pose.angle)
    bones = [
        long_bone("humerus", (0, 155 * k), (0, -150 * k), ((60 - 28 * lateral) * k, 23 * k, 47 * k), person, wall=4.6, flare=(0.13, 0.13), ends=(0.02, 0.07), bow=2 * k),
        long_bone("radius", (-10 * k, 160 * k), (-12 * k, 300 * k), (22 * k, 14 * k, 16 * k), person, wall=3, flare=(0.09, 0.1)),
        long_bone("ulna", (10 * k, 148 * k), (10 * k, 300 * k), (26 * k, 15 * k, 15 * k), person, wall=3, flare=(0.18, 0.1)),
        *_girdle(person, (30 * k, -140 * k), lateral),
    ]  # fmt: skip
    r = 50 * k * person.flesh
    soft = [
        [flesh((0, 230 * k), (0, -190 * k), (r * 0.9, r * 0.95, r, r * 1.1, r * 1.25), 0.85, (0.03, 0.12))],
        [flesh((150 * k, 20 * k), (60 * k, -180 * k), (70 * k, 85 * k, 80 * k), 0.8, (0.3, 0.2))],
    ]
    return Scene(
        bones, soft, ["humerus"], (float(pose.rng().normal(4, 4)), 0.0), 0.0, (310 * k, 370 * k), 2.7
    )


def _girdle(person: Person, socket: tuple[float, float], lateral: float) -> list[Solid]:
    """Scapula, clavicle and ribs beside a shoulder joint at `socket`."""
    k, (x, y) = person.size, socket
    thin = np.float32(0.16)
    blade = long_bone(
        "scapula",
        (x - 2 * k, y + 2 * k),
        (x + 42 * k, y + 105 * k),
        (36 * k, 62 * k, 22 * k),
        person,
        wall=1.2,
        ends=(0.1, 0.2),
    )
    blade = Solid(
        blade.name,
        blade.start,
        blade.end,
        blade.left * (0.7 - 0.4 * lateral),
        blade.right,
        blade.depth * thin,
        blade.wall * np.float32(0.5),
        blade.spongy,
        density=person.density,
    )
    bones = [
        blade,
        long_bone(
            "acromion",
            (x + 40 * k, y - 18 * k),
            (x - 16 * k, y - 30 * k),
            (14 * k, 13 * k, 20 * k),
            person,
            wall=1.4,
            ends=(0.2, 0.2),
            depth=0.6,
        ),
        long_bone(
            "clavicle",
            (x + 140 * k, y - 62 * k),
            (x + 2 * k, y - 38 * k),
            (20 * k, 12 * k, 16 * k),
            person,
            wall=2.0,
            bow=7 * k,
            ends=(0.05, 0.06),
            depth=0.8,
        ),
        pebble("coracoid", (x + 16 * k, y - 14 * k), 24 * k, 13 * k, 60, person, 0.05),
    ]
    for i in range(5):
        yy = y - 20 * k + 30 * i * k
        bones.append(
            long_bone(
                f"rib {i + 1}",
                (x + 160 * k, yy + 4 * k),
                (x + (62 - 4 * i) * k, yy + 34 * k),
                (10 * k, 9 * k, 9 * k),
                person,
                wall=1.0,
                bow=-14 * k,
                ends=(0.03, 0.06),
                depth=0.6,
            )
        )
    return bones


def shoulder_scene(person: Person, pose: Pose) -> Scene:
    """Shoulder film: humeral head, scapula, clavicle, ribs and the chest wall."""
    k, lateral = person.size, side(pose.angle)
    bones = [
        long_bone(
            "humerus",
            (-12 * k, 190 * k),
            (-4 * k, -24 * k),
            (25 * k, 25 * k, 48 * k),
            person,
            wall=4.4,
            flare=(0.1, 0.2),
            ends=(0.02, 0.12),
        ),
        *_girdle(person, (27 * k, -8 * k), lateral * 0.6),
    ]
    r = 50 * k * person.flesh
    soft = [
        [
            flesh(
                (-8 * k, 250 * k),
                (2 * k, -62 * k),
                (r * 0.9, r * 0.95, r * 1.02, r * 1.1),
                0.85,
                (0.03, 0.25),
            )
        ],
        [flesh((130 * k, 220 * k), (95 * k, -75 * k), (110 * k, 105 * k, 90 * k), 0.5, (0.1, 0.3))],
    ]
    return Scene(bones, soft, ["humerus", "clavicle"], (22 * k, 12 * k), 0.0, (170 * k, 220 * k), 1.9)


SCENES: dict[str, Callable[[Person, Pose], Scene]] = {
    "XR_ELBOW": elbow_scene,
    "XR_FINGER": finger_scene,
    "XR_FOREARM": forearm_scene,
    "XR_HAND": hand_scene,
    "XR_HUMERUS": humerus_scene,
    "XR_SHOULDER": shoulder_scene,
    "XR_WRIST": wrist_scene,
}
