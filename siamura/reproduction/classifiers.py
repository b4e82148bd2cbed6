"""Systems B, C, D and E as grids of supervised classifiers, and their published tables beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from siamura._names import PARTS
from siamura.experiments import ClassifierExperiment, ClassifierRun
from siamura.report.published import B_TOPS, Published, published
from siamura.report.tables import RESEARCH, TRIVIAL, WEIGHTED, data_sentence, is_of, key_of, with_interval

__all__ = ["classifier_tables", "part_grid", "system_c", "system_e", "trunk_grid"]

_D_TRUNKS = ("vgg16", "resnet50", "densenet169", "inception_v3", "timm:nasnetalarge")
_SMALLEST = {"inception_v3": 75}  # pixels below which a trunk's last map would be empty


def trunk_grid(base: ClassifierExperiment) -> dict[str, ClassifierExperiment]:
    """System B: four trunks on all parts together, and DenseNet-169 fine-tuned from the 100th of 595 layers on.

    Without pretrained weights nothing is frozen: a frozen trunk that has learnt nothing shows nothing.

    Examples
    --------
    >>> cells = trunk_grid(ClassifierExperiment(weights="imagenet"))
    >>> [(name, cell.frozen, cell.tune_epochs) for name, cell in cells.items()]
    [('B-resnet50', True, 0), ('B-efficientnet_b0', True, 0), ('B-vgg19', True, 0),
     ('B-densenet169', True, 0), ('B-densenet169-tuned', True, 10)]
    """
    frozen = base.weights is not None
    cells = {
        f"B-{trunk}": replace(base, trunk=trunk, top=top, parts=PARTS, batch=64, frozen=frozen)
        for trunk, top in B_TOPS.items()
    }
    tuned = replace(cells["B-densenet169"], tune_epochs=base.epochs, tune_from=99 / 595 if frozen else 0.0)
    return {**cells, "B-densenet169-tuned": tuned}


def part_grid(base: ClassifierExperiment, *, nasnet: bool) -> dict[str, ClassifierExperiment]:
    """System D: one model per part and trunk, on equalised histograms; NASNet-A Large only where it is wanted.

    Examples
    --------
    >>> cells = part_grid(ClassifierExperiment(size=64), nasnet=False)
    >>> len(cells)  # 7 parts, 4 trunks
    28
    >>> cells["D-XR_WRIST-vgg16"].equalise, cells["D-XR_WRIST-inception_v3"].size
    (True, 75)
    """
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
    """InceptionV3 on the humerus, frozen where it has learnt something before.

    Examples
    --------
    >>> settings = system_c(ClassifierExperiment(size=224, weights="imagenet"))
    >>> settings.trunk, settings.parts, settings.batch, settings.frozen
    ('inception_v3', ('XR_HUMERUS',), 16, True)
    """
    return replace(
        base, trunk="inception_v3", top="c", parts=("XR_HUMERUS",), batch=16, frozen=base.weights is not None,
        size=max(base.size, _SMALLEST["inception_v3"]),
    )  # fmt: skip


def system_e(base: ClassifierExperiment) -> ClassifierExperiment:
    """DenseNet-121 on the humerus, all layers learning.

    Examples
    --------
    >>> settings = system_e(ClassifierExperiment(size=224, weights="imagenet"))
    >>> settings.trunk, settings.parts, settings.batch, settings.frozen
    ('densenet121', ('XR_HUMERUS',), 16, False)
    """
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

    Examples
    --------
    .. code-block:: python

        from siamura.experiments import load_classifier
        runs = {"mine": load_classifier("runs/classifier")}  # not what system E trained: its column stays empty
        print(classifier_tables(runs, "E", "Humerus"))
        # # Humerus
        # ...
        # | part | trunk | figure | published | trivial baseline | measured |
        # |---|---|---|---|---|---|
        # | XR_HUMERUS | densenet121 | valid accuracy (about) | 0.79 | – | – |
        # | XR_HUMERUS | densenet121 | valid accuracy (about, after tuning) | 0.85 | – | – |
    """
    first = next(iter(runs.values()))
    lines = [f"# {title}", ""]
    lines += sorted({data_sentence(run.config["data"]) for run in runs.values()})
    settings = first.experiment
    lines += [
        f"{settings.size} px, {settings.epochs} epochs, weights: {settings.weights or 'from scratch, nothing frozen'}.",
        f"Measured, per view: value [95 % interval, bootstrap over patients]; {WEIGHTED}. {TRIVIAL}",
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


def _row(figure: Published, runs: Mapping[str, ClassifierRun]) -> str:
    cells = ["–", "–"]
    for run in runs.values():
        if is_of(figure, run.experiment):
            view = run.metrics[figure.split]["view"]
            cells = [with_interval(view.get(head), key_of(figure)) for head in ("trivial", "classifier")]
    name = f"{figure.split} {figure.metric}" + (f" ({figure.note})" if figure.note else "")
    return f"| {figure.part} | {figure.trunk} | {name} | {figure.value:g} | {cells[0]} | {cells[1]} |"
