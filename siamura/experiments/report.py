"""``report.html``: everything a run folder holds, on one page that needs nothing else."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from . import page, sections
from .pictures import pictures
from .sections import HEADS, by_head, rests_on
from .tables import RESEARCH

__all__ = ["write_report"]

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

    Examples
    --------
    >>> written = write_report("runs/first")
    >>> written.name, "PHANTOMS" in written.read_text(encoding="utf-8")
    ('report.html', True)
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
    shown = pictures(folder, config, metrics, history)
    content = [
        ("scores", "Scores", sections.scores_section(metrics)),
        ("answers", "The answers in pictures", shown["answers"]),
        ("parts", "Body parts", shown["parts"] + sections.parts_section(metrics)),
        ("published", "Beside the published figures", sections.published_section(folder / "table.md")),
        ("embedding", "The embedding space", shown["embedding"] + sections.quality_section(metrics)),
        ("layers", "Inside the network", shown["layers"]),
        ("training", "Training", shown["training"] + sections.training_section(config, history)),
        ("data", "Data", sections.data_section(config, folder / "unreadable.csv") + shown["data"]),
        ("further", "Further figures", shown["further"]),
        ("again", "To run it again", sections.again_section(config)),
    ]
    title = _title(config)
    # Written beside, then renamed: a browser never meets half a page.
    path, beside = folder / "report.html", folder / "report.html.part"
    beside.write_text(
        page.page(title, _header(title, config, metrics), content, _footer(config)), encoding="utf-8"
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
    heads = {k: v for k, v in by_head(metrics, "valid", "study").items() if k != "trivial"}
    tiles = []
    for head, scores in heads.items():
        if scores.get("kappa") is None:
            continue
        bounds = scores.get("interval", {}).get("kappa")
        between = f"{bounds[0]:.3f} to {bounds[1]:.3f}, " if bounds else ""
        tiles.append(
            f"<li><span>{HEADS.get(head, html.escape(head))}, kappa</span><b>{scores['kappa']:.3f}</b>"
            f"<span>{between}{rests_on(scores, 'study')}</span></li>"
        )
    if not tiles:
        return ""
    source = "drawn phantoms" if data.get("phantoms") else "radiographs"
    return (
        f'<p class="soft">Validation, per study, on {source}; 95 % intervals by a bootstrap over patients.</p>'
        f'<ul class="facts">{"".join(tiles)}</ul>'
    )


def _footer(config: Mapping[str, Any]) -> str:
    version = config.get("versions", {}).get("siamura", "")
    mark = " Measured on phantoms." if config.get("data", {}).get("phantoms") else ""
    return f"<p>Written by siamura {html.escape(str(version))}.{mark}</p>"
