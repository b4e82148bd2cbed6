"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import lightning.pytorch as pl
import torch
from torch import nn
from torch.optim import lr_scheduler as rates

from siamura.networks import Trunk

from .options import TrainingOptions

__all__ = ["OptimiserSettings", "scale_rates"]


@dataclass(frozen=True)
class OptimiserSettings:
    """How weights follow gradients.

    Parameters
    ----------
    lr, optimizer, schedule, weight_decay, trunk_lr, layer_decay
        See `TrainingOptions`; `warmup` is its ``lr_warmup``.
    total : int
        Steps of the optimiser in the run.
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

    @classmethod
    def of(cls, options: TrainingOptions, steps: int, *, fused: bool) -> Self:
        """Take them from the options of a run of so many batches."""
        return cls(
            lr=options["lr"],
            total=-(-steps // options["accumulate"]),
            optimizer=options["optimizer"],
            schedule=options["schedule"],
            warmup=options["lr_warmup"],
            weight_decay=options["weight_decay"],
            trunk_lr=options["trunk_lr"],
            layer_decay=options["layer_decay"],
            fused=fused,
        )

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameters by rate and decay."""
        trunk = getattr(getattr(model, "net", model), "trunk", None)
        inside = {} if trunk is None else {id(p): name for name, p in trunk.named_parameters()}
        blocks = trunk.blocks() if isinstance(trunk, Trunk) else _children(inside.values())
        deepest = max(blocks.values(), default=0)
        undecayed = trunk.undecayed() if isinstance(trunk, Trunk) else set()
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


def scale_rates(trainer: pl.Trainer, factor: float) -> None:
    """Scale the learning rate, and with it the rest of its schedule."""
    for group in trainer.optimizers[0].param_groups:
        for name in ("lr", "initial_lr", "max_lr", "min_lr"):  # the one-cycle schedule reads its ends here
            if name in group:
                group[name] *= factor
    for config in trainer.lr_scheduler_configs:
        for schedule in getattr(config.scheduler, "_schedulers", [config.scheduler]):
            schedule.base_lrs = [rate * factor for rate in schedule.base_lrs]
