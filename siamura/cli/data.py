"""Commands about radiographs: draw phantoms, count studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import siamura
from siamura import studies
from siamura._files import printable

from .arguments import Columns, Positive, read_data
from .errors import cli_errors
from .output import OutFormat, emit, shown

__all__ = ["describe", "phantoms"]


def phantoms(
    root: Annotated[Path, typer.Argument(help="A new folder for them.")],
    part: Annotated[list[str], typer.Option(help="Body part; may be given several times.")] = ["XR_FINGER"],  # noqa: B006
    views: Annotated[int, typer.Option(help="How many views.")] = 600,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
) -> None:
    """Draw a data set of phantoms in MURA's layout.

    Example: `siamura phantoms phantoms --part XR_FINGER --part XR_HAND --views 800`
    """
    with cli_errors():
        typer.echo(shown(siamura.make_phantoms(root, parts=tuple(part), views=views, seed=seed)))


def describe(
    root: Annotated[
        Path,
        typer.Argument(
            help="MURA or its parent, a table (CSV, Excel, Parquet), a folder of classes, or DICOM."
        ),
    ],
    part: Annotated[str | None, typer.Option(help="One body part only.")] = None,
    columns: Columns = None,
    positive: Positive = None,
    form: OutFormat = None,
) -> None:
    """Count studies, views and patients per part, split and label.

    Example: `siamura describe MURA-v1.1 --format json`
    """
    with cli_errors():
        table = read_data(root, part, columns, positive, on_error="report")
        counts = studies.describe(table)
        if "finding" in table:  # the classes by the person's own names
            names = dict(enumerate(studies.classes_of(table)))
            counts.insert(list(counts).index("label") + 1, "finding", counts["label"].map(names))
        emit(counts, form)
        for problem in studies.problems(table).to_dict("records"):
            said = ", ".join(f"{k} {v}" for k, v in problem.items())
            typer.echo(f"problem: {printable(said)}", err=True)
