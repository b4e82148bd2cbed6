"""From solids to a film: Beer-Lambert attenuation, scatter, noise, collimation, markers, greyscale."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from . import lesions
from .lesions import Lesion
from .people import Scene
from .solids import Floats, Solid

SOFT = 0.021
"""Attenuation of soft tissue per mm, about 50 kVp filtered."""
BONE = 0.062
"""Attenuation of compact bone per mm in excess of the soft tissue it replaces."""


@dataclass(frozen=True)
class Exposure:
    """How one film is taken; says nothing about the label."""

    width: int
    height: int
    extent: float
    """Share 0..1 of the scene's range of field sizes."""
    offset: tuple[float, float]
    rotation: float
    mirror: bool
    photons: float
    electronic: float
    scatter: float
    flatten: float
    """How far slow changes of density are taken out."""
    blur: float
    heel: tuple[float, float]
    window: tuple[float, float, float]
    """Lower and upper end as shares of the range, and gamma."""
    collimation: tuple[float, float, float, float] | None
    """Borders left, top, right, bottom as shares of the film."""
    collimation_turn: float
    shutter: int
    marker: tuple[str, float, float, float, float] | None
    """Letter, x and y as shares, size as a share of the long side, turn in degrees."""
    colour: bool
    seed: int

    @classmethod
    def draw(cls, seed: np.random.SeedSequence, part: str) -> Exposure:
        """Draw the way a film of `part` is taken."""
        rng = np.random.default_rng(seed)
        long = 512 if rng.random() < 0.72 else int(rng.integers(280, 512))
        slim = {
            "XR_FINGER": (0.26, 0.6),
            "XR_FOREARM": (0.3, 0.7),
            "XR_HUMERUS": (0.35, 0.8),
            "XR_HAND": (0.62, 0.95),
            "XR_WRIST": (0.5, 0.9),
        }
        short = max(89, round(long * float(rng.uniform(*slim.get(part, (0.7, 1.0))))))
        collimated = rng.random() < 0.35
        border = rng.uniform(0, 0.07, 4) * (rng.random(4) < 0.7)
        letter = str(rng.choice(["L", "R", "L", "R", "LT", "RT"]))
        corner = rng.integers(0, 4)
        return cls(
            width=short, height=long,
            extent=float(rng.random()),
            offset=(float(rng.normal(0, 0.03)), float(rng.normal(0, 0.02))),
            rotation=float(np.clip(rng.normal(0, 4.5), -14, 14)),
            mirror=bool(rng.random() < 0.5),
            photons=float(np.exp(rng.uniform(np.log(1500), np.log(12000)))),
            electronic=float(rng.uniform(0.001, 0.006)),
            scatter=float(rng.uniform(0.08, 0.35)),
            flatten=float(rng.uniform(0.25, 0.6)),
            blur=float(rng.uniform(0.35, 0.9)),
            heel=(float(rng.normal(0, 0.04)), float(rng.normal(0, 0.04))),
            window=(
                float(rng.uniform(-0.06, 0.08)), float(rng.uniform(1.15, 1.35)), float(rng.uniform(0.8, 1.0)),
            ),
            collimation=tuple(border.tolist()) if collimated else None,
            collimation_turn=float(rng.normal(0, 1.5)),
            shutter=int(rng.integers(0, 14)) if rng.random() < 0.9 else int(rng.integers(190, 250)),
            marker=(
                letter, float(rng.uniform(0.08, 0.16)) if corner % 2 else float(rng.uniform(0.84, 0.92)),
                float(rng.uniform(0.05, 0.25)) if corner < 2 else float(rng.uniform(0.75, 0.95)),
                float(rng.uniform(0.035, 0.06)), float(rng.normal(0, 12)),
            ) if rng.random() < 0.4 else None,
            colour=bool(rng.random() < 0.35),
            seed=int(rng.integers(2**62)),
        )  # fmt: skip


@dataclass(frozen=True)
class Film:
    """A drawn view.

    Attributes
    ----------
    image : uint8 (H, W)
        Grey levels.
    box
        Pixels x0, y0, x1, y1 (x1, y1 exclusive) where the lesion changes the film, or None.
    """

    image: npt.NDArray[np.uint8]
    box: tuple[int, int, int, int] | None


class _Canvas:
    """Maps between pixels of the film and millimetres of the scene."""

    def __init__(self, scene: Scene, how: Exposure) -> None:
        extent = scene.extent[0] + (scene.extent[1] - scene.extent[0]) * how.extent
        self.scale = how.height / extent
        self.shape = (how.height, how.width)
        turn = np.deg2rad(-scene.upright + how.rotation)
        flip = -1.0 if how.mirror else 1.0
        c, s, k = float(np.cos(turn)), float(np.sin(turn)), self.scale
        self.matrix = np.array([[flip * k * c, -flip * k * s], [k * s, k * c]])
        middle = np.array([how.width * (0.5 + how.offset[0]), how.height * (0.5 + how.offset[1])])
        self.shift = middle - self.matrix @ np.asarray(scene.centre)
        self.inverse = np.linalg.inv(self.matrix)

    def roi(self, solid: Solid, margin: float) -> tuple[slice, slice] | None:
        """Rows and columns a solid can touch, or None if it is off the film."""
        ends = np.array([solid.start, solid.end]) @ self.matrix.T + self.shift
        r = (solid.reach() + margin) * self.scale + 2
        x0, y0 = np.floor(ends.min(0) - r).astype(int)
        x1, y1 = np.ceil(ends.max(0) + r).astype(int)
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, self.shape[1]), min(y1, self.shape[0])
        return (slice(y0, y1), slice(x0, x1)) if x1 - x0 > 1 and y1 - y0 > 1 else None

    def local(self, solid: Solid, roi: tuple[slice, slice], step: float = 1.0) -> tuple[Floats, Floats]:
        """Coordinates (mm) along and across a solid of the pixels of `roi` of a film `step` times coarser."""
        rows, columns = (np.arange(s.start, s.stop, dtype=np.float32) * step + (step - 1) / 2 for s in roi)
        px = (columns - np.float32(self.shift[0]))[None, :].astype(np.float32)
        py = (rows - np.float32(self.shift[1]))[:, None].astype(np.float32)
        i = self.inverse.astype(np.float32)
        return solid.local(i[0, 0] * px + i[0, 1] * py, i[1, 0] * px + i[1, 1] * py)


def _grain(rng: np.random.Generator) -> Floats:
    """Tile of trabecular texture, elongated along its rows' direction, mean 0 and deviation 1."""
    noise = rng.standard_normal((256, 256), dtype=np.float32)
    fine = cv2.GaussianBlur(noise, (0, 0), sigmaX=1.0, sigmaY=2.2)
    coarse = cv2.GaussianBlur(noise[::-1], (0, 0), sigmaX=5, sigmaY=9)
    tile = fine / fine.std() + 0.7 * coarse / coarse.std()
    return np.asarray(tile / tile.std(), np.float32)


def _texture(
    tile: Floats, along: Floats, across: Floats, strength: float, rng: np.random.Generator
) -> Floats:
    per_mm = np.float32(6.0)
    a, b = rng.uniform(0, 256, 2)
    x, y = (across * per_mm + np.float32(a)), (along * per_mm + np.float32(b))
    sampled = cv2.remap(tile, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(np.maximum(1 + np.float32(strength) * sampled, 0.2), np.float32)


def _flesh(scene: Scene, canvas: _Canvas, rng: np.random.Generator) -> Floats:
    """Millimetres of soft tissue in the ray, drawn at half the resolution."""
    h, w = (canvas.shape[0] + 1) // 2, (canvas.shape[1] + 1) // 2
    total = np.zeros((h, w), np.float32)
    for group in scene.flesh:
        thick = np.zeros((h, w), np.float32)
        touched = False
        for solid in group:
            roi = canvas.roi(solid, 1.0)
            if roi is None:
                continue
            touched = True
            half = tuple(
                slice(s.start // 2, min((s.stop + 1) // 2, n)) for s, n in zip(roi, (h, w), strict=True)
            )
            _, inside = solid.chords(*canvas.local(solid, (half[0], half[1]), 2.0))
            np.maximum(thick[half], inside, out=thick[half])
        if touched:
            total += thick**3
    total = np.asarray(
        cv2.GaussianBlur(np.cbrt(total), (0, 0), max(0.45 * canvas.scale / 2, 0.6)), np.float32
    )
    streaks = cv2.GaussianBlur(
        rng.standard_normal((h, w), dtype=np.float32), (0, 0), 1.6 * canvas.scale / 2 + 1
    )
    mottle = 0.035 * min(1.0, 16 / max(float(total.max()), 1.0))
    total *= 1 + np.float32(mottle) * streaks / max(float(streaks.std()), 1e-6)
    return np.asarray(cv2.resize(total, canvas.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _swollen(soft: Floats, canvas: _Canvas, at: tuple[float, float], lesion: Lesion) -> Floats:
    """Soft tissue that swells around a lesion: magnified there, so that the skin bulges."""
    x, y = canvas.matrix @ np.asarray(at) + canvas.shift
    reach, growth = 7.0 * lesion.scale * canvas.scale, 0.03 + 0.1 * lesion.traits[8]
    columns = np.arange(canvas.shape[1], dtype=np.float32)[None, :] - np.float32(x)
    rows = np.arange(canvas.shape[0], dtype=np.float32)[:, None] - np.float32(y)
    bulge = np.float32(growth) * np.exp((columns**2 + rows**2) * np.float32(-0.5 / reach**2))
    back_x, back_y = columns * (1 - bulge) + np.float32(x), rows * (1 - bulge) + np.float32(y)
    return np.asarray(cv2.remap(soft, back_x, back_y, cv2.INTER_LINEAR) * (1 + 0.3 * bulge), np.float32)


def _letters(canvas: _Canvas, how: Exposure) -> npt.NDArray[np.uint8] | None:
    """Mask of the lead side marker."""
    if how.marker is None:
        return None
    text, x, y, size, turn = how.marker
    mask = np.zeros(canvas.shape, np.uint8)
    tall = size * max(canvas.shape)
    at = (int(x * canvas.shape[1] - tall / 2), int(y * canvas.shape[0] + tall / 2))
    cv2.putText(
        mask, text, at, cv2.FONT_HERSHEY_SIMPLEX, tall / 22, 255, max(1, round(tall / 7)), cv2.LINE_AA
    )
    matrix = cv2.getRotationMatrix2D((float(at[0]), float(at[1])), turn, 1.0)
    return np.asarray(cv2.warpAffine(mask, matrix, canvas.shape[::-1]), np.uint8)


def _opening(canvas: _Canvas, how: Exposure) -> npt.NDArray[np.bool_] | None:
    """Pixels inside the collimated field, or None where the film is open."""
    if how.collimation is None:
        return None
    h, w = canvas.shape
    left, top, right, bottom = how.collimation
    corners = np.array(
        [
            (left * w, top * h),
            (w - right * w, top * h),
            (w - right * w, h - bottom * h),
            (left * w, h - bottom * h),
        ]
    )
    turn = np.deg2rad(how.collimation_turn)
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = np.array([w / 2, h / 2])
    polygon = np.round((corners - centre) @ rotate.T + centre).astype(np.int32)
    mask = np.zeros((h, w), np.uint8)
    cv2.fillPoly(mask, [polygon], 1)
    return mask.astype(bool)


def render(
    scene: Scene, how: Exposure, lesion: Lesion | None = None, bone: str = "", angle: float = 0.0
) -> Film:
    """Take a film of a scene.

    Everything that is drawn at random comes from `how.seed` and is drawn whether there is a lesion or not;
    the greyscale window is set on the healthy anatomy. So a lesion changes the film where it is and nowhere
    else, but for the little that it scatters.

    Parameters
    ----------
    scene
        What is under the tube.
    how
        How the film is taken.
    lesion, bone
        An abnormality and the name of the bone that has it.
    angle
        Projection angle in degrees.

    Returns
    -------
    Film
    """
    texture_rng, flesh_rng, noise_rng = (np.random.default_rng([how.seed, i]) for i in range(3))
    canvas = _Canvas(scene, how)
    tile = _grain(texture_rng)
    soft = _flesh(scene, canvas, flesh_rng)
    compact = np.zeros(canvas.shape, np.float32)
    change, change_roi = None, None
    swelling: Floats | None = None
    metal: Floats | None = None
    for solid in scene.bones:
        roi = canvas.roi(solid, 4.0 * scene.lesion_scale if solid.name == bone else 1.0)
        start = texture_rng.integers(2**31)
        if roi is None:
            continue
        along, across = canvas.local(solid, roi)
        # trabeculae average out along a longer path
        strength = 0.2 * min(1.0, (5 / solid.reach()) ** 0.7)
        texture = _texture(tile, along, across, strength, np.random.default_rng(start))
        sound = lesions.healthy(solid, along, across, texture)
        compact[roi] += sound
        if lesion is not None and solid.name == bone:
            sick, metal = lesions.apply(lesion, solid, along, across, texture, angle)
            change, change_roi = sick - sound, roi
            swelling = _swollen(soft, canvas, solid.point(lesion.place * solid.length), lesion)
    attenuation = SOFT * soft + BONE * compact
    # digital systems flatten what changes slowly; set on the healthy anatomy, as is the window
    level = how.flatten * (_slow(attenuation, 14 * canvas.scale) - np.float32(0.35))
    sample = (attenuation - level)[::4, ::4].ravel()
    upper = float(np.partition(sample, int(0.97 * sample.size))[int(0.97 * sample.size)])
    box = None
    opening = _opening(canvas, how)
    if change is not None and change_roi is not None:
        delta = BONE * change + (lesions.METAL * metal if metal is not None else np.float32(0))
        attenuation[change_roi] += delta
        if swelling is not None:
            attenuation += SOFT * (swelling - soft)
        seen = np.abs(cv2.GaussianBlur(delta, (0, 0), how.blur + 0.4)) > 0.1 * max(upper, 0.3)
        if opening is not None:
            seen &= opening[change_roi]
        if int(seen.sum()) >= 12:
            rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
            y, x = change_roi[0].start, change_roi[1].start
            box = (x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)
    letters = _letters(canvas, how)
    if letters is not None:
        attenuation += letters.astype(np.float32) * np.float32(0.9 / 255)
    return Film(_expose(attenuation, level, upper, canvas, how, opening, noise_rng), box)


def _slow(image: Floats, sigma: float) -> Floats:
    """Blur by a wide Gaussian of `sigma` pixels, computed on an eighth of the resolution."""
    h, w = image.shape
    coarse = cv2.resize(image, (max(w // 8, 1), max(h // 8, 1)), interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur(coarse, (0, 0), max(sigma / 8, 1.0))
    return np.asarray(cv2.resize(coarse, (w, h), interpolation=cv2.INTER_LINEAR), np.float32)


def _expose(
    attenuation: Floats,
    level: Floats,
    upper: float,
    canvas: _Canvas,
    how: Exposure,
    opening: npt.NDArray[np.bool_] | None,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """Detect, add noise, take the logarithm, and window to 8 bits."""
    beam = np.exp(-attenuation)
    h, w = canvas.shape
    veil = _slow(beam, 9 * canvas.scale)
    signal = (beam + np.float32(how.scatter) * veil) / np.float32(1 + how.scatter)
    x = np.linspace(-1, 1, w, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    signal *= 1 + np.float32(how.heel[0]) * x + np.float32(how.heel[1]) * y
    noise = rng.standard_normal((h, w), dtype=np.float32)
    signal += noise * np.sqrt(np.maximum(signal, 0) / np.float32(how.photons) + np.float32(how.electronic**2))
    signal = cv2.GaussianBlur(signal, (0, 0), how.blur)
    density = -np.log(np.maximum(signal, 1e-3)) - level
    low, high, gamma = how.window
    shade = np.clip((density / np.float32(max(upper, 0.2) * 0.92) - low) / (high - low), 0, 1) ** np.float32(
        gamma
    )
    grey = np.asarray(255 * shade, np.uint8)
    if opening is not None:
        edge = cv2.GaussianBlur(opening.astype(np.float32), (0, 0), 1.5)
        grey = np.asarray(how.shutter + (grey - np.float32(how.shutter)) * edge, np.uint8)
    return grey
