"""The table every reader returns, and what can be asked of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

COLUMNS: Final = ("path", "part", "patient", "study", "label", "split")
"""The columns of a table, in order."""

STUDY: Final = ("part", "patient", "study")
"""The three columns that name a study together."""

UNKNOWN_PART: Final = "XR_UNKNOWN"
ABNORMAL: Final = frozenset({"1", "1.0", "positive", "abnormal", "true", "yes"})
NORMAL: Final = frozenset({"0", "0.0", "negative", "normal", "false", "no"})

LEAK: Final = (
    "a split by image would then put views of one person on both sides, and the score would measure "
    "recognising that person instead of the abnormality"
)


def read_table(
    source: str | os.PathLike[str] | pd.DataFrame,
    root: str | os.PathLike[str] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    positive: object = None,
    on_error: str = "raise",
) -> pd.DataFrame:
    """Read a table of one's own: a CSV with a header, or a DataFrame.

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
    positive : object or list of objects, optional
        The values of ``label`` that mean abnormal; every other value means normal. Default: 1, positive,
        abnormal, true, yes against 0, negative, normal, false, no, and anything else is an error.
    on_error : {"raise", "report"}
        What to do about files that are missing, labels that contradict each other, and the like: raise one
        ValueError that lists them, or leave those rows out and keep them for :func:`problems`.

    Returns
    -------
    DataFrame
        One row a view, columns ``path, part, patient, study, label, split``.

    Raises
    ------
    FileNotFoundError
        No such CSV, or no such ``root``.
    ValueError
        A column is missing or there twice, `columns` names one that is not there, or a row is wrong and
        ``on_error="raise"``.

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
    if isinstance(source, pd.DataFrame):
        frame, name, base = source, "the DataFrame", Path.cwd()
    else:
        file = Path(source)
        if not file.is_file():
            raise FileNotFoundError(
                f"source={str(source)!r} is no file: give the path of a CSV with a header."
            )
        try:
            frame = pd.read_csv(file, dtype=str, encoding="utf-8-sig", keep_default_na=False, na_values=[""])
        except (ValueError, pd.errors.ParserError) as error:
            raise ValueError(f"{file} is no CSV with a header line and commas ({error}).") from error
        name, base = str(file), file.resolve().parent
    if root is not None:
        base = Path(os.path.abspath(Path(root).expanduser()))
        if not base.is_dir():
            raise FileNotFoundError(f"root={str(root)!r} is no folder.")
    absent = [given for given in columns or {} if given not in frame]
    if absent:
        raise ValueError(
            f"columns names {absent[0]!r}, which {name} does not have (its columns: "
            f"{', '.join(map(str, frame.columns))})."
        )
    frame = frame.rename(columns=dict(columns or {})).reset_index(drop=True)
    twice = [c for c in COLUMNS if (frame.columns == c).sum() > 1]
    if twice:
        raise ValueError(
            f"{name} has the column {twice[0]!r} twice, by its own names or by columns=; name one of them."
        )
    for needed in ("path", "label"):
        if needed not in frame:
            raise ValueError(
                f"{name} has no column {needed!r} (its columns: {', '.join(map(str, frame.columns))}); "
                f"rename it, or say which one it is with columns={{'its name': {needed!r}}}."
            )
    if not len(frame):
        raise ValueError(f"{name} has no rows: one row an image is wanted.")
    return _build(frame, name, base, root is not None, positive, on_error)


def _build(
    frame: pd.DataFrame, name: str, base: Path, inside: bool, positive: object, on_error: str
) -> pd.DataFrame:
    """Check the rows of a person's own table and put them into the common form."""
    bad: list[tuple[str, str]] = []
    count = len(frame)
    raw = [None if missing(v) else str(v) for v in frame["path"]]
    known = {
        key: [None if missing(v) else text(v) for v in frame[key]]
        for key in ("patient", "study", "part", "split")
        if key in frame
    }
    read = label_reader(positive)
    rows: list[tuple[str, str, str, str | None, int, str]] = []
    seen: dict[str, int] = {}
    for i, (given, label) in enumerate(zip(raw, frame["label"], strict=True)):
        where = f"{name}, row {i + 1}"
        if given is None:
            bad.append((where, "the path is empty"))
            continue
        path = os.path.normpath(os.path.join(base, given))
        empty = [key for key, values in known.items() if values[i] is None]
        number = None if missing(label) else read(label)
        if inside and os.path.commonpath((path, base)) != str(base):
            bad.append((path, f"lies outside the root {base} ({where})"))
        elif empty:
            bad.append((path, f"{' and '.join(empty)} empty ({where})"))
        elif number is None:
            bad.append(
                (
                    path,
                    f"label {label!r} is neither 0/1 nor a word for it; say which values mean abnormal "
                    f"with positive=... ({where})",
                )
            )
        elif path in seen:
            bad.append((path, f"stands in rows {seen[path]} and {i + 1} of {name}"))
        elif not os.path.isfile(path):
            bad.append((path, f"there is no such file ({where})"))
        else:
            seen[path] = i + 1
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
    if "patient" not in known and count:
        warn_unknown(count, count, name, "add a column 'patient'")
    return finish(rows, bad, {}, name, on_error)


def finish(
    rows: list[tuple[str, str, str, str | None, int, str]],
    bad: list[tuple[str, str]],
    left_out: Mapping[str, int],
    name: str,
    on_error: str,
) -> pd.DataFrame:
    """Build the table from its rows; check what only the whole shows; raise or keep the problems.

    A study of None is numbered within its (part, patient): every such view is a study of its own.
    """
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    unnamed = table["study"].isna()
    if unnamed.any():
        number = table[unnamed].groupby(["part", "patient"]).cumcount() + 1
        table.loc[unnamed, "study"] = "study" + number.astype(str)
    table = table.astype({**{c: "str" for c in COLUMNS if c != "label"}, "label": "int64"})
    if len(table):
        table, more = contradictions(table)
        bad = bad + more
    if bad and on_error == "raise":
        raise ValueError(listing(bad, name))
    table.attrs["problems"] = tuple(bad)
    table.attrs["skipped"] = dict(left_out)
    return table


def contradictions(table: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Leave out studies with two labels, and patients of the training side found in another split."""
    bad: list[tuple[str, str]] = []
    labels = table.groupby(list(STUDY), sort=False)["label"].transform("nunique")
    twice = (labels > 1).to_numpy()
    if twice.any():
        for key, rows in table[twice].groupby(list(STUDY), sort=False):
            bad.append(
                (str(rows["path"].iloc[0]), f"study {'/'.join(map(str, key))} has views with label 0 and 1")
            )
        table = table[~twice].reset_index(drop=True)
    if table["split"].nunique() > 1:
        splits = table.groupby("patient", sort=False)["split"].transform("nunique")
        both = (splits > 1).to_numpy()
        if both.any():
            for patient, rows in table[both].groupby("patient", sort=False):
                found = " and ".join(dict.fromkeys(rows["split"]))
                bad.append((str(rows["path"].iloc[0]), f"patient {patient} is in {found}: a leak"))
            # The held-out side stays whole, so that scores stay comparable.
            table = table[~(both & (table["split"] == "train").to_numpy())].reset_index(drop=True)
    return table, bad


def problems(table: pd.DataFrame) -> pd.DataFrame:
    """List what a reader left out with ``on_error="report"``: one row a problem, columns path and reason.

    Examples
    --------
    >>> import pandas as pd
    >>> problems(pd.DataFrame()).columns.tolist()
    ['path', 'reason']
    """
    found = list(table.attrs.get("problems", ()))
    return pd.DataFrame(found, columns=["path", "reason"]).astype({"path": "str", "reason": "str"})


def skipped(table: pd.DataFrame) -> dict[str, int]:
    """Count the files a reader passed over: hidden ones (``._image2.png``), and those that are no images.

    Examples
    --------
    >>> import pandas as pd
    >>> skipped(pd.DataFrame())
    {'hidden': 0, 'other': 0}
    """
    counts: Mapping[str, int] = table.attrs.get("skipped", {})
    return {"hidden": 0, "other": 0, **counts}


def describe(table: pd.DataFrame, totals: bool = False) -> pd.DataFrame:
    """Count patients, studies and views for each part, split and label.

    Parameters
    ----------
    table : DataFrame
        A table as the readers return it.
    totals : bool
        Add rows for both labels together and for all parts together, marked ``"All"`` (label -1 stands for
        both). A patient with a normal and an abnormal study counts once there.

    Returns
    -------
    DataFrame
        Columns ``part, split, label, patients, studies, views``.

    Raises
    ------
    ValueError
        A column is missing, or a value in one.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"path": ["a", "b", "c"], "part": "XR_HAND", "patient": ["p1", "p1", "p2"],
    ...                       "study": "study1", "label": [1, 1, 0], "split": "train"})
    >>> describe(table)
          part  split  label  patients  studies  views
    0  XR_HAND  train      0         1        1      1
    1  XR_HAND  train      1         1        1      2
    """
    check_table(table)
    check_filled(table, COLUMNS)
    work = table.loc[:, list(COLUMNS)].copy()
    work.attrs = {}
    work["key"] = work.groupby(list(STUDY)).ngroup()
    pieces = [work]
    if totals:
        whole = work.assign(part="All")
        pieces = [work, work.assign(label=-1), whole, whole.assign(label=-1)]
    counted = []
    for piece in pieces:
        groups = piece.groupby(["part", "split", "label"], sort=True)
        counted.append(
            groups.agg(
                patients=("patient", "nunique"), studies=("key", "nunique"), views=("path", "size")
            ).reset_index()
        )
    result = pd.concat(counted, ignore_index=True)
    if totals:
        result["_all"] = result["part"] == "All"
        result["_both"] = result["label"] == -1
        result = result.sort_values(["_all", "part", "split", "_both", "label"], ignore_index=True)
        result = result.drop(columns=["_all", "_both"])
    return result.astype({"patients": "int64", "studies": "int64", "views": "int64"})


def check_table(table: pd.DataFrame, needed: Iterable[str] = COLUMNS) -> None:
    """Refuse what is no table."""
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"table is a {type(table).__name__}; give the DataFrame that read_mura returns.")
    absent = [c for c in needed if c not in table]
    if absent:
        raise ValueError(
            f"table has no column {absent[0]!r} (its columns: {', '.join(map(str, table.columns))}); "
            "make it with read_mura, read_table or read_folders."
        )


def check_filled(table: pd.DataFrame, columns: Iterable[str]) -> None:
    """Refuse missing values: grouping would leave their rows out, or make one person of many."""
    for name in columns:
        empty = table[name].isna().to_numpy()
        if empty.any():
            raise ValueError(
                f"table[{name!r}] is missing in row {int(empty.argmax())}, one of {int(empty.sum())}; fill it, or "
                "leave those rows out."
            )


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose {' or '.join(map(repr, choices))}.")


def listing(bad: list[tuple[str, str]], name: str, most: int = 5) -> str:
    """Join problems into one message: how many, the first few, and the remedy."""
    shown = "\n".join(f"  {path}: {reason}" for path, reason in bad[:most])
    rest = f"\n  ... and {len(bad) - most} more" if len(bad) > most else ""
    number = "1 problem" if len(bad) == 1 else f"{len(bad)} problems"
    return (
        f"{number} in {name}:\n{shown}{rest}\n"
        'Mend them, or pass on_error="report" to go on without these rows; siamura.studies.problems(table) '
        "lists them all."
    )


def warn_unknown(unknown: int, total: int, name: str, remedy: str) -> None:
    """Say what it means that patients are unknown."""
    import warnings

    whose = "all" if unknown == total else f"{unknown} of the"
    warnings.warn(
        f"The patients of {whose} {total} images in {name} are unknown, so each counts as a person of its "
        f"own; {LEAK}. To prevent it, {remedy}.",
        UserWarning,
        stacklevel=4,
    )


def missing(value: object) -> bool:
    """Tell whether a cell is empty: None, NaN or blank."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    if isinstance(value, float):
        return value != value
    return isinstance(value, str) and not value.strip()


def text(value: object) -> str:
    """Write an identifier as text; 12.0, which pandas makes of 12 beside an empty cell, as "12"."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def label_reader(positive: object) -> Any:
    """Give the function that turns a label's value into 0 or 1, or None where it cannot."""
    if positive is None:

        def read(value: object) -> int | None:
            word = str(value).strip().lower()
            return 1 if word in ABNORMAL else 0 if word in NORMAL else None
    else:
        many = isinstance(positive, list | tuple | set | frozenset)
        words = {text(v).lower() for v in (positive if many else [positive])}  # type: ignore[attr-defined]

        def read(value: object) -> int | None:
            return int(text(value).lower() in words)

    return read
