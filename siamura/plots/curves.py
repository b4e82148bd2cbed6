"""How a training went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from siamura._validation import check_columns, check_whole

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DISTANCES = {
    "hardest_negative": ("hardest negative", style.PALETTE[1], "--"),
    "mean_distance": ("mean of all pairs", "#333333", ":"),
    "hardest_positive": ("hardest positive", style.PALETTE[0], "-"),
}


@style.styled
def loss_curves(
    history: pd.DataFrame, *, margin: float | None = None, smooth: int | None = None, note: str = ""
) -> Figure:
    """Draw the loss of every step and, where the history holds them, what shows whether it learns.

    Parameters
    ----------
    history : pandas.DataFrame
        Of `siamura.fit`: ``step`` and ``loss``; drawn where there: ``valid_loss``, ``active_fraction`` (share
        of anchors, or triplets, that still have a loss), ``mean_distance``, ``hardest_positive`` and
        ``hardest_negative`` (means over a batch's anchors).
    margin : float, optional
        The loss's margin. A loss that stays there while the distances go to 0 is a collapsed network.
    smooth : int, optional
        Steps of the moving average; a fortieth of all by default. 1 draws none.
    note : str
        What was trained on what.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the history has no row, no such column, or a loss that is not finite.

    Examples
    --------
    >>> history = pd.DataFrame({"step": range(1, 101), "loss": np.linspace(0.3, 0.1, 100)})
    >>> figure = loss_curves(history, margin=0.2)
    >>> [line.get_label() for line in figure.axes[0].get_lines()]
    ['each step', 'mean of 2 steps', 'margin 0.2']
    """
    step = _column(history, "step")
    loss = _column(history, "loss")
    if not np.isfinite(loss).all():
        raise ValueError(
            f"history['loss'] is not finite at step {step[~np.isfinite(loss)][0]:g}; the run diverged there"
        )
    window = max(1, len(loss) // 40) if smooth is None else smooth
    check_whole("smooth", window)
    distances = {name: look for name, look in _DISTANCES.items() if _measured(history, name)}
    panels = [
        "loss",
        *(["active"] if _measured(history, "active_fraction") else []),
        *(["distance"] if distances else []),
    ]

    figure = style.new_figure(style.COLUMN, 1.0 + 1.05 * len(panels))
    rows = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, height_ratios=[1.6] + [1.0] * (len(panels) - 1)
    )
    axes = dict(zip(panels, rows[:, 0], strict=True))

    upper = axes["loss"]
    colour = style.PALETTE[0]
    upper.plot(step, loss, color=colour, alpha=0.3 if window > 1 else 1, linewidth=0.7, label="each step")
    if window > 1:
        upper.plot(step, _smoothed(loss, window), color=colour, label=f"mean of {window} steps")
    if _measured(history, "valid_loss"):
        _measurements(upper, history, "valid_loss", "validation", style.PALETTE[1], "o")
    if margin is not None:
        upper.axhline(margin, color="#333333", linestyle=":", linewidth=1, label=f"margin {margin:g}")
    upper.set_ylabel("loss")
    upper.margins(y=0.08)
    upper.set_ylim(bottom=min(0.0, float(loss.min())))
    _legend(upper)
    if "active" in axes:
        active = _column(history, "active_fraction")
        _curve(axes["active"], step, active, window, colour, "-", None)
        axes["active"].set_ylim(-0.02, 1.02)
        axes["active"].set_ylabel("active\nfraction")
    if distances:
        lower = axes["distance"]
        for name, (label, color, line) in distances.items():
            _curve(lower, step, _column(history, name), window, color, line, label)
        lower.set_ylim(bottom=0)
        lower.set_ylabel("distance")
        _legend(lower)
    for each in axes.values():
        style.grid(each)
    rows[-1, 0].set_xlabel("step")
    _whole_steps(rows[-1, 0])
    figure.align_ylabels(list(axes.values()))
    style.footer(figure, note)
    return figure


@style.styled
def accuracy_curves(history: pd.DataFrame, *, metric: str = "accuracy", note: str = "") -> Figure:
    """Draw accuracy, or another score, over a training, and mark the best validation.

    Parameters
    ----------
    history : pandas.DataFrame
        ``accuracy`` or ``valid_accuracy`` or both, and ``epoch`` or ``step``. Training rows of one epoch are
        drawn as their mean; a history with one row an epoch (Keras' ``history.json``) is drawn as it is.
    metric : str
        The column drawn beside its ``valid_`` twin: "accuracy", "kappa", "p1", ...
    note : str
        What was trained on what.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If neither column holds a value.

    Examples
    --------
    >>> history = pd.DataFrame({"epoch": [1, 2], "accuracy": [0.6, 0.8], "valid_accuracy": [0.6, 0.7]})
    >>> [line.get_label() for line in accuracy_curves(history).axes[0].get_lines()]
    ['train', 'validation', 'best: 0.700, epoch 2']
    """
    unit = "epoch" if "epoch" in history and history["epoch"].nunique() > 1 else "step"
    place = _column(history, unit)
    names = [name for name in (metric, f"valid_{metric}") if _measured(history, name)]
    if not names:
        raise ValueError(
            f"history holds no value of {metric!r} or 'valid_{metric}'; "
            f"it has {', '.join(map(str, history.columns))}"
        )
    figure = style.new_figure(style.COLUMN, 2.3)
    axes = figure.add_subplot()
    looks = {
        metric: ("train", style.PALETTE[0], "-", "o"),
        f"valid_{metric}": ("validation", style.PALETTE[1], "--", "^"),
    }
    for name in names:
        label, color, line, marker = looks[name]
        values = pd.Series(_column(history, name), index=place).dropna().groupby(level=0).mean()
        few = len(values) <= 60
        axes.plot(
            values.index,
            values,
            color=color,
            linestyle=line,
            marker=marker if few else "",
            markersize=3,
            label=label,
        )
        if name.startswith("valid_"):
            best = float(values.index[int(values.argmax())])
            text = f"best: {values.max():.3f}, {unit} {best:g}"
            axes.plot(
                [best],
                [values.max()],
                linestyle="",
                marker="o",
                markersize=8,
                markerfacecolor="none",
                markeredgecolor="black",
                markeredgewidth=0.9,
                label=text,
            )
    axes.set_xlabel(unit)
    axes.set_ylabel(style.metric_name(metric))
    _whole_steps(axes)
    axes.margins(y=0.08)
    style.grid(axes)
    _legend(axes)
    style.footer(figure, note)
    return figure


def _whole_steps(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(axes: Axes) -> None:
    """Above the data, where it covers none."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.1, columnspacing=1.2)


def _column(history: pd.DataFrame, name: str) -> NDArray[np.float64]:
    check_columns(history, (name,), "history")
    if not len(history):
        raise ValueError("history has no row; train at least one step")
    return history[name].to_numpy(np.float64)


def _measured(history: pd.DataFrame, name: str) -> bool:
    return name in history and bool(np.isfinite(history[name].to_numpy(np.float64)).any())


def _smoothed(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Centred moving mean; shorter at the ends, and over what is there."""
    return pd.Series(values).rolling(window, center=True, min_periods=1).mean().to_numpy(np.float64)


def _curve(
    axes: Axes,
    step: NDArray[np.float64],
    values: NDArray[np.float64],
    window: int,
    color: str,
    line: str,
    label: str | None,
) -> None:
    axes.plot(step, _smoothed(values, window), color=color, linestyle=line, linewidth=1.1, label=label)


def _measurements(axes: Axes, history: pd.DataFrame, name: str, label: str, color: str, marker: str) -> None:
    rows = history[np.isfinite(history[name].to_numpy(np.float64))]
    axes.plot(
        rows["step"],
        rows[name],
        color=color,
        linestyle="--",
        marker=marker if len(rows) <= 60 else "",
        markersize=3.5,
        label=label,
    )
