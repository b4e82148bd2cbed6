"""The first moment of the command ``siamura``: a word on the terminal, then what is slow to import."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main", "say_loading"]

_QUICK = {"--help", "--version", "--install-completion", "--show-completion"}


def main() -> None:
    """Run the command line.

    Examples
    --------
    .. code-block:: python

        import contextlib, sys

        sys.argv = ["siamura", "--version"]
        with contextlib.suppress(SystemExit):
            main()
    """
    say_loading(sys.argv[1:])
    # Here, as it loads pandas and more: the line above is there at once.
    from .commands import app

    app()


def say_loading(arguments: Sequence[str]) -> None:
    r"""Say on a terminal's standard error that a command has begun.

    Nothing is said of help, of the version, of the shell's completion, and where standard error goes into a file or a
    pipe.

    Parameters
    ----------
    arguments : sequence of str
        What stands after ``siamura``.

    Examples
    --------
    >>> import contextlib, io
    >>> class Terminal(io.StringIO):
    ...     def isatty(self):
    ...         return True
    >>> said = Terminal()
    >>> with contextlib.redirect_stderr(said):
    ...     say_loading(["train", "--help"])
    ...     say_loading(["train", "--data", "phantoms"])
    >>> said.getvalue()
    'loading siamura ...\n'
    """
    if not sys.stderr.isatty() or "_SIAMURA_COMPLETE" in os.environ or _QUICK & set(arguments):
        return
    if any(not argument.startswith("-") for argument in arguments):
        sys.stderr.write("loading siamura ...\n")
        sys.stderr.flush()
