"""The progress bar of a run."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from tqdm.auto import tqdm

from ..module import TrainModule

__all__ = ["Progress"]


class Progress(pl.Callback):
    """One bar for the run, with the figures that show whether it learns."""

    SHOWN = (
        ("loss", "loss"),
        ("active_fraction", "active"),
        ("mean_distance", "distance"),
        ("accuracy", "accuracy"),
        ("valid_loss", "valid loss"),
        ("valid_p1", "P@1"),
        ("valid_accuracy", "valid accuracy"),
        ("valid_kappa", "kappa"),
    )

    def __init__(self) -> None:
        self._bar: Any = None
        self._valid: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Open the bar."""
        module: TrainModule = pl_module

        self._bar = tqdm(
            total=module.total,
            initial=module.step_done,
            desc="training",
            unit="step",
            disable=not trainer.is_global_zero,
            mininterval=0.5,
            dynamic_ncols=True,
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the step's figures, and the last validation's."""
        module: TrainModule = pl_module
        row = module.history[-1]
        self._valid |= {k: v for k, v in row.items() if k.startswith("valid_")}
        shown = {**row, **self._valid}
        self._bar.set_postfix(
            {name: f"{shown[key]:.3f}" for key, name in self.SHOWN if key in shown}, refresh=False
        )
        self._bar.update()

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Close it."""
        self._bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Close it too."""
        if self._bar is not None:
            self._bar.close()
