"""kill -9, full disks, damaged and foreign files, other places, threads and processes."""

import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from siamura.index import CaseIndex, DamagedIndex

from .drawing import cases

HERE = os.path.dirname(__file__)


@pytest.fixture
def filled(tmp_path):
    vectors, table = cases(270)
    index = CaseIndex.create(tmp_path / "cases.db", dim=8)
    index.add(vectors, table)
    return index, vectors, table


# A child takes over at a moment of its own: after the n-th statement, commit or file operation, or after a time.
KILLED = """
import os, sys, threading, time
sys.path.insert(0, {here!r})
import faiss, numpy as np
from drawing import cases
from siamura.index import CaseIndex
vectors, table = cases(400)
place, step = sys.argv[1], sys.argv[2]
def work():
    if step == "convert":
        CaseIndex.from_parquet(place + ".parquet", place)
        return
    index = CaseIndex.open(place)
    if step == "add":
        index.add(vectors[200:], table[200:])
    else:
        index.delete(cases=np.arange(0, 200, 2))
for line in sys.stdin:
    place, seconds = line.split()
    if os.fork() == 0:
        def die():
            time.sleep(float(seconds))
            os.kill(os.getpid(), 9)
        threading.Thread(target=die, daemon=True).start()
        work()
        os._exit(0)
    print(os.wait()[1], flush=True)
"""


@pytest.mark.parametrize("moments", [4, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("step", ["add", "delete", "convert"])
def test_kill_9_leaves_the_old_or_the_new(tmp_path, step, moments):
    vectors, table = cases(400)
    index = CaseIndex.create(tmp_path / "start.db", dim=8, exact_up_to=100)
    index.add(vectors[:200], table[:200])
    index.to_parquet(tmp_path / "start.parquet")
    index.close()
    old = np.arange(200)
    new = {"add": np.arange(400), "delete": np.arange(1, 200, 2), "convert": old}[step]
    code = KILLED.format(here=HERE)
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), step],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    rng, longest, seen = random.Random(0), 0.3, []
    for i in range(moments):
        place = tmp_path / f"{i}.db"
        if step == "convert":
            shutil.copy(tmp_path / "start.parquet", f"{place}.parquet")
        else:
            for path in tmp_path.glob("start.db*"):
                shutil.copy(path, tmp_path / path.name.replace("start", str(i)))
        # The span is learned from what was done in time, so that about half of the children are killed at work.
        print(place, rng.uniform(0, longest), file=child.stdin, flush=True)
        done = child.stdout.readline() == "0\n"
        longest = longest * 0.8 if done else longest * 1.25
        if step == "convert" and not done:
            try:
                left = CaseIndex.open(place)
            except FileNotFoundError:
                seen.append("old")
                left = CaseIndex.from_parquet(
                    f"{place}.parquet", place
                )  # what is there stands not in the way
            else:
                seen.append("new")
        else:
            left = CaseIndex.open(place)
            seen.append({len(old): "old", len(new): "new"}[len(left)])
        rows = old if seen[-1] == "old" and step != "convert" else new
        left.verify()
        np.testing.assert_array_equal(left.embeddings(), vectors[rows])
        pd.testing.assert_frame_equal(left.table, table.iloc[rows].reset_index(drop=True))
        assert left.search(vectors[1], 300)["case"].nunique() == min(300, len(rows))
        left.add(vectors[200:], table[200:])
        assert len(left) == len(set(rows) | set(range(200, 400)))
        left.close()
        if done:
            assert seen[-1] == "new"
    child.stdin.close()
    assert child.wait() == 0
    if moments >= 50:
        assert set(seen) == {"old", "new"}


WRITER = """
import sys
sys.path.insert(0, {here!r})
from drawing import cases
from siamura.index import CaseIndex
index = CaseIndex.open(sys.argv[1])
vectors, table = cases(20, seed=int(sys.argv[2]))
for i in range(20):
    index.add(vectors[i : i + 1], table[i : i + 1])
"""


@pytest.mark.slow
def test_two_writers_and_a_reader(place):
    index = CaseIndex.create(place, dim=8)
    code = WRITER.format(here=HERE)
    writers = [subprocess.Popen([sys.executable, "-c", code, place, str(seed)]) for seed in (1, 2)]
    query, last = np.zeros(8, np.float32), 0
    while last < 40 and any(writer.poll() is None for writer in writers):
        found = index.search(query, 40)  # what it sees is whole, and never less than before
        assert len(found) >= last
        assert found["case"].is_unique
        last = len(found)
    assert [writer.wait() for writer in writers] == [0, 0]
    paths = CaseIndex.open(place).table["path"]
    assert sorted(paths) == sorted([*cases(20, seed=1)[1]["path"], *cases(20, seed=2)[1]["path"]])


def test_a_thread_pool(place):
    vectors, table = cases(200)
    index = CaseIndex.create(place, dim=8)
    index.add(vectors[:100], table[:100])
    expected = index.search(vectors[:20], 5, exclude_patient=table["patient"].tolist()[:20])
    with ThreadPoolExecutor(8) as pool:
        one = lambda i: index.search(vectors[i], 5, exclude_patient=table["patient"][i])  # noqa: E731
        for i, found in enumerate(pool.map(one, range(20))):
            rows = expected[expected["query"] == i].reset_index(drop=True).assign(query=0)
            pd.testing.assert_frame_equal(found, rows)
        add = lambda i: index.add(vectors[i : i + 1], table[i : i + 1])  # noqa: E731
        list(pool.map(add, range(100, 130)))
    assert sorted(index.table["path"]) == sorted(table["path"][:130])


def test_pickle_opens_the_same_index_again(place):
    vectors, table = cases(40)
    index = CaseIndex.create(place, model={"model": "a", "preprocessing": "b"}, dim=8)
    index.add(vectors, table)
    index.search(vectors[0])
    content = pickle.dumps(index)
    assert len(content) < 4096  # it holds the place, no case
    pd.testing.assert_frame_equal(pickle.loads(content).search(vectors[:3]), index.search(vectors[:3]))


def test_a_fork_searches_and_adds_beside_its_parent(filled):
    index, vectors, table = filled
    index.search(vectors[0])
    if (child := os.fork()) == 0:
        grown = index.add(vectors[:1], table[:1].assign(path="of the child"))
        os._exit(0 if grown == len(index.search(vectors[0], 300)) == 271 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(index.search(vectors[0], 300)) == 271
    index.verify()


def elsewhere(change):
    """Have another process do it."""
    if (child := os.fork()) == 0:
        try:
            change()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_no_reader_gives_what_another_process_has_changed(place):
    vectors, table = cases(60)
    index = CaseIndex.create(place, dim=8)
    index.add(vectors[:40], table[:40])
    readers = [index, CaseIndex.open(place)]
    own = table["patient"][5]
    changes = [
        lambda: CaseIndex.open(place).add(vectors[40:50], table[40:50]),
        lambda: CaseIndex.open(place).delete(patient=own),
        lambda: (  # the newest goes, others come, and some go again
            CaseIndex.open(place).delete(cases=[49]),
            CaseIndex.open(place).add(vectors[49:50], table[49:50]),
            CaseIndex.open(place).delete(cases=[7, 50]),
        ),
        lambda: CaseIndex.open(place).update({"label": 1, "part": "XR_ELBOW"}, cases=[1, 2]),
        lambda: CaseIndex.open(place).add(vectors[:3] + 1, table[:3]),  # the same films, other embeddings
        lambda: CaseIndex.open(place).add(vectors[50:], table[50:].assign(site="B")),
        # One goes and one comes: as many cases as before, and the newest number again one higher.
        lambda: (
            CaseIndex.open(place).delete(cases=[60]),
            CaseIndex.open(place).add(vectors[5:6], table[5:6]),
        ),
    ]
    with ThreadPoolExecutor(2) as pool:
        for change in changes:
            for reader in readers:  # each holds the state before
                reader.search(vectors[0], where={"label": 1})
            elsewhere(change)
            fresh = CaseIndex.open(place)
            for asked in ({}, {"where": {"label": 1}}, {"where": {"part": "XR_ELBOW"}}, {"studies": "min"}):
                expected = fresh.search(vectors[0], 80, **asked)
                found = pool.map(lambda reader, a=asked: reader.search(vectors[0], 80, **a), readers * 2)
                for one in found:
                    pd.testing.assert_frame_equal(one, expected)
    assert own in set(fresh.table["patient"])  # added again by the last change


def test_an_older_copy_put_back_is_read_anew(filled, tmp_path):
    import sqlite3

    index, vectors, table = filled
    with sqlite3.connect(index.place) as live, sqlite3.connect(tmp_path / "copy.db") as copy:
        live.backup(copy)
    more = table[:1].assign(path="/data/one.png")
    index.add(vectors[:1] + 1, more)
    index.search(vectors[0])  # holds 271 cases, the last of them number 270
    with sqlite3.connect(tmp_path / "copy.db") as copy, sqlite3.connect(index.place) as live:
        copy.backup(live)  # in place: the same file, the same index, 270 cases
    elsewhere(lambda: CaseIndex.open(index.place).add(vectors[1:2] + 2, more.assign(path="/data/two.png")))
    found = index.search(vectors[1] + 2, 1)  # 271 cases again, the last of them number 270 again
    assert (found["path"][0], found["distance"][0]) == ("/data/two.png", 0.0)
    assert "/data/one.png" not in set(index.search(vectors[0], 300)["path"])


class TestPlaces:
    def test_chdir_leads_to_no_other_index(self, tmp_path, monkeypatch):
        vectors, table = cases(20)
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            CaseIndex.create("cases.db", dim=8, model={"model": name, "preprocessing": "none"})
        monkeypatch.chdir(tmp_path / "a")
        index = CaseIndex.open("cases.db", model={"model": "a", "preprocessing": "none"})
        monkeypatch.chdir(tmp_path / "b")
        index.add(vectors, table)
        assert len(index.search(vectors[0], 30)) == 20
        assert index.place == tmp_path / "a" / "cases.db"
        assert len(CaseIndex.open(tmp_path / "b" / "cases.db")) == 0

    def test_another_index_in_its_place_is_refused(self, filled):
        index, vectors, table = filled
        index.search(vectors[0])
        index.close()
        index.place.unlink()
        with pytest.raises(FileNotFoundError, match="holds no case index"):
            index.search(vectors[0])
        other = CaseIndex.create(index.place, dim=8, model={"model": "x", "preprocessing": "y"})
        for call in (lambda: index.search(vectors[0]), lambda: index.add(vectors, table), lambda: len(index)):
            with pytest.raises(ValueError, match="is another index now"):
                call()
        assert len(other) == 0

    def test_a_moved_folder(self, filled, tmp_path):
        index, vectors, _ = filled
        expected = index.search(vectors[:5])
        index.close()
        moved = tmp_path / "elsewhere [1] %20?#" / "deeper"
        moved.mkdir(parents=True)
        for path in tmp_path.glob("cases.db*"):
            path.rename(moved / path.name)
        pd.testing.assert_frame_equal(CaseIndex.open(moved / "cases.db").search(vectors[:5]), expected)

    def test_another_network_is_refused(self, place):
        vectors, table = cases(20)
        mark = {"model": "a", "preprocessing": "b"}
        index = CaseIndex.create(place, dim=8, model=mark)
        index.add(vectors, table)
        with pytest.raises(ValueError, match="another model made"):
            CaseIndex.open(place, model={**mark, "model": "c"})
        opened = CaseIndex.open(place)
        with pytest.raises(ValueError, match="another preprocessing made"):
            opened.add(vectors, table, model={**mark, "preprocessing": "c"})
        with pytest.raises(ValueError, match="model is missing"):
            opened.search(vectors[0])
        assert opened.delete(cases=[0]) == 1  # consent can be withdrawn without the network

    def test_a_server_that_is_not_there(self):
        with pytest.raises(
            ConnectionError, match=r"postgresql\+psycopg://me:\*\*\*@localhost:1/none cannot be"
        ):
            CaseIndex.open("postgresql://me:secret@localhost:1/none")

    def test_a_url_makes_no_file_and_its_password_is_not_shown(self, database, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        index = CaseIndex.create(database.replace("postgres:@", "postgres:secret@"), dim=8)
        assert "secret" not in repr(index) + str(index.place)
        assert not list(tmp_path.iterdir())


@pytest.fixture
def readonly(filled):
    """A folder and a file that this user may read only; root, who may write anything, becomes nobody."""
    index = filled[0]
    index.close()
    folder = Path(tempfile.mkdtemp())
    shutil.copy(index.place, folder / "cases.db")
    (folder / "cases.db").chmod(0o444)
    folder.chmod(0o555)
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    yield folder / "cases.db"
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_file_is_searched_and_not_written(filled, readonly):
    _, vectors, table = filled
    index = CaseIndex.open(readonly)
    assert index.search(vectors[0], 3)["path"][0] == table["path"][0]
    for call in (lambda: index.add(vectors, table), lambda: index.delete(cases=[0])):
        with pytest.raises(PermissionError, match="cannot be written by this user"):
            call()
    with pytest.raises(PermissionError):
        CaseIndex.create(readonly.parent / "new.db", dim=3)
    assert len(index) == 270


FULL = """
import resource, sys
sys.path.insert(0, {here!r})
from drawing import cases
from siamura.index import CaseIndex
index = CaseIndex.open(sys.argv[1])
vectors, table = cases(5000, seed=3)
index.search(vectors[0])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for _ in range(2):
    try:
        index.add(vectors, table)
    except OSError as error:
        print(error)
print(len(index), len(index.search(vectors[0], 400)))
"""


def test_no_space_is_a_sentence_and_loses_nothing(filled):
    index, vectors, table = filled
    index.close()
    done = subprocess.run(
        [sys.executable, "-c", FULL.format(here=HERE), str(index.place)], capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert (
        lines[:2]
        == [f"[Errno 28] no space is left for {index.place}. Nothing was changed; free some, and try again"]
        * 2
    )
    assert lines[2] == "270 270"
    index.verify()
    pd.testing.assert_frame_equal(index.table, table)
    np.testing.assert_array_equal(index.embeddings(), vectors)


class TestDamage:
    @pytest.mark.parametrize(
        "content", [b"\x89PNG" * 90, b"[]", b'{"a": 1}', b"SQLite format 3\0" + b"\xff" * 4000]
    )
    def test_a_file_that_is_no_database(self, tmp_path, content):
        path = tmp_path / "cases.db"
        path.write_bytes(content)
        with pytest.raises(DamagedIndex, match=r"cases\.db: .*not a database") as error:
            CaseIndex.open(path)
        assert error.value.path == path
        assert path.read_bytes() == content

    def test_another_database(self, tmp_path):
        import sqlite3

        path = tmp_path / "other.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (a)")
        with pytest.raises(FileNotFoundError, match="holds no case index"):
            CaseIndex.open(path)
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE siamura_index (value)")
            connection.execute(
                "INSERT INTO siamura_index VALUES (?)", ['{"uid": 1, "dim": -4, "exact_up_to": 3}']
            )
        with pytest.raises(DamagedIndex, match="is no case index that this siamura reads"):
            CaseIndex.open(path)

    def test_a_changed_byte_is_found_by_verify_and_left_out_by_recover(self, filled, tmp_path):
        index, vectors, table = filled
        index.verify()
        index.close()
        content = bytearray(index.place.read_bytes())
        content[content.index(vectors[7].tobytes()) + 3] ^= 16
        index.place.write_bytes(content)
        with pytest.raises(DamagedIndex, match="1 embeddings differ"):
            CaseIndex.open(index.place).verify()
        left = CaseIndex.recover(index.place, tmp_path / "left.db")
        pd.testing.assert_frame_equal(left.table, table.drop(7).reset_index(drop=True))
        assert index.place.read_bytes() == content

    def test_a_page_overwritten(self, filled, tmp_path):
        index, vectors, _ = filled
        index.close()
        content = bytearray(index.place.read_bytes())
        at = content.index(vectors[100].tobytes()) // 4096 * 4096
        content[at : at + 4096] = b"\xff" * 4096
        index.place.write_bytes(content)
        with pytest.raises(DamagedIndex):
            CaseIndex.open(index.place).verify()
        with pytest.raises(DamagedIndex, match=r"recover\(path, new_path\)"):
            CaseIndex.open(index.place).search(vectors[0])
        left = CaseIndex.recover(index.place, tmp_path / "left.db")
        assert 200 < len(left) < 270
        left.verify()
        kept = left.select()
        np.testing.assert_array_equal(
            left.embeddings(), vectors[[int(path.split("/")[-1][:-4]) for path in kept["path"]]]
        )

    @pytest.mark.parametrize("content", [b"", b"foreign", None])
    def test_a_damaged_approximate_index_costs_only_time(self, tmp_path, content, caplog):
        vectors, table = cases(800)
        index = CaseIndex.create(tmp_path / "cases.db", dim=8, exact_up_to=100)
        index.add(vectors, table)
        expected = index.search(vectors[3], 5, exact=True)
        (path,) = tmp_path.glob("cases.db.nearest-*")
        path.write_bytes(b"\0" * path.stat().st_size if content is None else content)
        opened = CaseIndex.open(index.place)
        pd.testing.assert_frame_equal(opened.search(vectors[3], 5), expected)
        assert "searching every case" in caplog.text


class TestEarlierFormat:
    def test_is_named_and_converted_once(self, tmp_path):
        old = Path(HERE) / "earlier_format"
        vectors, table = cases(60)
        with pytest.raises(ValueError, match="siamura cases convert"):
            CaseIndex.open(old)
        index = CaseIndex.convert(old, tmp_path / "new.db")
        np.testing.assert_array_equal(index.embeddings(), vectors)
        pd.testing.assert_frame_equal(index.table, table)
        assert index.fingerprint == {"model": "a", "preprocessing": "b"}
        with pytest.raises(FileExistsError):
            CaseIndex.convert(old, tmp_path / "new.db")

    @pytest.mark.parametrize("how", ["cut", "changed", "gone", "elsewhere", "no manifest", "json"])
    def test_what_is_damaged_or_leads_elsewhere_is_refused(self, tmp_path, how):
        old = tmp_path / "old"
        shutil.copytree(Path(HERE) / "earlier_format", old)
        path, manifest = old / "segment-000001" / "vectors.npy", old / "manifest.json"
        content = bytearray(path.read_bytes())
        if how == "cut":
            path.write_bytes(content[:-4])
        elif how == "changed":
            content[-3] ^= 1
            path.write_bytes(content)
        elif how == "gone":
            path.unlink()
        elif how == "elsewhere":
            shutil.copytree(old / "segment-000001", tmp_path / "x")
            manifest.write_text(manifest.read_text().replace("segment-000001", "../x"))
        elif how == "json":
            manifest.write_text("[]")
        else:
            manifest.unlink()
        with pytest.raises((DamagedIndex, FileNotFoundError)):
            CaseIndex.convert(old, tmp_path / "new.db")
        assert not (tmp_path / "new.db").exists()
