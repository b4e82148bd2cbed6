"""Random numbers that belong to a step: the same whether or not a run was interrupted before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["own_rng", "step_generator", "step_seed"]


def step_seed(*key: int) -> int:
    """Make a seed from whole numbers, such as (seed, step, rank)."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def step_generator(*key: int) -> torch.Generator:
    """Make a generator of its own for some key."""
    return torch.Generator().manual_seed(step_seed(*key))


@contextmanager
def own_rng(device: torch.device, *key: int) -> Iterator[None]:
    """Seed what torch draws inside (dropout, stochastic depth), and put the global state back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        seed = step_seed(*key)
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield
