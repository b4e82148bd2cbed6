"""k nearest neighbours and the small network beside scikit-learn's."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Row, markdown, paired
from siamura.heads import KNNHead, MLPHead

ROWS, DIM, K = 40_000, 128, 15


def embeddings(rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of length 1 as trained networks make them: some 10 directions of the 128, a little noise."""
    rng = np.random.default_rng(seed)
    inner = rng.normal(size=(rows, 10))
    drawn = np.tanh(0.3 * inner @ rng.normal(size=(10, DIM))) + 0.05 * rng.normal(size=(rows, DIM))
    label = (inner[:, 0] + rng.normal(size=rows) > 0).astype(np.int64)
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32), label


def rows() -> Iterator[Row]:
    """Fit and predict 40,000 rows, by size and in full; one epoch of the network."""
    x, y = embeddings()
    spread = np.random.default_rng(1).normal(size=(ROWS, DIM)).astype(np.float32)
    for name, rows_, target in (("embedding-like", x, 1.0), ("spread", spread, 1.0)):
        ours, peer = paired(
            lambda rows_=rows_: KNNHead(K).fit(rows_, y).predict(rows_),  # type: ignore[misc]
            lambda rows_=rows_: KNeighborsClassifier(K).fit(rows_, y).predict(rows_),  # type: ignore[misc]
            runs=3,
        )
        yield Row(
            f"k-NN, fit and predict {ROWS:,} x {DIM} {name} rows, k = {K}",
            ours,
            "sklearn KNeighborsClassifier",
            peer,
            target,
            "every neighbour exact",
        )

    def network() -> None:
        MLPHead((64,), epochs=3, early_stopping=False, dropout=0.0).fit(x, y)

    def theirs() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            MLPClassifier((64,), max_iter=3, batch_size=128, random_state=0).fit(x, y)

    yield Row(
        f"MLP, 3 epochs of {ROWS:,} x {DIM}, 64 hidden",
        *_swap(paired(network, theirs, runs=3)),
    )


def _swap(times: tuple[float, float]) -> tuple[float, str, float]:
    return times[0], "sklearn MLPClassifier", times[1]


if __name__ == "__main__":
    print(markdown(rows()))
