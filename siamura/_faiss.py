"""FAISS's indexes: built, read, widened, put on a GPU."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

__all__ = ["breadths", "build", "read", "to_device"]

_ROWS_A_LIST = 39  # FAISS warns below this many training rows for each list of an inverted file
_EF = (32, 64, 128, 256)  # how widely a graph is searched
_LISTS = 4  # at most one of so many lists is searched: beyond that, comparing with all rows is as fast


def build(rows: NDArray[np.float32], kind: str) -> Any:
    """Return a FAISS index of `kind` ("exact", "hnsw", "ivf", or a factory string) that holds `rows`.

    Raises
    ------
    ValueError
        Where FAISS does not know the factory string, or the rows are too few to learn from.
    """
    number, dim = rows.shape
    built: Any
    if kind == "exact":
        built = faiss.IndexFlatL2(dim)
    elif kind == "ivf":
        lists = max(1, min(round(4 * math.sqrt(number)), number // _ROWS_A_LIST))
        built = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, lists)
    elif kind == "hnsw":
        built = faiss.IndexHNSWFlat(dim, 16)
    else:
        try:
            built = faiss.index_factory(dim, kind)
        except RuntimeError as error:
            raise ValueError(
                f"index={kind!r} is unknown; choose exact, hnsw, ivf, or a faiss factory string ({error})."
            ) from error
    try:
        if not built.is_trained:
            built.train(rows)
        built.add(rows)
    except RuntimeError as error:
        raise ValueError(
            f"index={kind!r} cannot be built of {number} rows ({error}); choose 'exact'."
        ) from error
    return built


def breadths(index: Any, kind: str) -> Iterator[None]:
    """Have the index searched more and more widely: its graph, or its lists; once for a factory string."""
    if kind == "hnsw":
        for index.hnsw.efSearch in _EF:
            yield
    elif kind == "ivf":
        index.nprobe = 1
        while True:
            yield
            if 2 * index.nprobe > max(16, index.nlist // _LISTS):
                return
            index.nprobe = min(2 * index.nprobe, index.nlist)
            if index.nprobe == index.nlist:
                yield
                return
    else:
        yield


def read(kept: str | os.PathLike[str] | NDArray[np.uint8], kind: str, shape: tuple[int, ...]) -> Any:
    """Return a FAISS index from a file or from bytes, if it is of this kind, over so many rows.

    Raises
    ------
    ValueError
        Where it cannot be read, or is another.
    """
    name = "what was kept" if isinstance(kept, np.ndarray) else os.fspath(kept)
    try:
        if isinstance(kept, np.ndarray):
            index = faiss.deserialize_index(np.ascontiguousarray(kept, dtype=np.uint8))
        else:
            index = faiss.read_index(name)
    except (RuntimeError, MemoryError) as error:
        raise ValueError(
            f"{name} cannot be read by FAISS ({error}); build it again from the rows."
        ) from error
    wanted: Any = {"exact": faiss.IndexFlat, "hnsw": faiss.IndexHNSWFlat, "ivf": faiss.IndexIVFFlat}
    if not isinstance(index, wanted.get(kind, faiss.Index)) or (index.ntotal, index.d) != tuple(shape):
        raise ValueError(
            f"{name} holds a {type(index).__name__} over {index.ntotal} rows of {index.d} numbers, not kind="
            f"{kind!r} over {shape[0]} rows of {shape[1]}; build it again from the rows."
        )
    return index


def to_device(built: Any, device: str, kind: str) -> tuple[Any, Any | None]:
    """Return the index where it is to search, and the GPU's resources (None on the CPU).

    Raises
    ------
    ValueError
        Where a GPU is asked for and FAISS sees none.
    """
    gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    if device == "cuda" and not gpus:
        raise ValueError(
            "device='cuda', but this faiss sees no GPU; install a faiss built for GPUs, or use device='cpu'."
        )
    if device == "cpu" or not gpus or kind == "hnsw":
        return built, None
    gpu = faiss.StandardGpuResources()
    return faiss.index_cpu_to_gpu(gpu, 0, built), gpu
