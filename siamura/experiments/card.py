"""The model card beside a saved network: what it is, what it was trained and measured on, what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from .experiment import Experiment
from .tables import RESEARCH, data_sentence, share_of, with_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TEMPLATE", "write_card"]

TEMPLATE = Template("""\
---
library_name: siamura
license: other
tags:
  - radiographs
  - metric-learning
---

# $title

$research It is not a medical device, and no patient may be treated by what it says.

## Model

$trunk trunk on one grey channel, embedding of $dim dimensions (L2-normalised), weights from $weights.
Trained with the $loss loss ($share), margin $margin, $length steps of $p x $k
images, seed $seed, siamura $version.
Preprocessing is in `config.json` and belongs to the model: $size pixels, $clahe.

    import siamura
    net = siamura.EmbeddingNet.from_pretrained("model")

## Data

$data

Who is in the data, how it was labelled and what may leak a label must be known before the figures mean anything:
to be filled in by whoever publishes this model.

## Measured

Validation studies, value [95 % interval, bootstrap over patients]; a study is the mean of its views' probabilities.

| figure | k-NN | MLP | trivial baseline |
|---|---|---|---|
$figures

The trivial baseline sees only pixel mean and deviation, aspect and size. A model that is not above it has learnt
nothing of anatomy.

## Limits

Trained and measured on one source. Other hospitals, devices, ages, casts and hardware will lower the figures. The
probabilities are not calibrated unless you calibrate them on patients of your own (`siamura.evaluation.calibrate`).
""")


def write_card(
    folder: Path,
    experiment: Experiment,
    metrics: Mapping[str, Any],
    data: Mapping[str, Any],
    history: pd.DataFrame,
    version: str,
) -> Path:
    """Fill in the model card and write it as ``README.md`` beside the model.

    Parameters
    ----------
    folder : Path
        The model's folder.
    experiment : Experiment
    metrics, data : mapping
        As in ``metrics.json``, and under ``data`` in ``config.json``.
    history : DataFrame
        Of `siamura.fit`.
    version : str
        Of siamura.

    Returns
    -------
    Path
        The card.
    """
    studies = metrics["valid"]["study"]
    figures = "\n".join(
        f"| {metric} | "
        + " | ".join(with_interval(studies.get(h), metric) for h in ("knn", "mlp", "trivial"))
        + " |"
        for metric in ("accuracy", "kappa", "recall", "specificity", "auroc")
    )
    card = folder / "README.md"
    values = {
        **experiment.to_dict(),
        "title": f"siamura: {experiment.part}, {experiment.trunk}",
        "research": RESEARCH,
        "weights": experiment.weights or "a random start",
        "clahe": "CLAHE (clip limit 2, 8 x 8 tiles)" if experiment.clahe else "no CLAHE",
        "data": data_sentence(data),
        "length": len(history),
        "share": share_of(history),
        "figures": figures,
        "version": version,
    }
    card.write_text(TEMPLATE.substitute(values), encoding="utf-8")
    return card
