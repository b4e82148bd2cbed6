"""The networks of the heads that torch trains: layers, shapes, patients set aside, and draws that leave no trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["BestWeights", "GatedAttention", "Standardise", "network", "seeded", "set_aside", "state_shapes"]


class Standardise(nn.Module):
    """Take the training rows' mean away and divide by their deviation, inside the network."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def of(self, rows: NDArray[np.float64]) -> None:
        """Take mean and deviation from training rows (N, dim); what does not vary is not divided."""
        spread = rows.std(axis=0)
        self.mean.copy_(torch.from_numpy(rows.mean(axis=0)))
        self.scale.copy_(torch.from_numpy(np.where(spread > 0, spread, 1.0)))

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


class GatedAttention(nn.Module):
    """Views (N, dim) with the number of their study (N,) to the studies' logits (S, classes).

    The weight of view k of a study is the softmax over its views of ``w . (tanh(V x_k) * sigmoid(U x_k))``, equation 9
    of Ilse, Tomczak and Welling (ICML 2018). `w` begins at 0: all views then weigh alike.
    """

    def __init__(self, dim: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.standardise = Standardise(dim)
        self.content, self.gate = nn.Linear(dim, hidden), nn.Linear(dim, hidden)
        self.weigh = nn.Linear(hidden, 1, bias=False)
        self.classify = nn.Linear(dim, classes)
        nn.init.zeros_(self.weigh.weight)

    def weights(self, x: Tensor, study: Tensor) -> Tensor:
        """Weight of each standardised view within its study, shape (N,)."""
        score: Tensor = self.weigh(self.content(x).tanh() * self.gate(x).sigmoid())[:, 0]
        studies = int(study.max()) + 1
        # The largest of a study is taken off, so that no exponential overflows.
        top = score.detach().new_full((studies,), -torch.inf).scatter_reduce(0, study, score.detach(), "amax")
        share = (score - top[study]).exp()
        return share / share.new_zeros(studies).index_add(0, study, share)[study]

    def forward(self, x: Tensor, study: Tensor) -> Tensor:
        """Return the logits of the studies, numbered from 0."""
        rows = self.standardise(x)
        weighted = self.weights(rows, study)[:, None] * rows
        pooled = rows.new_zeros(int(study.max()) + 1, rows.shape[1]).index_add(0, study, weighted)
        logits: Tensor = self.classify(pooled)
        return logits


def set_aside(
    codes: NDArray[Any], keys: NDArray[Any] | None, share: float, random: np.random.RandomState
) -> NDArray[np.bool_] | None:
    """Rows for early stopping: whole patients, about the wanted share of them; None where a class would be missing."""
    unit = np.arange(len(codes)) if keys is None else np.unique(keys, return_inverse=True)[1]
    first = np.unique(unit, return_index=True)[1]
    chosen = np.zeros(len(first), dtype=bool)
    for code in np.unique(codes[first]):  # by each patient's first label, so that both sides have both
        members = np.flatnonzero(codes[first] == code)
        chosen[random.permutation(members)[: round(share * len(members))]] = True
    aside: NDArray[np.bool_] = chosen[unit]
    classes = len(np.unique(codes))
    if len(np.unique(codes[aside])) < classes or len(np.unique(codes[~aside])) < classes:
        return None
    return aside


class BestWeights:
    """The weights of a module at the lowest loss of rows set aside, and when to stop."""

    def __init__(self, module: nn.Module, patience: int) -> None:
        self.module, self.patience = module, patience
        self.epoch, self._seen, self._loss = 0, 0, float("inf")
        self._kept: dict[str, Tensor] | None = None

    def done(self, loss: float) -> bool:
        """Note the loss after an epoch; whether it has not improved for so many."""
        self._seen += 1
        if loss < self._loss:
            self._loss, self.epoch = loss, self._seen
            self._kept = {name: value.clone() for name, value in self.module.state_dict().items()}
        return self._seen - self.epoch >= self.patience

    def restore(self) -> None:
        """Put the best weights back, where a loss was noted."""
        if self._kept is not None:
            self.module.load_state_dict(self._kept)
