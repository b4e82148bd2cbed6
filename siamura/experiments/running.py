"""One experiment, from radiographs on disk to a run folder with a table, figures, a model and a report."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .experiment import Experiment
from .folder import Run, load_run, open_folder, write_config, write_embeddings, write_json
from .tables import finger_table

if TYPE_CHECKING:
    from pytorch_metric_learning.losses import BaseMetricLossFunction


__all__ = ["build_loss", "cache_folder", "phantoms_for", "run"]

_log = logging.getLogger(__name__)


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
    """
    started = time.time()
    folder = open_folder(out, overwrite=overwrite, resume=experiment if resume else None)
    try:
        return _run(experiment, folder, Path(cache) if cache else cache_folder(), started, resume=resume)
    except (ValueError, OSError):
        if not any(folder.iterdir()):
            folder.rmdir()  # bad input leaves nothing behind
        raise


def _run(experiment: Experiment, folder: Path, cache: Path, started: float, *, resume: bool) -> Run:
    from siamura.networks import EmbeddingNet
    from siamura.pixels import CLAHE, Preprocess, RadiographDataset
    from siamura.samplers import PKBatchSampler
    from siamura.studies import is_phantom
    from siamura.training import embed, fit
    from siamura.training.metric import run_length

    from . import figures, measuring

    root = Path(experiment.data) if experiment.data else phantoms_for(experiment, cache)
    table = _read(root, experiment)
    pre = Preprocess(size=experiment.size, clahe=CLAHE() if experiment.clahe else None)
    splits = {
        split: RadiographDataset(
            table[table["split"] == split].reset_index(drop=True),
            pre,
            cache=cache / "images",
            on_error="skip",
        )
        for split in ("train", "valid")
    }
    train, valid = splits["train"], splits["valid"]
    for split, data in splits.items():
        _check(data.table, split, experiment)
    unreadable = pd.concat([data.unreadable for data in splits.values()], ignore_index=True)
    if len(unreadable):
        unreadable.to_csv(folder / "unreadable.csv", index=False)
        _log.warning(
            "%d images could not be read and are left out; see %s", len(unreadable), folder / "unreadable.csv"
        )
    facts: dict[str, Any] = {
        "data": {
            "name": str(root),
            "phantoms": is_phantom(root),
            "part": experiment.part,
            "counts": {split: _counts(data.table) for split, data in splits.items()},
            "unreadable": len(unreadable),
        },
        "preprocessing": pre.to_dict(),
    }
    write_config(folder, experiment, status="training", **facts)

    net = EmbeddingNet(
        experiment.trunk, dim=experiment.dim, weights=experiment.weights, preprocess=pre, seed=experiment.seed
    )
    loss = build_loss(experiment)
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
    heads = measuring.fit_heads(
        embeddings["train"], train.table, neighbours=experiment.neighbours, seed=experiment.seed
    )
    everything = pd.concat([train.table, valid.table], ignore_index=True)
    trivial = measuring.trivial(everything, seed=experiment.seed)
    metrics: dict[str, Any] = {}
    predicted = {}
    for split, data in splits.items():
        predicted[split] = measuring.probabilities(heads, embeddings[split], data.table)
        by_head = {**predicted[split], "trivial": trivial[split]}
        metrics[split] = measuring.measure(data.table, by_head, seed=experiment.seed)
        metrics[split]["view"]["embedding"] = {
            "loss": measuring.embedding_loss(
                loss, embeddings[split], data.table, p=experiment.p, k=experiment.k, seed=experiment.seed
            ),
            **measuring.quality(embeddings[split], data.table, seed=experiment.seed),
        }
    for name, head in heads.items():
        head.save(folder / name)
    write_embeddings(folder, np.concatenate([embeddings["train"], embeddings["valid"]]), everything)
    write_json(folder / "metrics.json", metrics)
    (folder / "table.md").write_text(finger_table(experiment, metrics, facts["data"]), encoding="utf-8")
    figures.draw(folder, experiment, facts["data"], history, splits, embeddings, predicted)
    write_config(
        folder, experiment, status="interrupted" if interrupted else "finished",
        seconds=round(time.time() - started, 1), **facts,
    )  # fmt: skip
    from .report import write_report

    write_report(folder)
    if not interrupted:
        (folder / "checkpoint.ckpt").unlink(missing_ok=True)
    return load_run(folder)


def cache_folder() -> Path:
    """Where phantoms and preprocessed images are kept: ``SIAMURA_CACHE``, or the user's cache folder."""
    if chosen := os.environ.get("SIAMURA_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siamura"


def phantoms_for(experiment: Experiment, cache: Path) -> Path:
    """Draw the phantoms of an experiment, once: the same settings find them in the cache."""
    from siamura.studies import is_phantom, make_phantoms

    root = cache / "phantoms" / f"{experiment.part}-{experiment.views}-seed{experiment.seed}"
    if not is_phantom(root):
        make_phantoms(root, parts=(experiment.part,), views=experiment.views, seed=experiment.seed)
    return root


def build_loss(experiment: Experiment) -> BaseMetricLossFunction:
    """Make the training loss that an experiment names."""
    from siamura import losses

    margin = experiment.margin
    match experiment.loss:
        case "triplet":
            return losses.TripletLoss(margin=margin)
        case "batch_hard":
            return losses.BatchHardTripletLoss(margin=margin)
        case "semi_hard":
            return losses.SemiHardTripletLoss(margin=margin)
        case "triplet_focal":
            return losses.TripletFocalLoss(margin=margin, sigma=experiment.sigma)
        case "selectively_contrastive":
            return losses.SelectivelyContrastiveLoss()


def _read(root: Path, experiment: Experiment) -> pd.DataFrame:
    from siamura.studies import read_mura

    table = read_mura(root, part=experiment.part)
    for split in ("train", "valid"):
        if not (table["split"] == split).any():
            raise ValueError(
                f"{root} has no {split} views of {experiment.part}; both train and valid are needed."
            )
    return table


def _check(table: pd.DataFrame, split: str, experiment: Experiment) -> None:
    """Refuse what would make the figures meaningless, before anything is trained."""
    patients = table.groupby("label")["patient"].nunique()
    if len(patients) < 2:
        only = "no readable view" if not len(patients) else f"only label {patients.index[0]}"
        raise ValueError(
            f"the {split} views have {only}; normal (0) and abnormal (1) studies are both needed."
        )
    if split == "train" and patients.min() < experiment.k:
        label = patients.idxmin()
        raise ValueError(
            f"label {label} has {patients[label]} patients in train, fewer than k={experiment.k}; "
            f"lower --k to at most {patients[label]}, or add studies."
        )


def _counts(table: pd.DataFrame) -> dict[str, int]:
    return {
        "views": len(table),
        "studies": len(table[["part", "patient", "study"]].drop_duplicates()),
        "patients": table["patient"].nunique(),
        "abnormal_views": int(table["label"].sum()),
    }
