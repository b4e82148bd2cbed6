"""CaseIndex against a naive search, and what it refuses."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siamura.index import CaseIndex, fingerprint
from siamura.index.tables import Session

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
def filled(place):
    vectors, table = cases(300)
    index = CaseIndex.create(place, dim=8)
    index.add(vectors, table)
    return index, vectors, table


SIZES, ASKED = st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 60)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 5),
    sizes=SIZES,
    k=ASKED,
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
    compare(CaseIndex.open(index.place), vectors, table, k, part, label, own)
    index.close()


def compare(index, vectors, table, k, part=None, label=None, own=False):
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


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(("part", "label"), [(None, None), ("XR_HAND", 1), (("XR_HAND", "XR_WRIST"), None)])
def test_postgres_equals_a_naive_search(database, part, label, own):
    vectors, table = cases(120)
    index = CaseIndex.create(database, dim=8)
    index.add(vectors[:70], table[:70])
    index.add(vectors[70:], table[70:])
    for k in (1, 15, 200):
        compare(CaseIndex.open(database), vectors, table, k, part, label, own)


def test_approximate_index_finds_what_the_exact_search_finds(place):
    vectors, table = cases(3000, dim=4)
    index = CaseIndex.create(place, dim=4, exact_up_to=500)
    index.add(vectors[:2600], table[:2600])
    index.add(vectors[2600:], table[2600:])  # not in the inverted file yet: fewer than a quarter
    index = CaseIndex.open(place)
    assert index.recall >= 0.95
    queries, own = vectors[::60], table["patient"].tolist()[::60]
    for filters in ({}, {"label": 1}, {"part": "XR_HAND", "label": 0}):
        fast = index.search(queries, 10, exclude_patient=own, **filters)
        slow = index.search(queries, 10, exclude_patient=own, exact=True, **filters)
        assert len(fast) == len(slow) == 10 * len(queries)
        same = len(pd.merge(fast, slow, on=["query", "case"]))
        assert same >= 0.95 * len(slow)
        assert not (fast["patient"] == np.take(own, fast["query"])).any()
        for name, value in filters.items():
            assert (fast[name] == value).all()


def test_a_filter_that_leaves_few_is_searched_whole(place):
    vectors, table = cases(2000, dim=4)
    table.loc[1990:, "part"] = "XR_ELBOW"
    index = CaseIndex.create(place, dim=4, exact_up_to=3)
    index.add(vectors, table)
    found = index.search(vectors[0], 10, part="XR_ELBOW")
    assert sorted(found["case"]) == list(range(1990, 2000))


def test_duplicates_have_distance_zero(filled):
    index, vectors, table = filled
    index.add(vectors[:1], table.iloc[:1].assign(path="/data/a copy.png"))
    found = index.search(vectors[0], 2)
    assert found["case"].tolist() == [0, 300]
    assert found["distance"].tolist() == [0.0, 0.0]


def test_what_another_process_writes_is_seen_by_the_next_search(filled, place):
    index, vectors, table = filled
    reader = CaseIndex.open(place)
    assert len(reader.search(vectors[0], 600)) == 300
    index.add(vectors, table.assign(study="a later one"))
    assert len(reader.search(vectors[0], 700)) == 600
    index.delete(patient=table["patient"][0])
    own = (table["patient"] == table["patient"][0]).sum()
    left = reader.search(vectors[0], 700)
    assert len(left) == 600 - 2 * own
    assert table["patient"][0] not in set(left["patient"])


class TestAdding:
    def test_the_same_path_is_updated_and_counted_so(self, filled):
        index, vectors, table = filled
        again = index.add(vectors[:20] + 1, table[:20].assign(label=1))
        assert (again, again.added, again.updated) == (300, 0, 20)
        assert (index.table["label"][:20] == 1).all()
        np.testing.assert_array_equal(index.embeddings(range(20)), vectors[:20] + 1)
        found = index.search(vectors[3] + 1, 1)
        assert (found["case"][0], found["distance"][0]) == (3, 0.0)
        more = index.add(vectors[:2], table[:2].assign(path=["/new/0.png", table["path"][1]]))
        assert (more, more.added, more.updated) == (301, 1, 1)

    def test_a_file_that_moved_is_known_by_its_content(self, place, tmp_path):
        vectors, table = cases(3)
        old, new = tmp_path / "old", tmp_path / "new"
        for folder in (old, new):
            folder.mkdir()
            for i in range(3):
                (folder / f"{i}.png").write_bytes(b"film %d" % i)
        (new / "2.png").write_bytes(b"another film under the same name")
        index = CaseIndex.create(place, dim=8)
        index.add(vectors, table.assign(path=[str(old / f"{i}.png") for i in range(3)]))
        moved = index.add(vectors, table.assign(path=[str(new / f"{i}.png") for i in range(3)]))
        assert (moved, moved.added, moved.updated) == (4, 1, 2)
        assert index.table["path"].tolist() == [
            *(str(new / f"{i}.png") for i in range(2)),
            *(str(folder / "2.png") for folder in (old, new)),
        ]
        # The same bytes filed under another patient stay two cases: that is a finding, not a repetition.
        other = index.add(vectors[:1], table[:1].assign(path=str(new / "0.png"), patient="somebody else"))
        assert (other.added, other.updated) == (1, 0)

    def test_other_columns_are_filled_with_missing_values(self, place, caplog):
        vectors, table = cases(6)
        first = table[:2].drop(columns="age")
        index = CaseIndex.create(place, dim=8)
        index.add(vectors[:2], first)
        index.search(vectors[0])  # what is held in memory has fewer columns
        odd = "dose % :x"
        index.add(vectors[2:4], table[2:4].assign(**{odd: [1, 2], "metal": True}))
        assert f"missing values for age, {odd}, metal of the earlier cases" in caplog.text
        index.add(vectors[4:], table[4:].assign(**{odd: [3.0, np.nan]}))  # whole, as the column is
        assert "missing values for metal of the new cases" in caplog.text
        expected = table.assign(age=[np.nan] * 2 + table["age"].tolist()[2:])
        expected[odd] = pd.array([None, None, 1, 2, 3, None], dtype="Int64")
        expected["metal"] = pd.array([None, None, True, True, None, None], dtype="boolean")
        pd.testing.assert_frame_equal(CaseIndex.open(place).table, expected)
        found = index.search(vectors[0], 6).sort_values("case")
        assert found[odd].isna().tolist() == [True, True, False, False, False, True]
        assert sorted(index.search(vectors[0], 6, where={"metal": None})["case"]) == [0, 1, 4, 5]
        assert index.search(vectors[0], 6, where={odd: (3, None)})["case"].tolist() == [4]
        with pytest.raises(ValueError, match=r"=0\.5 does not fit the column; give whole numbers"):
            index.add(vectors[:1], first[:1].assign(**{odd: 0.5}))

    def test_rows_in_memory_follow_every_change(self, filled, place):
        index, vectors, table = filled
        other = CaseIndex.open(place)
        for change in (
            lambda: other.add(vectors[:3] + 1, table[:3].assign(path=["x", "y", "z"])),
            lambda: other.update({"label": 1, "patient": "new name"}, cases=[1, 301]),
            lambda: other.add(vectors[5:7] + 2, table[5:7].assign(label=0)),
            lambda: other.delete(cases=[0, 302]),
            lambda: other.add(vectors[:1], table[:1].assign(path="w")),
        ):
            index.search(vectors[0])
            change()
            for where in (None, {"label": 1}, {"patient": "new name"}):
                found, fresh = (
                    i.search(vectors[2], 400, where=where) for i in (index, CaseIndex.open(place))
                )
                pd.testing.assert_frame_equal(found, fresh)
                assert sorted(found["case"]) == other.select(where)["case"].tolist()
                by_number = other.select(where).set_index("case").loc[found["case"]]
                pd.testing.assert_frame_equal(found[list(table)], by_number.reset_index(drop=True))

    def test_twice_the_same_film_in_one_addition(self, place):
        vectors, table = cases(4)
        index = CaseIndex.create(place, dim=8)
        twice = index.add(vectors, table.iloc[[0, 1, 0, 2]])
        assert (twice, twice.added, twice.updated) == (3, 3, 1)
        np.testing.assert_array_equal(index.embeddings(), vectors[[2, 1, 3]])


class TestDeletingAndUpdating:
    def test_a_patient(self, filled, place):
        index, vectors, table = filled
        own = (table["patient"] == table["patient"][5]).to_numpy()
        assert index.delete(patient=table["patient"][5]) == own.sum() > 0
        left = table[~own].reset_index(drop=True)
        pd.testing.assert_frame_equal(CaseIndex.open(place).table, left)
        found = index.search(vectors[5], 400)
        assert sorted(found["path"]) == sorted(left["path"])
        # Numbers stay, and are not given again.
        assert set(found["case"]) == set(np.flatnonzero(~own))
        index.add(vectors[:1], table[:1].assign(path="/data/new.png"))
        assert index.select({"path": "/data/new.png"})["case"].tolist() == [300]

    def test_cases_and_conditions(self, filled):
        index, _, table = filled
        assert index.delete(cases=[3, 4, 299]) == 3
        wrists = ((table["part"] == "XR_WRIST") & ~table.index.isin([3, 4, 299])).sum()
        assert index.delete(where={"part": "XR_WRIST"}, cases=range(150)) < wrists
        assert index.delete(where={"part": "XR_WRIST"}) > 0
        assert set(index.table["part"]) == {"XR_HAND", "XR_FINGER"}

    def test_of_nobody_says_so(self, filled, caplog):
        assert filled[0].delete(patient="no such patient") == 0
        assert "holds no such case" in caplog.text
        with pytest.raises(ValueError, match="say which cases"):
            filled[0].delete()

    def test_labels(self, filled):
        index, vectors, _ = filled
        assert index.update({"label": 1, "age": None}, cases=[0, 1, 2]) == 3
        assert index.table["label"][:3].tolist() == [1, 1, 1]
        assert index.table["age"][:3].isna().all()
        assert set(index.search(vectors[0], 3, label=1)["case"]) >= {0}
        for values, message in (
            ({"label": "1"}, "label='1' does not fit"),
            ({"label": None}, "label=None"),
            ({"age": (40, 60)}, "age="),
            ({"labels": 1}, "column 'labels' is not in the index"),
        ):
            with pytest.raises(ValueError, match=message):
                index.update(values, cases=[0])

    def test_a_patient_renamed_is_left_out_by_the_new_name(self, filled):
        index, vectors, _ = filled
        index.search(vectors[0])
        index.update({"patient": "renamed"}, cases=[0])
        assert 0 not in set(index.search(vectors[0], 300, exclude_patient="renamed")["case"])

    def test_what_is_deleted_is_not_left_in_the_file(self, tmp_path):
        vectors, table = cases(50)
        index = CaseIndex.create(tmp_path / "cases.db", dim=8, exact_up_to=10)
        index.add(vectors, table.assign(patient=["withdrawn-her-consent", *table["patient"][1:]]))
        files = [*tmp_path.iterdir()]
        assert any(path.name.startswith("cases.db.nearest-") for path in files)
        index.delete(patient="withdrawn-her-consent")
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert b"withdrawn" not in content
        assert vectors[0].tobytes() not in content
        assert vectors[1].tobytes() in content
        assert len(index.search(vectors[0], 50)) == 49
        index.add(vectors[:1], table[:1])
        assert index.recall is not None  # and is built again


def test_after_a_deletion_no_embedding_is_read_again(tmp_path, monkeypatch):
    vectors, table = cases(50)
    index = CaseIndex.create(tmp_path / "cases.db", dim=8)
    index.add(vectors, table)
    index.search(vectors[0])
    read = []
    embeddings = Session.embeddings

    def counted(session, *given):
        numbers, rows = embeddings(session, *given)
        read.extend(numbers.tolist())
        return numbers, rows

    monkeypatch.setattr(Session, "embeddings", counted)
    index.delete(cases=[3, 49])
    assert sorted(index.search(vectors[0], 60)["case"]) == [n for n in range(49) if n != 3]
    assert read == []
    index.add(vectors[:1] + 0.01, table[:1].assign(path="new.png"))
    assert 50 in set(index.search(vectors[0], 60)["case"])
    assert read == [50]


WHERE = {
    "one": ({"part": "XR_HAND"}, lambda t: t["part"] == "XR_HAND"),
    "some": ({"part": ["XR_HAND", "XR_WRIST"]}, lambda t: t["part"] != "XR_FINGER"),
    "none": ({"part": []}, lambda t: t["part"] == ""),
    "range": ({"age": (40, 60)}, lambda t: t["age"].between(40, 60)),
    "open range": ({"age": (None, 40.0)}, lambda t: t["age"] <= 40),
    "missing": ({"age": None}, lambda t: t["age"].isna()),
    "two": ({"label": 1, "age": [31.5]}, lambda t: (t["label"] == 1) & (t["age"] == 31.5)),
    "numpy": ({"label": np.array([0, 1])}, lambda t: t["label"] >= 0),
}


@pytest.mark.parametrize("name", WHERE)
def test_where(filled, name):
    index, vectors, table = filled
    where, mask = WHERE[name]
    found = index.search(vectors[0], 400, where=where)
    assert sorted(found["case"]) == np.flatnonzero(mask(table)).tolist()
    assert index.select(where)["case"].tolist() == np.flatnonzero(mask(table)).tolist()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"sex": "F"}, "column 'sex' is not in the index; it holds path"),
        ({"case_number": 3}, "column 'case_number' is not in the index"),
        ({"label": "1"}, "label='1' does not fit the column; give whole numbers"),
        ({"label": True}, "label=True does not fit"),
        ({"part": 3}, "part=3 does not fit the column; give text"),
        ({"age": (1, 2, 3)}, "a tuple is a range"),
        ({"age": ("a", 2)}, "age='a' does not fit"),
    ],
)
def test_where_refuses_what_no_row_can_be(filled, where, message):
    with pytest.raises(ValueError, match=message):
        filled[0].search(filled[1][0], where=where)


def test_columns_and_values_are_no_sql(place):
    vectors, table = cases(5)
    evil = 'x"; DROP TABLE siamura_cases; --'
    quotes = "'; DROP TABLE siamura_cases; --"
    names = {evil: "a", "select": 1, "age (years) %s :x {}": 2.0, "Größe": True}
    table = table.assign(**names, patient=quotes)
    index = CaseIndex.create(place, dim=8)
    index.add(vectors, table)
    pd.testing.assert_frame_equal(index.table, table)
    assert len(index.search(vectors[0], where={**names})) == 5
    assert index.search(vectors[0], exclude_patient=quotes).empty
    assert index.update({"select": 2}, where={evil: "a"}) == 5
    assert index.delete(patient=quotes) == 5


class TestStudies:
    @pytest.mark.parametrize("how", ["min", "mean"])
    @pytest.mark.parametrize("own", [None, 0])
    def test_equal_a_naive_search(self, filled, how, own):
        index, vectors, table = filled
        views = vectors[:3] + 0.1
        patient = None if own is None else table["patient"][own]
        far = np.sqrt(((vectors[:, None].astype(float) - views[None]) ** 2).sum(axis=-1))
        rows = table.assign(far=far.mean(axis=1) if how == "mean" else far.min(axis=1))
        rows = rows[rows["patient"] != patient]
        expected = rows.groupby(["part", "patient", "study"])["far"].agg([how, "size"]).sort_values(how)[:12]
        found = index.search(views, 12, studies=how, exclude_patient=patient)
        np.testing.assert_allclose(found["distance"], expected[how], atol=1e-6)
        assert found[["part", "patient", "study"]].apply(tuple, axis=1).tolist() == expected.index.tolist()
        assert found["views"].tolist() == expected["size"].tolist()
        assert found["rank"].tolist() == list(range(1, 13))
        for row in found.to_dict("records"):  # the row is that of the study's nearest view
            same = rows[
                (rows[["part", "patient", "study"]] == [row[n] for n in ("part", "patient", "study")]).all(
                    axis=1
                )
            ]
            assert far[row["case"]].min() == far[same.index].min()

    def test_filters(self, filled):
        index, vectors, _ = filled
        found = index.search(vectors[:2], 400, studies="min", part="XR_HAND", label=1)
        assert set(found["part"]) == {"XR_HAND"}
        assert index.search(vectors[:2], 3, studies="mean", part="XR_NONE").empty
        with pytest.raises(ValueError, match="studies='median' is unknown"):
            index.search(vectors[:2], studies="median")


def test_parquet_there_and_back(filled, tmp_path, place):
    index, vectors, table = filled
    index.delete(cases=[0])
    index.to_parquet(tmp_path / "cases.parquet")
    again = CaseIndex.from_parquet(tmp_path / "cases.parquet", tmp_path / "again.db")
    pd.testing.assert_frame_equal(again.table, table[1:].reset_index(drop=True))
    np.testing.assert_array_equal(again.embeddings(), vectors[1:])
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"is no file that CaseIndex\.to_parquet wrote"):
        CaseIndex.from_parquet(tmp_path / "other.parquet", tmp_path / "third.db")
    assert not (tmp_path / "third.db").exists()


def test_labels_of_a_persons_own(place):
    vectors, table = cases(30)
    index = CaseIndex.create(place, dim=8)
    index.add(vectors, table.assign(label=np.resize(["normal", "fracture", "cyst"], 30)))
    assert set(index.search(vectors[0], 30, label="cyst")["label"]) == {"cyst"}
    with pytest.raises(ValueError, match="label=1 does not fit the column; give text"):
        index.search(vectors[0], label=1)


def test_missing_values_of_further_columns(place):
    vectors, table = cases(4)
    table = table.assign(
        sex=["F", None, "M", "F"],
        dose=pd.array([1, None, 3, 4], dtype="Int64"),
        metal=pd.array([True, None, False, True], dtype="boolean"),
    )
    index = CaseIndex.create(place, dim=8)
    index.add(vectors, table)
    pd.testing.assert_frame_equal(index.table, table)
    assert index.search(vectors[0], where={"sex": None})["case"].tolist() == [1]
    assert sorted(index.search(vectors[0], where={"metal": True})["case"]) == [0, 3]


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
            CaseIndex.open(index.place, model=other)
        net.preprocess = Preprocess(size=64, clahe=None)
        opened = CaseIndex.open(index.place)
        with pytest.raises(ValueError, match="another preprocessing made"):
            opened.search(vectors[0], model=net)
        with pytest.raises(ValueError, match="another preprocessing made"):
            opened.add(vectors, table, model=fingerprint(net))
        with pytest.raises(ValueError, match="model is missing"):
            opened.search(vectors[0])
        net.preprocess = Preprocess(size=64)
        assert len(opened.search(vectors[0], 3, model=net)) == 3
        assert len(CaseIndex.open(index.place, model=net).search(vectors[0], 3)) == 3

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
        (lambda i, v, t: i.add(v[:, :3], t), r"embeddings has shape \(300, 3\); it must be \(rows, 8\)"),
        (lambda i, v, t: i.add(v, t[:5]), "300 rows and table 5"),
        (
            lambda i, v, t: i.add(np.full_like(v, np.nan), t),
            "embeddings holds NaN, infinity or a number beyond float32 in row 0, one of 300",
        ),
        (lambda i, v, t: i.add(v, t.drop(columns="patient")), "table has no column 'patient'"),
        (
            lambda i, v, t: i.add(v, t.assign(label="x")),
            r"table\['label'\]='x' does not fit the column; give whole",
        ),
        (
            lambda i, v, t: i.add(v, t.assign(age="x")),
            r"table\['age'\]='x' does not fit the column; give numbers",
        ),
        (lambda i, v, t: i.add(v, t.assign(study=1)), r"table\['study'\] is int64; give text"),
        (lambda i, v, t: i.add(v, t.assign(study=None)), r"table\['study'\] is missing in row 0"),
        (lambda i, v, t: i.add(v, t.assign(label=0.5)), r"table\['label'\] is float64"),
        (lambda i, v, t: i.add(v, t.assign(site=[object()] * 300)), r"table\['site'\]=<object"),
        (
            lambda i, v, t: i.add(v, t.assign(site=pd.Series(["\udcff"] * 300, dtype=object))),
            r"table\['site'\]=.* does not fit the column; give text",
        ),
        (lambda i, v, t: i.add(v, t.assign(Age=1)), "column 'Age' twice"),
        (lambda i, v, t: i.add(v, t.assign(case_vector=1)), "rename it"),
        (
            lambda i, v, t: i.add(v, t.rename(columns={"age": "AGE"})),
            "column 'AGE' twice, or one that differs by case alone",
        ),
        (lambda i, v, t: i.add(v, t.assign(rank=1)), "rename it"),
        (lambda i, v, t: i.search(v[0], 0), "k=0"),
        (lambda i, v, t: i.search(v[0] * np.nan), "embeddings holds NaN"),
        (lambda i, v, t: i.search(v[:2], exclude_patient=["a"]), "exclude_patient names 1 for 2 rows"),
        (lambda i, v, t: i.embeddings([300]), "cases holds 300, the number of no case"),
        (lambda i, v, t: i.embeddings([True, False]), "cases holds bool; give whole numbers"),
        # What is no text would be no one's: nobody left out, or nothing found, in silence.
        (
            lambda i, v, t: i.search(v[0], exclude_patient=7),
            "exclude_patient=7 is no text",
        ),
        (
            lambda i, v, t: i.search(v[0], exclude_patient=[None]),
            "exclude_patient=None is no text",
        ),
        (lambda i, v, t: i.search(v[0], part=3), "part=3 does not fit the column; give text"),
        (lambda i, v, t: i.search(v[0], label="1"), "label='1' does not fit"),
        (lambda i, v, t: i.add(v, pd.concat([t, t[["path"]]], axis=1)), "column 'path' twice"),
        # What could be written and never be read again.
        (
            lambda i, v, t: i.add(v, t.assign(age=np.full(300, 2**64 - 1, np.uint64))),
            r"table\['age'\]=18446744073709551615 does not fit",
        ),
    ],
)
def test_refuses(filled, call, message):
    with pytest.raises(ValueError, match=message):
        call(*filled)
    assert len(filled[0]) == len(CaseIndex.open(filled[0].place)) == 300


def test_create_refuses_a_place_in_use_and_a_missing_dim(tmp_path, place):
    (tmp_path / "x.txt").write_text("mine")
    for there in (tmp_path, tmp_path / "x.txt"):
        with pytest.raises(FileExistsError):
            CaseIndex.create(there, dim=3)
    assert (tmp_path / "x.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="dim=None"):
        CaseIndex.create(place)
    with pytest.raises(FileNotFoundError):
        CaseIndex.open(place)
    CaseIndex.create(place, dim=3)
    with pytest.raises(FileExistsError, match="holds a case index"):
        CaseIndex.create(place, dim=3)


def test_an_empty_index_and_an_empty_addition(place):
    index = CaseIndex.create(place, dim=8)
    assert len(index.search(np.zeros(8))) == len(index.embeddings()) == len(index.table) == 0
    assert list(index.search(np.zeros(8)))[:4] == ["query", "rank", "distance", "case"]
    assert index.delete(cases=[0]) == 0
    vectors, table = cases(4)
    assert index.add(vectors[:0], table[:0]) == 0
    assert index.add(vectors, table) == 4
    assert len(index.search(vectors[:0])) == 0
    assert index.delete(cases=range(4)) == 4
    assert len(index.search(vectors[0])) == 0


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
