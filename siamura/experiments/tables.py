"""Measured figures beside published ones, each marked as what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from siamura.plots.style import metric_name

from .experiment import PARTS, ClassifierExperiment, Experiment
from .published import B_TOPS, Published, published

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RESEARCH",
    "TRIVIAL",
    "WEIGHTED",
    "classifier_table",
    "data_sentence",
    "finger_table",
    "is_of",
    "key_of",
    "share_of",
    "with_interval",
]

RESEARCH = "siamura is for research, not for diagnosis."
WEIGHTED = "precision, recall and F1 are weighted by class size, as the reports' tools print them"
TRIVIAL = "The trivial baseline sees pixel mean and deviation, aspect and size alone."

HEADS = {"knn": "k-NN", "mlp": "MLP", "trivial": "trivial baseline"}
_FIGURES = ("loss", "accuracy", "error", "kappa")


def data_sentence(data: Mapping[str, Any]) -> str:
    """Say what the figures were measured on: the source, and views, studies and patients of each split."""
    counts = "; ".join(
        f"{split} {n['views']} views of {n['studies']} studies of {n['patients']} patients"
        for split, n in data["counts"].items()
    )
    source = (
        "PHANTOMS, drawn by siamura: they show that the pipeline works and nothing about patients"
        if data["phantoms"]
        else f"the radiographs in {data['name']}"
    )
    return f"Measured on {source} ({data['part']}: {counts})."


def share_of(history: pd.DataFrame) -> str:
    """Say how much of a training was on its loss itself: one that mines may wait behind a start on all triplets."""
    share = history["share"].mean() if "share" in history else 1.0
    return (
        f"{share:.0%} of the training on it, the rest on all triplets"
        if share < 1
        else "all of the training on it"
    )


def with_interval(figures: Mapping[str, Any] | None, metric: str) -> str:
    """Write a figure with its interval, a dash where none was measured, or that the answers do not define it."""
    if figures is None or metric not in figures:
        return "–"
    value = figures[metric]
    if value is None:
        return "undefined"
    low_high = figures.get("interval", {}).get(metric)
    return f"{value:.3f}" if low_high is None else f"{value:.3f} [{low_high[0]:.3f}, {low_high[1]:.3f}]"


def finger_table(
    experiment: Experiment, metrics: Mapping[str, Any], data: Mapping[str, Any], history: pd.DataFrame
) -> str:
    """Set a run beside the tables of system A that its loss and preprocessing belong to.

    Parameters
    ----------
    experiment : Experiment
    metrics : mapping
        As in ``metrics.json``.
    data : mapping
        As under ``data`` in ``config.json``.
    history : DataFrame
        Of `siamura.fit`.

    Returns
    -------
    str
        Markdown.
    """
    lines = [
        f"# {experiment.part}: {experiment.trunk}, {experiment.dim} dimensions, {experiment.loss} loss",
        "",
        data_sentence(data),
        f"Trained for {len(history)} steps on the {experiment.loss} loss ({share_of(history)}).",
        "Measured: value [95 % interval, bootstrap over patients]. On train, a patient's own films do not vote in the "
        "k-NN, and the MLP is judged on the films it was fitted on.",
        "Published: system A's report, on MURA with ImageNet weights; printed there, not measured here.",
        RESEARCH,
        "",
        "| Table | figure | source | train | valid |",
        "|---|---|---|---|---|",
    ]
    for metric, printed in zip(_FIGURES, _matching(experiment), strict=True):
        table = printed[0].table
        for dim in (256, 128):
            cells = {f.split: f.value for f in printed if f.dim == dim}
            lines.append(
                f"| {table} | {metric} | published, {dim}-d | {cells['train']:g} | {cells['valid']:g} |"
            )
        lines.extend(f"| {table} | {metric} | **measured**, {row} |" for row in _measured(metric, metrics))
    return "\n".join(lines) + "\n"


def _matching(experiment: Experiment) -> list[list[Published]]:
    """Give the four published tables (loss, accuracy, error, kappa) of the configuration nearest to a run's."""
    trunk = "resnet50" if experiment.trunk == "resnet50" else "densenet169"
    if experiment.loss == "triplet_focal":
        first, trunk = 9, "densenet169"
    elif experiment.clahe and trunk == "densenet169":
        first = 5
    else:
        first = 1
    return [published(system="A", table=f"5.{first + i}", trunk=trunk) for i in range(len(_FIGURES))]


def _measured(metric: str, metrics: Mapping[str, Any]) -> list[str]:
    if metric == "loss":
        cells = [
            with_interval(metrics[split]["view"].get("embedding"), "loss") for split in ("train", "valid")
        ]
        return [f"PK batches | {cells[0]} | {cells[1]}"]
    rows = []
    for level in ("view", "study"):
        for head, name in HEADS.items():
            cells = [with_interval(metrics[split][level].get(head), metric) for split in ("train", "valid")]
            if cells != ["–", "–"]:
                rows.append(f"{name}, per {level} | {cells[0]} | {cells[1]}")
    return rows


def classifier_table(
    experiment: ClassifierExperiment, metrics: Mapping[str, Any], data: Mapping[str, Any]
) -> str:
    """Set one run beside what its system's report published of the same trunk and parts.

    Parameters
    ----------
    experiment : ClassifierExperiment
    metrics, data : mapping
        As in ``metrics.json``, and under ``data`` in ``config.json``.

    Returns
    -------
    str
        Markdown.
    """
    printed = [f for f in published(system=_system(experiment)) if is_of(f, experiment)]
    source = (
        f"Published: system {printed[0].system}'s report, on MURA with ImageNet weights; printed there, not measured "
        f"here; its {WEIGHTED.replace('are', 'are taken as')}."
        if printed
        else "No report published figures of this trunk on these parts."
    )
    lines = [
        f"# {data['part']}: {experiment.trunk}, supervised",
        "",
        data_sentence(data),
        "Measured: value [95 % interval, bootstrap over patients].",
        source,
        RESEARCH,
        "",
        "| figure | source | train | valid |",
        "|---|---|---|---|",
    ]
    by_key: dict[str, list[Published]] = {key: [] for key in _SHOWN}
    for figure in printed:
        by_key.setdefault(key_of(figure), []).append(figure)
    for key, figures in by_key.items():
        name = metric_name(key)
        for note in dict.fromkeys(figure.note for figure in figures):
            values = {f.split: f"{f.value:g}" for f in figures if f.note == note}
            said = f" ({note})" if note else ""
            lines.append(
                f"| {name} | published{said} | {values.get('train', '–')} | {values.get('valid', '–')} |"
            )
        for level in ("view", "study"):
            for head, what in (("classifier", ""), ("trivial", "trivial baseline, ")):
                train, valid = (
                    with_interval(metrics[split][level].get(head), key) for split in ("train", "valid")
                )
                lines.append(f"| {name} | **measured**, {what}per {level} | {train} | {valid} |")
    return "\n".join(lines) + "\n"


_SHOWN = ("accuracy", "kappa", "auroc")  # whether published or not


def _system(experiment: ClassifierExperiment) -> str:
    """Letter of the system that a run's top belongs to; empty for one that no report has."""
    if B_TOPS.get(experiment.trunk) == experiment.top:
        return "B"
    return experiment.top.upper() if experiment.top in ("c", "d", "e") else ""


def is_of(figure: Published, experiment: ClassifierExperiment) -> bool:
    """Whether a run trains what a printed figure was measured on."""
    parts = PARTS if figure.part == "all" else (figure.part,)
    same = experiment.trunk == figure.trunk and experiment.parts == parts
    return same and bool(experiment.tune_epochs) == (figure.table == "fine-tuned")


def key_of(figure: Published) -> str:
    """Name of the measured score that a printed figure is set beside."""
    if figure.metric not in ("precision", "recall", "f1"):
        return figure.metric
    by_class = {"negative": "_normal", "positive": ""}
    return figure.metric + by_class.get(figure.note, "_weighted")
