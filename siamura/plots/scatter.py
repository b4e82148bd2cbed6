"""The embedding space as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from siamura._validation import check_per_row

from . import style
from .projection import METHODS, Method, project

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES: dict[str, dict[Any, str]] = {"label": {0: "normal", 1: "abnormal"}, "error": {0: "right", 1: "wrong"}}
_SHOWN = len(style.PALETTE) - 1  # categories with a colour of their own; the others are grey
_SHOWN_CLASSES = 20  # the same of labels, told apart by colour and marker together


@style.styled
def embedding(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    method: Method = "umap",
    valid: tuple[ArrayLike, ArrayLike] | None = None,
    color: str = "label",
    names: Mapping[Any, str] | Sequence[str] | None = None,
    seed: int = 0,
    note: str = "",
) -> Figure:
    """Draw the embedding space.

    Parameters
    ----------
    embeddings : array of shape (N, dim)
        Of the training views.
    labels : array of shape (N,)
        What the points are coloured by: labels, parts, errors, patients, or a quantity (floats with more than
        12 values get a colour scale). Beyond 7 categories (21 labels) all but the 6 (20) most frequent are grey.
    method : {"umap", "pca", "tsne"}
        See `project`.
    valid : (array of shape (M, dim), array of shape (M,)), optional
        Validation embeddings and their labels, placed by the projection fitted on the training views and
        drawn with a black edge.
    color : str
        What `labels` are, for the legend. "label" names 0 and 1 normal and abnormal where there are no other
        labels and no `names`; "error" names 0 and 1 right and wrong.
    names : mapping of value to str, or sequence of str, optional
        Names of the categories; a sequence names 0, 1, 2, ..., as `siamura.studies.classes_of` does.
    seed : int
        Of the projection.
    note : str
        What was embedded: data, patients.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If lengths do not agree or an embedding is not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> figure = embedding(rng.normal(size=(40, 8)), rng.integers(2, size=40), method="pca")
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['normal (...)', 'abnormal (...)']
    """
    train_labels = _labels(labels, len(np.atleast_1d(np.asarray(embeddings))), "labels")
    if valid is not None and (not isinstance(valid, tuple) or len(valid) != 2):
        raise ValueError("valid must be a tuple (embeddings, labels) of the validation views")
    plane, placed = project(embeddings, method, seed, None if valid is None else valid[0])
    points = [(plane, train_labels)]
    if placed is not None and valid is not None:
        valid_labels = _labels(valid[1], len(placed), "valid labels")
        if len(placed) and _is_text(valid_labels) != _is_text(train_labels):
            raise ValueError(
                f"labels begin with {train_labels[0]!r} and valid labels with {valid_labels[0]!r}; give both as text "
                "or both as numbers"
            )
        points.append((placed, valid_labels))

    figure = style.new_figure(style.COLUMN, 3.1)
    axes = figure.add_subplot()
    everything = np.concatenate([values for _, values in points])
    if everything.dtype.kind == "f" and len(np.unique(everything)) > 12:
        _quantity(figure, axes, points, color)
        handles: list[Any] = []
    else:
        handles = _categories(axes, points, color, names)
    if len(points) == 2:
        handles += _split_handles(len(plane), len(points[1][0]))
    if handles:
        columns = 2 if len(handles) > 3 else len(handles)
        legend = axes.legend(
            handles=handles,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=columns,
            borderaxespad=0.3,
            title=None if color in _NAMES else color,
            columnspacing=1.2,
            handletextpad=0.3,
        )
        legend.set_in_layout(True)
        more_rows = max(0, -(-len(handles) // columns) - 3)
        figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + 0.14 * more_rows)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    axes.set_xlabel(f"{METHODS[method]} 1")
    axes.set_ylabel(f"{METHODS[method]} 2")
    axes.margins(0.04)
    how = ""
    if len(points) == 2:
        how = (
            "t-SNE lays out training and validation views together."
            if method == "tsne"
            else f"{METHODS[method]} fitted on the training views; validation views placed by it."
        )
    style.footer(figure, note, how)
    return figure


def _labels(labels: ArrayLike, count: int, name: str) -> NDArray[Any]:
    values = check_per_row(name, labels, count)
    if pd.isna(pd.Series(values)).any():
        raise ValueError(f"{name} holds missing values; name them, or leave those rows out")
    if values.dtype == bool:
        values = values.astype(int)
    return values


def _is_text(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "TU" or any(isinstance(value, str) for value in values.tolist())


def _categories(
    axes: Axes,
    points: list[tuple[NDArray[np.float64], NDArray[Any]]],
    color: str,
    names: Mapping[Any, str] | Sequence[str] | None,
) -> list[Any]:
    sizes = pd.Series(np.concatenate([values for _, values in points])).value_counts(sort=False)
    # "abnormal" names label 1 of two, not grade 1 of five.
    default = _NAMES.get(color, {}) if set(sizes.index) <= set(_NAMES.get(color, {})) else {}
    named = (
        dict(enumerate(names)) if isinstance(names, Sequence) else dict(default if names is None else names)
    )
    shown = _SHOWN_CLASSES if color == "label" else _SHOWN
    kinds = sorted(sizes.index, key=str) if sizes.index.dtype == object else sorted(sizes.index)
    if len(kinds) > shown + 1:
        large = sorted(kinds, key=lambda kind: (-sizes[kind], str(kind)))[:shown]
        kinds = [kind for kind in kinds if kind in large]
    rest = [kind for kind in sizes.index if kind not in kinds]
    drawn: list[tuple[list[Any], str, str, str]] = [
        (
            [kind],
            *style.class_look(i)[:2],
            f"{named.get(kind, style.part_name(kind))} ({sizes[kind]:,})",
        )
        for i, kind in enumerate(kinds)
    ]
    if rest:
        others = int(sum(sizes[kind] for kind in rest))
        drawn.insert(0, (rest, style.PALE, ".", f"{len(rest)} others ({others:,})"))
    total = sum(len(plane) for plane, _ in points)
    scale = _scale(total)
    for number, (plane, values) in enumerate(points):
        for members, face, marker, name in drawn:
            chosen = np.isin(values, members)
            axes.scatter(
                plane[chosen, 0],
                plane[chosen, 1],
                marker=marker,
                color=face,
                label=f"{name}, {_SPLITS[number]}",
                s=_SIZE[number] * scale,
                linewidths=0.45 * number,
                edgecolors="black" if number else "none",
                alpha=0.95 if number else 0.5,
                rasterized=total > 4000,
                zorder=2 + number,
            )
    if rest:
        drawn = drawn[1:] + drawn[:1]
    return [
        Line2D([], [], linestyle="", marker=marker, color=face, markersize=5, markeredgewidth=0, label=name)
        for _, face, marker, name in drawn
    ]


_SPLITS = ("train", "valid")
_SIZE = (12.0, 13.0)  # points squared, at 400 points in all


def _scale(count: int) -> float:
    return float(np.clip((400 / max(count, 1)) ** 0.5, 0.35, 1.6))


def _quantity(
    figure: Figure, axes: Axes, points: list[tuple[NDArray[np.float64], NDArray[Any]]], color: str
) -> None:
    values = np.concatenate([v for _, v in points]).astype(float)
    scale = _scale(len(values))
    for number, (plane, own) in enumerate(points):
        drawn = axes.scatter(
            plane[:, 0],
            plane[:, 1],
            c=own.astype(float),
            cmap="cividis",
            vmin=values.min(),
            vmax=values.max(),
            marker="o",
            s=_SIZE[number] * scale,
            linewidths=0.45 * number,
            edgecolors="black" if number else "none",
            label=_SPLITS[number],
            zorder=2 + number,
        )
    figure.colorbar(drawn, ax=axes, label=color, shrink=0.9, pad=0.02)


def _split_handles(train: int, valid: int) -> list[Any]:
    return [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            markersize=4,
            color=style.PALE,
            markeredgewidth=0,
            label=f"train ({train:,})",
        ),
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            markersize=5,
            color=style.PALE,
            markeredgecolor="black",
            markeredgewidth=0.6,
            label=f"validation ({valid:,})",
        ),
    ]
