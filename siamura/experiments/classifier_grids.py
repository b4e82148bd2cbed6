"""Systems B, C, D and E as grids of supervised classifiers, and their published tables beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from siamura.plots.style import metric_name

from .classifying import PARTS, ClassifierExperiment, ClassifierRun
from .published import Published, published
from .tables import RESEARCH, TRIVIAL, data_sentence, with_interval

__all__ = ["classifier_table", "classifier_tables", "part_grid", "system_c", "system_e", "trunk_grid"]

_B_TOPS = {
    "resnet50": "b_resnet50",
    "efficientnet_b0": "mura",
    "vgg19": "b_vgg19",
    "densenet169": "b_densenet169",
}
_D_TRUNKS = ("vgg16", "resnet50", "densenet169", "inception_v3", "timm:nasnetalarge")
_WEIGHTED = "precision, recall and F1 are weighted by class size, as the reports' tools print them"
_SMALLEST = {"inception_v3": 75}  # pixels below which a trunk's last map would be empty


def trunk_grid(base: ClassifierExperiment) -> dict[str, ClassifierExperiment]:
    """System B: four trunks on all parts together, and DenseNet-169 fine-tuned from the 100th of 595 layers on.

    Without pretrained weights nothing is frozen: a frozen trunk that has learnt nothing shows nothing.
    """
    frozen = base.weights is not None
    cells = {
        f"B-{trunk}": replace(base, trunk=trunk, top=top, parts=PARTS, batch=64, frozen=frozen)
        for trunk, top in _B_TOPS.items()
    }
    tuned = replace(cells["B-densenet169"], tune_epochs=base.epochs, tune_from=99 / 595 if frozen else 0.0)
    return {**cells, "B-densenet169-tuned": tuned}


def part_grid(base: ClassifierExperiment, *, nasnet: bool) -> dict[str, ClassifierExperiment]:
    """System D: one model per part and trunk, on equalised histograms; NASNet-A Large only where it is wanted."""
    trunks = _D_TRUNKS if nasnet else _D_TRUNKS[:-1]
    return {
        f"D-{part}-{trunk.removeprefix('timm:')}": replace(
            base, trunk=trunk, top="d", parts=(part,), batch=24, equalise=True,
            size=max(base.size, _SMALLEST.get(trunk, 0)),
        )
        for part in PARTS
        for trunk in trunks
    }  # fmt: skip


def system_c(base: ClassifierExperiment) -> ClassifierExperiment:
    """InceptionV3 on the humerus, frozen where it has learnt something before."""
    return replace(
        base, trunk="inception_v3", top="c", parts=("XR_HUMERUS",), batch=16, frozen=base.weights is not None,
        size=max(base.size, _SMALLEST["inception_v3"]),
    )  # fmt: skip


def system_e(base: ClassifierExperiment) -> ClassifierExperiment:
    """DenseNet-121 on the humerus, all layers learning."""
    return replace(base, trunk="densenet121", top="e", parts=("XR_HUMERUS",), batch=16)


def classifier_tables(runs: Mapping[str, ClassifierRun], systems: str, title: str) -> str:
    """Set measured columns beside every published figure of some systems, as Markdown.

    Parameters
    ----------
    runs : mapping of str to ClassifierRun
    systems : str
        Their letters, such as ``"BD"``.
    title : str

    Returns
    -------
    str
    """
    first = next(iter(runs.values()))
    lines = [f"# {title}", ""]
    lines += sorted({data_sentence(run.config["data"]) for run in runs.values()})
    settings = first.experiment
    lines += [
        f"{settings.size} px, {settings.epochs} epochs, weights: {settings.weights or 'from scratch, nothing frozen'}.",
        f"Measured, per view: value [95 % interval, bootstrap over patients]; {_WEIGHTED}. {TRIVIAL}",
        "Published: on MURA with ImageNet weights; printed in the reports, not measured here.",
        RESEARCH,
    ]
    for system in systems:
        for table in dict.fromkeys(figure.table for figure in published(system=system)):
            lines += [
                "",
                f"## System {system}: {table}",
                "",
                "| part | trunk | figure | published | trivial baseline | measured |",
            ]
            lines.append("|---|---|---|---|---|---|")
            lines.extend(_row(figure, runs) for figure in published(system=system, table=table))
    return "\n".join(lines) + "\n"


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
    printed = [f for f in published(system=_system(experiment)) if _is_of(f, experiment)]
    source = (
        f"Published: system {printed[0].system}'s report, on MURA with ImageNet weights; printed there, not measured "
        f"here; its {_WEIGHTED.replace('are', 'are taken as')}."
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
        by_key.setdefault(_key(figure), []).append(figure)
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
    if _B_TOPS.get(experiment.trunk) == experiment.top:
        return "B"
    return experiment.top.upper() if experiment.top in ("c", "d", "e") else ""


def _row(figure: Published, runs: Mapping[str, ClassifierRun]) -> str:
    cells = ["–", "–"]
    for run in runs.values():
        if _is_of(figure, run.experiment):
            view = run.metrics[figure.split]["view"]
            cells = [with_interval(view.get(head), _key(figure)) for head in ("trivial", "classifier")]
    name = f"{figure.split} {figure.metric}" + (f" ({figure.note})" if figure.note else "")
    return f"| {figure.part} | {figure.trunk} | {name} | {figure.value:g} | {cells[0]} | {cells[1]} |"


def _is_of(figure: Published, experiment: ClassifierExperiment) -> bool:
    """Whether a run trains what a printed figure was measured on."""
    parts = PARTS if figure.part == "all" else (figure.part,)
    same = experiment.trunk == figure.trunk and experiment.parts == parts
    return same and bool(experiment.tune_epochs) == (figure.table == "fine-tuned")


def _key(figure: Published) -> str:
    """Name of the measured score that a printed figure is set beside."""
    if figure.metric not in ("precision", "recall", "f1"):
        return figure.metric
    by_class = {"negative": "_normal", "positive": ""}
    return figure.metric + by_class.get(figure.note, "_weighted")
