"""How good the answers are: confusion, and a score per part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_columns, check_number
from siamura.evaluation._checks import as_codes, as_shares

from . import style
from .checks import as_answers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@style.styled
def confusion(
    data: Any,
    probability: ArrayLike | None = None,
    *,
    threshold: float = 0.5,
    names: Sequence[str] = style.LABELS,
    note: str = "",
) -> Figure:
    r"""Draw confusion matrices side by side: counts, and percent of each row.

    Parameters
    ----------
    data : array, or mapping of title to panel
        Labels, shape (N,), if `probability` is given; else counts, shape (K, K), rows the truth. In a mapping
        (``{"train, views": ..., "validation, views": ...}``) each panel is such a matrix, or a tuple
        (label, probability).
    probability : array of shape (N,) or (N, K), optional
        Of the abnormal class; or of every class, whose largest is then the answer.
    threshold : float
        Above it the answer is "abnormal", of two classes.
    names : sequence of str
        Of the K classes.
    note : str
        Data, patients, level.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If a matrix is not square, not of counts or empty, `names` does not fit it, or `threshold` is not finite.

    Examples
    --------
    >>> figure = confusion([0, 0, 1, 1, 1], [0.1, 0.7, 0.8, 0.9, 0.2])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1\n50 %', '1\n50 %', '1\n33 %', '2\n67 %']
    """
    if isinstance(data, Mapping):
        if probability is not None:
            raise ValueError("with a mapping, give the probability inside it: title: (label, probability)")
        panels = {str(title): _matrix(panel, None, threshold, str(title)) for title, panel in data.items()}
    else:
        panels = {"": _matrix(data, probability, threshold, "")}
    if not panels:
        raise ValueError("data is an empty mapping; give at least one panel")
    for title, matrix in panels.items():
        if len(matrix) != len(names):
            raise ValueError(f"names holds {len(names)} classes but the matrix {title!r} has {len(matrix)}")

    columns = len(panels) if len(panels) < 4 else 2
    rows = -(-len(panels) // columns)
    side = 1.6 if columns == 1 else 1.0  # of a matrix, in inches
    figure = style.new_figure(columns * (side + 0.66) + 0.15, rows * (side + 0.55) + 0.2)
    grid = figure.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_visible(False)
            continue
        title, matrix = list(panels.items())[place]
        _confusion_panel(axes, matrix, names)
        axes.set_title(title, fontsize=7 if columns > 1 else 8)
        if place % columns == 0:
            axes.set_ylabel("truth")
        if place // columns == rows - 1 or place + columns >= len(panels):
            axes.set_xlabel("answer")
    style.footer(figure, note, "Percent of the row.")
    return figure


def _matrix(panel: Any, probability: ArrayLike | None, threshold: float, title: str) -> NDArray[np.int64]:
    if isinstance(panel, tuple) and len(panel) == 2 and probability is None:
        panel, probability = panel
    if probability is not None and np.ndim(probability) == 2 and np.shape(probability)[1] > 2:
        share = as_shares(probability, len(panel), f"probability of {title!r}" if title else "probability")
        code = as_codes(panel, share.shape[1], f"label of {title!r}" if title else "label")
        number = share.shape[1]
        return np.bincount(code * number + share.argmax(axis=1), minlength=number**2).reshape(number, number)
    if probability is not None:
        frame = as_answers(panel, probability, both=False, name=title)
        said = frame["probability"].to_numpy() > check_number("threshold", threshold)
        return np.bincount(2 * frame["label"] + said, minlength=4).reshape(2, 2)
    matrix = np.asarray(panel)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ValueError(
            f"the matrix {title!r} has shape {matrix.shape}; it must be square, or give (label, probability)"
        )
    whole = matrix.astype(np.float64)
    if not np.isfinite(whole).all() or (whole < 0).any() or (whole != np.round(whole)).any():
        raise ValueError(f"the matrix {title!r} must hold counts: whole numbers, 0 or more")
    if not whole.sum():
        raise ValueError(f"the matrix {title!r} holds no case at all; give at least one")
    return whole.astype(np.int64)


def _confusion_panel(axes: Axes, matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    total = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1.25, aspect="equal")
    for row in range(len(matrix)):
        for column in range(len(matrix)):
            percent = f"\n{100 * share[row, column]:.0f} %" if total[row, 0] else ""
            axes.text(
                column,
                row,
                f"{matrix[row, column]:,}{percent}",
                ha="center",
                va="center",
                linespacing=1.4,
                fontsize=8,
                color="white" if share[row, column] > 0.85 else "black",
            )
    ticks = range(len(names))
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, [f"{name}\nn = {n:,}" for name, n in zip(names, total[:, 0], strict=True)])
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)


@style.styled
def part_bars(
    scores: pd.DataFrame | Mapping[str, pd.DataFrame],
    metric: str = "kappa",
    *,
    published: Mapping[str, float] | None = None,
    note: str = "",
) -> Figure:
    """Draw a score of every body part, with its interval.

    Parameters
    ----------
    scores : DataFrame, or mapping of name to DataFrame
        Of ``siamura.evaluate(..., by="part")``: index (part, metric), columns ``value, low, high``. A mapping
        sets several models side by side.
    metric : str
        A row of them: "kappa", "accuracy", "f1_macro", "auroc", ...
    published : mapping of part to value, optional
        Published figures, drawn as diamonds and called published.
    note : str
        Data and level; patients and interval are added where the scores hold them.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the frames are not per part, lack the metric or differ in their parts.

    Examples
    --------
    >>> index = pd.MultiIndex.from_product([["XR_HAND", "XR_WRIST"], ["kappa"]], names=["part", "metric"])
    >>> frame = pd.DataFrame({"value": [0.5, 0.6], "low": [0.4, 0.5], "high": [0.6, 0.7]}, index=index)
    >>> [text.get_text() for text in part_bars(frame).axes[0].get_yticklabels()]
    ['Hand', 'Wrist']
    """
    models = dict(scores) if isinstance(scores, Mapping) else {"": scores}
    rows = {name: _of_metric(frame, metric, name) for name, frame in models.items()}
    if not rows:
        raise ValueError("scores is an empty mapping; give at least one frame")
    parts = list(next(iter(rows.values())).index)
    for name, frame in rows.items():
        if list(frame.index) != parts:
            raise ValueError(
                f"the parts of {name!r} are {list(frame.index)}, the first model's {parts}; they must agree"
            )
    if len(rows) > len(style.PALETTE):
        raise ValueError(
            f"{len(rows)} models cannot be told apart; draw at most {len(style.PALETTE)} in one figure"
        )

    thick = 0.8 / len(rows)
    figure = style.new_figure(style.COLUMN, 0.75 + len(parts) * max(0.3, 0.14 * len(rows)))
    axes = figure.add_subplot()
    for number, (name, frame) in enumerate(rows.items()):
        where = np.arange(len(parts)) - 0.4 + thick * (number + 0.5)
        value = frame["value"].to_numpy(np.float64)
        spread = np.abs(frame[["low", "high"]].to_numpy(np.float64).T - value)
        axes.barh(
            where,
            value,
            height=thick * 0.9,
            color=style.PALETTE[number],
            alpha=0.75,
            hatch=style.HATCHES[number],
            edgecolor="white",
            linewidth=0,
            label=name or None,
        )
        axes.errorbar(value, where, xerr=spread, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.8)
    if published:
        shown = [(i, published[part]) for i, part in enumerate(parts) if part in published]
        if not shown:
            raise ValueError(f"published has {list(published)}, none of which is among the parts {parts}")
        axes.plot(
            [value for _, value in shown],
            [i for i, _ in shown],
            linestyle="",
            marker="D",
            markersize=4.5,
            markerfacecolor="white",
            markeredgecolor="black",
            label="published",
            zorder=4,
        )
    axes.set_yticks(range(len(parts)), _part_labels(parts, next(iter(models.values()))))
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlabel(style.metric_name(metric))
    axes.axvline(0, color="#333333", linewidth=0.6)
    lows = np.concatenate([frame[["value", "low"]].to_numpy(np.float64).ravel() for frame in rows.values()])
    axes.set_xlim(min(0.0, float(np.nanmin(lows)) - 0.03), 1.0)
    style.grid(axes, "x")
    if len(rows) > 1 or published:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, borderaxespad=0.1, columnspacing=1.2)
    style.footer(figure, note, _interval_of(models.values()))
    return figure


def _of_metric(frame: pd.DataFrame, metric: str, name: str) -> pd.DataFrame:
    where = f" of {name!r}" if name else ""
    if frame.index.nlevels != 2:
        raise ValueError(
            f"the scores{where} are not per part; make them with siamura.evaluate(..., by='part')"
        )
    metrics = frame.index.get_level_values(1)
    if metric not in metrics:
        raise ValueError(
            f"the scores{where} hold no {metric!r}; they hold {', '.join(map(str, metrics.unique()))}"
        )
    check_columns(frame, ("value", "low", "high"), f"the frame of scores{where}")
    found = frame[metrics == metric].droplevel(1)
    missing = found.index[found["value"].isna()]
    if len(missing):
        raise ValueError(f"{metric} of {missing[0]}{where} is undefined (NaN); leave that part out")
    return found


def _part_labels(parts: list[Any], frame: pd.DataFrame) -> list[str]:
    """Names of the parts, each with its patients where the scores have it."""
    each = frame.attrs.get("each", {})
    names = ["all parts" if part == "all" else style.part_name(part) for part in parts]
    return [
        f"{name}\n{style.count(each[part]['patients'], 'patient')}" if part in each else name
        for part, name in zip(parts, names, strict=True)
    ]


def _interval_of(frames: Iterable[pd.DataFrame]) -> str:
    """Say what the intervals are, where the scores have it."""
    found = {
        (frame.attrs["level"], frame.attrs["patients"], frame.attrs["draws"])
        for frame in frames
        if {"level", "patients", "draws"} <= set(frame.attrs)
    }
    return " ".join(
        f"Per {level}, {style.count(patients, 'patient')}; "
        f"bars: 95 %, {draws:,} bootstrap draws over patients."
        for level, patients, draws in sorted(found)
    )
