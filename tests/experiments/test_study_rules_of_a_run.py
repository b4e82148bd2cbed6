"""A run says how the views of a study are best put together, and keeps its attention."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import siamura
from siamura.experiments import Run
from siamura.experiments.study_rules import measure_study_rules
from siamura.heads import StudyAttention
from siamura.report.study_rules import study_rules_section


def test_a_run_compares_the_rules_and_keeps_its_attention(done: Run) -> None:
    found = done.metrics["study_rules"]
    vectors, table = done.embeddings()
    keep = (table["split"] == "valid").to_numpy()
    valid = table[keep].reset_index(drop=True)
    assert found["several"] == (valid.groupby(["part", "patient", "study"]).size() > 1).sum() > 0
    probability = done.heads()["mlp"].predict_proba(vectors[keep])[:, 1]
    for rule in ("mean", "max", "noisy-or"):
        expected = siamura.evaluate(valid, probability, "study", aggregate=rule)
        own = found["heads"]["mlp"][rule]["auroc"]
        assert own["value"] == pytest.approx(expected.loc["auroc", "value"])
        assert [own["low"], own["high"]] == pytest.approx(expected.loc["auroc", ["low", "high"]].tolist())
    share = StudyAttention.load(done.folder / "attention").predict_proba(vectors[keep], valid)
    studies = valid.drop_duplicates(["part", "patient", "study"])
    expected = siamura.evaluate(studies, share[:, 1])
    assert found["heads"]["knn"]["attention"]["auroc"]["value"] == pytest.approx(
        expected.loc["auroc", "value"]
    )
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "Several views of a study" in page
    assert "Attention over the views" in page


def drawn(views: int, classes: int = 2) -> tuple[pd.DataFrame, np.ndarray]:
    table = pd.DataFrame(
        {"patient": np.repeat([f"p{i}" for i in range(30)], views), "study": "s", "part": "XR_HAND"}
    )
    table["label"] = np.repeat(np.arange(30) % classes, views)
    return table, np.random.default_rng(0).normal(size=(len(table), 3)).astype(np.float32)


def test_where_a_study_is_one_view_nothing_is_fitted_and_the_page_says_so() -> None:
    table, vectors = drawn(1)
    given = {"classes": ("normal", "abnormal"), "ordered": False, "draws": 20}
    found, attention = measure_study_rules(table, vectors, table, vectors, {"mlp": np.full(30, 0.5)}, **given)
    assert attention is None
    assert found == {"studies": 30, "patients": 30, "several": 0}
    assert "hardly matters" in str(study_rules_section({"study_rules": found}))
    several, more = drawn(2)
    found, attention = measure_study_rules(table, vectors, several, more, {"mlp": np.full(60, 0.5)}, **given)
    assert attention is None  # train shows no second view to learn from
    assert "attention" not in found["heads"]["mlp"]


def test_of_three_classes_attention_stands_beside_the_mean() -> None:
    table, vectors = drawn(2, classes=3)
    share = np.full((60, 3), 1 / 3)
    found, attention = measure_study_rules(
        table, vectors, table, vectors, {"mlp": share}, classes=("a", "b", "c"), ordered=False, draws=20
    )
    assert attention is not None
    assert list(found["heads"]["mlp"]) == ["mean", "attention"]
    words = str(study_rules_section({"study_rules": found}))
    assert "AUROC, macro" in words
    assert "30 studies of 30 patients" in words


def test_an_older_run_has_no_such_section(tmp_path: Path) -> None:
    assert study_rules_section({"valid": {}}) == []
