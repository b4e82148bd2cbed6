"""What a table holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STUDY = ["part", "patient", "study"]


@style.styled
def class_counts(table: pd.DataFrame, *, note: str = "") -> Figure:
    """Draw how many normal and abnormal views and studies each part and split holds.

    Parameters
    ----------
    table : DataFrame
        A study table: ``part, patient, study, label, split``.
    note : str
        Which data. The number of patients is added.

    Returns
    -------
    matplotlib.figure.Figure
        One column a split, views above studies; every bar carries its count.

    Raises
    ------
    ValueError
        If the table is empty, lacks a column or a value of it, or holds a label that is neither 0 nor 1.

    Examples
    --------
    >>> table = pd.DataFrame({"part": "XR_HAND", "patient": ["p1", "p1", "p2"], "study": "study1",
    ...                       "label": [1, 1, 0], "split": "train"})
    >>> [text.get_text() for text in class_counts(table).axes[0].texts]
    ['1', '2']
    """
    missing = [name for name in (*_STUDY, "label", "split") if name not in table]
    if missing:
        raise ValueError(f"table lacks {', '.join(missing)}; read it with siamura.read_mura or read_table")
    if not len(table):
        raise ValueError("table has no row; there is nothing to count")
    blank = [name for name in (*_STUDY, "label", "split") if table[name].isna().any()]
    if blank:
        row = int(table[blank[0]].isna().argmax())
        raise ValueError(
            f"table[{blank[0]!r}] is missing in row {row}; what is missing would not be counted: fill it"
        )
    odd = [label for label in table["label"].unique().tolist() if label not in (0, 1)]
    if odd:
        raise ValueError(f"table['label'] holds {odd[0]!r}; labels must be 0 (normal) or 1 (abnormal)")
    splits = [s for s in ("train", "valid") if (table["split"] == s).any()]
    splits += sorted(set(table["split"]) - set(splits))
    parts = sorted(set(table["part"]))
    studies = table.groupby([*_STUDY, "split"], sort=False)["label"].max().reset_index()

    width = style.PAGE if len(splits) > 1 else style.COLUMN
    figure = style.new_figure(width, 2 * (0.55 + 0.3 * len(parts)) + 0.3)
    grid = figure.subplots(2, len(splits), squeeze=False, sharey=True)
    for row, (noun, rows) in enumerate((("view", table), ("study", studies))):
        for column, split in enumerate(splits):
            own = rows[rows["split"] == split]
            axes = grid[row, column]
            _bars(axes, own, parts)
            axes.set_xlabel("views" if noun == "view" else "studies")
            patients = int(own["patient"].nunique())
            axes.set_title(
                f"{'validation' if split == 'valid' else split}: {style.count(len(own), noun)} of "
                f"{style.count(patients, 'patient')}",
                loc="left",
            )
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=2)
    style.footer(figure, note, "Each panel has a scale of its own." if len(splits) > 1 else "")
    return figure


def _bars(axes: Axes, rows: pd.DataFrame, parts: list[str]) -> None:
    where = np.arange(len(parts))
    for label, name in enumerate(style.LABELS):
        size = rows[rows["label"] == label].groupby("part").size().reindex(parts, fill_value=0).to_numpy()
        place = where - 0.2 + 0.4 * label
        axes.barh(
            place,
            size,
            height=0.36,
            color=style.PALETTE[label],
            alpha=0.8,
            hatch=style.HATCHES[label],
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
