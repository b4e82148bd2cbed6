"""What the pages say is what the code does: blocks run, messages exist, links lead somewhere."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.M | re.S)
PAGES = sorted(p for p in [ROOT / "README.md", *DOCS.rglob("*.md")] if "generated" not in p.parts)
SOURCES = [p for room in ("siamura", "losses", "samplers") for p in (ROOT / room).rglob("*.py")]


def blocks(page):
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def run(page, folder, monkeypatch, *smaller):
    """Run a page's blocks in order, with what is long in them made short."""
    code = "\n".join(blocks(page))
    for long, short in smaller:
        assert long in code, f"{page.name} no longer says {long}"
        code = code.replace(long, short)
    monkeypatch.chdir(folder)
    names = {"__name__": "page"}
    exec(compile(code, str(page), "exec"), names)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_block_is_python(page):
    for code in blocks(page):
        ast.parse(code)


def test_readme_runs(tmp_path, monkeypatch, capsys):
    names = run(
        ROOT / "README.md", tmp_path, monkeypatch,
        ("views=600", "views=60"), ("size=96", "size=32"), ("densenet169", "resnet18"),
        ("k=16", "k=4"), ("steps=400", "steps=2"), ("KNNHead(k=15)", "KNNHead(k=3)"),
    )  # fmt: skip
    assert "kappa" in capsys.readouterr().out
    assert len(names["data"]) + len(names["data_valid"]) == 60


def test_start_page_runs(tmp_path, monkeypatch, capsys):
    root = tmp_path / "phantoms"
    from siamura import make_phantoms

    make_phantoms(root, views=60, progress=False)
    names = run(
        DOCS / "start.md", tmp_path, monkeypatch,
        ("size=64", "size=32"), ("k=8,", "k=4,"), ("steps=40", "steps=2"),
    )  # fmt: skip
    assert list(names["scores"].columns) == ["value", "low", "high"]
    assert len(names["found"]) == 3


@pytest.mark.parametrize("name", ["losses", "samplers", "phantoms", "howto/sample_by_patient"])
def test_page_runs(name, tmp_path, monkeypatch):
    run(DOCS / f"{name}.md", tmp_path, monkeypatch)


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


def test_systems_page_is_what_the_code_holds():
    sys.path.insert(0, str(DOCS))
    try:
        import systems
    finally:
        sys.path.remove(str(DOCS))
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
