"""A 95 % interval must hold the truth in 95 of 100 hospitals: measured by simulating hospitals."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from siamura.evaluation import compare, delong, evaluate, score_draws

NAMES = ["accuracy", "kappa", "precision", "recall", "specificity", "f1", "f1_macro", "auroc", "brier"]


def hospital(rng, patients):
    """Views of one patient share her illness and how easy she is to read; she has 1 to 6 of them."""
    count = rng.integers(1, 7, size=patients)
    patient = np.repeat(np.arange(patients), count)
    label = (rng.random(patients) < 0.45)[patient].astype(int)
    ease = rng.normal(0, 1, patients)[patient]
    logit = 1.6 * (label - 0.5) + ease + rng.normal(0, 1, len(patient))
    other = 1.1 * (label - 0.5) + 0.8 * ease + rng.normal(0, 1, len(patient))
    table = pd.DataFrame({"patient": patient, "label": label})
    return table, 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(-other))


@cache
def truth():
    table, p, other = hospital(np.random.default_rng(1), 300_000)
    scored = [score_draws(table["label"], values) for values in (p, other)]
    return {name: float(scored[0][name][0]) for name in NAMES}, {
        name: float(scored[0][name][0] - scored[1][name][0]) for name in NAMES
    }


def coverage(hospitals, draws, patients=150):
    value, _ = truth()
    rng = np.random.default_rng(0)
    inside = dict.fromkeys(NAMES, 0)
    for seed in range(hospitals):
        table, p, _ = hospital(rng, patients)
        scores = evaluate(table, p, draws=draws, seed=seed)
        for name in NAMES:
            inside[name] += scores.loc[name, "low"] <= value[name] <= scores.loc[name, "high"]
    return {name: hits / hospitals for name, hits in inside.items()}


def test_intervals_hold_the_truth_as_often_as_they_say():
    found = coverage(hospitals=200, draws=400)
    assert 0.93 <= np.mean(list(found.values())) <= 0.97
    assert all(0.90 <= share <= 0.99 for share in found.values()), found


def test_rows_taken_as_independent_would_be_too_sure():
    # What the bootstrap over patients is for: the same simulation, each view drawn for itself.
    value, _ = truth()
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(150):
        table, p, _ = hospital(rng, 150)
        scores = evaluate(table.assign(patient=np.arange(len(table))), p, draws=300, seed=seed)
        inside += scores.loc["auroc", "low"] <= value["auroc"] <= scores.loc["auroc", "high"]
    assert inside / 150 < 0.9


@pytest.mark.slow
def test_intervals_hold_the_truth_at_length():
    found = coverage(hospitals=2000, draws=1000)
    assert all(0.93 <= share <= 0.97 for share in found.values()), found


@pytest.mark.slow
def test_intervals_of_differences_at_length():
    _, difference = truth()
    rng = np.random.default_rng(2)
    inside, analytic = dict.fromkeys(NAMES, 0), 0
    for seed in range(1000):
        table, p, other = hospital(rng, 150)
        found = compare(table, p, other, draws=600, seed=seed)
        for name in NAMES:
            inside[name] += found.loc[name, "low"] <= difference[name] <= found.loc[name, "high"]
        by_formula = delong(table["label"], p, other, groups=table["patient"])
        analytic += by_formula["low"] <= difference["auroc"] <= by_formula["high"]
    assert all(0.93 <= hits / 1000 <= 0.97 for hits in inside.values()), inside
    assert 0.93 <= analytic / 1000 <= 0.97
