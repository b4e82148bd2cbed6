"""The baseline on frozen features: against scikit-learn by hand, on classes, and compared by patients."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from siamura.evaluation import baseline_scores, compare, compare_paired, evaluate, frozen_baseline
from siamura.heads import KNNHead


def drawn(classes=2, count=240, dim=12, shift=1.0, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, count // 2).repeat(2)
    table = pd.DataFrame({"part": "hand", "patient": np.arange(count) // 2, "study": "s1", "label": label})
    features = rng.normal(size=(count, dim)) * np.geomspace(0.01, 100, dim)
    features[:, 0] += 0.01 * shift * label
    return features[: count // 2], table[: count // 2], features[count // 2 :], table[count // 2 :]


def test_it_is_what_scikit_learn_gives_on_standardised_features():
    x, train, v, valid = drawn()
    found = frozen_baseline(x, train, v, valid, draws=50)
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=found.strength, max_iter=1000).fit(scaler.transform(x), train["label"])
    np.testing.assert_allclose(
        found.probability["logistic"], model.predict_proba(scaler.transform(v))[:, 1], atol=1e-6
    )
    near = KNNHead(k=15).fit(scaler.transform(x), train["label"]).predict_proba(scaler.transform(v))[:, 1]
    np.testing.assert_allclose(found.probability["k-NN"], near)
    assert found.strength == min(found.inner_loss, key=found.inner_loss.__getitem__)
    assert found.probability.index.equals(valid.index)
    pd.testing.assert_frame_equal(
        found.scores.loc["logistic"],
        evaluate(valid, found.probability["logistic"], draws=50),
        check_like=True,
    )
    assert found.scores["value"]["logistic", "auroc"] > 0.65


def test_features_that_mean_nothing_are_shrunk_and_no_better_than_chance():
    x, train, v, valid = drawn(shift=0.0, dim=40)
    found = frozen_baseline(x, train, v, valid, draws=100)
    assert found.strength <= 1e-2
    assert found.scores["low"]["logistic", "auroc"] < 0.5 < found.scores["high"]["logistic", "auroc"]


def test_own_patient_never_votes_and_is_said(caplog):
    x, train, _, _ = drawn()
    found = frozen_baseline(x, train, x, train, k=1, draws=0)
    assert "60 patients are in train and in valid" in caplog.text
    assert found.scores["value"]["k-NN", "accuracy"] < 0.9  # with its own patient it would be 1


def test_named_classes_one_of_them_absent_from_train():
    x, train, v, valid = drawn(classes=3, shift=2.0)
    names = ("normal", "fracture", "implant", "cast")
    train.attrs["classes"] = valid.attrs["classes"] = names
    found = frozen_baseline(x, train, v, valid, level="study", draws=20)
    assert found.probability["logistic"].columns.tolist() == list(names)
    np.testing.assert_allclose(found.probability["k-NN"].sum(axis=1), 1)
    assert (found.probability["logistic"]["cast"] == 0).all()
    assert found.scores.attrs["level"] == "study"
    assert found.scores["value"]["logistic", "auroc[fracture]"] > 0.5


def test_a_model_compared_with_each_baseline_on_the_same_draws():
    x, train, v, valid = drawn()
    found = frozen_baseline(x, train, v, valid, draws=0)
    model = np.clip(0.8 * valid["label"] + 0.1, 0, 1)
    paired = compare_paired(valid, model, found.probability, metrics=["auroc", "kappa"], draws=100, seed=3)
    assert paired.index.tolist() == [(b, m) for b in ("k-NN", "logistic") for m in ("kappa", "auroc")]
    alone = compare(valid, model, found.probability["k-NN"], draws=100, seed=3).loc["auroc"]
    pd.testing.assert_series_equal(paired.loc[("k-NN", "auroc")], alone, check_names=False)
    assert (paired["low"] > 0).all()
    nothing = compare_paired(valid, found.probability["k-NN"], found.probability[["k-NN"]], draws=20)
    assert (nothing["difference"].dropna() == 0).all()
    with pytest.raises(ValueError, match="metrics='auc' is unknown"):
        compare_paired(valid, model, found.probability, metrics=["auc"], draws=20)
    with pytest.raises(ValueError, match="baselines has 3 rows"):
        compare_paired(valid, model, found.probability[:3])


def test_trivial_baselines_of_named_classes():
    x, train, v, valid = drawn(classes=3, shift=2.0)
    table = pd.concat([train.assign(split="train"), valid.assign(split="valid")])
    table.attrs.update(classes=("none", "mild", "severe"), ordered=True)
    features = pd.DataFrame(np.concatenate([x, v])[:, :2], columns=["first", "second"])
    scores = baseline_scores(table, features, "study", draws=20)
    assert scores.index.get_level_values(0).unique().tolist() == [
        "first",
        "second",
        "all together",
        "prevalence",
    ]
    assert scores["value"]["first", "kappa_quadratic"] > 0.2
    assert abs(scores["value"]["prevalence", "kappa"]) < 1e-9
    assert {f"recall[{name}]" for name in ("none", "mild", "severe")} <= set(scores.loc["first"].index)
    assert set(scores.attrs["inner_auroc"]) == {"logistic", "boosted trees"}


def test_refusals():
    x, train, v, valid = drawn()
    for given, message in (
        ((x[:5], train, v, valid), "table_train has 120 rows for 5"),
        ((x, train, v[:, :3], valid), "features_train has 12 columns and features_valid 3"),
        ((x, train.assign(label=1), v, valid), r"table_train\['label'\] is 1 alone"),
        ((x, train.drop(columns="patient"), v, valid), "table_train has no column 'patient'"),
        ((np.full_like(x, np.nan), train, v, valid), "features_train holds NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            frozen_baseline(*given, draws=0)
