"""An experiment's settings as command-line options, shared by the example scripts and ``siamura train``."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from .experiment import Experiment

__all__ = ["app_for", "experiment_command", "one_sentence", "script", "tell"]


def experiment_command(defaults: Experiment, out: str) -> Callable[..., None]:
    """Make a typer command with one option for each setting of an experiment.

    Parameters
    ----------
    defaults : Experiment
        What each option is where it is not given.
    out : str
        The default run folder.

    Returns
    -------
    callable
        Runs the experiment, prints its table and the run folder on standard output, and leaves with status 2
        and one sentence on standard error where the input is bad.

    Examples
    --------
    >>> import inspect
    >>> command = experiment_command(Experiment(steps=40), out="runs/fingers")
    >>> options = inspect.signature(command).parameters
    >>> options["steps"].default, options["trunk"].default, str(options["out"].default)
    (40, 'densenet169', 'runs/fingers')
    """

    def command(**given: Any) -> None:
        folder, overwrite, resume = given.pop("out"), given.pop("overwrite"), given.pop("resume")
        tell()
        with one_sentence():
            from .running import run

            if given["epochs"] is not None and given["steps"] == defaults.steps:
                given["steps"] = None  # --epochs alone replaces the default number of steps
            done = run(replace(defaults, **given), folder, overwrite=overwrite, resume=resume)
        from siamura.training.distributed import rank_and_world

        if rank_and_world()[0] == 0:
            typer.echo(done.table())
            typer.echo(f"Run folder: {done.folder}")

    hints = get_type_hints(Experiment)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=getattr(defaults, field.name),
            annotation=Annotated[hints[field.name], typer.Option(help=field.metadata["help"])],
        )
        for field in fields(Experiment)
    ]
    folder = typer.Option("--out", help="Folder for everything the run writes.")
    overwrite = typer.Option("--overwrite", help="Replace an earlier run in that folder.")
    resume = typer.Option("--resume", help="Go on with a stopped run in that folder.")
    for name, default, option in (
        ("out", Path(out), Annotated[Path, folder]),
        ("overwrite", False, Annotated[bool, overwrite]),
        ("resume", False, Annotated[bool, resume]),
    ):
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def app_for(doc: str | None, defaults: Experiment, out: str) -> typer.Typer:
    """Make the command-line application of an example script; `doc` is its help text.

    Examples
    --------
    >>> from typer.testing import CliRunner
    >>> app = app_for("Fingers, quickly.", Experiment(steps=40), out="runs/fingers")
    >>> answer = CliRunner().invoke(app, ["--k", "1"])
    >>> print(answer.exit_code, answer.output)
    2 Error: k=1: an anchor needs another image of its label, so k must be at least 2.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=doc)(experiment_command(defaults, out))
    return app


def script(tables: Callable[..., str], doc: str | None) -> None:
    """Run an example script: its function's options, its module's text as help, its tables printed and kept.

    Parameters
    ----------
    tables : callable
        Gives Markdown; has the option ``out``, in which ``tables.md`` is written.
    doc : str
        The help text.

    Examples
    --------
    >>> import contextlib
    >>> from pathlib import Path
    >>> from unittest import mock
    >>> def tables(out: Path = Path("runs/"), seed: int = 0) -> str:
    ...     return f"| seed | {seed} |"
    >>> with mock.patch("sys.argv", ["tables.py", "--seed", "7"]), contextlib.suppress(SystemExit):
    ...     script(tables, "One figure.")
    | seed | 7 |
    >>> Path("runs/tables.md").read_text()
    '| seed | 7 |'
    """

    @functools.wraps(tables)
    def command(**given: Any) -> None:
        tell()
        with one_sentence():
            text = tables(**given)
            (given["out"] / "tables.md").write_text(text, encoding="utf-8")
        typer.echo(text)

    command.__doc__ = doc
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    app()


def tell(level: int = logging.INFO) -> None:
    """Send siamura's log to standard error, and of other libraries' only their warnings.

    Examples
    --------
    >>> import logging
    >>> tell(logging.WARNING)  # no word on progress
    >>> logging.getLogger("siamura.training").isEnabledFor(logging.INFO)
    False
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("siamura").setLevel(level)


class one_sentence(contextlib.ContextDecorator):
    """Turn bad input (`ValueError`, `OSError`, a missing extra) into one sentence and exit status 2.

    Errors of siamura's own code keep their traceback: hiding those would lose what is needed to mend them.

    Examples
    --------
    >>> import contextlib, sys, typer
    >>> with contextlib.redirect_stderr(sys.stdout), contextlib.suppress(typer.Exit), one_sentence():
    ...     Experiment(seed=-1)
    Error: seed=-1 must not be negative.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(130) from error
        if isinstance(error, (ValueError, OSError, ImportError)):
            typer.echo(f"Error: {_sentence(error)}", err=True)
            raise typer.Exit(2) from error


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and not isinstance(error, FileExistsError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    return " ".join(str(error).split())
