"""Is a heat map right? Pointing game and box IoU against true boxes of lesions, with intervals over patients."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .boxes import box_iou, centre_box, find_boxes, peak_of
from .heat_map import Explanation
from .inputs import need_columns

__all__ = ["hits", "localisation", "mean_place", "summary"]


CORNERS = ("x0", "y0", "x1", "y1")


def hits(point: tuple[float, float] | None, boxes: ArrayLike, tolerance: float = 0.0) -> bool:
    """Say whether a point lies in one of the boxes: one round of the pointing game.

    Parameters
    ----------
    point : (x, y) or None
        None never hits.
    boxes : (n, 4)
        x0, y0, x1, y1.
    tolerance : float
        Pixels by which each box is widened.

    References
    ----------
    Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016, section 4.1.

    Examples
    --------
    >>> hits((3, 3), [[0, 0, 4, 4]]), hits((5, 3), [[0, 0, 4, 4]]), hits((5, 3), [[0, 0, 4, 4]], tolerance=2)
    (True, False, True)
    """
    if point is None:
        return False
    x0, y0, x1, y1 = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
    x, y = point
    t = tolerance
    return bool(((x0 - t <= x) & (x <= x1 + t) & (y0 - t <= y) & (y <= y1 + t)).any())


def localisation(
    maps: Iterable[Explanation | ArrayLike],
    table: pd.DataFrame,
    boxes: pd.DataFrame,
    *,
    tolerance: float = 0.0,
    threshold: float = 0.2,
) -> pd.DataFrame:
    """Compare heat maps with the true boxes of lesions, beside two baselines that see no map.

    The first baseline points at the image's middle, the second at the mean place of other patients' lesions
    (`mean_place`). The box of both is the map's own box moved there: only the place differs. (Where the map has
    no box, it is as large as the first lesion.)

    Parameters
    ----------
    maps : iterable of Explanation or float (H, W)
        One for each row of `table`, in its order: of `explain_views`, or maps of any other method over the
        original's pixels, at least 0. An iterator is read one map at a time.
    table : DataFrame
        Views with ``path`` and ``patient``; each must have a box. Keep those that the model finds, for the pointing
        game on positives found.
    boxes : DataFrame
        Of `siamura.studies.read_boxes`, which reads your own file and the ``lesions.csv`` of
        `siamura.make_phantoms`: ``path``, ``x0``, ``y0``, ``x1``, ``y1`` in the file's pixels, one row a lesion,
        and perhaps ``kind``.
    tolerance : float
        Pixels by which a lesion's box is widened for the pointing game.
    threshold : float
        Share of the maximum that the box of a map that is an array encloses; an Explanation has its own.

    Returns
    -------
    DataFrame
        One row a view: path, patient, kind (of the first lesion, where `boxes` tells it), hit, iou, area (of the
        map's box, as a share of the image), centre_hit, centre_iou, mean_hit, mean_iou, and score (NaN of arrays).
        Hand it to `summary`.

    Raises
    ------
    ValueError
        If a column is missing, a view of `table` has no box, or there are more or fewer maps than views.

    Examples
    --------
    >>> table = pd.DataFrame({"path": ["a.png", "b.png"], "patient": ["a", "b"]})
    >>> boxes = pd.DataFrame({"path": ["a.png", "b.png"], "x0": 0, "y0": 0, "x1": [2, 3], "y1": [2, 3]})
    >>> maps = np.zeros((2, 10, 10))
    >>> maps[:, 1, 1] = 1.0
    >>> localisation(maps, table, boxes)[["hit", "centre_hit"]].mean().tolist()
    [1.0, 0.0]
    """
    need_columns(boxes, "boxes", ("path", *CORNERS))
    need_columns(table, "table", ("path", "patient"))
    of_file = {os.path.abspath(str(path)): rows for path, rows in boxes.groupby("path")}
    without = [str(path) for path in table["path"] if os.path.abspath(str(path)) not in of_file]
    if without:
        raise ValueError(
            f"{len(without)} of {len(table)} views of table have no box in boxes, the first is {without[0]}; keep "
            'table[table["path"].isin(boxes["path"])] alone.'
        )
    found: list[dict[str, Any]] = []
    sizes: list[tuple[float, ...]] = []
    trues: list[Any] = []
    given = iter(maps)
    for row in table.itertuples():
        one = next(given, None)
        if one is None:
            raise ValueError(f"maps holds {len(found)} maps for {len(table)} views; give one for each.")
        rows = of_file[os.path.abspath(str(row.path))]
        true = rows[list(CORNERS)].to_numpy(np.float64)
        (height, width), peak, own, score = _measured(one, threshold)
        box = own[:1] if len(own) else true[:1]
        w, h = box[0, 2] - box[0, 0], box[0, 3] - box[0, 1]
        found.append(
            {
                "path": row.path,
                "patient": row.patient,
                "kind": rows["kind"].iloc[0] if "kind" in rows else "",
                "hit": float(hits(peak, true, tolerance)),
                "iou": float(box_iou(own, true).max(initial=0.0)),
                "area": float(w * h / (width * height)) if len(own) else 0.0,
                "centre_hit": float(hits((width / 2, height / 2), true, tolerance)),
                "centre_iou": float(box_iou(centre_box(height, width, (w, h)), true).max(initial=0.0)),
                "score": score,
            }
        )
        sizes.append((width, height, w, h))
        trues.append(true)
    if next(given, None) is not None:
        raise ValueError(f"maps holds more than {len(table)} maps; give one for each view of table.")
    columns = ["path", "patient", "kind", "hit", "iou", "area", "centre_hit", "centre_iou", "score"]
    out = pd.DataFrame(found, columns=columns)
    hit, iou = mean_place(
        trues, np.array(sizes).reshape(-1, 4), out["patient"].to_numpy(), tolerance=tolerance
    )
    return out.assign(mean_hit=hit, mean_iou=iou)


def _measured(
    one: Explanation | ArrayLike, threshold: float
) -> tuple[tuple[int, int], tuple[float, float] | None, NDArray[Any], float]:
    """Height and width, warmest point, boxes and score of a map."""
    if isinstance(one, Explanation):
        height, width = one.image.shape
        return (height, width), one.peak, one.boxes, one.score
    heat = np.asarray(one)
    own = find_boxes(heat, threshold)
    return (heat.shape[0], heat.shape[1]), peak_of(heat), own, float("nan")


def mean_place(
    boxes: Sequence[ArrayLike], sizes: ArrayLike, patients: ArrayLike, *, tolerance: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Point at the mean place of other patients' lesions: a baseline that knows where lesions tend to lie.

    Parameters
    ----------
    boxes : sequence of (n, 4)
        The true boxes of each view: x0, y0, x1, y1 in its pixels.
    sizes : (N, 4)
        Width and height of each view, and of the box that is placed there.
    patients : (N,)
        A patient's own lesions do not count.
    tolerance : float
        Pixels by which a lesion's box is widened for the pointing game.

    Returns
    -------
    float64 (N,), float64 (N,)
        Hits, and the best overlap of the placed box. NaN where no other patient has a lesion.

    Examples
    --------
    >>> hit, iou = mean_place(
    ...     [[[4, 4, 6, 6]], [[4, 4, 6, 6]], [[0, 0, 2, 2]]], [[10, 10, 2, 2]] * 3, ["a", "b", "c"]
    ... )
    >>> hit.tolist(), iou.tolist()
    ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    """
    names, size = np.asarray(patients), np.asarray(sizes, dtype=np.float64).reshape(-1, 4)
    true = [np.asarray(one, dtype=np.float64).reshape(-1, 4) for one in boxes]
    middles = [(one[:, :2] + one[:, 2:]) / 2 / size[i, :2] for i, one in enumerate(true)]
    hit, iou = np.full(len(true), np.nan), np.full(len(true), np.nan)
    for i, (one, (width, height, w, h)) in enumerate(zip(true, size, strict=True)):
        others = [middle for j, middle in enumerate(middles) if names[j] != names[i] and len(middle)]
        if not others:
            continue
        x, y = np.concatenate(others).mean(axis=0) * (width, height)
        hit[i] = float(hits((x, y), one, tolerance))
        placed = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, [width, height] * 2)
        iou[i] = float(box_iou(placed, one).max(initial=0.0))
    return hit, iou


def summary(
    views: pd.DataFrame, columns: Sequence[str] | None = None, *, against: dict[str, str] | None = None,
    draws: int = 1000, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Means over views, with 95 % intervals from drawing patients.

    Parameters
    ----------
    views : DataFrame
        One row a view: ``patient``, and figures.
    columns : sequence of str, optional
        Which; by default every column of floats.
    against : dict of str to str, optional
        Differences wanted, as column to baseline. By default ``x`` against ``centre_x``, ``mean_x`` and
        ``random_x`` wherever both are there.
    draws : int
        Bootstrap draws of patients.
    seed : int

    Returns
    -------
    DataFrame
        Index ``metric``; value, low, high. Its ``attrs`` tell views, patients and draws. Of one patient there is no
        interval: low and high are NaN.

    Raises
    ------
    ValueError
        If there is no view, no such column, nothing to summarise, or a patient is missing.

    Examples
    --------
    >>> views = pd.DataFrame({"patient": ["a", "a", "b"], "hit": [1.0, 1.0, 0.0], "centre_hit": 0.0})
    >>> summary(views)["value"].round(2).to_dict()
    {'hit': 0.67, 'centre_hit': 0.0, 'hit - centre_hit': 0.67}
    """
    if not len(views):
        raise ValueError("views is empty; no view has a lesion of known place, or none was found.")
    if draws < 1:
        raise ValueError(f"draws={draws!r} must be at least 1.")
    chosen = list(views.select_dtypes("float").columns) if columns is None else list(columns)
    if not chosen:
        raise ValueError("views has no column of floats to summarise; name some with columns=.")
    if against is None:
        known = [(name, f"{kind}_{name}") for kind in ("centre", "mean", "random") for name in chosen]
        pairs = [(name, other) for name, other in known if other in chosen]
    else:
        pairs = list(against.items())
    need_columns(
        views, "views", ("patient", *dict.fromkeys([*chosen, *(name for pair in pairs for name in pair)]))
    )
    codes, patients = pd.factorize(views["patient"])
    if (codes < 0).any():
        raise ValueError(f"views has no patient in row {int((codes < 0).argmax())}; give one for every view.")
    figures = {name: views[name].to_numpy(np.float64) for name in chosen}
    for name, other in pairs:
        figures[f"{name} - {other}"] = (views[name] - views[other]).to_numpy(np.float64)
    values = np.stack(list(figures.values()))
    sums = np.stack([np.bincount(codes, weights=row, minlength=len(patients)) for row in values])
    counts = np.bincount(codes, minlength=len(patients))
    drawn = np.random.default_rng(seed).multinomial(
        len(patients), np.full(len(patients), 1 / len(patients)), size=draws
    )
    means = (drawn @ sums.T) / (drawn @ counts)[:, None]
    low, high = (
        np.percentile(means, [2.5, 97.5], axis=0) if len(patients) > 1 else np.full((2, len(values)), np.nan)
    )
    out = pd.DataFrame(
        {"value": values.mean(axis=1), "low": low, "high": high}, index=pd.Index(list(figures), name="metric")
    )
    out.attrs.update(views=len(views), patients=len(patients), draws=draws)
    return out
