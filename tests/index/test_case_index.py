"""CaseIndex against a naive search, and what it refuses."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siamura.index import CaseIndex, fingerprint

from .drawing import cases


def naive(vectors, table, query, k, part=None, label=None, patient=None):
    far = np.sqrt(((vectors.astype(np.float64) - query.astype(np.float64)) ** 2).sum(axis=1))
    keep = np.ones(len(table), bool)
    if part is not None:
        keep &= table["part"].isin([part] if isinstance(part, str) else part).to_numpy()
    if label is not None:
        keep &= (table["label"] == label).to_numpy()
    if patient is not None:
        keep &= (table["patient"] != patient).to_numpy()
    order = np.lexsort((np.arange(len(far)), np.where(keep, far, np.inf)))[:k]
    return [i for i in order if keep[i]], far


@pytest.fixture
def filled(tmp_path):
    vectors, table = cases(300)
    index = CaseIndex.create(tmp_path / "index", dim=8)
    index.add(vectors, table)
    return index, vectors, table


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 5),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    k=st.integers(1, 60),
    part=st.sampled_from([None, "XR_HAND", ("XR_HAND", "XR_WRIST"), "XR_NONE"]),
    label=st.sampled_from([None, 0, 1]),
    own=st.booleans(),
)
def test_equals_a_naive_search_however_it_was_filled(tmp_path_factory, seed, sizes, k, part, label, own):
    vectors, table = cases(sum(sizes), seed=seed)
    index = CaseIndex.create(tmp_path_factory.mktemp("i") / "index", dim=8)
    at = 0
    for size in sizes:
        index.add(vectors[at : at + size], table.iloc[at : at + size])
        at += size
    index = CaseIndex.open(index.folder)
    queries = vectors[:3]
    patients = table["patient"].tolist()[:3] if own else None
    found = index.search(queries, k, part=part, label=label, exclude_patient=patients)
    for q in range(len(queries)):
        rows = found[found["query"] == q]
        expected, far = naive(vectors, table, queries[q], k, part, label, patients[q] if own else None)
        assert rows["case"].tolist() == expected
        assert rows["rank"].tolist() == list(range(1, len(expected) + 1))
        np.testing.assert_allclose(rows["distance"], far[expected], atol=1e-12)
        columns = table.iloc[expected].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows[list(table)].reset_index(drop=True), columns)
    pd.testing.assert_frame_equal(index.table, table)
    np.testing.assert_array_equal(index.embeddings(), vectors)
    assert len(index._segments) <= 1 + np.log2(len(vectors))


def test_inverted_file_finds_what_the_exact_search_finds(tmp_path):
    vectors, table = cases(3000, dim=4)
    index = CaseIndex.create(tmp_path / "index", dim=4, exact_up_to=500)
    index.add(vectors[:2600], table[:2600])
    index.add(vectors[2600:], table[2600:])  # not in the inverted file yet: fewer than a quarter
    index = CaseIndex.open(index.folder)
    assert index._inverted.ntotal == 2600
    assert index.recall >= 0.99
    queries, own = vectors[::60], table["patient"].tolist()[::60]
    for filters in ({}, {"label": 1}, {"part": "XR_HAND", "label": 0}):
        fast = index.search(queries, 10, exclude_patient=own, **filters)
        slow = index.search(queries, 10, exclude_patient=own, exact=True, **filters)
        assert len(fast) == len(slow) == 10 * len(queries)
        same = len(pd.merge(fast, slow, on=["query", "case"]))
        assert same >= 0.97 * len(slow)
        assert not (fast["patient"] == np.take(own, fast["query"])).any()
        for name, value in filters.items():
            assert (fast[name] == value).all()


def test_a_filter_that_leaves_few_is_searched_whole(tmp_path):
    vectors, table = cases(2000, dim=4)
    table.loc[1990:, "part"] = "XR_ELBOW"
    index = CaseIndex.create(tmp_path / "index", dim=4, exact_up_to=3)
    index.add(vectors, table)
    found = index.search(vectors[0], 10, part="XR_ELBOW")
    assert sorted(found["case"]) == list(range(1990, 2000))


def test_duplicates_have_distance_zero(filled):
    index, vectors, _ = filled
    index.add(vectors[:1], filled[2].iloc[:1])
    found = index.search(vectors[0], 2)
    assert found["case"].tolist() == [0, 300]
    assert found["distance"].tolist() == [0.0, 0.0]


def test_opening_and_one_search_do_not_read_the_vectors_whole(tmp_path):
    vectors, table = cases(6000, dim=512)
    index = CaseIndex.create(tmp_path / "index", dim=512, exact_up_to=100)
    index.add(vectors, table)

    def resident() -> int:
        kept = 0
        counting = False
        with open("/proc/self/smaps") as file:
            for line in file:
                if "-" in line.split()[0]:
                    counting = line.rstrip().endswith(("vectors.npy", ".faiss"))
                elif counting and line.startswith("Rss:"):
                    kept += int(line.split()[1])
        return kept * 1024

    before = resident()
    opened = CaseIndex.open(index.folder)
    assert resident() - before < 0.1 * vectors.nbytes
    assert len(opened) == 6000


def test_another_process_sees_additions_after_refresh(filled):
    index, vectors, table = filled
    reader = CaseIndex.open(index.folder)
    index.add(vectors, table)
    assert len(reader.search(vectors[0], 600)) == 300
    assert len(reader.refresh().search(vectors[0], 600)) == 600


def test_a_reader_whose_segments_are_taken_away_while_opening_reads_the_newer_ones(filled):
    index, vectors, table = filled
    from siamura.index.files import Manifest

    old = Manifest.read(index.folder)
    index.add(vectors, table)
    assert len(CaseIndex(index.folder, old, proven=True)) == 600


class TestFingerprint:
    @pytest.fixture
    def net(self):
        from siamura.networks import EmbeddingNet
        from siamura.pixels import Preprocess

        return EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=64))

    def test_survives_saving(self, net, tmp_path):
        net.save_pretrained(tmp_path)
        assert fingerprint(type(net).from_pretrained(tmp_path)) == fingerprint(net)

    def test_another_model_or_preprocessing_is_refused(self, net, tmp_path):
        from siamura.networks import EmbeddingNet
        from siamura.pixels import Preprocess

        vectors, table = cases(10)
        index = CaseIndex.create(tmp_path / "index", model=net)
        index.add(vectors, table)
        other = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=64), seed=1)
        with pytest.raises(ValueError, match="another model made"):
            CaseIndex.open(index.folder, model=other)
        net.preprocess = Preprocess(size=64, clahe=None)
        opened = CaseIndex.open(index.folder)
        with pytest.raises(ValueError, match="another preprocessing made"):
            opened.search(vectors[0], model=net)
        with pytest.raises(ValueError, match="another preprocessing made"):
            opened.add(vectors, table, model=fingerprint(net))
        with pytest.raises(ValueError, match="model is missing"):
            opened.search(vectors[0])
        net.preprocess = Preprocess(size=64)
        assert len(opened.search(vectors[0], 3, model=net)) == 3
        assert len(CaseIndex.open(index.folder, model=net).search(vectors[0], 3)) == 3

    def test_config_counts_where_weights_are_equal(self):
        from siamura.networks import EmbeddingNet

        a, b = (EmbeddingNet("squeezenet1_1", dim=8, normalize=n) for n in (True, False))
        assert fingerprint(a) != fingerprint(b)

    def test_of_nothing(self, tmp_path):
        with pytest.raises(ValueError, match="model is a str"):
            CaseIndex.create(tmp_path / "cases", dim=3, model="densenet")  # type: ignore[arg-type]
        assert not (tmp_path / "cases").exists()
        assert fingerprint(torch.nn.Linear(2, 2))["preprocessing"] == "none"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i, v, t: i.add(v[:, :3], t), r"shape \(300, 3\); this index holds 8"),
        (lambda i, v, t: i.add(v, t[:5]), "300 rows and table 5"),
        (lambda i, v, t: i.add(np.full_like(v, np.nan), t), "not finite in 300 rows"),
        (lambda i, v, t: i.add(v, t.drop(columns="patient")), "lacks the column 'patient'"),
        (lambda i, v, t: i.add(v, t.assign(label="x")), "column 'label'"),
        (lambda i, v, t: i.add(v, t.assign(study=1)), "column 'study'"),
        (lambda i, v, t: i.add(v, t.assign(study=None)), "column 'study'"),
        (lambda i, v, t: i.add(v, t.drop(columns="age")), "Make them agree"),
        (lambda i, v, t: i.add(v, t.assign(rank=1)), "rename it"),
        (lambda i, v, t: i.search(v[0], 0), "k=0"),
        (lambda i, v, t: i.search(v[0] * np.nan), "not finite"),
        (lambda i, v, t: i.search(v[:2], exclude_patient=["a"]), "1 patients for 2 queries"),
        (lambda i, v, t: i.embeddings([300]), "outside 0 to 299"),
        (lambda i, v, t: i.embeddings([True, False]), "cases holds bool; give whole numbers"),
        # What is no text would be no one's: nobody left out, or nothing found, in silence.
        (lambda i, v, t: i.search(v[0], exclude_patient=7), "exclude_patient holds 7; give text"),
        (lambda i, v, t: i.search(v[0], exclude_patient=[None]), "exclude_patient holds None; give text"),
        (lambda i, v, t: i.search(v[0], part=3), "part holds 3; give text"),
        (lambda i, v, t: i.search(v[0], label="1"), "label='1' must be a whole number"),
        (lambda i, v, t: i.add(v, pd.concat([t, t[["path"]]], axis=1)), "column 'path' twice"),
        # What could be written and never be read again.
        (
            lambda i, v, t: i.add(v, t.assign(age=pd.array([1, 2, 3, None] * 75, dtype="Int64"))),
            "column 'age' of table has a missing value in row 3",
        ),
        (
            lambda i, v, t: i.add(v, t.assign(seen=pd.array([True, None] * 150, dtype="boolean"))),
            "column 'seen' of table has a missing value in row 1",
        ),
        (
            lambda i, v, t: i.add(v, t.assign(age=np.full(300, 2**64 - 1, np.uint64))),
            "column 'age' of table holds 18446744073709551615",
        ),
    ],
)
def test_refuses(filled, call, message):
    with pytest.raises(ValueError, match=message):
        call(*filled)
    assert len(filled[0]) == len(CaseIndex.open(filled[0].folder)) == 300


def test_create_refuses_a_folder_in_use_and_a_missing_dim(tmp_path):
    (tmp_path / "x.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        CaseIndex.create(tmp_path, dim=3)
    with pytest.raises(ValueError, match="dim=None"):
        CaseIndex.create(tmp_path / "new")
    with pytest.raises(FileNotFoundError, match=r"CaseIndex\.create"):
        CaseIndex.open(tmp_path)


def test_an_empty_index_and_an_empty_addition(tmp_path):
    index = CaseIndex.create(tmp_path / "index", dim=8)
    assert len(index.search(np.zeros(8))) == 0
    assert list(index.search(np.zeros(8)))[:4] == ["query", "rank", "distance", "case"]
    vectors, table = cases(4)
    assert index.add(vectors[:0], table[:0]) == 0
    assert index.add(vectors, table) == 4
    assert len(index.search(vectors[:0])) == 0


def test_odd_values_come_back_as_they_were(tmp_path):
    vectors, table = cases(4)
    table = table.assign(
        path=["\ufeffa.png", "a\rb.png", "a\r\nb.png", 'a",b.png'],
        patient=["a\x00", " a ", "NA", "\u2028"],
        dose=pd.array([0.1, None, 1e-300, 7.0], dtype="Float64"),
    )
    index = CaseIndex.create(tmp_path / "index", dim=8)
    index.add(vectors[:2], table[:2])
    index.add(vectors[2:], table[2:].reset_index(drop=True))
    pd.testing.assert_frame_equal(
        index.table, table.assign(dose=[0.1, np.nan, 1e-300, 7.0]), check_dtype=False
    )
    for row in range(4):
        found = index.search(vectors[row], 1)
        assert found.loc[0, ["path", "patient"]].tolist() == table.loc[row, ["path", "patient"]].tolist()
