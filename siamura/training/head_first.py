"""The head alone, on features of the frozen trunk that are computed once: the start of a run with trained weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from siamura._validation import check_number, check_whole

from .data import Stream
from .embedding import forward_rows
from .optimisers import OptimiserSettings
from .seeds import own_rng

__all__ = ["FrozenTrunk", "head_steps", "share_or_steps", "train_head"]

_LOG = logging.getLogger(__name__)

# Most memory for the features of a data set.
FEATURE_BYTES = 4 << 30


class FrozenTrunk(nn.Module):
    """What a trunk, and a pooling that does not learn, give: pooled features (B, C), or maps (B, C, h, w)."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Compute them."""
        out: Tensor = self.net.features(x).float()
        pooled: Tensor = self.net.head.pool(out) if self.net.head.pools_first else out
        return pooled


def share_or_steps(name: str, value: int | float) -> int | float:
    """Return whole steps (`int`), or a share of the run (`float`, 0.0 to 1.0).

    Raises
    ------
    ValueError
        If it is neither.
    """
    try:
        if isinstance(value, float | np.floating):
            return check_number(name, value, least=0, most=1)
        return check_whole(name, value, least=0)
    except ValueError:
        raise ValueError(
            f"{name}={value!r} must be whole steps, or a share of the run from 0.0 to 1.0."
        ) from None


def head_steps(head_first: int | float, total: int) -> int:
    """Steps that the head takes alone: whole steps, or a share of the run's.

    Raises
    ------
    ValueError
        If it is negative, or a share above 1.
    """
    length = share_or_steps("head_first", head_first)
    return round(length * total) if isinstance(length, float) else length


def train_head(
    net: Any,
    data: Dataset[Any],
    batches: Iterable[Any],
    steps: int,
    objective: Callable[[Tensor, Tensor, list[int]], Tensor],
    *,
    beside: nn.Module | None = None,
    optimiser: OptimiserSettings,
    seed: int = 0,
    accelerator: str = "auto",
) -> list[float]:
    """Train a network's head in place, its trunk untouched.

    Features are standardised while the head trains, and the standardisation is then made part of its first
    dense layer, so the network stays what it is. Everything drawn depends on `seed` and the step alone.

    Parameters
    ----------
    net : EmbeddingNet or Classifier
        With `trunk` and `head`.
    data : Dataset
        Images; none is augmented here.
    batches : batch sampler
        As in the run itself, from its first epoch on.
    steps : int
        How many batches.
    objective : callable
        Of the head's outputs, the labels and the positions of a batch; gives the loss.
    beside : Module, optional
        What learns with the head: a loss that has weights.
    optimiser : OptimiserSettings
        Its rate, weight decay and kind; the schedule is one-cycle over these steps.
    seed, accelerator
        See `fit`.

    Returns
    -------
    list of float
        The loss of each step.

    Raises
    ------
    ValueError
        If the network has no trunk and head, or the features take more than 4 GiB.
    """
    head: Any = getattr(net, "head", None)
    if not hasattr(net, "trunk") or not hasattr(head, "after_pool"):
        raise ValueError(
            f"head_first needs a network with a trunk and a head, such as EmbeddingNet; {type(net).__name__} has none."
        )
    if getattr(net, "halving", None) is not None:
        raise ValueError(
            'head_first keeps one map of the trunk, and pool="located" looks at two; give head_first=0.'
        )
    trunk = FrozenTrunk(net)
    count = len(data)  # type: ignore[arg-type]
    one, _ = forward_rows(trunk, data, np.zeros(1, dtype=np.int64), accelerator=accelerator, progress=False)
    if (size := one.numel() * 4 * count) > FEATURE_BYTES:
        raise ValueError(
            f"head_first keeps the features of all {count} images, which take {size / 2**30:.1f} GiB; "
            'choose pool="avg", or head_first=0.'
        )
    features, labels = forward_rows(trunk, data, accelerator=accelerator, progress=False)
    place = next(head.parameters()).device
    first = next((layer for layer in head.layers if isinstance(layer, nn.Linear)), None)
    standard = features.ndim == 2 and first is not None and first is _first_dense(head)
    if standard:
        mean, deviation = features.mean(0), features.std(0, correction=0)
        deviation = torch.where(deviation > 1e-6 * deviation.max().clamp(min=1e-12), deviation, torch.inf)
        features = (features - mean) / deviation
    features, labels = features.to(place), labels.to(place)
    learning = nn.ModuleList([head] if beside is None else [head, beside])
    settings = OptimiserSettings(
        lr=optimiser.lr,
        total=steps,
        optimizer=optimiser.optimizer,
        weight_decay=optimiser.weight_decay,
        fused=optimiser.fused,
    )
    built = settings.build(learning)
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    learning.train()
    losses: list[float] = []
    for step, positions in enumerate(Stream(batches, steps, count=count)):
        with torch.enable_grad(), own_rng(place, seed, 5, step):
            rows = features[positions]
            outputs = head.after_pool(rows) if head.pools_first else head(rows)
            loss = objective(outputs, labels[positions], positions)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is {losses[-1]} at step {step + 1} of the head; lower lr.")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()
    if standard:
        assert first is not None
        with torch.no_grad():
            first.weight.div_(deviation.to(place))
            first.bias.sub_(first.weight @ mean.to(place))
    _LOG.info("the head trained alone for %d steps, loss %.3f to %.3f", steps, losses[0], losses[-1])
    return losses


def _first_dense(head: Any) -> nn.Module | None:
    """Give the first layer with weights that follows the pooling."""
    after = [head.classes, *head.layers] if hasattr(head, "classes") else list(head.layers)
    return next((layer for layer in after if isinstance(layer, nn.Linear | nn.BatchNorm1d)), None)
