"""Measured figures beside published ones, each marked as what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from siamura._names import BASELINES, PARTS
from siamura.plots.style import metric_name

from .gallery import classes_named
from .operating import findings
from .published import B_TOPS, Published, published

if TYPE_CHECKING:
    import pandas as pd

    from siamura.experiments import ClassifierExperiment, Experiment

__all__ = [
    "RESEARCH",
    "TRIVIAL",
    "WEIGHTED",
    "Row",
    "Sheet",
    "classifier_sheet",
    "data_sentence",
    "finger_sheet",
    "head_note",
    "is_of",
    "key_of",
    "of_mura",
    "share_of",
    "with_interval",
]

RESEARCH = "siamura is for research, not for diagnosis."
WEIGHTED = "precision, recall and F1 are weighted by class size, as the reports' tools print them"
TRIVIAL = "The trivial baseline sees the part, grey levels, aspect and size alone."

HEADS = {
    "knn": "k-NN",
    "mlp": "MLP",
    "trivial": "trivial baseline",
    "frozen_knn": "frozen trunk, k-NN",
    "frozen_logistic": "frozen trunk, logistic regression",
}
_FIGURES = ("loss", "accuracy", "error", "kappa")
_FURTHER = (
    "kappa_quadratic",
    "f1_macro",
    "recall_macro",
    "auroc_macro",
    "auroc",
)  # of radiographs of one's own


@dataclass(frozen=True)
class Row:
    """One row of a `Sheet`; a measured one is marked as such.

    Parameters
    ----------
    before : tuple of str
        What is measured.
    source : str
        Where the figures come from.
    after : tuple of str
        The figures.
    measured : bool
        Whether this run measured them.
    """

    before: tuple[str, ...]
    source: str
    after: tuple[str, ...]
    measured: bool = False


@dataclass(frozen=True)
class Sheet:
    """Measured figures beside published ones, for ``table.md`` and the page alike.

    Parameters
    ----------
    title : str
    data, research : str
        What it was measured on, and what it is for; the page says both elsewhere.
    notes : sequence of str
        How the figures are to be read.
    header : sequence of str
    rows : sequence of Row
    findings : sequence of str
        What is concluded; the page says it elsewhere.

    Examples
    --------
    >>> row = Row(("kappa",), "k-NN", ("0.500",), measured=True)
    >>> print(Sheet("Fingers", "Measured on phantoms.", [], ("figure", "source", "valid"), [row]).markdown())
    # Fingers
    ...
    | figure | source | valid |
    |---|---|---|
    | kappa | **measured**, k-NN | 0.500 |
    """

    title: str
    data: str
    notes: Sequence[str]
    header: Sequence[str]
    rows: Sequence[Row]
    research: str = RESEARCH
    findings: Sequence[str] = ()

    def markdown(self) -> str:
        """The whole sheet as Markdown."""
        lines = [f"# {self.title}", "", self.data, *self.notes, self.research, ""]
        lines += ["| " + " | ".join(self.header) + " |", "|---" * len(self.header) + "|"]
        for row in self.rows:
            source = f"**measured**, {row.source}" if row.measured else f"published{row.source}"
            lines.append("| " + " | ".join((*row.before, source, *row.after)) + " |")
        for sentence in self.findings:
            lines += ["", sentence]
        return "\n".join(lines) + "\n"


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


def head_note(metrics: Mapping[str, Any]) -> str:
    """Say what the head called MLP is where it is the network's own classifier; nothing of one fitted afterwards.

    Examples
    --------
    >>> head_note({"heads": {"knn": "rows", "mlp": "network"}})
    'MLP is the classifier that the network learnt beside its embedding, by cross-entropy ...'
    >>> head_note({"heads": {"mlp": "rows"}})
    ''
    """
    if metrics.get("heads", {}).get("mlp") != "network":
        return ""
    return (
        "MLP is the classifier that the network learnt beside its embedding, by cross-entropy (setting classify): one "
        "linear layer behind a batch norm, with the classes as frequent as on train. No further head was fitted."
    )


def finger_sheet(
    experiment: Experiment, metrics: Mapping[str, Any], data: Mapping[str, Any], history: pd.DataFrame
) -> Sheet:
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
    Sheet
    """
    note = head_note(metrics)
    beside = ", and beside it on a cross-entropy" if note else ""
    notes = [
        f"Trained for {len(history)} steps on the {experiment.loss} loss ({share_of(history)}){beside}.",
        "Measured: value [95 % interval, bootstrap over patients]. On train, a patient's own images do not vote in the "
        f"k-NN, and the MLP is judged on the images {'that the network learnt from' if note else 'it was fitted on'}.",
        *([note] if note else []),
    ]
    classes = classes_named(data)
    if classes != ("normal", "abnormal"):
        notes.append(
            f"{classes[1]} is the positive class, {classes[0]} the other."
            if len(classes) == 2
            else f"Classes, {'grades in order' if data.get('ordered') else 'in the order of their codes'}: "
            f"{', '.join(classes)}. Macro scores are means over the classes."
        )
        shown = [*_FIGURES, *_FURTHER, *(f"recall[{name}]" for name in classes if len(classes) > 2)]
        return Sheet(
            _sheet_title(experiment), data_sentence(data), notes, ("figure", "source", "train", "valid"),
            [
                Row((_plain_name(metric),), source, cells, measured=True)
                for metric in shown
                for source, cells in _measured(metric, metrics)
            ],
            findings=findings(metrics),
        )  # fmt: skip
    measured, printed = [], []
    for metric, figures in zip(_FIGURES, _matching(experiment), strict=True):
        table = figures[0].table
        measured += [
            Row((table, metric), source, cells, measured=True) for source, cells in _measured(metric, metrics)
        ]
        for dim in (256, 128):
            values = {f.split: f"{f.value:g}" for f in figures if f.dim == dim}
            printed.append(Row((table, metric), f", {dim}-d", (values["train"], values["valid"])))
    if not of_mura(data):
        own = [Row(row.before[1:], row.source, row.after, measured=True) for row in measured]
        return Sheet(
            _sheet_title(experiment), data_sentence(data), notes, ("figure", "source", "train", "valid"), own,
            findings=findings(metrics),
        )  # fmt: skip
    notes.append(
        "Published: system A's report, on MURA with ImageNet weights; printed there, not measured here."
    )
    return Sheet(
        _sheet_title(experiment),
        data_sentence(data),
        notes,
        ("Table", "figure", "source", "train", "valid"),
        [*measured, *printed],
        findings=findings(metrics),
    )


def of_mura(data: Mapping[str, Any]) -> bool:
    """Whether a run's data are MURA, or phantoms in its place: published figures say nothing about other data.

    Examples
    --------
    >>> of_mura({"kind": "mura"}), of_mura({"kind": "table"}), of_mura({"phantoms": True, "kind": "table"})
    (True, False, True)
    """
    return bool(data.get("phantoms")) or data.get("kind", "mura") == "mura"  # runs of 0.1.0 have no kind


def _sheet_title(experiment: Experiment) -> str:
    return f"{experiment.part}: {experiment.trunk}, {experiment.dim} dimensions, {experiment.loss} loss"


def _plain_name(metric: str) -> str:
    name, _, of = metric.partition("[")
    return f"{metric_name(name)} of {of[:-1]}" if of else metric_name(name)


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


def _measured(metric: str, metrics: Mapping[str, Any]) -> list[tuple[str, tuple[str, str]]]:
    if metric == "loss":
        return [("PK batches", _both(metrics, "view", "embedding", "loss"))]
    rows = []
    for level in ("view", "study"):
        for head, name in HEADS.items():
            cells = _both(metrics, level, head, metric)
            if cells != ("–", "–"):
                rows.append((f"{name}, per {level}", cells))
    return rows


def _both(metrics: Mapping[str, Any], level: str, head: str, metric: str) -> tuple[str, str]:
    """A figure on train and on valid."""
    train, valid = (with_interval(metrics[split][level].get(head), metric) for split in ("train", "valid"))
    return train, valid


def classifier_sheet(
    experiment: ClassifierExperiment, metrics: Mapping[str, Any], data: Mapping[str, Any]
) -> Sheet:
    """Set one run beside what its system's report published of the same trunk and parts.

    Parameters
    ----------
    experiment : ClassifierExperiment
    metrics, data : mapping
        As in ``metrics.json``, and under ``data`` in ``config.json``.

    Returns
    -------
    Sheet
    """
    printed = [f for f in published(system=_system(experiment)) if is_of(f, experiment)]
    source = (
        f"Published: system {printed[0].system}'s report, on MURA with ImageNet weights; printed there, not measured "
        f"here; its {WEIGHTED.replace('are', 'are taken as')}."
        if printed
        else "No report published figures of this trunk on these parts."
    )
    rows = []
    by_key: dict[str, list[Published]] = {key: [] for key in _SHOWN}
    for figure in printed:
        by_key.setdefault(key_of(figure), []).append(figure)
    for key, figures in by_key.items():
        name = metric_name(key)
        for note in dict.fromkeys(figure.note for figure in figures):
            values = {f.split: f"{f.value:g}" for f in figures if f.note == note}
            said = f" ({note})" if note else ""
            rows.append(Row((name,), said, (values.get("train", "–"), values.get("valid", "–"))))
        for level in ("view", "study"):
            for head in ("classifier", *BASELINES):
                cells = _both(metrics, level, head, key)
                if cells == ("–", "–") and head.startswith("frozen"):
                    continue
                what = f"{HEADS[head]}, " if head in HEADS else ""
                rows.append(Row((name,), f"{what}per {level}", cells, measured=True))
    return Sheet(
        f"{data['part']}: {experiment.trunk}, supervised",
        data_sentence(data),
        ["Measured: value [95 % interval, bootstrap over patients].", source],
        ("figure", "source", "train", "valid"),
        rows,
        findings=findings(metrics),
    )


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
