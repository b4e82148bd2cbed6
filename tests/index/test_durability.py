"""kill -9, cut-off, changed and foreign files."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from siamura.index import CaseIndex, DamagedIndex
from siamura.index.files import Segment

from .drawing import cases

ADDING = """
import sys
sys.path.insert(0, {tests!r})
from drawing import cases
from siamura.index import CaseIndex
index = CaseIndex.open({folder!r})
vectors, table = cases(4000, dim=16, seed=7)
print("ready", flush=True)
at = len(index)
while True:
    for size in (1, 7, 300, 40):
        rows = [(at + i) % 4000 for i in range(size)]
        at = index.add(vectors[rows], table.iloc[rows])
        print(at, flush=True)
"""


def test_kill_while_adding(tmp_path):
    folder = tmp_path / "index"
    CaseIndex.create(folder, dim=16, exact_up_to=600)
    vectors, table = cases(4000, dim=16, seed=7)
    code = ADDING.format(tests=os.path.dirname(__file__), folder=str(folder))
    rng = random.Random(0)
    held = 0
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.1, 0.6))
        os.kill(child.pid, signal.SIGKILL)
        told = [int(line) for line in child.communicate()[0].split("\n")[:-1]]
        index = CaseIndex.open(folder)
        index.verify()
        # What was told to be there is there, and at most one addition more.
        acknowledged = told[-1] if told else held
        assert acknowledged <= len(index) <= acknowledged + 300
        held = len(index)
        rows = np.arange(held) % 4000
        np.testing.assert_array_equal(index.embeddings(), vectors[rows])
        pd.testing.assert_frame_equal(index.table, table.iloc[rows].reset_index(drop=True))
    assert held > 600
    index = CaseIndex.open(folder)
    index.add(vectors[:1], table[:1])
    assert not list(folder.glob("*.part"))
    assert {p.name for p in folder.glob("segment-*")} == {s.folder.name for s in index._segments}


AT_EACH_STEP = """
import os, shutil, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from drawing import cases
from siamura.index import CaseIndex
import faiss  # before the forks
vectors, table = cases(270)
step = 0
while True:
    folder = Path({folder!r}) / str(step)
    index = CaseIndex.create(folder, dim=8, exact_up_to=100)
    index.add(vectors[:90], table[:90])
    if os.fork() == 0:
        left = step
        def dying(function):
            def call(*args, **kwargs):
                global left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return function(*args, **kwargs)
            return call
        for module, names in ((os, ("fsync", "rename", "replace", "unlink")), (shutil, ("rmtree",))):
            for name in names:
                setattr(module, name, dying(getattr(module, name)))
        index.add(vectors[90:180], table[90:180])
        os._exit(0)
    died = os.wait()[1] != 0
    print(int(died), flush=True)
    if not died:
        break
    step += 1
"""


def test_kill_at_every_step_of_an_addition(tmp_path):
    code = AT_EACH_STEP.format(tests=os.path.dirname(__file__), folder=str(tmp_path))
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(told) > 15
    assert set(told[:-1]) == {"1"}
    vectors, table = cases(270)
    sizes = []
    for step in range(len(told)):
        index = CaseIndex.open(tmp_path / str(step))
        index.verify()
        n = len(index)
        sizes.append(n)
        np.testing.assert_array_equal(index.embeddings(), vectors[:n])
        pd.testing.assert_frame_equal(index.table, table[:n])
        assert index.add(vectors[180:], table[180:]) == n + 90
        assert len(CaseIndex.open(index.folder).search(vectors[0], 300, exact=True)) == n + 90
        assert not list(index.folder.glob("*.part"))
        CaseIndex.recover(index.folder).verify()
    assert sizes == sorted(sizes)
    assert set(sizes) == {90, 180}  # the old index or the new one, and never another


def test_two_processes_add_without_losing_a_case(tmp_path):
    folder = tmp_path / "index"
    CaseIndex.create(folder, dim=8)
    code = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from drawing import cases\nfrom siamura.index import CaseIndex\n"
        f"index = CaseIndex.open({str(folder)!r})\nvectors, table = cases(20, seed=int(sys.argv[1]))\n"
        "for i in range(20): index.add(vectors[i : i + 1], table[i : i + 1])\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(seed)]) for seed in (1, 2)]
    assert [child.wait() for child in children] == [0, 0]
    paths = CaseIndex.open(folder).table["path"]
    assert sorted(paths) == sorted([*cases(20, seed=1)[1]["path"], *cases(20, seed=2)[1]["path"]])


@pytest.fixture
def folder(tmp_path):
    """Three segments: 200, 60 and 10 cases."""
    vectors, table = cases(270)
    index = CaseIndex.create(tmp_path / "index", dim=8)
    for a, b in ((0, 200), (200, 260), (260, 270)):
        index.add(vectors[a:b], table[a:b])
    assert len(index._segments) == 3
    return index.folder


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}


NAMES = ("vectors.npy", "norms.npy", "keys.npy", "cases.csv")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["cut", "empty", "gone", "foreign", "longer"])
def test_a_damaged_file_is_named_and_nothing_is_lost(folder, name, how):
    path = folder / "segment-000002" / name
    whole = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"cut": whole[:-7], "empty": b"", "foreign": b"\x89PNG" * 9, "longer": whole + b"0"}[how]
        )
    before = contents(folder)
    with pytest.raises(DamagedIndex, match="segment-000002") as error:
        CaseIndex.open(folder)
    assert error.value.path == path
    assert contents(folder) == before
    index = CaseIndex.recover(folder)
    vectors, table = cases(270)
    rows = [*range(200), *range(260, 270)]
    np.testing.assert_array_equal(index.embeddings(), vectors[rows])
    pd.testing.assert_frame_equal(index.table, table.iloc[rows].reset_index(drop=True))
    assert (folder / "damaged-segment-000002").is_dir()
    assert CaseIndex.open(folder).add(vectors[200:260], table[200:260]) == 270
    assert len(CaseIndex.open(folder).search(vectors[0], 300)) == 270


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_byte_is_found_by_verify(folder, name):
    index = CaseIndex.open(folder)
    index.verify()
    path = folder / "segment-000001" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)
    with pytest.raises(DamagedIndex, match=name):
        CaseIndex.open(folder).verify()
    assert len(CaseIndex.recover(folder)) == 70


@pytest.mark.parametrize(
    "content",
    [b"", b'{"format": "siamura.CaseIndex", "ver', b'{"a": 1}', b"[]", b"\xff\xfe", b'{"format": "x"}'],
)
def test_a_lost_manifest_is_made_again(folder, content):
    table = CaseIndex.open(folder).table
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(DamagedIndex, match=r"manifest\.json"):
        CaseIndex.open(folder)
    index = CaseIndex.recover(folder)
    pd.testing.assert_frame_equal(index.table, table)
    assert index.fingerprint is None
    index.verify()


def test_recovery_after_a_kill_between_two_steps_counts_no_case_twice(folder, tmp_path):
    vectors, table = cases(270)
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    CaseIndex.open(folder).add(vectors[:200], table[:200])  # takes the three segments in
    merged = CaseIndex.open(folder)
    assert len(merged._segments) == 1
    for segment in old.glob("segment-*"):  # as if it had been killed before removing them
        shutil.copytree(segment, folder / segment.name)
    (folder / "manifest.json").unlink()
    assert len(CaseIndex.recover(folder)) == 470
    (folder / merged._segments[0].folder.name / "vectors.npy").write_bytes(b"")
    assert len(CaseIndex.recover(folder)) == 270


def test_a_later_version_is_refused(folder):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(ValueError, match="version 2 of the format"):
        CaseIndex.open(folder)
    with pytest.raises(ValueError, match="version 2 of the format"):
        CaseIndex.recover(folder)


@pytest.mark.parametrize("content", [b"", b"foreign", None])
def test_a_damaged_inverted_file_costs_only_time(tmp_path, content, caplog):
    vectors, table = cases(800)
    index = CaseIndex.create(tmp_path / "index", dim=8, exact_up_to=100)
    index.add(vectors, table)
    expected = index.search(vectors[3], 5, exact=True)
    (path,) = index.folder.glob("nearest-*.faiss")
    size = path.stat().st_size
    path.write_bytes(b"\0" * size if content is None else content)
    opened = CaseIndex.open(index.folder)
    assert "searching every case" in caplog.text
    pd.testing.assert_frame_equal(opened.search(vectors[3], 5), expected)
    opened.add(vectors[:1], table[:1])
    assert CaseIndex.open(index.folder).recall is not None


def test_recover_of_what_is_no_index(tmp_path):
    with pytest.raises(FileNotFoundError):
        CaseIndex.recover(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="neither a manifest nor a segment"):
        CaseIndex.recover(tmp_path)


def test_a_segment_that_goes_while_it_is_opened_is_looked_for_in_the_larger_one(folder, monkeypatch):
    real, gone = Segment.open, []

    def opened(place, facts, dim):
        if not gone:
            gone.append(place)
            vectors, table = cases(300, seed=5)
            CaseIndex.open(folder).add(vectors, table)
            raise FileNotFoundError(place)
        return real(place, facts, dim)

    monkeypatch.setattr(Segment, "open", staticmethod(opened))
    assert len(CaseIndex.open(folder)) == 570
    assert gone
