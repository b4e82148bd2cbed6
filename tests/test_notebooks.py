"""The notebooks: paired with their scripts, and run from top to bottom in small settings."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))

#: Long and short; what is long must stand in the notebook.
SHORTER = {
    "2_own_csv_and_dicom": {"views=120": "views=40"},
    "3_finger_experiment": {'240, "resnet18", 64, 60': '60, "resnet18", 32, 2', "k=8": "k=4"},
    "4_frozen_classifier_triplets": {'240, "resnet18", 64, 60': '60, "resnet18", 32, 2', "k=8": "k=4"},
}


def test_there_are_five_and_the_page_names_each() -> None:
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert len(SCRIPTS) == 5
    assert [script.stem for script in SCRIPTS if f"../notebooks/{script.stem}.ipynb" not in page] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_its_script_and_holds_no_output(script: Path) -> None:
    book = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(book)
    written = jupytext.read(script)
    assert [(c.cell_type, c.source) for c in book.cells] == [(c.cell_type, c.source) for c in written.cells]
    assert not any(cell.get("outputs") for cell in book.cells)
    text = script.read_text(encoding="utf-8")
    assert "PHANTOM" in text


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_runs(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIAMURA_CACHE", str(tmp_path / "cache"))
    text = script.read_text(encoding="utf-8")
    for long, short in SHORTER.get(script.stem, {}).items():
        assert long in text, f"{script.name} no longer says {long}"
        text = text.replace(long, short)
    book = jupytext.reads(text, fmt="py:percent")
    NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert not any(output.output_type == "error" for output in shown)
