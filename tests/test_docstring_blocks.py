"""Examples of docstrings that need a finished run: they run in a folder with one, and give what their comments say."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import io
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^( *)\.\. code-block:: python\n\n((?:\1 +.*\n|\n)+)", re.M)
LONG = re.compile(
    r"= run\(|run_seeds\(|finish_run\(|run_classifier\(|explanation_figures\("
)  # whole trainings and measurements
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks() -> list[Any]:
    found = []
    for path in sorted((ROOT / "siamura").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for number, match in enumerate(BLOCK.finditer(path.read_text("utf-8"))):
            code = textwrap.dedent(match[2])
            marks = [pytest.mark.slow] if LONG.search(code) else []
            found.append(pytest.param(name, code, id=f"{name}-{number}", marks=marks))
    return found


BLOCKS = blocks()


def run(code: str, names: dict[str, Any]) -> list[str]:
    """Run statements one by one; what differs from the comments behind them."""
    lines, wrong = code.split("\n"), []
    for statement in ast.parse(code).body:
        text, out = ast.get_source_segment(code, statement), io.StringIO()
        assert text is not None
        with contextlib.redirect_stdout(out):
            exec(compile(text, "<example>", "single"), names)
        said = []
        for line in lines[statement.end_lineno or 0 :]:
            if not line.startswith("# "):
                break
            said.append(line[2:])
        wanted = "\n".join(said) + "\n"
        if said and not doctest.OutputChecker().check_output(wanted, out.getvalue(), FLAGS):
            wrong.append(f"{text}\ngives {out.getvalue()}instead of {wanted}")
    return wrong


def test_a_wrong_comment_is_seen() -> None:
    assert run("1 + 1\n# 2\nprint(3)\n# 3\n", {}) == []
    assert len(run("1 + 1\n# 3\n", {})) == 1
    assert len(BLOCKS) > 15


@pytest.mark.parametrize(("module", "code"), BLOCKS)
def test_it_runs_and_gives_what_it_says(
    module: str,
    code: str,
    started: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if module.startswith("siamura.app"):
        pytest.importorskip("gradio")
    if '"runs/classifier"' in code:
        request.getfixturevalue("supervised")
    if '"runs/seeds"' in code:
        request.getfixturevalue("seeded")
    monkeypatch.chdir(started)
    monkeypatch.setenv("SIAMURA_CACHE", str(cache))
    assert run(code, dict(vars(importlib.import_module(module)))) == []
