"""How good the probabilities are: ROC, precision and recall, reliability."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from siamura._validation import check_number, check_whole
from siamura.evaluation import reliability as binned

from . import style
from .bands import Band, precision_recall_band, roc_band, score_with_interval
from .checks import as_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@style.styled
def roc(
    label: Any, probability: ArrayLike | None = None, *, groups: ArrayLike | None = None,
    threshold: float | None = 0.5, draws: int = 1000, seed: int = 0, note: str = "",
) -> Figure:  # fmt: skip
    """Draw the receiver operating characteristic, with a bootstrap band over patients.

    Parameters
    ----------
    label : array of shape (N,), or mapping of name to tuple
        0 or 1. A mapping draws several models: name -> (label, probability) or (label, probability, groups).
    probability : array of shape (N,), optional
        Of the abnormal class.
    groups : array of shape (N,), optional
        The patient of each row. Without it every row is drawn as one, and the figure says so.
    threshold : float, optional
        Marked on the curve; None marks nothing.
    draws : int
        Bootstrap draws; 0 for neither band nor interval.
    seed : int
        Of the draws, the same as `siamura.evaluate`'s.
    note : str
        Data and level; patients and interval are added.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If only one label is there, or a probability is not in [0, 1].

    Examples
    --------
    >>> figure = roc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], draws=0)
    >>> figure.axes[0].get_legend().get_texts()[0].get_text()
    'AUROC 0.750'
    """
    panels = as_panels(label, probability, groups)
    figure = style.new_figure(style.COLUMN, 3.5)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=style.PALE, linewidth=0.9, linestyle=":", label="_chance")
    _curves(axes, panels, roc_band, "AUROC", threshold, draws, seed, step=False)
    axes.set_xlabel("false positive rate (1 − specificity)")
    axes.set_ylabel("sensitivity")
    _legend(axes)
    style.footer(figure, note, rests_on(panels, draws, threshold))
    return figure


@style.styled
def precision_recall(
    label: Any, probability: ArrayLike | None = None, *, groups: ArrayLike | None = None,
    threshold: float | None = 0.5, draws: int = 1000, seed: int = 0, note: str = "",
) -> Figure:  # fmt: skip
    """Draw precision over recall, with a bootstrap band over patients.

    Parameters
    ----------
    label, probability, groups, threshold, draws, seed, note
        As for `roc`.

    Returns
    -------
    matplotlib.figure.Figure
        The legend gives the average precision; the dotted line is the share of abnormal rows, which is what
        guessing reaches.

    Raises
    ------
    ValueError
        If only one label is there, or a probability is not in [0, 1].

    Examples
    --------
    >>> figure = precision_recall([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], draws=0)
    >>> figure.axes[0].get_legend().get_texts()[0].get_text()
    'AP 0.833'
    """
    panels = as_panels(label, probability, groups)
    figure = style.new_figure(style.COLUMN, 3.5)
    axes = figure.add_subplot()
    for share in sorted({round(float(frame["label"].mean()), 6) for frame, _ in panels.values()}):
        axes.axhline(share, color=style.PALE, linewidth=0.9, linestyle=":", label="_chance")
    _curves(axes, panels, precision_recall_band, "AP", threshold, draws, seed, step=True)
    axes.set_xlabel("recall (sensitivity)")
    axes.set_ylabel("precision")
    _legend(axes)
    style.footer(figure, note, rests_on(panels, draws, threshold))
    return figure


def _curves(
    axes: Axes, panels: Mapping[str, tuple[pd.DataFrame, bool]], band_of: Callable[..., Band], area: str,
    threshold: float | None, draws: int, seed: int, *, step: bool,
) -> None:  # fmt: skip
    if threshold is not None:
        threshold = check_number("threshold", threshold)
    for number, (name, (frame, _)) in enumerate(panels.items()):
        color, line, marker = style.PALETTE[number], style.LINES[number], style.MARKERS[number]
        band = band_of(frame, draws=draws, seed=seed)
        value, low, high = band.area
        text = _with_interval(area, value, low, high)
        if draws:
            axes.fill_between(
                band.grid,
                band.low,
                band.high,
                color=color,
                alpha=0.18 if len(panels) < 3 else 0.1,
                linewidth=0,
                step="pre" if step else None,
            )
        axes.plot(
            band.x,
            band.y,
            color=color,
            linestyle=line,
            drawstyle="steps-pre" if step else "default",
            label=_entry(name, text),
        )
        if threshold is not None:
            at = _at(frame, threshold, precision=step)
            if at is not None:
                axes.plot(
                    *at, linestyle="", marker=marker, color=color, markeredgecolor="black", markersize=5.5
                )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    style.grid(axes, "both")


def _legend(axes: Axes) -> None:
    """Above the axes, in a figure made higher by it: inside, a curve may run anywhere."""
    legend = axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.1, handlelength=2.8)
    lines = sum(text.get_text().count("\n") + 1 for text in legend.get_texts())
    figure = cast("Figure", axes.figure)
    figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + 0.15 * lines)


def _entry(name: str, text: str) -> str:
    """A model's line in the legend, broken where it would be wider than the figure."""
    if len(name) + len(text) < _WIDEST:
        return f"{name}: {text}" if name else text
    return "\n".join([*textwrap.wrap(f"{name}:", _WIDEST), text])


_WIDEST = 46  # characters


def _with_interval(name: str, value: float, low: float, high: float) -> str:
    return f"{name} {value:.3f}" + ("" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]")


def _at(frame: pd.DataFrame, threshold: float, *, precision: bool) -> tuple[float, float] | None:
    """Where a threshold lies on the curve; nowhere in precision and recall if nothing is above it."""
    label, said = frame["label"].to_numpy(), frame["probability"].to_numpy() > threshold
    recall = float(said[label == 1].mean())
    if not precision:
        return float(said[label == 0].mean()), recall
    return (recall, float(label[said].mean())) if said.any() else None


def rests_on(
    panels: Mapping[str, tuple[pd.DataFrame, bool]], draws: int, threshold: float | None = None
) -> str:
    """Say how many patients, which interval and what the marks are."""
    each = {
        f"{len(frame):,} rows of {style.count(int(frame['group'].nunique()), 'patient')}"
        if known
        else f"{len(frame):,} rows, patients not given": None
        for frame, known in panels.values()
    }
    known = all(known for _, known in panels.values())
    sentences = ["; ".join(each) + "."]
    if draws:
        unit = "patients" if known else "rows, as if each were a patient"
        sentences.append(f"Bands and brackets: 95 %, {draws:,} bootstrap draws over {unit}.")
    if threshold is not None:
        sentences.append(f"Mark: threshold {threshold:g}.")
    return " ".join(sentences)


@style.styled
def reliability(
    label: Any, probability: ArrayLike | None = None, *, groups: ArrayLike | None = None, bins: int = 10,
    draws: int = 1000, seed: int = 0, positive: str = "abnormal", note: str = "",
) -> Figure:  # fmt: skip
    """Draw how often a probability comes true: observed against predicted, and how often each is given.

    Parameters
    ----------
    label, probability, groups, draws, seed, note
        As for `roc`; one label alone is allowed.
    bins : int
        Equally wide bins; empty ones are left out.
    positive : str
        Name of the positive class.

    Returns
    -------
    matplotlib.figure.Figure
        The legend gives the expected calibration error over the same bins.

    Raises
    ------
    ValueError
        If a probability is not in [0, 1] or `bins` is below 2.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> figure = reliability([0, 1, 0, 1], [0.1, 0.1, 0.9, 0.9], bins=5, draws=0)
    >>> figure.axes[0].get_legend().get_texts()[0].get_text()
    'ECE 0.400'
    """
    check_whole("bins", bins, least=2)
    panels = as_panels(label, probability, groups, both=False)
    figure = style.new_figure(style.COLUMN, 3.6)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    axes.plot([0, 1], [0, 1], color=style.PALE, linewidth=0.9, linestyle=":", label="_perfect")
    without = False
    for number, (name, (frame, _)) in enumerate(panels.items()):
        probability = frame["probability"].to_numpy()
        found = binned(frame["label"], probability, groups=frame["group"], bins=bins, draws=draws, seed=seed)
        text = _with_interval("ECE", *score_with_interval(frame, "ece", draws=draws, seed=seed, bins=bins))
        color, line, marker = style.PALETTE[number], style.LINES[number], style.MARKERS[number]
        share = found["frequency"].to_numpy()
        spread = np.abs(found[["low", "high"]].to_numpy().T - share) if draws else None
        without |= spread is not None and bool((spread.max(axis=0) == 0).any())
        # Beside each other where several models meet in one bin.
        shift = 0.008 * (number - (len(panels) - 1) / 2)
        axes.errorbar(
            found["probability"] + shift,
            share,
            yerr=spread,
            color=color,
            linestyle=line,
            linewidth=1,
            elinewidth=0.9,
            capsize=1.5,
            marker=marker,
            markersize=4,
            label=_entry(name, text),
        )
        size, edges = np.histogram(probability, np.linspace(0, 1, bins + 1))
        below.stairs(size, edges, color=color, linestyle=line, linewidth=1, fill=len(panels) == 1, alpha=0.8)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel(f"observed share of {positive}")
    below.set_ylabel("rows")
    below.set_xlabel(f"predicted probability of {positive}")
    style.grid(axes, "both")
    style.grid(below)
    _legend(axes)
    figure.align_ylabels([axes, below])
    style.footer(
        figure,
        note,
        rests_on(panels, draws, None).replace("Bands and brackets", "Bars and brackets"),
        "A point without a bar: too few rows, all alike, for an interval." if without else "",
    )
    return figure
