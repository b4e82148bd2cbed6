"""Every loss on some trunks, widths and seeds, on the same films: which one to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import pandas as pd

from .classifying import ClassifierExperiment, ClassifierRun
from .experiment import Experiment, LossName
from .folder import Run
from .tables import RESEARCH, data_sentence

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
    """
    cells: dict[str, Experiment | ClassifierExperiment] = {}
    for seed in seeds:
        for trunk in trunks:
            for dim in dims:
                for loss in get_args(LossName):
                    cell = replace(base, trunk=trunk, dim=dim, loss=loss, seed=seed)
                    cells[f"{loss}-{trunk}-{dim}-seed{seed}"] = cell
            cells[f"classifier-{trunk}-seed{seed}"] = ClassifierExperiment(
                data=base.data, parts=(base.part,), trunk=trunk, top="mura", seed=seed, size=base.size,
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
        ``loss``, ``trunk``, ``dim``, ``seed``; validation ``kappa`` per view with ``low`` and ``high`` (k-NN, or the
        classifier itself), ``positive_distance`` and ``negative_distance`` between embeddings of length 1, and
        ``collapsed``: the distance of the two kinds is below 0.05, a fiftieth part of the sphere's diameter and less.
    """
    return pd.DataFrame([_row(run) for run in runs.values()])


def _row(run: Run | ClassifierRun) -> dict[str, Any]:
    view = run.metrics["valid"]["view"]
    metric = isinstance(run, Run)
    figures = view["knn" if metric else "classifier"]
    low, high = figures["interval"].get("kappa", (None, None))
    apart = view["embedding"] if metric else {}
    return {
        "loss": run.experiment.loss if metric else "binary cross-entropy",
        "trunk": run.experiment.trunk,
        "dim": run.experiment.dim if metric else None,
        "seed": run.experiment.seed,
        "kappa": figures["kappa"],
        "low": low,
        "high": high,
        "positive_distance": apart.get("positive_distance"),
        "negative_distance": apart.get("negative_distance"),
        "collapsed": apart["negative_distance"] < 0.05 if metric else None,
    }


def loss_table(runs: Mapping[str, Run | ClassifierRun]) -> str:
    """Print a comparison as Markdown: one row a configuration, one column a seed."""
    first = next(run for run in runs.values() if isinstance(run, Run))
    frame = compared(runs)
    seeds = sorted(frame["seed"].unique())
    experiment = first.experiment
    collapsed = int((frame["collapsed"] == True).sum())  # noqa: E712
    lines = [
        f"# Every loss on {experiment.part}",
        "",
        data_sentence(first.config["data"]),
        f"{experiment.size} px, {experiment.steps} steps of {experiment.p} x {experiment.k} films, weights: "
        f"{experiment.weights or 'from scratch'}.",
        "Measured: validation kappa per view [95 % interval, bootstrap over patients], k-NN on the embeddings; binary "
        "cross-entropy is a supervised classifier without an embedding.",
        f"Collapsed embeddings: {collapsed} of {int(frame['collapsed'].notna().sum())}.",
        RESEARCH,
        "",
        "| loss | trunk | dim | " + " | ".join(f"seed {seed}" for seed in seeds) + " |",
        "|---" * (3 + len(seeds)) + "|",
    ]
    for (loss, trunk, dim), rows in frame.groupby(["loss", "trunk", "dim"], dropna=False, sort=False):
        cells = {
            row.seed: f"{row.kappa:.3f} [{row.low:.3f}, {row.high:.3f}]"
            + (" collapsed" if row.collapsed is True else "")
            for row in rows.itertuples()
        }
        width = "–" if pd.isna(dim) else f"{dim:.0f}"
        lines.append(f"| {loss} | {trunk} | {width} | " + " | ".join(cells.get(s, "–") for s in seeds) + " |")
    return "\n".join(lines) + "\n"
