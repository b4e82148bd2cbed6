"""One experiment, from radiographs on disk to a run folder with a table, figures, a model and a report."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import siamura
from siamura.heads.distance_limit import DistanceLimit

from .card import write_card
from .experiment import Experiment
from .folder import Run, load_run, open_folder, write_config, write_embeddings, write_json
from .inputs import Inputs, cache_folder, load
from .tables import finger_table

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    from pytorch_metric_learning.losses import BaseMetricLossFunction


__all__ = ["build_loss", "run"]


def run(
    experiment: Experiment,
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    resume: bool = False,
    cache: str | os.PathLike[str] | None = None,
) -> Run:
    """Run an experiment and write its folder.

    Parameters
    ----------
    experiment : Experiment
        The settings.
    out : path
        The run folder; made if it is not there.
    overwrite : bool
        Whether an earlier run in it is replaced.
    resume : bool
        Whether a stopped run in it is gone on with, from its last checkpoint.
    cache : path, optional
        Where phantoms and preprocessed images are kept between runs; ``SIAMURA_CACHE``, or the user's cache
        folder, if not given.

    Returns
    -------
    Run
        What was written. After Ctrl-C during training it is complete too, measured with the network so far, and
        ``config["status"]`` is ``"interrupted"``.

    Raises
    ------
    ValueError
        If the data has one label only, or fewer patients of a label than K, or no such part.
    FileNotFoundError
        If the data folder is no MURA tree.
    FileExistsError, PermissionError
        If the run folder is in use or cannot be written.

    Examples
    --------
    >>> settings = Experiment(data="phantoms", trunk="squeezenet1_1", size=32, steps=1, k=4, augment="none")
    >>> done = run(settings, "runs/tiny")
    >>> sorted(done.metrics["valid"]["study"])
    ['knn', 'mlp', 'trivial']
    >>> (done.folder / "report.html").is_file()
    True
    """
    from siamura.training.distributed import by_first

    started = time.time()
    folder = by_first(lambda: open_folder(out, overwrite=overwrite, resume=experiment if resume else None))
    try:
        return _run(experiment, folder, Path(cache) if cache else cache_folder(), started, resume=resume)
    except (ValueError, OSError):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # bad input leaves nothing behind
        raise


def _run(experiment: Experiment, folder: Path, cache: Path, started: float, *, resume: bool) -> Run:
    """Train, with all processes that there are; then the first one measures, draws and writes."""
    from siamura.networks import EmbeddingNet
    from siamura.pixels import CLAHE, Preprocess
    from siamura.samplers import PKBatchSampler
    from siamura.training import embed, fit
    from siamura.training.distributed import by_first
    from siamura.training.metric import run_length

    pre = Preprocess(size=experiment.size, clahe=CLAHE() if experiment.clahe else None)
    net = EmbeddingNet(
        experiment.trunk, dim=experiment.dim, weights=experiment.weights, preprocess=pre, seed=experiment.seed
    )
    loss = build_loss(experiment)
    inputs = load(
        experiment.data, (experiment.part,), pre, folder, cache=cache, views=experiment.views,
        seed=experiment.seed, patients=experiment.k,
    )  # fmt: skip
    splits, train = inputs.splits, inputs.splits["train"]
    facts: dict[str, Any] = {"data": inputs.facts, "preprocessing": pre.to_dict()}
    by_first(lambda: write_config(folder, experiment, status="training", **facts))

    batches = PKBatchSampler(
        train.table["label"],
        p=experiment.p,
        k=experiment.k,
        groups=train.table["patient"],
        seed=experiment.seed,
    )
    history = fit(  # writes history.csv, model/ and checkpoints as it goes
        net, train, batches, loss, epochs=experiment.epochs, steps=experiment.steps, lr=experiment.lr,
        augment=experiment.augment, seed=experiment.seed, out=folder, resume=resume,
    )  # fmt: skip
    interrupted = len(history) < run_length(batches, experiment.epochs, experiment.steps)

    embeddings = {split: embed(net, data) for split, data in splits.items()}
    by_first(
        lambda: _finish(
            experiment, folder, inputs, facts, history, embeddings, loss,
            status="interrupted" if interrupted else "finished", started=started,
        )
    )  # fmt: skip
    return load_run(folder)


def _finish(
    experiment: Experiment,
    folder: Path,
    inputs: Inputs,
    facts: dict[str, Any],
    history: pd.DataFrame,
    embeddings: dict[str, npt.NDArray[np.float32]],
    loss: BaseMetricLossFunction,
    *,
    status: str,
    started: float,
) -> None:
    """Fit the heads on the embeddings, measure, and write all that a run folder holds."""
    from . import figures, measuring
    from .report import write_report

    splits, train = inputs.splits, inputs.splits["train"]
    heads = measuring.fit_heads(
        embeddings["train"], train.table, neighbours=experiment.neighbours, seed=experiment.seed
    )
    metrics: dict[str, Any] = {}
    predicted = {}
    for split, data in splits.items():
        predicted[split] = measuring.probabilities(heads, embeddings[split], data.table)
        if split == "valid":
            predicted[split]["trivial"] = measuring.trivial(inputs.table, seed=experiment.seed)
        metrics[split] = measuring.measure(data.table, predicted[split], seed=experiment.seed)
        metrics[split]["view"]["embedding"] = {
            "loss": measuring.embedding_loss(
                loss, embeddings[split], data.table, p=experiment.p, k=experiment.k, seed=experiment.seed
            ),
            **measuring.quality(embeddings[split], data.table, seed=experiment.seed),
        }
    for name, head in heads.items():
        head.save(folder / name)
    DistanceLimit.of(heads["knn"], embeddings["valid"]).save(folder)
    write_embeddings(folder, np.concatenate([embeddings["train"], embeddings["valid"]]), inputs.table)
    write_json(folder / "metrics.json", metrics)
    write_card(folder / "model", experiment, metrics, facts["data"], history, siamura.__version__)
    (folder / "table.md").write_text(
        finger_table(experiment, metrics, facts["data"], history), encoding="utf-8"
    )
    figures.draw(folder, experiment, facts["data"], history, splits, embeddings, predicted, heads)
    write_config(
        folder, experiment, status=status, seconds=round(time.time() - started, 1), **facts
    )  # fmt: skip
    write_report(folder)
    if status == "finished":
        (folder / "checkpoint.ckpt").unlink(missing_ok=True)


def build_loss(experiment: Experiment) -> BaseMetricLossFunction:
    """Make the training loss that an experiment names."""
    from pytorch_metric_learning.reducers import MeanReducer

    from siamura import losses

    margin = experiment.margin
    match experiment.loss:
        case "triplet":
            # System A sums over all valid triplets; their mean has the same direction, and a scale of its own.
            return losses.TripletLoss(margin=margin, reducer=MeanReducer())
        case "batch_hard":
            return losses.BatchHardTripletLoss(margin=margin)
        case "semi_hard":
            return losses.SemiHardTripletLoss(margin=margin)
        case "triplet_focal":
            return losses.TripletFocalLoss(margin=margin, sigma=experiment.sigma)
        case "selectively_contrastive":
            return losses.SelectivelyContrastiveLoss()
