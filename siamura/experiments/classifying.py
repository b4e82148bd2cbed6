"""Supervised classifiers (systems B to E and the MURA paper) as experiments: settings in, run folder out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from siamura._files import write_csv
from siamura.evaluation import evaluate
from siamura.evaluation.scores import said_once
from siamura.networks import Classifier
from siamura.pixels import Preprocess
from siamura.report.figures import draw_classifier
from siamura.report.tables import classifier_sheet
from siamura.training import fit_classifier, predict_proba
from siamura.training.distributed import on_rank_zero

from . import metrics as measuring
from .baselines import baseline_answers, compare_with_baselines
from .calibrating import fit_points, score_points
from .classifier_settings import ClassifierExperiment
from .data import Inputs, cache_folder, read_inputs
from .folder import ClassifierRun, open_folder, write_config, write_points
from .results import write_results

if TYPE_CHECKING:
    import numpy.typing as npt


__all__ = ["run_classifier"]


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
        ``metrics[split][level]["classifier"]["parts"]``; on valid also ``"trivial"``, the trivial baseline, and with
        `weights` ``"frozen_knn"`` and ``"frozen_logistic"``, the trunk without training. ``metrics["comparison"]``
        compares with them, ``metrics["operating"]`` holds the operating point.

    Raises
    ------
    ValueError, FileNotFoundError, FileExistsError
        As for `siamura.run`.

    Examples
    --------
    .. code-block:: python

        settings = ClassifierExperiment(
            data="phantoms", parts=("XR_FINGER",), trunk="squeezenet1_1", size=32, epochs=1
        )
        done = run_classifier(settings, "runs/classifier", overwrite=True)
        sorted(done.metrics["valid"]["study"])
        # ['classifier', 'trivial']
        "kappa" in done.table()
        # True
    """
    folder = on_rank_zero(lambda: open_folder(out, overwrite=overwrite))
    pre = Preprocess(size=experiment.size, clahe=None, equalise=experiment.equalise)
    net = Classifier(
        experiment.trunk, experiment.top, weights=experiment.weights, preprocess=pre, seed=experiment.seed
    )
    inputs = read_inputs(
        experiment.data, experiment.parts, pre, folder, cache=Path(cache) if cache else cache_folder(),
        views=experiment.views, seed=experiment.seed, two=True, reading=experiment.reading(),
        calibration_share=experiment.calibration_share,
    )  # fmt: skip
    facts: dict[str, Any] = {"kind": "classifier", "data": inputs.facts, "preprocessing": pre.to_dict()}
    on_rank_zero(lambda: write_config(folder, experiment, status="training", **facts))
    train = inputs.splits["train"]
    common: dict[str, Any] = {
        "valid": inputs.watched("which weights are kept"), "batch_size": experiment.batch, "seed": experiment.seed,
        "optimizer": experiment.optimizer,
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
    probability: dict[str, npt.NDArray[np.float64]] = {
        split: np.asarray(predict_proba(net, data), dtype=np.float64) for split, data in inputs.splits.items()
    }
    return on_rank_zero(
        lambda: _finish(
            experiment, folder, inputs, facts, history, net, probability,
            status="interrupted" if interrupted else "finished",
        )
    )  # fmt: skip


def _stopped(history: pd.DataFrame, epochs: int, patience: int | None) -> bool:
    """Whether Ctrl-C ended a training: within an epoch, or after one that was not to be the last."""
    last = history.iloc[-1]
    return bool(pd.isna(last.get("valid_loss")) or (last["epoch"] < epochs and patience is None))


@said_once()
def _finish(
    experiment: ClassifierExperiment,
    folder: Path,
    inputs: Inputs,
    facts: dict[str, Any],
    history: pd.DataFrame,
    net: Classifier,
    probability: Mapping[str, npt.NDArray[np.float64]],
    *,
    status: str,
) -> ClassifierRun:
    """Measure, and write all that the folder of a classifier holds."""
    history.to_csv(folder / "history.csv", index=False)
    net.save_pretrained(folder / "model")
    baselines = baseline_answers(inputs, experiment.trunk, experiment.weights, seed=experiment.seed)
    metrics: dict[str, Any] = {}
    scored = []
    scores = {}
    for split, data in inputs.splits.items():
        answers = {"classifier": probability[split]}
        if split == "valid":
            answers |= baselines
        scored.append(data.table.assign(probability=probability[split], split=split))
        if split == "calibration":
            continue
        metrics[split] = {level: {} for level in measuring.LEVELS}
        for level in measuring.LEVELS:
            for head, p in answers.items():
                scores[split, level, head] = evaluate(
                    data.table, p, level=level, by="part", seed=experiment.seed
                )
                metrics[split][level][head] = measuring.by_part(scores[split, level, head])
    write_csv(pd.concat(scored, ignore_index=True), folder / "predictions.csv")
    valid = inputs.splits["valid"].table
    classes = tuple(inputs.facts["classes"])
    own = {"classifier": probability["valid"]}
    metrics["comparison"] = compare_with_baselines(
        valid, {**own, **baselines}, classes=classes, seed=experiment.seed
    )
    points, how = (
        {},
        f"{inputs.facts['calibration']} So there is no operating point: the answer stays at 0.5.",
    )
    if "calibration" in inputs.splits:
        how = inputs.facts["calibration"]
        points = fit_points(
            experiment, inputs.splits["calibration"].table, {"classifier": probability["calibration"]}
        )
    metrics["operating"] = score_points(
        points, valid, own, how, classes=classes, ordered=False, seed=experiment.seed
    )
    write_points(folder, points, how)
    captions = draw_classifier(
        folder, experiment, inputs.facts, history, inputs.splits, probability["valid"],
        scores["valid", "study", "classifier"], net, baselines["trivial"], points=points,
    )  # fmt: skip
    sheet = classifier_sheet(experiment, metrics, inputs.facts)
    config = write_results(
        folder, experiment, facts, metrics, history, sheet, captions, inputs, status=status
    )
    return ClassifierRun(
        folder=folder, config=config, metrics=metrics, history=history, experiment=experiment
    )
