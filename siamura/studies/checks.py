"""The table of checked rows, what only the whole of it shows (contradictions, leaks), and how problems are worded."""

from __future__ import annotations

import logging
import re
import sys
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from siamura._files import printable

from .labels import DEFAULT
from .names import listed

log = logging.getLogger(__name__)

COLUMNS: Final = ("path", "part", "patient", "study", "label", "split")
"""The columns of a table, in order."""

STUDY: Final = ("part", "patient", "study")
"""The three columns that name a study together."""

LEAK: Final = (
    "a split by image would then put views of one person on both sides, and the score would measure "
    "recognising that person instead of the abnormality"
)

Row = tuple[str, str, str, str | None, int, str]
"""A row of a table: path, part, patient, study (None: one of its own), label, split."""

_HELD_OUT: Final = {"train": 0, "valid": 2, "test": 3}


def make_table(
    rows: list[Row],
    bad: list[tuple[str, str]],
    left_out: Mapping[str, int],
    name: str,
    on_error: str,
    *,
    classes: Sequence[str] = DEFAULT,
    extra: pd.DataFrame | None = None,
    by_view: bool = False,
) -> pd.DataFrame:
    """Build the table from its rows; check what only the whole shows; raise or keep the problems.

    Parameters
    ----------
    rows : list of Row
        A study of None is numbered within its (part, patient): every such view is a study of its own.
    bad : list of (path, reason)
        What is wrong already.
    left_out : mapping
        Counts of ``hidden`` and ``other`` files.
    name : str
        What was read, for messages.
    on_error : {"raise", "report"}
    classes : sequence of str
        Names of the labels.
    extra : DataFrame, optional
        Further columns, one row a row.
    by_view : bool
        Whether the views of one study may have different labels.
    """
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    if extra is not None:
        table = pd.concat([table, extra.reset_index(drop=True)], axis=1)
    untold = [not _is_text(path, patient, study or "") for path, _, patient, study, _, _ in rows]
    if any(untold):
        bad = bad + [
            (str(rows[i][0]), "its name holds bytes that are no UTF-8 text: rename the file")
            for i in np.flatnonzero(untold)
        ]
        table = table[~np.array(untold)].reset_index(drop=True)
    unnamed = table["study"].isna()
    if unnamed.any():
        number = table[unnamed].groupby(["part", "patient"]).cumcount() + 1
        table.loc[unnamed, "study"] = "study" + number.astype(str)
    table = table.astype({**{c: "str" for c in COLUMNS if c != "label"}, "label": "int64"})
    if len(table):
        table, more = contradictions(table, classes, by_view)
        bad = bad + more
    if bad and on_error == "raise":
        raise ValueError(join_problems(bad, name))
    if bad:
        log.warning(
            "%s: left out %d rows or files; siamura.studies.problems(table) lists them", name, len(bad)
        )
    table.attrs["problems"] = tuple(bad)
    table.attrs["skipped"] = dict(left_out)
    table.attrs["classes"] = tuple(classes)
    return table


def contradictions(
    table: pd.DataFrame, classes: Sequence[str] = DEFAULT, by_view: bool = False
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Leave out studies with several labels, and a patient's rows in all splits but the most held out one.

    The most held out is test, then valid, then a split of another name, then train; of two other names the
    smaller one stays whole.
    """
    bad: list[tuple[str, str]] = []
    labels = table.groupby(list(STUDY), sort=False)["label"].transform("nunique")
    mixed = (labels > 1).to_numpy()
    if mixed.any() and by_view:
        studies = table[mixed].groupby(list(STUDY)).ngroups
        log.warning(
            "%d studies (%d views) have views of different labels: each view keeps its own",
            studies,
            mixed.sum(),
        )
    elif mixed.any():
        for key, rows in table[mixed].groupby(list(STUDY), sort=False):
            found = sorted(set(rows["label"]))
            words = " and ".join(
                map(str, found) if tuple(classes) == DEFAULT else (classes[i] for i in found)
            )
            bad.append(
                (str(rows["path"].iloc[0]), f"study {'/'.join(map(str, key))} has views with label {words}")
            )
        table = table[~mixed].reset_index(drop=True)
    if table["split"].nunique() > 1:
        size = Counter(table["split"])
        rank = {s: (_HELD_OUT.get(s, 1), -n, s) for s, n in size.items()}
        splits = table.groupby("patient", sort=False)["split"].transform("nunique")
        both = (splits > 1).to_numpy()
        if both.any():
            drop = np.zeros(len(table), dtype=bool)
            for patient, rows in table[both].groupby("patient", sort=False):
                names = list(dict.fromkeys(rows["split"]))
                kept = max(names, key=rank.__getitem__)
                out = rows.index[(rows["split"] != kept).to_numpy()]
                drop[out] = True
                given = " and ".join(n for n in names if n != kept)
                bad.append(
                    (
                        str(rows["path"].iloc[0]),
                        f"patient {patient} is in {' and '.join(names)}: a leak; {_are(len(out))} of {given} "
                        "can be left out, so that the held-out side stays whole",
                    )
                )
            table = table[~drop].reset_index(drop=True)
    return table, bad


def doubtful_patients(table: pd.DataFrame, name: str, remedy: str) -> None:
    """Warn where what was taken for a patient looks like none: most views, or both labels of many.

    Parameters
    ----------
    table : DataFrame
    name : str
        What was read.
    remedy : str
        What to do, for the message.
    """
    views = table["patient"].value_counts()
    labels = table.groupby("patient")["label"].nunique()
    said = []
    if len(table) > 3 and 2 * int(views.iloc[0]) > len(table):
        said.append(f"{str(views.index[0])!r} has {views.iloc[0]} of the {len(table)} views")
    several = labels.index[(labels > 1).to_numpy()]
    if len(several):
        are = "has views" if len(several) == 1 else "each have views"
        said.append(f"{listed((repr(str(p)) for p in several), 5)} {are} of several classes")
    if said:
        warnings.warn(
            f"What was taken for patients in {name} may be none: {'; '.join(said)}. {remedy}",
            UserWarning,
            stacklevel=callers_level(),
        )


def callers_level() -> int:
    """Count the frames from the one that asks to the first outside siamura, for a warning to point to."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("siamura."):
        frame, level = frame.f_back, level + 1
    return level


def problems(table: pd.DataFrame) -> pd.DataFrame:
    """List what a reader left out with ``on_error="report"``: one row a problem, columns path and reason.

    Examples
    --------
    >>> import pandas as pd
    >>> problems(pd.DataFrame()).columns.tolist()
    ['path', 'reason']
    """
    found = [
        tuple(part if _is_text(part) else printable(part) for part in row)
        for row in table.attrs.get("problems", ())
    ]
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


def check_table(table: pd.DataFrame, needed: Iterable[str] = COLUMNS) -> None:
    """Refuse what is no table."""
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"table is a {type(table).__name__}; give the DataFrame that read_studies returns.")
    absent = [c for c in needed if c not in table]
    if absent:
        raise ValueError(
            f"table has no column {absent[0]!r} (its columns: {listed(table.columns)}); make it with read_studies."
        )


def join_problems(bad: list[tuple[str, str]], name: str, most: int = 5) -> str:
    """Join problems into one message: how many, the first few, and the remedy."""
    shown = "\n".join(f"  {printable(path)}: {printable(reason)}" for path, reason in bad[:most])
    rest = f"\n  ... and {len(bad) - most} more" if len(bad) > most else ""
    number = "1 problem" if len(bad) == 1 else f"{len(bad)} problems"
    return (
        f"{number} in {printable(name)}:\n{shown}{rest}\n"
        'Mend them, or pass on_error="report" to go on without these rows; siamura.studies.problems(table) '
        "lists them all."
    )


def warn_unknown(unknown: int, total: int, name: str, remedy: str) -> None:
    """Say what it means that patients are unknown."""
    whose = "all" if unknown == total else f"{unknown} of the"
    warnings.warn(
        f"The patients of {whose} {total} images in {printable(name)} are unknown, so each counts as a person of "
        f"its own; {LEAK}. To prevent it, {remedy}.",
        UserWarning,
        stacklevel=callers_level(),
    )


def identifier(value: object) -> str:
    """Write an identifier as text: 7, 7.0 and "7.0" are "7", as pandas makes floats of numbers beside a gap.

    Leading zeros stay, so "007" and "7" are two people.

    Examples
    --------
    >>> [identifier(value) for value in (7, 7.0, "7.0", " 007", "p 1")]
    ['7', '7', '7', '007', 'p 1']
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    word = unicodedata.normalize("NFC", str(value)).strip()
    return re.sub(r"^(-?\d+)\.0+$", r"\1", word)


_NOBODY: Final = frozenset(
    {
        "anon",
        "anonymous",
        "anonymised",
        "anonymized",
        "missing",
        "none",
        "not available",
        "unknown",
        "unbekannt",
    }
)


def lost_digits(value: object) -> bool:
    """Return whether a spreadsheet or a float has cut an identifier's digits, as in 1.23457E+11."""
    if isinstance(value, float | np.floating):
        return abs(float(value)) >= 2.0**53
    return isinstance(value, str) and bool(re.fullmatch(r"\d(?:[.,]\d+)?[eE]\+\d{2,}", value.strip()))


def names_nobody(patient: object) -> bool:
    """Return whether an identifier stands for an unknown one, so that its rows are of many people.

    Examples
    --------
    >>> [names_nobody(word) for word in ("Unknown", "?", "-", "P1", None)]
    [True, True, True, False, False]
    """
    if not isinstance(patient, str):
        return False
    word = " ".join(patient.split()).casefold().strip("<>()[]")
    return word in _NOBODY or bool(re.fullmatch(r"[-?.*_/]+", word))


def _is_text(*words: Any) -> bool:
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        return False
    return True


def _are(number: int) -> str:
    return "its 1 view" if number == 1 else f"its {number} views"
