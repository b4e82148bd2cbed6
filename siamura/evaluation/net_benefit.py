"""Net benefit: whether acting on a model's answers does more good than acting on all, or on none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ._checks import as_label, as_probability, as_units
from .intervals import bootstrap

Float = NDArray[np.float64]


def net_benefit(
    label: ArrayLike, probability: ArrayLike, *, groups: ArrayLike | None = None,
    thresholds: Sequence[float] | Float | None = None, draws: int = 1000, confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Measure the net benefit at every threshold: a decision curve.

    At threshold t a reader holds one missed abnormal study to be worth (1 - t) / t false alarms. The net benefit
    is the share of true alarms less the share of false ones at that rate. A model is of use at the thresholds
    where its curve lies above both "all" and "none" (0).

    Parameters
    ----------
    label : array of shape (N,), 0 or 1
    probability : array of shape (N,)
        Of the abnormal class, calibrated: the threshold is compared with it. Above it the answer is abnormal.
    groups : array of shape (N,), optional
        The patient of each row.
    thresholds : sequence of float, optional
        In (0, 1); default 0.01, 0.02, ..., 0.99.
    draws, confidence, seed
        Of the intervals: a bootstrap over patients, bias-corrected and accelerated; 0 draws for none.

    Returns
    -------
    DataFrame
        ``threshold, model, low, high, all``: of the model with its interval, and of calling everything
        abnormal. ``.attrs``: ``rows``, ``patients``, ``prevalence``, ``draws``.

    Raises
    ------
    ValueError
        If a threshold is not in (0, 1), or a label or probability is not what it must be.

    References
    ----------
    Vickers and Elkin, "Decision curve analysis", Medical Decision Making 26, 2006.

    Examples
    --------
    >>> curve = net_benefit([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], thresholds=[0.2, 0.5], draws=0)
    >>> curve[["model", "all"]].round(4).to_numpy().tolist()
    [[0.4375, 0.375], [0.25, 0.0]]
    """
    y = as_label(label)
    p = as_probability(probability, len(y))
    unit = as_units(groups, len(y))
    t = np.linspace(0.01, 0.99, 99) if thresholds is None else np.asarray(thresholds, dtype=np.float64)
    if t.ndim != 1 or not len(t) or not ((t > 0) & (t < 1)).all():
        raise ValueError(f"thresholds={thresholds!r} must hold numbers above 0 and below 1, at least one")
    odds = t / (1 - t)
    said = p[:, None] > t
    patients = int(unit.max()) + 1
    gain, rows = np.zeros((patients, len(t))), np.bincount(unit, minlength=patients).astype(np.float64)
    np.add.at(gain, unit, said * np.where(y[:, None] == 1, 1.0, -odds))

    def score(counts: Float) -> dict[str, Float]:
        value = counts @ gain / (counts @ rows)[:, None]
        return {str(at): value[:, at] for at in range(len(t))}

    found = bootstrap(score, patients, draws, confidence, seed)
    share = float(y.mean())
    frame = pd.DataFrame(
        {
            "threshold": t,
            "model": list(found.value.values()),
            "low": list(found.low.values()),
            "high": list(found.high.values()),
            "all": share - (1 - share) * odds,
        }
    )
    frame.attrs.update({"rows": len(y), "patients": patients, "prevalence": share, "draws": draws})
    return frame
