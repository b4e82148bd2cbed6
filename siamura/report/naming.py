"""What a page is called, and the figures at its top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from siamura._names import BASELINES, HEADS

from .sections import by_head, rests_on

__all__ = ["glance_of", "title_of"]

_LOSSES = {
    "triplet": "triplet loss", "batch_hard": "batch hard triplet loss", "semi_hard": "semi-hard triplet loss",
    "triplet_focal": "triplet focal loss", "selectively_contrastive": "selectively contrastive loss",
}  # fmt: skip


def _part(config: Mapping[str, Any]) -> str:
    experiment, data = config["experiment"], config.get("data", {})
    found = experiment.get("part") or experiment.get("parts") or data.get("part") or ""
    if found == "all":
        found = data.get("part", "")
    names = [name.strip() for name in found.split(",")] if isinstance(found, str) else list(found)
    return ", ".join(name.removeprefix("XR_").capitalize() for name in names)


def title_of(config: Mapping[str, Any]) -> str:
    """Name a run by what it tells apart, on which part, and how."""
    experiment = config["experiment"]
    classes = config.get("data", {}).get("classes") or []
    own = [name for name in classes if name not in ("normal", "abnormal")]
    said = f"{classes[1]} against {classes[0]}" if len(classes) == 2 else ", ".join(classes)
    words = [said] if own else []
    words.append(str(experiment.get("trunk", "")))
    if "dim" in experiment:
        words.append(f"{experiment['dim']} dimensions")
    if "loss" in experiment:
        words.append(_LOSSES.get(experiment["loss"], str(experiment["loss"])))
    if "top" in experiment:
        words.append(f"top {experiment['top']!r}")
    return f"{_part(config) or 'Radiographs'}: {', '.join(word for word in words if word)}"


def glance_of(metrics: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """Kappa of each head on the validation studies, and how many patients that rests on."""
    tiles = []
    for head, scores in by_head(metrics, "valid", "study").items():
        if head in BASELINES or scores.get("kappa") is None:
            continue
        bounds = scores.get("interval", {}).get("kappa")
        between = f"{bounds[0]:.3f} to {bounds[1]:.3f}, " if bounds else ""
        tiles.append((HEADS.get(head, head), scores["kappa"], f"{between}{rests_on(scores, 'study')}"))
    return tiles
