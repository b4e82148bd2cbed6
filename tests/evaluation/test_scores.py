"""evaluate and what is under it: hand-worked values, scikit-learn, plain loops."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import siamura
from siamura.evaluation import (
    METRICS,
    aggregate,
    bca_interval,
    evaluate,
    interval,
    inverted_interval,
    patient_draws,
    score_draws,
)
from siamura.evaluation.scores import said_once


def views(rows=300, patients=60, seed=0, decimals=None):
    rng = np.random.default_rng(seed)
    patient = rng.integers(patients, size=rows)
    table = pd.DataFrame(
        {
            "path": "x",
            "part": np.where(patient % 2, "XR_HAND", "XR_WRIST"),
            "patient": [f"patient{p:05d}" for p in patient],
            "study": [f"study{n}" for n in rng.integers(1, 3, size=rows)],
        }
    )
    key = table["patient"] + table["study"]
    table["label"] = (key.map({k: int(rng.random() < 0.45) for k in sorted(set(key))})).astype("int64")
    p = np.clip(0.25 + 0.3 * table["label"] + rng.normal(0, 0.25, rows), 0, 1)
    return table, p if decimals is None else p.round(decimals)


def test_the_public_name():
    assert siamura.evaluate is evaluate


def test_every_score_by_hand():
    # Six rows at threshold 0.5:    TN    FP    FP    TP    FN    TP
    label = np.array([0, 0, 0, 1, 1, 1])
    p = np.array([0.1, 0.6, 0.8, 0.9, 0.4, 0.7])
    # TP 2, FN 1, TN 1, FP 2. Chance agreement: (3 * 4 + 3 * 2) / 36 = 1/2.
    # Pairs won: 0.9 beats 3, 0.4 beats 1, 0.7 beats 2: 6 of 9.
    # From the top: 0.9 (1/1), 0.8 -, 0.7 (2/3), 0.6 -, 0.4 (3/5): (1 + 2/3 + 3/5) / 3.
    # Squares: .01 + .36 + .64 + .01 + .36 + .09 = 1.47.
    # Two bins: up to 0.5 holds 0.1, 0.4 with one abnormal: |0.5 - 1| / 6; above: |3.0 - 2| / 6.
    expected = {
        "accuracy": 3 / 6,
        "error": 3 / 6,
        "kappa": 0.0,
        "precision": 2 / 4,
        "recall": 2 / 3,
        "specificity": 1 / 3,
        "f1": 4 / 7,
        "precision_normal": 1 / 2,
        "recall_normal": 1 / 3,
        "f1_normal": 2 / 5,
        "precision_macro": 1 / 2,
        "recall_macro": 1 / 2,
        "f1_macro": (4 / 7 + 2 / 5) / 2,
        "precision_weighted": 1 / 2,
        "recall_weighted": 1 / 2,
        "f1_weighted": (4 / 7 + 2 / 5) / 2,
        "auroc": 6 / 9,
        "average_precision": (1 + 2 / 3 + 3 / 5) / 3,
        "brier": 1.47 / 6,
        "ece": (0.5 + 1.0) / 6,
    }
    found = score_draws(label, p, bins=2)
    assert list(found) == list(expected) == list(METRICS)
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, abs=1e-12), name


def by_sklearn(y, p, threshold=0.5):
    said = (p > threshold).astype(int)
    out = {
        "accuracy": sk.accuracy_score(y, said),
        "error": sk.zero_one_loss(y, said),
        "kappa": sk.cohen_kappa_score(y, said),
        "specificity": sk.recall_score(y, said, pos_label=0),
        "auroc": sk.roc_auc_score(y, p),
        "average_precision": sk.average_precision_score(y, p),
        "brier": sk.brier_score_loss(y, p),
    }
    for score in ("precision", "recall", "f1"):
        function = getattr(sk, f"{score}_score")
        out[score] = function(y, said)
        out[f"{score}_normal"] = function(y, said, pos_label=0)
        out[f"{score}_macro"] = function(y, said, average="macro")
        out[f"{score}_weighted"] = function(y, said, average="weighted")
    return out


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=4, max_size=60),
    threshold=st.sampled_from([0.25, 0.5, 0.7]),
)
def test_agrees_with_scikit_learn(rows, threshold):
    y = np.array([0, 1, 0, 1] + [label for label, _ in rows])
    p = np.array([0.0, 1.0, 1.0, 0.0] + [twentieth / 20 for _, twentieth in rows])
    found = score_draws(y, p, threshold=threshold)
    for name, value in by_sklearn(y, p, threshold).items():
        assert found[name][0] == pytest.approx(value, abs=1e-9), name


def naive_ece(y, p, bins):
    total = 0.0
    edges = np.linspace(0, 1, bins + 1)
    for n in range(bins):
        here = (p > edges[n]) & (p <= edges[n + 1]) | ((n == 0) & (p == 0))
        if here.any():
            total += here.sum() * abs(p[here].mean() - y[here].mean())
    return total / len(y)


def naive_tilts(y, p, bins):
    """Each bin's share of the calibration error, with its sign."""
    edges = np.linspace(0, 1, bins + 1)
    inside = [(p > edges[n]) & (p <= edges[n + 1]) | ((n == 0) & (p == 0)) for n in range(bins)]
    return np.array([(p - y)[here].sum() / len(y) for here in inside])


def test_inverted_interval_where_there_is_little_to_invert():
    noise = np.random.default_rng(0).normal(size=(1000, 3))
    assert inverted_interval(noise, np.zeros(3)) == (0.0, 0.0)
    few = noise.copy()
    few[:600] = np.nan
    assert np.isnan(inverted_interval(few, np.ones(3))).all()
    assert np.isnan(inverted_interval(noise, np.array([1.0, np.nan, 1.0]))).all()
    # Far from 0 and alone, a bin is an ordinary number: the interval is that of its noise.
    low, high = inverted_interval(50 + noise[:, :1], np.array([50.0]))
    np.testing.assert_allclose([low, high], 50 - np.quantile(noise[:, 0], [0.975, 0.025]), atol=0.1)
    wider = inverted_interval(50 + noise[:, :1], np.array([50.0]), 0.99)
    assert wider[0] < low < high < wider[1]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), bins=st.integers(1, 20), decimals=st.sampled_from([1, 2, 6]))
def test_calibration_error_bin_by_bin(seed, bins, decimals):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(2, size=50), rng.random(50).round(decimals)
    assert score_draws(y, p, bins=bins)["ece"][0] == pytest.approx(naive_ece(y, p, bins), abs=1e-12)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 9999), decimals=st.sampled_from([1, 3, 8]))
def test_a_draw_is_the_score_of_the_rows_it_repeats(seed, decimals):
    table, p = views(rows=40, patients=9, seed=seed, decimals=decimals)
    y, patient = table["label"].to_numpy(), pd.factorize(table["patient"])[0]
    counts = patient_draws(patient.max() + 1, 7, seed)
    found = score_draws(y, p, counts, groups=patient)
    for draw, count in enumerate(counts):
        rows = np.repeat(np.arange(40), count[patient].astype(int))
        if len(set(y[rows])) < 2 or len(set(p[rows] > 0.5)) < 2:
            continue
        for name, value in by_sklearn(y[rows], p[rows]).items():
            assert found[name][draw] == pytest.approx(value, abs=1e-9), name


def test_many_draws_are_scored_in_blocks_alike():
    table, p = views()
    counts = patient_draws(table["patient"].nunique(), 300, 0)
    whole = score_draws(table["label"], p, counts, groups=table["patient"])
    halves = [
        score_draws(table["label"], p, part, groups=table["patient"]) for part in (counts[:7], counts[7:])
    ]
    for name in METRICS:
        np.testing.assert_allclose(whole[name], np.concatenate([half[name] for half in halves]), atol=1e-12)


def test_draws_hold_whole_patients():
    counts = patient_draws(50, 400, seed=3)
    assert counts.shape == (400, 50)
    assert (counts.sum(axis=1) == 50).all()
    np.testing.assert_array_equal(counts, patient_draws(50, 400, seed=3))
    assert not np.array_equal(counts, patient_draws(50, 400, seed=4))
    assert counts.mean() == 1
    assert counts.var() == pytest.approx(1 - 1 / 50, rel=0.05)  # binomial(50, 1/50)


def test_intervals_are_those_of_a_plain_loop():
    table, p = views(rows=120, patients=30)
    y, patient = table["label"].to_numpy(), table["patient"].to_numpy()
    scores = evaluate(table, p, draws=100, seed=5)
    drawn = np.random.default_rng(5).integers(30, size=(100, 30))
    names = pd.unique(patient)
    loop = []
    for draw in drawn:
        rows = np.concatenate([np.flatnonzero(patient == names[n]) for n in draw])
        loop.append(sk.cohen_kappa_score(y[rows], p[rows] > 0.5))
    without = [sk.cohen_kappa_score(y[patient != one], p[patient != one] > 0.5) for one in names]
    low, high = bca_interval(loop, sk.cohen_kappa_score(y, p > 0.5), without)
    assert scores.loc["kappa", "low"] == pytest.approx(low)
    assert scores.loc["kappa", "high"] == pytest.approx(high)


@pytest.mark.parametrize("factor", [1.0, 0.5])  # near a perfect model, and far from one
def test_calibration_error_interval_is_that_of_a_plain_loop(factor):
    table, p = views(rows=120, patients=30)
    p = factor * p
    y, patient = table["label"].to_numpy(), table["patient"].to_numpy()
    found = evaluate(table, p, draws=100, seed=5).loc["ece"]
    names = pd.unique(patient)
    tilts = []
    for draw in np.random.default_rng(5).integers(30, size=(100, 30)):
        rows = np.concatenate([np.flatnonzero(patient == names[n]) for n in draw])
        tilts.append(naive_tilts(y[rows], p[rows], 15))
    seen = naive_tilts(y, p, 15)
    error = np.abs(seen).sum()
    assert found["value"] == pytest.approx(error) == pytest.approx(naive_ece(y, p, 15))
    # Each bin a quarter of its left neighbour, half itself and a quarter of its right one; at an end, of itself.
    smooth = np.array([(seen[max(b - 1, 0)] + 2 * seen[b] + seen[min(b + 1, 14)]) / 4 for b in range(15)])
    smooth /= np.abs(smooth).sum()
    # Every true error on a fine grid under which one as far out as that seen comes in 2.5 % of the draws at least.
    usual = []
    for true in np.linspace(0, 3 * error, 1201):
        drawn = [np.abs(smooth * true + tilt - seen).sum() for tilt in tilts]
        if min(np.mean(np.array(drawn) >= error), np.mean(np.array(drawn) <= error)) >= 0.025:
            usual.append(true)
    assert [found["low"], found["high"]] == pytest.approx([usual[0], usual[-1]], abs=error / 200)
    assert (usual[0] == 0) == (factor == 1)
    assert usual[0] < error < usual[-1]


@pytest.mark.parametrize("skew", [0.2, 1.0])
def test_bca_is_scipys(skew):
    x = np.random.default_rng(0).lognormal(0, skew, size=50)
    theirs = stats.bootstrap((x,), np.mean, n_resamples=1500, method="BCa", random_state=1)
    ours = bca_interval(theirs.bootstrap_distribution, x.mean(), [np.delete(x, i).mean() for i in range(50)])
    np.testing.assert_allclose(ours, theirs.confidence_interval, rtol=1e-9)


def test_bca_where_it_has_nothing_to_correct_by():
    drawn = np.linspace(0, 1, 101)
    assert bca_interval(drawn, 2.0, [0.1, 0.2, 0.3]) == interval(drawn)  # beyond every draw
    assert bca_interval(drawn, 0.5, [0.1, np.nan]) == interval(drawn)  # nothing left to leave out
    np.testing.assert_allclose(bca_interval(drawn, 0.5, [0.5, 0.5, 0.5]), interval(drawn))
    np.testing.assert_allclose(bca_interval(drawn, 0.5, [0.4, 0.5, 0.6]), interval(drawn))
    many = np.linspace(0, 1, 100_001)
    assert bca_interval(many, 0.99999, [1000] * 999 + [0]) == interval(many)  # too crooked to say how much
    assert np.isnan(bca_interval(np.full(9, np.nan), 0.5, [0.4, 0.6])).all()
    assert np.isnan(bca_interval(drawn, np.nan, [0.4, 0.6])).all()


def test_patients_beyond_500_are_left_out_in_blocks():
    table, p = views(rows=1500, patients=900)
    y, patient = table["label"].to_numpy(), pd.factorize(table["patient"])[0]
    found = evaluate(table, p, draws=300).loc["f1"]
    drawn = score_draws(y, p, patient_draws(patient.max() + 1, 300, 0), groups=patient)["f1"]
    said = p > 0.5
    one_by_one = []
    for one in range(patient.max() + 1):
        rest = patient != one
        one_by_one.append(2 * (y[rest] * said[rest]).sum() / (y[rest] + said[rest]).sum())
    low, high = bca_interval(drawn, found["value"], one_by_one)
    assert [found["low"], found["high"]] == pytest.approx([low, high], abs=2e-3)


def test_one_patient_gives_no_interval():
    scores = evaluate(pd.DataFrame({"patient": "a", "label": [0, 1, 1]}), [0.1, 0.4, 0.9], draws=50)
    assert scores[["low", "high"]].isna().all(axis=None)
    assert scores.loc["accuracy", "value"] == pytest.approx(2 / 3)


def test_the_frame_and_its_marks():
    table, p = views()
    scores = evaluate(table, p, draws=50)
    assert list(scores.columns) == ["value", "low", "high"]
    assert list(scores.index) == list(METRICS)
    assert scores.index.name == "metric"
    assert scores.attrs == {
        "level": "view",
        "threshold": 0.5,
        "views": 300,
        "studies": table.groupby(["part", "patient", "study"]).ngroups,
        "patients": table["patient"].nunique(),
        "abnormal": int(table["label"].sum()),
        "draws": 50,
        "degenerate": 0,
        "confidence": 0.95,
        "seed": 0,
    }
    inside = scores.drop(index="ece")  # the error of calibration is biased upwards in draws
    assert (inside["low"] <= inside["value"]).all()
    assert (inside["value"] <= inside["high"]).all()
    pd.testing.assert_frame_equal(scores, evaluate(table, p, draws=50))
    pd.concat([scores, scores])  # scalars in attrs do not stand in the way


def test_the_table_index_does_not_matter():
    table, p = views()
    shuffled = table.set_index(np.random.default_rng(0).permutation(len(table)) + 1000)
    pd.testing.assert_frame_equal(evaluate(table, p, draws=20), evaluate(shuffled, pd.Series(p), draws=20))
    pd.testing.assert_frame_equal(
        evaluate(table, p, "study", draws=20), evaluate(shuffled, pd.Series(p), "study", draws=20)
    )


def test_study_level_is_view_level_of_the_aggregated():
    table, p = views()
    for how in ("mean", "max", "noisy-or", "top-k"):
        studies = aggregate(table, p, how)
        scores = evaluate(table, p, "study", aggregate=how, draws=30)
        direct = evaluate(studies, studies["probability"], draws=30)
        pd.testing.assert_frame_equal(scores, direct)
        assert scores.attrs["studies"] == len(studies)
        assert scores.attrs["views"] == 300
        assert scores.attrs["aggregate"] == ("top-2" if how == "top-k" else how)


@pytest.mark.parametrize("level", ["view", "study"])
def test_by_part_and_all_together(level):
    table, p = views()
    scores = evaluate(table, p, level, by="part", draws=30)
    assert scores.index.names == ["part", "metric"]
    for part in ("XR_HAND", "XR_WRIST"):
        rows = (table["part"] == part).to_numpy()
        alone = evaluate(table[rows], p[rows], level, draws=30)
        pd.testing.assert_frame_equal(scores.loc[part], alone)
        assert scores.attrs["each"][part] == alone.attrs
    pd.testing.assert_frame_equal(scores.loc["all"], evaluate(table, p, level, draws=30))
    assert scores.attrs["by"] == "part"
    assert scores.attrs["patients"] == table["patient"].nunique()


def test_one_class_alone():
    table = pd.DataFrame({"patient": list("abc"), "label": 0})
    scores = evaluate(table, [0.1, 0.2, 0.3], draws=40)
    assert scores.loc["accuracy"].tolist() == [1.0, 1.0, 1.0]
    for name in ("kappa", "precision", "recall", "f1", "auroc", "average_precision", "f1_macro"):
        assert scores.loc[name].isna().all(), name
    assert scores.loc["f1_weighted", "value"] == 1.0  # a class that is not there has no weight
    assert scores.attrs["degenerate"] == 0  # undefined throughout is no matter of the draws
    assert "studies" not in scores.attrs


def test_degenerate_draws_are_left_out_and_counted():
    # One abnormal patient of five: (4/5)^5 of the draws are without her.
    table = pd.DataFrame({"patient": list("abcde"), "label": [0, 0, 0, 0, 1]})
    scores = evaluate(table, [0.1, 0.2, 0.3, 0.6, 0.9], draws=2000)
    without = (patient_draws(5, 2000, 0)[:, 4] == 0).sum()
    assert without / 2000 == pytest.approx(0.8**5, abs=0.03)
    assert scores.attrs["degenerate"] >= without
    assert scores.loc["recall"].tolist() == [1.0, 1.0, 1.0]
    assert np.isfinite(scores.loc["auroc"]).all()


def test_mostly_degenerate_has_no_interval():
    values = np.full(100, np.nan)
    values[:49] = 0.5
    assert np.isnan(interval(values)).all()
    values[49] = 0.5
    assert interval(values) == (0.5, 0.5)


def test_without_draws():
    table, p = views()
    scores = evaluate(table, p, draws=0)
    assert scores[["low", "high"]].isna().all(axis=None)
    assert scores.loc["auroc", "value"] == evaluate(table, p, draws=5).loc["auroc", "value"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": "patient"}, "level='patient' is unknown; choose one of view, study"),
        ({"threshold": np.nan}, "threshold=nan"),
        (
            {"level": "study", "aggregate": "median"},
            "how='median' is unknown; choose one of mean, max, noisy-or, top-k",
        ),
        ({"level": "study", "aggregate": "top-k", "top": 0}, "top=0"),
        ({"level": "study", "aggregate": "top-k", "top": 1.5}, "top=1.5 must be a whole number"),
        ({"confidence": 95}, "confidence=95"),
        ({"confidence": 95, "draws": 0}, "confidence=95"),
        ({"draws": -1}, "draws=-1"),
        ({"bins": 0}, "bins=0"),
        ({"by": "hospital"}, "table has no column 'hospital'; its columns are path, part"),
        ({"probability": np.full(300, 1.5)}, "probability is 1.5 at row 0, one of 300 outside"),
        ({"probability": np.full(300, np.nan)}, "probability is nan at row 0"),
        ({"probability": np.zeros((300, 2))}, "probability sums to 0 at row 0"),
        ({"probability": np.full((300, 2), 1.5)}, r"probability is \[1.5, 1.5\] at row 0"),
        ({"probability": np.zeros(7)}, r"probability has shape \(7,\); .* shape \(300,\)"),
    ],
)
def test_bad_input_is_named(change, message):
    table, p = views()
    with pytest.raises(ValueError, match=message):
        evaluate(**({"table": table, "probability": p} | change))


def test_bad_tables_are_named():
    table, p = views()
    with pytest.raises(ValueError, match=r"table\['kind'\] holds 'all', which names the scores of all"):
        evaluate(table.assign(kind=["all", "some"] * 150), p, by="kind", draws=0)
    with pytest.raises(ValueError, match=r"table\['kind'\] cannot be put in order .* make it text"):
        evaluate(table.assign(kind=pd.Series([1j, 2j] * 150, dtype=object)), p, by="kind", draws=0)
    with pytest.raises(ValueError, match="table has no column 'label', 'patient'"):
        evaluate(table[["path", "part"]], p)
    with pytest.raises(ValueError, match="holds 2; labels must be 0"):
        evaluate(table.assign(label=2), p)
    with pytest.raises(ValueError, match=r"table\['patient'\] is missing at row 0"):
        evaluate(table.assign(patient=None), p)
    assert list(evaluate(table.assign(part=None), p, by="part", draws=0).attrs["each"]) == [
        "(missing)",
        "all",
    ]
    with pytest.raises(ValueError, match="at least one label"):
        evaluate(table.iloc[:0], p[:0])
    with pytest.raises(ValueError, match=r"counts has shape \(3, 4\)"):
        score_draws([0, 1], [0.1, 0.9], np.ones((3, 4)))
    with pytest.raises(ValueError, match="one value a row"):
        score_draws([0, 1], [0.1, 0.9], groups=["a"])


def naive_aggregate(p, how, top):
    if how == "mean":
        return np.mean(p)
    if how == "max":
        return max(p)
    if how == "noisy-or":
        return 1 - np.prod([1 - x for x in p])
    return np.mean(sorted(p)[-top:])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 9999),
    top=st.integers(1, 4),
    how=st.sampled_from(["mean", "max", "noisy-or", "top-k"]),
)
def test_aggregation_study_by_study(seed, top, how):
    table, p = views(rows=50, patients=12, seed=seed)
    studies = aggregate(table, p, how, top=top)
    keys = ["part", "patient", "study"]
    assert len(studies) == len(table.drop_duplicates(keys))
    first_come = table.drop_duplicates(keys)[keys].reset_index(drop=True)
    pd.testing.assert_frame_equal(studies[keys], first_come, check_dtype=False)
    for _, study in studies.iterrows():
        rows = (table[keys] == study[keys].to_numpy()).all(axis=1).to_numpy()
        assert study["views"] == rows.sum()
        assert study["label"] == table["label"][rows].max()
        assert study["probability"] == pytest.approx(naive_aggregate(p[rows], how, top))


def test_a_study_is_part_patient_and_study():
    table = pd.DataFrame(
        {"part": ["XR_HAND", "XR_WRIST"], "patient": "patient00001", "study": "study1", "label": [0, 1]}
    )
    assert aggregate(table, [0.1, 0.9])["probability"].tolist() == [0.1, 0.9]


def test_what_would_pass_in_silence_is_named():
    with pytest.raises(ValueError, match="threshold=nan"):
        score_draws([0, 1], [0.1, 0.9], threshold=np.nan)
    with pytest.raises(ValueError, match="groups is missing at row 1"):
        score_draws([0, 1], [0.1, 0.9], groups=["a", np.nan])  # NumPy makes a patient "nan" of it
    # Without the check no sum is ever large enough, and the search for one has no end.
    with pytest.raises(ValueError, match="confidence=95 must be a finite number above 0 and below 1"):
        inverted_interval(np.ones((4, 2)), np.ones(2), confidence=95)
    assert np.isnan(interval([])).all()
    with pytest.raises(ValueError, match="draws=0 must be a whole number of at least 1"):
        patient_draws(3, 0)


def test_a_warning_on_a_group_is_said_once_for_all_models(caplog):
    table = pd.DataFrame(
        {
            "label": [0, 1] * 20,
            "patient": [f"p{i}" for i in range(40)],
            "part": ["XR_HAND"] * 34 + ["XR_WRIST"] * 6,
        }
    )
    with said_once():
        for probability in (np.full(40, 0.5), np.linspace(0, 1, 40)):
            evaluate(table, probability, by="part", draws=0)
    assert [message.split(" has ")[0] for message in caplog.messages] == ["part='XR_WRIST'"]
    evaluate(table, np.full(40, 0.5), by="part", draws=0)  # and afterwards as before
    assert len(caplog.messages) == 2
