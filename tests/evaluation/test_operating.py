"""Calibration and threshold fitted on patients apart: known answers, what is measured apart, what is kept."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax

from siamura.evaluation import (
    IsotonicCalibration,
    OperatingPoint,
    TemperatureScaling,
    calibrate,
    fit_operating_point,
    out_of_fold_probability,
)
from siamura.heads import KNNHead


def drawn(count=1200, temperature=3.0, seed=0):
    """Rows whose true probability is sigmoid(logit), answered with a logit `temperature` times too large."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=count)
    label = (rng.random(count) < expit(logit)).astype(int)
    table = pd.DataFrame({"part": "hand", "patient": np.arange(count) // 2, "study": "s1", "label": label})
    return table, expit(temperature * logit)


def test_a_known_temperature_of_many_classes_is_found():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 4))
    label = (rng.random((4000, 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1)
    bold = softmax(2.5 * logits, axis=1)
    scaling = TemperatureScaling(clip=1e-9).fit(bold, label)
    assert scaling.temperature_ == pytest.approx(2.5, abs=0.15)
    np.testing.assert_allclose(
        scaling.predict(bold), softmax(2.5 / scaling.temperature_ * logits, axis=1), atol=1e-6
    )
    apart = calibrate(pd.DataFrame({"label": label, "patient": np.arange(4000) // 4}), bold)
    assert apart.shape == (4000, 4)
    truth = np.eye(4)[label]
    assert ((apart - truth) ** 2).sum() < ((bold - truth) ** 2).sum()


def test_two_columns_are_two_classes():
    table, p = drawn(200)
    one, two = (
        TemperatureScaling().fit(given, table["label"]) for given in (p, np.stack([1 - p, p], axis=1))
    )
    assert one.temperature_ == two.temperature_


def test_isotonic_is_for_two_classes():
    with pytest.raises(ValueError, match="probability has 3 classes; isotonic calibration is for two"):
        IsotonicCalibration().fit(np.eye(3), [0, 1, 2])


@pytest.mark.parametrize("method", ["temperature", "isotonic", "none"])
def test_the_wanted_sensitivity_is_met_and_kept(method):
    table, p = drawn()
    point = fit_operating_point(table, p, sensitivity=0.8, method=method, draws=100)
    label = table["label"].to_numpy()
    caught = point.decide(p)[label == 1].mean()
    assert caught >= 0.8
    if method != "isotonic":  # its steps tie rows, which are caught together
        assert caught < 0.8 + 1 / label.sum() + 1e-9
    assert point.apart["sensitivity"] == pytest.approx(0.8, abs=0.06)
    assert point.apart["sensitivity_low"] < 0.8 < point.apart["sensitivity_high"]
    if method == "none":
        assert point.apart["brier"] == point.apart["brier_before"]
    else:
        assert point.apart["brier"] < point.apart["brier_before"]
    again = OperatingPoint.from_dict(json.loads(json.dumps(point.to_dict())))
    assert again == point
    np.testing.assert_array_equal(again.decide(p), point.decide(p))


@pytest.mark.parametrize("method", ["temperature", "isotonic", "none"])
def test_a_threshold_that_calls_all_positive_is_told(method, caplog):
    # As of a k-NN: a fifth of the positive rows have no positive neighbour, and so have most of the others.
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], [120, 60])
    votes = np.where(label == 1, rng.integers(4, 12, 180), rng.integers(0, 3, 180))
    votes[label == 1] *= rng.random(60) > 0.2
    table = pd.DataFrame({"label": label, "patient": np.arange(180)})
    point = fit_operating_point(table, votes / 15, sensitivity=0.9, method=method, draws=0)
    assert point.decide(votes / 15).all()
    assert point.calls_all
    assert "every view is called positive" in point.warning
    assert "only this reaches a sensitivity of 0.90" in caplog.text
    caplog.clear()
    point = fit_operating_point(table, votes / 15, sensitivity=0.7, method=method, draws=0)
    assert not point.decide(votes / 15).all()
    assert not point.calls_all
    assert point.warning == ""
    assert "called positive" not in caplog.text


def test_what_is_measured_apart_has_seen_no_label_of_its_own():
    """Labels drawn at random, probabilities too: isotonic fits them, apart it does not help."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"label": rng.integers(0, 2, 300), "patient": np.arange(300) // 3})
    p = rng.random(300)
    point = fit_operating_point(table, p, method="isotonic", draws=0)
    fitted = ((point.calibrate(p) - table["label"]) ** 2).mean()
    assert fitted < 0.25 < point.apart["brier"]


def test_studies_and_classes():
    table, p = drawn(400)
    point = fit_operating_point(table, p, level="study", draws=0)
    assert (point.level, point.rows, point.patients) == ("study", 200, 200)
    label = np.arange(300) % 3
    share = softmax(4 * (np.eye(3)[label] + np.random.default_rng(0).normal(size=(300, 3))), axis=1)
    many = fit_operating_point(pd.DataFrame({"label": label, "patient": np.arange(300)}), share)
    assert many.threshold is None
    assert many.calibrate(share).shape == (300, 3)
    np.testing.assert_array_equal(many.decide(share), share.argmax(axis=1))
    assert many.apart["brier"] < many.apart["brier_before"]
    assert OperatingPoint.from_dict(many.to_dict()) == many


def test_few_patients_are_said(caplog):
    point = fit_operating_point(
        pd.DataFrame({"label": [0, 1], "patient": ["a", "b"]}), [0.2, 0.7], method="none"
    )
    assert point.apart == {}
    assert "not measured on patients apart" in caplog.text
    assert point.threshold == pytest.approx(0.45)


def test_a_head_answers_for_patients_it_was_not_fitted_on():
    """Each patient's rows are one point of its own: a head that had seen them would know their labels."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 100)
    table = pd.DataFrame({"label": label.repeat(2), "patient": np.arange(100).repeat(2)})
    embeddings = rng.normal(size=(100, 8)).repeat(2, axis=0)
    apart = out_of_fold_probability(KNNHead(k=1), embeddings, table)
    assert 0.3 < (apart == table["label"]).mean() < 0.7
    assert (KNNHead(k=1).fit(embeddings, table["label"]).predict(embeddings) == table["label"]).all()
    three = out_of_fold_probability(
        KNNHead(k=3), embeddings, table.assign(label=np.arange(100).repeat(2) % 3)
    )
    np.testing.assert_allclose(three.sum(axis=1), 1)
    assert three.shape == (200, 3)
    with pytest.raises(ValueError, match="two of each of two labels are needed"):
        out_of_fold_probability(KNNHead(k=1), embeddings[:3], table.iloc[:3])


def test_refusals():
    table, p = drawn(20)
    for change, message in (
        ({"sensitivity": 0}, "sensitivity=0"),
        ({"method": "platt"}, "method='platt' is unknown"),
        ({"folds": 1}, "folds=1"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_operating_point(table, p, **change)
    with pytest.raises(ValueError, match="method='isotonic' is for two classes"):
        fit_operating_point(table.assign(label=0), np.tile([0.2, 0.3, 0.5], (20, 1)), method="isotonic")
    kept = fit_operating_point(table, p, draws=0).to_dict()
    for damaged in ({}, [], {**kept, "level": "patient"}, {**kept, "threshold": "high"}, {**kept, "rows": 0}):
        with pytest.raises(ValueError, match=r"kept=|level=|threshold=|rows="):
            OperatingPoint.from_dict(damaged)
