"""Whether acting on a model does more good than acting on all, or on none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from siamura.evaluation import net_benefit

from . import style
from .checks import as_panels
from .probabilities import rests_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style.styled
def decision_curve(
    label: Any, probability: ArrayLike | None = None, *, groups: ArrayLike | None = None, draws: int = 1000,
    seed: int = 0, positive: str = "abnormal", note: str = "",
) -> Figure:  # fmt: skip
    """Draw the net benefit over the threshold, with a bootstrap band over patients.

    Parameters
    ----------
    label, probability, groups, draws, seed, note
        As for `roc`; the probabilities should be calibrated.
    positive : str
        Name of the positive class.

    Returns
    -------
    matplotlib.figure.Figure
        Beside each model the net benefit of calling everything abnormal, and of calling nothing so (0).

    Raises
    ------
    ValueError
        If only one label is there, or a probability is not in [0, 1].

    References
    ----------
    Vickers and Elkin, "Decision curve analysis", Medical Decision Making 26, 2006.

    Examples
    --------
    >>> figure = decision_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], draws=0)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['model', 'all abnormal', 'none']
    """
    panels = as_panels(label, probability, groups)
    figure = style.new_figure(style.COLUMN, 3.5)
    axes = figure.add_subplot()
    most = 0.0
    for number, (name, (frame, _)) in enumerate(panels.items()):
        curve = net_benefit(
            frame["label"], frame["probability"], groups=frame["group"], draws=draws, seed=seed
        )
        color = style.PALETTE[number]
        if draws:
            axes.fill_between(
                curve["threshold"], curve["low"], curve["high"], color=color, alpha=0.15, linewidth=0
            )
        axes.plot(
            curve["threshold"],
            curve["model"],
            color=color,
            linestyle=style.LINES[number],
            label=name or "model",
        )
        most = max(most, float(np.nanmax(curve[["model", "all", "high"]].to_numpy())))
    axes.plot(curve["threshold"], curve["all"], color=style.PALE, linestyle="--", label=f"all {positive}")
    axes.axhline(0, color=style.PALE, linewidth=0.9, linestyle=":", label="none")
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.15 * most - 0.01, 1.1 * most + 0.01)  # below 0 it does harm; how much is of no use
    axes.set_xlabel("threshold")
    axes.set_ylabel("net benefit")
    axes.legend()
    style.footer(figure, note, rests_on(panels, draws))
    return figure
