"""``report.html``: everything a run folder holds, on one page that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from siamura._files import atomic_write
from siamura._names import BASELINES, HEADS

from . import sections
from .figure_sections import figures_by_section
from .gallery import classes_named
from .lesions import lesions_section
from .operating import operating_section
from .page import Section, render
from .record import Record, read_record
from .sections import by_head, rests_on
from .tables import RESEARCH

__all__ = ["write_page", "write_report"]

_LOSSES = {
    "triplet": "triplet loss", "batch_hard": "batch hard triplet loss", "semi_hard": "semi-hard triplet loss",
    "triplet_focal": "triplet focal loss", "selectively_contrastive": "selectively contrastive loss",
}  # fmt: skip


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` into the folder of a run that was written earlier.

    Parameters
    ----------
    folder : path
        A finished or interrupted run: ``config.json`` and ``metrics.json`` must be there; ``history.csv``,
        ``unreadable.csv``, ``figures.json`` and every ``*.png`` are shown where they are.

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
    .. code-block:: python

        written = write_report("runs/first")
        written.name, "PHANTOMS" in written.read_text(encoding="utf-8")
        # ('report.html', True)
    """
    return write_page(Path(folder), read_record(Path(folder)))


def write_page(folder: Path, record: Record) -> Path:
    """Write ``report.html`` from what its caller has at hand; of the folder, only the figures are read.

    Examples
    --------
    .. code-block:: python

        from siamura.report import read_record
        write_page(Path("runs/first"), read_record(Path("runs/first"))).name
        # 'report.html'
    """
    config, metrics = record.config, record.metrics
    shown = figures_by_section(folder, record)
    content = [
        Section("scores", "Scores", sections.scores_section(metrics, classes_named(config.get("data", {})))),
        Section("answers", "The answers in pictures", shown["answers"]),
        Section(
            "operating",
            "Operating point and calibration",
            operating_section(metrics, classes_named(config.get("data", {}))),
        ),
        Section("parts", "Body parts", [*shown["parts"], *sections.parts_section(metrics)]),
        Section("groups", "Groups of images and patients", sections.groups_section(metrics)),
        Section("published", "Beside the published figures", sections.published_section(record.sheet)),
        Section(
            "embedding",
            "The embedding space",
            [*shown["embedding"], *sections.quality_section(metrics), *sections.unlike_section(metrics)],
        ),
        Section("lesions", "Are the heat maps right?", lesions_section(metrics)),
        Section("layers", "Inside the network", shown["layers"]),
        Section(
            "training", "Training", [*shown["training"], *sections.training_section(config, record.history)]
        ),
        Section("data", "Data", [*sections.data_section(config, record.unreadable), *shown["data"]]),
        Section("further", "Further figures", shown["further"]),
        Section("again", "To run it again", sections.again_section(config)),
    ]
    text = render(
        "page.html",
        title=_title(config),
        research=RESEARCH,
        phantoms=bool(config.get("data", {}).get("phantoms")),
        status=config.get("status") or "finished",
        glance=_glance(metrics),
        sections=[section for section in content if section.blocks],
        version=config.get("versions", {}).get("siamura", ""),
    )
    atomic_write(folder / "report.html", text)
    return folder / "report.html"


def _part(config: Mapping[str, Any]) -> str:
    experiment, data = config["experiment"], config.get("data", {})
    found = experiment.get("part") or experiment.get("parts") or data.get("part") or ""
    if found == "all":
        found = data.get("part", "")
    names = [name.strip() for name in found.split(",")] if isinstance(found, str) else list(found)
    return ", ".join(name.removeprefix("XR_").capitalize() for name in names)


def _title(config: Mapping[str, Any]) -> str:
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


def _glance(metrics: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """Kappa of each head on the validation studies, and how many patients that rests on."""
    tiles = []
    for head, scores in by_head(metrics, "valid", "study").items():
        if head in BASELINES or scores.get("kappa") is None:
            continue
        bounds = scores.get("interval", {}).get("kappa")
        between = f"{bounds[0]:.3f} to {bounds[1]:.3f}, " if bounds else ""
        tiles.append((HEADS.get(head, head), scores["kappa"], f"{between}{rests_on(scores, 'study')}"))
    return tiles
