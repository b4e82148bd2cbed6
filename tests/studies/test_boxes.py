"""read_boxes: boxes in a file's pixels, checked, and matched with a table."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import siamura
from siamura.studies import problems, read_boxes


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    (tmp_path / "films").mkdir()
    for name in "abcd":
        Image.fromarray(np.zeros((60, 40), np.uint8)).save(tmp_path / "films" / f"{name}.png")
    own = pd.DataFrame({"path": [f"films/{n}.png" for n in "abc"], "label": [1, 1, 0], "patient": [1, 2, 3]})
    return siamura.read_studies(own, root=tmp_path)


def write(folder: Path, *lines: str, header: str = "file,x0,y0,x1,y1") -> Path:
    (folder / "lesions.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "lesions.csv"


def test_boxes_of_a_table(tmp_path: Path, table: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tmp_path, "films/a.png,1,2,10,12.5", "films/a.png,20,2,40,60", "films/d.png,1,1,2,2")
    caplog.set_level(logging.INFO)
    boxes = read_boxes(file, table)
    assert boxes.values.tolist() == [[table["path"][0], 1, 2, 10, 12.5], [table["path"][0], 20, 2, 40, 60]]
    assert boxes.dtypes.astype(str).tolist() == ["str", *["float64"] * 4]
    assert boxes.attrs["unmatched"] == (str(tmp_path / "films/d.png"),)
    assert boxes.attrs["without"] == (table["path"][1],)
    assert "1 files with boxes are not in the table" in caplog.text
    assert "1 of 2 views with a finding have no box" in caplog.text
    assert len(read_boxes(file)) == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("films/a.png,10,2,1,12", "has no area"),
        ("films/a.png,1,2,1,12", "has no area"),
        ("films/a.png,1,,3,12", "an edge that is no number"),
        ("films/a.png,1,x,3,12", "an edge that is no number"),
        ("films/a.png,1,inf,3,12", "an edge that is no number"),
        ("films/a.png,-1,2,3,12", "begins before the image"),
        ("films/a.png,1,2,43,12", "ends outside the image of 40 x 60 pixels"),
        ("films/gone.png,1,2,3,12", "there is no such file"),
        (",1,2,3,12", "the path is empty"),
    ],
)
def test_what_is_no_box_is_named(tmp_path: Path, table: pd.DataFrame, line: str, reason: str) -> None:
    file = write(tmp_path, "films/b.png,1,1,2,2", line)
    with pytest.raises(ValueError, match=rf"1 problem in .*(?s:.)*{reason}"):
        read_boxes(file, table)
    boxes = read_boxes(file, table, on_error="report")
    assert (len(boxes), len(problems(boxes))) == (1, 1)


def test_other_names_and_other_folders(
    tmp_path: Path, table: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path, "elsewhere\\c.png;1,5;2;3;4", header="Image;xmin;ymin;xmax;ymax")
    names = {"xmin": "x0", "ymin": "y0", "xmax": "x1", "ymax": "y1"}
    boxes = read_boxes(file, table, columns=names)
    assert boxes.values.tolist() == [[table["path"][2], 1.5, 2, 3, 4]]
    assert "1 files are matched by name alone" in caplog.text
    assert "1 views with label 0 have a box" in caplog.text
    with pytest.raises(ValueError, match="has no column 'x0'"):
        read_boxes(file, table)
    with pytest.raises(ValueError, match=r"none of the 1 boxes .* is of a file of the table.* Give root="):
        read_boxes(write(tmp_path, "films/d.png,1,1,2,2"), table)


def test_the_lesions_of_phantoms(tmp_path: Path) -> None:
    root = siamura.make_phantoms(tmp_path / "phantoms", parts=("XR_FINGER",), views=32, seed=1)
    table = siamura.read_studies(root)
    boxes = read_boxes(root / "lesions.csv", table)
    assert len(boxes) == len(pd.read_csv(root / "lesions.csv")) > 0
    assert set(boxes["path"]) <= set(table.loc[table["label"] == 1, "path"])
    assert "kind" in boxes
