"""Are a run's heat maps right? Measured on phantoms that it never saw, whose lesions have known places."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from siamura.inference import Predictor
from siamura.report.tables import RESEARCH

from .data import cache_folder, phantoms_for
from .folder import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["explanation_figures", "explanation_table"]

#: Metric, and what the table calls it.
_PLACES = {
    "hit": "pointing game: the warmest pixel lies on the lesion",
    "centre_hit": "baseline: the middle of the film",
    "hit - centre_hit": "difference",
    "iou": "IoU of the box with the lesion's",
    "centre_iou": "baseline: the same box in the middle",
    "iou - centre_iou": "difference",
    "area": "share of the film in the box",
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
    seed: int = 1001,
    views: int = 300,
    curves: int = 60,
    shuffled: int = 20,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **options: Any,
) -> dict[str, pd.DataFrame]:
    """Explain the abnormal films among fresh phantoms that a run's MLP head finds, and compare with their lesions.

    Parameters
    ----------
    run : Run
        A finished run.
    seed : int
        Of the phantoms; another than that of the run's own.
    views : int
        Phantoms drawn, normal ones included.
    curves : int
        Films found on which deletion and insertion are measured, spread over the patients.
    shuffled : int
        Films found, of different patients, on which the weights are shuffled.
    cache : path, optional
        Where the phantoms are kept; by default where the run's were.
    progress : bool
        Show bars.
    **options
        For `siamura.explain`: method, layer, threshold, ...

    Returns
    -------
    dict of str to DataFrame
        ``places``, ``rests`` and ``shuffled``: one row a film, with its patient, for
        `siamura.explanation.summary`. The ``attrs`` of each tell root, seed, views, patients, lesions (films that
        show one) and found.

    Raises
    ------
    ValueError
        If the run was trained on these very phantoms, or its head finds none of the abnormal ones.

    Examples
    --------
    >>> from siamura.experiments import load_run
    >>> done = load_run("runs/first")
    >>> few = {"views": 32, "curves": 1, "shuffled": 1}
    >>> figures = explanation_figures(done, method="gradcam", progress=False, **few)
    >>> sorted(figures)
    ['places', 'rests', 'shuffled']
    >>> len(figures["places"]) == figures["places"].attrs["found"]  # a row for each film that the head finds
    True
    """
    from tqdm.auto import tqdm

    from siamura.explanation import faithfulness, hits, localisation, randomised_weights
    from siamura.pixels import read_image
    from siamura.studies import read_mura

    if run.config["data"]["phantoms"] and seed == run.experiment.seed:
        raise ValueError(f"seed={seed} drew the phantoms that the run was trained on; give another.")
    root = phantoms_for([run.experiment.part], views, seed, Path(cache) if cache else cache_folder())
    predictor = Predictor(run, head="mlp")
    table = predictor.views(read_mura(root))
    lesions = pd.read_csv(root / "lesions.csv")
    lesions["path"] = [os.path.abspath(root / path) for path in lesions["path"]]
    shown = table[table["path"].map(os.path.abspath).isin(lesions["path"])]
    found = shown[shown["probability"] > 0.5].reset_index(drop=True)
    if found.empty:
        raise ValueError(f"the run finds none of the {len(shown)} phantoms with a lesion; train it longer.")
    options = {"head": predictor.head, **options}
    places = localisation(predictor.net, found, lesions, progress=progress, **options)
    some = found.iloc[_spread(len(found), curves)]
    rests = faithfulness(predictor.net, some, progress=progress, **options)
    firsts = found.drop_duplicates("patient")
    rows = []
    chosen = firsts.iloc[_spread(len(firsts), shuffled)]
    for row in tqdm(chosen.itertuples(), total=len(chosen), desc="shuffle weights", disable=not progress):
        changed = randomised_weights(predictor.net, read_image(str(row.path)), **options)
        boxes = lesions.loc[lesions["path"] == os.path.abspath(row.path), ["x0", "y0", "x1", "y1"]]
        measured: dict[str, Any] = {"patient": row.patient}
        for stage in changed.to_dict("records"):
            measured[f"correlation, {stage['stage']}"] = stage["correlation"]
            measured[f"hit, {stage['stage']}"] = float(hits((stage["x"], stage["y"]), boxes))
        rows.append(measured)
    figures = {"places": places, "rests": rests, "shuffled": pd.DataFrame(rows)}
    facts = {
        "root": str(root),
        "seed": seed,
        "views": len(table),
        "patients": table["patient"].nunique(),
        "lesions": len(shown),
        "found": len(found),
    }
    for frame in figures.values():
        frame.attrs.update(facts)
    return figures


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
    | baseline: the middle of the film | 0.00 | 0.00 to 0.00 |
    ...
    """
    from siamura.explanation import summary

    places, rests, shuffled = (figures[name] for name in ("places", "rests", "shuffled"))
    facts = places.attrs
    lines = [
        "# Are the heat maps right?",
        "",
        f"Measured on PHANTOMS that the run never saw ({facts['views']} films of {facts['patients']} patients, seed "
        f"{facts['seed']}): {facts['found']} of the {facts['lesions']} films with a lesion are found by the MLP head. "
        "Intervals: 95 %, bootstrap over patients.",
        RESEARCH,
    ]
    lines += _section("Places", places, summary(places), _PLACES)
    lines += ["", "| lesion | films | patients | pointing game | IoU |", "|---|---|---|---|---|"]
    for kind in sorted(places["kind"].unique().tolist()):
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
    films = f"{len(rows)} films of {rows['patient'].nunique()} patients"
    lines = ["", f"| {title}, {films} | value | 95 % interval |", "|---|---|---|"]
    for metric, name in names.items():
        lines.append(f"| {name} | {figures['value'][metric]:.2f} | {_interval(figures, metric)} |")
    return lines


def _interval(figures: pd.DataFrame, metric: str, between: str = " to ") -> str:
    """Write the ends of an interval; of one patient there is none."""
    low, high = float(figures["low"][metric]), float(figures["high"][metric])
    return "–" if np.isnan(low) else f"{low:.2f}{between}{high:.2f}"


def _spread(rows: int, wanted: int) -> Any:
    """Places of so many rows, evenly over all."""
    return np.unique(np.linspace(0, rows - 1, min(rows, wanted)).astype(np.int64))
