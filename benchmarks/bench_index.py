"""Similar cases: one query among 200,000, opening, and adding."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Row, markdown, paired, seconds

CASES, DIM = 200_000, 128


def embeddings(n: int, seed: int = 0) -> np.ndarray:
    """Vectors of length 1 as networks make them: groups, in some 12 of the 128 directions, and noise."""
    rng = np.random.default_rng(seed)
    inner = rng.standard_normal((n, 12)) @ rng.standard_normal((12, DIM))
    group = rng.standard_normal((40, DIM))[rng.integers(0, 40, n)]
    drawn = (0.5 * inner + group + 0.1 * rng.standard_normal((n, DIM))).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def brute_force(vectors: np.ndarray, query: np.ndarray, keep: np.ndarray, k: int) -> np.ndarray:
    """Write down what NumPy does for one query."""
    far = np.where(keep, ((vectors - query) ** 2).sum(axis=1), np.inf)
    first = np.argpartition(far, k)[:k]
    return first[np.argsort(far[first])]


def by_product(vectors: np.ndarray, query: np.ndarray, keep: np.ndarray, k: int) -> np.ndarray:
    """Write down NumPy's fastest way, for vectors of length 1 only."""
    far = np.where(keep, -(vectors @ query), np.inf)
    first = np.argpartition(far, k)[:k]
    return first[np.argsort(far[first])]


def rows() -> Iterator[Row]:
    """Measure each row."""
    from siamura.index import CaseIndex

    vectors = embeddings(CASES)
    patient = np.arange(CASES) // 4
    table = pd.DataFrame(
        {
            "path": [f"cases/patient{p:06d}/image{i % 4}.png" for i, p in enumerate(patient)],
            "part": np.resize(["XR_FINGER", "XR_HAND", "XR_WRIST", "XR_ELBOW"], CASES),
            "patient": [f"patient{p:06d}" for p in patient],
            "study": "study1",
            "label": (patient % 2).astype(np.int64),
        }
    )
    with tempfile.TemporaryDirectory() as root:
        for how, limit in (("inverted file", 50_000), ("exact", CASES)):
            index = CaseIndex.create(f"{root}/{how}", dim=DIM, exact_up_to=limit)
            index.add(vectors, table)
            query, own = vectors[77] + np.float32(0.01), patient != patient[77]
            found = "" if index.recall is None else f"; recall {index.recall:.3f}"

            def ours(index: CaseIndex = index, query: np.ndarray = query) -> object:
                return index.search(query, 15, exclude_patient="patient000019")

            for peer, name in ((brute_force, "NumPy, brute force"), (by_product, "NumPy, matrix product")):
                times = paired(
                    ours, lambda peer=peer, own=own, query=query: peer(vectors, query, own, 15), runs=15
                )
                yield Row(
                    f"one case among {CASES:,} x {DIM}, {how}, own patient excluded",
                    times[0],
                    name,
                    times[1],
                    note=f"under 10 ms: {'yes' if times[0] < 0.01 else 'NO'}; table rows included{found}",
                )
        folder = Path(root) / "inverted file"
        np.save(f"{root}/vectors.npy", vectors)
        times = paired(lambda: CaseIndex.open(folder), lambda: np.load(f"{root}/vectors.npy"))
        yield Row(
            f"open {CASES:,} x {DIM}", times[0], "np.load of the vectors alone", times[1], note="mapped"
        )
        index, more = CaseIndex.open(folder), vectors[:100]
        time = seconds(lambda: index.add(more, table[:100]), runs=5)
        whole = seconds(lambda: np.save(f"{root}/vectors.npy", vectors), runs=2)
        yield Row("add 100 cases, on the disk", time, "np.save of all again", whole, note="fsync included")


if __name__ == "__main__":
    print(markdown(rows()))
