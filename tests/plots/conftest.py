"""What the tests of the figures share: data as they come out of a run, and a look at the layout."""

from collections.abc import Callable, Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


@pytest.fixture(autouse=True)
def no_state_left() -> Iterator[None]:
    """No figure stays open in pyplot, and the person's settings and random numbers stay theirs."""
    import matplotlib.pyplot as plt

    before, drawn = dict(mpl.rcParams), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before
    np.testing.assert_array_equal(np.random.get_state()[1], drawn)  # noqa: NPY002


@pytest.fixture
def legible() -> Callable[[Figure], Figure]:
    """Check that every text lies on the canvas, covers no other, and is large enough for a column of a paper."""

    def look(figure: Figure) -> Figure:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        width, height = canvas.get_width_height()
        unseen = set()  # matplotlib keeps ticks beyond the ends of an axis, and does not draw them
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                    if not (axes.get_visible() and low - 1e-9 <= tick.get_loc() <= high + 1e-9):
                        unseen |= {tick.label1, tick.label2}
        texts = [
            t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in unseen
        ]
        texts = [t for t in texts if t.axes is None or t.axes.get_visible()]
        boxes = [t.get_window_extent() for t in texts]
        for text, box in zip(texts, boxes, strict=True):
            inside = box.x0 > -2 and box.y0 > -2 and box.x1 < width + 2 and box.y1 < height + 2
            assert inside, f"{text.get_text()!r} leaves the figure"
            assert text.get_fontsize() >= 6, f"{text.get_text()!r} is too small to read in print"
        for i, one in enumerate(boxes):
            for j in range(i):
                other = boxes[j]
                apart_x = min(one.x1, other.x1) - max(one.x0, other.x0)
                apart_y = min(one.y1, other.y1) - max(one.y0, other.y0)
                assert apart_x <= 1 or apart_y <= 1, (
                    f"{texts[i].get_text()!r} and {texts[j].get_text()!r} overlap"
                )
        return figure

    return look


@pytest.fixture(scope="session")
def answers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and patients of 240 views, three a patient, imperfectly told apart."""
    rng = np.random.default_rng(3)
    label = np.repeat(rng.integers(2, size=80), 3)
    probability = 1 / (1 + np.exp(-(2 * label - 1 + rng.normal(size=240) * 1.4)))
    return label, np.round(probability, 2), np.repeat(np.arange(80), 3)


@pytest.fixture(scope="session")
def vectors() -> tuple[np.ndarray, np.ndarray]:
    """Embeddings float32 (90, 16) in two clusters, and their labels."""
    rng = np.random.default_rng(5)
    label = rng.integers(2, size=90)
    x = rng.normal(size=(90, 16)) + 3 * label[:, None]
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), label


@pytest.fixture(scope="session")
def history() -> pd.DataFrame:
    """A training of 120 steps in 4 epochs, measured on validation data after each."""
    step = np.arange(1, 121)
    rng = np.random.default_rng(1)
    each = step % 30 == 0
    return pd.DataFrame(
        {
            "step": step,
            "epoch": (step - 1) // 30 + 1,
            "loss": 0.3 / step**0.3 + rng.random(120) * 0.02,
            "accuracy": 0.5 + step / 300,
            "active_fraction": 1 / step**0.2,
            "mean_distance": np.linspace(0.4, 1.0, 120),
            "hardest_positive": np.linspace(0.5, 0.3, 120),
            "hardest_negative": np.linspace(0.3, 0.9, 120),
            "valid_loss": np.where(each, 0.35 / step**0.3, np.nan),
            "valid_accuracy": np.select(
                [step == 30, step == 60, step == 90, step == 120], [0.6, 0.7, 0.8, 0.75], np.nan
            ),
        }
    )


@pytest.fixture(scope="session")
def films() -> list[np.ndarray]:
    """Six smooth images uint8 (48, 40)."""
    y, x = np.mgrid[:48, :40]
    return [(127 + 100 * np.sin(x / (3 + i)) * np.cos(y / (5 + i))).astype(np.uint8) for i in range(6)]
