"""The ``siamura`` command: results on standard output, progress on standard error, status 2 for bad input."""

from __future__ import annotations

import json
import logging
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import siamura
from siamura.experiments.command import experiment_command, one_sentence, tell
from siamura.experiments.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["app", "main"]

app = typer.Typer(
    name="siamura",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Siamese metric learning for radiographs. For research, not for diagnosis.",
)

RunFolder = Annotated[Path, typer.Argument(help="A run folder, as `siamura train` writes it.")]
Format = StrEnum("Format", {"csv": "csv", "json": "json"})
Head = StrEnum("Head", {"knn": "knn", "mlp": "mlp"})
Grouping = StrEnum("Grouping", {"auto": "auto", "folder": "folder", "file": "file"})
OutFormat = Annotated[Format, typer.Option("--format", help="Form of the result.")]


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log what is done.")] = False,
) -> None:
    tell(logging.INFO if verbose else logging.WARNING)
    if version:
        typer.echo(siamura.__version__)
        raise typer.Exit


@app.command()
def phantoms(
    root: Annotated[Path, typer.Argument(help="A new folder for them.")],
    part: Annotated[list[str], typer.Option(help="Body part; may be given several times.")] = ["XR_FINGER"],  # noqa: B006
    views: Annotated[int, typer.Option(help="How many views.")] = 600,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
) -> None:
    """Draw a data set of phantoms in MURA's layout.

    Example: `siamura phantoms phantoms --part XR_FINGER --part XR_HAND --views 800`
    """
    with one_sentence():
        typer.echo(siamura.make_phantoms(root, parts=tuple(part), views=views, seed=seed))


@app.command()
def describe(
    root: Annotated[Path, typer.Argument(help="A MURA folder, or its parent.")],
    part: Annotated[str | None, typer.Option(help="One body part only.")] = None,
    form: OutFormat = Format.csv,
) -> None:
    """Count studies, views and patients per part, split and label.

    Example: `siamura describe MURA-v1.1 --format json`
    """
    with one_sentence():
        from siamura.studies import describe as count
        from siamura.studies import problems

        table = siamura.read_mura(root, part=part, on_error="report")
        _emit(count(table), form)
        for problem in problems(table).to_dict("records"):
            typer.echo("problem: " + ", ".join(f"{k} {v}" for k, v in problem.items()), err=True)


app.command(
    name="train",
    help="Train, classify, measure, draw: the whole finger experiment, into a run folder.\n\n"
    "Example: `siamura train --data MURA-v1.1 --part XR_FINGER --size 224 --out runs/finger`",
)(experiment_command(Experiment(), out="runs/train"))


@app.command()
def evaluate(
    run: RunFolder,
    data: Annotated[
        Path | None, typer.Option(help="Other labelled radiographs; without it the run's own.")
    ] = None,
    part: Annotated[str | None, typer.Option(help="Body part of --data; without it the run's.")] = None,
    head: Annotated[Head, typer.Option(help="Which head.")] = Head.knn,
    form: OutFormat = Format.csv,
) -> None:
    """Figures with 95 % intervals over patients, per view and per study.

    Example: `siamura evaluate runs/finger --data OTHER-HOSPITAL --part XR_FINGER`
    """
    with one_sentence():
        import pandas as pd

        from siamura.experiments import load_run
        from siamura.inference import Predictor
        from siamura.studies import is_phantom

        done = load_run(run)
        _part_needs_data(part, data)
        part = part or done.experiment.part
        if data is None:
            vectors, table = done.embeddings()
            keep = (table["split"] == "valid").to_numpy()
            table = table[keep].reset_index(drop=True)
            table["probability"] = Predictor(done, head=head).probability(vectors[keep])
        else:
            table = Predictor(done, head=head).views(siamura.read_mura(data, part=part))
            _say_unreadable(table)
            table = table[table["probability"].notna()].reset_index(drop=True)
        frames = [
            siamura.evaluate(table, table["probability"].to_numpy(), level=level).assign(level=level)
            for level in ("view", "study")
        ]
        where = data or done.config["data"]["name"]
        phantoms = done.config["data"]["phantoms"] if data is None else is_phantom(data)
        said = "PHANTOMS, " if phantoms else ""
        typer.echo(
            f"{said}{where}, {part}: {len(table)} views of {table['patient'].nunique()} patients; 95 % intervals by "
            "bootstrap over patients. For research, not for diagnosis.",
            err=True,
        )
        _emit(pd.concat(frames).reset_index(), form)


@app.command()
def predict(
    run: RunFolder,
    paths: Annotated[
        list[Path], typer.Argument(help="Image files (PNG, JPEG, TIFF, DICOM), or folders of them.")
    ],
    study: Annotated[
        Grouping, typer.Option(help="What makes a study: a folder, a file, or as MURA names it.")
    ] = (Grouping.auto),
    views: Annotated[bool, typer.Option("--views", help="One row a view instead of one a study.")] = False,
    head: Annotated[Head, typer.Option(help="Which head.")] = Head.knn,
    form: OutFormat = Format.csv,
) -> None:
    """Probability of abnormal for films; a study's is the mean of its views'. For research, not for diagnosis.

    Example: `siamura predict runs/finger study1/ --study folder --format json`
    """
    with one_sentence():
        from siamura.experiments import load_run
        from siamura.inference import Predictor, films, studies_of

        scored = Predictor(load_run(run), head=head).views(films(paths, study=study))
        _say_unreadable(scored)
        _emit(scored if views else studies_of(scored), form)
        if scored["probability"].isna().all():
            raise ValueError("none of the files could be read as a radiograph.")


@app.command()
def explain(
    run: RunFolder,
    image: Annotated[Path, typer.Argument(help="One film.")],
    out: Annotated[Path, typer.Option(help="The figure to write (PNG, PDF or SVG).")] = Path(
        "explanation.png"
    ),
    method: Annotated[
        str, typer.Option(help="layercam, gradcam or gradcam++, each also with smooth_ before it; or cam.")
    ] = "layercam",
    like: Annotated[
        Path | None, typer.Option(help="Another film: show what makes the image look like that one instead.")
    ] = None,
) -> None:
    """Draw where the abnormal score comes from, and print the boxes in the file's own pixels.

    Example: `siamura explain runs/finger film.png --out film-heat.png`
    """
    with one_sentence():
        from siamura.experiments import load_run
        from siamura.explanation import HeadLogit, Similarity, Target, embed_image
        from siamura.inference import Predictor
        from siamura.studies import is_phantom

        predictor = Predictor(load_run(run), head="mlp")
        target: Target = HeadLogit(predictor.head)
        if like is not None:
            target = Similarity(embed_image(predictor.net, siamura.read_image(like)), like.name)
        found = siamura.explain(predictor.net, siamura.read_image(image), target, method=method)
        drawn = "phantom " if is_phantom(image) else ""
        found.figure(f"Where the score of {drawn}{image.name} comes from").savefig(out, dpi=150)
        said = {
            "figure": str(out),
            "boxes": found.boxes.tolist(),
            "target": found.target,
            "score": found.score,
        }
        typer.echo(json.dumps(said))


@app.command()
def index(
    run: RunFolder,
    out: Annotated[Path, typer.Argument(help="The file of the case index; a new one without --add.")],
    data: Annotated[
        Path | None, typer.Option(help="More radiographs; without it the run's training views.")
    ] = None,
    part: Annotated[str | None, typer.Option(help="One body part of --data only.")] = None,
    add: Annotated[bool, typer.Option("--add", help="Add to the index that is there.")] = False,
) -> None:
    """Build an index of similar cases from a run's training views, or from other radiographs, or add to one.

    Example: `siamura index runs/finger cases`
    """
    with one_sentence():
        from siamura.experiments import load_run

        done = load_run(run)
        _part_needs_data(part, data)
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
                siamura.read_mura(data, part=part), net.preprocess, on_error="skip"
            )
            vectors, table = siamura.embed(net, views), views.table
        if cases is None:
            cases = siamura.CaseIndex.create(out, dim=vectors.shape[1], model=net)
        cases.add(vectors, table)
        typer.echo(f"{len(cases)} cases in {out}")


@app.command()
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
    with one_sentence():
        from siamura.experiments import load_run
        from siamura.inference import Predictor

        predictor = Predictor(load_run(run))
        opened = siamura.CaseIndex.open(cases, model=predictor.net)
        vectors = predictor.embed([siamura.read_image(image)])
        found = opened.search(vectors, k=k, part=part, label=label, exclude_patient=exclude_patient)
        _emit(found, form)
        if found.empty:
            typer.echo("no case in the index is of that part, label and patient.", err=True)


@app.command()
def serve(
    run: RunFolder,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 7860,
) -> None:
    """Open the page: upload a study, see score, heat map and similar cases. Nothing leaves the machine.

    Example: `siamura serve runs/finger`
    """
    with one_sentence():
        from siamura.app import serve as open_page

        open_page(run, host=host, port=port)


def _part_needs_data(part: str | None, data: Path | None) -> None:
    if part is not None and data is None:
        raise ValueError(f"--part {part} chooses among the radiographs of --data, which is not given.")


def _emit(frame: pd.DataFrame, form: Format) -> None:
    if form is Format.json:
        typer.echo(frame.to_json(orient="records", indent=2, default_handler=_plain))
    else:
        typer.echo(frame.to_csv(index=False, lineterminator="\n"), nl=False)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _say_unreadable(table: pd.DataFrame) -> None:
    for row in table[table["problem"] != ""].to_dict("records"):
        typer.echo(f"left out: {row['problem']}", err=True)
    if unlike := int(table["unlike"].sum()):
        typer.echo(
            f"{unlike} of {int(table['probability'].notna().sum())} views are unlike the training films (column "
            "unlike): farther from them than 99 % of the validation views. Their probabilities mean little.",
            err=True,
        )
