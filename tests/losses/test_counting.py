"""Counts, on ties above all."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from siamura.losses._counting import _packed, _searched
from siamura.losses._pairs import Block


def brute(keys, block, margin):
    up, down = (count.to(keys.dtype) for count in block.times)
    excess = (keys[:, :, None] - keys[:, None, :]) + torch.tensor(margin, dtype=keys.dtype)
    active = (excess > 0) * up[:, :, None] * down[:, None, :]
    return active.sum(2) - active.sum(1), active.sum()


def block_of(seed, rows, labels, own):
    y = torch.from_numpy(np.random.default_rng(seed).integers(0, labels, rows))
    same = y[:, None] == y
    other = ~same
    if own:
        same.fill_diagonal_(False)
    return Block(same, other, 0, own, own)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 24),
    labels=st.integers(1, 5),
    own=st.booleans(),
    margin=st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0, 1e-12, -0.1, -0.5]),
    grid=st.sampled_from([0.05, 0.1, 0.25, 1.0, 1e9]),
    signed=st.booleans(),
)
def test_ties_count_as_floating_point_counts_them(seed, rows, labels, own, margin, grid, signed):
    rng = np.random.default_rng(seed)
    steps = rng.integers(-20 if signed else 0, 20, (rows, rows))
    keys = torch.from_numpy((steps * grid).astype(np.float32))
    if signed:
        keys = -keys  # with -0.0 among them
    block = block_of(seed, rows, labels, own)
    wanted, active = brute(keys, block, margin)
    for count in (_packed, _searched):
        weights, number = count(keys, block, margin)
        assert torch.equal(weights, wanted), count
        assert int(number) == int(active)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pairs_that_count_more_than_once(dtype):
    rng = torch.Generator().manual_seed(1)
    keys = torch.rand(9, 13, generator=rng, dtype=dtype)
    up, down = (torch.randint(0, 3, (9, 13), generator=rng) for _ in range(2))
    block = Block(up > 0, down > 0, 0, False, False, up, down)
    wanted, active = brute(keys, block, 0.1)
    weights, number = _searched(keys, block, 0.1)
    assert torch.equal(weights, wanted)
    assert float(number) == float(active)
