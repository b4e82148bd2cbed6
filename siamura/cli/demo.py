"""The first command: a study read by a network that comes with siamura, trained on phantoms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .errors import cli_errors
from .output import Format, OutFormat, emit, loading, shown

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="The picture to write (PNG, PDF or SVG).")] = Path("demo.png"),
    study: Annotated[
        str | None, typer.Option(help="Which study to read; without it the first. A wrong name lists them.")
    ] = None,
    page: Annotated[bool, typer.Option("--page", help="Open the page on it; Ctrl-C ends it.")] = False,
    port: Annotated[int, typer.Option(help="Port of the page.")] = 7860,
    form: OutFormat = None,
) -> None:
    """Read one drawn study: probability with interval, heat map, similar cases, in one picture. No training needed.

    The network, its heads, the cases and the films come with siamura. All of it is PHANTOMS: it says nothing
    about patients.

    Example: `siamura demo --out demo.png`
    """
    with cli_errors():
        loading("the demo network")
        # Here, as it loads torch.
        from siamura.demo import draw, load_demo

        held = load_demo()
        if page:
            from siamura.app import serve  # an optional extra

            typer.echo("PHANTOMS. For research, not for diagnosis.", err=True)
            serve(
                held.run.folder,
                port=port,
                cases=held.run.folder / "cases.db",
                ready=lambda address: typer.echo(f"{address}  (Ctrl-C ends it)"),
            )
            return
        answer = held.read(study)
        draw(answer, held.facts["valid"]).savefig(out, dpi=200)
        if form is Format.json:
            typer.echo(json.dumps({**answer.to_dict(), "figure": str(out)}, indent=2))
        else:
            typer.echo(answer.sentence)
            emit(answer.cases[["rank", "distance", "finding", "patient", "study"]], form)
            typer.echo(f"figure: {shown(out)}")
        typer.echo(
            "PHANTOMS: drawn by siamura, they say nothing about patients. For research, not for diagnosis.",
            err=True,
        )
