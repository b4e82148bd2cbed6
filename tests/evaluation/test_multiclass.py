"""Three classes and more, against scikit-learn; two classes by either form of the probabilities."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from siamura import plots
from siamura.evaluation import class_draws, compare, evaluate, one_vs_rest, patient_draws

NAMES = ("normal", "cyst", "fracture", "implant")


def drawn(rows=240, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"patient": rng.integers(60, size=rows).astype(str)})
    table["part"], table["study"] = "XR_HAND", "study1"
    table["label"] = (table["patient"].astype(int) % classes).to_numpy()
    logits = rng.normal(size=(rows, classes)) + 1.2 * np.eye(classes)[table["label"]]
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return table, share


@pytest.mark.parametrize("classes", [3, 4, 7])
def test_scores_are_scikit_learns(classes):
    table, share = drawn(classes=classes)
    y, said = table["label"].to_numpy(), share.argmax(axis=1)
    found = {name: value[0] for name, value in class_draws(y, share, ordered=True).items()}
    np.testing.assert_allclose(found["accuracy"], metrics.accuracy_score(y, said))
    np.testing.assert_allclose(found["kappa"], metrics.cohen_kappa_score(y, said))
    np.testing.assert_allclose(
        found["kappa_quadratic"], metrics.cohen_kappa_score(y, said, weights="quadratic")
    )
    for name, score in (
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
        ("f1", metrics.f1_score),
    ):
        np.testing.assert_allclose(found[f"{name}_macro"], score(y, said, average="macro", zero_division=0))
        each = score(y, said, average=None, zero_division=np.nan)
        np.testing.assert_allclose([found[f"{name}[{c}]"] for c in range(classes)], each)
    np.testing.assert_allclose(found["auroc_macro"], metrics.roc_auc_score(y, share, multi_class="ovr"))
    np.testing.assert_allclose(found["auroc[1]"], metrics.roc_auc_score(y == 1, share[:, 1]))
    np.testing.assert_allclose(found["brier"], ((share - np.eye(classes)[y]) ** 2).sum(axis=1).mean())


def test_a_draw_is_the_score_of_its_rows():
    table, share = drawn()
    unit = pd.factorize(table["patient"])[0]
    counts = patient_draws(unit.max() + 1, 5, seed=3)
    found = class_draws(table["label"], share, counts, groups=table["patient"], ordered=True)
    for d, count in enumerate(counts.astype(int)):
        rows = np.repeat(np.arange(len(table)), count[unit])
        alone = class_draws(table["label"].to_numpy()[rows], share[rows], ordered=True)
        for name, value in alone.items():
            np.testing.assert_allclose(found[name][d], value[0], err_msg=name)


def test_kappa_of_grades_by_hand():
    # Truth 0 1 2, answers 1 1 2: weights 1/4 in one of three; expected from (1,1,1) x (0,2,1): (0+1*2... ) below.
    share = np.eye(3)[[1, 1, 2]]
    found = class_draws([0, 1, 2], share, ordered=True)
    expected = (1 * 2 + 4 * 1 + 0 * 2 + 1 * 1 + 1 * 2 + 0 * 1) / 3
    np.testing.assert_allclose(found["kappa_quadratic"], 1 - 1 / expected)


def test_evaluate_with_classes():
    table, share = drawn()
    scores = evaluate(table, share, draws=200, classes=NAMES, ordered=True)
    assert {"accuracy", "kappa", "kappa_quadratic", "f1_macro", "auroc_macro"} <= set(scores.index)
    assert {f"{score}[{name}]" for score in ("precision", "recall", "f1", "auroc") for name in NAMES} <= set(
        scores.index
    )
    assert (scores["low"] <= scores["value"]).all()
    assert (scores["value"] <= scores["high"]).all()
    assert scores.attrs["classes"] == NAMES
    assert sum(scores.attrs["rows"].values()) == len(table)
    table.attrs.update(classes=NAMES, ordered=False)
    assert "kappa_quadratic" not in evaluate(table, share, draws=0).index
    assert "recall[implant]" in evaluate(table, share, draws=0).index


def test_a_study_has_the_mean_of_its_views():
    table, share = drawn()
    scores = evaluate(table, share, "study", draws=0, classes=NAMES)
    frame = pd.DataFrame(share).groupby(table["patient"], sort=False).mean()
    label = table.groupby("patient", sort=False)["label"].first()
    np.testing.assert_allclose(scores["value"]["accuracy"], (frame.to_numpy().argmax(axis=1) == label).mean())
    assert scores.attrs["studies"] == table["patient"].nunique()
    table.loc[0, "label"] = (table.loc[0, "label"] + 1) % 4
    with pytest.raises(ValueError, match=r"study XR_HAND .* has views of several labels, one of 1"):
        evaluate(table, share, "study", draws=0, classes=NAMES)
    evaluate(table, share, "study", draws=0, classes=NAMES, ordered=True)


@pytest.mark.parametrize("level", ["view", "study"])
def test_two_classes_in_either_form(level):
    table, share = drawn(classes=2)
    one, both = (evaluate(table, p, level, draws=100) for p in (share[:, 1], share))
    pd.testing.assert_frame_equal(one, both)
    assert one.attrs == both.attrs


def test_a_class_that_is_absent_or_never_the_answer():
    found = class_draws([0, 0, 1], np.eye(3)[[0, 0, 0]])
    assert found["recall_macro"][0] == 0.5
    np.testing.assert_allclose(found["precision_macro"], (2 / 3 + 0) / 2)
    assert np.isnan(found["precision[1]"][0])
    assert np.isnan(found["recall[2]"][0])


def test_groups_of_any_column():
    table, share = drawn(classes=2)
    rng = np.random.default_rng(1)
    table["sex"] = np.where(rng.random(len(table)) < 0.5, "F", "M")
    table.loc[:3, "sex"] = None
    scores = evaluate(table, share[:, 1], by="sex", draws=50)
    assert list(dict.fromkeys(scores.index.get_level_values(0))) == ["F", "M", "(missing)", "all"]
    assert list(scores.attrs["small"]) == ["(missing)"]
    assert scores.attrs["small"]["(missing)"].startswith("sex='(missing)' has 4 views of")
    assert " of label 0" in scores.attrs["small"]["(missing)"]
    named = evaluate(table, share[:, 1], by="sex", draws=0, classes=("sound", "broken"))
    assert " of sound" in named.attrs["small"]["(missing)"]
    assert sum(scores.attrs["each"][name]["views"] for name in ("F", "M", "(missing)")) == len(table)
    plain = evaluate(table[table["sex"] == "F"], share[table["sex"] == "F", 1], draws=50)
    np.testing.assert_array_equal(scores.loc["F"].to_numpy(), plain.to_numpy())
    table["age"] = np.arange(len(table)) + 0.5
    with pytest.raises(ValueError, match=r"table\['age'\] has 240 different values; cut it"):
        evaluate(table, share[:, 1], by="age")
    for column in (rng.random(len(table)) < 0.5, rng.integers(3, size=len(table))):
        table["kept"] = column
        assert len(evaluate(table, share, by="kept", draws=0)) == 20 * (len(set(column)) + 1)
    table, share = drawn()
    table["sex"] = "F"
    assert "recall[2]" in evaluate(table, share, by="sex", draws=0).loc["F"].index


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": np.full((240, 4), 0.3)}, "sums to 1.2 at row 0"),
        ({"probability": np.full((240, 4), np.nan)}, "outside"),
        ({"probability": np.full((7, 4), 0.25)}, r"shape \(7, 4\)"),
        ({"classes": ("a", "b")}, "does not name each of the 4 columns"),
        ({"aggregate": "max"}, "aggregate='max' is for two classes"),
    ],
)
def test_errors(change, message):
    table, share = drawn()
    with pytest.raises(ValueError, match=message):
        evaluate(table, **{"probability": share, "level": "study", "draws": 0} | change)
    table["label"] = 9
    with pytest.raises(ValueError, match="holds 9; labels must be codes from 0 to 3"):
        evaluate(table, share, draws=0)


def test_figures_of_classes():
    table, share = drawn()
    figure = plots.confusion(table["label"], share, names=NAMES)
    wanted = metrics.confusion_matrix(table["label"], share.argmax(axis=1))
    shown = [int(text.get_text().split("\n")[0]) for text in figure.axes[0].texts]
    np.testing.assert_array_equal(np.reshape(shown, (4, 4)), wanted)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == list(NAMES)
    panels = one_vs_rest(table["label"], share, classes=NAMES, groups=table["patient"])
    legend = [text.get_text() for text in plots.roc(panels, draws=0).axes[0].get_legend().get_texts()]
    area = metrics.roc_auc_score(table["label"] == 2, share[:, 2])
    assert [text for text in legend if text.startswith("fracture")] == [f"fracture: AUROC {area:.3f}"]


@pytest.mark.parametrize("level", ["view", "study"])
def test_two_models_of_many_classes_are_compared_on_the_same_draws(level):
    table, first = drawn()
    second = np.roll(first, 1, axis=1)
    table.attrs["classes"] = NAMES
    found = compare(table, first, second, level, draws=100, seed=2)
    one, two = (evaluate(table, p, level, draws=0)["value"] for p in (first, second))
    pd.testing.assert_series_equal(found["first"], one, check_names=False)
    pd.testing.assert_series_equal(found["second"], two, check_names=False)
    assert found["low"]["accuracy"] > 0
    assert found.attrs["classes"] == NAMES
    same = compare(table, first, first, level, draws=50)
    assert (same["difference"].dropna() == 0).all()
    with pytest.raises(ValueError, match="both must answer for the same classes"):
        compare(table, first, first[:, :3])


def test_two_columns_are_compared_as_two_classes():
    table, share = drawn(classes=2)
    one = compare(table, share[:, 1], share[::-1, 1], draws=50)
    pd.testing.assert_frame_equal(one, compare(table, share, share[::-1], draws=50))


def test_names_lost_by_pandas_are_taken_from_the_findings():
    table, share = drawn()
    named = table.assign(finding=np.array(NAMES)[table["label"]])
    assert evaluate(named, share, draws=0).attrs["classes"] == NAMES
