"""All commands of ``siamura`` as one application."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

import siamura
from siamura.experiments import Experiment, Run

from .audit import audit
from .cases import cases, index, search
from .data import describe, phantoms
from .demo import demo
from .errors import configure_logging
from .page import serve
from .probe import probe
from .runs import compare, export, info, report
from .scores import evaluate, explain, predict
from .train import settings_command

__all__ = ["app"]

app = typer.Typer(
    name="siamura",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Siamese metric learning for radiographs. For research, not for diagnosis.",
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log what is done.")] = False,
) -> None:
    configure_logging(logging.INFO if verbose else logging.WARNING)
    if version:
        typer.echo(siamura.__version__)
        raise typer.Exit


app.command()(demo)
app.command()(phantoms)
app.command()(describe)


@settings_command(Experiment(), out="runs/train", several=True)
def train(experiment: Experiment, out: Path, *, overwrite: bool = False, resume: bool = False) -> Run:
    """Train, classify, measure, draw: the whole finger experiment, into a run folder.

    Example: `siamura train --data MURA-v1.1 --part XR_FINGER --size 224 --out runs/finger`

    With several seeds: `siamura train --data MURA-v1.1 --seeds 0,1,2 --out runs/seeds`
    """
    return siamura.run(experiment, out, overwrite=overwrite, resume=resume)


app.command("train")(train)
for command in (
    probe,
    evaluate,
    compare,
    predict,
    explain,
    index,
    search,
    audit,
    export,
    report,
    serve,
    info,
):
    app.command()(command)
app.add_typer(cases, name="cases")
