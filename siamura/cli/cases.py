"""Commands about similar cases: index, search, cases convert, cases delete, cases info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import siamura
from siamura.experiments import load_run
from siamura.inference import Predictor, align_classes, load_classes

from .arguments import Columns, Positive, RunFolder, class_code, part_needs_data, read_data
from .errors import cli_errors
from .output import OutFormat, emit, loading, shown

__all__ = ["cases", "index", "search"]

Place = Annotated[str, typer.Argument(help="A case index: its file, or a URL, postgresql://...")]
Where = Annotated[
    list[str] | None,
    typer.Option(help="COLUMN=VALUE, =VALUE,VALUE, =LEAST..MOST, or nothing after = for a missing value."),
]

cases = typer.Typer(
    no_args_is_help=True, help="Show what an index of similar cases holds, delete from it, convert it."
)


def index(
    run: RunFolder,
    out: Annotated[
        str, typer.Argument(help="The file of the case index, or postgresql://...; a new one without --add.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="More radiographs; without it the run's training views.")
    ] = None,
    part: Annotated[str | None, typer.Option(help="One body part of --data only.")] = None,
    columns: Columns = None,
    positive: Positive = None,
    add: Annotated[bool, typer.Option("--add", help="Add to the index that is there.")] = False,
) -> None:
    """Build an index of similar cases from a run's training views, or from other radiographs, or add to one.

    Example: `siamura index runs/finger cases.db`
    """
    with cli_errors():
        loading(run)
        done = load_run(run)
        part_needs_data(data, part=part, columns=columns, positive=positive)
        net = done.network()
        if Path(out).exists() and not add:
            raise FileExistsError(f"{out} exists; add to it with --add, or choose another.")
        held = siamura.CaseIndex.open(out, model=net) if add else None
        if data is None:
            vectors, table = done.embeddings()
            keep = (table["split"] == "train").to_numpy()
            vectors, table = vectors[keep], table[keep].reset_index(drop=True)
        else:
            if net.preprocess is None:
                raise ValueError(f"the model in {run} was saved without its preprocessing; train it again.")
            views = siamura.RadiographDataset(
                align_classes(read_data(data, part, columns, positive), load_classes(run, done.heads())),
                net.preprocess,
                on_error="skip",
            )
            vectors, table = siamura.embed(net, views), views.table
        if held is None:
            held = siamura.CaseIndex.create(out, dim=vectors.shape[1], model=net)
        now = held.add(vectors, table)
        typer.echo(f"{now} cases in {_named(held)}")
        if add:
            typer.echo(f"{now.added} added, {now.updated} updated.", err=True)


def search(
    run: RunFolder,
    index: Place,
    image: Annotated[Path, typer.Argument(help="The image to find similar cases of.")],
    k: Annotated[int, typer.Option("-k", "--k", help="How many.")] = 5,
    part: Annotated[str | None, typer.Option(help="Cases of this part only.")] = None,
    label: Annotated[str | None, typer.Option(help="Cases of this class only, by its name.")] = None,
    where: Where = None,
    exclude_patient: Annotated[
        str | None, typer.Option(help="The image's own patient, whose cases are not wanted.")
    ] = None,
    form: OutFormat = None,
) -> None:
    """Find the earlier cases that look most like an image.

    Example: `siamura search runs/finger cases.db film.png -k 5 --label 1 --where age=40..60`
    """
    with cli_errors():
        loading(run)
        predictor = Predictor(load_run(run))
        opened = siamura.CaseIndex.open(index, model=predictor.net)
        wanted = _conditions(
            opened,
            [*(where or []), *([] if label is None else [f"label={class_code(predictor.classes, label)}"])],
        )
        vectors = predictor.embed([siamura.read_image(image)])
        found = opened.search(vectors, k=k, part=part, where=wanted, exclude_patient=exclude_patient)
        named = dict(enumerate(predictor.classes))
        if "label" in found and "finding" not in found:
            place = found.columns.tolist().index("label") + 1
            found.insert(place, "finding", found["label"].map(named))
        emit(found, form)
        if found.empty:
            typer.echo(
                "no case in the index is of that part, label and patient, or answers to --where.", err=True
            )


@cases.command()
def convert(
    old: Annotated[Path, typer.Argument(help="A folder, as siamura wrote case indexes before.")],
    new: Annotated[str, typer.Argument(help="A new file for the index, or postgresql://...")],
) -> None:
    """Convert an index of the earlier format; the folder stays as it is.

    Example: `siamura cases convert cases cases.db`
    """
    with cli_errors():
        made = siamura.CaseIndex.convert(old, new)
        typer.echo(f"{len(made)} cases in {_named(made)}")


@cases.command()
def delete(
    index: Place,
    patient: Annotated[str | None, typer.Option(help="All cases of this patient.")] = None,
    case: Annotated[
        list[int] | None, typer.Option(help="The number of a case, as `search` prints it.")
    ] = None,
    where: Where = None,
) -> None:
    """Delete cases, as when consent is withdrawn. Those that answer to all options are deleted.

    Example: `siamura cases delete cases.db --patient patient00012`
    """
    with cli_errors():
        opened = siamura.CaseIndex.open(index)
        wanted = _conditions(opened, where) if where else None
        gone = opened.delete(patient=patient, cases=case or None, where=wanted)
        if not gone:
            raise ValueError("no case answers to that; nothing was deleted.")
        typer.echo(f"{gone} cases deleted, {len(opened)} left in {_named(opened)}")


@cases.command()
def info(index: Place, form: OutFormat = None) -> None:
    """Show what an index holds: cases and patients by part and label, and how it is searched.

    Example: `siamura cases info cases.db`
    """
    with cli_errors():
        opened = siamura.CaseIndex.open(index)
        rows = opened.table.groupby(["part", "label"])["patient"].agg(cases="size", patients="nunique")
        emit(rows.reset_index(), form)
        typer.echo(repr(opened), err=True)


def _named(index: siamura.CaseIndex) -> str:
    """The index as a person gave it, without a password."""
    return shown(index.place) if isinstance(index.place, Path) else index.place


def _conditions(index: siamura.CaseIndex, where: list[str]) -> dict[str, Any]:
    """Read ``COLUMN=VALUE`` by the kinds of the index's columns."""
    kinds = index.columns
    read: dict[str, Any] = {
        "str": str,
        "int64": int,
        "float64": float,
        "bool": {"True": True, "False": False}.get,
    }
    found: dict[str, Any] = {}
    for text in where:
        name, equals, value = text.partition("=")
        if not equals or name not in kinds:
            raise ValueError(f"--where {text}: give COLUMN=VALUE; the columns are {', '.join(kinds)}.")
        try:
            one = read[kinds[name]]
            if kinds[name] in ("int64", "float64") and ".." in value:
                least, _, most = value.partition("..")
                found[name] = (float(least) if least else None, float(most) if most else None)
            else:
                found[name] = [one(part) for part in value.split(",")] if value else None
        except ValueError:
            raise ValueError(f"--where {text}: the column holds {kinds[name]} values; give such.") from None
    return found
