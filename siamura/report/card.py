"""The model card beside a saved network: what it is, what it was trained and measured on, what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamura._files import atomic_write
from siamura._names import LOSS_SETTINGS

from .gallery import classes_named
from .operating import findings
from .page import render
from .tables import HEADS, RESEARCH, data_sentence, head_note, share_of, with_interval

if TYPE_CHECKING:
    import pandas as pd

    from siamura.experiments import Experiment

__all__ = ["write_card"]

_SHOWN = (
    "accuracy", "kappa", "kappa_quadratic", "recall", "specificity", "auroc", "f1_macro", "recall_macro",
    "auroc_macro",
)  # fmt: skip


def write_card(
    folder: Path,
    experiment: Experiment,
    metrics: Mapping[str, Any],
    data: Mapping[str, Any],
    history: pd.DataFrame,
    version: str,
) -> Path:
    """Fill in the model card and write it as ``README.md`` beside the model.

    Parameters
    ----------
    folder : Path
        The model's folder.
    experiment : Experiment
    metrics, data : mapping
        As in ``metrics.json``, and under ``data`` in ``config.json``.
    history : DataFrame
        Of `siamura.fit`.
    version : str
        Of siamura.

    Returns
    -------
    Path
        The card.
    """
    studies = metrics["valid"]["study"]
    columns = [head for head in HEADS if head in studies]
    figures = "\n".join(
        f"| {metric} | " + " | ".join(with_interval(studies.get(h), metric) for h in columns) + " |"
        for metric in _SHOWN
        if metric in studies["knn"]
    )
    card = folder / "README.md"
    values = {
        **experiment.to_dict(),
        "title": f"siamura: {experiment.part}, {experiment.trunk}",
        "research": RESEARCH,
        "weights": experiment.weights or "a random start",
        "clahe": f"CLAHE (clip limit {experiment.clip_limit:g}, {experiment.tiles} x {experiment.tiles} tiles)"
        if experiment.clahe
        else "no CLAHE",
        "data": data_sentence(data),
        "classes": classes_named(data),
        "own": "".join(f", {name} {getattr(experiment, name):g}" for name in LOSS_SETTINGS[experiment.loss]),
        "length": len(history),
        "share": share_of(history),
        "figures": figures,
        "columns": [HEADS[head] for head in columns],
        "findings": findings(metrics),
        "head_note": head_note(metrics),
        "version": version,
    }
    atomic_write(card, render("card.md", **values))
    return card
