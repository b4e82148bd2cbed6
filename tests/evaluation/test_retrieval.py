"""Embedding quality: naive loops, pytorch-metric-learning, the formulas of the papers."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from scipy.spatial.distance import cdist, pdist

import siamura.evaluation.retrieval as retrieval
from siamura.evaluation import bca_interval, embedding_quality, patient_draws


def cloud(rows=90, dim=6, classes=2, patients=25, seed=0):
    rng = np.random.default_rng(seed)
    y = np.append(np.arange(classes), rng.integers(classes, size=rows - classes))
    return rng.normal(size=(rows, dim)) + 0.8 * y[:, None], y, rng.integers(patients, size=rows)


def naive(X, y, groups, ks, metric):
    far = cdist(X, X, metric)
    out = {f"precision_at_{k}": [] for k in ks} | {"map_at_r": []}
    positive, negative = [], []
    for q in range(len(X)):
        others = [r for r in range(len(X)) if r != q and groups[r] != groups[q]]
        others.sort(key=lambda r: far[q, r])
        hits = [int(y[r] == y[q]) for r in others]
        positive += [far[q, r] for r in others if y[r] == y[q]]
        negative += [far[q, r] for r in others if y[r] != y[q]]
        if not sum(hits):
            continue
        for k in ks:
            out[f"precision_at_{k}"].append(np.mean(hits[:k]))
        relevant = sum(hits)
        out["map_at_r"].append(
            sum(sum(hits[: i + 1]) / (i + 1) * hits[i] for i in range(relevant)) / relevant
        )
    return {name: np.mean(values) for name, values in out.items()} | {
        "positive_distance": np.mean(positive),
        "negative_distance": np.mean(negative),
    }


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 9999),
    classes=st.integers(2, 4),
    patients=st.integers(3, 60),
    metric=st.sampled_from(["euclidean", "cosine"]),
)
def test_query_by_query(seed, classes, patients, metric):
    X, y, groups = cloud(rows=50, classes=classes, patients=patients, seed=seed)
    found = embedding_quality(X, y, groups, k=(1, 3, 60), metric=metric, draws=0)["value"]
    for name, value in naive(X, y, groups, (1, 3, 60), metric).items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("classes", [2, 5])
def test_agrees_with_pytorch_metric_learning(classes):
    X, y, _ = cloud(rows=200, classes=classes)
    calculator = AccuracyCalculator(include=("precision_at_1", "mean_average_precision_at_r"), k=None)
    theirs = calculator.get_accuracy(torch.tensor(X, dtype=torch.float32), torch.tensor(y))
    found = embedding_quality(X, y, draws=0)["value"]
    assert found["precision_at_1"] == pytest.approx(theirs["precision_at_1"])
    assert found["map_at_r"] == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)


def test_mutual_information_is_scikit_learns():
    X, y, groups = cloud(rows=200, classes=3)
    clusters = retrieval._clusters(X, 3, 0)
    found = embedding_quality(X, y, groups, draws=200)
    assert found.loc["nmi", "value"] == pytest.approx(sk.normalized_mutual_info_score(y, clusters))
    assert found.loc["nmi", "low"] < found.loc["nmi", "value"] < found.loc["nmi", "high"]
    one = embedding_quality(X, np.zeros(200), groups, draws=0)["value"]
    assert one["nmi"] == 1  # one label and one cluster have nothing to tell each other
    assert np.isnan(one["negative_distance"])


def test_alignment_and_uniformity_by_their_formulas():
    X, y, _ = cloud(rows=40)
    sphere = X / np.linalg.norm(X, axis=1, keepdims=True)
    found = embedding_quality(X, y, draws=0)["value"]
    pairs = [((sphere[i] - sphere[j]) ** 2).sum() for i in range(40) for j in range(i) if y[i] == y[j]]
    assert found["alignment"] == pytest.approx(np.mean(pairs))
    assert found["uniformity"] == pytest.approx(np.log(np.exp(-2 * pdist(sphere, "sqeuclidean")).mean()))


def test_patients_who_look_like_themselves_do_not_help():
    # Ten views of each patient at one point, labels at random: only the own patient tells the label.
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 10)
    X = rng.normal(size=(60, 8))[patient] + rng.normal(0, 0.01, (600, 8))
    y = rng.integers(2, size=60)[patient]
    leaking = embedding_quality(X, y, draws=0, k=(1,)).loc["precision_at_1", "value"]
    honest = embedding_quality(X, y, patient, draws=0, k=(1,)).loc["precision_at_1", "value"]
    assert leaking > 0.99
    assert honest < 0.65


def test_intervals_draw_the_queries_patients():
    X, y, groups = cloud(rows=60, patients=20)
    found = embedding_quality(X, y, groups, k=(3,), draws=80, seed=1)
    code = pd.factorize(groups)[0]
    far = cdist(X, X)
    each = []
    for q in range(60):
        others = np.flatnonzero(code != code[q])
        near = others[np.argsort(far[q, others], kind="stable")[:3]]
        each.append((y[near] == y[q]).mean())
    drawn = patient_draws(code.max() + 1, 80, 1)[:, code]
    loop = (drawn @ np.array(each)) / drawn.sum(axis=1)
    without = [np.array(each)[code != one].mean() for one in range(code.max() + 1)]
    low, high = bca_interval(loop, np.mean(each), without)
    assert found.loc["precision_at_3"].tolist() == pytest.approx([np.mean(each), low, high])
    assert found.attrs["patients"] == code.max() + 1


def test_blocks_and_a_sample_of_queries(monkeypatch):
    X, y, groups = cloud()
    whole = embedding_quality(X, y, groups, draws=20)
    monkeypatch.setattr(retrieval, "BLOCK_CELLS", 90 * 7)
    pd.testing.assert_frame_equal(embedding_quality(X, y, groups, draws=20), whole)
    some = embedding_quality(X, y, groups, queries=40, draws=20)
    assert some.attrs["queries"] == 40
    assert some.attrs["rows"] == 90
    pd.testing.assert_frame_equal(some, embedding_quality(X, y, groups, queries=40, draws=20))
    everybody = embedding_quality(X, y, groups, queries=None, draws=20)
    pd.testing.assert_frame_equal(everybody, whole)


def test_a_query_whose_label_nobody_else_has():
    X = np.array([[0.0, 1], [0.1, 1], [1, 0], [0.9, 0.1]])
    found = embedding_quality(X, [0, 0, 1, 2], k=(1,), draws=0)
    assert found.attrs["lone"] == 2
    assert found.loc["precision_at_1", "value"] == 1
    alone = embedding_quality(X, [0, 0, 1, 1], [7, 7, 7, 7], k=(1,), draws=30)
    assert alone.attrs["lone"] == 4
    assert alone.loc["precision_at_1"].isna().all()


def test_bad_embeddings_are_named():
    X, y, _ = cloud()
    for change, message in (
        ({"embeddings": X[0]}, r"embeddings has shape \(6,\)"),
        ({"embeddings": np.full_like(X, np.nan)}, "NaN or infinity"),
        ({"metric": "manhattan"}, "metric='manhattan'"),
        ({"k": ()}, r"k is \(\)"),
        ({"k": (0,)}, r"k is \(0,\)"),
        ({"labels": y[:3]}, r"labels has shape \(3,\)"),
        (
            {"embeddings": np.where(np.arange(len(X))[:, None] == 2, np.nan, X)},
            "in 1 of 90 rows, the first is row 2",
        ),
        ({"embeddings": X[:, :0]}, r"it must be \(N, dim\)"),
        ({"k": 3}, "k is 3; it must hold integers"),
        ({"k": (1.5,)}, "k is .* it must hold integers"),
        ({"queries": 0}, "queries=0 must be a whole number of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            embedding_quality(**({"embeddings": X, "labels": y} | change))
