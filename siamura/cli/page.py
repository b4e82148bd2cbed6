"""The command that opens the page: serve."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import RunFolder
from .errors import cli_errors
from .output import loading

__all__ = ["serve"]


def serve(
    run: RunFolder,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 7860,
    cases: Annotated[
        str | None,
        typer.Option(
            help="A case index, a file or URL; without it the similar cases are the training views."
        ),
    ] = None,
) -> None:
    """Open the page: upload a study, see score, heat map and similar cases. Nothing leaves the machine.

    Example: `siamura serve runs/finger`
    """
    with cli_errors():
        loading(run)
        # Here, as it loads torch and Gradio.
        from siamura.app import serve as open_page

        open_page(
            run,
            host=host,
            port=port,
            cases=cases,
            ready=lambda address: typer.echo(f"{address}  (Ctrl-C ends it)"),
        )
