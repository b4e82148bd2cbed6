"""The columns of a table of cases: what may be kept, what may be asked for, and how it comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

REQUIRED = ("path", "part", "patient", "study", "label")
#: Columns of a search's result that are not the table's.
RESULT = ("query", "rank", "distance", "case", "views")
_WORDS = {"str": "text", "bool": "True or False", "int64": "whole numbers", "float64": "numbers"}
_TEXT = "str" if pd.__version__ >= "3" else object


def checked(table: pd.DataFrame) -> tuple[dict[str, str], list[list[Any]]]:
    """Give each column's kind, and its values as the database takes them, None where one is missing.

    Raises
    ------
    ValueError
        Where a column is missing, stands twice, has a name or holds values that the index cannot keep.
    """
    if missing := [name for name in REQUIRED if name not in table]:
        raise ValueError(f"table lacks the column {missing[0]!r}; it needs {', '.join(REQUIRED)}.")
    columns: dict[str, str] = {}
    values: list[list[Any]] = []
    for place, name in enumerate(table.columns):
        column = table.iloc[:, place]
        if not isinstance(name, str) or name in RESULT or name.startswith("case_"):
            raise ValueError(f"table has a column {name!r}, a name that the index uses itself; rename it.")
        if name.lower() in map(str.lower, columns):
            raise ValueError(f"table has the column {name!r} twice (A and a are one here); leave one out.")
        kind = {"b": "bool", "i": "int64", "u": "int64", "f": "float64"}.get(column.dtype.kind, "str")
        empty = column.isna().to_numpy()
        if name in REQUIRED and empty.any():
            raise ValueError(
                f"column {name!r} of table has a missing value in row {empty.argmax()}; fill it."
            )
        listed = [None if none else value for none, value in zip(empty, column.tolist(), strict=True)]
        for value in listed:
            if value is not None and not (
                isinstance(value, str) and _is_unicode(value) if kind == "str" else True
            ):
                raise ValueError(
                    f"column {name!r} of table holds {value!r}, no (Unicode) text; convert or rename it."
                )
            if kind == "int64" and value is not None and value >= 2**63:
                raise ValueError(
                    f"column {name!r} of table holds {value}, more than int64 can; make it text."
                )
        if (name in REQUIRED[:-1] and kind != "str") or (name == "label" and kind == "float64"):
            kinds = "whole numbers, text or truth values are" if name == "label" else "text is"
            raise ValueError(f"column {name!r} of table is {column.dtype}; {kinds} needed.")
        columns[name] = kind
        values.append(listed)
    return columns, values


def _is_unicode(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def value_of(value: Any, kind: str, name: str) -> Any:
    """Give one value as a column's kind, or refuse it: "1" is no number, and 1 is no truth value."""
    truth = isinstance(value, bool | np.bool_)
    if (kind == "str" and isinstance(value, str)) or (kind == "bool" and truth):
        return value if kind == "str" else bool(value)
    if kind == "float64" and isinstance(value, Real) and not truth and value == value:
        return float(value)
    if kind == "int64" and isinstance(value, Integral) and not truth and abs(int(value)) < 2**63:
        return int(value)
    raise ValueError(f"{name}={value!r} does not fit the column; give {_WORDS[kind]}, as in the table.")


def key_of(columns: Mapping[str, str], name: str) -> str:
    """Give the key under which a column stands in the table of cases."""
    if name not in columns:
        raise ValueError(
            f"column {name!r} is not in the index; it holds {', '.join(columns) or 'no case yet'}."
        )
    return f"c{list(columns).index(name)}"


def conditions(table: sa.Table, columns: Mapping[str, str], where: Mapping[str, Any] | None) -> list[Any]:
    """SQL for ``where``: a value, some of them (list, set, array), a range of numbers (tuple), or None (missing)."""
    found: list[Any] = []
    for name, wanted in (where or {}).items():
        column, kind = table.c[key_of(columns, name)], columns[name]
        if wanted is None:
            found.append(column.is_(None))
        elif isinstance(wanted, tuple) and kind in ("int64", "float64"):
            if len(wanted) != 2:
                raise ValueError(
                    f"{name}={wanted!r}: a tuple is a range (least, most), with None for no bound."
                )
            least, most = (None if end is None else value_of(end, "float64", name) for end in wanted)
            found.append(column.is_not(None))
            found += [] if least is None else [column >= least]
            found += [] if most is None else [column <= most]
        elif isinstance(wanted, list | tuple | set | frozenset | range | np.ndarray | pd.Series | pd.Index):
            listed = [value_of(value, kind, name) for value in wanted]
            if len(listed) > 30_000:
                raise ValueError(
                    f"{name} asks for {len(listed)} values; at most 30,000 can be asked for at once."
                )
            found.append(column.in_(listed))
        else:
            found.append(column == value_of(wanted, kind, name))
    return found


def frame(rows: Sequence[Sequence[Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Rows of the database as a table of these columns."""
    made: dict[str, Any] = {}
    for place, (name, kind) in enumerate(
        (columns or dict.fromkeys(REQUIRED[:-1], "str") | {"label": "int64"}).items()
    ):
        values = [row[place] for row in rows]
        if kind in ("int64", "bool") and None in values:
            kind = {"int64": "Int64", "bool": "boolean"}[kind]
        made[name] = pd.Series(values, dtype=_TEXT if kind == "str" else kind)
    return pd.DataFrame(made)
