"""What the tables of real bones compute themselves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from benchmarks.real_bones import logit_slope, probabilities_of


def drawn(sharper: float, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities whose logit is `sharper` times the right one."""
    rng = np.random.default_rng(3)
    logit = rng.normal(-1.0, 1.5, n)
    label = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return label, 1 / (1 + np.exp(-sharper * logit))


@pytest.mark.parametrize("sharper", [0.3, 1.0, 4.0])
def test_the_slope_is_that_of_a_logistic_regression(sharper):
    label, p = drawn(sharper)
    weight = np.random.default_rng(1).integers(0, 3, (4, len(p))).astype(float)
    clipped = np.clip(p, 1e-3, 1 - 1e-3)
    logit = np.log(clipped / (1 - clipped))[:, None]
    expected = [
        LogisticRegression(C=1e9, tol=1e-9, max_iter=500).fit(logit, label, sample_weight=row).coef_[0, 0]
        for row in weight
    ]
    assert logit_slope(label, p, weight) == pytest.approx(expected, rel=1e-3)


def test_probabilities_that_are_too_sure_have_a_slope_below_one():
    label, p = drawn(2.0)
    row = probabilities_of(label, np.arange(len(p)) // 2, {("default", "head"): [p, p]})[-1]
    gap, brier, slope = ([float(x) for x in cell.replace("[", "").replace("]", "").replace(",", "").split()]
                         for cell in row.split("|")[3:6])  # fmt: skip
    assert gap[0] == pytest.approx(np.mean(p - label), abs=5e-4)
    assert brier[0] == pytest.approx(np.mean((p - label) ** 2), abs=5e-4)
    assert slope[1] < slope[0] < slope[2] < 1
    assert slope[1] < 0.5 < slope[2]
