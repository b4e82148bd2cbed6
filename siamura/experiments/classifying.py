"""Supervised classifiers (systems B to E and the MURA paper) as experiments: settings in, run folder out."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from .experiment import ClassifierExperiment
from .folder import StoredRun, open_folder, read_folder, write_config, write_json
from .inputs import Inputs, cache_folder, load
from .tables import classifier_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from siamura.networks import Classifier

__all__ = ["ClassifierRun", "load_classifier", "run_classifier"]


@dataclass(frozen=True)
class ClassifierRun(StoredRun):
    """A finished classifier: folder, settings and figures (head ``classifier``), the network on demand.

    Examples
    --------
    >>> done = load_classifier("runs/classifier")
    >>> done.network().preprocess.size, done.config["status"]
    (32, 'finished')
    >>> len(done.predictions()) == sum(split["views"] for split in done.config["data"]["counts"].values())
    True
    """

    experiment: ClassifierExperiment

    def network(self) -> Classifier:
        """The trained classifier, with its preprocessing."""
        from siamura.networks import Classifier

        return Classifier.from_pretrained(self.folder / "model")

    def predictions(self) -> pd.DataFrame:
        """The study table with ``probability``."""
        return pd.read_csv(self.folder / "predictions.csv", dtype={"patient": str, "study": str})


def load_classifier(folder: str | os.PathLike[str]) -> ClassifierRun:
    """Read the run folder of a classifier; `FileNotFoundError` if it holds no finished one.

    Examples
    --------
    >>> done = load_classifier("runs/classifier")
    >>> done.experiment.parts
    ('XR_FINGER',)
    >>> sorted(done.metrics)
    ['train', 'valid']
    """
    stored = read_folder(folder)
    return ClassifierRun(experiment=ClassifierExperiment.from_dict(stored["config"]["experiment"]), **stored)


def run_classifier(
    experiment: ClassifierExperiment,
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    cache: str | os.PathLike[str] | None = None,
) -> ClassifierRun:
    """Train a classifier, measure it per view and per study, and write its run folder.

    Parameters
    ----------
    experiment : ClassifierExperiment
    out : path
    overwrite : bool
    cache : path, optional
        As for `siamura.run`.

    Returns
    -------
    ClassifierRun
        Complete after Ctrl-C during training too, measured with the network so far; its ``config["status"]`` is
        ``"interrupted"`` then.
        ``metrics[split][level]["classifier"]``, over all parts, and of each under
        ``metrics[split][level]["classifier"]["parts"]``; on valid also ``"trivial"``, the trivial baseline.

    Raises
    ------
    ValueError, FileNotFoundError, FileExistsError
        As for `siamura.run`.

    Examples
    --------
    >>> settings = ClassifierExperiment(
    ...     data="phantoms", parts=("XR_FINGER",), trunk="squeezenet1_1", size=32, epochs=1
    ... )
    >>> done = run_classifier(settings, "runs/classifier", overwrite=True)
    >>> sorted(done.metrics["valid"]["study"])
    ['classifier', 'trivial']
    >>> "kappa" in done.table()
    True
    """
    from siamura.networks import Classifier
    from siamura.pixels import Preprocess
    from siamura.training import fit_classifier, predict_proba
    from siamura.training.distributed import by_first

    started = time.time()
    folder = by_first(lambda: open_folder(out, overwrite=overwrite))
    pre = Preprocess(size=experiment.size, clahe=None, equalise=experiment.equalise)
    net = Classifier(
        experiment.trunk, experiment.top, weights=experiment.weights, preprocess=pre, seed=experiment.seed
    )
    inputs = load(
        experiment.data, experiment.parts, pre, folder, cache=Path(cache) if cache else cache_folder(),
        views=experiment.views, seed=experiment.seed,
    )  # fmt: skip
    facts: dict[str, Any] = {"kind": "classifier", "data": inputs.facts, "preprocessing": pre.to_dict()}
    by_first(lambda: write_config(folder, experiment, status="training", **facts))
    train, valid = inputs.splits["train"], inputs.splits["valid"]
    common: dict[str, Any] = {
        "valid": valid, "batch_size": experiment.batch, "seed": experiment.seed, "optimizer": experiment.optimizer,
        "weights": "part" if experiment.weighted else None, "augment": experiment.augment, "checkpoint_every": None,
    }  # fmt: skip
    if experiment.frozen:
        net.trunk.freeze()
    histories = [
        fit_classifier(
            net, train, epochs=experiment.epochs, lr=experiment.lr, schedule=experiment.schedule,
            patience=experiment.patience, **common,
        )
    ]  # fmt: skip
    interrupted = _stopped(histories[0], experiment.epochs, experiment.patience)
    if experiment.tune_epochs and not interrupted:
        net.trunk.unfreeze(experiment.tune_from)
        more = fit_classifier(net, train, epochs=experiment.tune_epochs, lr=experiment.lr / 10, **common)
        interrupted = _stopped(more, experiment.tune_epochs, None)
        last = histories[0].iloc[-1]
        histories.append(more.assign(step=more["step"] + last["step"], epoch=more["epoch"] + last["epoch"]))
    history = pd.concat(histories, ignore_index=True)
    probability = {split: predict_proba(net, data) for split, data in inputs.splits.items()}
    by_first(
        lambda: _finish(
            experiment, folder, inputs, facts, history, net, probability,
            status="interrupted" if interrupted else "finished", started=started,
        )
    )  # fmt: skip
    return load_classifier(folder)


def _stopped(history: pd.DataFrame, epochs: int, patience: int | None) -> bool:
    """Whether Ctrl-C ended a training: within an epoch, or after one that was not to be the last."""
    last = history.iloc[-1]
    return bool(pd.isna(last.get("valid_loss")) or (last["epoch"] < epochs and patience is None))


def _finish(
    experiment: ClassifierExperiment,
    folder: Path,
    inputs: Inputs,
    facts: dict[str, Any],
    history: pd.DataFrame,
    net: Classifier,
    probability: Mapping[str, npt.NDArray[np.floating[Any]]],
    *,
    status: str,
    started: float,
) -> None:
    """Measure, and write all that a run folder holds."""
    from siamura.evaluation import evaluate

    from . import measuring
    from .figures import draw_classifier
    from .report import write_report

    history.to_csv(folder / "history.csv", index=False)
    net.save_pretrained(folder / "model")
    trivial = measuring.trivial(inputs.table, seed=experiment.seed)
    metrics: dict[str, Any] = {}
    scored = []
    scores = {}
    for split, data in inputs.splits.items():
        answers = {"classifier": probability[split]}
        if split == "valid":
            answers["trivial"] = trivial
        scored.append(data.table.assign(probability=probability[split]))
        metrics[split] = {level: {} for level in measuring.LEVELS}
        for level in measuring.LEVELS:
            for head, p in answers.items():
                scores[split, level, head] = evaluate(
                    data.table, p, level=level, by="part", seed=experiment.seed
                )
                metrics[split][level][head] = measuring.by_part(scores[split, level, head])
    pd.concat(scored, ignore_index=True).to_csv(folder / "predictions.csv", index=False)
    write_json(folder / "metrics.json", metrics)
    (folder / "table.md").write_text(classifier_table(experiment, metrics, inputs.facts), encoding="utf-8")
    draw_classifier(
        folder, experiment, inputs.facts, history, inputs.splits, probability["valid"],
        scores["valid", "study", "classifier"], net, trivial,
    )  # fmt: skip
    write_config(folder, experiment, status=status, seconds=round(time.time() - started, 1), **facts)
    write_report(folder)
