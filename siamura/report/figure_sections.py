"""The figures of a run folder, by section: what each shows in words, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from siamura._names import BASELINES, HEADS, SPLITS
from siamura.plots.style import count

from .gallery import classes_named
from .page import Figures, Look, Picture
from .record import Record
from .sections import by_head

__all__ = ["figures_by_section"]

#: Section: its figures, in the order in which they are read. Any other file comes last, under "further".
_PLACES = {
    "answers": ("confusion", "roc", "decision_curve", "precision_recall", "reliability"),
    "parts": ("parts",),
    "embedding": ("embedding", "neighbours"),
    "layers": ("feature_maps",),
    "training": ("losses", "accuracy"),
    "data": ("counts", "clahe", "augmentation"),
}
_WIDE = ("clahe", "counts", "neighbours", "augmentation", "feature_maps")
_FILMS = ("clahe", "neighbours", "augmentation", "feature_maps")


def figures_by_section(folder: Path, record: Record) -> dict[str, list[Figures]]:
    """Show every ``*.png`` of a run folder.

    Parameters
    ----------
    folder : Path
    record : Record

    Returns
    -------
    dict of str to list of Figures
        By section: ``answers``, ``parts``, ``embedding``, ``layers``, ``training``, ``data``, and ``further`` for
        files that siamura did not draw; empty where there is none.

    Raises
    ------
    ValueError
        If a file is no PNG file.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.png"))}
    placed = {name for names in _PLACES.values() for name in names}
    sections = {**_PLACES, "further": tuple(name for name in files if name not in placed)}
    out = {}
    for section, names in sections.items():
        shown = []
        for name in (name for name in names if name in files):
            about = record.captions.get(name, {})
            images = about.get("images", [])
            plain = name in (*_FILMS, *sections["further"])
            look: Look = "images" if images else "plain" if plain else "chart"
            words = _in_words(name, record.config, record.metrics, record.history)
            caption = about.get("caption") or _caption(name, record.config)
            shown.append(Picture(files[name], words, caption, wide=name in _WIDE, look=look, images=images))
        out[section] = [Figures(shown)] if shown else []
    return out


def _caption(name: str, config: Mapping[str, Any]) -> str:
    """Name a figure that came without a caption, and say what the run rests on: its intervals are not known."""
    words = name.replace("_", " ").replace("-", " ").capitalize()
    data = config.get("data", {})
    counts = "; ".join(
        f"{SPLITS.get(split, split).lower()} {count(own['views'], 'view')} of {count(own['patients'], 'patient')}"
        for split, own in data.get("counts", {}).items()
        if {"views", "patients"} <= set(own)
    )
    kind = "phantoms" if data.get("phantoms") else "radiographs"
    return f"{words}. The run's {kind}: {counts}." if counts else f"{words}."


def _in_words(
    name: str, config: Mapping[str, Any], metrics: Mapping[str, Any], history: pd.DataFrame | None
) -> str:
    """Describe a figure for readers who cannot see it."""
    kind = "phantoms" if config.get("data", {}).get("phantoms") else "radiographs"
    classes = classes_named(config.get("data", {}))
    if name == "losses" and history is not None and "loss" in history:
        first, last = float(history["loss"].iloc[0]), float(history["loss"].iloc[-1])
        below = (
            ", with the share of active triplets and the distances in the batch below it"
            if "active_fraction" in history
            else ""
        )
        steps = count(len(history), "step")
        return f"Line chart of the training loss over {steps}, from {first:.3f} to {last:.3f}{below}."
    if name == "accuracy" and history is not None and "valid_accuracy" in history:
        best = float(history["valid_accuracy"].max())
        return f"Line chart of training and validation accuracy over the epochs; the best validation is {best:.3f}."
    if name == "confusion":
        told = _told(metrics, ("recall", "specificity"), classes)
        return f"Confusion matrices on the validation {kind}. {told}".strip()
    if name in _SCORED:
        words, *wanted = _SCORED[name]
        return f"{words.format(positive=classes[1])} {_told(metrics, wanted, classes)}".strip()
    texts = {
        "embedding": f"Scatter plot of embeddings of training and validation {kind} in the plane, by label.",
        "neighbours": f"One of the {kind} beside those nearest to it in the embedding.",
        "clahe": f"A few {kind} before and after CLAHE, each with its histogram of grey levels.",
        "augmentation": f"One of the {kind} beside augmented versions of it.",
        "feature_maps": f"One of the {kind} beside what layers of the network put out for it.",
        "decision_curve": "Net benefit over the threshold of each model, beside calling all positive, or none.",
        "parts": "Bars of a score of every body part, with 95 % intervals; the table below has the numbers.",
        "counts": f"Bars of the {kind} of every class, part and split.",
        "losses": "Line chart of the training loss.",
        "accuracy": "Line chart of training and validation accuracy.",
    }
    return texts.get(name, f"Figure: {name.replace('_', ' ').replace('-', ' ')}.")


_SCORED = {
    "roc": ("Sensitivity against the false positive rate, with a 95 % band.", "auroc"),
    "precision_recall": ("Precision over recall, with a 95 % band.", "average_precision"),
    "reliability": ("Observed share of {positive} against the predicted probability, with bars.", "ece"),
}
_WORDS = {
    "auroc": "AUROC {:.3f}",
    "average_precision": "average precision {:.3f}",
    "ece": "expected calibration error {:.3f}",
}


def _told(metrics: Mapping[str, Any], wanted: tuple[str, ...] | list[str], classes: tuple[str, ...]) -> str:
    """Say the validation scores that a figure shows: for confusion of the first head, else of all."""
    told = []
    for level in ("view", "study"):
        for head, scores in by_head(metrics, "valid", level).items():
            if any(scores.get(name) is None for name in wanted):
                continue
            name = HEADS.get(head, head)
            if len(wanted) == 2:
                if head not in BASELINES:
                    told.append(
                        f"per {level}, {name}: {100 * scores['recall']:.0f} % of the {classes[1]} and "
                        f"{100 * scores['specificity']:.0f} % of the {classes[0]} are answered right"
                    )
                    break
            elif level == "study" and not head.startswith("frozen"):
                told.append(f"per {level}, {name}: {_WORDS[wanted[0]].format(scores[wanted[0]])}")
    return "; ".join(told)
