"""The watch against embeddings that all become one point."""

from __future__ import annotations

import warnings
from typing import Any

import lightning.pytorch as pl

from siamura._validation import check_choice

from ..module import MetricModule
from ..optimisers import scale_rates

__all__ = ["CollapseWarning", "CollapseWatch"]


class CollapseWarning(UserWarning):
    """All embeddings have become one point.

    Examples
    --------
    >>> import warnings
    >>> import torch
    >>> from siamura import EmbeddingNet, fit
    >>> from siamura.losses import TripletLoss
    >>> black = [(torch.zeros(1, 32, 32, dtype=torch.uint8), label) for label in (0, 0, 1, 1)]
    >>> net = EmbeddingNet("squeezenet1_1", dim=8)
    >>> with warnings.catch_warnings(action="error", category=CollapseWarning):
    ...     try:
    ...         fit(net, black, [[0, 1, 2, 3]], TripletLoss(margin=0.2), steps=25, progress=False)
    ...     except CollapseWarning as warning:
    ...         print(warning)
    step 25: the embeddings have collapsed (mean distance 0.0...
    """


class CollapseWatch(pl.Callback):
    """See that all embeddings become one point: loss at the margin and distances near zero for some steps.

    Parameters
    ----------
    action : {"warn", "act", "stop"}
        Say so; lower the rate to a third and go back to all triplets for a while; or stop.
    patience : int
        Steps in a row that make a collapse.
    distance : float
        Mean distance below which the embeddings count as one point (their lengths are 1).
    back : int
        Steps that ``"act"`` trains on all triplets.

    Examples
    --------
    >>> import warnings
    >>> import torch
    >>> from siamura import EmbeddingNet, fit
    >>> from siamura.losses import TripletLoss
    >>> black = [(torch.zeros(1, 32, 32, dtype=torch.uint8), label) for label in (0, 0, 1, 1)]
    >>> net, watch = EmbeddingNet("squeezenet1_1", dim=8), CollapseWatch("stop", patience=2)
    >>> options = {"on_collapse": None, "callbacks": [watch], "progress": False}
    >>> with warnings.catch_warnings(action="ignore", category=CollapseWarning):
    ...     history = fit(net, black, [[0, 1, 2, 3]], TripletLoss(), steps=9, **options)
    >>> watch.stopped, len(history)
    (True, 2)
    """

    HELP = (
        "What helps: a lower lr, a longer warm-up on all triplets (warmup_steps), normalised embeddings, "
        'a larger P x K, or on_collapse="act".'
    )

    def __init__(
        self, action: str = "warn", *, patience: int = 25, distance: float = 0.05, back: int = 50
    ) -> None:
        self.action = check_choice("on_collapse", action, ("warn", "act", "stop"))
        self.patience = patience
        self.distance = distance
        self.back = back
        self.count = 0
        self.factor = 1.0
        self.stopped = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the steps that look collapsed."""
        module: MetricModule = pl_module
        row = module.history[-1]
        margin = getattr(module.loss, "margin", None)
        still = row["mean_distance"] < self.distance
        if still and isinstance(margin, float):
            still = abs(row.get("metric_loss", row["loss"]) - margin) < 0.1 * margin
        self.count = self.count + 1 if still else 0
        if self.count < self.patience:
            return
        self.count = 0
        told = (
            f"step {row['step']}: the embeddings have collapsed (mean distance {row['mean_distance']:.4f}, "
            f"loss {row['loss']:.4f} at the margin for {self.patience} steps)."
        )
        if self.action == "act":
            self.factor /= 3.0
            scale_rates(trainer, 1.0 / 3.0)
            module.curriculum.back = module.step_done + 1 + self.back
            told += f" The learning rate is cut to {self.factor:.2g} of its schedule"
            told += ", and all triplets train again for a while." if module.warmup is not None else "."
        elif self.action == "stop":
            trainer.should_stop = self.stopped = True
            told += " Stopped. " + self.HELP
        else:
            told += " " + self.HELP
        # Further up is Lightning, whose warnings are quiet.
        warnings.warn(told, CollapseWarning, stacklevel=1)

    def state_dict(self) -> dict[str, Any]:
        """Count and factor."""
        return {"count": self.count, "factor": self.factor, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them up again."""
        self.count, self.factor = state_dict["count"], state_dict["factor"]
        self.stopped = self.action == "stop" and state_dict.get("stopped", False)
