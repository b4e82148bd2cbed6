"""Nearest neighbours of embeddings, by one rule for heads, case index, evaluation and training.

The search is exact unless an approximate kind is asked for by name. Whatever finds the candidates, distances
are measured again in double precision, and rows of the query's own group (its patient) are left out.
"""

from __future__ import annotations

import logging
import math
import os
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._exact_search import as_groups, as_mask, as_rows, ask, measure, multiply, scan
from ._faiss import breadths, build, read, to_device
from ._files import atomic_path
from ._validation import check_choice, check_whole

__all__ = ["KINDS", "Neighbours", "nearest"]

log = logging.getLogger(__name__)

#: Kinds of search by name; any other text is a factory string of FAISS.
KINDS = ("exact", "hnsw", "ivf")

_SPARE = 16  # candidates beyond k that single precision might have put behind the k-th
_WIDER = 8  # times as many where these were not enough
_MOST = 8_000_000_000  # numbers to measure again beyond which it is left at that: some ten seconds
_FEW = 20  # queries from 2 below which a pass over the rows in NumPy is faster than FAISS
_RELEARN_AT = 4  # times the rows that lists or codes were learned from: new rows may lie elsewhere
_MEASURE_AT = 1.25  # times the rows for which the recall was measured
_RECALL, _K, _SAMPLE = 0.99, 15, 200  # what approximate kinds aim at, of how many neighbours and queries
_LOW = 0.95  # recall below which a warning says so


class Neighbours:
    """Rows that are held and searched.

    Parameters
    ----------
    rows : array of shape (N, dim), float32
        Not copied where it is a contiguous float32 array; it must not be changed afterwards.
    groups : array of shape (N,), int64, optional
        A code for the group (the patient) of each row; -1 for a row of no group.
    kind : {"exact", "hnsw", "ivf"} or str
        How neighbours are found; other text goes to ``faiss.index_factory``. All kinds but "exact" are
        approximate: their recall is measured when they are built, kept as `recall` and logged.
    device : {"cpu", "cuda", "auto"}
        Where FAISS searches; "cuda" needs a FAISS built for GPUs, "auto" takes a GPU if FAISS has one.
    kept : path or array of bytes, optional
        What `save` or `to_bytes` kept of an approximate kind, for these very rows: nothing is built.
    recall : float, optional
        The recall that goes with `kept`; measured anew where it is missing.

    Attributes
    ----------
    rows : float32 (N, dim)
    groups : int64 (N,) or None
    kind : str
    recall : float or None
        Share of the 15 true nearest rows that the approximate kind finds, measured with 200 of the rows moved
        by a tenth of their spread; None for the exact kind.

    Raises
    ------
    ValueError
        For rows that are not finite or not two-dimensional, groups of another length, an unknown kind, a GPU
        that is not there, or `kept` that does not belong to the rows.

    Notes
    -----
    Exact: a float32 matrix product proposes k + 16 candidates, whose distances are measured again in float64.
    Where rounding could hide a nearer row behind the last candidate, more are measured, at last all (unless
    this would take minutes: the log then says so). Of equal distances the first row comes first.

    The search changes nothing, so threads may share one object; `add` must not run beside a search.

    Examples
    --------
    >>> rows = np.array([[0, 0], [1, 0], [3, 0]], dtype=np.float32)
    >>> held = Neighbours(rows, groups=[7, 8, 8])
    >>> held.search([[0.75, 0]], k=2)
    (array([[0.25, 0.75]]), array([[1, 0]]))
    >>> held.search([[0.75, 0]], k=2, groups=[8])  # rows 1 and 2 are of the query's own patient
    (array([[0.75,  inf]]), array([[ 0, -1]]))
    """

    def __init__(
        self,
        rows: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        kind: str = "exact",
        device: Literal["cpu", "cuda", "auto"] = "cpu",
        kept: str | os.PathLike[str] | NDArray[np.uint8] | None = None,
        recall: float | None = None,
    ) -> None:
        if not isinstance(kind, str):
            raise ValueError(
                f"kind={kind!r} is unknown; choose {', '.join(KINDS)}, or a faiss factory string."
            )
        check_choice("device", device, ("cpu", "cuda", "auto"))
        self.rows = as_rows(rows, "rows")
        self.groups = None if groups is None else as_groups(groups, len(self.rows), "groups")
        self.kind, self.device, self.recall = kind, device, None
        self._prepare()
        if kept is None or kind == "exact":
            self._build()
            return
        self._index, self._gpu = to_device(read(kept, kind, self.rows.shape), device, kind)
        self._learned_from = self._measured_for = len(self.rows)
        self.recall = self._measure_recall() if recall is None else float(recall)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Dimensions of a row."""
        return int(self.rows.shape[1])

    def add(self, rows: ArrayLike, groups: ArrayLike | None = None) -> None:
        """Add rows behind those held.

        Parameters
        ----------
        rows : array of shape (n, dim), float32
        groups : array of shape (n,), int64, optional
            On every call or on none.

        Raises
        ------
        ValueError
            For other dimensions, or groups that are missing or not expected.
        """
        added = as_rows(rows, "rows", self.dim)
        if (groups is None) != (self.groups is None):
            raise ValueError(
                f"groups is {'missing' if groups is None else 'given'}, but the rows held "
                f"{'have them' if groups is None else 'have none'}; give groups for all rows or for none."
            )
        if groups is not None and self.groups is not None:
            self.groups = np.concatenate([self.groups, as_groups(groups, len(added), "groups")])
        self.rows = np.concatenate([self.rows, added])
        self._prepare()
        learned = self.kind not in ("exact", "hnsw")
        if learned and len(self.rows) >= _RELEARN_AT * self._learned_from:
            self._build()
        elif self._index is not None:
            self._index.add(added if self.kind != "exact" else self._near[-len(added) :])
            if self.recall is not None and len(self.rows) >= _MEASURE_AT * self._measured_for:
                self.recall = self._measure_recall()

    def to_bytes(self) -> NDArray[np.uint8] | None:
        """What was built for an approximate kind, uint8 (bytes,), for `kept`; None for the exact kind."""
        if self.kind == "exact":
            return None
        held = self._index if self._gpu is None else faiss.index_gpu_to_cpu(self._index)
        return np.asarray(faiss.serialize_index(held))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what `to_bytes` gives to a file at once.

        Raises
        ------
        ValueError
            For the exact kind, of which there is nothing to keep.
        """
        content = self.to_bytes()
        if content is None:
            raise ValueError("kind='exact' builds nothing that could be kept; keep the rows.")
        with atomic_path(path) as beside:
            content.tofile(beside)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None, "_gpu": None, "_bytes": self.to_bytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # joblib may hand over memory maps, which FAISS refuses once faiss.contrib.torch_utils is imported.
        plain = {name: np.asarray(v) if isinstance(v, np.memmap) else v for name, v in state.items()}
        kept = plain.pop("_bytes")
        self.__dict__.update(plain)
        if kept is not None:
            self._index, self._gpu = to_device(read(kept, self.kind, self.rows.shape), self.device, self.kind)
        elif self.device != "cpu":
            self._build()

    def _prepare(self) -> None:
        """Squared lengths, and rows to multiply: about their mean where that lies far from the origin."""
        # A matrix product keeps 7 digits of the rows' lengths: small distances far from the origin are lost.
        self._centre, self._near = None, self.rows
        self._squares = np.einsum("nd,nd->n", self.rows, self.rows)
        if len(self.rows):
            mean = self.rows.mean(axis=0, dtype=np.float64)
            # Where rounding hides the spread, it is small enough.
            spread = float(self._squares.mean(dtype=np.float64)) - float(mean @ mean)
            if float(mean @ mean) > 3 * spread:
                self._centre = mean
                self._near = (self.rows - mean).astype(np.float32)
                self._squares = np.einsum("nd,nd->n", self._near, self._near)
        self._longest = float(self._squares.max(initial=0.0))
        self._sizes = None if self.groups is None else np.unique(self.groups, return_counts=True)

    def _build(self) -> None:
        self._index, self._gpu = None, None
        self._learned_from = self._measured_for = len(self.rows)
        if self.kind != "exact":
            self._index, self._gpu = to_device(build(self.rows, self.kind), self.device, self.kind)
            self.recall = self._measure_recall()
        elif self.device != "cpu":
            self._index, self._gpu = to_device(build(self._near, "exact"), self.device, "exact")
            if self._gpu is None:  # no GPU, and none demanded: the rows alone do
                self._index = None

    def _measure_recall(self) -> float:
        """Share of the true nearest that are found; graph or lists are searched more widely up to 99 %."""
        self._measured_for = len(self.rows)
        if not len(self.rows):
            return 1.0
        chosen = np.unique(np.linspace(0, len(self.rows) - 1, _SAMPLE).astype(np.int64))
        points = self.rows[chosen]
        moved = 0.1 * points.std(axis=0) * np.random.default_rng(0).standard_normal(points.shape)
        points = (points + moved).astype(np.float32)
        k = min(_K, len(self.rows))
        truth = self._exact(points, k, None, None)[1]
        recall = 0.0
        for _ in breadths(self._index, self.kind):
            found = np.asarray(self._index.search(points, k)[1])
            recall = float((found[:, :, None] == truth[:, None, :]).any(axis=1).mean())
            if recall >= _RECALL:
                break
        log.log(
            logging.WARNING if recall < _LOW else logging.INFO,
            "kind=%r finds %.1f %% of the %d nearest among %s rows, asked with %d of them%s",
            self.kind,
            100 * recall,
            k,
            f"{len(self.rows):,}",
            len(points),
            "; kind='exact' finds all." if recall < _LOW else ".",
        )
        return recall

    def search(
        self,
        queries: ArrayLike,
        k: int,
        *,
        groups: ArrayLike | None = None,
        among: NDArray[np.bool_] | ArrayLike | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Find the k nearest rows of each query.

        Parameters
        ----------
        queries : array of shape (m, dim), float32
        k : int
        groups : array of shape (m,), int64, optional
            The group of each query, whose rows are not found; -1 for a query of no group.
        among : bool (N,), or whole numbers, optional
            The rows that may be found: a mask, or their positions. Such a search is exact, whatever the kind.

        Returns
        -------
        distances : ndarray of shape (m, k), float64
            Euclidean, ascending; infinity where there are fewer rows.
        positions : ndarray of shape (m, k), int64
            Of the rows; -1 where there are fewer.

        Raises
        ------
        ValueError
            For a wrong shape, a value that is not finite, a `k` below 1, or groups where the rows have none.
        """
        points = as_rows(queries, "queries", self.dim)
        k = check_whole("k", k)
        own = None if groups is None else as_groups(groups, len(points), "groups")
        if own is not None and self.groups is None:
            raise ValueError("groups is given, but the rows held have none; give Neighbours(rows, groups).")
        mask = None if among is None else as_mask(among, len(self.rows))
        within = min(k, len(self.rows))
        distances = np.full((len(points), k), np.inf)
        positions = np.full((len(points), k), -1, dtype=np.int64)
        if within and len(points):
            how = self._approximate if self.kind != "exact" and mask is None else self._exact
            distances[:, :within], positions[:, :within] = how(points, within, own, mask)
        return distances, positions

    def _exact(
        self,
        points: NDArray[np.float32],
        k: int,
        own: NDArray[np.int64] | None,
        mask: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        distances, positions, unsure = self._attempt(points, k, k + _SPARE, own, mask)
        for wide in (_WIDER * (k + _SPARE), len(self)):
            if not len(unsure):
                break
            if len(unsure) * wide * self.dim > _MOST:
                log.info("%d of %d queries have more rows at nearly one distance than are compared; any of "
                         "these may be among their nearest.", len(unsure), len(points))  # fmt: skip
                break
            again = None if own is None else own[unsure]
            far, row, left = self._attempt(points[unsure], k, wide, again, mask)
            distances[unsure], positions[unsure], unsure = far, row, unsure[left]
        return distances, positions

    def _attempt(
        self,
        points: NDArray[np.float32],
        k: int,
        wide: int,
        own: NDArray[np.int64] | None,
        mask: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Measure `wide` candidates; and return for which queries a nearer row may stand behind them."""
        near = points if self._centre is None else (points - self._centre).astype(np.float32)
        squares = np.einsum("nd,nd->n", near, near, dtype=np.float64)
        wide = min(wide, len(self.rows))
        if len(points) < _FEW and (mask is not None or len(points) > 1):
            found, last = scan(near, wide, self._near, self._squares, self.groups, own, mask)
            last += squares
        else:
            gpu = self._index if self.kind == "exact" else None
            found, last = multiply(near, wide, self._near, self.groups, own, mask, gpu, self._sizes)
        distances, positions = measure(self.rows, points, found, k)
        # Whatever is no candidate lies beyond the last of them, but for the rounding of the product.
        rounding = 2.0**-22 * math.sqrt(self.dim) * (squares + self._longest)
        return distances, positions, np.flatnonzero(distances[:, -1] ** 2 > last - rounding)

    def _approximate(
        self,
        points: NDArray[np.float32],
        k: int,
        own: NDArray[np.int64] | None,
        mask: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Ask the graph or the lists; where they hold too few rows of other groups, compare with all."""
        found, _ = ask(
            self._index.search, points, min(k + _SPARE, len(self)), len(self), self.groups, own, self._sizes
        )
        distances, positions = measure(self.rows, points, found, k)
        short = np.flatnonzero(positions[:, -1] < 0)
        if len(short):
            again = None if own is None else own[short]
            distances[short], positions[short] = self._exact(points[short], k, again, mask)
        return distances, positions


def nearest(
    rows: ArrayLike,
    queries: ArrayLike,
    k: int,
    *,
    groups: ArrayLike | None = None,
    query_groups: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find the k nearest rows of each query once, exactly: `Neighbours.search` of rows that are not kept.

    Parameters
    ----------
    rows : array of shape (N, dim), float32
    queries : array of shape (m, dim), float32
    k : int
    groups, query_groups : arrays of shape (N,) and (m,), int64, optional
        The patients' codes; rows of the query's own patient are not found.

    Returns
    -------
    distances : ndarray of shape (m, k), float64
    positions : ndarray of shape (m, k), int64

    Examples
    --------
    >>> nearest([[0.0], [1.0], [3.0]], [[0.75]], 2)
    (array([[0.25, 0.75]]), array([[1, 0]]))
    """
    return Neighbours(rows, groups).search(queries, k, groups=query_groups)
