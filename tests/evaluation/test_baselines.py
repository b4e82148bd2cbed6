"""Trivial baselines: they find a leak, find nothing where there is none, and read what stands in the file."""

import logging

import cv2
import numpy as np
import pandas as pd
import pytest

from siamura.evaluation import baseline_scores, evaluate, trivial_baselines, trivial_features


def split_table(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    patient = np.arange(rows) // 2
    table = pd.DataFrame(
        {
            "path": "x",
            "part": "XR_HAND",
            "patient": patient,
            "study": "study1",
            "label": rng.integers(2, size=patient.max() + 1)[patient],
            "split": np.where(patient % 3, "train", "valid"),
        }
    )
    noise = pd.DataFrame(rng.normal(size=(rows, 4)), columns=["mean", "deviation", "aspect", "size"])
    return table, noise


def test_features_by_hand(tmp_path):
    image = np.zeros((20, 10), dtype=np.uint8)
    image[:10] = 200
    cv2.imwrite(str(tmp_path / "half.png"), image)
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((8, 16), 7, dtype=np.uint8))
    table = pd.DataFrame({"path": [str(tmp_path / "half.png"), str(tmp_path / "flat.png")]}, index=[5, 9])
    found = trivial_features(table, progress=False)
    assert found.index.tolist() == [5, 9]
    np.testing.assert_allclose(found.loc[5], [100, 100, 0.5, np.log(200), 0, 0, 200, 1])
    np.testing.assert_allclose(found.loc[9], [7, 0, 2, np.log(128), 7, 7, 7, 0])


def test_files_are_read_where_no_features_are_given(tmp_path):
    rng = np.random.default_rng(0)
    table, _ = split_table(rows=40)
    for row, label in enumerate(table["label"]):
        file = tmp_path / f"{row}.png"
        cv2.imwrite(str(file), rng.integers(0, 255, (10 + 6 * label, 12), dtype=np.uint8))
        table.loc[row, "path"] = str(file)
    answers = trivial_baselines(table, progress=False)
    names = ["mean", "deviation", "aspect", "size", "dark", "middle", "bright", "entropy"]
    assert list(answers.columns) == [*names, "all together", "prevalence"]
    valid = table[table["split"] == "valid"]
    assert evaluate(valid, answers["aspect"], draws=0).loc["accuracy", "value"] == 1


def test_a_leak_is_found_and_noise_is_not():
    table, features = split_table()
    features["aspect"] += 2 * table["label"]
    features["mean"] *= 1 + 2 * table["label"]  # too dark or too bright: no line parts it, a square does
    scores = baseline_scores(table, features, draws=100)
    area = scores["value"].xs("auroc", level="metric")
    assert area["aspect"] > 0.85
    assert area["mean"] > 0.65
    assert area["all together"] > area["aspect"] - 0.03
    assert scores.loc[("deviation", "auroc"), "low"] < 0.5
    assert area["prevalence"] == 0.5
    assert scores.index.names == ["baseline", "metric"]
    assert scores.attrs["patients"] == (table["split"] == "valid").sum() / 2


def test_scores_are_evaluates():
    table, features = split_table()
    answers = trivial_baselines(table, features)
    scores = baseline_scores(table, features, "study", draws=30)
    valid = table[table["split"] == "valid"]
    pd.testing.assert_frame_equal(
        scores.loc["aspect"], evaluate(valid, answers["aspect"], "study", draws=30), check_names=False
    )
    assert answers.index.equals(valid.index)
    assert (answers["prevalence"] == table.loc[table["split"] == "train", "label"].mean()).all()


def test_one_feature_other_splits_and_hardly_any_patients():
    table = pd.DataFrame(
        {"patient": list("abcde"), "label": [0, 1, 1, 0, 1], "split": ["a", "a", "a", "b", "b"]}
    )
    answers = trivial_baselines(table, pd.DataFrame({"size": [0.0, 1, 1, 0, 1]}), train="a", valid="b")
    assert list(answers.columns) == ["size", "prevalence"]
    assert answers["size"].iloc[0] < answers["size"].iloc[1]


def test_a_patient_on_both_sides_is_told(caplog):
    table, features = split_table(rows=60)
    with caplog.at_level(logging.WARNING):
        trivial_baselines(table, features)
        assert not caplog.records
        table["split"] = np.where(np.arange(60) % 2, "train", "valid")
        trivial_baselines(table, features)
    assert "30 patients are in both train and valid" in caplog.text


def test_bad_input_is_named():
    table, features = split_table(rows=30)
    with pytest.raises(ValueError, match="features has 3 rows, table has 30"):
        trivial_baselines(table, features.iloc[:3])
    with pytest.raises(ValueError, match="features is nan at row 2, 'aspect'"):
        trivial_baselines(
            table, features.mask((features.index == 2)[:, None] & (features.columns == "aspect"))
        )
    with pytest.raises(ValueError, match="no row of split 'test'; it has \\['train', 'valid'\\]"):
        trivial_baselines(table, features, valid="test")
    with pytest.raises(ValueError, match="holds the label 1 alone"):
        trivial_baselines(table.assign(label=1), features)
    with pytest.raises(ValueError, match="table has no column 'path'"):
        trivial_features(table.drop(columns="path"))


def test_the_part_is_a_trivial_sign():
    table, features = split_table()
    table["part"] = np.where(table["label"] == 1, "hand+leg", "hip")
    assert (
        evaluate(table[table["split"] == "valid"], trivial_baselines(table, features)["part"], draws=0).loc[
            "auroc", "value"
        ]
        == 1
    )


@pytest.mark.slow
def test_trees_answer_where_they_are_better_on_training_patients():
    table, features = split_table(rows=1200)
    sign = np.sin(6 * features["mean"]) > 0  # no square follows it
    table["label"] = sign.astype(int)
    table["patient"] = np.arange(1200)
    answers = trivial_baselines(table, features)
    assert answers.attrs["model"] == "boosted trees"
    assert answers.attrs["inner_auroc"]["boosted trees"] > answers.attrs["inner_auroc"]["logistic"] + 0.1
    valid = table["split"] == "valid"
    assert evaluate(table[valid], answers["all together"], draws=0).loc["auroc", "value"] > 0.8
    table["label"] = (features["mean"] + np.random.default_rng(1).logistic(size=1200) > 0).astype(int)
    assert trivial_baselines(table, features).attrs["model"] == "logistic"


@pytest.mark.slow
def test_names_and_order_of_files_play_no_part():
    table, features = split_table()
    other = table.assign(path=[f"{label}.png" for label in table["label"]])
    turned = np.random.default_rng(0).permutation(len(table))
    one, two = (
        trivial_baselines(table, features),
        trivial_baselines(other.iloc[turned], features.iloc[turned]),
    )
    same = trivial_baselines(other, features)
    pd.testing.assert_frame_equal(one, same)
    assert one.index.sort_values().equals(two.index.sort_values())
