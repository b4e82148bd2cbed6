"""The figures of a run folder, drawn from what the run has at hand: predictions, embeddings, history, a few images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from siamura import plots
from siamura.evaluation import aggregate
from siamura.evaluation.multiclass import one_vs_rest, study_shares
from siamura.plots.style import part_name

from . import image_figures
from .gallery import Gallery
from .tables import HEADS

if TYPE_CHECKING:
    import numpy.typing as npt

    from siamura.evaluation import OperatingPoint
    from siamura.experiments import ClassifierExperiment, Experiment
    from siamura.heads import KNNHead, MLPHead
    from siamura.networks import Classifier
    from siamura.pixels import RadiographDataset

__all__ = ["draw_classifier", "draw_run"]

DRAWS = 2000  # of `siamura.evaluate`, so that a figure's interval is the table's
_BINS = 15  # likewise


def draw_run(
    folder: Path,
    experiment: Experiment,
    data: Mapping[str, Any],
    history: pd.DataFrame,
    splits: Mapping[str, RadiographDataset],
    embeddings: Mapping[str, npt.NDArray[np.float32]],
    predicted: Mapping[str, Mapping[str, npt.NDArray[np.float64]]],
    heads: Mapping[str, KNNHead | MLPHead],
    *,
    points: Mapping[str, Mapping[str, OperatingPoint]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Draw a run of system A as PNG files: its training, embedding, neighbours, answers, data and preprocessing.

    Parameters
    ----------
    folder : Path
        The run folder.
    experiment, data : Experiment, mapping
        Settings, and ``data`` of ``config.json``: every figure says what it was made from.
    history : pandas.DataFrame
        Of `siamura.fit`.
    splits, embeddings, predicted : mapping
        By split: the data set, its embeddings float32 (N, dim), and probabilities float64 (N,) by head.
    heads : mapping
        The fitted heads; ``knn`` finds the neighbours.
    points : mapping, optional
        Operating points by head and level, for the decision curve.

    Returns
    -------
    dict
        The captions, as `read_captions` gives them.
    """
    network = f"{experiment.trunk}, {experiment.dim}-d, {experiment.loss}"
    gallery = Gallery(folder, data, network)
    figure = plots.loss_curves(history, margin=experiment.margin, note=gallery.note("train"))
    gallery.add(
        "losses",
        figure,
        f"Loss, share that is still active and distances of each of {len(history):,} batches of training "
        f"{gallery.kind} ({gallery.rests_on('train')}); one training, so there is no interval.",
    )
    _draw_embedding(gallery, splits, embeddings, experiment.seed)
    image_figures.draw_neighbours(gallery, splits, embeddings, heads["knn"])
    table = splits["valid"].table
    _draw_confusion(gallery, table, predicted["valid"]["knn"], "k-NN")
    _draw_bands(
        gallery,
        _models(gallery, table, predicted["valid"]),
        "per study",
        experiment.seed,
        binned=len(gallery.classes) == 2,
    )
    _draw_decisions(gallery, table, predicted["valid"], points or {}, experiment.seed)
    _draw_image_figures(gallery, splits, experiment.augment, experiment.seed)
    gallery.close()
    return gallery.captions


def draw_classifier(
    folder: Path,
    experiment: ClassifierExperiment,
    data: Mapping[str, Any],
    history: pd.DataFrame,
    splits: Mapping[str, RadiographDataset],
    probability: npt.NDArray[np.floating[Any]],
    scores: pd.DataFrame,
    net: Classifier,
    trivial: npt.NDArray[np.floating[Any]] | None = None,
    *,
    points: Mapping[str, Mapping[str, OperatingPoint]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Draw a supervised run as PNG files: its training, answers, parts, data, preprocessing and, of system E, layers.

    Parameters
    ----------
    folder : Path
        The run folder.
    experiment, data : ClassifierExperiment, mapping
        Settings, and ``data`` of ``config.json``.
    history : pandas.DataFrame
        Of `siamura.training.fit_classifier`.
    splits : mapping of str to RadiographDataset
    probability : array of shape (N,)
        Of the validation views.
    scores : pandas.DataFrame
        Of ``siamura.evaluate(..., level="study", by="part")`` on them.
    net : Classifier
        The trained network.
    trivial : array of shape (N,), optional
        What the trivial baseline answers for the validation views.
    points : mapping, optional
        Operating points by head and level, for the decision curve.

    Returns
    -------
    dict
        The captions, as `read_captions` gives them.
    """
    gallery = Gallery(folder, data, f"{experiment.trunk}, top {experiment.top!r}")
    watched = "patients held back" if "calibration" in splits else f"validation, {gallery.rests_on('valid')}"
    on = f"{gallery.kind}, train {gallery.rests_on('train')}; watched on {watched}"
    figure = plots.loss_curves(history, note=gallery.note())
    gallery.add(
        "losses",
        figure,
        f"Training loss of each of {len(history):,} batches as it was minimised, class weights and penalty included, "
        f"and plain cross-entropy on views that do not train ({on}); one training, so there is no interval.",
    )
    figure = plots.accuracy_curves(history, note=gallery.note())
    gallery.add(
        "accuracy",
        figure,
        f"Accuracy per view over the training ({on}); the best of these is marked, and as the best of several it "
        "flatters; one training, so there is no interval.",
    )
    table = splits["valid"].table
    _draw_confusion(gallery, table, probability, "the classifier")
    views = (table["label"].to_numpy(), probability, table["patient"].to_numpy())
    models = {"per study": _studies(table, probability), "per view": views}
    if trivial is not None:
        models["trivial, per study"] = _studies(table, trivial)
    _draw_bands(gallery, models, "per study and per view", experiment.seed)
    answers = {"classifier": probability} | ({} if trivial is None else {"trivial": trivial})
    _draw_decisions(gallery, table, answers, points or {}, experiment.seed)
    _draw_parts(gallery, scores)
    _draw_image_figures(gallery, splits, experiment.augment, experiment.seed)
    if experiment.top == "e":
        image_figures.draw_layers(gallery, splits["valid"], net)
    gallery.close()
    return gallery.captions


def _draw_embedding(
    gallery: Gallery,
    splits: Mapping[str, RadiographDataset],
    embeddings: Mapping[str, npt.NDArray[np.float32]],
    seed: int,
) -> None:
    label = {split: data.table["label"].to_numpy() for split, data in splits.items()}
    figure = plots.embedding(
        embeddings["train"],
        label["train"],
        valid=(embeddings["valid"], label["valid"]),
        names=gallery.classes,
        seed=seed,
        note=gallery.note(),
    )
    gallery.add(
        "embedding",
        figure,
        f"UMAP fitted on the training {gallery.kind} ({gallery.rests_on('train')}); the validation views "
        f"({gallery.rests_on('valid')}) are placed by that fit and outlined; a picture without an interval, in which "
        "distances between far groups mean nothing.",
    )


def _studies(table: pd.DataFrame, probability: npt.ArrayLike) -> tuple[Any, Any, Any]:
    """Label, probability (of each class, where there are more than two) and patient of each study."""
    if np.ndim(probability) == 2:
        rows, share = study_shares(table, np.asarray(probability), ordered=bool(table.attrs.get("ordered")))
        return rows["label"].to_numpy(), share, rows["patient"].to_numpy()
    studies = aggregate(table, probability)
    return studies["label"].to_numpy(), studies["probability"].to_numpy(), studies["patient"].to_numpy()


def _models(
    gallery: Gallery, table: pd.DataFrame, predicted: Mapping[str, npt.NDArray[np.float64]]
) -> dict[str, tuple[Any, Any, Any]]:
    """What the curves show: each head; or, of more than two classes, the k-NN for each class against all others."""
    if len(gallery.classes) == 2:
        return {HEADS.get(head, head): _studies(table, p) for head, p in predicted.items()}
    label, share, patient = _studies(table, predicted["knn"])
    found: dict[str, Any] = one_vs_rest(label, share, classes=gallery.classes, groups=patient)
    there = {name: rows for name, rows in found.items() if 0 < rows[0].sum() < len(rows[0])}
    return dict(list(there.items())[:_CURVES])


_CURVES = 7  # as many lines as can be told apart


def _draw_confusion(gallery: Gallery, table: pd.DataFrame, probability: npt.ArrayLike, head: str) -> None:
    panels = {
        "validation, per view": (table["label"].to_numpy(), np.asarray(probability)),
        "validation, per study": _studies(table, probability)[:2],
    }
    rule = f"above 0.5: {gallery.classes[1]}" if len(gallery.classes) == 2 else "the most probable class"
    note = f"{gallery.note('valid')} Answers of {head}; a study is the mean of its views; {rule}."
    gallery.add(
        "confusion",
        plots.confusion(panels, names=gallery.classes, note=note),
        f"Answers of {head} against the truth on the validation {gallery.kind}, {gallery.rests_on('valid')} and "
        f"{gallery.rests_on('valid', 'study')}; counts, whose intervals are those of the table of scores.",
    )


def _draw_bands(
    gallery: Gallery,
    models: Mapping[str, tuple[Any, Any, Any]],
    level: str,
    seed: int,
    *,
    binned: bool = True,
) -> None:
    levels = ["study"] if level == "per study" else ["study", "view"]
    counts = " and ".join(gallery.rests_on("valid", one) for one in levels)
    on = f"of the validation {gallery.kind}, {level} ({counts})"
    band = f"95 %, {DRAWS:,} bootstrap draws over patients"
    common: dict[str, Any] = {
        "draws": DRAWS,
        "seed": seed,
        "note": f"{gallery.note('valid', level=levels[-1])} {level.capitalize()}.",
    }
    if not binned:
        common["note"] += " k-NN, each class against all others."
        level = f"{level}, k-NN, each class against all others"
    gallery.add(
        "roc",
        plots.roc(models, **common),
        f"Sensitivity against false alarms {on}; bands and brackets: {band}; marks: threshold 0.5; dotted: chance.",
    )
    gallery.add(
        "precision_recall",
        plots.precision_recall(models, **common),
        f"Precision against recall {on}; bands and brackets: {band}; marks: threshold 0.5; dotted: the share of "
        f"{gallery.classes[1] if binned else 'the class'}, which guessing reaches.",
    )
    if not binned:
        return
    gallery.add(
        "reliability",
        plots.reliability(models, bins=_BINS, positive=gallery.classes[1], **common),
        f"How often a predicted probability comes true, {on}; bars and brackets: {band}; below: how often each "
        "probability is given.",
    )


def _draw_decisions(
    gallery: Gallery,
    table: pd.DataFrame,
    predicted: Mapping[str, npt.NDArray[np.floating[Any]]],
    points: Mapping[str, Mapping[str, OperatingPoint]],
    seed: int,
) -> None:
    """Draw the net benefit per study of the heads that have an operating point, with calibrated probabilities."""
    if len(gallery.classes) != 2 or not points:
        return
    models = {}
    for head, p in predicted.items():
        if head in points:
            rows, share = points[head]["study"].rows_of(table, p)
            models[f"{HEADS.get(head, head)}, calibrated"] = (rows["label"], share, rows["patient"])
        elif head == "trivial":
            models[HEADS[head]] = _studies(table, p)
    gallery.add(
        "decision_curve",
        plots.decision_curve(
            models,
            draws=DRAWS,
            seed=seed,
            positive=gallery.classes[1],
            note=f"{gallery.note('valid', level='study')}",
        ),
        f"Net benefit of acting on a study that is called {gallery.classes[1]}, by the threshold, of the validation "
        f"{gallery.kind} ({gallery.rests_on('valid', 'study')}); bands: 95 %, {DRAWS:,} bootstrap draws over patients; "
        "a model is of use where it lies above both dashed and dotted lines: acting on all, and on none.",
    )


def _draw_parts(gallery: Gallery, scores: pd.DataFrame) -> None:
    """Draw kappa of each part, where there are several; a part whose kappa is undefined has no bar."""
    kappa = scores.xs("kappa", level=1)["value"]
    defined = kappa.index[kappa.notna()]
    if len(defined.difference(["all"])) < 2:
        return
    shown = scores[scores.index.get_level_values(0).isin(defined)]
    shown.attrs = scores.attrs
    left_out = [part_name(part).lower() for part in kappa.index if part not in defined]
    missing = f"; undefined, and left out: {', '.join(left_out)}" if left_out else ""
    gallery.add(
        "parts",
        plots.part_bars(shown, note=gallery.note("valid", level="study")),
        f"Cohen's kappa of each part on the validation {gallery.kind} ({gallery.rests_on('valid', 'study')}); bars: "
        f"95 %, {scores.attrs['draws']:,} bootstrap draws over patients{missing}.",
    )


def _draw_image_figures(
    gallery: Gallery, splits: Mapping[str, RadiographDataset], augment: str, seed: int
) -> None:
    """Draw what the data hold, what CLAHE does to them, and what the augmentation does."""
    table = pd.concat([data.table for data in splits.values()], ignore_index=True)
    table.attrs["classes"] = gallery.classes
    gallery.add(
        "counts",
        plots.class_counts(table, note=gallery.note()),
        f"Views of {gallery.kind} by class, part and split (train {gallery.rests_on('train')}, validation "
        f"{gallery.rests_on('valid')}); counts of all there are, so there is no interval.",
    )
    image_figures.draw_clahe(gallery, splits["valid"])
    if augment != "none":
        image_figures.draw_augmentation(gallery, splits["train"], augment, seed)
