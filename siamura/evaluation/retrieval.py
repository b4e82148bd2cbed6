"""How well an embedding finds like cases, and how it is spread, a query's own patient left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_choice, check_vectors, check_whole
from siamura.neighbours import Neighbours

from ._checks import as_units
from .intervals import bootstrap

Float = NDArray[np.float64]
BLOCK_CELLS = 2_000_000  # distances held at once: 16 MB


def embedding_quality(
    embeddings: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None, *,
    k: Sequence[int] = (1, 5, 15), metric: Literal["euclidean", "cosine"] = "euclidean",
    queries: int | None = 5000, draws: int = 2000, confidence: float = 0.95, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Measure retrieval, clustering and spread of an embedding.

    Parameters
    ----------
    embeddings : array of shape (N, dim), float
    labels : array of shape (N,)
    groups : array of shape (N,), optional
        The patient of each row: rows of the query's own patient are neither found nor counted. Default: only
        the query itself is left out.
    k : sequence of int
        Of the precisions at k.
    metric : {"euclidean", "cosine"}
        Of the retrieval and of the mean distances.
    queries : int or None
        At most so many rows ask, drawn without replacement; all rows are references. None: all ask.
    draws, confidence, seed
        Of the intervals: the queries' patients are drawn, the references stay. 0 draws for none.

    Returns
    -------
    DataFrame
        Index ``measure``; columns ``value, low, high``:

        - ``precision_at_1`` ...: share of the k nearest with the query's label (of all, where there are
          fewer);
        - ``map_at_r``: sum over the first R places of the precision at each hit, divided by R, the number of
          references with the query's label. With two labels it says little: read precision at k;
        - ``nmi``: normalised mutual information of labels and k-means clusters, as many as labels;
        - ``positive_distance``, ``negative_distance``: mean distance to references of the same label, of
          another;
        - ``alignment``: mean squared distance of same-label pairs, ``uniformity``: log of the mean of
          ``exp(-2 * squared distance)`` of all pairs, both with rows scaled to length 1. Lower is better.

        ``.attrs``: ``rows, patients, queries, lone`` (queries without any reference of their label, left out
        of the retrieval figures), ``draws``.

    References
    ----------
    Musgrave, Belongie and Lim, "A metric learning reality check", ECCV 2020 (MAP@R). Wang and Isola,
    "Understanding contrastive representation learning through alignment and uniformity", ICML 2020.

    Examples
    --------
    >>> found = embedding_quality([[0.0, 1], [0.1, 1], [1, 0], [1, 0.1]], [0, 0, 1, 1], k=(1,), draws=0)
    >>> found.loc[["precision_at_1", "map_at_r", "nmi"], "value"].round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    rows = check_vectors("embeddings", embeddings, least=2)
    check_choice("metric", metric, ("euclidean", "cosine"))
    places = np.asarray(k)
    if places.ndim != 1 or places.dtype.kind not in "iu" or not len(places) or places.min() < 1:
        raise ValueError(f"k is {k!r}; it must hold integers of at least 1, as in (1, 5, 15)")
    if queries is not None:
        check_whole("queries", queries)
    code = as_units(labels, len(rows), "labels")
    unit = as_units(groups, len(rows))
    rng = np.random.default_rng(seed)
    asking = np.arange(len(rows))
    if queries is not None and queries < len(rows):
        asking = np.sort(rng.choice(len(rows), queries, replace=False))
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit_rows = rows / np.where(length > 0, length, 1)

    top, bottom = _sums(rows, unit_rows, code, unit, asking, tuple(k), metric)
    names = [*(f"precision_at_{n}" for n in k), "map_at_r"]
    patients = int(unit.max()) + 1
    clusters = _clusters(rows, int(code.max()) + 1, seed)
    cells = np.zeros((patients, (int(code.max()) + 1) * (int(clusters.max()) + 1)))
    np.add.at(cells, (unit, code * (int(clusters.max()) + 1) + clusters), 1.0)

    def measures(counts: Float) -> dict[str, Float]:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = {
                name: (counts @ _by_unit(top[name], unit[asking], patients))
                / (counts @ _by_unit(bottom[name], unit[asking], patients))
                for name in top
            }
            return {
                **{name: ratio[name] for name in names},
                "nmi": _nmi((counts @ cells).reshape(len(counts), int(code.max()) + 1, -1)),
                "positive_distance": ratio["positive_distance"],
                "negative_distance": ratio["negative_distance"],
                "alignment": ratio["alignment"],
                "uniformity": np.log(ratio["uniformity"]),
            }

    found = bootstrap(measures, patients, draws, confidence, seed)
    frame = pd.DataFrame({"value": found.value, "low": found.low, "high": found.high})
    frame.index.name = "measure"
    frame.attrs.update(
        {
            "rows": len(rows),
            "patients": patients,
            "queries": len(asking),
            "lone": int((bottom["map_at_r"] == 0).sum()),
            "draws": draws,
        }
    )
    return frame


def _by_unit(values: Float, unit: NDArray[np.int64], units: int) -> Float:
    return np.bincount(unit, weights=values, minlength=units).astype(np.float64)


def _blocks(count: int, width: int) -> Iterator[slice]:
    step = max(1, BLOCK_CELLS // width)
    for start in range(0, count, step):
        yield slice(start, start + step)


def _sums(
    rows: Float,
    unit_rows: Float,
    code: NDArray[np.int64],
    unit: NDArray[np.int64],
    asking: NDArray[np.int64],
    ks: tuple[int, ...],
    metric: str,
) -> tuple[dict[str, Float], dict[str, Float]]:
    """Numerator and denominator of every measure for every query."""
    names = [*(f"precision_at_{n}" for n in ks), "map_at_r", "positive_distance", "negative_distance"]
    names += ["alignment", "uniformity"]
    top = {name: np.zeros(len(asking)) for name in names}
    bottom = {name: np.zeros(len(asking)) for name in names}
    square = (rows**2).sum(axis=1)
    held = Neighbours(unit_rows if metric == "cosine" else rows, groups=unit)
    near = held.search(held.rows[asking], max(ks), groups=unit[asking])[1]
    near_hits = ((code[near] == code[asking, None]) & (near >= 0)).cumsum(axis=1)
    for part in _blocks(len(asking), len(rows)):
        who = asking[part]
        on_sphere = np.clip(2 - 2 * unit_rows[who] @ unit_rows.T, 0, None)
        if metric == "cosine":
            distance = on_sphere / 2
        else:
            distance = np.sqrt(np.clip(square[who, None] + square - 2 * rows[who] @ rows.T, 0, None))
        allowed = unit[who, None] != unit
        same = (code[who, None] == code) & allowed
        other = allowed & ~same
        total, relevant = allowed.sum(axis=1), same.sum(axis=1)
        for name, mask, values in (
            ("positive_distance", same, distance),
            ("negative_distance", other, distance),
            ("alignment", same, on_sphere),
            ("uniformity", allowed, np.exp(-2 * on_sphere)),
        ):
            top[name][part] = np.where(mask, values, 0).sum(axis=1)
            bottom[name][part] = mask.sum(axis=1)
        # MAP@R ranks as many rows as have the label, half of all with two labels: no search for a few neighbours.
        order = np.argsort(np.where(allowed, distance, np.inf), axis=1, kind="stable")
        hits = np.take_along_axis(same, order, 1)
        found = hits.cumsum(axis=1)
        counted = relevant > 0  # a query whose label nobody else has cannot be answered
        for n in ks:
            places = np.minimum(n, total)
            right = near_hits[part, n - 1]
            top[f"precision_at_{n}"][part] = np.where(counted, right / np.maximum(places, 1), 0)
            bottom[f"precision_at_{n}"][part] = counted
        place = np.arange(1, len(rows) + 1)
        precision = np.where(hits & (place <= relevant[:, None]), found / place, 0).sum(axis=1)
        top["map_at_r"][part] = np.where(counted, precision / np.maximum(relevant, 1), 0)
        bottom["map_at_r"][part] = counted
    return top, bottom


def _clusters(rows: Float, count: int, seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans  # here, as scikit-learn takes a second to load

    fitted = KMeans(min(count, len(np.unique(rows, axis=0))), n_init=10, random_state=seed).fit(rows)
    return np.asarray(fitted.labels_, dtype=np.int64)


def _nmi(cells: Float) -> Float:
    """Normalised mutual information (by the arithmetic mean of the entropies) of each table of counts."""
    joint = cells / cells.sum(axis=(1, 2), keepdims=True)

    def entropy(share: Float) -> Float:
        return np.asarray(-(share * np.log(np.where(share > 0, share, 1))).sum(axis=-1))

    of_labels, of_clusters = entropy(joint.sum(axis=2)), entropy(joint.sum(axis=1))
    shared = of_labels + of_clusters - entropy(joint.reshape(len(joint), -1))
    mean = (of_labels + of_clusters) / 2
    return np.asarray(np.where(mean > 0, np.clip(shared, 0, None) / np.where(mean > 0, mean, 1), 1.0))
