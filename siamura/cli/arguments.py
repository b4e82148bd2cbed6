"""Arguments that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Data", "Full", "Head", "Out", "Part", "RunFolder", "Seed", "Weights", "part_needs_data"]

RunFolder = Annotated[Path, typer.Argument(help="A run folder, as `siamura train` writes it.")]
Head = StrEnum("Head", {"knn": "knn", "mlp": "mlp"})


#: Options that example scripts share.
Data = Annotated[str | None, typer.Option(help="MURA folder; without it phantoms are drawn and used.")]
Part = Annotated[str, typer.Option(help="Body part.")]
Full = Annotated[
    bool, typer.Option("--full", help="Sizes and lengths as published, instead of the quick setting.")
]
Weights = Annotated[str | None, typer.Option(help="imagenet, or a file of weights.")]
Seed = Annotated[int, typer.Option(help="Seed.")]
Out = Annotated[Path, typer.Option(help="Folder of the run folders; finished ones in it are kept.")]


def part_needs_data(part: str | None, data: Path | None) -> None:
    """Refuse a part where there are no radiographs to choose it from."""
    if part is not None and data is None:
        raise ValueError(f"--part {part} chooses among the radiographs of --data, which is not given.")
