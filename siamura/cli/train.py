"""``siamura train``: an experiment's settings as options of the command line, each described where it is defined."""

from __future__ import annotations

import contextlib
import inspect
import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

import siamura
from siamura._files import printable
from siamura._stored import naming_damage, read_json
from siamura.experiments import Experiment

from .errors import cli_errors, configure_logging
from .output import Format, emit, loading, shown

if TYPE_CHECKING:
    from siamura.experiments import Run, SeedRuns

__all__ = ["seeds_of", "settings_command"]


def settings_command(
    defaults: Experiment, out: str, *, several: bool = False
) -> Callable[[Callable[..., Run]], Callable[..., None]]:
    """Make a command of a function that runs an experiment: one option for each setting, and one for the folder.

    Parameters
    ----------
    defaults : Experiment
        What each option is where it is not given.
    out : str
        The default run folder.
    several : bool
        Whether there is an option ``--seeds``, with which `siamura.run_seeds` is called instead.

    Returns
    -------
    callable
        Decorates ``f(experiment, out, *, overwrite, resume) -> Run``. The command prints the run's table and folder
        on standard output, and leaves with status 2 and one sentence on standard error where the input is bad, or
        with 130 after Ctrl-C and a line that says that the run is partial. Give it to `typer.run`, or to an
        application's ``command``.

    Examples
    --------
    >>> import inspect
    >>> from siamura.experiments import run
    >>> command = settings_command(Experiment(steps=40), out="runs/fingers")(run)
    >>> options = inspect.signature(command).parameters
    >>> "trunk" in options, str(options["out"].default)
    (True, 'runs/fingers')
    """

    def decorate(start: Callable[..., Run]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            folder, overwrite, resume, config = (
                given.pop(name) for name in ("out", "overwrite", "resume", "config")
            )
            seeds, form = given.pop("seeds", None), given.pop("form", None)
            configure_logging()
            with cli_errors(partial=f"The run in {folder} is partial: interrupted before it was measured."):
                experiment = _experiment(_from_file(defaults, config), given)
                if overwrite and resume:
                    raise ValueError("--overwrite and --resume exclude each other; give one of them.")
                if seeds is not None and given["seed"] is not None:
                    raise ValueError("--seeds and --seed exclude each other; give one of them.")
                if seeds is None and form is not None:
                    raise ValueError(f"--format {form} is of the table of --seeds, which is not given.")
                numbers = None if seeds is None else seeds_of(seeds)
                loading("torch")
                if numbers is not None:
                    _tell_seeds(siamura.run_seeds(experiment, folder, numbers, overwrite=overwrite), form)
                    return
                try:
                    done = start(experiment, folder, overwrite=overwrite, resume=resume)
                except (ValueError, OSError):
                    with contextlib.suppress(OSError):
                        folder.rmdir()  # bad input leaves no empty folder behind
                    raise
            _tell(done)

        command.__doc__ = start.__doc__ or inspect.getmodule(start).__doc__
        parameters = [*_parameters(defaults, out), *(_SEVERAL if several else ())]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _experiment(defaults: Experiment, options: dict[str, Any]) -> Experiment:
    given = {name: value for name, value in options.items() if value is not None}
    if "part" in given and not isinstance(given["part"], str):
        given["part"] = ",".join(given["part"])
        if not given["part"]:
            del given["part"]
    if "views" in given and given.get("data", defaults.data) is not None:
        raise ValueError(
            f"--views {given['views']} is the number of phantoms, and with --data none are drawn; leave it out."
        )
    if "epochs" in given:
        given.setdefault("steps", None)  # --epochs alone replaces the default number of steps
    return replace(defaults, **given)


def _from_file(defaults: Experiment, file: Path | None) -> Experiment:
    """Read settings from a run's ``config.json``, or from TOML or JSON with the settings by name."""
    if file is None:
        return defaults
    if file.suffix.lower() == ".toml":
        with naming_damage(file), file.open("rb") as opened:
            held = tomllib.load(opened)
    else:
        held = read_json(file)
    with naming_damage(file):
        return Experiment.from_dict({**defaults.to_dict(), **held.get("experiment", held)})


def _tell(done: Run) -> None:
    """Print what a run came to; of several processes, the first one does."""
    # Here, as it loads torch, which --help does without.
    from siamura.training.distributed import rank_and_world

    first = rank_and_world()[0] == 0
    if first:
        typer.echo(done.table())
        typer.echo(f"Run folder: {done.folder}")
    if done.config["status"] == "interrupted":
        if first:
            typer.echo(
                f"The run is partial: interrupted after step {len(done.history)}; the same command with --resume goes "
                "on with it."
            )
        raise typer.Exit(130)


def seeds_of(text: str) -> tuple[int, ...]:
    """Read the seeds of ``--seeds``.

    Examples
    --------
    >>> seeds_of("0,1,2")
    (0, 1, 2)
    """
    try:
        return tuple(int(seed) for seed in text.split(","))
    except ValueError as error:
        raise ValueError(f"--seeds {text} must be whole numbers with commas between, as in 0,1,2.") from error


def _tell_seeds(found: SeedRuns, form: Format | None) -> None:
    """Print what several seeds came to; of several processes, the first one does."""
    # Here, as it loads torch, which --help does without.
    from siamura.report.operating import beaten_sentences
    from siamura.training.distributed import rank_and_world

    if rank_and_world()[0] != 0:
        return
    data = found.config["data"]
    counts = data["counts"]["valid"]
    of = f"{data['name']}, {data['part']}: validation, {counts['views']} views of {counts['patients']} patients"
    typer.echo(
        f"{'PHANTOMS, ' if data['phantoms'] else ''}{printable(of)}, the same for every seed; 95 % intervals "
        "by bootstrap over patients, sd over seeds. For research, not for diagnosis.",
        err=True,
    )
    for sentence in beaten_sentences(found.metrics):
        typer.echo(f"Ensemble. {printable(sentence)}", err=True)
    emit(found.table(), form)
    typer.echo(f"Folder: {shown(found.folder)}", err=True)


def _parameters(defaults: Experiment, out: str) -> list[inspect.Parameter]:
    hints = get_type_hints(Experiment)
    found = [
        _parameter(
            field.name,
            None,  # not given, unlike a default that is given
            list[str] | None if field.name == "part" else hints[field.name] | None,
            *_flags(field.name, hints[field.name]),
            help=field.metadata["help"],
            show_default=_shown(getattr(defaults, field.name)),
        )
        for field in fields(Experiment)
    ]
    return [
        *found,
        _parameter(
            "config", None, Path | None, help="Settings from a run's config.json, or from TOML; options win."
        ),
        _parameter("out", Path(out), Path, help="Folder for everything the run writes."),
        _parameter("overwrite", False, bool, "--overwrite", help="Replace an earlier run in that folder."),
        _parameter("resume", False, bool, "--resume", help="Go on with a stopped run in that folder."),
    ]


def _parameter(name: str, default: object, kind: Any, *flags: str, **about: Any) -> inspect.Parameter:
    annotation = Annotated[kind, typer.Option(*flags, **about)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _flags(name: str, kind: object) -> tuple[str, ...]:
    flag = "--" + name.replace("_", "-")
    if name == "lesions":
        return (flag, "--boxes")  # as examples/explain_quality.py calls it
    return (f"{flag}/--no-{flag[2:]}",) if kind in (bool, bool | None) else (flag,)


def _shown(value: object) -> str | bool:
    """Give the words for a default in the help text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return False if value is None else f"{value}"


_SEVERAL = (
    _parameter(
        "seeds",
        None,
        str | None,
        help="Several seeds, as in 0,1,2: a run each below --out, on the same patients, then their mean, spread and "
        "ensemble. Finished ones are kept.",
    ),
    _parameter(
        "form",
        None,
        Format | None,
        "--format",
        help="Form of the table of --seeds; by default a table on a terminal, and CSV into a pipe.",
    ),
)
