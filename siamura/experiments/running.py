"""One experiment, from radiographs on disk to a run folder with a table, figures, a model and a report."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import siamura
from siamura._run_files import load_network
from siamura.evaluation.scores import said_once
from siamura.heads.distance_limit import DistanceLimit
from siamura.heads.feature_limit import FeatureLimit
from siamura.inference import Predictor
from siamura.report.card import write_card
from siamura.report.figures import draw_run
from siamura.report.tables import finger_sheet
from siamura.studies import read_boxes
from siamura.training import embed, fit
from siamura.training.distributed import on_rank_zero
from siamura.training.pooled import embed_with_features

from . import metrics as measuring
from ._settings import parts_of
from .answers import Answers, write_answers
from .baselines import baseline_answers, compare_with_baselines
from .batches import draw_batches, drawn_classes
from .building import build_loss, build_network
from .calibrating import points_of_heads, score_points
from .data import Inputs, cache_folder, read_inputs
from .folder import Run, open_folder, write_config, write_embeddings, write_points
from .heatmap_quality import lesion_figures
from .results import write_results
from .settings import Experiment
from .study_rules import measure_study_rules

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    from pytorch_metric_learning.losses import BaseMetricLossFunction

    from siamura.pixels import Preprocess, RadiographDataset


__all__ = ["finish_run", "load_data", "run", "start_run"]

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

    Examples
    --------
    .. code-block:: python

        settings = Experiment(data="phantoms", trunk="squeezenet1_1", size=32, steps=1, k=4, augment="none")
        done = run(settings, "runs/tiny")
        sorted(done.metrics["valid"]["study"])
        # ['knn', 'mlp', 'trivial']
        (done.folder / "report.html").is_file()
        # True
    """
    folder = start_run(experiment, out, overwrite=overwrite, resume=resume)
    try:
        pre = experiment.preprocess()
        net = build_network(experiment, pre)
        loss = build_loss(experiment)
        inputs = load_data(experiment, pre, folder, cache=cache)
    except (ValueError, OSError):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # bad input leaves nothing behind
        raise
    if inputs.boxes is not None:
        net = build_network(experiment, pre, boxes=inputs.boxes)
    train = inputs.splits["train"]
    batches = draw_batches(experiment, train.table)
    chooses = ["which weights are kept"] * experiment.keep_best
    chooses += ["when the training ended"] * (experiment.patience is not None)
    watched = inputs.watched(" and ".join(chooses))
    history = fit(  # writes history.csv, model/ and checkpoints as it goes
        net, train, batches, loss, out=folder, resume=resume, **experiment.training(watched, inputs.boxes)
    )
    embeddings = {
        split: embed(net, data, accelerator=experiment.accelerator) for split, data in inputs.splits.items()
    }
    return finish_run(experiment, folder, inputs, history, embeddings, loss)


def start_run(
    experiment: Experiment, out: str | os.PathLike[str], *, overwrite: bool = False, resume: bool = False
) -> Path:
    """Make the run folder, empty it of an earlier run, or find the one of a stopped run.

    Parameters
    ----------
    experiment : Experiment
        The settings; those of a run that is gone on with must be the same.
    out, overwrite, resume
        As for `run`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FileExistsError, PermissionError, ValueError
        As for `run`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "config.json").write_text("{}")
    >>> start_run(Experiment(), folder)
    Traceback (most recent call last):
    FileExistsError: ... holds files already; choose another --out, or replace it with --overwrite.
    """
    return on_rank_zero(lambda: open_folder(out, overwrite=overwrite, resume=experiment if resume else None))


def load_data(
    experiment: Experiment, pre: Preprocess, folder: Path, *, cache: str | os.PathLike[str] | None = None
) -> Inputs:
    """Read an experiment's radiographs, or draw its phantoms, as a data set of each split; begin ``config.json``.

    Parameters
    ----------
    experiment : Experiment
    pre : Preprocess
    folder : Path
        Of `start_run`; unreadable files are listed there.
    cache : path, optional
        As for `run`.

    Returns
    -------
    Inputs
        ``splits["train"]`` and ``splits["valid"]`` are the data sets; ``splits["calibration"]`` holds the training
        patients that are held back from the network, where there are enough; ``boxes`` those of lesions in
        ``splits["train"]``, or None.

    Raises
    ------
    ValueError, FileNotFoundError
        As for `run`.

    Examples
    --------
    .. code-block:: python

        experiment = Experiment(data="phantoms", size=32, k=4)
        inputs = load_data(experiment, experiment.preprocess(), start_run(experiment, "runs/data"))
        {"train", "valid"} <= set(inputs.splits), inputs.facts["phantoms"]
        # (True, True)
    """
    inputs = read_inputs(
        experiment.data, parts_of(experiment.part), pre, folder, cache=Path(cache) if cache else cache_folder(),
        views=experiment.views, seed=experiment.seed_of_data, patients=experiment.k, labels=experiment.p,
        reading=experiment.reading(), calibration_share=experiment.calibration_share,
    )  # fmt: skip
    if experiment.calibration == "isotonic" and len(inputs.facts["classes"]) > 2:
        raise ValueError(
            f"calibration='isotonic' is for two classes, and the data have {len(inputs.facts['classes'])}; take "
            "temperature."
        )
    if experiment.lesions is not None:
        # What is wrong with it is said before training.
        read_boxes(experiment.lesions, inputs.splits["valid"].table)
        if experiment.recipe()["locate"]:
            inputs = replace(inputs, boxes=_training_boxes(experiment.lesions, inputs))
    facts = _facts(experiment, inputs, drawn_classes(experiment, inputs.splits["train"].table))
    on_rank_zero(lambda: write_config(folder, experiment, status="training", **facts))
    return inputs


def finish_run(
    experiment: Experiment,
    folder: Path,
    inputs: Inputs,
    history: pd.DataFrame,
    embeddings: Mapping[str, npt.NDArray[np.float32]],
    loss: BaseMetricLossFunction,
) -> Run:
    """Fit the heads on the embeddings, measure, draw, and write all that a run folder holds.

    Parameters
    ----------
    experiment : Experiment
    folder : Path
        Of `start_run`.
    inputs : Inputs
        Of `load_data`.
    history : DataFrame
        Of `siamura.fit`, which says whether Ctrl-C ended it.
    embeddings : mapping of str to float32 (N, dim)
        Of every split of `inputs`.
    loss : loss
        Measured once more on the finished embeddings.

    Returns
    -------
    Run

    Examples
    --------
    .. code-block:: python

        import siamura
        experiment = Experiment(data="phantoms", size=32, steps=1, k=4)
        folder, pre = start_run(experiment, "runs/by_hand"), experiment.preprocess()
        inputs = load_data(experiment, pre, folder)
        train = inputs.splits["train"]
        net, loss = siamura.EmbeddingNet("squeezenet1_1", preprocess=pre), siamura.losses.TripletFocalLoss()
        batches = siamura.samplers.PKBatchSampler(train.labels, p=2, k=4, groups=train.patients)
        history = siamura.fit(net, train, batches, loss, out=folder, **experiment.training(boxes=inputs.boxes))
        embeddings = {split: siamura.embed(net, data) for split, data in inputs.splits.items()}
        finish_run(experiment, folder, inputs, history, embeddings, loss).config["status"]
        # 'finished'
    """
    return on_rank_zero(lambda: _finish(experiment, folder, inputs, history, embeddings, loss))


def _training_boxes(source: str, inputs: Inputs) -> pd.DataFrame | None:
    """Boxes of the views that the network trains on; None where there are none, which is said."""
    train = inputs.splits["train"].table
    found = read_boxes(source, inputs.table)
    found = found[found["path"].isin(train["path"])].reset_index(drop=True)
    views = int(found["path"].nunique())
    inputs.facts["boxes"] = {
        "train": views, "of": int((train["label"] > 0).sum()), "label": inputs.facts["classes"][0],
    }  # fmt: skip
    if not views:
        _log.warning(
            "%s has no box of a training view: the network does not learn where findings are", source
        )
        return None
    return found


def _facts(
    experiment: Experiment, inputs: Inputs, drawn: Mapping[int, int], drop_path: float | None = None
) -> dict[str, Any]:
    made = inputs.splits["train"].pre.to_dict()
    batches = {inputs.facts["classes"][code]: number for code, number in drawn.items()}
    recipe = experiment.recipe()
    if drop_path is not None:  # which `fit` settles for the trunk at hand
        recipe["drop_path"] = drop_path
    return {"data": inputs.facts, "preprocessing": made, "recipe": recipe, "batches": batches}


@said_once()
def _finish(
    experiment: Experiment,
    folder: Path,
    inputs: Inputs,
    history: pd.DataFrame,
    embeddings: Mapping[str, npt.NDArray[np.float32]],
    loss: BaseMetricLossFunction,
) -> Run:
    splits, facts = inputs.splits, inputs.facts
    if lacking := [split for split in splits if split not in embeddings]:
        raise ValueError(
            f"embeddings lacks {lacking[0]!r}; give those of every split of inputs.splits: {', '.join(splits)}."
        )
    classes = tuple(facts["classes"])
    drawn = history.attrs.get("drawn") or drawn_classes(experiment, splits["train"].table)
    # The heads, and the baselines too, are fitted on all training patients; the network trained on those in "train".
    known = np.concatenate([embeddings[split] for split in ("train", "calibration") if split in splits])
    shown = {"train": inputs.all_training, "valid": splits["valid"]}
    vectors = {"train": known, "valid": embeddings["valid"]}
    heads = measuring.fit_heads(
        known, inputs.all_training.table, neighbours=experiment.neighbours, seed=experiment.seed,
        net=load_network(folder) if experiment.recipe()["classify"] else None, drawn=drawn,
    )  # fmt: skip
    metrics: dict[str, Any] = {"heads": measuring.sources(heads)}
    predicted = {}
    for split, data in shown.items():
        predicted[split] = measuring.probabilities(heads, vectors[split], data.table)
        if split == "valid":
            predicted[split] |= baseline_answers(
                inputs, experiment.trunk, experiment.weights, accelerator=experiment.accelerator,
                seed=experiment.seed_of_data,
            )  # fmt: skip
        metrics[split] = measuring.measure(
            data.table, predicted[split], classes=classes, ordered=facts["ordered"], seed=experiment.seed
        )
        metrics[split]["view"]["embedding"] = {
            "loss": measuring.embedding_loss(
                loss, vectors[split], data.table, p=experiment.p, k=experiment.k, seed=experiment.seed
            ),
            **measuring.quality(vectors[split], data.table, seed=experiment.seed),
        }
    valid = splits["valid"].table
    own = {name: predicted["valid"][name] for name in (*heads, "trivial")}
    metrics["comparison"] = compare_with_baselines(
        valid, predicted["valid"], classes=classes, ordered=facts["ordered"], seed=experiment.seed
    )
    points, how, apart, rows = points_of_heads(experiment, inputs, heads, known, inputs.all_training.table)
    metrics["operating"] = score_points(
        points, valid, own, how, classes=classes, ordered=facts["ordered"], seed=experiment.seed
    )
    write_points(folder, points, how)
    write_answers(folder, Answers(predicted["valid"], apart, rows))
    groups = measuring.by_group(valid, own, classes=classes, ordered=facts["ordered"], seed=experiment.seed)
    if groups:
        metrics["groups"] = groups
    metrics["study_rules"], attention = measure_study_rules(
        inputs.all_training.table, known, valid, embeddings["valid"], {name: own[name] for name in heads},
        classes=classes, ordered=facts["ordered"], seed=experiment.seed,
    )  # fmt: skip
    if attention is not None:
        attention.save(folder / "attention")
    for name, head in heads.items():
        head.save(folder / name)
    limit = DistanceLimit.of(heads["knn"], embeddings["valid"])
    limit.save(folder)
    odd = _feature_rule(folder, inputs, splits["valid"], experiment.accelerator)
    metrics["unlike"] = measuring.unlike_views(limit, heads["knn"], embeddings["valid"], valid, odd)
    write_embeddings(folder, np.concatenate([known, embeddings["valid"]]), inputs.table)
    if experiment.lesions is not None:
        metrics["lesions"] = lesion_figures(Predictor(folder, head="mlp"), valid, experiment.lesions)
    write_card(folder / "model", experiment, metrics, facts, history, siamura.__version__)
    captions = draw_run(
        folder, experiment, facts, history, shown, vectors, {"valid": own}, heads, points=points
    )
    sheet = finger_sheet(experiment, metrics, facts, history)
    status = "interrupted" if history.attrs.get("interrupted") else "finished"
    config = write_results(
        folder, experiment, _facts(experiment, inputs, drawn, history.attrs.get("drop_path")), metrics, history, sheet,
        captions, inputs, status=status,
    )  # fmt: skip
    return Run(folder=folder, config=config, metrics=metrics, history=history, experiment=experiment)


_RULE_ROWS = 2000  # training views that the rule on features is learned from, at most


def _feature_rule(
    folder: Path, inputs: Inputs, valid: RadiographDataset, accelerator: str
) -> npt.NDArray[np.bool_]:
    """Learn from pooled features what the training views span; give which validation views lie beyond it."""
    net, train = load_network(folder), inputs.all_training
    some = np.unique(np.linspace(0, len(train) - 1, min(len(train), _RULE_ROWS)).astype(np.int64))
    known = embed_with_features(net, train, rows=some, accelerator=accelerator)[1]
    asked = embed_with_features(net, valid, accelerator=accelerator)[1]
    rule = FeatureLimit.of(known, asked)
    rule.save(folder)
    return rule.beyond(asked)
