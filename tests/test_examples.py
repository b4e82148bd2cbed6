"""The scripts that print every published table, in their quick settings, as a user starts them: ``make tables``."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from siamura.experiments import PUBLISHED

ROOT = Path(__file__).resolve().parents[1]
CELLS = {"finger_tables": 8, "part_tables": 5 + 28, "humerus": 2}
SYSTEMS = {"finger_tables": "A", "part_tables": "BD", "humerus": "CE"}


@pytest.mark.tables
@pytest.mark.parametrize("name", CELLS)
def test_every_published_table_gets_a_measured_column(name, tmp_path):
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--out", str(tmp_path)]
    environment = {**os.environ, "SIAMURA_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
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

    again = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert again.stdout == done.stdout  # finished runs are kept: it takes seconds
    assert again.stderr.count("is finished and kept") == CELLS[name]
