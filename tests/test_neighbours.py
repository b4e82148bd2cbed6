"""The neighbour engine against a naive loop, on clustered and on spread rows, and on edges."""

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siamura import neighbours
from siamura.neighbours import Neighbours, nearest


def clustered(rows, dim=16, seed=0, centres=8):
    """Rows about a few centres, as a trained network places them."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(centres, dim))
    return (middle[rng.integers(centres, size=rows)] + 0.05 * rng.normal(size=(rows, dim))).astype(np.float32)


def spread(rows, dim=16, seed=0):
    """Rows without structure."""
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


def naive(rows, queries, k, groups=None, own=None, mask=None):
    """All distances in double precision, sorted; the first row first among equals."""
    distances = np.full((len(queries), k), np.inf)
    positions = np.full((len(queries), k), -1)
    for i, query in enumerate(queries.astype(np.float64)):
        allowed = np.ones(len(rows), bool) if mask is None else mask.copy()
        if own is not None and own[i] >= 0:
            allowed &= groups != own[i]
        some = np.flatnonzero(allowed)
        far = np.sqrt(((rows[some].astype(np.float64) - query) ** 2).sum(axis=1))
        order = np.lexsort((some, far))[:k]
        distances[i, : len(order)], positions[i, : len(order)] = far[order], some[order]
    return distances, positions


def same(found, wanted):
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-13)
    np.testing.assert_array_equal(found[1], wanted[1])


@pytest.mark.parametrize("make", [clustered, spread])
@pytest.mark.parametrize("queries", [1, 7, 60])
@pytest.mark.parametrize("filtered", [None, "few", "most"])
@pytest.mark.parametrize("grouped", [False, True])
def test_exact_is_the_naive_search(make, queries, filtered, grouped):
    rows, asked = make(700), make(queries, seed=1)
    rng = np.random.default_rng(2)
    mask = None if filtered is None else rng.random(700) < {"few": 0.1, "most": 0.9}[filtered]
    groups = rng.integers(40, size=700) if grouped else None
    own = rng.integers(-1, 45, size=queries) if grouped else None  # of no patient, and of unknown ones too
    held = Neighbours(rows, groups)
    wanted = naive(rows, asked, 9, groups, own, mask)
    same(held.search(asked, 9, groups=own, among=mask), wanted)
    if mask is not None:
        same(held.search(asked, 9, groups=own, among=np.flatnonzero(mask)), wanted)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 60),
    queries=st.integers(1, 30),
    dim=st.integers(1, 3),
    k=st.integers(1, 70),
    patients=st.integers(1, 5),
    step=st.sampled_from([0.5, 1e-3]),
)
def test_few_rows_many_duplicates(seed, count, queries, dim, k, patients, step):
    rng = np.random.default_rng(seed)
    rows = (rng.integers(3, size=(count, dim)) * step).astype(np.float32)
    asked = (rng.integers(3, size=(queries, dim)) * step).astype(np.float32)
    groups, own = rng.integers(patients, size=count), rng.integers(-1, patients + 1, size=queries)
    found, wanted = Neighbours(rows, groups).search(asked, k, groups=own), naive(rows, asked, k, groups, own)
    np.testing.assert_allclose(found[0], wanted[0])
    assert ((found[1] < 0) == (wanted[1] < 0)).all()
    there = found[1] >= 0
    assert not (groups[found[1]] == own[:, None])[there].any()
    assert all(len(set(line[line >= 0])) == (line >= 0).sum() for line in found[1])


@pytest.mark.parametrize("queries", [5, 50])
@pytest.mark.parametrize("offset", [0.0, 1.0, 300.0])
def test_close_rows_far_from_the_origin(offset, queries):
    # A float32 product of rows of length 1,700 errs by 0.2; the rows lie 0.01 apart.
    rows = (spread(500, 32) * 2e-3 + offset).astype(np.float32)
    asked = (spread(queries, 32, seed=1) * 2e-3 + offset).astype(np.float32)
    same(Neighbours(rows).search(asked, 10), naive(rows, asked, 10))


@pytest.mark.parametrize("queries", [5, 50])
def test_rounding_that_hides_a_row_is_seen(queries, caplog, monkeypatch):
    # Two clusters at +-100: their mean is the origin, and within one the product cannot tell rows apart.
    rows = (spread(400, 8) * 1e-3 + np.where(np.arange(400) % 2, 100, -100)[:, None]).astype(np.float32)
    asked = rows[:queries] + np.float32(1e-3)
    same(Neighbours(rows).search(asked, 3), naive(rows, asked, 3))
    # Of equal rows any are right, and comparing all of them would take for ever.
    monkeypatch.setattr(neighbours, "_MOST", 1000)
    with caplog.at_level(logging.INFO, "siamura"):
        assert not Neighbours(np.sign(rows)).search(np.ones((queries, 8)), 3)[0].any()
    assert f"{queries} of {queries} queries have more rows at nearly one distance" in caplog.text


def test_a_patient_with_most_of_the_rows():
    rows, groups = spread(400), np.arange(400) % 30
    groups[:300] = 99
    same(Neighbours(rows, groups).search(rows, 9, groups=groups), naive(rows, rows, 9, groups, groups))


def test_40_000_random_rows_are_searched_exactly():
    rows, asked = spread(40_000, 128), spread(25, 128, seed=1)
    held, wanted = Neighbours(rows), naive(rows, asked[:4], 15)
    same([part[:4] for part in held.search(asked, 15)], wanted)
    same(held.search(asked[:4], 15), wanted)


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "IVF16,Flat"])
def test_approximate_kinds_on_clustered_rows(kind):
    rows, asked = clustered(3000, 8), clustered(200, 8, seed=0)
    groups = np.arange(3000) // 3
    held = Neighbours(rows, groups, kind=kind)
    wanted = naive(rows, asked, 10, groups, groups[:200])
    distances, positions = held.search(asked, 10, groups=groups[:200])
    found = (positions[:, :, None] == wanted[1][:, None, :]).any(axis=1).mean()
    assert found > (0.95 if kind in ("hnsw", "ivf") else 0.4)
    assert abs(found - held.recall) < 0.1
    assert not (groups[positions] == groups[:200, None]).any()
    there = positions == wanted[1]
    np.testing.assert_allclose(distances[there], wanted[0][there], rtol=1e-13)


def test_an_approximate_kind_says_how_bad_it_is(caplog):
    with caplog.at_level(logging.INFO, "siamura"):
        held = Neighbours(spread(4000, 64), kind="IVF64,Flat")
    assert held.recall < 0.5
    assert f"finds {100 * held.recall:.1f} % of the 15 nearest among 4,000 rows" in caplog.text
    assert "kind='exact' finds all" in caplog.text
    assert caplog.records[-1].levelname == "WARNING"
    caplog.clear()
    with caplog.at_level(logging.INFO, "siamura"):
        held = Neighbours(clustered(2000), kind="hnsw")
    assert held.recall >= 0.95
    assert caplog.records[-1].levelname == "INFO"
    assert Neighbours(spread(10)).recall is None


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_what_lists_cannot_give_is_searched_exactly(kind):
    rows, groups = clustered(900), np.zeros(900, int)
    groups[-5:] = 1  # all but five are of the asking patient
    held = Neighbours(rows, groups, kind=kind)
    own = np.zeros(40, int)
    same(held.search(rows[:40], 8, groups=own), naive(rows, rows[:40], 8, groups, own))
    mask = np.arange(900) >= 890
    same(held.search(rows[:40], 8, among=mask), naive(rows, rows[:40], 8, mask=mask))


@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf"])
def test_adding(kind):
    rows, groups = clustered(900), np.arange(900) // 2
    held = Neighbours(rows[:300], groups[:300], kind=kind)
    held.add(rows[300:310], groups[300:310])
    held.add(rows[310:], groups[310:])
    assert len(held) == 900
    wanted = naive(rows, rows[:50], 5, groups, groups[:50])[1]
    found = held.search(rows[:50], 5, groups=groups[:50])[1]
    assert (found[:, :, None] == wanted[:, None, :]).any(axis=1).mean() > (0.999 if kind == "exact" else 0.95)
    with pytest.raises(ValueError, match="groups is missing"):
        held.add(rows[:1])
    with pytest.raises(ValueError, match=r"rows has shape \(1, 3\); it must be \(rows, 16\)"):
        held.add(rows[:1, :3], [1])


@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf", "PCA4,Flat"])
def test_kept_and_pickled(kind, tmp_path):
    rows = clustered(600)
    held = Neighbours(rows, kind=kind)
    wanted = held.search(rows[:40], 7)
    again = pickle.loads(pickle.dumps(held))
    same(again.search(rows[:40], 7), wanted)
    again.add(rows[:5])
    assert len(again) == 605
    if kind == "exact":
        assert held.to_bytes() is None
        with pytest.raises(ValueError, match="builds nothing that could be kept"):
            held.save(tmp_path / "kept")
        return
    held.save(tmp_path / "kept")
    for kept in (tmp_path / "kept", held.to_bytes()):
        read = Neighbours(rows, kind=kind, kept=kept, recall=held.recall)
        assert read.recall == held.recall
        same(read.search(rows[:40], 7), wanted)
        with pytest.raises(ValueError, match=r"over 600 rows of 16 numbers, not kind=.* over 599 rows"):
            Neighbours(rows[:-1], kind=kind, kept=kept)
    assert Neighbours(rows, kind=kind, kept=tmp_path / "kept").recall == pytest.approx(held.recall, abs=0.01)
    (tmp_path / "kept").write_bytes(b"no index")
    with pytest.raises(ValueError, match="cannot be read by FAISS"):
        Neighbours(rows, kind=kind, kept=tmp_path / "kept")


def test_another_kind_is_not_taken_for_this_one():
    rows = clustered(600)
    with pytest.raises(ValueError, match=r"holds a IndexIVFFlat .* not kind='hnsw'"):
        Neighbours(rows, kind="hnsw", kept=Neighbours(rows, kind="ivf").to_bytes())


def test_threads_share_it():
    rows = spread(3000)
    for kind in ("exact", "hnsw"):
        held = Neighbours(rows, kind=kind)
        wanted = [held.search(rows[i : i + 30], 5) for i in range(0, 300, 30)]
        with ThreadPoolExecutor(4) as pool:
            got = list(pool.map(lambda i, held=held: held.search(rows[i : i + 30], 5), range(0, 300, 30)))
        for a, b in zip(got, wanted, strict=True):
            same(a, b)


def test_nothing_to_find():
    held = Neighbours(np.empty((0, 4), np.float32), np.empty(0, int))
    for queries in (0, 1, 30):
        distances, positions = held.search(np.zeros((queries, 4)), 3, groups=np.zeros(queries, int))
        assert distances.shape == positions.shape == (queries, 3)
        assert np.isinf(distances).all()
        assert (positions == -1).all()
    held = Neighbours(spread(50))
    for queries in (1, 30):
        assert (held.search(spread(queries), 3, among=np.zeros(50, bool))[1] == -1).all()
    assert nearest([[0.0], [2.0]], [[1.9]], 1, groups=[1, 2], query_groups=[2])[1].tolist() == [[0]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: Neighbours(np.zeros(3)), r"rows has shape \(3,\)"),
        (lambda: Neighbours([[0.0], [np.nan]]), "rows holds NaN, infinity or .* in row 1, one of 1"),
        (lambda: Neighbours([[1e39]]), "beyond float32 in row 0"),
        (lambda: Neighbours([[0.0]], [0.5]), "groups has dtype float64"),
        (lambda: Neighbours([[0.0]], [1, 2]), r"one whole number a row, shape \(1,\)"),
        (lambda: Neighbours([[0.0]], kind="nonsense"), "index='nonsense' is unknown"),
        (lambda: Neighbours([[0.0]], kind=None), "kind=None is unknown"),
        (lambda: Neighbours([[0.0]], kind="IVF4,PQ2"), "kind|index"),
        (lambda: Neighbours([[0.0]], device="tpu"), "device='tpu' is unknown"),
        (lambda: Neighbours([[0.0]]).search([[0.0]], 0), "k=0 must be a whole number"),
        (lambda: Neighbours([[0.0]]).search([[0.0]], 1, groups=[1]), "the rows held have none"),
        (lambda: Neighbours([[0.0]]).search([[np.inf]], 1), "queries holds NaN, infinity"),
        (lambda: Neighbours([[0.0]]).search([[0.0]], 1, among=[1]), "positions from 0 to 0"),
        (lambda: Neighbours([[0.0]]).search([[0.0]], 1, among=[True, False]), "mask of 1 truth values"),
    ],
)
def test_errors_name_the_argument(given, message):
    with pytest.raises(ValueError, match=message):
        given()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_few_queries_are_shared_out_to_the_cores(monkeypatch, threads):
    from siamura import _exact_search

    monkeypatch.setattr(_exact_search, "_PART", 50)
    rows, points = spread(433), spread(1, seed=3)
    before = faiss.omp_get_max_threads()
    value, position = _exact_search.knn(points, rows, 40, threads)
    assert faiss.omp_get_max_threads() == before  # one thread of FAISS in each part, and only there
    far, expected = naive(rows, points, 40)
    np.testing.assert_array_equal(position, expected)
    np.testing.assert_allclose(value, far**2, rtol=1e-5)
