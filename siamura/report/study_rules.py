"""The section on how a study's probability is made of its views'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from siamura._names import HEADS
from siamura.plots.style import count

from .page import Block, Cell, Paragraph, Score, Table
from .sections import METRICS

__all__ = ["study_rules_section"]

_RULES = {
    "mean": "Mean of the views' probabilities",
    "max": "Largest of them",
    "noisy-or": "Noisy-or: abnormal unless every view is normal",
    "attention": "Attention over the views' embeddings, fitted on train",
}
_SHOWN = ("auroc", "auroc_macro", "average_precision", "kappa", "recall", "specificity", "recall_macro")
#: Share of the studies that must have several views for a table to say anything.
_FEWEST = 0.1


def study_rules_section(metrics: Mapping[str, Any]) -> list[Block]:
    """Each rule's scores per study and their differences to the mean; a sentence where nearly all have one view.

    Examples
    --------
    >>> study_rules_section({"study_rules": {"studies": 60, "patients": 50, "several": 2}})[0].text
    'Of the 60 validation studies of 50 patients, 2 have more than one view: how views are put together hardly matters.'
    """
    found = metrics.get("study_rules")
    if not found:
        return []
    of = (
        f"Of the {count(found['studies'], 'validation study')} of {count(found['patients'], 'patient')}, "
        f"{found['several']} have more than one view"
    )
    if "heads" not in found or found["several"] < _FEWEST * found["studies"]:
        return [Paragraph(f"{of}: how views are put together hardly matters.")]
    said = (
        f"{of}. The scores elsewhere on this page are of the mean. Each other rule has its difference to the mean "
        "beside it, paired over the same draws of patients. Kappa, sensitivity and specificity are at 0.5, which the "
        "largest of several probabilities passes more often than their mean: look at AUROC first."
    )
    out: list[Block] = [Paragraph(said)]
    for head, by_rule in found["heads"].items():
        shown = [metric for metric in _SHOWN if metric in by_rule["mean"]]
        header = [""]
        for metric in shown:
            header += [METRICS[metric], "less the mean's"]
        rows: list[list[Cell]] = []
        for rule, scores in by_rule.items():
            name = f"Mean of the {rule[4:]} largest" if rule.startswith("top-") else _RULES[rule]
            cells: list[Cell] = [name]
            for metric in shown:
                own = scores[metric]
                cells.append(_score(own, "value", "low", "high"))
                cells.append(
                    "–" if rule == "mean" else _score(own, "difference", "difference_low", "difference_high")
                )
            rows.append(cells)
        basis = f"{found['studies']} studies of {found['patients']} patients"
        out.append(Table(f"Validation, per study, {HEADS.get(head, head)}: {basis}", header, rows, {0}))
    return out


def _score(scores: Mapping[str, Any], value: str, low: str, high: str) -> Score:
    bounds = None if scores[low] is None or scores[high] is None else (scores[low], scores[high])
    return Score(scores[value], bounds)
