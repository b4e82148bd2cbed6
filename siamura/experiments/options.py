"""Options that the example scripts share, as typer reads them from a signature."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Data", "Full", "Out", "Part", "Seed", "Weights"]

Data = Annotated[str | None, typer.Option(help="MURA folder; without it phantoms are drawn and used.")]
Part = Annotated[str, typer.Option(help="Body part.")]
Full = Annotated[
    bool, typer.Option("--full", help="Sizes and lengths as published, instead of the quick setting.")
]
Weights = Annotated[str | None, typer.Option(help="imagenet, or a file of weights.")]
Seed = Annotated[int, typer.Option(help="Seed.")]
Out = Annotated[Path, typer.Option(help="Folder of the run folders; finished ones in it are kept.")]
