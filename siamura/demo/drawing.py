"""The answer for one study as one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from siamura.pixels import read_image
from siamura.plots import style
from siamura.plots.images import draw_image
from siamura.report.tables import RESEARCH, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .reading import Answer

__all__ = ["draw"]

VIEWS = 2  # as many as fit on one line beside their maps
SIDE = 600  # pixels of a film's longest side, enough for print


@style.styled
def draw(answer: Answer, measured: Mapping[str, Any]) -> Figure:
    """Draw what the demo says of one study.

    Parameters
    ----------
    answer : Answer
        Of `Demo.read`.
    measured : mapping
        The k-NN head's figures per study on held-out phantom patients, as in ``metrics.json``.

    Returns
    -------
    matplotlib.figure.Figure
        The views, where the score comes from, the probability with its interval, and the nearest earlier cases.

    Examples
    --------
    .. code-block:: python

        import siamura
        demo = siamura.load_demo()
        draw(demo.read(), demo.facts["valid"]).savefig("demo.png")
    """
    figure = style.new_figure(style.PAGE, 4.35)
    upper, lower = np.ravel(figure.subfigures(2, 1, height_ratios=[1.18, 1], squeeze=False))
    shown = answer.views[:VIEWS]
    grid = upper.subplots(1, 2 * len(shown) + 1, width_ratios=[1.0] * 2 * len(shown) + [1.35], squeeze=False)[
        0
    ]
    for number, (view, probability) in enumerate(zip(shown, answer.each, strict=False)):
        film, warm = grid[2 * number : 2 * number + 2]
        image, heat, boxes = view.downscaled(SIDE)
        draw_image(film, image)
        film.set_title(f"view {number + 1}: {probability:.2f}")
        draw_image(warm, image)
        _heat(warm, heat, boxes)
        warm.set_title("where it comes from")
    _probability(grid[-1], answer)
    upper.suptitle(
        f"PHANTOMS  ·  {answer.study}: {answer.answer}, probability of {answer.classes[1]} "
        f"{answer.probability:.2f} [{answer.low:.2f}, {answer.high:.2f}]",
        x=0.01, ha="left", fontsize=10, fontweight="bold",
    )  # fmt: skip
    cases = answer.cases
    row = lower.subplots(1, len(cases), squeeze=False)[0]
    for axes, case in zip(row, cases.to_dict("records"), strict=True):
        draw_image(axes, read_image(case["path"]))
        color = style.class_look(int(case["label"]))[0]
        for spine in axes.spines.values():
            spine.set(visible=True, edgecolor=color, linewidth=2.2, linestyle="--" if case["label"] else "-")
        axes.set_title(f"{case['rank']}. {case['finding']}", color=color, fontweight="bold")
        axes.set_xlabel(f"distance {case['distance']:.3f}", fontsize=7)
    lower.suptitle(f"The {len(cases)} nearest earlier cases, each of another study", x=0.01, ha="left",
                   fontsize=9)  # fmt: skip
    style.footer(
        figure,
        "Drawn by siamura: it shows that everything works and nothing about patients.",
        f"The network reached kappa {with_interval(measured, 'kappa')} per study on {measured['patients']} held-out "
        "phantom patients (95 % interval over patients).",
        "The interval of the probability: training patients drawn again. Heat: the MLP head's log-odds, LayerCAM, "
        "relative within a view; boxes: 20 % of the maximum.",
        RESEARCH,
    )
    return figure


def _heat(axes: Axes, heat: Any, boxes: Any) -> None:
    # Here, as they are slow.
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    height, width = heat.shape
    axes.imshow(
        heat, cmap="inferno", vmin=0, vmax=1, alpha=0.65 * np.sqrt(np.clip(heat, 0, 1)),
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )  # fmt: skip
    for x0, y0, x1, y1 in boxes:
        axes.add_patch(
            Rectangle(
                (x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="white", linewidth=1.3,
                path_effects=[withStroke(linewidth=2.4, foreground="black")],
            )
        )  # fmt: skip


def _probability(axes: Axes, answer: Answer) -> None:
    """The probability as a point on a line from 0 to 1, with its interval and the threshold."""
    color = style.ABNORMAL if answer.probability > 0.5 else style.NORMAL
    axes.axvspan(0.5, 1, color=style.ABNORMAL, alpha=0.07, linewidth=0)
    axes.axvspan(0, 0.5, color=style.NORMAL, alpha=0.07, linewidth=0)
    axes.plot(
        [answer.low, answer.high], [0, 0], color=color, linewidth=3, solid_capstyle="round", clip_on=False
    )
    axes.plot(
        [answer.probability],
        [0],
        marker="o",
        markersize=9,
        color=color,
        markeredgecolor="white",
        clip_on=False,
    )
    axes.text(min(max(answer.probability, 0.12), 0.88), 0.16, f"{answer.probability:.2f}", ha="center", fontsize=12,
              color=color, fontweight="bold")  # fmt: skip
    axes.text(0.25, -0.5, answer.classes[0], ha="center", color=style.NORMAL)
    axes.text(0.75, -0.5, answer.classes[1], ha="center", color=style.ABNORMAL)
    axes.set(xlim=(0, 1), ylim=(-0.62, 0.5), xticks=[0, 0.5, 1])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_box_aspect(0.62)
    axes.set_title(f"probability of {answer.classes[1]}")
    axes.set_xlabel("with 95 % interval", fontsize=7)
