"""Candidates for the nearest rows by a matrix product, and their distances in double precision."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "as_groups",
    "as_mask",
    "as_rows",
    "ask",
    "knn",
    "measure",
    "multiply",
    "nearest_sets",
    "scan",
]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

_CHUNK = 65_536  # rows at a time in one pass over all of them
_CELLS = 4_000_000  # numbers held at once
_GPU_MOST = 2048  # neighbours that FAISS finds on a GPU
_PART = 20_000  # rows that are worth a thread of their own


def as_rows(values: ArrayLike, name: str, dim: int | None = None) -> NDArray[np.float32]:
    """Check rows: two-dimensional, finite as float32, of `dim` numbers; a contiguous array as it is."""
    # No memory map: once faiss.contrib.torch_utils is imported, FAISS takes plain arrays alone.
    with np.errstate(over="ignore"):  # it becomes infinity, and is refused as such
        rows = np.ascontiguousarray(np.asarray(values), dtype=np.float32)
    if rows.ndim != 2 or not rows.shape[1] or (dim is not None and rows.shape[1] != dim):
        raise ValueError(
            f"{name} has shape {rows.shape}; it must be (rows, {'dim' if dim is None else dim})."
        )
    odd = ~np.isfinite(rows).all(axis=1)
    if odd.any():
        raise ValueError(
            f"{name} holds NaN, infinity or a number beyond float32 in row {int(odd.argmax())}, one of "
            f"{int(odd.sum())}; leave those rows out."
        )
    return rows


def as_groups(values: ArrayLike, count: int, name: str) -> NDArray[np.int64]:
    """Check codes of groups: one whole number a row."""
    codes = np.asarray(values)
    if codes.shape != (count,) or (codes.dtype.kind not in "iu" and count):
        raise ValueError(
            f"{name} has dtype {codes.dtype} and shape {codes.shape}; give one whole number a row, shape ({count},)."
        )
    return codes.astype(np.int64)


def as_mask(among: ArrayLike, count: int) -> NDArray[np.bool_]:
    """Check which of `count` rows may be found: a mask, or their positions."""
    chosen = np.asarray(among)
    if chosen.dtype == bool and chosen.shape == (count,):
        return chosen
    mask = np.zeros(count, dtype=bool)
    whole = chosen.ndim == 1 and (chosen.dtype.kind in "iu" or not len(chosen))
    if not whole or (len(chosen) and (chosen.min() < 0 or chosen.max() >= count)):
        raise ValueError(
            f"among has dtype {chosen.dtype} and shape {chosen.shape}; give a mask of {count} truth "
            f"values, or positions from 0 to {count - 1}."
        )
    mask[chosen.astype(np.int64)] = True
    return mask


def scan(
    points: Float32,
    wide: int,
    rows: Float32,
    squares: Float32,
    groups: Int64 | None = None,
    own: Int64 | None = None,
    mask: Bool | None = None,
) -> tuple[Int64, Float64]:
    """Propose rows to a few queries, in one pass over the rows.

    Parameters
    ----------
    points : float32 (m, dim)
    wide : int
        Rows wanted, at most as many as there are.
    rows : float32 (N, dim)
    squares : float32 (N,)
        Squared lengths of the rows.
    groups, own : int64 (N,) and (m,), optional
        Codes; rows of a query's own group are left out.
    mask : bool (N,), optional
        The rows that may be found.

    Returns
    -------
    positions : int64 (m, wide or fewer)
        In no order; -1 where there are fewer.
    last : float64 (m,)
        Squared distance of the farthest less the query's squared length; infinity where no row is left over.
    """
    value = np.full((len(points), 0), np.inf, np.float32)
    position = np.full((len(points), 0), -1, np.int64)
    for low in range(0, len(rows), _CHUNK):
        where: slice | Int64 = slice(low, low + _CHUNK)
        allowed = None if mask is None else mask[where]
        # Few rows are gathered; of many, all are multiplied and the others struck out, without a copy.
        if allowed is not None and 2 * np.count_nonzero(allowed) < len(allowed):
            where, allowed = low + np.flatnonzero(allowed), None
        block = squares[where] - 2.0 * (points @ rows[where].T)
        if allowed is not None:
            block[:, ~allowed] = np.inf
        if own is not None and groups is not None:
            block[(groups[where] == own[:, None]) & (own[:, None] >= 0)] = np.inf
        number = where if isinstance(where, np.ndarray) else np.arange(low, low + block.shape[1])
        block, found = _smallest(block, np.broadcast_to(number, block.shape), wide)
        value, position = _smallest(np.hstack([value, block]), np.hstack([position, found]), wide)
    last = np.full(len(points), np.inf)
    if value.shape[1] == wide < len(rows):
        last = value.max(axis=1).astype(np.float64)
    return np.where(np.isinf(value), -1, position), last


def multiply(
    points: Float32,
    wide: int,
    rows: Float32,
    groups: Int64 | None = None,
    own: Int64 | None = None,
    mask: Bool | None = None,
    index: Any = None,
    sizes: tuple[Int64, Int64] | None = None,
) -> tuple[Int64, Float64]:
    """Propose rows to many queries, by FAISS.

    Parameters and results are those of `scan`, but for

    Parameters
    ----------
    index : faiss index, optional
        The rows on a GPU.
    sizes : pair of int64 arrays, optional
        The codes of the groups, ascending, and how many rows each has; counted where missing.

    Returns
    -------
    positions : int64 (m, wide or fewer)
    last : float64 (m,)
        Squared distance of the farthest; infinity where no row is left over.
    """
    chosen = None if mask is None else np.flatnonzero(mask)
    searched = rows if chosen is None else rows[chosen]
    if not len(searched):
        return np.full((len(points), 1), -1, np.int64), np.full(len(points), np.inf)

    def find(points: Float32, number: int) -> tuple[Float32, Int64]:
        if index is not None and chosen is None and number <= _GPU_MOST:
            value, position = index.search(points, number)
        else:
            value, position = knn(points, searched, number)
        return value, position if chosen is None else chosen[position]

    return ask(find, points, min(wide, len(searched)), len(searched), groups, own, sizes)


def knn(points: Float32, rows: Float32, number: int, threads: int | None = None) -> tuple[Float32, Int64]:
    """Squared distances and positions of the nearest rows, ascending, by ``faiss.knn`` on all cores.

    FAISS gives a query to one core. Where there are no more queries than cores, each core takes a part of the rows.
    """
    threads = faiss.omp_get_max_threads() if threads is None else threads
    threads = min(threads, len(rows) // max(_PART, number))
    if len(points) > threads or threads < 2:
        return faiss.knn(points, rows, number)
    bounds = list(pairwise(np.linspace(0, len(rows), threads + 1).astype(int).tolist()))
    # One thread of FAISS in each: teams of several wait for one another, and take three times as long.
    with ThreadPoolExecutor(threads, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
        found = list(pool.map(lambda part: faiss.knn(points, rows[part[0] : part[1]], number), bounds))
    value = np.hstack([values for values, _ in found])
    position = np.hstack([at + low for (_, at), (low, _) in zip(found, bounds, strict=True)])
    order = np.argsort(value, axis=1, kind="stable")[:, :number]
    return np.take_along_axis(value, order, 1), np.take_along_axis(position, order, 1)


def ask(
    find: Callable[[Float32, int], tuple[Float32, Int64]],
    points: Float32,
    wide: int,
    rows: int,
    groups: Int64 | None = None,
    own: Int64 | None = None,
    sizes: tuple[Int64, Int64] | None = None,
) -> tuple[Int64, Float64]:
    """Ask a search that knows no groups for so many rows that `wide` of other groups are among them.

    Parameters
    ----------
    find : callable
        From points and a number to squared distances, ascending, and positions.
    points : float32 (m, dim)
    wide : int
    rows : int
        How many rows are searched.
    groups, own : int64 arrays, optional
        See `scan`.
    sizes : pair of int64 arrays, optional
        See `multiply`.

    Returns
    -------
    positions, last
        See `multiply`.
    """
    positions = np.full((len(points), wide), -1, np.int64)
    last = np.full(len(points), np.inf)
    size = np.full(len(points), wide)
    if own is not None and groups is not None:
        # A group of g rows fills g places at most, so wide + g candidates hold `wide` others. Queries are taken
        # in order of that need, by powers of two: one patient with many views costs only herself.
        codes, counts = np.unique(groups, return_counts=True) if sizes is None else sizes
        at = np.minimum(np.searchsorted(codes, own), max(len(codes) - 1, 0))
        count = np.where((codes[at] == own) & (own >= 0), counts[at], 0)
        size = wide + np.where(count > 0, 2 ** np.ceil(np.log2(np.maximum(count, 1))).astype(np.int64), 0)
    size = np.minimum(size, rows)
    for number in np.unique(size):
        members = np.flatnonzero(size == number)
        step = max(1, _CELLS // int(number))
        for some in np.split(members, range(step, len(members), step)):
            value, found = find(points[some], int(number))
            if number < rows:
                last[some] = value[:, -1]
            if own is not None and groups is not None and number > wide:
                allowed = (found >= 0) & ((groups[found] != own[some, None]) | (own[some, None] < 0))
                keep = np.argsort(~allowed, axis=1, kind="stable")[:, :wide]
                found = np.where(np.take_along_axis(allowed, keep, 1), np.take_along_axis(found, keep, 1), -1)
            elif own is not None and groups is not None:
                found = np.where((groups[found] == own[some, None]) & (own[some, None] >= 0), -1, found)
            positions[some, : found.shape[1]] = found
    return positions, last


def measure(rows: Float32, points: Float32, found: Int64, k: int) -> tuple[Float64, Int64]:
    """Measure candidates in double precision (a matrix product is wrong near zero), and take the first k.

    Parameters
    ----------
    rows : float32 (N, dim)
    points : float32 (m, dim)
    found : int64 (m, c)
        Positions of the candidates, -1 for none.
    k : int

    Returns
    -------
    distances : float64 (m, k)
        Euclidean, ascending, the first row first among equals; infinity where there are fewer.
    positions : int64 (m, k)
        -1 where there are fewer.
    """
    width = max(found.shape[1], k)
    distances, positions = np.full((len(points), k), np.inf), np.full((len(points), k), -1, np.int64)
    step = max(1, _CELLS // (width * max(1, points.shape[1])))
    for low in range(0, len(points), step):
        part = slice(low, low + step)
        number = np.full((len(points[part]), width), -1, np.int64)
        number[:, : found.shape[1]] = found[part]
        difference = rows[number].astype(np.float64)
        difference -= points[part, None, :]
        distance = np.sqrt(np.einsum("nkd,nkd->nk", difference, difference))
        distance[number < 0] = np.inf
        order = np.lexsort((number, distance), axis=1)[:, :k]
        distances[part] = np.take_along_axis(distance, order, 1)
        positions[part] = np.take_along_axis(number, order, 1)
    return distances, positions


def nearest_sets(
    rows: Float32, sets: Int64, points: Float32, k: int, how: str
) -> tuple[Float64, Int64, Int64]:
    """Find the sets of rows (studies) nearest to a set of points, comparing every pair in double precision.

    Parameters
    ----------
    rows : float32 (N, dim)
    sets : int64 (N,)
        The set of each row, by codes.
    points : float32 (m, dim)
    k : int
    how : {"min", "mean"}
        The distance of two sets: the least or the mean over all pairs.

    Returns
    -------
    distances : float64 (k or fewer,)
        Ascending.
    positions : int64
        The nearest row of each set.
    sizes : int64
        Rows of each set.
    """
    far = np.empty((len(rows), len(points)))
    for low in range(0, len(rows), 16_384):
        block = rows[low : low + 16_384].astype(np.float64)
        for i, point in enumerate(points):
            far[low : low + len(block), i] = np.sqrt(((block - point) ** 2).sum(axis=1))
    _, member, size = np.unique(sets, return_inverse=True, return_counts=True)
    least = far.min(axis=1)
    first = np.lexsort((least, member))[np.cumsum(size) - size]
    score = least[first] if how == "min" else np.bincount(member, far.mean(axis=1)) / size
    order = np.argsort(score, kind="stable")[:k]
    return score[order], first[order], size[order]


def _smallest(value: Float32, position: Int64, wide: int) -> tuple[Float32, Int64]:
    if value.shape[1] <= wide:
        return value, position
    chosen = np.argpartition(value, wide - 1, axis=1)[:, :wide]
    return np.take_along_axis(value, chosen, 1), np.take_along_axis(position, chosen, 1)
