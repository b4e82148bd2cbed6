"""Several seeds of one training: their mean, spread and ensemble, beside loops over seeds and draws."""

import numpy as np
import pandas as pd
import pytest

from siamura.evaluation import compare, compare_seeds, evaluate, mean_probability, patient_draws, seed_scores


def drawn(classes=2, seeds=3, patients=24, seed=0):
    """A table with two views a study, one study a patient, and each seed's answers."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(patients) % classes, 2)
    table = pd.DataFrame({
        "part": "XR_HAND", "patient": np.repeat([f"p{i}" for i in range(patients)], 2), "study": "study1",
        "label": label,
    })  # fmt: skip
    share = rng.dirichlet(np.ones(classes), (seeds, len(table))) + 0.6 * np.eye(classes)[label]
    share /= share.sum(axis=2, keepdims=True)
    members = {10 + i: share[i] if classes > 2 else share[i][:, 1] for i in range(seeds)}
    return table, members


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("level", ["view", "study"])
def test_each_seed_scores_as_evaluate_says_and_the_spread_is_over_seeds(classes, level):
    table, members = drawn(classes)
    found = seed_scores(table, members, level, draws=50)
    metric = "auroc" if classes == 2 else "auroc_macro"
    each = {seed: evaluate(table, p, level, draws=0)["value"] for seed, p in members.items()}
    for name in (metric, "kappa", "brier"):
        values = [each[seed][name] for seed in members]
        assert found.loc[name, list(members)].tolist() == pytest.approx(values, abs=1e-12)
        assert found.loc[name, "mean"] == pytest.approx(np.mean(values))
        assert found.loc[name, "sd"] == pytest.approx(np.std(values, ddof=1))
        assert found.loc[name, ["least", "most"]].tolist() == pytest.approx([min(values), max(values)])
        assert found.loc[name, "low"] < found.loc[name, "mean"] < found.loc[name, "high"]
    assert found.attrs["patients"] == 24
    assert found.attrs["rows"] == (48 if level == "view" else 24)


def test_equal_seeds_have_no_spread_and_the_interval_of_one():
    table, members = drawn(seeds=1)
    (p,) = members.values()
    found = seed_scores(table, {0: p, 1: p}, "study", draws=200)
    one = evaluate(table, p, "study", draws=200)
    assert found.loc["kappa", "sd"] == 0
    assert found.loc["kappa", ["low", "high"]].tolist() == one.loc["kappa", ["low", "high"]].tolist()
    assert np.isnan(seed_scores(table, {0: p}, "study", draws=0).loc["kappa", "sd"])


def test_the_mean_is_compared_with_a_baseline_on_the_same_draws():
    table, members = drawn()
    baseline = np.random.default_rng(9).random(len(table))
    found = compare_seeds(table, members, baseline, "view", draws=40, seed=3)
    codes, patient = pd.factorize(table["patient"])
    assert len(patient) == 24
    differences = []
    for counts in patient_draws(24, 40, 3):
        rows = np.repeat(np.arange(len(table)), counts[codes].astype(int))
        some = table.iloc[rows].reset_index(drop=True)
        scores = [evaluate(some, p[rows], draws=0)["value"]["auroc"] for p in members.values()]
        differences.append(np.mean(scores) - evaluate(some, baseline[rows], draws=0)["value"]["auroc"])
    beyond = 1 + min((np.array(differences) <= 0).sum(), (np.array(differences) >= 0).sum())
    assert found.loc["auroc", "p"] == pytest.approx(min(1, 2 * beyond / 41))
    plain = np.mean([evaluate(table, p, draws=0)["value"]["auroc"] for p in members.values()])
    assert found.loc["auroc", "first"] == pytest.approx(plain)
    alone = {0: members[10]}
    pd.testing.assert_frame_equal(
        compare_seeds(table, alone, baseline, "study", draws=40),
        compare(table, members[10], baseline, "study", draws=40),
    )


def test_the_ensemble_is_the_mean_of_probabilities():
    _, members = drawn(3)
    expected = np.zeros((48, 3))
    for p in members.values():
        expected += np.asarray(p) / len(members)
    np.testing.assert_allclose(mean_probability(members), expected, atol=1e-12)


def test_seeds_that_do_not_go_together_are_refused():
    table, members = drawn()
    with pytest.raises(ValueError, match="members is empty"):
        seed_scores(table, {})
    with pytest.raises(ValueError, match=r"members\[1\] has shape \(3,\), members\[0\] \(48,\)"):
        seed_scores(table, {0: members[10], 1: [0.1, 0.2, 0.3]})
    with pytest.raises(ValueError, match=r"members\[0\] is nan at row 0"):
        seed_scores(table, {0: np.full(48, np.nan)})
    with pytest.raises(ValueError, match="must answer for the same classes"):
        compare_seeds(table, members, np.full((48, 3), 1 / 3))
