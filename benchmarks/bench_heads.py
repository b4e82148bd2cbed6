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
    true = KNNHead(K, index="exact").fit(x, y)
    near, found = true.kneighbors(x[:2000])[1], KNNHead(K).fit(x, y).kneighbors(x[:2000])[1]
    recall = (found[:, :, None] == near[:, None, :]).any(axis=1).mean()
    for index, target, note in (
        ("auto", 4.0, f"HNSW by size; {recall:.1%} of the true neighbours, on embedding-like rows"),
        ("exact", None, "every neighbour exact"),
    ):
        ours, peer = paired(
            lambda kind=index: KNNHead(K, index=kind).fit(x, y).predict(x),  # type: ignore[misc]
            lambda: KNeighborsClassifier(K).fit(x, y).predict(x),
            runs=3,
        )
        name = f"k-NN, fit and predict {ROWS:,} x {DIM}, k = {K}, index={index!r}"
        yield Row(name, ours, "sklearn KNeighborsClassifier", peer, target, note)

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
