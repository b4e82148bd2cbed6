"""What the pages say is so: messages exist, tables are current, links lead somewhere."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in [ROOT / "README.md", *DOCS.rglob("*.md")] if "generated" not in p.parts)
SOURCES = [p for package in ("siamura", "losses", "samplers") for p in (ROOT / package).rglob("*.py")]


def messages():
    """The fixed parts of all string literals of the source."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(v.value if isinstance(v, ast.Constant) else "\0" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_troubleshooting_headings_are_messages():
    headings = re.findall(
        r"^### (.+)$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), flags=re.M
    )
    assert len(headings) > 25
    said = messages()
    assert [h for h in headings if not any(h in text for text in said)] == []


@pytest.fixture
def beside_the_pages(monkeypatch):
    """The scripts beside the pages can be imported."""
    monkeypatch.syspath_prepend(str(DOCS))


def test_systems_page_is_what_the_code_holds(beside_the_pages):
    import systems

    assert systems.page() == (DOCS / "systems.md").read_text(encoding="utf-8")


def test_links_lead_somewhere():
    done = subprocess.run(
        [sys.executable, DOCS / "check_links.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {p.relative_to(DOCS).with_suffix("").as_posix() for p in PAGES if DOCS in p.parents}
    listed = {
        line
        for tree in re.findall(r"^```{toctree}\n(.*?)^```", index, flags=re.M | re.S)
        for line in tree.split()
    }
    assert {p for p in pages - listed if not p.startswith(("index", "auto_examples", "_build"))} == set()


def test_every_public_class_and_function_has_an_example(beside_the_pages):
    import gather

    without = []
    for package in [
        *list(gather.PACKAGES)[1:],
        "siamura.app",
    ]:  # the names of siamura itself are names of a package
        for name in gather.public_names(package):
            thing = getattr(importlib.import_module(package), name)
            ours = getattr(thing, "__module__", "").startswith("siamura")  # another library documents its own
            documented = ours and (inspect.isclass(thing) or inspect.isroutine(thing))
            if documented and not re.search(r">>>|code-block:: python", thing.__doc__ or ""):
                without.append(f"{package}.{name}")
    assert not without, f"no example in the docstrings of {', '.join(without)}"


def test_benchmarks_of_some_rooms_leave_the_others(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    runner = importlib.import_module("benchmarks.__main__")
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{runner.MARKS[0]}\n{runner.MARKS[1]}\n\nafter\n", encoding="utf-8")
    runner._put({"losses": "old", "heads": "| a |"}, page)
    runner._put({"losses": "new"}, page)
    runner._put({}, page)
    wanted = "before\n\n{}\n\n### heads\n\n| a |\n\n### losses\n\nnew\n\n{}\n\nafter\n".format(*runner.MARKS)
    assert page.read_text(encoding="utf-8") == wanted
    page.write_text("no place", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no place for the figures"):
        runner._put({"losses": "new"}, page)


def test_the_architecture_names_files_and_functions_that_are_there():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    defined = {
        path.relative_to(ROOT).as_posix(): {
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        }
        for path in SOURCES
    }
    named = re.findall(r"`([\w/]+\.py)(?:: ([\w.]+))?`", text)
    assert len(named) > 20
    wrong = [
        (file, name)
        for file, name in named
        if not any(f"/{path}".endswith(f"/{file}") and set(name.split(".") if name else []) <= names
                   for path, names in defined.items())
    ]  # fmt: skip
    assert wrong == []
