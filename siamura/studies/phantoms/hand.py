"""Finger, hand and wrist films, from one model of the hand in three dimensions."""

from __future__ import annotations

import numpy as np

from .bones import flesh, long_bone, metacarpal, pebble, phalanx, tip
from .people import Person, Point3, Pose, Scene, Site, project, side
from .solids import Solid

FINGERS = ("thumb", "index", "middle", "ring", "little")
# lengths of metacarpal and phalanges, widths of their bases, joint (x, y), heading in degrees, base (x, y)
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
        r, r_next = (w * k * 0.66 * person.flesh for w in (width, widths[min(i + 2, len(widths) - 1)]))
        distal = label == "distal"
        over = project(on(gap + length * k + (3.4 * k if distal else 3.0)), angle)
        under = project(on(-3.0 if i else -16.0), angle)
        if distal:
            shape = (r * 1.02, r * 1.0, r * 0.99, r * 0.93, r * 0.8)
        else:
            shape = (r * 1.04, r * 1.0, (r + r_next) * 0.48, r_next * 1.02, r_next * 1.03)
        soft.append(flesh(under, over, shape, 0.86, (0.2 if i == 0 else 0.03, 0.46 if distal else 0.03)))
        at = on(gap + length * k)
        joints.append(b)
    return bones, soft, joints


def hand(person: Person, pose: Pose) -> tuple[Scene, dict[str, list[tuple[float, float]]]]:
    """Whole hand with wrist, and the joints of each digit."""
    rng, scene, joints = pose.rng(), Scene(), {}
    # a thumb is turned less: its side view does not need the fingers' one
    k, angle = person.size, pose.angle * (0.6 if pose.digit == 0 else 1.0)
    lateral = side(angle)
    for number, digit in enumerate(FINGERS):
        heading = _DIGITS[digit][3] * person.spread + float(rng.normal(0, 1.2))
        chosen = number == pose.digit
        curl = pose.bend * (0.25 if chosen else 0.3 + 0.7 * lateral)
        if lateral > 0.6 and pose.digit != 0 and not chosen and digit != "thumb":
            curl += float(rng.uniform(68, 90)) * (1.0 if pose.digit >= 0 else 0.2)
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
    top, bottom = project((3 * k, -14 * k, 0), angle), project((-1 * k, 112 * k, 0), angle)
    thick = thin / palm * (1 - lateral) + wide * 0.55 / palm * lateral
    scene.flesh.append(
        [
            flesh(
                bottom,
                top,
                (palm * 0.68, palm * 0.82, palm * 0.98, palm * 1.02, palm * 0.97),
                thick,
                (0.1, 0.16),
            ),
            flesh(
                project((2 * k, 250 * k, 0), angle),
                project((1 * k, 45 * k, 0), angle),
                (34 * k, 31 * k, 28 * k, 28 * k, 29 * k),
                0.62,
                (0.02, 0.14),
            ),
            flesh(
                project((-10 * k, 72 * k, 4), angle),
                project((-44 * k, 24 * k, 6), angle),
                (17 * k, 19 * k, 17 * k, 13 * k),
                0.8,
                (0.2, 0.2),
            ),
        ]
    )
    return scene, joints


def finger_scene(person: Person, pose: Pose) -> Scene:
    """Finger film: one digit fills it, its neighbours lie beside."""
    scene, joints = hand(person, pose)
    digit = FINGERS[pose.digit]
    at = joints[digit]
    base, end = at[0], at[-1]
    rng = pose.rng()
    thumb = digit == "thumb"
    centre = float(rng.uniform(0.59, 0.65)) - 0.16 * thumb
    scene.centre = (base[0] + (end[0] - base[0]) * centre, base[1] + (end[1] - base[1]) * centre)
    scene.upright = float(np.rad2deg(np.arctan2(end[0] - base[0], -(end[1] - base[1]))))
    k = person.size * (0.88 if digit == "little" else 1.0)
    scene.extent = (59 * k, 72 * k)
    sites = ((0.55, 0.78, 0.45), (0.25, 0.65, 0.42), (0.1, 0.45, 0.13))
    labels = ("proximal", "distal") if thumb else _PHALANGES
    for label, (low, high, weight) in zip(labels, sites[:2] if thumb else sites, strict=True):
        scene.core.append(Site(f"{digit} {label} phalanx", low, high, weight))
    return scene


def hand_scene(person: Person, pose: Pose) -> Scene:
    """Hand film."""
    scene, _ = hand(person, pose)
    k = person.size
    scene.centre = project((-4 * k, 2 * k, 0), pose.angle)
    scene.extent = (190 * k, 225 * k)
    scene.core = [
        Site(bone.name) for bone in scene.bones if "metacarpal" in bone.name or "proximal" in bone.name
    ]
    scene.lesion_scale = 1.7
    return scene


def wrist_scene(person: Person, pose: Pose) -> Scene:
    """Wrist film: carpus, both forearm ends, metacarpal bases."""
    scene, _ = hand(person, pose)
    k = person.size
    scene.centre = project((0, 88 * k, 0), pose.angle)
    scene.extent = (110 * k, 150 * k)
    scene.core = [Site("radius", 0.78, 0.9, 2), Site("ulna", 0.78, 0.92)]
    scene.lesion_scale = 1.5
    return scene
