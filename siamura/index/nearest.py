"""The two searches: exact over memory-mapped segments, and FAISS's inverted file over many cases."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import PATIENT, Segment

__all__ = ["build_inverted", "exact_search", "inverted_search", "measure_recall", "open_inverted"]

_CHUNK = 65_536  # rows at a time: what is held beside the mapped files
_QUERIES = 128
_SPARE = 16  # candidates beyond k that single precision might have put behind the k-th
#: Neighbours, queries and share found with which the inverted file's nprobe is set.
_K, _SAMPLE, _RECALL = 15, 200, 0.99


def exact_search(
    queries: NDArray[np.float32],
    k: int,
    segments: Sequence[Segment],
    allowed: NDArray[np.bool_] | None = None,
    patients: NDArray[np.int64] | None = None,
    start: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Compare each query with every case.

    Parameters
    ----------
    queries : float32 (m, dim)
    k : int
    segments : sequence of Segment
    allowed : bool (n,), optional
        Cases that may be found.
    patients : int64 (m,), optional
        Digest of the patient whose cases a query must not find.
    start : int
        Number of the first case to look at.

    Returns
    -------
    distances : float64 (m, k)
        Euclidean, ascending; inf where there are fewer cases.
    numbers : int64 (m, k)
        -1 where there are fewer.
    """
    if len(queries) > _QUERIES:
        parts = [
            exact_search(
                queries[i : i + _QUERIES],
                k,
                segments,
                allowed,
                None if patients is None else patients[i : i + _QUERIES],
                start,
            )
            for i in range(0, len(queries), _QUERIES)
        ]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    wide = k + _SPARE
    value = np.full((len(queries), 0), np.inf, np.float32)
    number = np.full((len(queries), 0), -1, np.int64)
    first = 0
    for segment in segments:
        for low in range(max(0, start - first), len(segment), _CHUNK):
            high = min(low + _CHUNK, len(segment))
            rows: NDArray[np.int64] | slice = slice(low, high)
            keep = None if allowed is None else allowed[first + low : first + high]
            # Few rows are gathered; of many, all are multiplied and the others struck out, without a copy.
            if keep is not None and 2 * np.count_nonzero(keep) < high - low:
                rows, keep = low + np.flatnonzero(keep), None
            vectors = segment.vectors[rows]
            near = segment.norms[rows] - 2.0 * (queries @ vectors.T)
            if keep is not None:
                near[:, ~keep] = np.inf
            if patients is not None:
                near[segment.keys[rows, PATIENT][None] == patients[:, None]] = np.inf
            ids = first + (np.arange(low, high) if isinstance(rows, slice) else rows)
            if near.shape[1] > wide:
                chosen = np.argpartition(near, wide - 1, axis=1)[:, :wide]
                near, found = np.take_along_axis(near, chosen, 1), ids[chosen]
            else:
                found = np.broadcast_to(ids, near.shape)
            value, number = np.hstack([value, near]), np.hstack([number, found])
            if value.shape[1] > wide:
                chosen = np.argpartition(value, wide - 1, axis=1)[:, :wide]
                value, number = np.take_along_axis(value, chosen, 1), np.take_along_axis(number, chosen, 1)
        first += len(segment)
    number = np.where(np.isfinite(value), number, -1)
    return rescore(queries, number, k, segments)


def rescore(
    queries: NDArray[np.float32], numbers: NDArray[np.int64], k: int, segments: Sequence[Segment]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances of the found, in double precision (a matrix product is wrong near zero), and the first k."""
    m, width = numbers.shape
    distance = np.full((m, max(k, width)), np.inf)
    number = np.full((m, max(k, width)), -1, np.int64)
    number[:, :width] = numbers
    for row in range(m):
        there = np.flatnonzero(number[row] >= 0)
        if there.size:
            vectors = gather(segments, number[row, there]).astype(np.float64)
            distance[row, there] = np.sqrt(((vectors - queries[row].astype(np.float64)) ** 2).sum(axis=1))
    order = np.lexsort((number, distance), axis=1)[:, :k]
    return np.take_along_axis(distance, order, 1), np.take_along_axis(number, order, 1)


def gather(segments: Sequence[Segment], numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Vectors of the given cases, float32 (n, dim)."""
    edges = np.cumsum([0, *map(len, segments)])
    where = np.searchsorted(edges, numbers, side="right") - 1
    out = np.empty((len(numbers), segments[0].vectors.shape[1]), np.float32)
    for s in np.unique(where):
        mine = where == s
        out[mine] = segments[s].vectors[numbers[mine] - edges[s]]
    return out


def build_inverted(segments: Sequence[Segment], path: Path) -> None:
    """Write a FAISS inverted file (IVF, flat lists) over all cases.

    About sqrt(n) lists, centred by k-means on a sample spread evenly over the cases.
    """
    import faiss

    rows = sum(map(len, segments))
    dim = segments[0].vectors.shape[1]
    lists = max(1, round(rows**0.5))
    sample = np.unique(np.linspace(0, rows - 1, min(rows, 64 * lists)).astype(np.int64))
    inverted = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, lists)
    inverted.cp.seed = 1
    inverted.train(np.asarray(gather(segments, sample)))
    for segment in segments:
        for low in range(0, len(segment), _CHUNK):
            inverted.add(np.asarray(np.ascontiguousarray(segment.vectors[low : low + _CHUNK])))
    faiss.write_index(inverted, str(path))


def open_inverted(path: Path, rows: int, dim: int) -> Any:
    """Map the inverted file's lists; only its centres are read.

    Raises
    ------
    ValueError
        If the file is no inverted file over `rows` cases.
    """
    import faiss

    try:
        inverted = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read by FAISS ({error})") from error
    if not isinstance(inverted, faiss.IndexIVFFlat) or (inverted.ntotal, inverted.d) != (rows, dim):
        raise ValueError(f"{path} is no inverted file over {rows} cases of {dim} dimensions")
    return inverted


def inverted_search(
    inverted: Any, queries: NDArray[np.float32], k: int, nprobe: int, allowed: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """Numbers of the nearest cases in the `nprobe` nearest lists, int64 (m, k), -1 where too few were met."""
    faiss: Any = importlib.import_module("faiss")  # its stubs lack what its Python layer adds
    selector = None
    if allowed is not None:
        selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    nprobe = min(nprobe, inverted.nlist)
    parameters = faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
    # Where faiss.contrib.torch_utils was imported (pytorch-metric-learning does), `search` takes no parameters.
    search = getattr(inverted, "search_numpy", inverted.search)
    return np.asarray(search(queries, k, params=parameters)[1], dtype=np.int64)


def measure_recall(inverted: Any, segments: Sequence[Segment]) -> tuple[int, float]:
    """Smallest number of lists (a power of two) that finds 99 % of the true nearest, and what it finds.

    Asked with 200 of the cases themselves, moved a little, so that none finds only itself.
    """
    rows = sum(map(len, segments))
    chosen = np.unique(np.linspace(0, rows - 1, min(rows, _SAMPLE)).astype(np.int64))
    queries = gather(segments, chosen)
    spread = 0.1 * queries.std(axis=0, keepdims=True)
    queries = (queries + spread * np.random.default_rng(0).standard_normal(queries.shape)).astype(np.float32)
    truth = exact_search(queries, min(_K, rows), segments)[1]
    nprobe, recall = 1, 0.0
    while True:
        found = inverted_search(inverted, queries, truth.shape[1], nprobe, None)
        recall = float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(truth, found, strict=True)]))
        if recall >= _RECALL or nprobe >= inverted.nlist:
            return nprobe, recall
        nprobe *= 2
