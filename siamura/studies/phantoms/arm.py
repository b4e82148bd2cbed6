"""Forearm, elbow, humerus and shoulder films, drawn more simply than the hand."""

from __future__ import annotations

import numpy as np

from .bones import flesh, long_bone, pebble
from .people import Person, Pose, Scene, Site, side
from .solids import Solid


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
        bones,
        soft,
        [Site("radius", 0.2, 0.8), Site("ulna", 0.2, 0.8)],
        (float(rng.normal(0, 3)), 0.0),
        0.0,
        (265 * k, 310 * k),
        2.3,
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
        long_bone(
            "humerus",
            (0, 170 * k),
            (0, 2 * k),
            (25 * k, 23 * k, (62 - 32 * lateral) * k),
            person,
            wall=4.2,
            flare=(0.1, 0.28),
            notch=4 * k * (1 - lateral),
            ends=(0.02, 0.05),
        ),
        long_bone(
            "radius",
            on(3 * k, -apart - 5 * k),
            on(150 * k, -apart),
            (22 * k, 14 * k, 16 * k),
            person,
            wall=3,
            flare=(0.09, 0.1),
        ),
        long_bone(
            "ulna",
            on(-10 * k - 6 * lateral * k, apart - 2 * k),
            on(150 * k, apart),
            (26 * k, 15 * k, 15 * k),
            person,
            wall=3,
            flare=(0.18, 0.1),
            ends=(0.06, 0.02),
        ),
    ]
    r = 44 * k * person.flesh
    soft = [
        [
            flesh(
                (0, 200 * k),
                (way[0] * 40 * k, way[1] * 40 * k),
                (r * 1.05, r, r * 0.95, r * 0.95),
                0.85,
                (0.03, 0.25),
            ),
            flesh(
                on((-60 + 25 * lateral) * k, 0),
                on(190 * k, 0),
                (r * 0.95, r, r * 0.92, r * 0.8),
                0.85,
                (0.25, 0.03),
            ),
        ]
    ]
    return Scene(
        bones,
        soft,
        [Site("humerus", 0.7, 0.86), Site("radius", 0.12, 0.3), Site("ulna", 0.2, 0.35)],
        on(8 * k * lateral, 0),
        0.0,
        (150 * k, 200 * k),
        1.9,
    )


def humerus_scene(person: Person, pose: Pose) -> Scene:
    """Humerus film: the whole bone, shoulder at the top."""
    k, lateral = person.size, side(pose.angle)
    bones = [
        long_bone(
            "humerus",
            (0, 155 * k),
            (0, -150 * k),
            ((60 - 28 * lateral) * k, 23 * k, 47 * k),
            person,
            wall=4.6,
            flare=(0.13, 0.13),
            ends=(0.02, 0.07),
            bow=2 * k,
        ),
        long_bone(
            "radius",
            (-10 * k, 160 * k),
            (-12 * k, 300 * k),
            (22 * k, 14 * k, 16 * k),
            person,
            wall=3,
            flare=(0.09, 0.1),
        ),
        long_bone(
            "ulna",
            (10 * k, 148 * k),
            (10 * k, 300 * k),
            (26 * k, 15 * k, 15 * k),
            person,
            wall=3,
            flare=(0.18, 0.1),
        ),
        *_girdle(person, (30 * k, -140 * k), lateral),
    ]
    r = 50 * k * person.flesh
    soft = [
        [flesh((0, 230 * k), (0, -190 * k), (r * 0.9, r * 0.95, r, r * 1.1, r * 1.25), 0.85, (0.03, 0.12))],
        [flesh((150 * k, 20 * k), (60 * k, -180 * k), (70 * k, 85 * k, 80 * k), 0.8, (0.3, 0.2))],
    ]
    return Scene(
        bones,
        soft,
        [Site("humerus", 0.2, 0.8)],
        (float(pose.rng().normal(4, 4)), 0.0),
        0.0,
        (310 * k, 370 * k),
        2.7,
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
    return Scene(
        bones,
        soft,
        [Site("humerus", 0.6, 0.85, 3), Site("clavicle", 0.5, 0.8)],
        (22 * k, 12 * k),
        0.0,
        (170 * k, 220 * k),
        1.9,
    )
