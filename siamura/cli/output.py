"""Results on standard output: tables as CSV or JSON, paths as they are into a pipe."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamura._files import csv_text, printable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Format", "OutFormat", "emit", "say_unreadable", "shown"]

Format = StrEnum("Format", {"csv": "csv", "json": "json"})
OutFormat = Annotated[Format, typer.Option("--format", help="Form of the result.")]


def emit(frame: pd.DataFrame, form: Format) -> None:
    """Print a table."""
    if form is Format.json:
        typer.echo(frame.to_json(orient="records", indent=2, default_handler=_plain))
        return
    if sys.stdout.isatty():  # what is piped keeps the files' true names
        frame = frame.map(lambda value: printable(value) if isinstance(value, str) else value)
    typer.echo(csv_text(frame), nl=False)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def shown(path: object) -> str:
    """Write a path: as it is into a pipe, without control characters on a terminal."""
    return printable(path) if sys.stdout.isatty() else str(path)


def say_unreadable(table: pd.DataFrame) -> None:
    """Print on standard error which files could not be read."""
    for row in table[table["problem"] != ""].to_dict("records"):
        typer.echo(f"left out: {printable(row['problem'])}", err=True)
    if unlike := int(table["unlike"].sum()):
        typer.echo(
            f"{unlike} of {int(table['probability'].notna().sum())} views are unlike the training views (column "
            "unlike): farther from them than 99 % of the validation views. Their probabilities mean little.",
            err=True,
        )
