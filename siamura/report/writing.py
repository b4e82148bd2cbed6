"""``report.html``: everything a run folder holds, on one page that needs nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from siamura._files import atomic_write
from siamura._run_files import seed_folders

from . import sections
from .figure_sections import figures_by_section
from .gallery import classes_named
from .lesions import lesions_section
from .naming import glance_of, title_of
from .operating import operating_section
from .page import Section, render
from .record import Record, read_record
from .seeds import write_seeds_page
from .study_rules import study_rules_section
from .tables import RESEARCH, Sheet

__all__ = ["write_page", "write_report"]


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` into the folder of a run that was written earlier.

    Parameters
    ----------
    folder : path
        A finished or interrupted run: ``config.json`` and ``metrics.json`` must be there; ``history.csv``,
        ``unreadable.csv``, ``figures.json`` and every ``*.png`` are shown where they are. Or what
        `siamura.run_seeds` wrote.

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
    if seed_folders(folder):
        return write_seeds_page(folder)
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
        Section("rules", "Several views of a study", study_rules_section(metrics)),
        Section("groups", "Groups of images and patients", sections.groups_section(metrics)),
        Section("published", _heading(record.sheet), sections.published_section(record.sheet)),
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
        title=title_of(config),
        research=RESEARCH,
        phantoms=bool(config.get("data", {}).get("phantoms")),
        status=config.get("status") or "finished",
        glance=glance_of(metrics),
        sections=[section for section in content if section.blocks],
        version=config.get("versions", {}).get("siamura", ""),
    )
    atomic_write(folder / "report.html", text)
    return folder / "report.html"


def _heading(sheet: Sheet | None) -> str:
    """Name the table of figures by what it holds: of one's own radiographs nothing was published."""
    published = sheet is not None and not all(row.measured for row in sheet.rows)
    return "Beside the published figures" if published else "The figures in one table"
