"""The network of `MLPHead`: its layers, their shapes, and draws that leave no trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Standardise", "network", "seeded", "state_shapes"]


class Standardise(nn.Module):
    """Take the training rows' mean away and divide by their deviation, inside the network."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardised rows, shape as given."""
        return (x - self.mean) / self.scale


def network(dim: int, hidden: Sequence[int], classes: int, dropout: float) -> nn.Sequential:
    """Build the head's module: embeddings (N, dim) to logits (N, classes)."""
    layers: list[nn.Module] = [Standardise(dim)]
    for width in hidden:
        layers += [nn.Linear(dim, width), nn.ReLU(), nn.Dropout(dropout)]
        dim = width
    return nn.Sequential(*layers, nn.Linear(dim, classes))


def state_shapes(dim: int, hidden: Sequence[int], classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what that module holds, without building it."""
    shapes: dict[str, tuple[int, ...]] = {"0.mean": (dim,), "0.scale": (dim,)}
    for layer, width in enumerate((*hidden, classes)):
        shapes |= {f"{1 + 3 * layer}.weight": (width, dim), f"{1 + 3 * layer}.bias": (width,)}
        dim = width
    return shapes


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from `seed` inside, and leave torch's global generators as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
