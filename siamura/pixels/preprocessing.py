"""What is done to every image before the network sees it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from siamura._validation import check_choice, check_flag, check_whole

from .checks import check_gray
from .geometry import Geometry, resized

__all__ = ["CLAHE", "Preprocess"]

Gray = NDArray[np.uint8]
Fit = Literal["letterbox", "squash", "center_crop"]

# Raise whenever the same settings begin to give other pixels: stores and models then know each other apart.
ALGORITHM = 1


@dataclass(frozen=True)
class CLAHE:
    """Contrast-limited adaptive histogram equalisation of a grey image.

    Parameters
    ----------
    clip_limit : float
        On OpenCV's scale, at least 1 and usually 2 to 40: how many times its even share a bin may hold.
    tiles : (int, int)
        Tiles as (columns, rows), OpenCV's order.
    route : {"lab", "grey"}
        ``"lab"`` equalises the lightness of CIELAB by two 256-entry tables, to the last bit as OpenCV's
        BGR -> LAB -> CLAHE on L -> BGR does (its green channel, which is also the grey of the three where
        rounding leaves them unequal by 1). ``"grey"`` equalises the grey values as they are.

    References
    ----------
    Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    >>> CLAHE(clip_limit=2.0, tiles=(8, 8))(ramp).shape
    (64, 64)
    """

    clip_limit: float = 2.0
    tiles: tuple[int, int] = (8, 8)
    route: Literal["lab", "grey"] = "lab"

    def __post_init__(self) -> None:
        limit: Any = self.clip_limit
        if isinstance(limit, bool) or not isinstance(limit, Real) or not math.isfinite(limit) or limit < 1:
            hint = ""
            if isinstance(limit, Real) and 0 < float(limit) < 1:
                hint = " A value between 0 and 1 is on scikit-image's scale, which means something else."
            raise ValueError(
                f"clip_limit={limit!r}: OpenCV's scale is wanted, 1 or more (2.0 is usual).{hint}"
                " For no CLAHE at all pass clahe=None."
            )
        given: Any = self.tiles
        tiles = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        if len(tiles) != 2 or not all(_is_int(t) and 1 <= t <= 256 for t in tiles):
            raise ValueError(
                f"tiles={self.tiles!r}: two whole numbers (columns, rows), 1 to 256, are wanted, as in (8, 8)"
            )
        check_choice("route", self.route, ("lab", "grey"))
        # One form only, so that equal settings are equal, hash equally and give one fingerprint.
        object.__setattr__(self, "clip_limit", float(limit))
        object.__setattr__(self, "tiles", (int(tiles[0]), int(tiles[1])))

    def __call__(self, image: Gray) -> Gray:
        """Equalise one image.

        Parameters
        ----------
        image : uint8 (H, W)

        Returns
        -------
        uint8 (H, W)
        """
        image = _checked(image)
        # Made anew for every call: OpenCV's object holds buffers, and must not be shared by threads.
        clahe = cv2.createCLAHE(self.clip_limit, self.tiles)
        if self.route == "grey":
            return np.asarray(clahe.apply(image), dtype=np.uint8)
        to_lightness, to_grey = _tables()
        return np.asarray(cv2.LUT(clahe.apply(cv2.LUT(image, to_lightness)), to_grey), dtype=np.uint8)


@dataclass(frozen=True)
class Preprocess:
    """A grey image of any size made into the network's square: cut, resize, contrast, pad, in this order.

    The contrast is set after the resize, so that the strength of CLAHE does not depend on the file's size,
    and before the padding, so that black bars neither change nor bend the image's own tiles.

    Parameters
    ----------
    size : int
        Side of the square, in pixels (16 to 4096).
    clahe : CLAHE or None
        Local contrast; None leaves the grey values as they are.
    fit : {"letterbox", "squash", "center_crop"}
        ``"letterbox"`` keeps the proportions and pads with black; ``"squash"`` stretches to the square (as
        most MURA code does); ``"center_crop"`` keeps the proportions and cuts off what is beside the middle.
    equalise : bool
        Plain histogram equalisation of the whole image (system D). Either this or CLAHE.
    crop_borders : bool
        First cut off the black borders that the collimator leaves.

    Examples
    --------
    >>> import numpy as np
    >>> pre = Preprocess(size=224, clahe=CLAHE(clip_limit=2.0, tiles=(8, 8)))
    >>> pre(np.zeros((300, 200), np.uint8)).shape
    (224, 224)
    >>> Preprocess.from_dict(pre.to_dict()) == pre
    True
    """

    size: int = 224
    clahe: CLAHE | None = field(default_factory=CLAHE)
    fit: Fit = "letterbox"
    equalise: bool = False
    crop_borders: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", check_whole("size", self.size, least=16, most=4096))
        if self.clahe is not None and not isinstance(self.clahe, CLAHE):
            raise ValueError(f"clahe={self.clahe!r}: pass CLAHE(clip_limit=2.0, tiles=(8, 8)), or None")
        check_choice("fit", self.fit, ("letterbox", "squash", "center_crop"))
        for name in ("equalise", "crop_borders"):
            object.__setattr__(self, name, check_flag(name, getattr(self, name)))
        if self.equalise and self.clahe is not None:
            raise ValueError("equalise=True beside clahe: choose one (clahe=None for plain equalisation)")

    def __call__(self, image: Gray) -> Gray:
        """Preprocess one image.

        Parameters
        ----------
        image : uint8 (H, W)
            As `siamura.read_image` gives it.

        Returns
        -------
        uint8 (size, size)
        """
        return self.apply(image)[0]

    def apply(self, image: Gray) -> tuple[Gray, Geometry]:
        """Preprocess one image, and say where its pixels went.

        Parameters
        ----------
        image : uint8 (H, W)

        Returns
        -------
        uint8 (size, size)
        Geometry
        """
        image = _checked(image)
        height, width = image.shape
        geometry = self._place(height, width, _exposed(image) if self.crop_borders else None)
        (x0, y0, x1, y1), (u0, v0, u1, v1) = geometry.source, geometry.target
        content = resized(image[y0:y1, x0:x1], v1 - v0, u1 - u0)
        if self.clahe is not None:
            content = self.clahe(content)
        elif self.equalise:
            content = cv2.equalizeHist(content)
        if content.shape == (self.size, self.size):
            return content, geometry
        square = np.zeros((self.size, self.size), np.uint8)
        square[v0:v1, u0:u1] = content
        return square, geometry

    def geometry(self, height: int, width: int) -> Geometry:
        """Where the pixels of an image of this size go.

        With `crop_borders` that depends on the image: take it from `apply` then.

        Parameters
        ----------
        height, width : int
            Pixels of the original.
        """
        if self.crop_borders:
            raise ValueError("crop_borders=True cuts by content: take the geometry from apply(image)")
        return self._place(check_whole("height", height), check_whole("width", width), None)

    def _place(self, height: int, width: int, exposed: tuple[int, int, int, int] | None) -> Geometry:
        x0, y0, x1, y1 = exposed or (0, 0, width, height)
        w, h, size = x1 - x0, y1 - y0, self.size
        target = (0, 0, size, size)
        if self.fit == "center_crop":
            side = min(w, h)
            x0, y0 = x0 + (w - side) // 2, y0 + (h - side) // 2
            x1, y1 = x0 + side, y0 + side
        elif self.fit == "letterbox":
            # Whole-number rounding, half up: floats must not decide a pixel.
            longest = max(w, h)
            tw = max(1, (2 * w * size + longest) // (2 * longest))
            th = max(1, (2 * h * size + longest) // (2 * longest))
            left, top = (size - tw) // 2, (size - th) // 2
            target = (left, top, left + tw, top + th)
        return Geometry(height, width, size, (x0, y0, x1, y1), target)

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain JSON values, with the version of the algorithm."""
        return {**json.loads(json.dumps(asdict(self))), "algorithm": ALGORITHM}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Preprocess:
        """Take settings that `to_dict` gave.

        Raises
        ------
        ValueError
            On unknown names, wrong values, or settings of another version of the algorithm.
        """
        given = dict(settings)
        version = given.pop("algorithm", ALGORITHM)
        if version != ALGORITHM:
            raise ValueError(
                f"algorithm={version!r}: these settings come from another version of siamura's preprocessing"
                f" (this is {ALGORITHM}), which gives other pixels; install the siamura that made them"
            )
        _only_known(cls, given)
        clahe = given.get("clahe")
        if isinstance(clahe, Mapping):
            _only_known(CLAHE, clahe)
            given["clahe"] = CLAHE(**clahe)
        return cls(**given)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits: the same only where settings and algorithm give the same pixels."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _is_int(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _checked(image: Gray) -> Gray:
    if not isinstance(image, np.ndarray) or image.ndim != 2 or image.size == 0:
        seen = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(
            f"image is {seen}: a grey uint8 array (H, W) with at least one pixel is wanted;"
            " siamura.read_image gives one from any file"
        )
    if image.dtype != np.uint8:
        check_gray(image, "image")
        raise ValueError(
            f"image is {image.dtype} {image.shape}: a grey uint8 array (H, W) is wanted; where its values are"
            " whole numbers from 0 to 255, image.astype(numpy.uint8) gives one"
        )
    return image


def _only_known(cls: type, given: Mapping[str, Any]) -> None:
    known = {option.name for option in fields(cls)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ValueError(
            f"{cls.__name__} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )


@cache
def _tables() -> tuple[Gray, Gray]:
    """Grey -> L of CIELAB, and L -> grey, as OpenCV computes them (a and b are 128 for every grey)."""
    levels = np.arange(256, dtype=np.uint8)[None]
    lightness = cv2.cvtColor(cv2.cvtColor(levels, cv2.COLOR_GRAY2BGR), cv2.COLOR_BGR2LAB)[..., 0]
    neutral = np.full_like(levels, 128)
    grey = cv2.cvtColor(np.stack([levels, neutral, neutral], axis=-1), cv2.COLOR_LAB2BGR)[..., 1]
    return np.ascontiguousarray(lightness[0]), np.ascontiguousarray(grey[0])


def _exposed(image: Gray) -> tuple[int, int, int, int]:
    """Box of the field inside the collimator's black borders: x0, y0, x1, y1.

    A row or column belongs to the border, counted from the edge, while under 2 % of its pixels are brighter
    than black (8 % of the image's bright end, for the noise and the ringing of JPEG). Where less than a
    quarter of a side would be left, the image is dark rather than collimated, and that side stays whole.
    """
    bright = image > 0.08 * np.percentile(image, 99.5)
    box = [0, 0, image.shape[1], image.shape[0]]
    for axis in (0, 1):
        lit = np.flatnonzero(bright.mean(axis=axis) >= 0.02)
        side = image.shape[1 - axis]
        if len(lit) and lit[-1] + 1 - lit[0] >= side / 4:
            box[axis], box[axis + 2] = int(lit[0]), int(lit[-1]) + 1
    return box[0], box[1], box[2], box[3]
