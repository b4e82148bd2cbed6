"""Logging and errors of every command: bad input is one sentence and status 2."""

from __future__ import annotations

import contextlib
import inspect
import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from siamura._files import is_disk_full, printable

__all__ = ["cli_errors", "configure_logging"]

F = TypeVar("F", bound=Callable[..., Any])


def configure_logging(level: int = logging.INFO) -> None:
    """Send siamura's log to standard error, and of other libraries' only their warnings.

    Examples
    --------
    >>> import logging
    >>> configure_logging(logging.WARNING)  # no word on progress
    >>> logging.getLogger("siamura.training").isEnabledFor(logging.INFO)
    False
    """
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("siamura").setLevel(level)


class cli_errors(contextlib.ContextDecorator):
    """Turn bad input (`ValueError`, `OSError`, a missing extra) into one sentence and exit status 2, Ctrl-C into 130.

    Errors of siamura's own code keep their traceback: hiding those would lose what is needed to mend them.

    Parameters
    ----------
    partial : str, optional
        What is said on standard output after Ctrl-C, where something partial stays behind.

    Examples
    --------
    >>> import contextlib, sys, typer
    >>> with contextlib.redirect_stderr(sys.stdout), contextlib.suppress(typer.Exit), cli_errors():
    ...     open("nowhere.csv")
    Error: nowhere.csv: No such file or directory.
    """

    def __init__(self, *, partial: str | None = None) -> None:
        self._partial = partial

    def __call__(self, command: F) -> F:
        """Decorate a command; one without a docstring has its module's for the help text, as scripts do."""
        wrapped = super().__call__(command)
        wrapped.__doc__ = command.__doc__ or getattr(inspect.getmodule(command), "__doc__", None)
        return wrapped

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            if said := str(error) or self._partial:
                typer.echo(said)
            else:
                typer.echo("Interrupted.", err=True)
            raise typer.Exit(130) from error
        if error is not None and (
            isinstance(error, (ValueError, OSError, ImportError)) or _failed_write(error)
        ):
            typer.echo(f"Error: {printable(_sentence(error))}", err=True)
            raise typer.Exit(2) from error


def _failed_write(error: BaseException) -> bool:
    """Whether an error of a library's own means a full disk."""
    words = str(error)
    return (type(error).__name__ == "SafetensorError" and "I/O error" in words) or (
        # PyTorch's writer of archives: "file write failed", or "unexpected pos 64 vs 0".
        isinstance(error, RuntimeError) and ("inline_container" in words or "PytorchStreamWriter" in words)
    )


def _sentence(error: BaseException) -> str:
    if is_disk_full(error) or _failed_write(error):
        where = getattr(error, "filename", None)
        at = f"{where}: " if where else ""
        return f"{at}no more could be written: the disk or the quota is full; make room, or choose another folder."
    if isinstance(error, OSError) and error.strerror and not isinstance(error, FileExistsError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    return " ".join(str(error).split())
