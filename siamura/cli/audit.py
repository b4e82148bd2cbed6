"""Command audit: labels, images and patients of a run's data that contradict their neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from siamura import pixels, report
from siamura._validation import check_choice, check_whole
from siamura.experiments import load_run
from siamura.inference import load_classes

from .arguments import RunFolder, Seed
from .errors import cli_errors
from .output import loading, shown

__all__ = ["audit"]


def audit(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page and its tables; RUN/audit without it.")
    ] = None,
    top: Annotated[int, typer.Option(help="Rows of each list on the page; the CSV files hold all.")] = 100,
    split: Annotated[
        str | None,
        typer.Option(help="Labels of this split only: the network has learned those of its training images."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """List labels that contradict their neighbourhood, near-duplicates, and patients that look like two or like one.

    A page with pictures, and CSV files.

    Example: `siamura audit runs/finger --top 200`
    """
    with cli_errors():
        loading(run)
        from siamura import evaluation  # here, as it loads SciPy

        check_whole("top", top)
        done = load_run(run)
        vectors, table = done.embeddings()
        if split is not None:
            check_choice("split", split, sorted(table["split"].unique()))
            table = table.assign(label=np.where(table["split"] == split, table["label"], -1))
        paths = table["path"].tolist()

        def read(row: int) -> np.ndarray | None:
            try:
                return pixels.read_image(paths[row])
            except (pixels.UnreadableImage, OSError):
                return None

        found = evaluation.audit(vectors, table, read, seed=seed)
        data = done.config.get("data", {})
        page = report.write_audit(
            out or Path(run) / "audit", found, table, read, classes=load_classes(run, done.heads()), top=top,
            title=f"Audit of {Path(run).name}", phantoms=bool(data.get("phantoms")),
        )  # fmt: skip
        typer.echo(shown(page))
        doubtful = int((found.labels["label"] != found.labels["suggested"]).sum())
        same = int(found.duplicates["duplicate"].sum()) if len(found.duplicates) else 0
        unusual = found.patients[found.patients["unusual"]]["kind"].value_counts()
        typer.echo(
            f"{doubtful} of {len(found.labels)} labels are not what their neighbours say; {same} pairs of images show "
            f"one picture; {unusual.get('two like one', 0)} pairs of patients look like one, "
            f"{unusual.get('one like two', 0)} patients like two.",
            err=True,
        )
