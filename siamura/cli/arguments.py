"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import siamura
from siamura.experiments.settings import columns_of, parts_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Columns",
    "Data",
    "Full",
    "Head",
    "HeadChoice",
    "Out",
    "Part",
    "Positive",
    "RunFolder",
    "Seed",
    "Weights",
    "class_code",
    "part_needs_data",
    "read_data",
]

RunFolder = Annotated[Path, typer.Argument(help="A run folder, as `siamura train` writes it.")]
Columns = Annotated[
    str | None, typer.Option(help="Columns of a table, as in file=path,finding=label,region=part.")
]
Positive = Annotated[str | None, typer.Option(help="Label that means abnormal; several with commas between.")]
Head = StrEnum("Head", {"knn": "knn", "mlp": "mlp"})
HeadChoice = Annotated[
    Head,
    typer.Option(
        help="Which head: knn, the nearest training views; mlp, the network's own classifier, or with --classify 0 of "
        "the training a small network on the embedding."
    ),
]

#: Options that example scripts share.
Data = Annotated[str | None, typer.Option(help="MURA folder; without it phantoms are drawn and used.")]
Part = Annotated[str, typer.Option(help="Body part.")]
Full = Annotated[
    bool, typer.Option("--full", help="Sizes and lengths as published, instead of the quick setting.")
]
Weights = Annotated[str | None, typer.Option(help="imagenet, or a file of weights.")]
Seed = Annotated[int, typer.Option(help="Seed.")]
Out = Annotated[Path, typer.Option(help="Folder of the run folders; finished ones in it are kept.")]


def part_needs_data(data: Path | None, **given: str | None) -> None:
    """Refuse what is said of radiographs that are not given."""
    for name, value in given.items():
        if value is not None and data is None:
            raise ValueError(f"--{name} {value} is of the radiographs of --data, which is not given.")


def class_code(classes: Sequence[str], name: str) -> int:
    """Find a class by its name, or by its code where none is called so.

    Examples
    --------
    >>> class_code(("normal", "fracture"), "Fracture"), class_code(("normal", "fracture"), "1")
    (1, 1)
    """
    folded = [known.casefold() for known in classes]
    if name.casefold() in folded:
        return folded.index(name.casefold())
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise ValueError(f"--label {name} is no class of this run; it has {', '.join(classes)}.")


def read_data(
    data: Path, part: str | None, columns: str | None, positive: str | None, *, on_error: str = "raise"
) -> pd.DataFrame:
    """Read the radiographs of ``--data`` as `siamura.read_studies` does."""
    return siamura.read_studies(
        data,
        part=None if part is None else parts_of(part),
        columns=columns_of(columns),
        positive=None if positive is None else positive.split(","),
        on_error=on_error,
    )
