"""The figures of a run folder, drawn from its embeddings, history and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .experiment import Experiment

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    from matplotlib.figure import Figure

    from siamura.pixels import RadiographDataset

__all__ = ["draw"]

_DPI = 160
_PAIRS = 3


def draw(
    folder: Path,
    experiment: Experiment,
    data: Mapping[str, Any],
    history: pd.DataFrame,
    splits: Mapping[str, RadiographDataset],
    embeddings: Mapping[str, npt.NDArray[np.float32]],
    predicted: Mapping[str, Mapping[str, npt.NDArray[np.float64]]],
) -> None:
    """Draw loss curves, the embedding, CLAHE before and after, and confusion matrices as PNG files.

    Parameters
    ----------
    folder : Path
        The run folder.
    experiment, data : Experiment, mapping
        Settings, and ``data`` of ``config.json``: every figure says what it was made from.
    history : pandas.DataFrame
        Of `siamura.fit`.
    splits, embeddings, predicted : mapping
        By split: the data set, its embeddings float32 (N, dim), and the heads' probabilities float64 (N,).
    """
    from siamura import plots
    from siamura.evaluation import aggregate

    kind = "Phantoms" if data["phantoms"] else Path(data["name"]).name
    counts = {s: f"{n['views']} views of {n['patients']} patients" for s, n in data["counts"].items()}
    made = f"{kind}, {data['part']}: train {counts['train']}; valid {counts['valid']}"
    network = f"{experiment.trunk}, {experiment.dim}-d, {experiment.loss}"
    _save(
        plots.loss_curves(history, margin=experiment.margin, note=f"{made}. {network}."),
        folder / "losses.png",
    )
    train, valid = splits["train"], splits["valid"]
    figure = plots.embedding(
        embeddings["train"],
        train.table["label"].to_numpy(),
        valid=(embeddings["valid"], valid.table["label"].to_numpy()),
        seed=experiment.seed,
        note=f"{made}. {network}.",
    )
    _save(figure, folder / "embedding.png")
    panels = {}
    for level in ("view", "study"):
        table, p = valid.table, predicted["valid"]["knn"]
        if level == "study":
            table = aggregate(table, p)
            p = table["probability"].to_numpy()
        panels[f"validation, per {level}"] = (table["label"].to_numpy(), p)
    note = f"{made}. {network}; k-NN, a study is the mean of its views, above 0.5 is abnormal."
    _save(plots.confusion(panels, note=note), folder / "confusion.png")
    rows = [valid.table.index[valid.table["label"] == label][0] for label in (0, 1)]
    rows += [i for i in range(len(valid)) if i not in rows][: _PAIRS - len(rows)]
    _save(
        _clahe(valid, rows, f"{kind}, {data['part']}: validation views. Clip limit 2, 8 x 8 tiles."),
        folder / "clahe.png",
    )


def _clahe(data: RadiographDataset, rows: list[int], note: str) -> Figure:
    """Set views beside themselves with CLAHE, whether the run used it or not."""
    from siamura import plots
    from siamura.pixels import CLAHE, read_image

    images = [read_image(data.table["path"].iloc[row]) for row in rows]
    before, after = (replace(data.pre, clahe=clahe, size=256) for clahe in (None, CLAHE()))
    titles = ["abnormal" if data.table["label"].iloc[row] else "normal" for row in rows]
    return plots.clahe_pairs(
        [before(i) for i in images], [after(i) for i in images], titles=titles, note=note
    )


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=_DPI)
