"""Files that are whole or not there, and the lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from siamura import _files


def test_an_error_keeps_the_old_content_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    _files.atomic_write(file, "old")

    def write() -> None:
        with _files.atomic_path(file) as beside:
            beside.write_text("ne")
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        write()
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["scores.csv"]


@pytest.mark.parametrize("durable", [False, True])
def test_the_new_content_replaces_the_old(tmp_path: Path, durable: bool) -> None:
    file = tmp_path / "scores.csv"
    _files.atomic_write(file, "old", durable=durable)
    _files.atomic_write(file, b"new", durable=durable)
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_the_file_beside_keeps_the_ending_that_tells_its_form(tmp_path: Path) -> None:
    with _files.atomic_path(tmp_path / "embeddings.npz") as beside:
        assert beside.suffix == ".npz"
        beside.touch()


def test_a_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom siamura import _files\n"
        "with _files.lock(sys.argv[1]):\n    print('held', flush=True)\n    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        import filelock

        with pytest.raises(filelock.Timeout):
            filelock.FileLock(tmp_path / "lock").acquire(timeout=0)
        other.kill()
        other.wait()
        with _files.lock(tmp_path / "lock"):
            pass


def test_cores_are_counted_where_the_system_has_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert _files.cpu_count() == (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("hand.png", "hand.png"),
        ("Hüfte links/手.png", "Hüfte links/手.png"),
        (Path("films") / "a b.png", os.path.join("films", "a b.png")),
        ("red\x1b[31m.png", r"red\x1b[31m.png"),
        ("two\nlines\r\t.png", r"two\nlines\r\t.png"),
        ("c1\x9b2J.png", r"c1\x9b2J.png"),
        ("gnp\u202e.exe", r"gnp\u202e.exe"),
        ("line\u2028end", r"line\u2028end"),
        (b"caf\xe9.png", r"caf\udce9.png"),
        (r"C:\films\new.png", r"C:\films\new.png"),
    ],
)
def test_what_could_steer_a_terminal_is_escaped(name: object, shown: str) -> None:
    if name == b"caf\xe9.png" and os.name == "nt":
        pytest.skip("Windows has no bytes as names")
    assert _files.printable(name) == shown
    assert _files.printable(name).encode("utf-8", "strict")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_a_formula_in_a_cell_is_neutralized(start: str) -> None:
    assert _files.neutralize(f"{start}cmd|' /C calc'!A0") == f"'{start}cmd|' /C calc'!A0"


@pytest.mark.parametrize("unseen", [" ", "\ufeff", "\u200b", "\0", "\xa0 "])
def test_what_is_not_seen_hides_no_formula(unseen: str) -> None:
    assert _files.neutralize(f"{unseen}=1+1") == f"'{unseen}=1+1"
    assert _files.neutralize(f"{unseen}hand.png") == f"{unseen}hand.png"


def test_a_path_in_a_cell_is_neutralized() -> None:
    assert _files.neutralize(Path("=a.png")) == "'=a.png"
    assert (
        _files.csv_text(pd.DataFrame({"path": [Path("=a.png"), Path("b.png")]})) == "path\n'=a.png\nb.png\n"
    )


@pytest.mark.parametrize("value", ["-3.5", "+1e5", "a=b", "", -3, -0.5, None, True])
def test_numbers_and_other_text_are_no_formulas(value: object) -> None:
    assert _files.neutralize(value) is value


def test_a_csv_for_people(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"=path": ["=1+1", "b.png", None], "score": [-0.5, 1.0, float("nan")]}, index=[5, 5, 7]
    )
    table["kind"] = pd.Categorical(["@x", "y", "@x"])
    _files.write_csv(table, tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_text()
    assert text == "'=path,score,kind\n'=1+1,-0.5,'@x\nb.png,1.0,y\n,,'@x\n"
    assert table["=path"].tolist()[0] == "=1+1"  # the table itself stays
    doubled = pd.DataFrame([["=1", "=2"]], columns=["a", "a"])
    assert _files.csv_text(doubled) == "a,a\n'=1,'=2\n"
    name = os.fsdecode(b"caf\xe9.png")
    _files.write_csv(pd.DataFrame({"path": [name]}, dtype=object), tmp_path / "bytes.csv")
    assert (tmp_path / "bytes.csv").read_bytes() == b"path\n" + os.fsencode(name) + b"\n"
