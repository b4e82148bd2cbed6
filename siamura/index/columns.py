"""Which columns a table of cases may have."""

from __future__ import annotations

import numpy as np
import pandas as pd

REQUIRED = ("path", "part", "patient", "study", "label")
#: Columns of a search's result that are not the table's.
RESULT = ("query", "rank", "distance", "case")


def checked_columns(table: pd.DataFrame) -> dict[str, str]:
    """Give the columns and their kinds, checked: what is written must be read back as it was.

    Raises
    ------
    ValueError
        Where a column is missing, stands twice, has a name or holds values that the index cannot keep.
    """
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise ValueError(f"table lacks the column {missing[0]!r}; it needs {', '.join(REQUIRED)}.")
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise ValueError(f"table has the column {twice!r} twice; leave one out.")
    columns: dict[str, str] = {}
    for name in table.columns:
        if not isinstance(name, str) or name in RESULT:
            raise ValueError(f"table has a column {name!r}, a name that results use themselves; rename it.")
        kind = table[name].dtype.kind
        columns[name] = {"b": "bool", "i": "int64", "u": "int64", "f": "float64"}.get(kind, "str")
        if columns[name] in ("bool", "int64"):
            if table[name].isna().any():
                raise ValueError(
                    f"column {name!r} of table has a missing value in row {int(table[name].isna().argmax())}; fill "
                    "it, or make the column float64."
                )
            if kind == "u" and len(table) and table[name].max() > np.iinfo(np.int64).max:
                raise ValueError(
                    f"column {name!r} of table holds {table[name].max()}, more than int64 can; make it text."
                )
        if columns[name] == "str" and not table[name].map(lambda value: isinstance(value, str)).all():
            raise ValueError(f"column {name!r} of table holds something else than text; fill or convert it.")
    if columns["label"] != "int64":
        raise ValueError(f"column 'label' of table is {table['label'].dtype}; whole numbers are needed.")
    for name in REQUIRED[:-1]:
        if columns[name] != "str":
            raise ValueError(f"column {name!r} of table is {table[name].dtype}; text is needed.")
    return columns
