"""The neighbours of rows that are held: faiss's indexes, on the CPU or a GPU, and exact distances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._keys import own_counts, positions

ROWS_A_LIST = 39  # faiss warns below this many training rows for each list of an inverted file


def build(rows: NDArray[np.float32], kind: str, k: int) -> Any:
    """Return a faiss index of `kind` ("exact", "ivf", "hnsw", or a factory string) that holds `rows`.

    Raises
    ------
    ValueError
        Where faiss does not know the factory string.
    """
    import faiss

    rows = np.asarray(
        rows
    )  # no memory map: faiss.contrib.torch_utils, once imported, takes plain arrays alone
    number, dim = rows.shape
    built: Any
    if kind == "exact":
        built = faiss.IndexFlatL2(dim)
    elif kind == "ivf":
        lists = max(1, min(round(4 * math.sqrt(number)), number // ROWS_A_LIST))
        built = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, lists)
        built.nprobe = min(lists, max(16, lists // 16))
    elif kind == "hnsw":
        built = faiss.IndexHNSWFlat(dim, 16)
        built.hnsw.efSearch = max(32, 2 * k)
    else:
        try:
            built = faiss.index_factory(dim, kind)
        except RuntimeError as error:
            raise ValueError(
                f"index is {kind!r}; it must be auto, exact, ivf, hnsw or a faiss factory string ({error})"
            ) from error
    if not built.is_trained:
        built.train(rows)
    built.add(rows)
    return built


def to_device(built: Any, device: str, kind: str) -> tuple[Any, Any | None]:
    """Return the index where it is to search, and the GPU's resources (None on the CPU).

    Raises
    ------
    ValueError
        Where a GPU is asked for and faiss sees none.
    """
    import faiss

    gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    if device == "cuda" and not gpus:
        raise ValueError(
            "device is 'cuda', but this faiss sees no GPU; install a faiss built for GPUs, "
            "or use device='cpu'"
        )
    if device == "cpu" or not gpus or kind == "hnsw":
        return built, None
    gpu = faiss.StandardGpuResources()
    return faiss.index_cpu_to_gpu(gpu, 0, built), gpu


def nearest(
    index: Any,
    points: NDArray[np.float32],
    k: int,
    held: NDArray[Any] | None,
    own: NDArray[Any] | None,
) -> NDArray[np.int64]:
    """Return the k nearest rows of each point, -1 where there are fewer.

    Parameters
    ----------
    index : faiss index
    points : float32 (N, dim)
    k : int
    held, own : arrays of shape (rows,) and (N,), optional
        The patient of each row held and of each point: rows of the point's own patient are left out.
    """
    points = np.asarray(points)
    row = np.full((len(points), k), -1, dtype=np.int64)
    if own is None or held is None:
        found = min(k, index.ntotal)
        row[:, :found] = index.search(points, found)[1]
        return row
    reference, query = positions(held, own)
    # A patient with g rows can fill g places at most, so k + g candidates always hold k others. Queries
    # are taken in order of that need, by powers of two: one patient with many views costs only herself.
    need = k + own_counts(reference, query)
    ceiling = np.minimum(k + 2 ** np.ceil(np.log2(np.maximum(need - k, 1))).astype(np.int64), index.ntotal)
    for size in np.unique(ceiling):
        some = np.flatnonzero(ceiling == size)
        near = index.search(points[some], int(size))[1]
        allowed = (near >= 0) & (reference[near] != query[some, None])
        keep = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
        near = np.where(np.take_along_axis(allowed, keep, 1), np.take_along_axis(near, keep, 1), -1)
        row[some, : near.shape[1]] = near
    return row


def measure(
    rows: NDArray[np.float32], points: NDArray[np.float32], row: NDArray[np.int64], *, cosine: bool
) -> NDArray[np.float64]:
    """Distances of what was found, anew: faiss's come from a matrix product, wrong near zero."""
    out = np.empty(row.shape)
    block = max(1, 4_000_000 // max(1, row.shape[1] * points.shape[1]))
    for start in range(0, len(points), block):
        part = slice(start, start + block)
        difference = rows[row[part]] - points[part, None, :]
        exact = np.einsum("nkd,nkd->nk", difference, difference, dtype=np.float64)
        far = exact / 2 if cosine else np.sqrt(exact)
        out[part] = np.where(row[part] < 0, np.inf, far)
    return out
