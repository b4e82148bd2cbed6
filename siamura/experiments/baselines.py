"""What a run's training is set beside: trivial features, and its trunk without training; and whether it was better."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from siamura._names import BASELINES
from siamura.evaluation import compare, frozen_baseline, trivial_baselines
from siamura.evaluation.baselines import trivial_features
from siamura.networks import EmbeddingNet
from siamura.training.embedding import forward_rows
from siamura.training.head_first import FrozenTrunk

from .metrics import plain

if TYPE_CHECKING:
    import numpy.typing as npt

    from siamura.pixels import RadiographDataset

    from .data import Inputs

__all__ = ["baseline_answers", "compare_with_baselines", "frozen_answers", "trivial_answers"]

#: Baselines by their name in a run, and by that of `siamura.evaluation.frozen_baseline`.
FROZEN = {"frozen_knn": "k-NN", "frozen_logistic": "logistic"}

#: Trivial features by path and time of change.
_FEATURES_OF_FILES: dict[tuple[str, int], dict[Any, float]] = {}


def frozen_answers(
    trunk: str,
    weights: str,
    train: RadiographDataset,
    valid: RadiographDataset,
    *,
    accelerator: str = "auto",
    seed: int = 0,
) -> dict[str, npt.NDArray[np.float64]]:
    """Answers for the validation views by the trunk as it was before training: k-NN and logistic regression.

    Parameters
    ----------
    trunk, weights : str
        As for `siamura.EmbeddingNet`.
    train, valid : RadiographDataset
        The run's own, all training views, preprocessed as the run's network sees them.
    accelerator : str
        As Lightning names it.
    seed : int
        Of the parts of the training patients within which the regression's strength is chosen.

    Returns
    -------
    dict
        ``frozen_knn`` and ``frozen_logistic``: probabilities float64 (N,), or (N, C) of more than two classes.
    """
    frozen = FrozenTrunk(EmbeddingNet(trunk, weights=weights, preprocess=train.pre)).eval()
    features = [
        forward_rows(frozen, data, accelerator=accelerator)[0].flatten(1).numpy() for data in (train, valid)
    ]
    found = frozen_baseline(features[0], train.table, features[1], valid.table, draws=0, seed=seed)
    return {name: found.probability[column].to_numpy() for name, column in FROZEN.items()}


def trivial_answers(table: pd.DataFrame, *, seed: int) -> npt.NDArray[np.float64]:
    """Probabilities by part, grey levels, aspect and size alone, for the valid rows in their order, (N,) or (N, C).

    It is fitted on train; what a network adds must be seen beside it, since such things can leak a label. A file is
    measured once a process: the cells of a grid share it.
    """
    keys = [(str(path), Path(path).stat().st_mtime_ns) for path in table["path"]]
    new = np.array([key not in _FEATURES_OF_FILES for key in keys])
    if new.any():
        found = trivial_features(table.loc[new])
        at = (key for key, fresh in zip(keys, new, strict=True) if fresh)
        _FEATURES_OF_FILES.update(zip(at, found.to_dict("records"), strict=True))
    features = pd.DataFrame([_FEATURES_OF_FILES[key] for key in keys], index=table.index)
    return trivial_baselines(table, features, seed=seed)["all together"].to_numpy()


def baseline_answers(
    inputs: Inputs, trunk: str, weights: str | None, *, accelerator: str = "auto", seed: int = 0
) -> dict[str, npt.NDArray[np.float64]]:
    """Answers of every baseline for the validation views: ``trivial``, and the frozen trunk's where it had weights.

    All are fitted on all training patients.
    """
    found = {"trivial": trivial_answers(inputs.table, seed=seed)}
    if weights is not None:
        found |= frozen_answers(
            trunk, weights, inputs.all_training, inputs.splits["valid"], accelerator=accelerator, seed=seed
        )
    return found


def compare_with_baselines(
    table: pd.DataFrame,
    by_head: Mapping[str, npt.NDArray[np.float64]],
    *,
    classes: tuple[str, ...],
    ordered: bool = False,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare each head with each baseline by AUROC per study, on the same draws of patients.

    Parameters
    ----------
    table : DataFrame
        The validation views.
    by_head : mapping of str to float64 (N,) or (N, C)
        Heads and baselines.
    classes, ordered
        As for `siamura.evaluate`.
    draws, seed : int
        Of the bootstrap over patients.

    Returns
    -------
    dict
        ``{head: {baseline: {"metric": name, "first", "second", "difference", "low", "high"}}}``, the difference is
        head less baseline; a figure that is undefined is None.
    """
    found: dict[str, Any] = {}
    baselines = [name for name in BASELINES if name in by_head]
    for head in (name for name in by_head if name not in BASELINES):
        found[head] = {}
        for name in baselines:
            frame = compare(
                table, by_head[head], by_head[name], "study", classes=classes, ordered=ordered, draws=draws,
                seed=seed,
            )  # fmt: skip
            metric = "auroc" if "auroc" in frame.index else "auroc_macro"
            row = frame.loc[metric]
            columns = ("first", "second", "difference", "low", "high")
            found[head][name] = {"metric": metric, **{column: plain(row[column]) for column in columns}}
    return found
