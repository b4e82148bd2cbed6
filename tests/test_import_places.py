"""Imports stand at the top of a file, or say why not; and what the light ways in do not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [path for top in ("siamura", "losses", "samplers") for path in (ROOT / top).rglob("*.py")]


def unexplained(text: str) -> list[str]:
    """Imports inside functions with a comment neither on their line nor above the block that they stand in."""
    lines = text.split("\n")
    found = []
    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for node in ast.walk(function):
            if isinstance(node, (ast.Import, ast.ImportFrom)) and "  # " not in lines[node.end_lineno - 1]:
                above = node.lineno - 2
                while lines[above].lstrip().startswith(("import ", "from ")):
                    above -= 1
                if not lines[above].lstrip().startswith("# "):
                    found.append(f"{node.lineno}: {lines[node.lineno - 1].strip()}")
    return found


def test_an_import_inside_a_function_says_why():
    assert len(FILES) > 150
    assert unexplained("def f():\n    import os\n")
    assert not unexplained("def f():\n    # Here, as it is slow.\n    import os\n    from re import sub\n")
    assert not unexplained("import os\n\n\ndef f():\n    import re  # an optional extra\n")
    wrong = {str(path.relative_to(ROOT)): unexplained(path.read_text("utf-8")) for path in FILES}
    assert {path: lines for path, lines in wrong.items() if lines} == {}


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("siamura.cli.commands", "torch cv2 scipy sklearn matplotlib sqlalchemy jinja2"),
        ("siamura.cli.start", "typer rich numpy pandas siamura.experiments siamura.cli.commands"),
        ("siamura.reproduction.grids", "torch lightning"),
        ("siamura.plots.scatter", "torch scipy matplotlib.pyplot"),
        ("siamura.evaluation", "torch sklearn matplotlib"),
        ("siamura.index", "torch scipy"),
        ("siamura.explanation", "lightning torchvision sklearn"),
    ],
)
def test_what_is_light_stays_light(name, absent):
    code = f"import sys, {name}; print(*(m for m in {absent.split()} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr[-500:]) == ("", "")


def test_a_library_that_fails_to_import_is_named(monkeypatch):
    from siamura import experiments

    def fail(name):
        raise AttributeError("module 'faulty' has no attribute 'part'")

    monkeypatch.setattr(experiments.importlib, "import_module", fail)
    with pytest.raises(ImportError, match="module 'faulty' has no attribute 'part'"):
        experiments.load_run  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        experiments.nothing  # noqa: B018
