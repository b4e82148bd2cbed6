"""The example scripts as a user starts them; those that print published tables by ``make tables``."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from siamura.experiments import PUBLISHED, Run

ROOT = Path(__file__).resolve().parents[1]
CELLS = {"finger_tables": 8, "part_tables": 5 + 28, "humerus": 2}
SYSTEMS = {"finger_tables": "A", "part_tables": "BD", "humerus": "CE"}


def start(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *map(str, arguments)]
    environment = {**os.environ, "SIAMURA_CACHE": str(cwd / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.slow
def test_a_study_is_explained(done: Run, tmp_path: Path) -> None:
    lines = start("explain_study", done.folder, cwd=tmp_path).stdout.splitlines()
    assert lines.pop() == "siamura is for research, not for diagnosis."
    _, table = done.embeddings()
    study = re.search(r"explained/(patient\d+)_(\w+)_image", lines[0])
    assert study is not None
    views = table[(table["patient"] == study[1]) & (table["study"] == study[2])]
    assert len(lines) == len(views) == len(list((tmp_path / "explained").glob("*.png")))
    assert (views["split"] == "valid").all()
    for line in lines:
        assert re.search(r"label [01], abnormal [01]\.\d\d, boxes \[\[", line)


@pytest.mark.slow
def test_similar_cases_are_found_and_drawn(done: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done.folder, folder)  # the script keeps its index there
    first = start("similar_cases", folder, "--k", 3, cwd=tmp_path).stdout
    assert len(first.splitlines()) == 1 + 3
    assert cv2.imread(str(tmp_path / "similar_cases.png")).std() > 15
    assert (
        start("similar_cases", folder, "--k", 3, cwd=tmp_path).stdout == first
    )  # from the index that is there


@pytest.mark.tables
def test_every_loss_is_compared_with_a_classifier(tmp_path: Path) -> None:
    text = start("loss_table", "--size", 48, "--steps", 3, "--seeds", 0, "--out", "out", cwd=tmp_path).stdout
    assert (tmp_path / "out" / "tables.md").read_text(encoding="utf-8").strip() == text.strip()
    assert "PHANTOMS" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "[" in line]
    assert len(rows) == 1 + 5 * 2 * 2 + 2
    assert rows[0].startswith("| trivial baseline | – | – | ")


@pytest.mark.tables
@pytest.mark.parametrize("name", CELLS)
def test_every_published_table_gets_a_measured_column(name, tmp_path):
    done = start(name, "--out", tmp_path, cwd=tmp_path)
    text = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert text.strip() == done.stdout.strip()
    assert "Measured on PHANTOMS" in text
    assert "patients" in text
    assert "not measured here" in text
    for figure in PUBLISHED:
        if figure.system in SYSTEMS[name]:
            assert f"{figure.value:g}" in text
    folders = [path.parent for path in tmp_path.glob("*/config.json")]
    assert len(folders) == CELLS[name]
    for folder in folders:
        assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["status"] == "finished"
        assert (folder / "report.html").stat().st_size > 10_000
    # NASNet is left out of the quick setting; every other row of a table has what was measured, with its interval.
    rows = [line for line in text.splitlines() if re.match(r"\| (?!---|configuration|part )", line)]
    empty = [line for line in rows if line.rstrip(" |").endswith("–")]
    assert all("nasnet" in line for line in empty), empty
    assert sum("[" in line for line in rows) >= len(rows) / 2

    again = start(name, "--out", tmp_path, cwd=tmp_path)
    assert again.stdout == done.stdout  # finished runs are kept: it takes seconds
    assert again.stderr.count("is finished and kept") == CELLS[name]
