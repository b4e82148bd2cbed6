"""Net benefit against the dcurves package, and by hand."""

import warnings

import numpy as np
import pandas as pd
import pytest

from siamura.evaluation import net_benefit
from siamura.plots import decision_curve


def drawn(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    patient = np.arange(rows) // 3
    y = rng.integers(2, size=patient.max() + 1)[patient]
    return (
        y,
        1
        / (
            1 + np.exp(-(1.5 * (y - 0.5) + rng.normal(size=rows // 3)[patient] + 0.1 * rng.normal(size=rows)))
        ),
        patient,
    )


def test_it_is_dcurves():
    dcurves = pytest.importorskip("dcurves")
    y, p, _ = drawn()
    t = np.linspace(0.05, 0.95, 19)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = dcurves.dca(
            data=pd.DataFrame({"y": y, "p": p}), outcome="y", modelnames=["p"], thresholds=t
        ).set_index(["model", "threshold"])["net_benefit"]
    ours = net_benefit(y, p, thresholds=t, draws=0)
    np.testing.assert_allclose(ours["model"], theirs.loc["p"].to_numpy(), atol=1e-12)
    np.testing.assert_allclose(ours["all"], theirs.loc["all"].to_numpy(), atol=1e-12)


def test_intervals_are_over_patients():
    y, p, patient = drawn()
    by_patient = net_benefit(y, p, groups=patient, thresholds=[0.2, 0.5], draws=300)
    by_row = net_benefit(y, p, thresholds=[0.2, 0.5], draws=300)
    assert ((by_patient["low"] < by_patient["model"]) & (by_patient["model"] < by_patient["high"])).all()
    assert ((by_patient["high"] - by_patient["low"]) > (by_row["high"] - by_row["low"])).all()
    assert by_patient.attrs["patients"] == 100
    assert net_benefit(y, p, draws=0)["low"].isna().all()


def test_ends():
    y, p, _ = drawn()
    perfect = net_benefit(y, y.astype(float), thresholds=[0.01, 0.5, 0.99], draws=0)
    np.testing.assert_allclose(perfect["model"], y.mean())
    np.testing.assert_allclose(net_benefit(y, np.zeros(300), draws=0)["model"], 0)
    np.testing.assert_allclose(
        net_benefit(y, np.ones(300), draws=0)["model"], net_benefit(y, p, draws=0)["all"], atol=1e-12
    )


@pytest.mark.parametrize("thresholds", [[], [0], [1], [np.nan], [[0.5]], [0.5, 1.2]])
def test_bad_thresholds(thresholds):
    with pytest.raises(ValueError, match=r"thresholds=.* must hold numbers above 0 and below 1"):
        net_benefit([0, 1], [0.2, 0.7], thresholds=thresholds)


def test_the_figure():
    y, p, patient = drawn()
    figure = decision_curve({"a": (y, p, patient), "b": (y, 1 - p, patient)}, draws=50)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "all abnormal", "none"]
    curve = net_benefit(y, p, draws=0)
    line = next(line for line in axes.lines if line.get_label() == "a")
    np.testing.assert_allclose(line.get_ydata(), curve["model"])
    assert axes.get_ylim()[0] < 0 < y.mean() < axes.get_ylim()[1]
    text = " ".join(text.get_text() for text in figure.texts)
    assert "100 patients" in text
