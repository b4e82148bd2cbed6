"""How the views of a study are put together in a run: rules for probabilities, and attention fitted on train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from siamura.evaluation import compare_study_rules
from siamura.heads import StudyAttention

from .metrics import plain

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

__all__ = ["measure_study_rules"]

_COLUMNS = ("value", "low", "high", "difference", "difference_low", "difference_high", "p")
_STUDY = ["part", "patient", "study"]


def measure_study_rules(
    train: pd.DataFrame,
    known: npt.NDArray[np.float32],
    valid: pd.DataFrame,
    asked: npt.NDArray[np.float32],
    by_head: Mapping[str, npt.NDArray[np.float64]],
    *,
    classes: tuple[str, ...],
    ordered: bool,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[dict[str, Any], StudyAttention | None]:
    """Score the validation studies by each rule for each head, and by attention over the embeddings of their views.

    Parameters
    ----------
    train, known : DataFrame, float32 (N, dim)
        All training views and their embeddings, on which attention is fitted.
    valid, asked : DataFrame, float32 (M, dim)
        The validation views and their embeddings.
    by_head : mapping of str to float64 (M,) or (M, C)
        The heads' probabilities of the validation views.
    classes, ordered
        As for `siamura.evaluate`.
    draws, seed : int
        Of the bootstrap over patients; `seed` is that of attention too.

    Returns
    -------
    figures : dict
        ``{"studies", "patients", "several", "heads": {head: {rule: {metric: {"value", "low", "high", "difference", ...,
        }}}}}``, the differences to the mean; without ``heads`` where no validation study has a second view.
    attention : StudyAttention or None
        None where no training or no validation study has a second view, or train has one label.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> table = pd.DataFrame({"part": "XR_HAND", "patient": np.repeat(np.arange(20), 2), "study": "study1"})
    >>> table["label"] = table["patient"] % 2
    >>> points = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    >>> heads = {"mlp": np.full(40, 0.5)}
    >>> classes = ("normal", "abnormal")
    >>> found, head = measure_study_rules(table, points, table, points, heads, classes=classes, ordered=False, draws=9)
    >>> found["several"], list(found["heads"]["mlp"])
    (20, ['mean', 'max', 'noisy-or', 'top-2', 'attention'])
    """
    views = valid.groupby(_STUDY).size()
    figures: dict[str, Any] = {
        "studies": len(views), "patients": int(valid["patient"].nunique()), "several": int((views > 1).sum()),
    }  # fmt: skip
    if not figures["several"]:
        return figures, None
    attention, further = None, {}
    if (train.groupby(_STUDY).size() > 1).any() and train["label"].nunique() == len(classes):
        attention = StudyAttention(random_state=seed % 2**32).fit(known, train)
        share = attention.predict_proba(asked, valid)
        further["attention"] = share[:, 1] if len(classes) == 2 else share
    figures["heads"] = {}
    for head, p in by_head.items():
        frame = compare_study_rules(
            valid, p, further, classes=classes, ordered=ordered, draws=draws, seed=seed
        )
        figures["heads"][head] = {
            str(rule): {
                str(metric): {column: plain(row[column]) for column in _COLUMNS}
                for metric, row in frame.loc[rule].iterrows()
            }
            for rule in frame.index.get_level_values("rule").unique()
        }
    return figures, attention
