"""The sampler beside pytorch-metric-learning's: ``python benchmarks/bench_samplers.py``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pytorch_metric_learning.samplers import MPerClassSampler

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from siamura.samplers import PKBatchSampler

from benchmarks.harness import Row, markdown, paired

ITEMS, GROUPS = 40_000, 12_000


def rows() -> Iterator[Row]:
    """Yield setting up and drawing, for 40,000 items of 12,000 groups."""
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 2, ITEMS), rng.integers(0, GROUPS, ITEMS)
    parts = rng.integers(0, 7, ITEMS)

    def ours() -> PKBatchSampler:
        return PKBatchSampler(labels, 2, 32, groups=groups, within=parts)

    def peer() -> MPerClassSampler:
        return MPerClassSampler(labels, 32, batch_size=64, length_before_new_iter=ITEMS)

    a, b = paired(ours, peer)
    yield Row("PKBatchSampler, set up", a, "PML MPerClassSampler", b, None, "promised: under 1 s")
    mine, theirs = ours(), peer()
    a, b = paired(lambda: list(mine), lambda: list(theirs))
    note = f"{len(mine) / a:,.0f} batches of 64 a second (promised: 1,000); the peer knows no groups"
    yield Row(f"PKBatchSampler, an epoch of {len(mine)} batches", a, "PML MPerClassSampler", b, None, note)
    many = PKBatchSampler(np.arange(400_000) // 4, 16, 4, length=200)
    other = MPerClassSampler(np.arange(400_000) // 4, 4, batch_size=64, length_before_new_iter=200 * 64)
    a, b = paired(lambda: list(many), lambda: list(other), runs=3)
    note = f"100,000 labels: {a / 200 * 1e3:.2f} ms a batch, the start of the epoch included"
    yield Row("PKBatchSampler, 200 batches of 100,000 labels", a, "PML MPerClassSampler", b, None, note)


if __name__ == "__main__":
    print(markdown(rows()))
