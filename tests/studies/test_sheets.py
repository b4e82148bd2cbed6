"""Tables as people have them: separators, encodings, Excel, Parquet, and what is none."""

from __future__ import annotations

import logging
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

import siamura
from siamura.studies.sheets import read_sheet, sensible

ROWS = [
    ["file", "finding", "patient", "age", "site"],
    ["films/a.png", "fracture", "007", "1,5", "Köln, Süd"],
    ["films/b.png", "normal", "8", "", 'the "old" one'],
    ["films\\c.png", "normal", "9", "3,25", ""],
]
NAMES = {"file": "path", "finding": "label"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "films").mkdir()
    for name in "abc":
        (tmp_path / "films" / f"{name}.png").write_bytes(b"...")
    return tmp_path


def quoted(cell: str, separator: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if separator in cell or '"' in cell else cell


def text(separator: str, space: str = "", end: str = "", line: str = "\n") -> str:
    rows = ((separator + space).join(quoted(cell, separator) for cell in row) + end for row in ROWS)
    return line.join(rows) + line


def check(table: pd.DataFrame, folder: Path) -> None:
    assert table["path"].tolist() == [str(folder / "films" / f"{n}.png") for n in "abc"]
    assert table["label"].tolist() == [1, 0, 0]
    assert table["patient"].tolist() == ["007", "8", "9"]
    assert table["age"].fillna(-1).tolist() == [1.5, -1, 3.25]
    assert table["site"].fillna("?").tolist() == ["Köln, Süd", 'the "old" one', "?"]
    assert list(table.columns[-2:]) == ["age", "site"]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_and_encodings(folder: Path, separator: str, encoding: str) -> None:
    (folder / "own.csv").write_bytes(text(separator).encode(encoding))
    check(siamura.read_studies(folder / "own.csv", columns=NAMES), folder)


@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("space", "end"), [(" ", ""), ("", ";"), ("", ";;"), (" ", " ; ")])
def test_spaces_trailing_separators_and_line_ends(folder: Path, space: str, end: str, line: str) -> None:
    (folder / "own.csv").write_bytes(text(";", space, end, line).encode())
    check(siamura.read_studies(folder / "own.csv", columns=NAMES), folder)
    lines = text(";").splitlines()
    rows_alone = "\n".join([lines[0], *(one + ";" for one in lines[1:])])
    (folder / "own.csv").write_text("sep=;\n\n" + rows_alone + "\n\n", encoding="utf-8")
    check(siamura.read_studies(folder / "own.csv", columns=NAMES), folder)


def test_what_was_found_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "own.csv").write_bytes(text(";").encode("cp1252"))
    caplog.set_level(logging.INFO)
    table = siamura.read_studies(folder / "own.csv", columns=NAMES)
    assert "read as Windows-1252 (it is no UTF-8), separated by semicolon" in caplog.text
    assert table.attrs["source"] == {"kind": "table", "name": str(folder / "own.csv"), "why": "it is a file"}


def test_excel_and_parquet(folder: Path) -> None:
    frame = pd.DataFrame(ROWS[1:], columns=ROWS[0])
    frame.to_excel(folder / "own.xlsx", index=False)
    check(siamura.read_studies(folder / "own.xlsx", columns=NAMES), folder)
    frame.to_parquet(folder / "own.parquet")
    check(siamura.read_studies(folder / "own.parquet", columns=NAMES), folder)
    (folder / "own.parquet").rename(folder / "own.csv")  # told by content
    check(siamura.read_studies(folder / "own.csv", columns=NAMES), folder)
    with pd.ExcelWriter(folder / "two.xlsx") as book:
        pd.DataFrame({"notes": ["x"]}).to_excel(book, sheet_name="about", index=False)
        frame.to_excel(book, sheet_name="films", index=False)
        pd.DataFrame().to_excel(book, sheet_name="empty")
    check(siamura.read_studies(folder / "two.xlsx", columns=NAMES), folder)
    numbers = frame.assign(patient=[7, 8, 9], finding=[1, 0, 0])
    numbers.to_excel(folder / "numbers.xlsx", index=False)
    table = siamura.read_studies(folder / "numbers.xlsx", columns=NAMES)
    assert (table["patient"].tolist(), table["label"].tolist()) == (["7", "8", "9"], [1, 0, 0])


@pytest.mark.parametrize("number", [9007199254740993, 1234567890123450, 1e16])
def test_numbers_of_more_digits_than_a_workbook_keeps_are_nobody(folder: Path, number: float) -> None:
    frame = pd.DataFrame(ROWS[1:], columns=ROWS[0])
    frame.assign(patient=[number, 8, 9]).to_excel(folder / "own.xlsx", index=False)
    with pytest.raises(ValueError, match="has lost digits in a spreadsheet"):
        siamura.read_studies(folder / "own.xlsx", columns=NAMES)


@pytest.mark.parametrize("word", ["1E+11", "unknown", " ? ", "-", "Anonymous", "<missing>"])
def test_identifiers_that_are_of_several_people(folder: Path, word: str) -> None:
    frame = pd.DataFrame(ROWS[1:], columns=ROWS[0]).assign(patient=[word, word, "P1"])
    with pytest.raises(ValueError, match=r"names no person|has lost digits"):
        siamura.read_studies(frame, columns=NAMES, root=folder)


def test_an_extra_that_is_not_installed_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame(ROWS[1:], columns=ROWS[0])
    frame.to_excel(folder / "own.xlsx", index=False)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "siamura\[tables\]"'):
        read_sheet(folder / "own.xlsx")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), r"an old Excel file \(\.xls\): save it as \.xlsx"),
        (b"\x1f\x8b\x08" + bytes(30), "compressed by gzip: unpack it"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "an image"),
        (b"%PDF-1.7 ...", "a PDF"),
        (b"PK\x03\x04" + bytes(30), "a damaged archive"),
        (b"PAR1" + bytes(30), "a damaged Parquet file"),
        (b"<html><table><tr><td>file", "a web page or XML"),
        (b'[{"file": "a.png"}]', "JSON"),
        (b"file label\na.png 1\n", "is one cell, without comma, semicolon, tab or pipe"),
        (b"file,label\na.png,1,2\n", "line 2 has 3 cells, its header 2 .*: quote cells that hold a comma"),
        (b"file,label\na\x81.png,1\n", "no CSV in UTF-8, UTF-16 or Windows-1252"),
        (b"a.png,1\nb.png,0\n", r"has no column 'path' \(its columns: a\.png, 1\)"),
        (b"file,label\n", "has no rows"),
        (b"image,diagnosis\na.png,1\n", r"columns=\{'image': 'path'\}"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "own.csv").write_bytes(content)
    columns = {"file": "path"} if content.startswith(b"file,") else None
    with pytest.raises(ValueError, match=reason):
        siamura.read_studies(tmp_path / "own.csv", columns=columns)


def test_archives_that_are_no_workbook(tmp_path: Path) -> None:
    for inside, reason in (
        ("content.xml", "an OpenDocument file: save it as"),
        ("films.csv", "a ZIP archive: unpack"),
    ):
        with zipfile.ZipFile(tmp_path / "own.csv", "w") as archive:
            archive.writestr(inside, "x")
        with pytest.raises(ValueError, match=reason):
            read_sheet(tmp_path / "own.csv")


def test_headers_in_other_case_and_there_twice(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "own.csv").write_text(
        "File , LABEL,Patient,age,age\nfilms/a.png,1,p,1,2\nfilms/b.png,0,q,3,4\n"
    )
    table = siamura.read_studies(folder / "own.csv", columns={"file": "path"})
    assert (table["label"].tolist(), table["patient"].tolist(), table["age"].tolist()) == (
        [1, 0],
        ["p", "q"],
        [1, 3],
    )
    assert "columns there twice are left out the second time: age" in caplog.text
    (folder / "own.csv").write_text("path,label,label\nfilms/a.png,1,0\n")
    with pytest.raises(ValueError, match="has the column 'label' twice"):
        siamura.read_studies(folder / "own.csv")
    with pytest.raises(ValueError, match=r"columns names 'pat', which .* Did you mean 'path'"):
        siamura.read_studies(folder / "own.csv", columns={"pat": "path"})


def test_short_lines_and_quoted_line_breaks(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = 'path,label,patient,note\nfilms/a.png,1,p,"two\nlines"\nfilms/b.png,0,q\n'
    (folder / "own.csv").write_text(lines)
    table = siamura.read_studies(folder / "own.csv")
    assert table["note"].fillna("").tolist() == ["two\nlines", ""]
    assert "1 lines are shorter than the header" in caplog.text


def test_paths_of_windows_and_of_a_spreadsheet(folder: Path) -> None:
    (folder / "=a.png").write_bytes(b"...")
    own = pd.DataFrame(
        {"path": ["films\\a.png", ".\\films\\b.png", "'=a.png"], "label": [1, 0, 0], "patient": [1, 2, 3]}
    )
    table = siamura.read_studies(own, root=folder)
    assert [Path(p).name for p in table["path"]] == ["a.png", "b.png", "=a.png"]
    with pytest.raises(ValueError, match="a path of Windows: make it relative"):
        siamura.read_studies(own.assign(path="C:\\films\\a.png"), root=folder)


def test_lists_of_mura_are_told(tmp_path: Path) -> None:
    (tmp_path / "train_image_paths.csv").write_text(
        "MURA-v1.1/train/XR_HAND/patient1/study1_positive/image1.png\n"
    )
    with pytest.raises(ValueError, match="one of MURA's lists, which have no header: give the folder"):
        siamura.read_studies(tmp_path / "train_image_paths.csv")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2"], "int64"),
        (["1", ""], "float64"),
        (["1.5", "2"], "float64"),
        (["1,5", "NA"], "float64"),
        (["true", "False"], "bool"),
        (["01", "2"], "str"),
        (["1", "x"], "str"),
        (["1" * 20, "2"], "str"),
        (["", ""], "str"),
        ([1, 2], "int64"),
        ([1, None], "float64"),
        ([True, "x"], "str"),
    ],
)
def test_further_columns_get_a_sensible_type(cells: list[object], kind: str) -> None:
    assert sensible(pd.Series(cells, dtype=object)).dtype == kind
