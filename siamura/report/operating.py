"""Sections of ``report.html`` on what a run does with its probabilities, and on whether training helped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from siamura._names import BASELINES, HEADS
from siamura.plots.style import count

from .page import Block, Cell, Paragraph, Score, Table, Text

__all__ = ["beaten_sentences", "findings", "operating_section", "reached_sentences"]

_HEADS = {**HEADS, "classifier": "the classifier", "knn": "the k-NN head", "mlp": "the MLP head"}
_BASELINES = {
    "trivial": "the trivial baseline",
    "frozen_knn": "k-NN on the frozen trunk",
    "frozen_logistic": "logistic regression on the frozen trunk",
}


def beaten_sentences(metrics: Mapping[str, Any]) -> list[str]:
    """Say of each baseline in one sentence whether training beat it, by AUROC per study on the same patients.

    Examples
    --------
    >>> found = {"metric": "auroc", "first": 0.8, "second": 0.7, "difference": 0.1, "low": 0.04, "high": 0.15}
    >>> beaten_sentences({"comparison": {"knn": {"trivial": found}}})
    ['Against the trivial baseline (AUROC 0.700): the k-NN head is better (0.800, difference 0.100 [0.040, 0.150]).']
    """
    comparison = metrics.get("comparison", {})
    out = []
    for baseline in BASELINES:
        told = [_beaten(head, found[baseline]) for head, found in comparison.items() if baseline in found]
        if not told:
            continue
        first = next(found[baseline] for found in comparison.values() if baseline in found)
        what = "macro AUROC" if first["metric"] == "auroc_macro" else "AUROC"
        value = "undefined" if first["second"] is None else f"{first['second']:.3f}"
        out.append(f"Against {_BASELINES[baseline]} ({what} {value}): {'; '.join(told)}.")
    return out


def _beaten(head: str, found: Mapping[str, Any]) -> str:
    name = _HEADS.get(head, head)
    if found["difference"] is None or found["first"] is None:
        return f"{name} cannot be compared"
    if found["low"] is None or found["high"] is None:
        return f"{name} reaches {found['first']:.3f}, and there is no interval of the difference"
    said = "is not shown to be better"
    if found["low"] > 0:
        said = "is better"
    elif found["high"] < 0:
        said = "is worse"
    return (
        f"{name} {said} ({found['first']:.3f}, difference {found['difference']:.3f} "
        f"[{found['low']:.3f}, {found['high']:.3f}])"
    )


def findings(metrics: Mapping[str, Any]) -> list[str]:
    """Conclude in sentences: whether training beat the baselines, and what the operating points reached."""
    return [*beaten_sentences(metrics), *reached_sentences(metrics)]


def reached_sentences(metrics: Mapping[str, Any]) -> list[str]:
    """Say of each head with a threshold what sensitivity was wanted, and what was reached on validation studies."""
    found = metrics.get("operating", {})
    out = []
    for head, levels in found.get("heads", {}).items():
        point, valid = levels["study"]["point"], levels["study"]["valid"]
        if point["threshold"] is None:
            continue
        reached = " and ".join(
            f"{name} {_between(valid, metric)}"
            for name, metric in (("sensitivity", "recall"), ("specificity", "specificity"))
        )
        out.append(
            f"Operating point of {_HEADS.get(head, head)}, per study: sensitivity {point['sensitivity']:.2f} wanted, "
            f"calibrated probability above {point['threshold']:.3f}; on validation, where it was not fitted, {reached}."
            f"{_missed(point, valid)}"
        )
    return [found["how"], *out] if out else out


def _missed(point: Mapping[str, Any], valid: Mapping[str, Any]) -> str:
    """Warn where all are called positive, or the interval of the sensitivity reached does not hold the one wanted."""
    if valid.get("recall") == 1 and valid.get("specificity") == 0:
        return (
            " That calls every one positive, which says nothing. Take another head, a lower sensitivity or, of a k-NN, "
            "more neighbours."
        )
    bounds = valid.get("interval", {}).get("recall")
    if bounds is None or bounds[0] <= point["sensitivity"] <= bounds[1]:
        return ""
    less = "less" if bounds[1] < point["sensitivity"] else "more"
    return (
        f" That is {less} than wanted, beyond chance: the validation patients differ from those it was fitted on, as "
        "where they come from another source, or where views of one person stand under several names in train. Do "
        "not rely on this threshold; fit one on patients like those whom it is for."
    )


def _between(scores: Mapping[str, Any], metric: str) -> str:
    if scores.get(metric) is None:
        return "undefined"
    bounds = scores.get("interval", {}).get(metric)
    return f"{scores[metric]:.3f}" + (f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else "")


def operating_section(
    metrics: Mapping[str, Any], classes: Sequence[str] = ("normal", "abnormal")
) -> list[Block]:
    """What was wanted, on whom it was fitted, and what was reached on validation."""
    found = metrics.get("operating")
    if not found:
        return []
    out: list[Block] = [Paragraph(found["how"])]
    if not found["heads"]:
        return out
    two = len(classes) == 2
    rows: list[list[Cell]] = []
    for level in ("study", "view"):
        for head, levels in found["heads"].items():
            point, valid = levels[level]["point"], levels[level]["valid"]
            basis = f"{_named(point['calibrator'])}, {count(point['patients'], 'patient')}"
            cells: list[Cell] = [Text(f"{HEADS.get(head, head)}, per {level}", basis)]
            if two:
                wanted = point["sensitivity"]
                cells += [
                    f"{point['threshold']:.3f}",
                    Score(valid.get("recall"), valid.get("interval", {}).get("recall")),
                    Score(valid.get("specificity"), valid.get("interval", {}).get("specificity")),
                ]
            before = metrics.get("valid", {}).get(level, {}).get(head, {})
            cells += [
                Score(scores.get(metric), scores.get("interval", {}).get(metric))
                for metric in (("brier", "ece") if two else ("brier",))
                for scores in (before, valid)
            ]
            rows.append(cells)
    header, caption = [""], "Calibration, and the patients it was fitted on; measured on validation"
    if two:
        header += ["Threshold", "Sensitivity", "Specificity"]
        caption += f", where a sensitivity of {wanted:.2f} was wanted"
    header += ["Brier score before", "and after"]
    if two:
        header += ["Calibration error before", "and after"]
        said = (
            f"A calibrated probability above the threshold is called {classes[1]}; predict, evaluate and the page "
            "answer by it. Nothing here is fitted on the validation patients, on whom it is measured: the sensitivity "
            "reached differs from the one wanted by chance, and the fewer patients it was fitted on, the more."
        )
    else:
        said = (
            "The answer is the most probable class; the temperature changes the probabilities, not the answer of a "
            "view. It is not fitted on the validation patients, on whom it is measured."
        )
    out += [
        Paragraph(said),
        Table(f"{caption}; in brackets 95 % intervals over patients", header, rows),
    ]
    if two:
        out += [
            Paragraph(f"{HEADS.get(head, head)}, per {level}.{missed}")
            for head, levels in found["heads"].items()
            for level in ("study", "view")
            if (missed := _missed(levels[level]["point"], levels[level]["valid"]))
        ]
        out.append(
            Paragraph(
                "The net benefit of acting on these calibrated probabilities is drawn beside the ROC curve. The scores "
                "in the tables above are at 0.5 without calibration."
            )
        )
    return out


def _named(calibrator: Mapping[str, Any] | None) -> str:
    if calibrator is None:
        return "none"
    if calibrator["method"] == "temperature":
        return f"temperature {calibrator['temperature']:.2f}"
    return str(calibrator["method"])
