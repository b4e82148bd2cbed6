"""The sections of ``report.html``: what a run's files say, as HTML."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from pathlib import Path
from pprint import pformat
from typing import Any

import pandas as pd

from siamura.plots.style import count, part_name

from . import page
from .tables import RESEARCH

__all__ = [
    "HEADS",
    "again_section",
    "by_head",
    "data_section",
    "parts_section",
    "published_section",
    "quality_section",
    "rests_on",
    "scores_section",
    "training_section",
]

HEADS = {"knn": "k-NN", "mlp": "MLP", "classifier": "Classifier", "trivial": "Trivial baseline"}
_METRICS = {
    "accuracy": "Accuracy", "kappa": "Cohen's kappa", "recall": "Sensitivity (recall)",
    "specificity": "Specificity", "precision": "Precision", "f1": "F1", "f1_macro": "F1, macro",
    "auroc": "AUROC", "average_precision": "Average precision", "brier": "Brier score",
    "ece": "Expected calibration error",
}  # fmt: skip
_QUALITY = {
    "loss": "Training loss, over batches of finished embeddings", "map_at_r": "MAP@R",
    "nmi": "Normalised mutual information", "positive_distance": "Mean distance, same label",
    "negative_distance": "Mean distance, other label", "alignment": "Alignment", "uniformity": "Uniformity",
}  # fmt: skip
SPLITS = {"valid": "Validation", "train": "Training"}


def by_head(metrics: Mapping[str, Any], split: str, level: str) -> dict[str, Mapping[str, Any]]:
    """Scores of a split at a level by head, the known heads first."""
    found = metrics.get(split, {}).get(level, {})
    known = [name for name in HEADS if name in found]
    return {
        name: found[name] for name in [*known, *(n for n in found if n not in known and n != "embedding")]
    }


def rests_on(scores: Mapping[str, Any], level: str) -> str:
    """What scores rest on: ``"69 studies of 46 patients"``."""
    counted = [
        (scores.get(f"{level[:-1]}ies" if level == "study" else "views"), level),
        (scores.get("patients"), "patient"),
    ]
    words = [count(int(number), noun) for number, noun in counted if number is not None]
    return " of ".join(words)


def scores_section(metrics: Mapping[str, Any]) -> str:
    """Tables of every score of every head, with intervals; those on the training films folded away."""
    out = []
    for split, split_name in SPLITS.items():
        tables = []
        for level in ("study", "view"):
            heads = by_head(metrics, split, level)
            if not heads:
                continue
            shown = [m for m in _METRICS if any(scores.get(m) is not None for scores in heads.values())]
            rows = [
                [html.escape(_METRICS[metric]), *(_score(scores, metric) for scores in heads.values())]
                for metric in shown
            ]
            basis = next(iter(heads.values()))
            caption = f"{split_name}, per {level}: {rests_on(basis, level)}"
            tables.append(page.table(caption, ["", *(HEADS.get(head, head) for head in heads)], rows))
        if tables and split == "train":
            note = (
                "<p>Fitted on these very films: of use to see overfitting, not to judge the model. "
                "In the k-NN a patient's own films do not vote.</p>"
            )
            out.append(f"<details><summary>On the training films</summary>{note}{''.join(tables)}</details>")
        else:
            out.extend(tables)
    if not out:
        return ""
    draws = next(
        (s["draws"] for lv in metrics.get("valid", {}).values() for s in lv.values() if s.get("draws")), None
    )
    how = f" of {draws:,} draws" if draws else ""
    intro = (
        f"<p>In brackets: 95 % intervals by a bootstrap{how} over patients; the line shows the same from 0 to 1 "
        "(kappa: from -1 to 1). An interval without width means that every draw gives the same, as when all "
        "answers are alike or none is wrong: it is no certainty. A study is the mean of its views; above 0.5 is "
        "abnormal. The trivial baseline sees pixel mean and deviation, aspect and size alone: a model that is not "
        "above it has learnt nothing of anatomy.</p>"
    )
    return intro + "\n".join(out)


def _score(scores: Mapping[str, Any], metric: str) -> str:
    return page.cell(
        scores.get(metric),
        scores.get("interval", {}).get(metric),
        scale=(-1.0, 1.0) if metric == "kappa" else (0.0, 1.0),
    )


def parts_section(metrics: Mapping[str, Any]) -> str:
    """One table a level: scores of each part, where there are several, beside the trivial baseline's kappa."""
    out = []
    for level in ("study", "view"):
        heads = by_head(metrics, "valid", level)
        trivial = heads.pop("trivial", {}).get("parts", {})
        for head, scores in heads.items():
            parts = scores.get("parts")
            if not parts or len(parts) < 2:
                continue
            shown = ("accuracy", "kappa", "precision", "recall", "f1", "auroc")
            names = [_METRICS[metric] for metric in shown]
            rows = []
            for part, own in parts.items():
                cells = [page.cell(own.get(m), own.get("interval", {}).get(m)) for m in shown]
                if beside := trivial.get(part):
                    cells.append(page.cell(beside.get("kappa"), beside.get("interval", {}).get("kappa")))
                name = html.escape(part_name(part))
                rows.append([f'{name} <span class="range">{rests_on(own, level)}</span>', *cells])
            if trivial:
                names.append(f"{HEADS['trivial']}: kappa")
            caption = f"Validation, per {level}, {HEADS.get(head, head)}"
            out.append(page.table(caption, ["Part", *names], rows))
    return "\n".join(out)


def published_section(path: Path) -> str:
    """``table.md``: published figures, and measured ones beside them."""
    if not path.is_file():
        return ""
    # What the page's head says already is not said again.
    said = ("Measured on ", RESEARCH)
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(said)]
    return page.markdown(
        "\n".join(lines), caption="Published and measured figures", marked="<strong>measured"
    )


def quality_section(metrics: Mapping[str, Any]) -> str:
    """Retrieval and distances of the embedding."""
    found = {
        name: metrics[split]["view"]["embedding"]
        for split, name in SPLITS.items()
        if metrics.get(split, {}).get("view", {}).get("embedding")
    }
    if not found:
        return ""
    names = {**_QUALITY}
    for scores in found.values():
        names |= {k: f"P@{k.rsplit('_', 1)[1]}" for k in scores if k.startswith("precision_at_")}
    ordered = sorted(names, key=lambda k: (not k.startswith("precision_at_"), list(names).index(k)))
    rows = [
        [
            html.escape(names[key]),
            *(page.cell(scores.get(key), scores.get("interval", {}).get(key)) for scores in found.values()),
        ]
        for key in ordered
        if any(scores.get(key) is not None for scores in found.values())
    ]
    return (
        "<p>Neighbours are looked for among the other patients of the same split: a film's own patient never counts."
        "</p>" + page.table("Retrieval and distances, per view", ["", *found], rows)
    )


def data_section(config: Mapping[str, Any], unreadable: Path) -> str:
    """What was read, and what could not be."""
    data = config.get("data", {})
    counts = data.get("counts", {})
    out = []
    if data.get("phantoms"):
        out.append("<p>Drawn by siamura, with its own seed; no patient is behind them.</p>")
    elif data.get("name"):
        out.append(f"<p>Radiographs of <code>{html.escape(Path(str(data['name'])).name)}</code>.</p>")
    if counts:
        columns = {
            "views": "Views",
            "abnormal_views": "of them abnormal",
            "studies": "Studies",
            "patients": "Patients",
        }
        rows = [
            [SPLITS.get(split, split), *(f"{own[key]:,}" if key in own else "–" for key in columns)]
            for split, own in counts.items()
        ]
        out.append(page.table("What was read", ["Split", *columns.values()], rows))
    if unreadable.is_file():
        bad = pd.read_csv(unreadable, dtype=str).fillna("")
        rows = [
            [f"<code>{html.escape(str(path))}</code>", html.escape(str(reason))]
            for path, reason in zip(bad["path"], bad["reason"], strict=True)
        ]
        listed = page.table("Files left out", ["File", "Reason"], rows)
        out.append(
            f"<details><summary>{count(len(rows), 'file')} could not be read and is left out of every figure"
            f"</summary>{listed}</details>"
            if len(rows) == 1
            else f"<details><summary>{count(len(rows), 'file')} could not be read and are left out of every figure"
            f"</summary>{listed}</details>"
        )
    elif data:
        out.append("<p>Every file could be read.</p>")
    return "\n".join(out)


def training_section(config: Mapping[str, Any], history: pd.DataFrame | None) -> str:
    """What happened, and the settings."""
    facts = []
    if history is not None:
        facts.append(["Steps done", f"{len(history):,}"])
        if "epoch" in history:
            facts.append(["Epochs begun", f"{int(history['epoch'].max()):,}"])
        if "loss" in history:
            last = history["loss"].tail(max(1, len(history) // 20))
            facts.append([f"Loss, mean of the last {count(len(last), 'step')}", f"{last.mean():.4f}"])
        for name, label in (
            ("active_fraction", "Active fraction there"),
            ("mean_distance", "Mean distance there"),
        ):
            if name in history and not math.isnan(value := float(history[name].tail(len(last)).mean())):
                facts.append([label, f"{value:.4f}"])
    if "seconds" in config:
        facts.append(["Time, all in all", f"{config['seconds'] / 60:.1f} minutes"])
    settings = [
        [html.escape(str(name)), f"<code>{html.escape(_plain(value))}</code>"]
        for name, value in {
            **config["experiment"],
            **_flat("preprocessing", config.get("preprocessing", {})),
        }.items()
    ]
    out = page.table("What happened", ["Fact", "Value"], facts) if facts else ""
    return out + page.table("Settings", ["Name", "Value"], settings)


def _flat(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}.{key}": value for key, value in values.items()}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def again_section(config: Mapping[str, Any]) -> str:
    """The code that runs it again, and the versions it ran with."""
    if config.get("kind") == "classifier":
        names, call = "ClassifierExperiment, run_classifier", "run_classifier"
        source = "siamura.experiments.classifying"
    else:
        names, call, source = "Experiment, run", "run", "siamura"
    code = (
        f"from {source} import {names}\n\n"
        f"experiment = {names.split(',')[0]}.from_dict({pformat(config['experiment'], sort_dicts=False)})\n"
        f'{call}(experiment, out="runs/again")'
    )
    out = f'<pre tabindex="0"><code>{html.escape(code)}</code></pre>'
    rows = [[html.escape(str(k)), html.escape(str(v))] for k, v in config.get("versions", {}).items()]
    if rows:
        versions = page.table("Versions", ["Package", "Version"], rows)
        out += f"<details><summary>Versions it ran with</summary>{versions}</details>"
    return out
