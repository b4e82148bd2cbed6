"""Commands about similar cases: index, search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import siamura

from .arguments import Columns, Positive, RunFolder, part_needs_data, read_data
from .errors import cli_errors
from .output import Format, OutFormat, emit, shown

__all__ = ["index", "search"]


def index(
    run: RunFolder,
    out: Annotated[Path, typer.Argument(help="The file of the case index; a new one without --add.")],
    data: Annotated[
        Path | None, typer.Option(help="More radiographs; without it the run's training views.")
    ] = None,
    part: Annotated[str | None, typer.Option(help="One body part of --data only.")] = None,
    columns: Columns = None,
    positive: Positive = None,
    add: Annotated[bool, typer.Option("--add", help="Add to the index that is there.")] = False,
) -> None:
    """Build an index of similar cases from a run's training views, or from other radiographs, or add to one.

    Example: `siamura index runs/finger cases`
    """
    with cli_errors():
        from siamura.experiments import load_run

        done = load_run(run)
        part_needs_data(data, part=part, columns=columns, positive=positive)
        net = done.network()
        if out.exists() and not add:
            raise FileExistsError(f"{out} exists; add to it with --add, or choose another.")
        cases = siamura.CaseIndex.open(out, model=net) if add else None
        if data is None:
            vectors, table = done.embeddings()
            keep = (table["split"] == "train").to_numpy()
            vectors, table = vectors[keep], table[keep].reset_index(drop=True)
        else:
            if net.preprocess is None:
                raise ValueError(f"the model in {run} was saved without its preprocessing; train it again.")
            views = siamura.RadiographDataset(
                read_data(data, part, columns, positive), net.preprocess, on_error="skip"
            )
            vectors, table = siamura.embed(net, views), views.table
        if cases is None:
            cases = siamura.CaseIndex.create(out, dim=vectors.shape[1], model=net)
        cases.add(vectors, table)
        typer.echo(f"{len(cases)} cases in {shown(out)}")


def search(
    run: RunFolder,
    cases: Annotated[Path, typer.Argument(help="A case index, as `siamura index` writes it.")],
    image: Annotated[Path, typer.Argument(help="The film to find similar cases of.")],
    k: Annotated[int, typer.Option("-k", "--k", help="How many.")] = 5,
    part: Annotated[str | None, typer.Option(help="Cases of this part only.")] = None,
    label: Annotated[
        int | None, typer.Option(min=0, max=1, help="Cases of this label only: 0 normal, 1 abnormal.")
    ] = None,
    exclude_patient: Annotated[
        str | None, typer.Option(help="The film's own patient, whose cases are not wanted.")
    ] = None,
    form: OutFormat = Format.csv,
) -> None:
    """Find the earlier cases that look most like a film.

    Example: `siamura search runs/finger cases film.png -k 5 --label 1`
    """
    with cli_errors():
        from siamura.experiments import load_run
        from siamura.inference import Predictor

        predictor = Predictor(load_run(run))
        opened = siamura.CaseIndex.open(cases, model=predictor.net)
        vectors = predictor.embed([siamura.read_image(image)])
        found = opened.search(vectors, k=k, part=part, label=label, exclude_patient=exclude_patient)
        emit(found, form)
        if found.empty:
            typer.echo("no case in the index is of that part, label and patient.", err=True)
