"""The section of ``report.html`` that sets heat maps beside boxes of lesions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from siamura.plots.style import count

from .page import Block, Cell, Paragraph, Score, Table

__all__ = ["lesions_section", "taught_sentence"]


def lesions_section(metrics: Mapping[str, Any]) -> list[Block]:
    """Pointing game and overlap on a person's own boxes, beside the middle of the image and the mean place.

    Examples
    --------
    >>> print(lesions_section({"lesions": {"views": 3, "found": 0, "patients": 0, "figures": {}}})[0].text)
    None of the 3 validation views with a box is answered right by the MLP head, so no map is measured.
    """
    found = metrics.get("lesions")
    if not found:
        return []
    views = count(found["views"], "validation view")
    if not found["found"]:
        return [
            Paragraph(
                f"None of the {views} with a box is answered right by the MLP head, so no map is measured."
            )
        ]
    said = (
        f"{found['found']:,} of the {views} with a box of a lesion are answered right by the MLP head, of "
        f"{count(found['patients'], 'patient')}. Of each, LayerCAM's map of that head is compared with the boxes: does "
        "the warmest pixel lie in one, and how well do the boxes overlap. A map says something only where it is above "
        "both baselines, which see no map: the middle of the image, and the mean place of other patients' lesions."
    )
    rows: list[list[Cell]] = [
        [own["name"], Score(own["value"], None if own["low"] is None else (own["low"], own["high"]))]
        for own in found["figures"].values()
    ]
    return [
        Paragraph(said),
        Table("Heat maps beside boxes, in brackets 95 % intervals over patients", ["", "value"], rows),
    ]


def taught_sentence(data: Mapping[str, Any]) -> str:
    """Say whose boxes taught the network where findings are, by ``data`` of ``config.json``; nothing where none did.

    Examples
    --------
    >>> taught_sentence({"boxes": {"train": 3, "of": 4, "label": "normal"}})
    "Boxes of 3 of the 4 training views with a finding taught the network where to look; views of 'normal' ..."
    >>> taught_sentence({"boxes": {"train": 0, "of": 4, "label": "normal"}})
    ''
    """
    boxes = data.get("boxes") or {}
    if not boxes.get("train"):
        return ""
    return (
        f"Boxes of {boxes['train']:,} of the {count(boxes['of'], 'training view')} with a finding taught the network "
        f"where to look; views of {boxes['label']!r} without a box were taken to show none."
    )
