"""Every loss on some trunks, widths and seeds, on the same images: which one to take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import pandas as pd

from siamura._names import PARTS
from siamura.experiments import ClassifierExperiment, ClassifierRun, Experiment, Run
from siamura.experiments.settings import LossName, parts_of
from siamura.report.tables import RESEARCH, TRIVIAL, data_sentence, with_interval

__all__ = ["compared", "loss_grid", "loss_table"]


def loss_grid(
    base: Experiment,
    *,
    trunks: Sequence[str] = ("densenet169", "resnet50"),
    dims: Sequence[int] = (128, 256),
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, Experiment | ClassifierExperiment]:
    """Give one experiment for every loss, trunk, width and seed, and a supervised classifier of each trunk and seed.

    Parameters
    ----------
    base : Experiment
        Data, schedule, size and everything else.

    Returns
    -------
    dict of str to Experiment or ClassifierExperiment
        The classifier learns for 4 epochs, in batches of the same size.

    Examples
    --------
    >>> cells = loss_grid(Experiment(size=64), trunks=["resnet18"], dims=[128], seeds=[0])
    >>> list(cells)
    ['triplet-resnet18-128-seed0', 'batch_hard-resnet18-128-seed0', 'semi_hard-resnet18-128-seed0',
     'triplet_focal-resnet18-128-seed0', 'selectively_contrastive-resnet18-128-seed0', 'classifier-resnet18-seed0']
    """
    cells: dict[str, Experiment | ClassifierExperiment] = {}
    for seed in seeds:
        for trunk in trunks:
            for dim in dims:
                for loss in get_args(LossName):
                    cell = replace(base, trunk=trunk, dim=dim, loss=loss, seed=seed)
                    cells[f"{loss}-{trunk}-{dim}-seed{seed}"] = cell
            cells[f"classifier-{trunk}-seed{seed}"] = ClassifierExperiment(
                data=base.data, columns=base.columns, positive=base.positive,
                parts=parts_of(base.part) or PARTS, trunk=trunk, top="mura", seed=seed, size=base.size,
                views=base.views, batch=base.p * base.k, epochs=4, lr=base.lr, augment=base.augment,
            )  # fmt: skip
    return cells


def compared(runs: Mapping[str, Run | ClassifierRun]) -> pd.DataFrame:
    """Give the figures of a comparison, one row a run.

    Parameters
    ----------
    runs : mapping of str to Run or ClassifierRun
        Of `run_grid` over `loss_grid`.

    Returns
    -------
    DataFrame
        ``loss``, ``trunk``, ``dim`` (as text), ``seed``; validation ``kappa`` per view with ``low`` and ``high``
        (k-NN, or the classifier itself), ``positive_distance`` and ``negative_distance`` between embeddings of
        length 1, ``collapsed``: images of different labels are less than 0.05 apart, of at most 2, and ``share``: how
        much of the training was on the loss itself, where `siamura.fit` begins with all triplets.

    Examples
    --------
    .. code-block:: python

        from siamura.experiments import load_classifier, load_run
        runs = {"first": load_run("runs/first"), "classifier": load_classifier("runs/classifier")}
        compared(runs)[["loss", "trunk", "dim", "seed"]]
        #                    loss          trunk dim  seed
        # 0         triplet_focal       resnet18  16     0
        # 1  binary cross-entropy  squeezenet1_1   –     0
    """
    return pd.DataFrame([_row(run) for run in runs.values()])


def _row(run: Run | ClassifierRun) -> dict[str, Any]:
    view = run.metrics["valid"]["view"]
    row: dict[str, Any] = {"trunk": run.experiment.trunk, "seed": run.experiment.seed}
    if isinstance(run, Run):
        figures, apart = view["knn"], view["embedding"]
        row |= {"loss": run.experiment.loss, "dim": str(run.experiment.dim)}
        row |= {name: apart[name] for name in ("positive_distance", "negative_distance")}
        row["collapsed"] = apart["negative_distance"] < 0.05
        row["share"] = run.history["share"].mean()
    else:
        figures = view["classifier"]
        row |= {"loss": "binary cross-entropy", "dim": "–", "collapsed": None, "share": 1.0}
    low, high = figures["interval"].get("kappa", (math.nan, math.nan))
    return {**row, "kappa": figures["kappa"], "low": low, "high": high}


def loss_table(runs: Mapping[str, Run | ClassifierRun]) -> str:
    """Print a comparison as Markdown: one row a configuration, one column a seed, the trivial baseline first.

    Examples
    --------
    .. code-block:: python

        from siamura.experiments import load_classifier, load_run
        runs = {"first": load_run("runs/first"), "classifier": load_classifier("runs/classifier")}
        print(loss_table(runs))
        # # Every loss on XR_FINGER
        # ...
        # | loss | trunk | dim | seed 0 |
        # |---|---|---|---|
        # | trivial baseline | – | – | ... |
        # | triplet_focal | resnet18 | 16 | ... |
        # | binary cross-entropy | squeezenet1_1 | – | ... |
    """
    first = next(run for run in runs.values() if isinstance(run, Run))
    frame = compared(runs)
    seeds = sorted({run.experiment.seed for run in runs.values()})
    experiment = first.experiment
    collapsed = int((frame["collapsed"] == True).sum())  # noqa: E712
    lines = [
        f"# Every loss on {experiment.part}",
        "",
        data_sentence(first.config["data"]),
        f"{experiment.size} px, {experiment.steps} steps of {experiment.p} x {experiment.k} images, weights: "
        f"{experiment.weights or 'from scratch'}.",
        "Measured: validation kappa per view [95 % interval, bootstrap over patients], k-NN on the embeddings; binary "
        f"cross-entropy is a supervised classifier without an embedding. {TRIVIAL}",
        f"Collapsed embeddings: {collapsed} of {int(frame['collapsed'].notna().sum())}.",
        "Share of the training that was on the loss itself, the rest on all triplets (docs/training.md): "
        f"{_shares(frame)}.",
        RESEARCH,
        "",
        "| loss | trunk | dim | " + " | ".join(f"seed {seed}" for seed in seeds) + " |",
        "|---" * (3 + len(seeds)) + "|",
    ]
    trivial = {run.experiment.seed: run.metrics["valid"]["view"]["trivial"] for run in runs.values()}
    lines.append(
        _line(("trivial baseline", "–", "–"), seeds, {s: with_interval(trivial[s], "kappa") for s in seeds})
    )
    for names, rows in frame.groupby(["loss", "trunk", "dim"], sort=False):
        cells = {
            row["seed"]: f"{row['kappa']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
            + (" collapsed" if row["collapsed"] is True else "")
            for row in rows.to_dict("records")
        }
        lines.append(_line(names, seeds, cells))
    return "\n".join(lines) + "\n"


def _shares(frame: pd.DataFrame) -> str:
    ranges = frame.groupby("loss", sort=False)["share"].agg(["min", "max"])
    return ", ".join(
        f"{loss} {low:.0%}" + (f" to {high:.0%}" if high > low else "")
        for loss, (low, high) in zip(ranges.index, ranges.to_numpy(), strict=True)
    )


def _line(names: Iterable[object], seeds: Sequence[int], cells: Mapping[int, str]) -> str:
    return "| " + " | ".join([*map(str, names), *(cells.get(seed, "–") for seed in seeds)]) + " |"
