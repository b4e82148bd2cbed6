"""Rules that make a study's probability of its views', beside a loop over studies."""

import numpy as np
import pandas as pd
import pytest

from siamura.evaluation import compare, compare_study_rules, evaluate


def drawn(classes=2, studies=40):
    rng = np.random.default_rng(0)
    number = np.repeat(np.arange(studies), 1 + np.arange(studies) % 3)
    label = number % classes
    table = pd.DataFrame({
        "part": "XR_HAND", "patient": [f"p{i // 2}" for i in number], "study": [f"s{i}" for i in number],
        "label": label,
    })  # fmt: skip
    share = rng.dirichlet(np.ones(classes), len(table)) + 0.5 * np.eye(classes)[label]
    share /= share.sum(axis=1, keepdims=True)
    return table, share[:, 1] if classes == 2 else share


def test_each_rule_is_scored_as_a_loop_over_studies_says():
    table, p = drawn()
    attention = np.linspace(0.1, 0.9, 40)
    found = compare_study_rules(table, p, {"attention": attention}, draws=100, seed=4)
    by_rule = {name: [] for name in ("mean", "max", "noisy-or", "top-2")}
    for study in table["study"].unique():
        own = np.sort(p[(table["study"] == study).to_numpy()])[::-1]
        by_rule["mean"].append(own.mean())
        by_rule["max"].append(own[0])
        by_rule["noisy-or"].append(1 - np.prod(1 - own))
        by_rule["top-2"].append(own[:2].mean())
    rows = table.drop_duplicates("study")
    assert list(found.index.get_level_values("rule").unique()) == [*by_rule, "attention"]
    for name, values in {**by_rule, "attention": attention}.items():
        own = found.xs(name, level="rule")
        scores = evaluate(rows, values, draws=100, seed=4)
        np.testing.assert_allclose(own[["value", "low", "high"]], scores, atol=1e-12)
        if name != "mean":
            paired = compare(rows, values, by_rule["mean"], draws=100, seed=4)
            np.testing.assert_allclose(
                own[["difference", "difference_low", "difference_high", "p"]],
                paired[["difference", "low", "high", "p"]], atol=1e-12,
            )  # fmt: skip
    assert found.xs("mean", level="rule")["difference"].isna().all()
    assert found.attrs["studies"] == 40
    assert found.attrs["several"] == 26
    assert found.attrs["patients"] == 20


def test_of_one_view_each_all_rules_say_the_same():
    table, p = drawn()
    first = ~table.duplicated("study").to_numpy()
    found = compare_study_rules(table[first], p[first], draws=50)
    assert found.attrs["several"] == 0
    assert (found["difference"].dropna() == 0).all()


def test_of_more_classes_there_is_the_mean_and_what_is_given():
    table, share = drawn(3)
    by_study = np.full((40, 3), 1 / 3)
    found = compare_study_rules(table, share, {"attention": by_study}, classes=("a", "b", "c"), draws=50)
    assert list(found.index.get_level_values("rule").unique()) == ["mean", "attention"]
    expected = evaluate(table, share, "study", classes=("a", "b", "c"), draws=50)
    np.testing.assert_allclose(found.loc["mean", "value"], expected["value"], atol=1e-12)
    assert found.loc[("attention", "auroc[b]"), "value"] == 0.5


def test_further_probabilities_must_be_of_the_studies():
    table, p = drawn()
    with pytest.raises(ValueError, match=r"further\['attention'\] has shape \(3,\)"):
        compare_study_rules(table, p, {"attention": [0.1, 0.2, 0.3]})
    with pytest.raises(ValueError, match="'max', which names a rule"):
        compare_study_rules(table, p, {"max": np.zeros(40)})
