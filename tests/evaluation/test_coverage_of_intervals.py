"""A 95 % interval must hold the truth in 95 of 100 hospitals: measured by simulating hospitals."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from siamura.evaluation import compare, delong, evaluate, score_draws

NAMES = (
    "accuracy",
    "kappa",
    "precision",
    "recall",
    "specificity",
    "f1",
    "f1_macro",
    "auroc",
    "average_precision",
    "brier",
)
MIDDLING, NEARLY_PERFECT = 1.6, 4.5  # AUROC 0.8 and 0.98


def hospital(rng, patients, skill):
    """Views of one patient share her illness and how easy she is to read; she has 1 to 6 of them."""
    count = rng.integers(1, 7, size=patients)
    patient = np.repeat(np.arange(patients), count)
    label = (rng.random(patients) < 0.45)[patient].astype(int)
    ease = rng.normal(0, 1, patients)[patient]
    logit = skill * (label - 0.5) + ease + rng.normal(0, 1, len(patient))
    other = 0.7 * skill * (label - 0.5) + 0.8 * ease + rng.normal(0, 1, len(patient))
    table = pd.DataFrame({"patient": patient, "label": label})
    return table, 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(-other))


@cache
def truth(skill):
    """The scores of 200,000 patients, and the two models' differences."""
    table, p, other = hospital(np.random.default_rng(1), 200_000, skill)
    one, two = (score_draws(table["label"], values) for values in (p, other))
    return (
        {name: float(one[name][0]) for name in (*NAMES, "ece")},
        {name: float(one[name][0] - two[name][0]) for name in NAMES},
    )


def coverage(skill, hospitals, draws, patients=150):
    value, _ = truth(skill)
    rng = np.random.default_rng(0)
    inside = dict.fromkeys(value, 0)
    for seed in range(hospitals):
        table, p, _ = hospital(rng, patients, skill)
        scores = evaluate(table, p, draws=draws, seed=seed)
        for name in value:
            inside[name] += scores.loc[name, "low"] <= value[name] <= scores.loc[name, "high"]
    return {name: hits / hospitals for name, hits in inside.items()}


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    found = coverage(MIDDLING, hospitals=150, draws=300)
    calibration_error = found.pop("ece")
    assert 0.93 <= np.mean(list(found.values())) <= 0.97
    assert all(0.90 <= share <= 0.99 for share in found.values()), found
    # Of the calibration error drawn plainly it would be near 0, reflected below 0.9.
    assert 0.90 <= calibration_error <= 0.99


@pytest.mark.slow
def test_the_calibration_error_of_a_perfect_model_may_be_zero():
    """Labels drawn from the very probabilities: the plain error is far above 0, its interval must not be."""
    rng = np.random.default_rng(0)
    held, plain = 0, []
    for seed in range(200):
        patient = np.repeat(np.arange(150), rng.integers(1, 7, size=150))
        p = 1 / (1 + np.exp(-rng.normal(0, 2, 150)))
        table = pd.DataFrame({"patient": patient, "label": (rng.random(150) < p).astype(int)[patient]})
        scores = evaluate(table, p[patient], draws=200, seed=seed)
        value, low, high = scores.loc["ece", ["value", "low", "high"]]
        plain.append(value)
        assert low <= value <= high
        held += low == 0
    assert np.mean(plain) > 0.04
    assert 0.91 <= held / 200 <= 1


@pytest.mark.slow
def test_rows_taken_as_independent_would_be_too_sure():
    # What the bootstrap over patients is for: the same simulation, each view drawn for itself.
    value, _ = truth(MIDDLING)
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(100):
        table, p, _ = hospital(rng, 150, MIDDLING)
        scores = evaluate(table.assign(patient=np.arange(len(table))), p, draws=200, seed=seed)
        inside += scores.loc["auroc", "low"] <= value["auroc"] <= scores.loc["auroc", "high"]
    assert inside / 100 < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("skill", [MIDDLING, NEARLY_PERFECT])
def test_intervals_hold_the_truth_at_length(skill):
    found = coverage(skill, hospitals=1500, draws=800)
    assert 0.90 <= found.pop("ece") <= 0.97
    assert all(0.93 <= share <= 0.97 for share in found.values()), found


@pytest.mark.slow
def test_intervals_of_differences_at_length():
    _, difference = truth(MIDDLING)
    rng = np.random.default_rng(2)
    inside, analytic = dict.fromkeys(NAMES, 0), 0
    for seed in range(800):
        table, p, other = hospital(rng, 150, MIDDLING)
        found = compare(table, p, other, draws=600, seed=seed)
        for name in NAMES:
            inside[name] += found.loc[name, "low"] <= difference[name] <= found.loc[name, "high"]
        by_formula = delong(table["label"], p, other, groups=table["patient"])
        analytic += by_formula["low"] <= difference["auroc"] <= by_formula["high"]
    # 800 hospitals measure a coverage to within 0.015.
    assert all(0.92 <= hits / 800 <= 0.98 for hits in inside.values()), inside
    assert 0.93 <= analytic / 800 <= 0.97
