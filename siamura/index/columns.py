"""The columns of a table of cases: what may be kept, and what may be asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from siamura._validation import check_columns, check_filled

REQUIRED = ("path", "part", "patient", "study", "label")
#: Columns of a search's result that are not the table's.
RESULT = ("query", "rank", "distance", "case", "views")
_WORDS = {
    "str": "text (Unicode)",
    "bool": "True or False",
    "int64": "whole numbers (int64)",
    "float64": "numbers",
}


def checked(table: pd.DataFrame) -> tuple[dict[str, str], dict[str, list[Any]]]:
    """Give each column's kind, and its values as the database takes them, None where one is missing."""
    check_columns(table, REQUIRED)
    for i, name in enumerate(table.columns):
        if not isinstance(name, str) or name in RESULT or name.startswith("case_"):
            raise ValueError(f"table has a column {name!r}, a name that the index uses itself; rename it.")
        if name.lower() in map(str.lower, table.columns[:i]):
            raise ValueError(f"table has the column {name!r} twice (A and a are one here); leave one out.")
    check_filled(table, REQUIRED)
    kinds, values = {}, {}
    for name in table.columns:
        column = table[name]
        kind = {"b": "bool", "i": "int64", "u": "int64", "f": "float64"}.get(column.dtype.kind, "str")
        if (name in REQUIRED[:-1] and kind != "str") or (name == "label" and kind == "float64"):
            wanted = "whole numbers, text or truth values" if name == "label" else "text"
            raise ValueError(f"table[{name!r}] is {column.dtype}; give {wanted}.")
        listed = [None if none else v for none, v in zip(column.isna(), column.tolist(), strict=True)]
        for value in listed if kind in ("str", "int64") else ():
            if value is not None:
                value_of(value, kind, f"table[{name!r}]")
        kinds[name], values[name] = kind, listed
    return kinds, values


def value_of(value: Any, kind: str, name: str) -> Any:
    """Give one value as a column's kind, or refuse it: "1" is no number, and 1 is no truth value."""
    if kind == "str" and isinstance(value, str):
        if value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value):
            return value
    elif isinstance(value, bool | np.bool_):
        if kind == "bool":
            return bool(value)
    elif kind == "float64" and isinstance(value, Real) and value == value:
        return float(value)
    elif kind == "int64" and isinstance(value, Integral) and abs(int(value)) < 2**63:
        return int(value)
    raise ValueError(f"{name}={value!r} does not fit the column; give {_WORDS[kind]}.")


def conditions(
    column_of: Callable[[str], Any], kinds: Mapping[str, str], where: Iterable[tuple[str, Any]]
) -> list[Any]:
    """Conditions on columns of SQL or of pandas, which are compared alike.

    A value, some of them (list, set, array), a range of numbers (tuple), or None (missing).
    """
    found: list[Any] = []
    for name, wanted in where:
        if name not in kinds:
            raise ValueError(
                f"column {name!r} is not in the index; it holds {', '.join(kinds) or 'no case yet'}."
            )
        column, kind = column_of(name), kinds[name]
        sql = isinstance(column, sa.ColumnElement)
        if wanted is None:
            found.append(column.is_(None) if sql else column.isna())
        elif isinstance(wanted, tuple) and kind in ("int64", "float64"):
            if len(wanted) != 2:
                raise ValueError(
                    f"{name}={wanted!r}: a tuple is a range (least, most), with None for no bound."
                )
            least, most = (None if end is None else value_of(end, "float64", name) for end in wanted)
            found.append(column.is_not(None) if sql else column.notna())
            found += [] if least is None else [column >= least]
            found += [] if most is None else [column <= most]
        elif isinstance(wanted, list | tuple | set | frozenset | range | np.ndarray | pd.Series | pd.Index):
            listed = [value_of(value, kind, name) for value in wanted]
            if len(listed) > 30_000:
                raise ValueError(f"{name} asks for {len(listed)} values; ask for at most 30,000 at once.")
            found.append(column.in_(listed) if sql else column.isin(listed))
        else:
            found.append(column == value_of(wanted, kind, name))
    return found
