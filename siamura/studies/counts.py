"""How many patients, studies and views a table has."""

from __future__ import annotations

import pandas as pd

from siamura._validation import check_filled

from .checks import COLUMNS, STUDY, check_table


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
