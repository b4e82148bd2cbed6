"""macOS and Windows lack parts of Linux: without them every step from a film to a report runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import os, sys
for name in ("fcntl", "grp", "pwd", "resource", "syslog", "termios"):
    sys.modules[name] = None
lacking = ("fchmod", "fork", "geteuid", "getpgid", "getuid", "killpg", "mkfifo", "posix_fadvise", "posix_fallocate",
           "pread", "pwrite", "sched_getaffinity", "sysconf")
for name in lacking:
    if hasattr(os, name):
        delattr(os, name)
from siamura.cli import app
trained = ["--size", "32", "--steps", "2", "--k", "4", "--views", "120", "--trunk", "squeezenet1_1"]
for words in (
    ["demo", "--out", "demo.png"],
    ["train", "--out", "run", *trained],
    ["index", "run", "cases.db"],
    ["predict", "run", "demo.png"],
    ["search", "run", "cases.db", "demo.png", "-k", "2"],
    ["report", "run"],
):
    if status := app(words, standalone_mode=False):
        raise SystemExit(f"{words[0]} gave {status}")
    print("done", words[0], flush=True)
"""


@pytest.mark.slow
def test_nothing_of_linux_alone_is_needed(tmp_path):
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=tmp_path)
    steps = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("done ")]
    assert steps == ["demo", "train", "index", "predict", "search", "report"], done.stderr[-2000:]
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    assert "PHANTOMS" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8").upper()
