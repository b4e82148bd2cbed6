"""Many experiments in one folder: continued where they were stopped, set beside every published table."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from siamura import experiments
from siamura.experiments import (
    ClassifierExperiment,
    ClassifierRun,
    Experiment,
    Run,
)
from siamura.experiments.folder import finished_run
from siamura.report.published import Published, published
from siamura.report.tables import RESEARCH, TRIVIAL, data_sentence, share_of, with_interval

__all__ = ["finger_grid", "finger_tables", "run_grid"]

_log = logging.getLogger(__name__)


def finger_grid(base: Experiment) -> dict[str, Experiment]:
    """Give the configurations of Tables 5.1 to 5.12, by name, on the data and schedule of `base`.

    Returns
    -------
    dict of str to Experiment
        Eight cells: ResNet-50 and DenseNet-169, DenseNet-169 with CLAHE, and DenseNet-169 with the triplet focal
        loss, at 256 and 128 dimensions. The report does not say which triplet loss the first six used; the sum
        over all valid triplets is taken. Nor does it say whether the focal rows used CLAHE; as they are compared
        with the rows without, they are run without.

    Examples
    --------
    >>> cells = finger_grid(Experiment(steps=40))
    >>> list(cells)
    ['resnet50-256', 'resnet50-128', 'densenet169-256', 'densenet169-128', 'densenet169-clahe-256',
     'densenet169-clahe-128', 'densenet169-focal-256', 'densenet169-focal-128']
    >>> cells["densenet169-clahe-128"].clahe, cells["densenet169-focal-128"].loss
    (True, 'triplet_focal')
    """
    kinds = {
        "resnet50": replace(base, trunk="resnet50", loss="triplet", clahe=False),
        "densenet169": replace(base, trunk="densenet169", loss="triplet", clahe=False),
        "densenet169-clahe": replace(base, trunk="densenet169", loss="triplet", clahe=True),
        "densenet169-focal": replace(base, trunk="densenet169", loss="triplet_focal", clahe=False),
    }
    return {f"{name}-{dim}": replace(cell, dim=dim) for name, cell in kinds.items() for dim in (256, 128)}


@overload
def run_grid(cells: Mapping[str, Experiment], out: str | os.PathLike[str]) -> dict[str, Run]: ...


@overload
def run_grid(
    cells: Mapping[str, ClassifierExperiment], out: str | os.PathLike[str]
) -> dict[str, ClassifierRun]: ...


def run_grid(cells: Mapping[str, Any], out: str | os.PathLike[str]) -> dict[str, Any]:
    """Run experiments, each in a folder of its name; one that is finished with the same settings is kept.

    Parameters
    ----------
    cells : mapping of str to Experiment or ClassifierExperiment
    out : path
        The folder above the run folders. Phantoms and preprocessed images are shared by the cells.

    Returns
    -------
    dict of str to Run or ClassifierRun
        In the order given.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C in a cell, whose folder is complete and marked as interrupted: later cells are not begun, and
        the same call runs that cell anew, and the rest.

    Examples
    --------
    .. code-block:: python

        from siamura.experiments import load_run

        cells = {"first": load_run("runs/first").experiment}
        runs = run_grid(cells, "runs/")  # runs/first is finished with these settings: it is read, not run again
        runs["first"].config["status"], len(runs["first"].history) == cells["first"].steps
        # ('finished', True)
    """
    done: dict[str, Any] = {}
    for number, (name, cell) in enumerate(cells.items(), start=1):
        folder = Path(out) / name
        start: Any = experiments.run if isinstance(cell, Experiment) else experiments.run_classifier
        done[name] = finished_run(folder, cell)
        if done[name] is None:
            _log.info("%d of %d: %s", number, len(cells), name)
            done[name] = start(cell, folder, overwrite=(folder / "config.json").is_file())
            if done[name].config["status"] == "interrupted":
                raise KeyboardInterrupt(
                    f"The grid is partial: stopped in {name}; the same call goes on with it."
                )
    return done


def finger_tables(runs: Mapping[str, Run]) -> str:
    """Print Tables 5.1 to 5.12 with measured columns beside, as Markdown.

    Parameters
    ----------
    runs : mapping of str to Run
        Of `run_grid` over `finger_grid`.

    Examples
    --------
    .. code-block:: python

        from siamura.experiments import load_run

        text = finger_tables({"first": load_run("runs/first")})
        text.count("## Table")
        # 12
        print(text.splitlines()[-1])  # ResNet-18 is in no table, so nothing measured stands beside
        # | densenet169 + focal | 128 | 0.408 | 0.374 | – | – | – | – |
    """
    first = next(iter(runs.values()))
    by_cell: dict[tuple[str, bool, str, int], Run] = {
        (r.experiment.trunk, r.experiment.clahe, r.experiment.loss, r.experiment.dim): r
        for r in runs.values()
    }
    lines = [
        f"# System A, Tables 5.1 to 5.12, on {first.experiment.part}",
        "",
        data_sentence(first.config["data"]),
        f"{first.experiment.size} px, {first.experiment.steps} steps, "
        f"weights: {first.experiment.weights or 'from scratch'}.",
        "Measured, per view: value [95 % interval, bootstrap over patients]; on train the MLP is judged on the "
        f"images it was fitted on, and in the k-NN a patient's own images do not vote. {TRIVIAL}",
        "Published: system A's report, on MURA with ImageNet weights; printed there, not measured here.",
        *(
            f"Triplet focal, {r.experiment.dim} dimensions: {share_of(r.history)} (docs/training.md)."
            for r in runs.values()
            if r.experiment.loss == "triplet_focal"
        ),
        RESEARCH,
    ]
    for number in range(1, 13):
        figures = published(system="A", table=f"5.{number}")
        lines += [
            "",
            f"## Table 5.{number}: {_TITLES[(number - 1) % 4]}",
            "",
            _HEADER[figures[0].metric == "loss"],
        ]
        for train, valid in zip(figures[::2], figures[1::2], strict=True):
            run_ = by_cell.get((train.trunk, bool(train.clahe), train.loss, train.dim or 0))
            lines.append(_row(train, valid, run_))
    return "\n".join(lines) + "\n"


_TITLES = ("embedding loss", "accuracy", "error", "Cohen's kappa")
_HEADER = {
    True: "| configuration | dim | published train | published valid | measured train | measured valid |\n"
    "|---|---|---|---|---|---|",
    False: "| configuration | dim | published train | published valid | measured valid, trivial baseline "
    "| measured train, MLP | measured valid, MLP | measured valid, k-NN |\n|---|---|---|---|---|---|---|---|",
}


def _row(train: Published, valid: Published, run_: Run | None) -> str:
    name = (
        train.trunk
        + (" + CLAHE" if train.clahe else "")
        + (" + focal" if train.loss == "triplet_focal" else "")
    )
    start = f"| {name} | {train.dim} | {train.value:g} | {valid.value:g} "
    heads = [("train", "embedding"), ("valid", "embedding")]
    if train.metric != "loss":
        heads = [("valid", "trivial"), ("train", "mlp"), ("valid", "mlp"), ("valid", "knn")]
    cells = [
        with_interval(None if run_ is None else run_.metrics[split]["view"].get(head), train.metric)
        for split, head in heads
    ]
    return start + "".join(f"| {cell} " for cell in cells) + "|"
