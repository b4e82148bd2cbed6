"""Are a run's heat maps right? Measured on fresh phantoms, or on validation views with boxes of one's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from siamura._names import PARTS
from siamura.explanation import (
    HeadLogit,
    explain,
    explain_views,
    faithfulness,
    hits,
    localisation,
    randomised_weights,
    summary,
)
from siamura.inference import Predictor
from siamura.pixels import read_image
from siamura.report.tables import RESEARCH
from siamura.studies import read_boxes, read_mura

from ._settings import parts_of
from .data import cache_folder, phantoms_for
from .folder import Run
from .metrics import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from siamura.explanation import Explanation

__all__ = ["explanation_figures", "explanation_table"]

#: Metric, and what the table calls it.
_PLACES = {
    "hit": "pointing game: the warmest pixel lies on the lesion",
    "centre_hit": "baseline: the middle of the image",
    "hit - centre_hit": "difference",
    "mean_hit": "baseline: the mean place of other patients' lesions",
    "hit - mean_hit": "difference",
    "iou": "IoU of the box with the lesion's",
    "centre_iou": "baseline: the same box in the middle",
    "iou - centre_iou": "difference",
    "mean_iou": "baseline: the same box at the mean place of other patients' lesions",
    "iou - mean_iou": "difference",
    "area": "share of the image in the box",
}
_RESTS = {
    "deletion": "area under deletion (low is good)",
    "random_deletion": "baseline: the map's cells in random order",
    "centre_deletion": "baseline: from the middle outwards",
    "deletion - random_deletion": "difference from random",
    "deletion - centre_deletion": "difference from the middle",
    "insertion": "area under insertion (high is good)",
    "random_insertion": "baseline: the map's cells in random order",
    "centre_insertion": "baseline: from the middle outwards",
    "insertion - random_insertion": "difference from random",
    "insertion - centre_insertion": "difference from the middle",
}


def explanation_figures(
    run: Run,
    *,
    boxes: str | os.PathLike[str] | pd.DataFrame | None = None,
    seed: int = 1001,
    views: int = 300,
    curves: int = 60,
    shuffled: int = 20,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **options: Any,
) -> dict[str, pd.DataFrame]:
    """Explain the abnormal views that a run's MLP head finds, and compare the maps with the true boxes of lesions.

    Parameters
    ----------
    run : Run
        A finished run.
    boxes : path or DataFrame, optional
        Boxes of lesions on the run's own data, as `siamura.studies.read_boxes` reads them: the run's validation
        views with a box are explained. By default fresh phantoms are drawn.
    seed : int
        Of the phantoms; another than that of the run's own.
    views : int
        Phantoms drawn, normal ones included.
    curves : int
        Images found on which deletion and insertion are measured, spread over the patients.
    shuffled : int
        Images found, of different patients, on which the weights are shuffled.
    cache : path, optional
        Where the phantoms are kept; by default where the run's were.
    progress : bool
        Show bars.
    **options
        For `siamura.explain`: method, layer, threshold, ...

    Returns
    -------
    dict of str to DataFrame
        ``places``, ``rests`` and ``shuffled``: one row an image, with its patient, for
        `siamura.explanation.summary`. The ``attrs`` of each tell root, seed, views, patients, lesions (images that
        show one) and found.

    Raises
    ------
    ValueError
        If the run was trained on these very phantoms, no validation view has a box, or the head finds none of the
        views with a lesion: of two classes, calls none positive; of more, gives none its label.

    Examples
    --------
    .. code-block:: python

        from siamura.experiments import load_run
        done = load_run("runs/first")
        few = {"views": 32, "curves": 1, "shuffled": 1}
        figures = explanation_figures(done, method="gradcam", progress=False, **few)
        sorted(figures)
        # ['places', 'rests', 'shuffled']
        len(figures["places"]) == figures["places"].attrs["found"]  # a row for each image that the head finds
        # True
    """
    predictor = Predictor(run, head="mlp")
    if boxes is None:
        if run.config["data"]["phantoms"] and seed == run.experiment.seed_of_data:
            raise ValueError(f"seed={seed} drew the phantoms that the run was trained on; give another.")
        root = phantoms_for(
            parts_of(run.experiment.part) or PARTS, views, seed, Path(cache) if cache else cache_folder()
        )
        table = read_mura(root)
        lesions = read_boxes(root / "lesions.csv", table)
    else:
        embedded = run.embeddings()[1]
        table = embedded[embedded["split"] == "valid"].reset_index(drop=True)
        lesions = read_boxes(boxes, table)
        root = Path(str(run.config["data"]["name"]))
    table, shown, found = _found(predictor, table, lesions, at_half=True)
    if found.empty:
        raise ValueError(f"the run finds none of the {len(shown)} views with a lesion; train it longer.")
    places = localisation(_explained(predictor, found, progress, options), found, lesions)
    if (
        len(predictor.classes) > 2
    ):  # curves and shuffled weights are of one class: the one that most images show
        most = int(found["label"].mode()[0])
        found = found[found["label"] == most].reset_index(drop=True)
        options = {"target": HeadLogit(predictor.head, most), **options}
    else:
        options = {"head": predictor.head, **options}
    some = found.iloc[_spread(len(found), curves)]
    rests = faithfulness(predictor.net, some, progress=progress, **options)
    firsts = found.drop_duplicates("patient")
    rows = []
    chosen = firsts.iloc[_spread(len(firsts), shuffled)]
    for row in tqdm(chosen.itertuples(), total=len(chosen), desc="shuffle weights", disable=not progress):
        changed = randomised_weights(predictor.net, read_image(str(row.path)), **options)
        true = lesions.loc[lesions["path"] == row.path, ["x0", "y0", "x1", "y1"]]
        measured: dict[str, Any] = {"patient": row.patient}
        for stage in changed.to_dict("records"):
            measured[f"correlation, {stage['stage']}"] = stage["correlation"]
            measured[f"hit, {stage['stage']}"] = float(hits((stage["x"], stage["y"]), true))
        rows.append(measured)
    figures = {"places": places, "rests": rests, "shuffled": pd.DataFrame(rows)}
    facts = {
        "root": str(root),
        "seed": None if boxes is not None else seed,
        "views": len(table),
        "patients": table["patient"].nunique(),
        "lesions": len(shown),
        "found": len(found),
    }
    for frame in figures.values():
        frame.attrs.update(facts)
    return figures


def lesion_figures(
    predictor: Predictor, table: pd.DataFrame, boxes: str | os.PathLike[str] | pd.DataFrame
) -> dict[str, Any]:
    """Compare heat maps of validation views with boxes of their lesions, for ``metrics.json`` and the report.

    Parameters
    ----------
    predictor : Predictor
        With the head whose score is explained.
    table : DataFrame
        The validation views.
    boxes : path or DataFrame
        As `siamura.studies.read_boxes` reads them.

    Returns
    -------
    dict
        ``views`` with a box, ``found`` of them and their ``patients``; ``figures``: by metric of `localisation`, and
        of its difference from each baseline, ``value``, ``low`` and ``high``; empty where none is found.
    """
    lesions = read_boxes(boxes, table)
    _, shown, found = _found(predictor, table, lesions)
    said: dict[str, Any] = {
        "views": len(shown),
        "found": len(found),
        "patients": int(found["patient"].nunique()),
    }
    figures: dict[str, Any] = {}
    if len(found):
        places = localisation(_explained(predictor, found, True, {}), found, lesions)
        measured = summary(places)
        figures = {
            metric: {"name": name, **{end: plain(measured[end][metric]) for end in ("value", "low", "high")}}
            for metric, name in _PLACES.items()
            if metric in measured.index and not np.isnan(measured["value"][metric])
        }
    return {**said, "figures": figures}


def _found(
    predictor: Predictor, table: pd.DataFrame, lesions: pd.DataFrame, *, at_half: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Scored views, those of them with a lesion, and of these the ones that are answered right.

    Of two classes an image with a lesion is to be called positive, whatever its label: by the run's operating point, or
    with `at_half` by a probability above 0.5.
    """
    table = predictor.views(table)
    shown = table[table["path"].isin(lesions["path"])]
    names = np.array(predictor.classes, dtype=object)
    if len(names) > 2:
        right = shown["answer"].to_numpy() == names[shown["label"].to_numpy(dtype=np.int64)]
    elif at_half:
        right = shown["probability"].to_numpy() > 0.5
    else:
        right = shown["answer"].to_numpy() == names[1]
    return table, shown, shown[right].reset_index(drop=True)


def _explained(
    predictor: Predictor, found: pd.DataFrame, progress: bool, options: dict[str, Any]
) -> Iterator[Explanation]:
    """Heat maps of views in their order; of more than two classes each of its own label's score."""
    if len(predictor.classes) == 2:
        given = {"head": predictor.head, **options}
        yield from explain_views(predictor.net, found, progress=progress, **given)
        return
    for path, label in zip(found["path"], found["label"].astype(int), strict=True):
        yield explain(predictor.net, read_image(str(path)), HeadLogit(predictor.head, label), **options)


def explanation_table(figures: dict[str, pd.DataFrame]) -> str:
    """Print `explanation_figures` as Markdown, each figure with its interval.

    Parameters
    ----------
    figures : dict of str to DataFrame

    Returns
    -------
    str

    Examples
    --------
    >>> made_up = {"hit": 1.0, "centre_hit": 0.0, "iou": 0.4, "centre_iou": 0.1, "area": 0.1}
    >>> places = pd.DataFrame({"patient": ["a", "b"], "kind": "fracture", **made_up})
    >>> places.attrs = {"views": 40, "patients": 12, "seed": 1001, "lesions": 9, "found": 2}
    >>> shuffled = pd.DataFrame({"patient": ["a", "b"], "correlation, all": 0.0})
    >>> print(explanation_table({"places": places, "rests": places[:0], "shuffled": shuffled}))
    # Are the heat maps right?
    ...
    | pointing game: the warmest pixel lies on the lesion | 1.00 | 1.00 to 1.00 |
    | baseline: the middle of the image | 0.00 | 0.00 to 0.00 |
    ...
    """
    places, rests, shuffled = (figures[name] for name in ("places", "rests", "shuffled"))
    facts = places.attrs
    counted = f"{facts['views']} views of {facts['patients']} patients"
    measured = f"Measured on PHANTOMS that the run never saw ({counted}, seed {facts['seed']})"
    if facts["seed"] is None:
        measured = f"Measured on the run's validation views ({counted}) with boxes of lesions"
    lines = [
        "# Are the heat maps right?",
        "",
        f"{measured}: {facts['found']} of the {facts['lesions']} views with a lesion are found by the MLP head. "
        "Intervals: 95 %, bootstrap over patients.",
        RESEARCH,
    ]
    lines += _section("Places", places, summary(places), _PLACES)
    if places["kind"].astype(bool).any():
        lines += ["", "| lesion | views | patients | pointing game | IoU |", "|---|---|---|---|---|"]
    for kind in sorted(name for name in places["kind"].unique().tolist() if name):
        rows = places[places["kind"] == kind]
        each = summary(rows, ["hit", "iou"], against={})
        hit, iou = (f"{each['value'][name]:.2f} [{_interval(each, name, ', ')}]" for name in ("hit", "iou"))
        lines.append(f"| {kind} | {len(rows)} | {rows['patient'].nunique()} | {hit} | {iou} |")
    if len(rests):
        lines += _section("Deletion and insertion", rests, summary(rests), _RESTS)
    changed = summary(shuffled)
    names = {
        metric: metric.replace("hit, ", "pointing game after: ").replace(
            "correlation, ", "map's correlation after: "
        )
        for metric in sorted(changed.index, key=lambda metric: metric.partition(",")[0])
    }
    lines += _section("Weights shuffled from the top", shuffled, changed, names)
    return "\n".join(lines) + "\n"


def _section(title: str, rows: pd.DataFrame, figures: pd.DataFrame, names: dict[str, str]) -> Sequence[str]:
    views = f"{len(rows)} views of {rows['patient'].nunique()} patients"
    lines = ["", f"| {title}, {views} | value | 95 % interval |", "|---|---|---|"]
    for metric, name in names.items():
        if metric not in figures.index or np.isnan(figures["value"][metric]):
            continue  # of one patient there is no mean place of others
        lines.append(f"| {name} | {figures['value'][metric]:.2f} | {_interval(figures, metric)} |")
    return lines


def _interval(figures: pd.DataFrame, metric: str, between: str = " to ") -> str:
    """Write the ends of an interval; of one patient there is none."""
    low, high = float(figures["low"][metric]), float(figures["high"][metric])
    return "–" if np.isnan(low) else f"{low:.2f}{between}{high:.2f}"


def _spread(rows: int, wanted: int) -> Any:
    """Places of so many rows, evenly over all."""
    return np.unique(np.linspace(0, rows - 1, min(rows, wanted)).astype(np.int64))
