"""Images that show the same picture: saved again, recompressed, cropped a little."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from siamura._validation import check_vectors, check_whole
from siamura.neighbours import Neighbours

__all__ = ["compare_pictures", "near_duplicates"]

_SIDE, _COARSE = 160, 0.9
_EXPECTED = 0.1  # pairs of different images above the threshold
# Least side for each step of the alignment, and its iterations.
_STEPS = ((32, 50), (64, 40), (_SIDE, 30))
Gray = NDArray[np.uint8]


def compare_pictures(a: Gray, b: Gray, *, coarse: float = -1.0) -> tuple[float, float]:
    """Compare two images, after one was laid over the other.

    The second is moved, stretched and sheared (an affine map) until it fits the first best (Evangelidis and Psarakis,
    IEEE TPAMI 30:1858, 2008). Two hands have one outline; what tells images apart is the finest detail, so the score is
    the normalised cross-correlation of what a Gaussian of one pixel takes away, each part of the image weighing alike.
    A copy keeps it through JPEG of quality 40 and a crop of 8 % on each axis.

    Parameters
    ----------
    a, b : uint8 (H, W)
        Any sizes; both are brought to 160 x 160 pixels first.
    coarse : float
        Where the images themselves correlate less at 64 x 64 pixels, detail is not looked at.

    Returns
    -------
    picture, detail : float
        Correlation of the images, and of their detail (0 where it was not looked at, or nothing fits).

    Examples
    --------
    >>> image = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8).repeat(9, 0).repeat(9, 1)
    >>> compare_pictures(image, image[4:, 6:])[1] > 0.6 > compare_pictures(image, image[::-1])[1]
    True
    """
    warp = np.eye(2, 3, dtype=np.float32)
    picture = 0.0
    for side, steps in _STEPS:
        first, second = (_small(image, side) for image in (a, b))
        scaled = warp.copy()
        scaled[:, 2] *= side / _SIDE
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-5)
        try:
            aligned: Any = cv2.findTransformECC(
                first, second, scaled, cv2.MOTION_AFFINE, stop, np.ones_like(first, np.uint8), 3
            )
            picture, scaled = aligned
        except cv2.error:  # it found no overlap, or an image of one grey
            return 0.0, 0.0
        warp = scaled.astype(np.float32)
        warp[:, 2] *= _SIDE / side
        # The first step is rough, and only what is far from it is given up there.
        least = {32: coarse - 0.1, 64: coarse}.get(side, -1.0)
        if not 0.7 < np.linalg.det(warp[:, :2]) < 1.4 or picture < least:
            return float(picture), 0.0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved: Any = cv2.warpAffine(second, warp, (_SIDE, _SIDE), flags=flags)
    inside = cv2.warpAffine(np.ones_like(second), warp, (_SIDE, _SIDE), flags=flags) > 0.99
    return float(picture), _correlation(_detail(first)[inside], _detail(moved)[inside])


def near_duplicates(
    embeddings: ArrayLike,
    table: pd.DataFrame,
    read: Callable[[int], Gray | None],
    *,
    candidates: int = 3,
    null: int = 400,
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Find pairs of images of two patients, or of two splits, that show the same picture.

    The nearest images by the cosine of their embeddings are compared as pictures. What score chance gives is taken
    from the data: pairs of images of two patients that are near each other, but each other's 4th to 10th neighbours,
    and alike enough at 64 x 64 pixels for their detail to be looked at. On Fisher's scale, ``atanh``, with the median
    of these and the wider of their median absolute deviation and their upper tail (99 %), the threshold is where a
    tenth of a pair is expected by chance among all that were compared: one false pair in ten such audits.

    Parameters
    ----------
    embeddings : array of shape (N, dim)
    table : DataFrame
        ``patient`` and, where there is one, ``split``.
    read : callable
        From a row's number to the image, uint8 (H, W), or None where it cannot be read.
    candidates : int
        Neighbours of each image that are compared with it.
    null : int
        Pairs from which the threshold is taken.
    seed : int
        Which these are.

    Returns
    -------
    pairs : DataFrame
        All pairs compared, the highest detail first: ``row``, ``other`` (numbers of rows), ``cosine``, ``picture``,
        ``detail``, ``same_patient``, ``splits`` (whether they differ), ``duplicate`` (whether above the threshold).
    facts : dict
        ``threshold``, ``null_median``, ``null_highest``, ``null_pairs``, ``compared``, ``unreadable``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> images = [rng.integers(0, 255, (30, 20)).astype(np.uint8).repeat(6, 0).repeat(6, 1) for _ in range(5)]
    >>> images.append(images[2][3:, 2:])
    >>> table = pd.DataFrame({"patient": list("abcdef")})
    >>> pairs, facts = near_duplicates(rng.normal(size=(6, 3)), table, images.__getitem__, candidates=5)
    >>> pairs.loc[pairs["duplicate"], ["row", "other"]].to_numpy().tolist()
    [[2, 5]]
    """
    vectors = check_vectors("embeddings", embeddings, least=1)
    check_whole("candidates", candidates)
    unit = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    patient = pd.factorize(table["patient"])[0]
    split = pd.factorize(table["split"])[0] if "split" in table else np.zeros(len(table), np.int64)
    # Views of one patient within one split may well be the same image twice: that leaks nothing.
    own = pd.factorize(pd.MultiIndex.from_arrays([patient, split]))[0]
    near = Neighbours(unit, own).search(unit, candidates + 7, groups=own)[1]
    unread: set[int] = set()

    @lru_cache(4096)
    def gray(row: int) -> Gray | None:
        found = read(row)
        if found is None:
            unread.add(row)
            return None
        return _small(found, _SIDE).astype(np.uint8)

    def compare(pairs: NDArray[np.int64], coarse: float) -> list[tuple[float, float]]:
        images = ((gray(int(a)), gray(int(b))) for a, b in pairs)
        return [
            (0.0, 0.0) if a is None or b is None else compare_pictures(a, b, coarse=coarse) for a, b in images
        ]

    rows = np.arange(len(near))
    some = np.random.default_rng(seed).permutation(_pairs(near[:, candidates : candidates + 7]))[:null]
    looked = [detail for _, detail in compare(some, _COARSE) if detail]
    chance = np.arctanh(np.clip(looked or [0.0], -0.999, 0.999))
    middle = float(np.median(chance))
    tail = float(np.quantile(chance, 0.99) - middle) / norm.isf(0.01)
    spread = max(1.4826 * float(np.median(np.abs(chance - middle))), tail, 0.02 if len(looked) >= 30 else 0.1)
    pairs = _pairs(near[:, :candidates])
    scores = np.array(compare(pairs, _COARSE)).reshape(-1, 2)
    above = norm.isf(_EXPECTED / max(1, int((scores[:, 1] != 0).sum())))
    threshold = float(np.tanh(middle + spread * above))
    a, b = pairs.T
    found = pd.DataFrame({
        "row": rows[a], "other": rows[b], "cosine": (unit[a] * unit[b]).sum(axis=1), "picture": scores[:, 0],
        "detail": scores[:, 1], "same_patient": patient[a] == patient[b], "splits": split[a] != split[b],
        "duplicate": scores[:, 1] > threshold,
    }).sort_values("detail", ascending=False, ignore_index=True)  # fmt: skip
    facts = {
        "threshold": threshold, "null_median": float(np.tanh(middle)), "null_highest": float(np.tanh(chance.max())),
        "null_pairs": len(looked), "compared": len(pairs), "unreadable": len(unread),
    }  # fmt: skip
    return found, facts


def _pairs(near: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each pair of a row and a neighbour once, int64 (n, 2)."""
    row, column = np.nonzero(near >= 0)
    pairs = np.sort(np.stack([row, near[row, column]], axis=1), axis=1)
    return np.unique(pairs, axis=0).reshape(-1, 2)


def _small(image: NDArray[Any], side: int) -> NDArray[np.float32]:
    small: NDArray[np.float32] = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(
        np.float32
    )
    return small


def _detail(image: NDArray[np.float32]) -> NDArray[np.float32]:
    fine = image - cv2.GaussianBlur(image, (0, 0), 1)
    return np.asarray(fine / (np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 4)) + 2), np.float32)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    if len(a) < 100 or not a.std() or not b.std():
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
