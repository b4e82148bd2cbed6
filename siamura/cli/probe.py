"""The command to run first: what a frozen trunk says about one's radiographs, without training."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

import siamura
from siamura._files import printable

from .arguments import Columns, Positive, read_data
from .errors import cli_errors
from .output import OutFormat, emit, loading

__all__ = ["probe"]

Fit = StrEnum("Fit", {"letterbox": "letterbox", "squash": "squash", "center_crop": "center_crop"})


def probe(
    data: Annotated[Path, typer.Option(help="Labelled radiographs, as for `siamura train`.")],
    weights: Annotated[str, typer.Option(help="imagenet, or a file of weights.")],
    trunk: Annotated[str, typer.Option(help="Trunk: densenet169, timm:NAME, ...")] = "densenet169",
    part: Annotated[str | None, typer.Option(help="One body part only.")] = None,
    columns: Columns = None,
    positive: Positive = None,
    size: Annotated[int, typer.Option(help="Side of the network's square, in pixels.")] = 224,
    fit: Annotated[Fit, typer.Option(help="How an image becomes that square.")] = Fit.letterbox,
    seed: Annotated[int, typer.Option(help="Of a split that has to be made, folds and draws.")] = 0,
    form: OutFormat = None,
) -> None:
    """Nearest neighbours and logistic regression on a trunk's features, without training: a minute.

    What training must beat. Per view and per study, with 95 % intervals over patients.

    Example: `siamura probe --data films.csv --weights imagenet --trunk resnet18`
    """
    with cli_errors():
        loading(trunk)
        # Here, as it loads torch.
        from siamura.experiments.probing import probe as measure

        train, valid = siamura.train_valid(read_data(data, part, columns, positive), seed=seed)
        found = measure(train, valid, trunk, weights, size=size, fit=fit.value, seed=seed)
        frames = [found.scores.reset_index().assign(level="view")]
        for name in found.probability.columns.get_level_values(0).unique():
            study = siamura.evaluate(valid, found.probability[name].to_numpy(), "study", seed=seed)
            frames.append(study.reset_index().assign(baseline=name, level="study"))
        typer.echo(
            f"{printable(str(data))}: {len(train)} training and {len(valid)} validation views of "
            f"{train['patient'].nunique()} and {valid['patient'].nunique()} patients; 95 % intervals by bootstrap over "
            "patients. For research, not for diagnosis.",
            err=True,
        )
        table = pd.concat(frames, ignore_index=True)
        emit(table[["baseline", "level", "metric", "value", "low", "high"]], form)
