"""What a table holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from siamura._validation import check_columns, check_filled
from siamura.studies import classes_of

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STUDY = ["part", "patient", "study"]


@style.styled
def class_counts(table: pd.DataFrame, *, note: str = "") -> Figure:
    """Draw how many views and studies of each class each part and split holds.

    Parameters
    ----------
    table : DataFrame
        A study table: ``part, patient, study, label, split``. Classes are named as `siamura.studies.classes_of`
        names them. A study of two classes or of grades has the highest label of its views; of other classes it
        is counted once in each class that its views have. Label -1 is drawn as "unknown".
    note : str
        Which data. The number of patients is added.

    Returns
    -------
    matplotlib.figure.Figure
        One column a split, views above studies; every bar carries its count.

    Raises
    ------
    ValueError
        If the table is empty, lacks a column or a value of it, or its labels are no codes of
        classes.

    Examples
    --------
    >>> table = pd.DataFrame({"part": "XR_HAND", "patient": ["p1", "p1", "p2"], "study": "study1",
    ...                       "label": [1, 1, 0], "split": "train"})
    >>> [text.get_text() for text in class_counts(table).axes[0].texts]
    ['1', '2']
    """
    check_columns(table, (*_STUDY, "label", "split"))
    if not len(table):
        raise ValueError("table has no row; there is nothing to count")
    check_filled(table, (*_STUDY, "label", "split"))
    names = dict(enumerate(classes_of(table)))
    if (table["label"] == -1).any():
        names[-1] = "unknown"
    splits = [s for s in ("train", "valid") if (table["split"] == s).any()]
    splits += sorted(set(table["split"]) - set(splits))
    parts = sorted(set(table["part"]))
    keys = [*_STUDY, "split"]
    if len(names) - (-1 in names) == 2 or table.attrs.get("ordered", False):
        studies = table.groupby(keys, sort=False)["label"].max().reset_index()
    else:
        studies = table[[*keys, "label"]].drop_duplicates()

    width = style.PAGE if len(splits) > 1 else style.COLUMN
    each = max(0.3, 0.13 * len(names))
    columns = 4 if len(splits) > 1 else 2
    legend_rows = -(-len(names) // columns)
    figure = style.new_figure(width, 2 * (0.55 + each * len(parts)) + 0.15 + 0.15 * legend_rows)
    grid = figure.subplots(2, len(splits), squeeze=False, sharey=True)
    for row, (noun, rows) in enumerate((("view", table), ("study", studies))):
        for column, split in enumerate(splits):
            own = rows[rows["split"] == split]
            axes = grid[row, column]
            _bars(axes, own, parts, names)
            axes.set_xlabel("views" if noun == "view" else "studies")
            patients = int(own["patient"].nunique())
            number = len(own) if noun == "view" else len(own[_STUDY].drop_duplicates())
            axes.set_title(
                f"{'validation' if split == 'valid' else split}: {style.count(number, noun)} of "
                f"{style.count(patients, 'patient')}",
                loc="left",
            )
    handles, texts = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper left", ncols=columns)
    style.footer(figure, note, "Each panel has a scale of its own." if len(splits) > 1 else "")
    return figure


def _bars(axes: Axes, rows: pd.DataFrame, parts: list[str], names: dict[int, str]) -> None:
    where = np.arange(len(parts))
    step = 0.8 / len(names)
    for row, (label, name) in enumerate(names.items()):
        color, _, hatch = style.class_look(label)
        size = rows[rows["label"] == label].groupby("part").size().reindex(parts, fill_value=0).to_numpy()
        place = where + (row - (len(names) - 1) / 2) * step
        axes.barh(
            place,
            size,
            height=0.9 * step,
            color=color if label >= 0 else style.PALE,
            alpha=0.8,
            hatch=hatch if label >= 0 else "",
            edgecolor="white",
            linewidth=0,
            label=name,
        )
        for at, number in zip(place, size, strict=True):
            axes.annotate(
                f"{number:,}",
                (number, at),
                xytext=(2, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
            )
    axes.set_yticks(where, [style.part_name(part) for part in parts])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.margins(x=0.14)
    style.grid(axes, "x")
