"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler as rates

from siamura.networks import Trunk

__all__ = ["OPTIMISERS", "SCHEDULES", "OptimiserSettings"]

OPTIMISERS = ("adamw", "adam", "sgd")
SCHEDULES = ("onecycle", "cosine", "constant", "plateau")


@dataclass(frozen=True)
class OptimiserSettings:
    """How weights follow gradients.

    Parameters
    ----------
    lr : float
        Highest learning rate.
    total : int
        Steps of the optimiser in the run.
    optimizer : {"adamw", "adam", "sgd"}
        Decoupled or coupled weight decay, or momentum 0.9.
    schedule : {"onecycle", "cosine", "constant", "plateau"}
        ``onecycle`` rises for `warmup` of the run and falls to nothing (Smith and Topin, 2018), ``cosine``
        the same with a linear rise, ``plateau`` divides by ten where the validation stands still.
    warmup : float
        Share of the run in which the rate rises.
    weight_decay : float
        Not on biases, norms, class tokens and position embeddings.
    trunk_lr : float, optional
        Highest rate of the trunk, where it differs from the head's.
    layer_decay : float
        Each block of the trunk (`Trunk.blocks`) learns at this multiple of the rate of the block after it.
    fused : bool
        torch's fused step.
    """

    lr: float
    total: int
    optimizer: str = "adamw"
    schedule: str = "onecycle"
    warmup: float = 0.3
    weight_decay: float = 0.01
    trunk_lr: float | None = None
    layer_decay: float = 1.0
    fused: bool = True

    def __post_init__(self) -> None:
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMISERS),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(known)}.")
        if not self.lr > 0:
            raise ValueError(f"lr={self.lr} must be above 0.")
        if self.trunk_lr is not None and not self.trunk_lr > 0:
            raise ValueError(f"trunk_lr={self.trunk_lr} must be above 0; net.trunk.freeze() keeps the trunk.")
        if not 0.0 <= self.warmup <= 1.0:
            raise ValueError(f"lr_warmup={self.warmup} must lie in 0 to 1: it is a share of the run.")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay={self.weight_decay} must be at least 0.")
        if not 0.0 < self.layer_decay <= 1.0:
            raise ValueError(f"layer_decay={self.layer_decay} must be above 0 and at most 1.")

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameters by rate and decay."""
        trunk = getattr(getattr(model, "net", model), "trunk", None)
        inside = {} if trunk is None else {id(p): name for name, p in trunk.named_parameters()}
        ours = isinstance(trunk, Trunk)
        blocks = trunk.blocks() if ours else _children(inside.values())
        deepest = max(blocks.values(), default=0)
        undecayed = trunk.undecayed() if ours else set()
        found: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for weight in model.parameters():
            if not weight.requires_grad:
                continue
            rate = self.lr
            if id(weight) in inside:
                depth = deepest - blocks[inside[id(weight)]]
                rate = (self.trunk_lr if self.trunk_lr is not None else self.lr) * self.layer_decay**depth
            decays = weight.ndim > 1 and inside.get(id(weight)) not in undecayed
            found.setdefault((rate, decays), []).append(weight)
        if not found:
            raise ValueError("nothing can learn: every weight is frozen; call net.trunk.unfreeze().")
        return [
            {"params": weights, "lr": rate, "weight_decay": self.weight_decay if decays else 0.0}
            for (rate, decays), weights in found.items()
        ]

    def build(self, model: nn.Module) -> Any:
        """Make what Lightning's `configure_optimizers` returns."""
        groups = self.groups(model)
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=self.lr, momentum=0.9, fused=self.fused)
        else:
            kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
            optimizer = kind(groups, lr=self.lr, fused=self.fused)
        schedule: rates.LRScheduler
        if self.schedule in ("constant", "plateau"):
            return optimizer
        if self.schedule == "onecycle":
            schedule = rates.OneCycleLR(
                optimizer,
                [group["lr"] for group in groups],
                total_steps=max(self.total, 2),
                pct_start=self.warmup,
                cycle_momentum=False,
            )
        else:
            rise = max(1, round(self.warmup * self.total))
            schedule = rates.SequentialLR(
                optimizer,
                [
                    rates.LinearLR(optimizer, start_factor=1.0 / rise, total_iters=rise),
                    rates.CosineAnnealingLR(optimizer, T_max=max(1, self.total - rise)),
                ],
                milestones=[rise],
            )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _children(names: Iterable[str]) -> dict[str, int]:
    """Number of the block of each weight of a trunk that is none of ours: its children, in their order."""
    order: dict[str, int] = {}
    return {name: order.setdefault(name.partition(".")[0], len(order)) for name in names}
