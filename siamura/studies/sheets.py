"""Tables of files as people have them: CSV in any of its forms, Excel, Parquet."""

from __future__ import annotations

import csv
import io
import logging
import math
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from siamura._files import printable, read_parquet

from .labels import missing
from .names import listed

log = logging.getLogger(__name__)

SUFFIXES: Final = frozenset({".csv", ".tsv", ".txt", ".tab", ".psv", ".xlsx", ".xlsm", ".parquet", ".pq"})
"""What files of tables are usually called."""

_SEPARATORS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_BOMS: Final = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_NO_TABLES: Final = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel file (.xls)", "save it as .xlsx or as CSV"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"\x89PNG", "an image", "give a CSV that lists the images, or their folder"),
    (b"\xff\xd8\xff", "an image", "give a CSV that lists the images, or their folder"),
    (b"%PDF", "a PDF", "give a CSV that lists the images"),
    (b"SQLite format 3", "a database", "export its table as CSV"),
)


def read_sheet(file: Path, wanted: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table with a header line, its cells as they are written.

    The form is recognised by content: Excel (.xlsx), Parquet, or text. Of text the encoding is UTF-8, else UTF-16 or
    UTF-32 by their mark, else Windows-1252; the separator (comma, semicolon, tab or pipe) is the one under
    which the lines agree. What was found is logged.

    Parameters
    ----------
    file : Path
    wanted : sequence of str
        Columns that are looked for: they decide between two separators, and between the sheets of a workbook.

    Returns
    -------
    DataFrame
        Cells of text are str, without spaces around them; empty ones are "".

    Raises
    ------
    ModuleNotFoundError
        Excel or Parquet, and the extra ``tables`` is not installed.
    ValueError
        It is something else, or lines have more cells than the header.
    """
    with file.open("rb") as opened:
        head = opened.read(2048)
    name = printable(file)
    if not head.strip(b" \t\r\n\x00"):
        raise ValueError(f"{name} is empty: a line of column names and one line an image are wanted.")
    if head[:4] == b"PAR1":
        return read_parquet(file)
    if head[:2] == b"PK":
        return _workbook(file, wanted)
    for start, what, remedy in _NO_TABLES:
        if head.startswith(start):
            raise ValueError(f"{name} is no CSV but {what}: {remedy}.")
    if head[128:132] == b"DICM":
        raise ValueError(f"{name} is no CSV but a DICOM file: give the folder that holds it.")
    if re.match(rb"\s*(?:<!doctype html|<html|<table|<\?xml)", head, re.IGNORECASE):
        raise ValueError(
            f"{name} is no CSV but a web page or XML, whatever its name: save it as .xlsx or CSV."
        )
    if re.match(rb"\s*[\[{]", head):
        raise ValueError(f"{name} is no CSV but JSON: read it with pandas.read_json and give the DataFrame.")
    return _text(file, wanted)


def _text(file: Path, wanted: Sequence[str]) -> pd.DataFrame:
    """Read separated text."""
    content, encoding = decode(file)
    said = re.match(r"sep=(.)\r?\n", content, re.IGNORECASE)
    content = content[said.end() :] if said else content
    separator = said.group(1) if said and said.group(1) in _SEPARATORS else _separator(content, wanted)
    try:
        lines = _lines(content, separator)
    except csv.Error as error:
        raise ValueError(f"{printable(file)} is no CSV with a header line ({error}).") from error
    log.info("%s: read as %s, separated by %s", printable(file), encoding, _SEPARATORS[separator])
    header, rows = lines[0][1], lines[1:]
    # A trailing separator makes a last column without name or content.
    while len(header) > 1 and not header[-1] and not any(r[len(header) - 1 :][:1] > [""] for _, r in rows):
        header.pop()
    if len(header) == 1 and wanted and header[0].casefold() not in {w.casefold() for w in wanted}:
        raise ValueError(
            f"{printable(file)} is no CSV with a header: its first line, {header[0][:80]!r}, is one cell, without "
            "comma, semicolon, tab or pipe."
        )
    width, short = len(header), 0
    for number, row in rows:
        if any(row[width:]):
            raise ValueError(
                f"{printable(file)}, line {number} has {len(row)} cells, its header {width} "
                f'({listed(header)}): quote cells that hold a {_SEPARATORS[separator]}, as in "a{separator} b".'
            )
        short += len(row) < width
        row[width:] = [""] * max(0, width - len(row))
    if short:
        log.warning(
            "%s: %d lines are shorter than the header; cells that lack are empty", printable(file), short
        )
    # dtype object: a column of numbers stays as it is written.
    return pd.DataFrame([row for _, row in rows], columns=pd.Index(header, dtype=object), dtype=object)


def decode(file: Path) -> tuple[str, str]:
    """Read a file of text, whatever its encoding; give it and the encoding's name."""
    data = file.read_bytes()
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _decoded(data, encoding, file), encoding.removesuffix("-sig").upper()
    zeros = [data[:2000][i::2].count(0) for i in (0, 1)]
    if max(zeros) > len(data[:2000]) // 5:
        encoding = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
        return _decoded(data, encoding, file), encoding.upper()
    try:
        return data.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        return _decoded(data, "cp1252", file), "Windows-1252 (it is no UTF-8)"


def _decoded(data: bytes, encoding: str, file: Path) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{printable(file)} is no CSV in UTF-8, UTF-16 or Windows-1252 ({error.reason} at byte {error.start} "
            f"as {encoding}): save it as UTF-8."
        ) from error


def _lines(content: str, separator: str, most: int | None = None) -> list[tuple[int, list[str]]]:
    """Split text into rows of cells, with the line each ends in; blank lines are left out."""
    reader = csv.reader(
        io.StringIO(content, newline=""), delimiter=separator, skipinitialspace=True, strict=False
    )
    rows = []
    for row in reader:
        cells = [cell.strip() for cell in row]
        if any(cells):
            rows.append((reader.line_num, cells))
            if len(rows) == most:
                break
    return rows


def _separator(content: str, wanted: Sequence[str]) -> str:
    """Choose the separator under which the first lines have the wanted columns and agree in length."""
    best, found = (-1, -1.0, -1), ","
    for separator in _SEPARATORS:
        try:
            rows = [cells for _, cells in _lines(content, separator, 50)]
        except csv.Error:
            continue
        if not rows:
            continue
        width = len(rows[0])
        names = {cell.casefold() for cell in rows[0]}
        agree = Counter(len(row) - (not row[-1]) for row in rows).most_common(1)[0][1] / len(rows)
        score = (sum(w.casefold() in names for w in wanted), agree if width > 1 else 0.0, width)
        if score > best:
            best, found = score, separator
    return found


def _workbook(file: Path, wanted: Sequence[str]) -> pd.DataFrame:
    """Read the sheet of a workbook that has the wanted columns, or its only one with any row."""
    name = printable(file)
    try:
        with zipfile.ZipFile(file) as archive:
            inside = set(archive.namelist())
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{name} is no CSV but a damaged archive or workbook ({_first_line(error)})."
        ) from error
    if "xl/workbook.xml" not in inside:
        what = "an OpenDocument file" if "content.xml" in inside else "a ZIP archive"
        remedy = "save it as .xlsx or as CSV" if "content.xml" in inside else "unpack it"
        raise ValueError(f"{name} is no CSV but {what}: {remedy}.")
    try:
        sheets = pd.read_excel(
            file, sheet_name=None, dtype=object, keep_default_na=False, na_values=[""], engine="openpyxl"
        )
    except ImportError as error:
        raise ModuleNotFoundError(
            'reading Excel files needs openpyxl: pip install "siamura[tables]"'
        ) from error
    except Exception as error:
        raise ValueError(f"{name} is a damaged Excel file ({_first_line(error)}).") from error
    filled = {title: _tidy(sheet) for title, sheet in sheets.items() if len(sheet)}
    fits = {
        title: sheet
        for title, sheet in filled.items()
        if {w.casefold() for w in wanted} <= {str(c).casefold() for c in sheet.columns}
    }
    chosen = fits if len(fits) == 1 else filled
    if len(chosen) != 1:
        what = "no sheet has a row" if not filled else f"its sheets {listed(filled)} could each be it"
        raise ValueError(f"{name}: which sheet is the table? {what}; keep one, or save it as CSV.")
    title, sheet = next(iter(chosen.items()))
    log.info("%s: read as Excel, sheet %s", name, printable(title))
    return sheet


def _tidy(sheet: pd.DataFrame) -> pd.DataFrame:
    """Leave out rows and columns of a sheet without name or content, and spaces around text."""
    sheet = sheet.dropna(how="all")
    sheet = sheet.loc[
        :, [not (str(c).startswith("Unnamed: ") and sheet[c].isna().all()) for c in sheet.columns]
    ]
    sheet.columns = pd.Index([str(c).strip() for c in sheet.columns], dtype=object)
    return sheet.map(_cell)


def _cell(value: Any) -> Any:
    """Take a cell without spaces around it; whole numbers beyond a spreadsheet's 15 digits as it would write them."""
    if isinstance(value, str):
        return value.strip()
    cut = isinstance(value, int | float) and 10**15 <= abs(value) < math.inf
    return f"{value:.14E}" if cut else value


def sensible(column: pd.Series[Any]) -> pd.Series[Any]:
    """Give a further column of a table the type that its cells have.

    Whole numbers become int64, others float64 (a decimal comma counts), true and false bool; numbers with
    leading zeros, and all else, stay text. A column that is no text already stays as it is.

    Examples
    --------
    >>> sensible(pd.Series(["63", "", "7"])).tolist(), sensible(pd.Series(["1,5", "2"])).tolist()
    ([63.0, nan, 7.0], [1.5, 2.0])
    >>> sensible(pd.Series(["007", "12"])).tolist()
    ['007', '12']
    """
    if column.dtype != object and not isinstance(column.dtype, pd.StringDtype):
        return column
    cells = [None if missing(v) else v for v in column]
    there = [v for v in cells if v is not None]
    index, name = column.index, column.name
    if not there or not all(isinstance(v, str) for v in there):
        plain = {type(v) for v in there}
        if (plain <= {int, float} and there) or (plain == {bool} and len(there) == len(cells)):
            return pd.Series(cells, index=index, name=name).infer_objects()
        return _as_text(cells, index, name)
    words = {v.strip() for v in there}
    if len(there) == len(cells) and {w.casefold() for w in words} <= {"true", "false"}:
        return pd.Series([v.strip().casefold() == "true" for v in there], index=index, name=name)
    if all(re.fullmatch(r"[+-]?(?:0|[1-9]\d{0,14})", w) for w in words):
        whole = pd.Series([float("nan") if v is None else int(v) for v in cells], index=index, name=name)
        return whole if len(there) < len(cells) else whole.astype("int64")
    if all(re.fullmatch(r"[+-]?(?:0|[1-9]\d{0,14})?(?:[.,]\d+)?(?:[eE][+-]?\d+)?", w) for w in words):
        numbers = [float("nan") if v is None else float(v.replace(",", ".")) for v in cells]
        return pd.Series(numbers, index=index, name=name, dtype="float64")
    return _as_text(cells, index, name)


def _as_text(cells: Iterable[Any], index: Any, name: Any) -> pd.Series[Any]:
    safe = [None if v is None else str(v).strip().encode("utf-8", "backslashreplace").decode() for v in cells]
    return pd.Series(safe, index=index, name=name, dtype="str")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
