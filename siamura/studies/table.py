"""A table of one's own: a CSV in any of its forms, Excel, Parquet, or a DataFrame."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from siamura._files import neutralize, printable
from siamura._validation import check_choice

from .checks import COLUMNS, Row, identifier, lost_digits, make_table, names_nobody, warn_unknown
from .labels import Classes, Seen, missing, two_classes
from .names import UNKNOWN_PART, listed, split_names
from .sheets import read_sheet, sensible

log = logging.getLogger(__name__)

_MURA = ("_image_paths.csv", "_labeled_studies.csv")


def read_table(
    source: str | os.PathLike[str] | pd.DataFrame,
    root: str | os.PathLike[str] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    positive: object = None,
    on_error: str = "raise",
) -> pd.DataFrame:
    """Read a table of one's own with two classes: a CSV, Excel or Parquet file, or a DataFrame.

    `siamura.read_studies` reads the same with any classes, and keeps further columns.

    Parameters
    ----------
    source : path or DataFrame
        Columns ``path`` and ``label``, and where they are known ``patient``, ``study``, ``part``, ``split``.
        Without ``patient`` every image counts as a person of its own, with a warning; without ``study`` every
        view is a study of its own; without ``part`` it is ``"XR_UNKNOWN"``; without ``split`` it is
        ``"train"`` (see :func:`split_patients`). Other columns are left out.
    root : path, optional
        Folder that relative paths start from, and that no path may leave. Default: the CSV's own folder,
        or the working directory for a DataFrame; then paths may lead anywhere.
    columns : mapping, optional
        Your names to siamura's, as in ``{"file": "path", "subject": "patient"}``.
    positive : object or iterable of objects, optional
        The values of ``label`` that mean abnormal; every other value means normal. Default: 1, positive,
        abnormal, true, yes against 0, negative, normal, false, no, and anything else is an error. Case,
        spaces, and 1, 1.0, "1" and True are no difference.
    on_error : {"raise", "report"}
        What to do about files that are missing, labels that contradict each other, and the like: raise one
        ValueError that lists them, or leave those rows out and keep them for :func:`problems`. Of a patient
        in several splits, the most held-out split's rows stay (test, then valid, then others, then train).

    Returns
    -------
    DataFrame
        One row a view, columns ``path, part, patient, study, label, split``.

    Raises
    ------
    FileNotFoundError
        No such CSV, or no such ``root``.
    ValueError
        A column is missing or there twice, `columns` or `positive` names what is not there, or a row is wrong
        and ``on_error="raise"``.

    Examples
    --------
    >>> import tempfile, pathlib, pandas as pd
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("a.png", "b.png"):
    ...     _ = (folder / name).write_bytes(b"...")
    >>> own = pd.DataFrame({"file": ["a.png", "b.png"], "label": ["normal", "abnormal"], "patient": [7, 8]})
    >>> read_table(own, folder, columns={"file": "path"})[["patient", "study", "label", "split"]]
      patient   study  label  split
    0       7  study1      0  train
    1       8  study1      1  train
    """
    check_choice("on_error", on_error, ("raise", "report"))
    sheet = open_sheet(source, root, columns)
    classes = two_classes(sheet.frame["label"], positive, sheet.name)
    rows, _, bad = check_rows(sheet, classes, sheet.parts(str))
    return make_table(rows, bad, {}, sheet.name, on_error, classes=classes.names)


@dataclass(frozen=True)
class Sheet:
    """A person's own table with siamura's names for its columns, and where its files lie.

    Parameters
    ----------
    frame : DataFrame
    name : str
        For messages.
    base : Path
        What relative paths start from.
    inside : bool
        Whether no path may leave it.
    """

    frame: pd.DataFrame
    name: str
    base: Path
    inside: bool

    def parts(self, form: Callable[[str], str]) -> list[str | None] | None:
        """Read the column of parts in some form; None where there is no such column."""
        return (
            None
            if "part" not in self.frame
            else [None if missing(v) else form(identifier(v)) for v in self.frame["part"]]
        )

    def extra(self) -> pd.DataFrame:
        """Give the further columns, each with the type that its cells have."""
        frame = self.frame
        named = [bool(re.fullmatch(r"(?:|Unnamed: \d+|index|level_0)", str(c))) for c in frame.columns]
        twice = frame.columns.duplicated()
        if twice.any():
            log.warning(
                "%s: columns there twice are left out the second time: %s",
                self.name,
                listed(dict.fromkeys(frame.columns[twice])),
            )
        keep = [i for i, c in enumerate(frame.columns) if c not in COLUMNS and not twice[i] and not named[i]]
        return pd.DataFrame(
            {str(frame.columns[i]): sensible(frame.iloc[:, i]) for i in keep}, index=frame.index
        )


def open_sheet(
    source: str | os.PathLike[str] | pd.DataFrame,
    root: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
    needed: Sequence[str] = ("path", "label"),
) -> Sheet:
    """Open a table of one's own and give its columns siamura's names."""
    if columns is not None and not isinstance(columns, Mapping):
        raise ValueError(f"columns={columns!r} is no mapping; give {{'its name': 'path', ...}}.")
    theirs = dict(columns or {})
    if isinstance(source, pd.DataFrame):
        frame, name, base = source, "the DataFrame", Path.cwd()
    else:
        file = Path(source).expanduser()
        if not file.is_file():
            raise FileNotFoundError(
                f"source={str(source)!r} is no file: give the path of a CSV with a header."
            )
        name, base = printable(file), file.resolve().parent
        if file.name.endswith(_MURA):
            raise ValueError(f"{name} is one of MURA's lists, which have no header: give the folder {base}.")
        back = {ours: own for own, ours in theirs.items()}
        frame = read_sheet(file, [*theirs, *(c for c in needed if c not in back)])
    if root is not None:
        base = Path(os.path.abspath(Path(root).expanduser()))
        if not base.is_dir():
            raise FileNotFoundError(f"root={str(root)!r} is no folder.")
    frame = _renamed(frame, theirs, name).reset_index(drop=True)
    twice = [c for c in COLUMNS if (frame.columns == c).sum() > 1]
    if twice:
        raise ValueError(
            f"{name} has the column {twice[0]!r} twice, by its own names or by columns=; name one of them."
        )
    for column in needed:
        if column not in frame:
            raise ValueError(
                f"{name} has no column {column!r} (its columns: {listed(frame.columns)}); "
                f"rename it, or say which one it is with columns={{{_likely(frame, column)!r}: {column!r}}} (on the "
                f"command line --columns {_likely(frame, column)}={column})."
            )
    if not len(frame):
        raise ValueError(f"{name} has no rows: one row an image is wanted.")
    return Sheet(frame, name, base, root is not None)


def _renamed(frame: pd.DataFrame, theirs: Mapping[str, str], name: str) -> pd.DataFrame:
    """Give columns siamura's names; where no name fits to the letter, case and spaces do not matter."""
    plain: dict[str, list[Any]] = {}
    for column in frame.columns:
        plain.setdefault(str(column).strip().casefold(), []).append(column)
    new: dict[Any, str] = {}
    for own, ours in theirs.items():
        found = [own] if own in frame else plain.get(str(own).strip().casefold(), [])
        if not found:
            turned = ours in frame.columns and own in COLUMNS
            near = difflib.get_close_matches(str(own), list(map(str, frame.columns)), n=1)
            hint = (
                f" It is the other way round: columns={{{ours!r}: {own!r}}}."
                if turned
                else f" Did you mean {near[0]!r}?"
                if near
                else ""
            )
            raise ValueError(
                f"columns names {own!r}, which {name} does not have (its columns: {listed(frame.columns)}).{hint}"
            )
        new |= dict.fromkeys(found, ours)
    for ours in COLUMNS:
        if ours not in frame and ours not in new.values() and len(found := plain.get(ours, [])) == 1:
            new.setdefault(found[0], ours)
    frame = frame.rename(columns=new)
    frame.columns = pd.Index([str(c).strip() for c in frame.columns], dtype=object)
    return frame


def _likely(frame: pd.DataFrame, column: str) -> str:
    """Name the column that is most likely meant, for an example in a message."""
    usual = {
        "path": ("file", "filename", "file_name", "image", "image_path", "img", "filepath", "dicom", "film"),
        "label": ("finding", "class", "diagnosis", "target", "fracture", "abnormal", "grade"),
    }
    plain = {str(c).strip().casefold(): str(c) for c in frame.columns}
    return next((plain[u] for u in usual.get(column, ()) if u in plain), "its name")


def check_rows(
    sheet: Sheet,
    classes: Classes,
    parts: Sequence[str | None] | None,
    chosen: np.ndarray | None = None,
    splits: Sequence[str] | None = None,
) -> tuple[list[Row], list[int], list[tuple[str, str]]]:
    """Check the rows of a person's own table and put them into the common form.

    Parameters
    ----------
    sheet : Sheet
    classes : Classes
        How its labels become codes.
    parts : sequence of str or None, or None
        Part of each row; None where the table knows none.
    chosen : boolean array, optional
        The rows that are asked for.
    splits : sequence of str, optional
        The splits that are asked for: of others, problems are passed over.

    Returns
    -------
    rows : list of Row
    places : list of int
        The number of each in the sheet.
    bad : list of (path, reason)
    """
    frame, name, base = sheet.frame, sheet.name, sheet.base
    bad: list[tuple[str, str]] = []
    raw = [None if missing(v) else str(v).strip() for v in frame["path"]]
    known: dict[str, Sequence[str | None]] = {
        key: [None if missing(v) or _none(v) else identifier(v) for v in frame[key]]
        for key in ("patient", "study", "split")
        if key in frame
    }
    if "split" in known:
        form = split_names(dict.fromkeys(v for v in known["split"] if v is not None))
        changed = {old: new for old, new in form.items() if old != new}
        if changed:
            log.info("%s: splits renamed: %s", name, listed(f"{o} to {n}" for o, n in changed.items()))
        known["split"] = [None if v is None else form[v] for v in known["split"]]
    if parts is not None:
        known["part"] = parts
    seen_labels = Seen.of(frame["label"]).names
    rows: list[Row] = []
    places: list[int] = []
    seen: dict[str, int] = {}
    asked = [one.casefold() for one in splits or ()]
    cut = "patient" in frame and [lost_digits(v) for v in frame["patient"]]
    for i, (given, label) in enumerate(zip(raw, frame["label"], strict=True)):
        if chosen is not None and not chosen[i]:
            continue
        where = f"{name}, row {i + 1}"
        wanted = (
            splits is None or "split" not in known or (known["split"][i] or "").casefold() in ("", *asked)
        )
        if given is None:
            if wanted:
                bad.append((where, "the path is empty"))
            continue
        path = locate(given, base)
        empty = [
            key for key in ("patient", "study", "part", "split") if key in known and known[key][i] is None
        ]
        number = classes.code(label)
        reason = None
        if sheet.inside and not _within(path, str(base)):
            reason = f"lies outside the root {base} ({where})"
        elif empty:
            reason = f"{' and '.join(empty)} empty ({where})"
        elif number is None:
            reason = _no_label(label, seen_labels, where)
        elif "patient" in known and names_nobody(known["patient"][i]):
            reason = f"patient {known['patient'][i]!r} names no person, and may be several ({where})"
        elif cut and cut[i]:
            reason = (
                f"patient {frame['patient'].iloc[i]!r} has lost digits in a spreadsheet, so people may become "
                f"one: export the column as text ({where})"
            )
        elif path in seen:
            reason = f"stands in rows {seen[path]} and {i + 1} of {name}"
        elif wanted and not os.path.isfile(path):
            reason = f"there is no such file ({where}{_hint(given)})"
        if reason is None and number is not None:
            seen[path] = i + 1
            places.append(i)
            rows.append(
                (
                    path,
                    known["part"][i] or "" if "part" in known else UNKNOWN_PART,
                    known["patient"][i] or "" if "patient" in known else given,
                    known["study"][i] if "study" in known else None,
                    number,
                    known["split"][i] or "" if "split" in known else "train",
                )
            )
        elif reason is not None and wanted:
            bad.append((path, reason))
    if "patient" not in known and (rows or bad):
        number_of = len(rows) + len(bad)
        warn_unknown(number_of, number_of, name, "add a column 'patient'")
    return rows, places, bad


def locate(given: str, base: Path) -> str:
    """Find the file that a cell names: with Windows' separators too, and without a spreadsheet's apostrophe."""
    path = os.path.normpath(os.path.join(base, given))
    if os.path.isfile(path):
        return path
    others = [given.replace("\\", "/")] if "\\" in given else []
    others += [given[1:]] if given[:1] == "'" and neutralize(given[1:]) == given else []
    for other in others:
        found = os.path.normpath(os.path.join(base, other))
        if os.path.isfile(found):
            return found
    return path


def _hint(given: str) -> str:
    """Say what a path that is not there may be."""
    if re.match(r"[A-Za-z]:[\\/]", given) and os.name != "nt":
        return "; a path of Windows: make it relative to the table, or give root="
    if given.startswith(("http://", "https://", "file:")):
        return "; an address: download the file"
    return ""


def _no_label(label: object, seen: Mapping[str, str], where: str) -> str:
    if missing(label):
        return f"label {label!r} is neither a class nor a word for one: it is empty ({where})"
    return (
        f"label {label!r} is neither 0/1 nor a word for it; say which values mean abnormal "
        f"with positive=..., of {listed(seen.values())} ({where})"
    )


def _none(value: object) -> bool:
    """Return whether an identifier is Python's None, written as text."""
    return isinstance(value, str) and value.strip() == "None"


def _within(path: str, base: str) -> bool:
    try:
        return os.path.commonpath((path, base)) == base
    except ValueError:  # another drive of Windows
        return False
