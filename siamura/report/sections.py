"""The sections of ``report.html``: what the record of a run says, as blocks of a page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from pprint import pformat
from typing import Any

import pandas as pd

from siamura._names import BASELINES, HEADS, SPLITS
from siamura.plots.style import count, part_name

from .gallery import classes_named
from .lesions import taught_sentence
from .operating import beaten_sentences
from .page import Block, Cell, Details, Paragraph, Program, Score, Table, Text
from .tables import Sheet, head_note

__all__ = [
    "again_section",
    "by_head",
    "data_section",
    "groups_section",
    "parts_section",
    "published_section",
    "quality_section",
    "rests_on",
    "scores_section",
    "training_section",
]

METRICS = {
    "accuracy": "Accuracy", "kappa": "Cohen's kappa", "kappa_quadratic": "Cohen's kappa, quadratic weights",
    "recall_macro": "Recall, macro", "precision_macro": "Precision, macro", "auroc_macro": "AUROC, macro",
    "recall": "Sensitivity (recall)",
    "specificity": "Specificity", "precision": "Precision", "f1": "F1", "f1_macro": "F1, macro",
    "auroc": "AUROC", "average_precision": "Average precision", "brier": "Brier score",
    "ece": "Expected calibration error",
}  # fmt: skip
_QUALITY = {
    "loss": "Training loss, over batches of finished embeddings", "map_at_r": "MAP@R",
    "nmi": "Normalised mutual information", "positive_distance": "Mean distance, same label",
    "negative_distance": "Mean distance, other label", "alignment": "Alignment", "uniformity": "Uniformity",
}  # fmt: skip


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


def scores_section(
    metrics: Mapping[str, Any], classes: Sequence[str] = ("normal", "abnormal")
) -> list[Block]:
    """Tables of every score of every head, with intervals; those on the training views folded away."""
    tables = {split: _score_tables(metrics, split, classes) for split in ("valid", "train")}
    if not any(tables.values()):
        return []
    draws = next(
        (s["draws"] for lv in metrics.get("valid", {}).values() for s in lv.values() if s.get("draws")),
        None,
    )
    how = f" of {draws:,} draws" if draws else ""
    rule = (
        f"above 0.5 is {classes[1]}."
        if len(classes) == 2
        else f"the most probable of {', '.join(classes)} is the answer. Scores of a class are against all others, "
        "macro scores their mean."
    )
    intro = (
        f"In brackets: 95 % intervals by a bootstrap{how} over patients; the line shows the same from 0 to 1 "
        "(kappa: from -1 to 1). An interval without width means that every draw gives the same, as when all "
        f"answers are alike or none is wrong: it is no certainty. A study is the mean of its views; {rule} "
        "The trivial baseline sees the part, grey levels, aspect and size alone: a model that is not "
        "above it has learnt nothing of anatomy."
    )
    if "frozen_knn" in by_head(metrics, "valid", "study"):
        intro += (
            " The frozen trunk is the network as it was before training: nearest neighbours and logistic regression "
            "on its pooled features."
        )
    if note := head_note(metrics):
        intro += f" {note}"
    out: list[Block] = [Paragraph(intro), *tables["valid"], *map(Paragraph, beaten_sentences(metrics))]
    if tables["train"]:
        note = (
            "Fitted on these very images: of use to see overfitting, not to judge the model. In the k-NN a patient's "
            "own images do not vote."
        )
        out.append(Details("On the training views", [Paragraph(note), *tables["train"]]))
    return out


def _score_tables(metrics: Mapping[str, Any], split: str, classes: Sequence[str]) -> list[Table]:
    tables = []
    for level in ("study", "view"):
        heads = by_head(metrics, split, level)
        if not heads:
            continue
        named = {**METRICS, **_of_classes(classes)}
        shown = [m for m in named if any(scores.get(m) is not None for scores in heads.values())]
        rows: list[list[Cell]] = [
            [named[metric], *(_score(scores, metric) for scores in heads.values())] for metric in shown
        ]
        basis = next(iter(heads.values()))
        caption = f"{SPLITS[split]}, per {level}: {rests_on(basis, level)}"
        tables.append(Table(caption, ["", *(HEADS.get(head, head) for head in heads)], rows))
    return tables


def _of_classes(classes: Sequence[str]) -> dict[str, str]:
    """The scores of each class, as `siamura.evaluate` names them and as a person reads them."""
    each = {"precision": "Precision", "recall": "Recall", "f1": "F1", "auroc": "AUROC"}
    return {f"{metric}[{name}]": f"{said}, {name}" for metric, said in each.items() for name in classes}


def groups_section(metrics: Mapping[str, Any]) -> list[Block]:
    """Scores apart by how an image was made and whose it is, with what is too small to be compared."""
    out: list[Block] = []
    for column, found in metrics.get("groups", {}).items():
        for head, by_value in found["heads"].items():
            if head in BASELINES:
                continue
            trivial = found["heads"].get("trivial", {})
            first = next(iter(by_value.values()))
            shown = [m for m in ("accuracy", "kappa", "recall", "specificity", "recall_macro", "auroc", "auroc_macro")
                     if m in first]  # fmt: skip
            auroc = "auroc" if "auroc" in first else "auroc_macro"
            rows: list[list[Cell]] = []
            for value, own in by_value.items():
                beside = [_bare(trivial[value], auroc)] if value in trivial else []
                rows.append([Text(value, rests_on(own, "study")), *(_bare(own, m) for m in shown), *beside])
            names = [METRICS[m] for m in shown]
            if trivial:
                names.append(f"{HEADS['trivial']}: AUROC")
            out.append(Table(f"Validation, per study, {HEADS.get(head, head)}", [column, *names], rows))
        out += [Paragraph(sentence) for sentence in found.get("small", {}).values()]
    if out:
        said = (
            "Each value of a column of the table by itself, as the image's view or the patient's sex. A difference "
            "between groups whose intervals overlap may be chance."
        )
        out.insert(0, Paragraph(said))
    return out


def _score(scores: Mapping[str, Any], metric: str) -> Score:
    return Score(
        scores.get(metric),
        scores.get("interval", {}).get(metric),
        (-1.0, 1.0) if metric.startswith("kappa") else (0.0, 1.0),
    )


def _bare(scores: Mapping[str, Any], metric: str) -> Score:
    """A score without its mark."""
    return Score(scores.get(metric), scores.get("interval", {}).get(metric))


def parts_section(metrics: Mapping[str, Any]) -> list[Block]:
    """One table a level: scores of each part, where there are several, beside the trivial baseline's kappa."""
    out: list[Block] = []
    for level in ("study", "view"):
        heads = by_head(metrics, "valid", level)
        trivial = heads.get("trivial", {}).get("parts", {})
        heads = {head: scores for head, scores in heads.items() if head not in BASELINES}
        for head, scores in heads.items():
            parts = scores.get("parts")
            if not parts or len(parts) < 2:
                continue
            wanted = ("accuracy", "kappa", "precision", "recall", "f1", "f1_macro", "auroc", "auroc_macro")
            shown = [
                metric
                for metric in wanted
                if metric in scores and (metric != "f1_macro" or "f1" not in scores)
            ]
            names = [METRICS[metric] for metric in shown]
            rows: list[list[Cell]] = []
            for part, own in parts.items():
                cells: list[Cell] = [_bare(own, metric) for metric in shown]
                if beside := trivial.get(part):
                    cells.append(_bare(beside, "kappa"))
                rows.append([Text(part_name(part), rests_on(own, level)), *cells])
            if trivial:
                names.append(f"{HEADS['trivial']}: kappa")
            out.append(Table(f"Validation, per {level}, {HEADS.get(head, head)}", ["Part", *names], rows))
    return out


def published_section(sheet: Sheet | None) -> list[Block]:
    """Published figures, and measured ones beside them; what the page's head says already is not said again."""
    if sheet is None:
        return []
    marked = {number for number, row in enumerate(sheet.rows) if row.measured}
    if len(marked) == len(sheet.rows):
        marked = set()  # nothing published stands beside them
    measured = "measured, " if marked else ""
    rows = [
        [
            *row.before,
            f"{measured if row.measured else 'published'}{row.source}",
            *(_with_soft_interval(value) for value in row.after),
        ]
        for row in sheet.rows
    ]
    return [*map(Paragraph, sheet.notes), Table(sheet.title, sheet.header, rows, marked)]


def _with_soft_interval(value: str) -> Cell:
    figure, bracket, rest = value.partition(" [")
    return Text(figure, f"[{rest}") if bracket else value


def quality_section(metrics: Mapping[str, Any]) -> list[Block]:
    """Retrieval and distances of the embedding."""
    found = {
        SPLITS[split]: metrics[split]["view"]["embedding"]
        for split in ("valid", "train")
        if metrics.get(split, {}).get("view", {}).get("embedding")
    }
    if not found:
        return []
    names = {**_QUALITY}
    for scores in found.values():
        names |= {k: f"P@{k.rsplit('_', 1)[1]}" for k in scores if k.startswith("precision_at_")}
    ordered = sorted(names, key=lambda k: (not k.startswith("precision_at_"), list(names).index(k)))
    rows: list[list[Cell]] = [
        [names[key], *(_bare(scores, key) for scores in found.values())]
        for key in ordered
        if any(scores.get(key) is not None for scores in found.values())
    ]
    said = "Neighbours are looked for among the other patients of the same split: an image's own patient never counts."
    return [Paragraph(said), Table("Retrieval and distances, per view", ["", *found], rows)]


def unlike_section(metrics: Mapping[str, Any]) -> list[Block]:
    """Validation views that lie farther from the training views than nearly all others."""
    found = metrics.get("unlike")
    if not found:
        return []
    said = (
        "A view is called unlike the training views where its distance to the training view that is number "
        f"{found['k']} in order of distance is above {found['limit']:.3g}, within which {100 * found['share']:g} % of "
        f"the {found['views']} validation views lie, or where the features of its image leave what the training views "
        f"span. {found['number']} of these are unlike: look whether they are radiographs of the part, well exposed."
    )
    rows: list[list[Cell]] = [
        [str(one["patient"]), str(one["study"]), Path(str(one["path"])).name, f"{one['distance']:.3g}"]
        for one in found["first"]
    ]
    table = Table(
        "Validation views unlike the training views", ["patient", "study", "image", "distance"], rows
    )
    return [Paragraph(said), *([table] if rows else [])]


def data_section(config: Mapping[str, Any], unreadable: pd.DataFrame | None) -> list[Block]:
    """What was read, and what could not be."""
    data = config.get("data", {})
    counts = data.get("counts", {})
    out: list[Block] = []
    if data.get("phantoms"):
        out.append(Paragraph("Drawn by siamura, with its own seed; no patient is behind them."))
    elif data.get("name"):
        out.append(Paragraph("Radiographs of", Path(str(data["name"])).name))
    if said := data.get("split"):
        out.append(Paragraph(said))
    if counts:
        classes = classes_named(data)
        columns = {"views": "Views", "studies": "Studies", "patients": "Patients"}
        labels = data.get("labels", {})
        if not labels:  # of an older run
            columns["abnormal_views"] = f"Views of {classes[1]}"
        rows: list[list[Cell]] = [
            [
                SPLITS.get(split, split),
                *(f"{own[key]:,}" if key in own else "–" for key in columns),
                *(f"{number:,}" for number in labels.get(split, {}).values()),
            ]
            for split, own in counts.items()
        ]
        named = [f"Views of {name}" for name in next(iter(labels.values()), {})]
        out.append(Table("What was read", ["Split", *columns.values(), *named], rows))
    if unreadable is not None and len(unreadable):
        listed: list[list[Cell]] = [
            [Text(str(path), code=True), str(reason)]
            for path, reason in zip(unreadable["path"], unreadable["reason"], strict=True)
        ]
        left = "is left out" if len(listed) == 1 else "are left out"
        said = f"{count(len(listed), 'file')} could not be read and {left} of every figure"
        out.append(Details(said, [Table("Files left out", ["File", "Reason"], listed)]))
    elif data:
        out.append(Paragraph("Every file could be read."))
    return out


def training_section(config: Mapping[str, Any], history: pd.DataFrame | None) -> list[Block]:
    """What happened, and the settings."""
    facts: list[list[Cell]] = []
    if history is not None:
        facts.append(["Steps done", f"{len(history):,}"])
        if "epoch" in history:
            facts.append(["Epochs begun", f"{int(history['epoch'].max()):,}"])
        last = history.tail(max(1, len(history) // 20))
        if "loss" in history:
            facts.append([f"Loss, mean of the last {count(len(last), 'step')}", f"{last['loss'].mean():.4f}"])
        for name, label in (
            ("active_fraction", "Active fraction there"),
            ("mean_distance", "Mean distance there"),
        ):
            if name in history and not math.isnan(value := float(last[name].mean())):
                facts.append([label, f"{value:.4f}"])
    if "seconds" in config:
        facts.append(["Time, all in all", f"{config['seconds'] / 60:.1f} minutes"])
    settings: list[list[Cell]] = [
        [str(name), Text(_plain(value), code=True)]
        for name, value in {
            **config["experiment"],
            **config.get("recipe", {}),  # what was left out, settled
            **_flat("preprocessing", config.get("preprocessing", {})),
        }.items()
    ]
    taught = taught_sentence(config.get("data", {}))
    happened: list[Block] = [Paragraph(taught)] if taught else []
    if facts:
        happened.append(Table("What happened", ["Fact", "Value"], facts))
    return [*happened, Table("Settings", ["Name", "Value"], settings)]


def _flat(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}.{key}": value for key, value in values.items()}


def _plain(value: Any) -> str:
    if value is None:
        return "not given"
    return value if isinstance(value, str) else json.dumps(value)


def again_section(config: Mapping[str, Any]) -> list[Block]:
    """The code that runs it again, and the versions it ran with."""
    if config.get("kind") == "classifier":
        names, call, source = "ClassifierExperiment, run_classifier", "run_classifier", "siamura.experiments"
    else:
        names, call, source = "Experiment, run", "run", "siamura"
    code = (
        f"from {source} import {names}\n\n"
        f"experiment = {names.split(',')[0]}.from_dict({pformat(config['experiment'], sort_dicts=False)})\n"
        f'{call}(experiment, out="runs/again")'
    )
    out: list[Block] = [Program(code)]
    rows: list[list[Cell]] = [[str(k), str(v)] for k, v in config.get("versions", {}).items()]
    if rows:
        out.append(Details("Versions it ran with", [Table("Versions", ["Package", "Version"], rows)]))
    return out
