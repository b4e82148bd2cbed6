"""Spreads without extent: what native code cannot lay out never reaches it."""

import subprocess
import sys

import numpy as np
import pytest

from siamura.plots import project

CASES = {
    "constant": "np.ones((20, 8))",
    "zeros": "np.zeros((20, 8))",
    "constant, many": "np.full((200, 2), 0.3)",
    "two distinct": "np.repeat(np.eye(8)[:2], 10, axis=0)",
    "four distinct": "np.repeat(np.eye(8)[:4], 30, axis=0)",
    "eleven distinct": "np.repeat(np.eye(12)[:11], 12, axis=0)",
    "three rows": "np.eye(3)",
    "three equal rows": "np.ones((3, 4))",
    "a line": "np.outer(np.arange(30.0), np.ones(4))",
    "tiny": "rng.normal(size=(30, 8)) * 1e-30",
    "tiny about one": "1 + rng.normal(size=(30, 8)) * 1e-13",
    "tiniest": "rng.normal(size=(30, 8)) * 5e-320",
    "huge": "rng.normal(size=(30, 8)) * 1e300",
    "hugest": "np.where(rng.random((30, 8)) < 0.5, -1.7e308, 1.7e308)",
    "beyond float32": "rng.normal(size=(30, 8)) * 1e39",
    "one far away": "np.vstack([rng.normal(size=(30, 8)), np.full((1, 8), 1e200)])",
}

SCRIPT = """
import warnings
import numpy as np
from siamura.plots import project
for name, text in {cases!r}.items():
    rng = np.random.default_rng(0)
    x = eval(text)
    for valid in (None, x[:2]):
        plane, placed = project(x, {method!r}, valid=valid)
        assert plane.shape == (len(x), 2), name
        assert np.isfinite(plane).all(), name
        assert placed is None or (placed.shape == (2, 2) and np.isfinite(placed).all()), name
print("all laid out")
"""


@pytest.mark.parametrize("method", ["pca", "tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_no_spread_ends_the_process(method):
    script = SCRIPT.format(cases=CASES, method=method)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "all laid out"


def test_a_collapse_is_said(caplog):
    plane, placed = project(np.ones((20, 8)), "tsne", valid=np.ones((2, 8)) + np.eye(8)[:2])
    assert not plane.any()
    assert placed.any()
    assert "only 1 different rows among 20: laid out by PCA instead of t-SNE" in caplog.text


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1.0, 1e50])
def test_pca_keeps_its_units(factor):
    x = np.random.default_rng(0).normal(size=(30, 4))
    plain, scaled = project(x, "pca")[0], project(x * factor, "pca", valid=x[:3] * factor)
    np.testing.assert_allclose(scaled[0], plain * factor, rtol=1e-9, atol=1e-12 * factor)
    np.testing.assert_allclose(scaled[1], scaled[0][:3], rtol=1e-9, atol=1e-12 * factor)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((1, 4)), "at least 3 are needed"),
        (np.ones((2, 4)), "at least 3 are needed"),
        (np.ones((9, 1)), "dim at least 2"),
        (np.full((9, 3), np.nan), "NaN or infinity in 9 of 9 rows"),
    ],
)
@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
def test_what_cannot_be_laid_out_is_said(method, x, message):
    with pytest.raises(ValueError, match=message):
        project(x, method)
