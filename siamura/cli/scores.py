"""Commands that answer with a finished run: evaluate, predict, explain."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import typer

import siamura
from siamura import plots, studies
from siamura._files import printable
from siamura.experiments import EnsemblePredictor, load_predictor, load_run
from siamura.inference import Predictor, align_classes, list_views

from .arguments import Columns, Head, HeadChoice, Positive, RunFolder, class_code, part_needs_data, read_data
from .errors import cli_errors
from .output import OutFormat, emit, loading, say_unreadable, shown

__all__ = ["evaluate", "explain", "predict"]

Grouping = StrEnum("Grouping", {"auto": "auto", "folder": "folder", "file": "file"})


def evaluate(
    run: RunFolder,
    data: Annotated[
        Path | None, typer.Option(help="Other labelled radiographs; without it the run's own.")
    ] = None,
    part: Annotated[str | None, typer.Option(help="Body part of --data; without it the run's.")] = None,
    columns: Columns = None,
    positive: Positive = None,
    head: HeadChoice = Head.knn,
    plain: Annotated[
        bool, typer.Option("--plain", help="At 0.5, not calibrated, instead of the run's operating point.")
    ] = False,
    form: OutFormat = None,
) -> None:
    """Figures with 95 % intervals over patients, per view and per study.

    Calibrated, and at the run's operating point, where it has one.

    Example: `siamura evaluate runs/finger --data OTHER-HOSPITAL --part XR_FINGER`
    """
    with cli_errors():
        loading(run)
        done = load_run(run)
        part_needs_data(data, part=part, columns=columns, positive=positive)
        part = part or done.experiment.part
        if data is None:
            vectors, table = done.embeddings()
            keep = (table["split"] == "valid").to_numpy()
            table = table[keep].reset_index(drop=True)
            predictor = Predictor(done, head=head)
            probability = predictor.probability(vectors[keep])
        else:
            predictor = Predictor(done, head=head)
            table = align_classes(read_data(data, part, columns, positive), predictor.classes)
            table = predictor.views(table)
            say_unreadable(table)
            table = table[table["probability"].notna() & (table["label"] >= 0)].reset_index(drop=True)
            own = [f"probability[{name}]" for name in predictor.classes]
            probability = table["probability" if len(own) == 2 else own].to_numpy()
        ordered = bool(done.config["data"].get("ordered", False))
        points = {} if plain else predictor.points
        about: dict[str, Any] = {"classes": predictor.classes, "ordered": ordered}
        frames = [
            (
                points[level].evaluate(table, probability, **about)
                if level in points
                else siamura.evaluate(table, probability, level=level, **about)
            ).assign(level=level)
            for level in ("view", "study")
        ]
        where = data or done.config["data"]["name"]
        phantoms = done.config["data"]["phantoms"] if data is None else studies.is_phantom(data)
        said = f"{'PHANTOMS, ' if phantoms else ''}{where}, {part}: {len(table)} views of "
        typer.echo(
            f"{printable(said)}{table['patient'].nunique()} patients, the {head} head; 95 % intervals by bootstrap "
            "over patients. For research, not for diagnosis.",
            err=True,
        )
        if points:
            typer.echo(f"{_rule(predictor, 'view')} {_rule(predictor, 'study')}", err=True)
        emit(pd.concat(frames).reset_index(), form)


def predict(
    run: RunFolder,
    paths: Annotated[
        list[Path], typer.Argument(help="Image files (PNG, JPEG, TIFF, DICOM), or folders of them.")
    ],
    study: Annotated[
        Grouping, typer.Option(help="What makes a study: a folder, a file, or as MURA names it.")
    ] = (Grouping.auto),
    views: Annotated[bool, typer.Option("--views", help="One row a view instead of one a study.")] = False,
    head: HeadChoice = Head.knn,
    form: OutFormat = None,
) -> None:
    """Class and probability of images; a study's is the mean of its views'. For research, not for diagnosis.

    Of two classes the probability is that of the positive one; of more each class has a column. The answer follows
    from the run's operating point: the calibrated probability (column calibrated) above the run's threshold.

    Where the folder holds several seeds (`siamura train --seeds`), the probability is the mean of theirs.

    Example: `siamura predict runs/finger study1/ --study folder --format json`
    """
    with cli_errors():
        loading(run)
        predictor = load_predictor(run, head=head)
        scored = predictor.views(list_views(paths, study=study))
        say_unreadable(scored)
        emit(scored if views else predictor.studies(scored), form)
        typer.echo(_rule(predictor, "view" if views else "study"), err=True)
        if scored["probability"].isna().all():
            raise ValueError("none of the files could be read as a radiograph.")


def explain(
    run: RunFolder,
    image: Annotated[Path, typer.Argument(help="One image.")],
    out: Annotated[Path, typer.Option(help="The figure to write (PNG, PDF or SVG).")] = Path(
        "explanation.png"
    ),
    method: Annotated[
        str, typer.Option(help="layercam, gradcam or gradcam++, each also with smooth_ before it; or cam.")
    ] = "layercam",
    label: Annotated[
        str | None,
        typer.Option(
            help="The class, by name; without it the positive one of two, or the most probable of more."
        ),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="Another image: show what makes the image look like that one instead.")
    ] = None,
) -> None:
    """Draw where the score of a class comes from, and print the boxes in the file's own pixels.

    Example: `siamura explain runs/finger film.png --out film-heat.png`
    """
    with cli_errors():
        loading(run)
        # Here, as it loads torch.
        from siamura.explanation import HeadLogit, Similarity, Target, embed_image

        predictor = Predictor(load_run(run), head="mlp")
        shown_class = _class_to_show(predictor, image, label)
        target: Target = HeadLogit(predictor.head, shown_class)
        if like is not None:
            target = Similarity(embed_image(predictor.net, siamura.read_image(like)), like.name)
        found = siamura.explain(predictor.net, siamura.read_image(image), target, method=method)
        named = found.target.replace(f"label {shown_class}", predictor.classes[shown_class])
        drawn = "phantom " if studies.is_phantom(image) else ""
        figure = plots.heat_map(
            *found.downscaled(),
            title=f"{named}: {found.score:.2f}",
            note=f"Where the score of {drawn}{image.name} comes from: {found.description}",
        )
        figure.savefig(out, dpi=200)
        said = {
            "figure": str(out),
            "boxes": found.boxes.tolist(),
            "target": named,
            "class": predictor.classes[shown_class],
            "score": found.score,
        }
        typer.echo(_in_words(said) if sys.stdout.isatty() else json.dumps(said))


def _in_words(said: dict[str, Any]) -> str:
    """What was explained, for a terminal."""
    boxes = [
        f"box, in the file's pixels: {x0} to {x1} across, {y0} to {y1} down"
        for x0, y0, x1, y1 in said["boxes"]
    ]
    score = f"{printable(said['target'])}: {said['score']:.3f}"
    return "\n".join([score, *(boxes or ["no box: nothing stands out"]), f"figure: {shown(said['figure'])}"])


def _rule(predictor: Predictor | EnsemblePredictor, level: Literal["view", "study"]) -> str:
    """Say by what rule an answer is given."""
    point = predictor.points.get(level)
    if len(predictor.classes) > 2:
        return f"Per {level}: the most probable class is the answer."
    positive = printable(predictor.classes[1])
    if point is None or point.threshold is None:
        return f"Per {level}: a probability above 0.5 is called {positive}; this run has no operating point."
    return (
        f"Per {level}: a calibrated probability above {point.threshold:.3f} is called {positive} (sensitivity "
        f"{point.sensitivity:.2f} wanted, on training patients apart)."
    )


def _class_to_show(predictor: Predictor, image: Path, label: str | None) -> int:
    """The code of the class whose score is explained."""
    if label is not None:
        return class_code(predictor.classes, label)
    if len(predictor.classes) == 2:
        return 1
    return int(predictor.probability(predictor.embed([siamura.read_image(image)]))[0].argmax())
