"""Thresholds by sensitivity, the order of reading, and what it saves."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from siamura.evaluation import (
    aggregate,
    bca_interval,
    patient_draws,
    threshold_for_sensitivity,
    work_list,
    work_list_gain,
)


def studies(rows=80, patients=50, seed=0, decimals=8):
    rng = np.random.default_rng(seed)
    patient = rng.integers(patients, size=rows)
    table = pd.DataFrame({"part": "XR_HAND", "patient": patient, "study": "study1", "label": patient % 2})
    p = np.clip(0.35 + 0.3 * table["label"] + rng.normal(0, 0.2, rows), 0, 1).round(decimals)
    return table, p.to_numpy()


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10)), min_size=1, max_size=40),
    wanted=st.floats(0.01, 1.0),
)
def test_the_threshold_is_the_highest_that_will_do(rows, wanted):
    y = np.array([1] + [label for label, _ in rows])
    p = np.array([0.5] + [tenth / 10 for _, tenth in rows])
    threshold = threshold_for_sensitivity(y, p, wanted)

    def caught(cut):
        return (p[y == 1] > cut).mean()

    assert caught(threshold) >= wanted - 1e-9
    higher = np.unique(p[p > threshold])
    assert len(higher)
    assert caught(higher[0]) < wanted  # the next threshold that changes anything loses too many


def test_a_threshold_below_every_score():
    assert threshold_for_sensitivity([1, 0], [0.4, 0.9], 1.0) == 0.2
    zero = threshold_for_sensitivity([1, 0], [0.0, 0.9], 1.0)
    assert zero < 0
    assert zero < 0.0  # so that a score of zero is above it


def test_twenty_abnormal_at_95_percent_need_nineteen():
    p = np.linspace(0.05, 1.0, 20)
    assert (p > threshold_for_sensitivity(np.ones(20, dtype=int), p, 0.95)).sum() == 19


def test_bad_sensitivities_are_named():
    with pytest.raises(ValueError, match="sensitivity=0"):
        threshold_for_sensitivity([1], [0.5], 0)
    with pytest.raises(ValueError, match="sensitivity=95"):
        threshold_for_sensitivity([1], [0.5], 95)
    with pytest.raises(ValueError, match="label holds no 1"):
        threshold_for_sensitivity([0], [0.5])


def test_the_list_is_in_order_and_whole():
    table, p = studies(decimals=1)
    listed = work_list(table, p)
    whole = aggregate(table, p)
    assert listed["rank"].tolist() == list(range(1, len(whole) + 1))
    assert (np.diff(listed["probability"]) <= 0).all()
    assert sorted(listed["arrived"]) == listed["rank"].tolist()
    assert set(listed["patient"]) == set(whole["patient"])
    for _, tied in listed.groupby("probability"):
        assert (np.diff(tied["arrived"]) > 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), decimals=st.sampled_from([1, 8]))
def test_mean_ranks_counted_one_by_one(seed, decimals):
    table, p = studies(seed=seed, decimals=decimals)
    whole = aggregate(table, p)
    abnormal = (whole["label"] == 1).to_numpy()
    arrival = np.random.default_rng(seed).random(len(table))
    keys = ["part", "patient", "study"]
    came = table.assign(at=arrival).groupby(keys, sort=False)["at"].min().to_numpy()
    gain = work_list_gain(table, p, arrival=arrival, minutes=3, draws=0)["value"]
    model = stats.rankdata(-whole["probability"])[abnormal].mean()
    first = stats.rankdata(came)[abnormal].mean()
    best = (abnormal.sum() + 1) / 2
    assert gain["rank_model"] == pytest.approx(model)
    assert gain["rank_first_come"] == pytest.approx(first)
    assert gain["rank_best"] == pytest.approx(best)
    assert gain["saved"] == pytest.approx(first - model)
    assert gain["saved_share"] == pytest.approx((first - model) / (first - best))
    assert gain["saved_minutes"] == pytest.approx(3 * (first - model))
    anyhow = work_list_gain(table, p, draws=0)["value"]
    assert anyhow["rank_first_come"] == pytest.approx((len(whole) + 1) / 2)
    read = work_list(table, p)["label"].cumsum()
    until = 1 + np.argmax(read.to_numpy() >= 0.9 * abnormal.sum() - 1e-9)
    assert gain["read_for_90"] == pytest.approx(until / len(whole))


def test_intervals_of_the_gain_by_a_plain_loop():
    table, p = studies()
    gain = work_list_gain(table, p, draws=100, seed=2)
    whole = aggregate(table, p)

    def mean_rank(rows):
        again = whole.loc[rows]
        again = again.assign(patient=np.arange(len(again)))  # each time she is drawn she is another patient
        return work_list_gain(again, again["probability"], draws=0).loc["rank_model", "value"]

    everybody = np.arange(len(whole))
    loop = [mean_rank(np.repeat(everybody, c.astype(int))) for c in patient_draws(len(whole), 100, 2)]
    without = [mean_rank(everybody[everybody != one]) for one in everybody]
    low, high = bca_interval(loop, mean_rank(everybody), without)
    assert gain.loc["rank_model", ["low", "high"]].tolist() == pytest.approx([low, high])
    assert gain.attrs == {
        "studies": len(whole),
        "abnormal": int(whole["label"].sum()),
        "patients": len(whole),
        "draws": 100,
        "degenerate": 0,
    }


def test_perfect_and_already_perfect():
    table = pd.DataFrame({"part": "p", "patient": list("abcd"), "study": "s", "label": [1, 1, 0, 0]})
    perfect = work_list_gain(table, [0.9, 0.8, 0.1, 0.2], draws=0)["value"]
    assert perfect["rank_model"] == perfect["rank_best"] == 1.5
    assert perfect["saved_share"] == 1
    nothing_left = work_list_gain(table, [0.9, 0.8, 0.1, 0.2], arrival=[1, 2, 3, 4], draws=0)["value"]
    assert nothing_left["saved"] == nothing_left["saved_share"] == 0


def test_bad_lists_are_named():
    table, p = studies()
    with pytest.raises(ValueError, match="studies have the label 0; a gain needs both"):
        work_list_gain(table.assign(label=0), p)
    with pytest.raises(ValueError, match=r"arrival has shape \(3,\); it must hold one time a row"):
        work_list_gain(table, p, arrival=[1, 2, 3])
    with pytest.raises(ValueError, match="arrival is missing at row 0"):
        work_list_gain(table, p, arrival=[np.nan] * 80)
    for minutes in (0, -1, np.nan):
        with pytest.raises(ValueError, match=f"minutes={minutes} must be a finite number above 0"):
            work_list_gain(table, p, minutes=minutes)
    with pytest.raises(ValueError, match="table has no column 'part'"):
        work_list(table.drop(columns="part"), p)
