"""How all figures look: sizes, colours, the footer that says what was measured."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from matplotlib.figure import Figure
from matplotlib.style import context

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Widths in inches: one column of a two-column paper, and the whole page.
COLUMN, PAGE = 3.5, 7.1

#: Okabe and Ito's colours, in an order in which neighbours also differ in lightness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "----", "++++")
NORMAL, ABNORMAL = PALETTE[0], PALETTE[1]
GREY, PALE = "#595959", "#BFBFBF"
LABELS = ("normal", "abnormal")

_NOTE = 6.0  # points
_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: figures look the same everywhere
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#333333",
    "axes.facecolor": "white",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 7.0,
    "legend.title_fontsize": 7.0,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.4,
    "hatch.linewidth": 0.5,
    "text.usetex": False,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw with siamura's settings, whatever the caller's ``rcParams`` are, and leave those as they were."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with context(["default", _SETTINGS]):
            return draw(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, sizes in inches, with no part in pyplot's state."""
    return Figure(figsize=(width, height), dpi=200, layout="constrained")


def footer(figure: Figure, *sentences: str) -> None:
    """Write what the figure rests on at its foot, wrapped to its width."""
    text = " ".join(sentence.strip() for sentence in sentences if sentence.strip())
    if not text:
        return
    width = int(figure.get_figwidth() * 72 * 0.97 / (_NOTE * 0.56))
    kept = textwrap.wrap(text.replace(" %", "\u00a0%"), width)  # a number stays with its sign
    lines = [line.replace("\u00a0%", " %") for line in kept]
    # As the figure's x label, because the layout makes room for that one.
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=_NOTE, color=GREY, linespacing=1.3)
    figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + len(lines) * _NOTE * 1.4 / 72)


def class_look(code: int) -> tuple[str, str, str]:
    """Return colour, marker and hatch of a class: 49 classes in all have different looks.

    Examples
    --------
    >>> class_look(0), class_look(7)
    (('#0072B2', 'o', ''), ('#0072B2', '^', '////'))
    """
    turn = (code + code // len(PALETTE)) % len(MARKERS)
    return PALETTE[code % len(PALETTE)], MARKERS[turn], HATCHES[turn]


def grid(axes: Axes, axis: Any = "y") -> None:
    """Light lines behind the data."""
    axes.grid(axis=axis, color="#E5E5E5", linewidth=0.5)
    axes.set_axisbelow(True)


def count(number: int, noun: str) -> str:
    """Write ``1 patient``, ``1,207 patients``, ``2 studies``.

    Examples
    --------
    >>> count(1, "view"), count(1207, "patient"), count(2, "study")
    ('1 view', '1,207 patients', '2 studies')
    """
    if number != 1:
        noun = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun}"


def part_name(part: object) -> str:
    """Write a part as a person does.

    Examples
    --------
    >>> part_name("XR_FINGER")
    'Finger'
    """
    name = str(part)
    return name[3:].replace("_", " ").capitalize() if name.startswith("XR_") else name


def metric_name(metric: str) -> str:
    """Write a metric of `siamura.evaluate` as a paper does.

    Examples
    --------
    >>> metric_name("f1_macro"), metric_name("average_precision"), metric_name("kappa")
    ('macro F1', 'average precision', "Cohen's kappa")
    """
    known = {"kappa": "Cohen's kappa", "auroc": "AUROC", "ece": "ECE", "brier": "Brier score", "p1": "P@1"}
    if metric in known:
        return known[metric]
    name, _, kind = metric.rpartition("_")
    if kind in ("macro", "weighted"):
        return f"{kind} {metric_name(name)}"
    if kind == "normal":
        return f"{metric_name(name)} of normal"
    return metric.replace("_", " ").replace("f1", "F1")
