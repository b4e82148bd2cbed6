"""KNNHead against scikit-learn, naive loops and hand-worked votes."""

import json
import logging
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from siamura.heads import KNNHead, MLPHead


def blobs(rows=300, dim=8, seed=0, classes=2, patients=60):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=rows)
    X = rng.normal(size=(rows, dim)) + 0.7 * y[:, None]
    return X, y, rng.integers(patients, size=rows)


@pytest.mark.parametrize(
    "head",
    [
        KNNHead(),
        KNNHead(k=3, metric="cosine", weights="distance"),
        KNNHead(prior="uniform"),
        KNNHead(index="hnsw"),
        KNNHead(index="ivf"),
    ],
    ids=str,
)
def test_scikit_learn_accepts_it(head):
    results = check_estimator(head, on_skip=None)
    assert {result["status"] for result in results} <= {"passed", "skipped"}
    # Skipped alone is what needs SCIPY_ARRAY_API set before scipy is imported.
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("classes", [2, 4])
def test_agrees_with_scikit_learn(weights, metric, classes):
    X, y, _ = blobs(classes=classes)
    Q, _, _ = blobs(rows=100, seed=1, classes=classes)
    ours = KNNHead(k=7, metric=metric, weights=weights).fit(X, y)
    theirs = KNeighborsClassifier(7, metric=metric, weights=weights).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(Q), theirs.predict_proba(Q), atol=1e-5)
    far, near = ours.kneighbors(Q)
    their_far, their_near = theirs.kneighbors(Q)
    np.testing.assert_array_equal(near, their_near)
    np.testing.assert_allclose(far, their_far, rtol=1e-4, atol=1e-6)


def test_far_from_the_origin_nothing_is_lost():
    X, y, _ = blobs()
    shifted = KNNHead(k=5).fit(X + 1e6, y)
    np.testing.assert_array_equal(shifted.kneighbors(X + 1e6)[1], KNNHead(k=5).fit(X, y).kneighbors(X)[1])


def test_a_duplicate_at_distance_zero_silences_the_others():
    X = np.array([[0.3, 0.7], [0.3, 0.7], [0.31, 0.7], [0.32, 0.7]])
    head = KNNHead(k=4, weights="distance").fit(X, [0, 1, 1, 1])
    np.testing.assert_allclose(head.predict_proba(X[:1]), [[0.5, 0.5]])


def naive(X, y, groups, Q, query_groups, k, classes):
    out = []
    for q, g in zip(Q, query_groups, strict=True):
        others = np.flatnonzero(groups != g)
        near = others[np.argsort(((X[others] - q) ** 2).sum(axis=1), kind="stable")[:k]]
        votes = np.bincount(y[near], minlength=classes)
        out.append(votes / votes.sum() if len(near) else np.bincount(y, minlength=classes) / len(y))
    return np.array(out)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(3, 80),
    patients=st.integers(1, 20),
    k=st.integers(1, 20),
)
def test_own_patient_never_votes(seed, rows, patients, k):
    X, y, groups = blobs(rows=rows, seed=seed, patients=patients)
    y[:2] = 0, 1
    head = KNNHead(k=k).fit(X, y, groups=groups)
    np.testing.assert_allclose(
        head.predict_proba(X, groups=groups), naive(X, y, groups, X, groups, k, 2), atol=1e-12
    )
    _, near = head.kneighbors(X, groups=groups)
    assert not ((groups[near] == groups[:, None]) & (near >= 0)).any()


def test_one_patient_with_most_of_the_rows():
    X, y, groups = blobs(rows=400, patients=30)
    groups[:300] = 99
    head = KNNHead(k=9).fit(X, y, groups=groups)
    np.testing.assert_allclose(head.predict_proba(X, groups=groups), naive(X, y, groups, X, groups, 9, 2))


def test_string_patients_and_patients_never_seen():
    X, y, groups = blobs()
    named = np.array([f"patient{g:05d}" for g in groups])
    head = KNNHead(k=5).fit(X, y, groups=named)
    by_number = KNNHead(k=5).fit(X, y, groups=groups)
    expected = by_number.predict_proba(X, groups=groups)
    np.testing.assert_array_equal(head.predict_proba(X, groups=list(named)), expected)
    np.testing.assert_array_equal(head.predict_proba(X, groups=["new"] * len(X)), head.predict_proba(X))


def test_prior_by_hand():
    # Of the 3 nearest one is of class 1, which is 2 of 8 training rows: votes 2 and 1 become 2 * (1/2)/(6/8) and
    # 1 * (1/2)/(2/8), that is 4/3 and 2, or 0.4 and 0.6.
    X = np.array([[0.0], [0.2], [0.1], [5.0], [5.1], [5.2], [5.3], [9.0]])
    y = np.array([0, 0, 1, 0, 0, 0, 0, 1])
    uniform = KNNHead(k=3, prior="uniform").fit(X, y)
    np.testing.assert_allclose(uniform.predict_proba([[0.1]]), [[0.4, 0.6]])
    np.testing.assert_allclose(KNNHead(k=3, prior=[3, 1]).fit(X, y).predict_proba([[0.1]]), [[2 / 3, 1 / 3]])
    # What the training rows' own frequencies say is what None says.
    own, none = KNNHead(k=3, prior=[0.75, 0.25]).fit(X, y), KNNHead(k=3).fit(X, y)
    np.testing.assert_allclose(own.predict_proba(X), none.predict_proba(X))


@pytest.mark.parametrize("index", ["exact", "hnsw", "ivf", "IVF4,Flat"])
def test_adding_in_parts_is_fitting_at_once(index):
    X, y, groups = blobs(rows=600)
    whole = KNNHead(k=5, index=index).fit(X, y, groups=groups)
    parts = KNNHead(k=5, index=index)
    for start in range(0, 600, 200):
        part = slice(start, start + 200)
        parts.partial_fit(X[part], y[part], classes=[0, 1], groups=groups[part])
    assert parts.n_rows_ == 600
    same = (parts.predict(X, groups=groups) == whole.predict(X, groups=groups)).mean()
    # The factory's inverted file looks into one list of four, learned from the first part alone.
    assert same >= {"exact": 1.0, "IVF4,Flat": 0.8}.get(index, 0.95)


def test_lists_are_learned_anew_when_the_rows_have_multiplied(tmp_path):
    X, y, _ = blobs(rows=400)
    head = KNNHead(k=5, index="ivf").partial_fit(X[:100] + 30, y[:100])
    head.partial_fit(X[100:300], y[100:300])
    assert head._held._index.nlist == 2  # of 100 rows, at least 39 a list
    head.partial_fit(X[300:], y[300:])
    assert head._held._index.nlist == 10  # of 400
    assert head._held._learned_from == head.n_rows_ == 400


def test_auto_is_exact_at_any_size():
    # An approximate index differed by up to 0.47 on rows like these, and was slower to build than scikit-learn.
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40_000, 128)).astype(np.float32), rng.integers(2, size=40_000)
    Q = rng.normal(size=(60, 128)).astype(np.float32)
    head = KNNHead(k=15).fit(X, y)
    assert head.index_ == "exact"
    assert head.recall_ is None
    theirs = KNeighborsClassifier(15, algorithm="brute").fit(X, y)
    np.testing.assert_array_equal(head.predict_proba(Q), theirs.predict_proba(Q))


@pytest.mark.parametrize("make", ["clustered", "spread"])
def test_an_approximate_index_says_its_recall(make, caplog, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 48))
    if make == "clustered":
        X = np.tanh(X[:, :6] @ rng.normal(size=(6, 48)))
    y = rng.integers(2, size=5000)
    with caplog.at_level("INFO", "siamura"):
        head = KNNHead(k=15, index="IVF64,Flat" if make == "spread" else "hnsw").fit(X, y)
    true = KNNHead(k=15, index="exact").fit(X, y).kneighbors(X[:300] + 0.01)[1]
    found = (head.kneighbors(X[:300] + 0.01)[1][:, :, None] == true[:, None, :]).any(axis=1).mean()
    assert abs(found - head.recall_) < 0.1
    assert f"finds {100 * head.recall_:.1f} %" in caplog.text
    assert ("WARNING" in caplog.text) == (make == "spread")
    assert KNNHead.load(head.save(tmp_path)).recall_ == head.recall_


@pytest.mark.parametrize("index", ["hnsw", "ivf"])
def test_approximate_kinds_find_nearly_all(index):
    rng = np.random.default_rng(0)
    X = np.tanh(rng.normal(size=(6000, 6)) @ rng.normal(size=(6, 32)) * 0.3)
    y = rng.integers(2, size=len(X))
    true = KNNHead(k=10, index="exact").fit(X, y).kneighbors(X[:500])[1]
    near = KNNHead(k=10, index=index).fit(X, y).kneighbors(X[:500])[1]
    assert (near[:, :, None] == true[:, None, :]).any(axis=1).mean() > 0.97


@pytest.mark.parametrize("index", ["exact", "hnsw", "ivf"])
@pytest.mark.parametrize("names", [False, True])
def test_kept_on_disk(tmp_path, index, names):
    X, y, groups = blobs()
    labels = np.array(["normal", "abnormal"])[y] if names else y
    patients = np.array([f"p{g}" for g in groups], dtype=object) if names else groups
    head = KNNHead(k=np.int64(4), index=index, prior=(0.5, 0.5), weights="distance")
    head.fit(X, labels, groups=patients)
    again = KNNHead.load(head.save(tmp_path / "knn"))
    assert type(again.k) is int
    assert again.index_ == index
    np.testing.assert_array_equal(again.classes_, head.classes_)
    for g in (None, patients):
        np.testing.assert_array_equal(again.predict_proba(X, groups=g), head.predict_proba(X, groups=g))
    again.partial_fit(X[:5], labels[:5], groups=patients[:5])
    assert again.n_rows_ == 305
    for file in (tmp_path / "knn").iterdir():
        assert file.suffix in {".json", ".npz"}
    with np.load(tmp_path / "knn" / "head.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays)


def test_pickled_for_several_processes():
    X, y, _ = blobs()
    for index in ("exact", "hnsw"):
        head = KNNHead(index=index).fit(X, y)
        again = pickle.loads(pickle.dumps(head))
        np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))


def test_in_pipeline_search_and_cross_validation():
    X, y, groups = blobs()
    pipe = make_pipeline(StandardScaler(), KNNHead(k=5))
    pipe.fit(X, y, knnhead__groups=groups)
    own_left_out = pipe.predict_proba(X, groups=groups)
    assert not np.array_equal(own_left_out, pipe.predict_proba(X))
    assert cross_val_score(pipe, X, y, cv=GroupKFold(3), groups=groups, scoring="roc_auc").min() > 0.7
    search = GridSearchCV(pipe, {"knnhead__k": [1, 15]}, cv=GroupKFold(3)).fit(X, y, groups=groups)
    assert search.best_params_ == {"knnhead__k": 15}


def test_metadata_routing_hands_groups_over():
    import sklearn

    X, y, groups = blobs(patients=10)
    with sklearn.config_context(enable_metadata_routing=True):
        head = KNNHead(k=3).set_fit_request(groups=True).set_predict_proba_request(groups=True)
        pipe = make_pipeline(StandardScaler(), head).fit(X, y, groups=groups)
        routed = pipe.predict_proba(X, groups=groups)
    scaled = StandardScaler().fit_transform(X)
    expected = KNNHead(k=3).fit(scaled, y, groups=groups).predict_proba(scaled, groups=groups)
    np.testing.assert_allclose(routed, expected)


def test_fewer_rows_than_k():
    head = KNNHead(k=15).fit([[0.0], [1.0], [2.0]], [0, 0, 1])
    np.testing.assert_allclose(head.predict_proba([[0.0]]), [[2 / 3, 1 / 3]])
    far, near = head.kneighbors([[0.0]])
    assert near[0, :3].tolist() == [0, 1, 2]
    assert (near[0, 3:] == -1).all()
    assert np.isinf(far[0, 3:]).all()


def test_how_many_neighbours_are_asked_for():
    X, y, _ = blobs()
    head = KNNHead(k=3).fit(X, y)
    for k in (0, -1, 1.7):
        with pytest.raises(ValueError, match=f"k={k} must be a whole number of at least 1"):
            head.kneighbors(X, k=k)
    # More than any memory holds, all of whom are the rows that there are.
    np.testing.assert_array_equal(KNNHead(k=10**12).fit(X, y).predict_proba(X)[0], np.bincount(y) / len(y))


def test_zero_vectors_have_a_cosine():
    head = KNNHead(k=1, metric="cosine").fit([[0.0, 0.0], [1.0, 0.0]], [0, 1])
    assert head.predict([[0.0, 0.0], [5.0, 0.0]]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k=0 must be a whole number of at least 1"),
        ({"k": True}, "k=True"),
        ({"k": 2.0}, "k=2.0"),
        ({"metric": "manhattan"}, "metric='manhattan' is unknown; choose one of euclidean, cosine"),
        ({"weights": "gaussian"}, "weights='gaussian' is unknown"),
        ({"device": "tpu"}, "device='tpu'"),
        ({"index": None}, "index=None is unknown"),
        ({"index": "nonsense"}, "index='nonsense' is unknown"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        KNNHead(**settings).fit([[0.0], [1.0]], [0, 1])


def test_a_gpu_that_is_not_there():
    import faiss

    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        head = KNNHead(k=3, device="cuda").fit(*blobs()[:2])
        np.testing.assert_array_equal(
            head.predict(blobs()[0]), KNNHead(k=3).fit(*blobs()[:2]).predict(blobs()[0])
        )
    else:
        with pytest.raises(ValueError, match="this faiss sees no GPU"):
            KNNHead(device="cuda").fit([[0.0], [1.0]], [0, 1])
    assert KNNHead(device="auto", k=1).fit([[0.0], [1.0]], [0, 1]).predict([[0.9]]).tolist() == [1]


@pytest.mark.parametrize(
    "prior",
    [
        "balanced",
        [1.0],
        [-1.0, 2.0],
        [0.0, 0.0],
        [np.nan, 1.0],
        [np.inf, 1.0],
        [[0.5, 0.5]],
        ["a", "b"],
        [None, 1],
        [[1], [1, 2]],
        0.5,
        True,
        pytest.param(object(), id="an object"),
        pytest.param({0.5, 0.4}, id="a set"),
        {},
        {0: 0.5},
        {0: 0.5, 1: 0.4, 2: 0.1},
        {"0": 0.5, "1": 0.5},
        {0: np.nan, 1: 1},
        {0: -0.1, 1: 1},
        {0: "much", 1: 1},
        {0: None, 1: 1},
        {0: [1, 2], 1: 1},
    ],
    ids=repr,
)
def test_bad_priors_are_named(prior):
    with pytest.raises(ValueError, match=r"prior=.*(classes|class)"):
        KNNHead(prior=prior).fit([[0.0], [1.0]], [0, 1])
    later = KNNHead().fit([[0.0], [1.0]], [0, 1]).set_params(prior=prior)
    with pytest.raises(ValueError, match=r"prior=.*(classes|class)"):
        later.predict([[0.0]])


@pytest.mark.parametrize("head", ["knn", "mlp"])
@pytest.mark.parametrize(
    "names",
    [
        ["normal", "fracture", "cyst"],
        [0, 1, 2, 3, 4],
        [1.0, 2.0, 5.0],
        [False, True],
        ["yes", "no"],
        np.array(["a", "b", "c"], dtype=object),
    ],
    ids=str,
)
def test_labels_as_people_have_them(head, names, tmp_path):
    X, y, groups = blobs(rows=240, classes=len(names), seed=3)
    X += 3 * y[:, None]
    labels = np.array(names)[y]
    fresh = KNNHead(k=5) if head == "knn" else MLPHead(epochs=12, lr=2e-2)
    for kind in (np.array, list, pd.Series):
        fitted = clone(fresh).fit(X, kind(labels), groups=groups)
        share = fitted.predict_proba(X)
        assert share.shape == (240, len(names))
        np.testing.assert_allclose(share.sum(axis=1), 1)
        assert fitted.classes_.tolist() == sorted(names)
        assert (fitted.predict(X) == labels).mean() > 0.9
        assert set(fitted.predict(X).tolist()) <= set(names)
    again = type(fresh).load(fitted.save(tmp_path))
    assert again.predict(X).tolist() == fitted.predict(X).tolist()
    assert again.classes_.tolist() == sorted(names)


def test_a_prior_by_class(tmp_path):
    X, y, _ = blobs(classes=3)
    labels = np.array(["normal", "fracture", "cyst"])[y]
    by_name = KNNHead(prior={"normal": 0.9, "cyst": np.float32(0.04), "fracture": 0.06}).fit(X, labels)
    in_order = KNNHead(prior=[0.04, 0.06, 0.9]).fit(X, labels)
    np.testing.assert_allclose(by_name.predict_proba(X), in_order.predict_proba(X), atol=1e-7)
    again = KNNHead.load(by_name.save(tmp_path))
    assert again.prior == pytest.approx({"normal": 0.9, "cyst": 0.04, "fracture": 0.06})
    np.testing.assert_array_equal(again.predict_proba(X), by_name.predict_proba(X))
    numbers = KNNHead(prior={np.int64(0): 1, 1: 2, 2: 3}).fit(X, y)
    np.testing.assert_array_equal(
        KNNHead.load(numbers.save(tmp_path)).predict_proba(X), numbers.predict_proba(X)
    )
    assert clone(by_name).prior == by_name.prior


def test_bad_groups_are_named():
    X, y = [[0.0], [1.0], [2.0]], [0, 1, 1]
    with pytest.raises(ValueError, match="groups has shape"):
        KNNHead().fit(X, y, groups=["a", "b"])
    with pytest.raises(ValueError, match="groups holds"):
        KNNHead().fit(X, y, groups=np.array(["a", None, "b"], dtype=object))
    with pytest.raises(ValueError, match="groups holds float, str; it must hold strings alone or integers"):
        KNNHead().fit(X, y, groups=["a", np.nan, "b"])  # NumPy makes a patient "nan" of it
    with pytest.raises(ValueError, match="missing value at row 1"):
        KNNHead().fit(X, y, groups=[1.0, np.nan, 2.0])
    head = KNNHead().fit(X, y, groups=["a", "b", "c"])
    with pytest.raises(ValueError, match="groups holds numbers, fit was given strings"):
        head.predict(X, groups=[1, 2, 3])
    with pytest.raises(ValueError, match="groups is missing"):
        head.partial_fit(X, y)
    with pytest.raises(ValueError, match="fitted without"):
        KNNHead().fit(X, y).predict(X, groups=["a", "b", "c"])
    with pytest.raises(ValueError, match="groups is given"):
        KNNHead().fit(X, y).partial_fit(X, y, groups=["a", "b", "c"])
    whole = KNNHead(k=1).fit(X, y, groups=np.array([1, 2, 3], dtype=object))
    assert whole.predict(X, groups=[1, 2, 3]).tolist() == [1, 0, 1]


def test_a_class_that_comes_late():
    head = KNNHead().partial_fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(ValueError, match=r"class .*2.* partial_fit\(X, y, classes="):
        head.partial_fit([[2.0]], [2])
    early = KNNHead(k=1, prior="uniform").partial_fit([[0.0]], [0], classes=[0, 1, 2])
    np.testing.assert_allclose(early.predict_proba([[0.0]]), [[1.0, 0, 0]])


def test_a_folder_that_holds_no_such_head(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"head\.json"):
        KNNHead.load(tmp_path)
    folder = KNNHead().fit([[0.0], [1.0]], [0, 1]).save(tmp_path / "head")
    file = folder / "head.json"
    text = file.read_text()
    file.write_text(text.replace('"KNNHead"', '"MLPHead"'))
    with pytest.raises(ValueError, match="holds a MLPHead"):
        KNNHead.load(folder)
    file.write_text(text[:20])
    with pytest.raises(ValueError, match=r"head\.json is no JSON .* save the head anew"):
        KNNHead.load(folder)
    file.write_text(text.replace('"format": 2', '"format": 99'))
    with pytest.raises(ValueError, match="update siamura"):
        KNNHead.load(folder)


def test_cloned_with_all_settings():
    head = KNNHead(3, metric="cosine", weights="distance", prior="uniform", index="hnsw", device="auto")
    assert clone(head).get_params() == head.get_params()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.pop("settings"), "its settings are not those of KNNHead"),
        (lambda h: h["settings"].pop("k"), r"not those of KNNHead \(k missing"),
        (
            lambda h: h["settings"].update(path="/etc/passwd"),
            r"not those of KNNHead \(path missing or unknown\)",
        ),
        (lambda h: h["settings"].update(k="many"), "k='many'"),
        (lambda h: h["settings"].update(prior=[[0, 1], [0, 1, 2]]), r"prior=|not what|sequence"),
        (lambda h: h["settings"].update(prior=[["x", 1.0], ["y", 2.0]]), "prior="),
        (lambda h: h["settings"].update(index="hnsw"), None),
        (lambda h: h["settings"].update(index="../../x"), "index="),
        (lambda h: h.update(format="new"), "is not what KNNHead.save writes"),
        (lambda h: h.pop("recall"), "is not what KNNHead.save writes"),
    ],
)
def test_a_header_that_was_changed(tmp_path, change, message):
    folder = KNNHead().fit([[0.0], [1.0], [2.0]], [0, 1, 1]).save(tmp_path / "head")
    header = json.loads((folder / "head.json").read_text())
    change(header)
    (folder / "head.json").write_text(json.dumps(header))
    if message is None:  # it is built from the rows
        assert KNNHead.load(folder).index_ == "hnsw"
        return
    with pytest.raises(ValueError, match=message):
        KNNHead.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": np.array([0, 5, 1])}, "do not belong together"),
        ({"codes": np.array([0, -1, 1])}, "do not belong together"),
        ({"codes": np.array([0, 1])}, "3 rows and 2 codes"),
        ({"centre": np.zeros(7)}, "do not belong together"),
        ({"rows": np.full((3, 1), np.nan)}, "rows holds NaN"),
        ({"rows": np.zeros((0, 1), np.float32), "codes": np.zeros(0, int)}, "do not belong together"),
        ({"rows": np.array([[None]])}, "rows holds object"),
        ({"more": np.zeros(1)}, "holds 'more', which is not expected"),
        ({"index": np.zeros(9, np.uint8)}, None),
    ],
)
def test_arrays_that_were_changed(tmp_path, change, message):
    folder = KNNHead().fit([[0.0], [1.0], [2.0]], [0, 1, 1]).save(tmp_path / "head")
    with np.load(folder / "head.npz") as arrays:
        held = dict(arrays)
    np.savez(folder / "head.npz", **held | change)
    if message is None:  # the exact search needs none
        KNNHead.load(folder)
        return
    with pytest.raises(ValueError, match=message):
        KNNHead.load(folder)


def test_an_index_that_was_changed(tmp_path):
    X, y, _ = blobs()
    folder = KNNHead(index="hnsw").fit(X, y).save(tmp_path / "head")
    with np.load(folder / "head.npz") as arrays:
        held = dict(arrays)
    for index in (held["index"][:-50], np.zeros(9, np.uint8)):
        np.savez(folder / "head.npz", **held | {"index": index})
        with pytest.raises(ValueError, match="cannot be read by FAISS"):
            KNNHead.load(folder)


def test_what_an_earlier_version_saved(tmp_path):
    X, y, groups = blobs()
    head = KNNHead(k=4).fit(X, y, groups=groups)
    folder = head.save(tmp_path)
    header = json.loads((folder / "head.json").read_text())
    del header["recall"]
    (folder / "head.json").write_text(json.dumps(header | {"format": 1, "learned_from": 300}))
    again = KNNHead.load(folder)
    np.testing.assert_array_equal(again.predict_proba(X, groups=groups), head.predict_proba(X, groups=groups))


def test_a_k_above_the_rows_is_said_and_bounded(caplog, tmp_path):
    rows, labels = np.eye(6, dtype=np.float32), [0, 1] * 3
    with caplog.at_level(logging.WARNING, "siamura"):
        head = KNNHead(k=50).fit(rows, labels)
    assert "k=50 is more than the 6 training rows" in caplog.text
    assert head.kneighbors(rows)[1].shape == (6, 50)
    assert head.predict_proba(rows).tolist() == [[0.5, 0.5]] * 6
    folder = head.save(tmp_path / "head")
    header = json.loads((folder / "head.json").read_text())
    header["settings"]["k"] = 10**12
    (folder / "head.json").write_text(json.dumps(header))
    loaded = KNNHead.load(folder)
    assert loaded.predict_proba(rows).tolist() == [[0.5, 0.5]] * 6
    with pytest.raises(
        ValueError, match=r"k=1000000000000 of 6 queries is more than memory is for; .* 6 rows"
    ):
        loaded.kneighbors(rows)


def test_a_centre_that_is_not_finite_in_head_npz_is_refused(tmp_path):
    folder = KNNHead(k=1).fit(np.eye(4), [0, 1, 0, 1]).save(tmp_path)
    arrays = dict(np.load(folder / "head.npz"))
    arrays["centre"][0] = np.nan
    np.savez(folder / "head.npz", **arrays)
    with pytest.raises(ValueError, match=r"head\.npz: centre holds NaN"):
        KNNHead.load(folder)
