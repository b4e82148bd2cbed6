"""Files that are whole or not there, and the lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
