"""Calibration, reliability, ROC and PR: known answers, scikit-learn, patients apart."""

import json

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from siamura.evaluation import (
    IsotonicCalibration,
    TemperatureScaling,
    calibrate,
    calibrator_from_dict,
    evaluate,
    patient_draws,
    pr_curve,
    reliability,
    roc_curve,
    score_draws,
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def answers(rows=400, seed=0, decimals=None, patients=100):
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=rows)
    p = sigmoid(2 * (y - 0.5) + rng.normal(size=rows))
    return y, p if decimals is None else p.round(decimals), rng.integers(patients, size=rows)


def test_the_temperature_that_was_put_in_is_found():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1.2, 40_000)
    y = (rng.random(40_000) < sigmoid(logit)).astype(int)
    scaling = TemperatureScaling(clip=1e-6).fit(sigmoid(3 * logit), y)
    assert scaling.temperature_ == pytest.approx(3, rel=0.05)
    np.testing.assert_allclose(scaling.predict(sigmoid(3 * logit)), sigmoid(logit), atol=0.02)


def test_the_temperature_is_the_best_of_a_grid():
    y, p, _ = answers()
    scaling = TemperatureScaling().fit(p, y)
    best = sk.log_loss(y, scaling.predict(p))
    for temperature in np.geomspace(0.05, 20, 60):
        other = TemperatureScaling()
        other.temperature_ = temperature
        assert sk.log_loss(y, other.predict(p)) >= best - 1e-12


def test_temperature_keeps_the_order_and_the_side():
    y, p, _ = answers()
    out = TemperatureScaling().fit(p**3, y).predict(p)
    assert (np.diff(out[np.argsort(p)]) >= 0).all()
    np.testing.assert_array_equal(out > 0.5, p > 0.5)
    certain = TemperatureScaling().fit([0, 0, 1, 1], [0, 1, 1, 0]).predict([0.0, 1.0])
    np.testing.assert_allclose(certain, 0.5, atol=0.04)  # sure, and wrong half the time: as meek as it can be


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), decimals=st.sampled_from([1, 2, 8]))
def test_isotonic_is_scikit_learns(seed, decimals):
    y, p, _ = answers(rows=60, seed=seed, decimals=decimals)
    new = np.linspace(0, 1, 33)
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, y)
    ours = IsotonicCalibration().fit(p, y)
    np.testing.assert_allclose(ours.predict(new), theirs.predict(new), atol=1e-12)
    assert (np.diff(ours.predict(new)) >= 0).all()


@pytest.mark.parametrize("make", [TemperatureScaling, IsotonicCalibration])
def test_kept_as_json(make):
    y, p, _ = answers()
    fitted = make().fit(p, y)
    again = calibrator_from_dict(json.loads(json.dumps(fitted.to_dict())))
    np.testing.assert_array_equal(again.predict(p), fitted.predict(p))
    with pytest.raises(ValueError, match=r"is not fitted; call fit\(probability, label\) first"):
        make().predict(p)


def test_bad_calibrators_are_named():
    with pytest.raises(ValueError, match="method=None is unknown; choose one of temperature, isotonic"):
        calibrator_from_dict({})
    with pytest.raises(ValueError, match="clip=0"):
        TemperatureScaling(clip=0)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_calibration_has_no_say_of_the_own_patient(method):
    y, p, patient = answers()
    table = pd.DataFrame({"label": y, "patient": patient})
    out = calibrate(table, p, method, folds=4, seed=1)
    np.testing.assert_array_equal(out, calibrate(table, p, method, folds=4, seed=1))
    # Scores that carry nothing but each patient's own label would come out right, if she had a say.
    rng = np.random.default_rng(0)
    named = rng.random(100)[patient]
    own = rng.integers(2, size=100)[patient]
    apart = calibrate(table.assign(label=own), named, method)
    assert sk.roc_auc_score(own, apart) < 0.6
    together = IsotonicCalibration().fit(named, own).predict(named)
    assert sk.roc_auc_score(own, together) > sk.roc_auc_score(own, apart)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_calibration_helps_the_boastful(method):
    y, p, patient = answers(rows=2000, patients=500)
    boastful = sigmoid(4 * np.log(p / (1 - p)))
    out = calibrate(pd.DataFrame({"label": y, "patient": patient}), boastful, method)
    before, after = score_draws(y, boastful), score_draws(y, out)
    assert after["ece"][0] < 0.7 * before["ece"][0]
    assert after["brier"][0] < before["brier"][0]
    with pytest.raises(ValueError, match="folds=1"):
        calibrate(pd.DataFrame({"label": y, "patient": patient}), p, folds=1)
    with pytest.raises(ValueError, match="method='platt'"):
        calibrate(pd.DataFrame({"label": y, "patient": patient}), p, "platt")


def test_reliability_by_hand():
    frame = reliability(
        [0, 0, 1, 1, 0, 1], [0.0, 0.5, 0.5, 0.6, 1.0, 1.0], groups=list("aabbcc"), bins=2, draws=0
    )
    # Up to and with 0.5: 0, 0.5, 0.5 with one abnormal of patients a, b; above: 0.6, 1, 1 with two of b, c.
    assert frame["rows"].tolist() == [3, 3]
    assert frame["patients"].tolist() == [2, 2]
    np.testing.assert_allclose(frame["probability"], [1 / 3, 2.6 / 3])
    np.testing.assert_allclose(frame["frequency"], [1 / 3, 2 / 3])
    assert frame[["left", "right"]].to_numpy().tolist() == [[0, 0.5], [0.5, 1]]
    assert frame.attrs["ece"] == pytest.approx(0.5 * 0.2)
    assert frame["low"].isna().all()


def test_reliability_and_the_calibration_error_agree():
    y, p, patient = answers(decimals=2)
    frame = reliability(y, p, groups=patient, bins=15, draws=200)
    assert frame.attrs["ece"] == pytest.approx(score_draws(y, p, bins=15)["ece"][0])
    assert frame.attrs["brier"] == pytest.approx(sk.brier_score_loss(y, p))
    assert ((frame["low"] <= frame["frequency"]) & (frame["frequency"] <= frame["high"])).all()
    assert frame["rows"].sum() == len(y)
    again = reliability(y, p, groups=patient, bins=15, draws=200)
    pd.testing.assert_frame_equal(frame, again)


def test_reliability_in_bins_of_equal_size():
    y, p, _ = answers()
    frame = reliability(y, p, bins=8, strategy="quantile", draws=0)
    assert frame["rows"].tolist() == [50] * 8
    tied = reliability([0, 1, 1], [0.5, 0.5, 0.5], bins=8, strategy="quantile", draws=10)
    assert tied["rows"].tolist() == [3]
    for change, message in (({"bins": 0}, "bins=0"), ({"strategy": "kmeans"}, "strategy='kmeans'")):
        with pytest.raises(ValueError, match=message):
            reliability(y, p, **change)


@pytest.mark.parametrize("decimals", [1, 8])
def test_roc_curve_is_scikit_learns(decimals):
    y, p, _ = answers(decimals=decimals)
    frame = roc_curve(y, p, points=401, draws=0)
    fpr, tpr, _ = sk.roc_curve(y, p, drop_intermediate=False)
    for x, height in zip(fpr, tpr, strict=True):
        on_grid = np.isclose(frame["fpr"], x)
        if on_grid.any():
            assert frame["tpr"][on_grid].iloc[0] >= height - 1e-9
    assert frame["tpr"].iloc[-1] == 1
    assert (np.diff(frame["tpr"]) >= 0).all()
    assert np.trapezoid(frame["tpr"], frame["fpr"]) == pytest.approx(frame.attrs["auroc"], abs=5e-3)
    assert frame.attrs["auroc"] == pytest.approx(sk.roc_auc_score(y, p))
    assert frame["low"].isna().all()


@pytest.mark.parametrize("decimals", [1, 8])
def test_pr_curve_is_scikit_learns(decimals):
    y, p, _ = answers(rows=80, decimals=decimals)
    frame = pr_curve(y, p, points=y.sum() + 1, draws=0)
    precision, recall, _ = sk.precision_recall_curve(y, p)
    for wanted, found in zip(frame["recall"][1:], frame["precision"][1:], strict=True):
        # The highest threshold that reaches the recall: the smallest recall that is enough.
        enough = np.where(recall >= wanted - 1e-9)[0].max()
        assert found == pytest.approx(precision[enough])
    assert frame.attrs["average_precision"] == pytest.approx(sk.average_precision_score(y, p))
    assert frame.attrs["prevalence"] == y.mean()


@pytest.mark.parametrize("curve", [roc_curve, pr_curve])
def test_bands_are_those_of_a_plain_loop(curve):
    y, p, patient = answers(rows=60, patients=25, decimals=2)
    code = pd.factorize(patient)[0]
    frame = curve(y, p, groups=patient, points=11, draws=60)
    value = frame.columns[1]
    loop = []
    for count in patient_draws(code.max() + 1, 60, 0):
        rows = np.repeat(np.arange(60), count[code].astype(int))
        loop.append(curve(y[rows], p[rows], points=11, draws=0)[value].to_numpy())
    low, high = np.quantile(loop, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(frame["low"], low, atol=1e-9)
    np.testing.assert_allclose(frame["high"], high, atol=1e-9)
    assert frame.attrs["patients"] == code.max() + 1
    assert frame.attrs["rows"] == 60
    area = "auroc" if curve is roc_curve else "average_precision"
    scores = evaluate(pd.DataFrame({"label": y, "patient": patient}), p, draws=60)
    assert [frame.attrs[area + end] for end in ("", "_low", "_high")] == scores.loc[area].tolist()


@pytest.mark.parametrize("curve", [roc_curve, pr_curve])
def test_degenerate_draws_of_a_curve(curve):
    frame = curve([0, 0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.9], points=5, draws=400)
    assert frame.attrs["degenerate"] / 400 == pytest.approx(0.8**5, abs=0.06)
    assert np.isfinite(frame["low"]).all()
    with pytest.raises(ValueError, match="label holds 1 alone; a curve needs both labels"):
        curve([1, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="confidence=95"):
        curve([0, 1], [0.1, 0.2], confidence=95)
    with pytest.raises(ValueError, match="points=1 must be a whole number of at least 2"):
        curve([0, 1], [0.1, 0.2], points=1)


def test_a_band_of_mostly_degenerate_draws_is_none():
    frame = roc_curve([0, 1], [0.1, 0.9], draws=200)  # half of the draws have one label: the odds decide
    alone = (patient_draws(2, 200, 0).max(axis=1) == 2).sum()
    assert frame.attrs["degenerate"] == alone
    assert frame["low"].isna().all() == (2 * alone > 200)
