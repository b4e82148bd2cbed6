"""Who is filmed and how: the person, the pose, the scene and its projection."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .solids import Solid

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
            gap=float(rng.uniform(0.55, 1.15)),
            spread=float(rng.uniform(0.4, 1.5)),
            seed=int(rng.integers(2**31)),
        )


@dataclass(frozen=True)
class Site:
    """A stretch of a bone, from `low` to `high` (0..1), and how likely a lesion is there."""

    bone: str
    low: float = 0.25
    high: float = 0.75
    weight: float = 1.0


@dataclass
class Scene:
    """Bones and soft tissue of one view, in millimetres on the film."""

    bones: list[Solid] = field(default_factory=list)
    flesh: list[list[Solid]] = field(default_factory=list)
    """Groups: within one the thickest solid counts, groups are melted together."""
    core: list[Site] = field(default_factory=list)
    """Where lesions may sit: what the view is made for."""
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
