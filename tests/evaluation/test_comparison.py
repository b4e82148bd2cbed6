"""Two models, several raters: hand-worked counts, naive loops, simulation of no difference."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from siamura.evaluation import (
    aggregate,
    bca_interval,
    compare,
    delong,
    evaluate,
    mcnemar,
    pairwise_kappa,
    patient_draws,
)


def cases(rows=200, patients=60, seed=0, gap=0.0):
    rng = np.random.default_rng(seed)
    patient = rng.integers(patients, size=rows)
    table = pd.DataFrame({"part": "XR_HAND", "patient": patient, "study": "study1", "label": patient % 2})
    ease = rng.normal(size=patients)[patient]

    def model(skill):
        return 1 / (1 + np.exp(-(skill * (table["label"] - 0.5) + ease + rng.normal(size=rows))))

    return table, model(1.5 + gap).to_numpy(), model(1.5).to_numpy()


@pytest.mark.parametrize("level", ["view", "study"])
def test_difference_is_of_the_two_evaluations_on_the_same_draws(level):
    table, a, b = cases(gap=1.0)
    found = compare(table, a, b, level, draws=150)
    one, two = evaluate(table, a, level, draws=0), evaluate(table, b, level, draws=0)
    np.testing.assert_allclose(found["first"], one["value"])
    np.testing.assert_allclose(found["second"], two["value"])
    np.testing.assert_allclose(found["difference"], one["value"] - two["value"])
    # The interval of one score by a plain loop over the same draws.
    if level == "study":
        studies = aggregate(table, a)
        y, p = studies["label"].to_numpy(), studies["probability"].to_numpy()
        q, patient = aggregate(table, b)["probability"].to_numpy(), studies["patient"].to_numpy()
    else:
        y, p, q, patient = table["label"].to_numpy(), a, b, table["patient"].to_numpy()
    code = pd.factorize(patient)[0]

    def difference(rows):
        return sk.roc_auc_score(y[rows], p[rows]) - sk.roc_auc_score(y[rows], q[rows])

    counts = patient_draws(code.max() + 1, 150, 0)
    loop = [difference(np.repeat(np.arange(len(y)), count[code].astype(int))) for count in counts]
    without = [difference(np.flatnonzero(code != one)) for one in range(code.max() + 1)]
    low, high = bca_interval(loop, found.loc["auroc", "difference"], without)
    assert found.loc["auroc", "low"] == pytest.approx(low)
    assert found.loc["auroc", "high"] == pytest.approx(high)
    assert found.attrs["rows"] == len(y)


def test_a_model_against_itself_and_against_a_better_one():
    table, a, b = cases(rows=600, patients=200, gap=2.0)
    same = compare(table, b, b, draws=300)
    assert (same[["difference", "low", "high"]] == 0).all(axis=None)
    assert (same["p"] == 1).all()
    better = compare(table, a, b, draws=300)
    assert better.loc["auroc", "low"] > 0
    assert better.loc["auroc", "p"] == pytest.approx(2 / 301)
    assert better.loc["error", "high"] < 0
    swapped = compare(table, b, a, draws=300)
    np.testing.assert_allclose(swapped["low"], -better["high"])
    # Paired, so narrower than the two intervals side by side.
    width = [evaluate(table, p, draws=300).loc["auroc", ["low", "high"]].diff().iloc[1] for p in (a, b)]
    assert better.loc["auroc", "high"] - better.loc["auroc", "low"] < np.hypot(*width)


def test_a_threshold_each():
    table, a, b = cases()
    found = compare(table, a, b, threshold=(0.3, 0.7), draws=20)
    assert found.loc["recall", "first"] == evaluate(table, a, threshold=0.3, draws=0).loc["recall", "value"]
    assert found.loc["recall", "second"] == evaluate(table, b, threshold=0.7, draws=0).loc["recall", "value"]


def test_undefined_differences():
    table = pd.DataFrame({"patient": list("abcd"), "label": [0, 0, 0, 1]})
    found = compare(table, [0.1, 0.2, 0.6, 0.9], [0.3, 0.2, 0.6, 0.9], draws=500)
    assert found.attrs["degenerate"] > 0.75**4 * 500 * 0.8
    alone = compare(table.assign(label=0), [0.1] * 4, [0.2] * 4, draws=50)
    assert alone.loc["auroc"].isna().all()
    assert alone.loc["accuracy", "difference"] == 0
    with pytest.raises(ValueError, match="draws=0"):
        compare(table, [0.1] * 4, [0.2] * 4, draws=0)


def test_mcnemar_by_hand():
    # 10 rows: 7 that only the first got right, 1 that only the second did, 2 both.
    label = np.ones(10, dtype=int)
    first = np.array([1] * 7 + [0] + [1, 1])
    second = np.array([0] * 7 + [1] + [1, 1])
    found = mcnemar(label, first, second)
    # Two-sided binomial(8, 1/2): 2 * (1 + 8) / 256.
    assert found == {"only_first": 7, "only_second": 1, "statistic": 1.0, "p": pytest.approx(18 / 256)}
    # Two patients: surpluses 4 and 2 (rows 0-3, rest): z = 6 / sqrt(16 + 4).
    grouped = mcnemar(label, first, second, groups=[0] * 4 + [1] * 6)
    assert grouped["statistic"] == pytest.approx(6 / np.sqrt(20))
    assert grouped["p"] == pytest.approx(2 * stats.norm.sf(6 / np.sqrt(20)))
    assert mcnemar(label, first, first)["p"] == 1.0
    assert mcnemar(label, first, first, groups=label)["p"] == 1.0


def test_mcnemar_over_patients_keeps_its_level():
    # Patients of four views on which both models err together: without patients it cries wolf.
    rng = np.random.default_rng(0)
    naive = grouped = 0
    for _ in range(400):
        patient = np.repeat(np.arange(60), 4)
        lead = rng.choice([-1, 0, 1], size=60)[patient]
        first = np.where(lead >= 0, 1, 0)
        second = np.where(lead <= 0, 1, 0)
        label = np.ones(240, dtype=int)
        naive += mcnemar(label, first, second)["p"] < 0.05
        grouped += mcnemar(label, first, second, groups=patient)["p"] < 0.05
    assert naive / 400 > 0.2
    assert 0.02 <= grouped / 400 <= 0.08


def naive_delong(y, a, b):
    """DeLong 1988 by double loop: structural components, then their sample covariance."""
    pos, neg = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    v10, v01 = np.zeros((2, len(pos))), np.zeros((2, len(neg)))
    for n, s in enumerate((a, b)):
        for i, one in enumerate(pos):
            for j, other in enumerate(neg):
                win = 1.0 if s[one] > s[other] else 0.5 if s[one] == s[other] else 0.0
                v10[n, i] += win / len(neg)
                v01[n, j] += win / len(pos)
    covariance = np.cov(v10) / len(pos) + np.cov(v01) / len(neg)
    return v10.mean(axis=1), covariance


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), decimals=st.sampled_from([1, 8]))
def test_delong_by_double_loop(seed, decimals):
    rng = np.random.default_rng(seed)
    y = np.append(rng.integers(2, size=26), [0, 0, 1, 1])
    a, b = (rng.normal(size=30) + y).round(decimals), (rng.normal(size=30) + y).round(decimals)
    area, covariance = naive_delong(y, a, b)
    found = delong(y, a, b)
    assert found["first"] == pytest.approx(sk.roc_auc_score(y, a))
    assert found["second"] == pytest.approx(area[1])
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert found["error"] == pytest.approx(np.sqrt(variance))
    assert found["error_first"] == pytest.approx(np.sqrt(covariance[0, 0]))
    assert found["error_second"] == pytest.approx(np.sqrt(covariance[1, 1]))
    if variance > 0:
        assert found["z"] == pytest.approx((area[0] - area[1]) / np.sqrt(variance))
        assert found["p"] == pytest.approx(2 * stats.norm.sf(abs(found["z"])))
        assert found["high"] - found["low"] == pytest.approx(2 * 1.959964 * found["error"], rel=1e-6)


def test_delong_and_bootstrap_over_patients_agree():
    table, a, b = cases(rows=900, patients=250, gap=0.7)
    formula = delong(table["label"], a, b, groups=table["patient"])
    drawn = compare(table, a, b, draws=1500).loc["auroc"]
    assert formula["difference"] == pytest.approx(drawn["difference"])
    assert formula["high"] - formula["low"] == pytest.approx(drawn["high"] - drawn["low"], rel=0.1)
    single = delong(table["label"], a, b, groups=np.arange(900))
    assert single == delong(table["label"], a, b)


def test_delong_of_equal_models_and_bad_input():
    y = [0, 1, 0, 1]
    same = delong(y, [1, 2, 3, 4], [10, 20, 30, 40])
    assert same["difference"] == same["z"] == 0
    assert same["p"] == 1
    # Without any spread there is a difference that no error can be put on.
    assert delong([0, 1, 0, 1], [0, 1, 0, 1], [1, 0, 1, 0])["p"] == 0
    with pytest.raises(ValueError, match="label holds 1 alone"):
        delong([1, 1], [0, 1], [0, 1])
    with pytest.raises(ValueError, match="second is nan at row 3; every score must be finite"):
        delong(y, y, [1, 2, 3, np.nan])
    with pytest.raises(
        ValueError, match=r"second has shape \(3,\); it must hold one score a row, shape \(4,\)"
    ):
        delong(y, y, [1, 2, 3])
    with pytest.raises(ValueError, match="confidence=95"):
        delong(y, y, y, confidence=95)
    with pytest.raises(ValueError, match="second has 3 rows, label has 4"):
        mcnemar(y, y, [0, 1, 1])
    lonely = delong(y, [1, 2, 3, 4], [4, 3, 2, 1], groups=[0, 0, 0, 0])
    assert np.isnan(lonely["error_first"])  # one patient tells nothing of the spread between patients
    # Nor do one abnormal row among many, or the abnormal rows of one patient: no interval, and no p of 0.
    for label, groups in (([1, 0, 0, 0], None), ([1, 1, 0, 0], [0, 0, 1, 2]), (y, [0, 0, 0, 0])):
        one = delong(label, [4, 3, 2, 1], [1, 2, 3, 4], groups=groups)
        assert np.isfinite([one["first"], one["second"], one["difference"]]).all()
        assert np.isnan([one[name] for name in ("error", "low", "high", "z", "p")]).all()


def test_thresholds_of_a_comparison():
    table, a, b = cases()
    pair = compare(table, a, b, threshold=(0.3, 0.7), draws=5)
    assert (
        pair.loc["accuracy", "first"] == evaluate(table, a, threshold=0.3, draws=0).loc["accuracy", "value"]
    )
    assert (
        pair.loc["accuracy", "second"] == evaluate(table, b, threshold=0.7, draws=0).loc["accuracy", "value"]
    )
    pd.testing.assert_frame_equal(compare(table, a, b, threshold=[0.3, 0.7], draws=5), pair)
    for threshold, message in (
        ((0.1, 0.2, 0.3), "it must be one number, or two, one a model"),
        (np.nan, "threshold=nan"),
        ((0.5, np.nan), "threshold=nan"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(table, a, b, threshold=threshold, draws=5)


@pytest.mark.parametrize("classes", [2, 3])
def test_pairwise_kappa_is_scikit_learns(classes):
    rng = np.random.default_rng(0)
    truth = rng.integers(classes, size=120)
    ratings = pd.DataFrame(
        {
            name: np.where(rng.random(120) < 0.7, truth, rng.integers(classes, size=120))
            for name in ("reader 1", "reader 2", "model")
        }
    )
    found = pairwise_kappa(ratings, groups=np.arange(120) // 2, draws=300)
    assert found[["first", "second"]].to_numpy().tolist() == [
        ["reader 1", "reader 2"],
        ["reader 1", "model"],
        ["reader 2", "model"],
    ]
    for _, pair in found.iterrows():
        one, two = ratings[pair["first"]], ratings[pair["second"]]
        assert pair["kappa"] == pytest.approx(sk.cohen_kappa_score(one, two))
        assert pair["agreement"] == pytest.approx((one == two).mean())
        assert pair["low"] < pair["kappa"] < pair["high"]
        assert pair["rows"] == 120


def test_pairwise_kappa_with_missing_ratings_and_words():
    ratings = pd.DataFrame({"a": ["n", "p", "p", None, "n"], "b": ["n", "p", "n", "p", None]})
    found = pairwise_kappa(ratings, draws=0).iloc[0]
    assert found["rows"] == 3
    assert found["kappa"] == pytest.approx(sk.cohen_kappa_score([0, 1, 1], [0, 1, 0]))
    assert np.isnan(found["low"])
    with pytest.raises(ValueError, match="two raters"):
        pairwise_kappa(ratings[["a"]])
    with pytest.raises(ValueError, match="'a' and 'b' rated no row in common"):
        pairwise_kappa(pd.DataFrame({"a": [1, None], "b": [None, 1]}))
    with pytest.raises(ValueError, match="ratings has no row"):
        pairwise_kappa(ratings[:0])
    with pytest.raises(ValueError, match="ratings has the column 'a' twice"):
        pairwise_kappa(ratings[["a", "a"]])
