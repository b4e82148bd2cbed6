"""``report.html``: everything a run folder holds, on one page that needs nothing else."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from pprint import pformat
from typing import Any

import pandas as pd

from . import page
from .tables import RESEARCH

__all__ = ["write_report"]

_HEADS = {"knn": "k-NN", "mlp": "MLP", "classifier": "Classifier", "trivial": "Trivial baseline"}
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
_SPLITS = {"valid": "Validation", "train": "Training"}
_LOSSES = {
    "triplet": "triplet loss", "batch_hard": "batch hard triplet loss", "semi_hard": "semi-hard triplet loss",
    "triplet_focal": "triplet focal loss", "selectively_contrastive": "selectively contrastive loss",
}  # fmt: skip


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` into a run folder.

    Parameters
    ----------
    folder : path
        A finished or interrupted run: ``config.json`` and ``metrics.json`` must be there; ``history.csv``,
        ``table.md``, ``unreadable.csv`` and every ``*.png`` are shown where they are.

    Returns
    -------
    Path
        The page, one file that fetches nothing.

    Raises
    ------
    FileNotFoundError
        If the folder holds no measured run.
    ValueError
        If a figure is no PNG file.
    """
    folder = Path(folder)
    for name in ("config.json", "metrics.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no measured run: {name} is missing; run an experiment into it."
            )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    history = _history(folder / "history.csv")
    sections = [
        ("scores", "Scores", _scores(metrics)),
        ("parts", "Body parts", _parts(metrics)),
        ("published", "Beside the published figures", _published(folder / "table.md")),
        ("figures", "Figures", _figures(folder, config, metrics, history)),
        ("embedding", "The embedding space", _quality(metrics)),
        ("data", "Data", _data(config, folder / "unreadable.csv")),
        ("training", "Training", _training(config, history)),
        ("again", "To run it again", _again(config)),
    ]
    title = _title(config)
    # Written beside, then renamed: a browser never meets half a page.
    path, beside = folder / "report.html", folder / "report.html.part"
    beside.write_text(
        page.page(title, _header(title, config, metrics), sections, _footer(config)), encoding="utf-8"
    )
    beside.replace(path)
    return path


def _history(path: Path) -> pd.DataFrame | None:
    if not path.is_file() or not path.stat().st_size:
        return None
    history = pd.read_csv(path)
    return history if len(history) else None


def _part(config: Mapping[str, Any]) -> str:
    experiment, data = config["experiment"], config.get("data", {})
    found = experiment.get("part") or experiment.get("parts") or data.get("part") or ""
    names = [found] if isinstance(found, str) else list(found)
    return ", ".join(name.removeprefix("XR_").capitalize() for name in names)


def _title(config: Mapping[str, Any]) -> str:
    experiment = config["experiment"]
    words = [str(experiment.get("trunk", ""))]
    if "dim" in experiment:
        words.append(f"{experiment['dim']} dimensions")
    if "loss" in experiment:
        words.append(_LOSSES.get(experiment["loss"], str(experiment["loss"])))
    if "top" in experiment:
        words.append(f"top {experiment['top']!r}")
    return f"{_part(config) or 'Radiographs'}: {', '.join(word for word in words if word)}"


def _header(title: str, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    out = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(RESEARCH)}</p>"]
    data = config.get("data", {})
    if data.get("phantoms"):
        out.append(
            '<p class="notice" role="note"><strong>PHANTOMS.</strong> Everything here was measured on radiographs '
            "that siamura drew. It shows that the pipeline works, and says nothing about patients.</p>"
        )
    if config.get("status") not in (None, "finished"):
        out.append(
            f'<p class="notice" role="note"><strong>{html.escape(str(config["status"]).upper())}.</strong> '
            "The training did not reach its end; the figures are those of the network so far.</p>"
        )
    out.append(_glance(data, metrics))
    return "\n".join(entry for entry in out if entry)


def _glance(data: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Kappa of each head on the validation studies, and how many patients that rests on."""
    heads = {k: v for k, v in _heads(metrics, "valid", "study").items() if k != "trivial"}
    tiles = []
    for head, scores in heads.items():
        if scores.get("kappa") is None:
            continue
        bounds = scores.get("interval", {}).get("kappa")
        between = f"{bounds[0]:.3f} to {bounds[1]:.3f}, " if bounds else ""
        tiles.append(
            f"<li><span>{_HEADS.get(head, html.escape(head))}, kappa</span><b>{scores['kappa']:.3f}</b>"
            f"<span>{between}{_rests_on(scores, 'study')}</span></li>"
        )
    if not tiles:
        return ""
    source = "drawn phantoms" if data.get("phantoms") else "radiographs"
    return (
        f'<p class="soft">Validation, per study, on {source}; 95 % intervals by a bootstrap over patients.</p>'
        f'<ul class="facts">{"".join(tiles)}</ul>'
    )


def _heads(metrics: Mapping[str, Any], split: str, level: str) -> dict[str, Mapping[str, Any]]:
    found = metrics.get(split, {}).get(level, {})
    known = [name for name in _HEADS if name in found]
    return {
        name: found[name] for name in [*known, *(n for n in found if n not in known and n != "embedding")]
    }


def _rests_on(scores: Mapping[str, Any], level: str) -> str:
    counted = [
        (scores.get(f"{level[:-1]}ies" if level == "study" else "views"), level),
        (scores.get("patients"), "patient"),
    ]
    words = [_count(int(number), noun) for number, noun in counted if number is not None]
    return " of ".join(words)


def _count(number: int, noun: str) -> str:
    if number != 1:
        noun = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun}"


def _scores(metrics: Mapping[str, Any]) -> str:
    out = []
    for split, split_name in _SPLITS.items():
        tables = []
        for level in ("study", "view"):
            heads = _heads(metrics, split, level)
            if not heads:
                continue
            shown = [m for m in _METRICS if any(scores.get(m) is not None for scores in heads.values())]
            rows = [
                [html.escape(_METRICS[metric]), *(_score(scores, metric) for scores in heads.values())]
                for metric in shown
            ]
            basis = next(iter(heads.values()))
            caption = f"{split_name}, per {level}: {_rests_on(basis, level)}"
            tables.append(page.table(caption, ["", *(_HEADS.get(head, head) for head in heads)], rows))
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
        "abnormal.</p>"
    )
    return intro + "\n".join(out)


def _score(scores: Mapping[str, Any], metric: str) -> str:
    return page.cell(
        scores.get(metric),
        scores.get("interval", {}).get(metric),
        scale=(-1.0, 1.0) if metric == "kappa" else (0.0, 1.0),
    )


def _parts(metrics: Mapping[str, Any]) -> str:
    out = []
    for level in ("study", "view"):
        for head, scores in _heads(metrics, "valid", level).items():
            parts = scores.get("parts")
            if not parts or len(parts) < 2:
                continue
            shown = ("accuracy", "kappa", "precision", "recall", "f1", "auroc")
            rows = [
                [
                    f"{html.escape(str(part).removeprefix('XR_').capitalize())} "
                    f'<span class="range">{_rests_on(own, level)}</span>',
                    *(page.cell(own.get(metric), own.get("interval", {}).get(metric)) for metric in shown),
                ]
                for part, own in parts.items()
            ]
            caption = f"Validation, per {level}, {_HEADS.get(head, head)}"
            out.append(page.table(caption, ["Part", *(_METRICS[m] for m in shown)], rows))
    return "\n".join(out)


def _published(path: Path) -> str:
    if not path.is_file():
        return ""
    # What the page's head says already is not said again.
    said = ("Measured on ", RESEARCH)
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(said)]
    return page.markdown(
        "\n".join(lines), caption="Published and measured figures", marked="<strong>measured"
    )


def _figures(
    folder: Path, config: Mapping[str, Any], metrics: Mapping[str, Any], history: pd.DataFrame | None
) -> str:
    known = [
        "losses",
        "accuracy",
        "embedding",
        "confusion",
        "roc",
        "precision_recall",
        "reliability",
        "parts",
        "counts",
        "clahe",
    ]
    files = {path.stem: path for path in sorted(folder.glob("*.png"))}
    order = [name for name in known if name in files] + [name for name in files if name not in known]
    source = "phantoms" if config.get("data", {}).get("phantoms") else "radiographs"
    shown = []
    for name in order:
        what = "accuracy" if name == "losses" and config.get("kind") == "classifier" else name
        alt, caption = _described(what, source, metrics, history)
        wide = name in ("clahe", "counts", "neighbours", "augmentation", "feature_maps")
        shown.append(page.figure(files[name], alt, caption, wide=wide))
    return f'<div class="figures">{"".join(shown)}</div>' if shown else ""


def _described(
    name: str, source: str, metrics: Mapping[str, Any], history: pd.DataFrame | None
) -> tuple[str, str]:
    """Give a figure its text for who cannot see it, and its caption."""
    if name == "losses" and history is not None and "loss" in history:
        first, last = float(history["loss"].iloc[0]), float(history["loss"].iloc[-1])
        return (
            f"Line chart of the training loss over {len(history)} steps, from {first:.3f} to {last:.3f}, with the "
            "share of active triplets and the distances in the batch below it.",
            "Training loss of every step, the share that is still active, and distances within a batch.",
        )
    if name == "confusion":
        parts = []
        for level in ("view", "study"):
            for head, scores in _heads(metrics, "valid", level).items():
                if (
                    head != "trivial"
                    and scores.get("recall") is not None
                    and scores.get("specificity") is not None
                ):
                    parts.append(
                        f"per {level}, {_HEADS.get(head, head)}: {100 * scores['recall']:.0f} % of the abnormal "
                        f"and {100 * scores['specificity']:.0f} % of the normal are answered right"
                    )
                    break
        told = "; ".join(parts)
        return f"Confusion matrices on the validation {source}. {told}".strip(), "Answers against the truth."
    texts = {
        "losses": ("Line chart of the training loss.", "Training loss."),
        "accuracy": (
            "Line chart of training and validation accuracy over the epochs.",
            "Accuracy over the training.",
        ),
        "embedding": (
            f"Scatter plot of the embeddings of training and validation {source} in the plane, coloured by label.",
            "The embedding space in the plane; validation views have a black edge.",
        ),
        "clahe": (
            f"Three {source} before and after CLAHE, each with its histogram.",
            "Before and after CLAHE.",
        ),
        "roc": ("Receiver operating characteristic with a 95 % band.", "Receiver operating characteristic."),
        "precision_recall": ("Precision over recall with a 95 % band.", "Precision and recall."),
        "reliability": ("Observed share of abnormal against the predicted probability.", "Reliability."),
        "parts": ("Bars of a score of every body part, with 95 % intervals.", "Scores per body part."),
        "counts": ("Bars of the normal and abnormal views and studies of every part.", "What the data hold."),
    }
    words = name.replace("_", " ").replace("-", " ")
    return texts.get(name, (f"Figure: {words}.", words.capitalize() + "."))


def _quality(metrics: Mapping[str, Any]) -> str:
    found = {
        name: metrics[split]["view"]["embedding"]
        for split, name in _SPLITS.items()
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


def _data(config: Mapping[str, Any], unreadable: Path) -> str:
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
            [_SPLITS.get(split, split), *(f"{own[key]:,}" if key in own else "–" for key in columns)]
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
            f"<details><summary>{_count(len(rows), 'file')} could not be read and is left out of every figure"
            f"</summary>{listed}</details>"
            if len(rows) == 1
            else f"<details><summary>{_count(len(rows), 'file')} could not be read and are left out of every figure"
            f"</summary>{listed}</details>"
        )
    elif data:
        out.append("<p>Every file could be read.</p>")
    return "\n".join(out)


def _training(config: Mapping[str, Any], history: pd.DataFrame | None) -> str:
    facts = []
    if history is not None:
        facts.append(["Steps done", f"{len(history):,}"])
        if "epoch" in history:
            facts.append(["Epochs begun", f"{int(history['epoch'].max()):,}"])
        if "loss" in history:
            last = history["loss"].tail(max(1, len(history) // 20))
            facts.append([f"Loss, mean of the last {_count(len(last), 'step')}", f"{last.mean():.4f}"])
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


def _again(config: Mapping[str, Any]) -> str:
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


def _footer(config: Mapping[str, Any]) -> str:
    version = config.get("versions", {}).get("siamura", "")
    mark = " Measured on phantoms." if config.get("data", {}).get("phantoms") else ""
    return f"<p>Written by siamura {html.escape(str(version))}.{mark}</p>"
