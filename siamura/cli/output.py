"""Results on standard output: a table on a terminal, CSV into a pipe, JSON where it is asked for."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamura._files import csv_text, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from rich.table import Table

__all__ = ["Format", "OutFormat", "emit", "loading", "rounded", "say_unreadable", "shown"]

Format = StrEnum("Format", {"table": "table", "csv": "csv", "json": "json"})
OutFormat = Annotated[
    Format | None,
    typer.Option(
        "--format", help="Form of the result; by default a table on a terminal, and CSV into a pipe."
    ),
]


def loading(what: object) -> None:
    """Say on a terminal's standard error that something slow has begun."""
    if sys.stderr.isatty():
        typer.echo(f"loading {shown(what)} ...", err=True)


#: The scores that a terminal shows unless a form is asked for.
MAIN_SCORES = (
    "accuracy", "kappa", "kappa_quadratic", "recall", "specificity", "recall_macro", "auroc", "auroc_macro",
    "average_precision", "brier",
)  # fmt: skip


def emit(frame: pd.DataFrame, form: Format | None) -> None:
    """Print a table: numbers rounded for people in a table, and exact in CSV and JSON.

    Of many scores (column ``metric``) a terminal shows the main ones where no form is asked for.
    """
    if form is None:
        form = Format.table if sys.stdout.isatty() else Format.csv
        if form is Format.table and "metric" in frame:
            main = frame[frame["metric"].isin(MAIN_SCORES)]
            if 0 < len(main) < len(frame):
                _print_table(main)
                typer.echo("The main scores; --format table, csv or json has all.", err=True)
                return
    if form is Format.json:
        typer.echo(frame.to_json(orient="records", indent=2, default_handler=_plain))
    elif form is Format.csv:
        if sys.stdout.isatty():  # what is piped keeps the files' true names
            frame = frame.map(lambda value: printable(value) if isinstance(value, str) else value)
        typer.echo(csv_text(frame), nl=False)
    else:
        _print_table(frame)


def _print_table(frame: pd.DataFrame) -> None:
    """Print a table as wide as the terminal: with the ends of paths, or a row below the other, where it must be."""
    # Here, as few results go to a terminal.
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    endless = console.options.update_width(100_000)
    for word in (rounded, lambda value: _end_of_path(rounded(value))):
        table = _drawn(frame, word)
        if Measurement.get(console, endless, table).maximum <= console.width:
            console.print(table)
            return
    for row in frame.to_dict("records"):
        table = _drawn(type(frame)({"what": list(row), "value": [rounded(v) for v in row.values()]}), rounded)
        table.show_header = False
        console.print(table)


def _drawn(frame: pd.DataFrame, word: Callable[[Any], str]) -> Table:
    """A table for a terminal."""
    # Here, as few results go to a terminal.
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in frame.columns:
        numbers, title = frame[name].dtype.kind in "iuf", printable(str(name))
        table.add_column(
            Text(title), justify="right" if numbers else "left", overflow="fold", no_wrap=numbers
        )
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(word(value)) for value in row))
    return table


def _end_of_path(text: str) -> str:
    """The last name of a whole path, where a table is too wide for the terminal."""
    return f"…{os.sep}{Path(text).name}" if Path(text).is_absolute() else text


def rounded(value: Any) -> str:
    """Write a value for people: three decimals, a path from here, a dash where it is missing.

    Examples
    --------
    >>> rounded(0.8976543), rounded(12), rounded(float("nan")), rounded(True), rounded(1.2e-5), rounded(None)
    ('0.898', '12', '–', 'yes', '1.2e-05', '–')
    """
    if value is None or value != value or type(value).__name__ == "NAType":
        return "–"
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.2g}"
    return printable(_from_here(value)) if isinstance(value, (str, Path)) else str(value)


def _from_here(path: object) -> str:
    """A path in or below the working directory, relative to it; anything else as it is."""
    text = str(path)
    here = str(Path.cwd()) + os.sep
    return text[len(here) :] if text.startswith(here) and len(here) > 1 else text


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def shown(path: object) -> str:
    """Write a path: as it is into a pipe; from here, without control characters, on a terminal."""
    return printable(_from_here(path)) if sys.stdout.isatty() else str(path)


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
