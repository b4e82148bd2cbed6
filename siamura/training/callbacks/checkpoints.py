"""Checkpoints that are whole, hold no code, and let a run go on exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from siamura._files import atomic_path, atomic_write, writing

from ..module import TrainModule

__all__ = ["Checkpoints", "SafeCheckpointIO", "write_history"]


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoints written beside and renamed, and read without running pickled code.

    A resumed run is a new Lightning run over the steps that are left, so Lightning's own counts are left out.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write beside, flush to the disk, rename."""
        path = Path(path)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path, durable=True) as beside, beside.open("wb") as file:
                torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Tensors and plain values only."""
        try:
            held: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            held.pop("loops", None)
            held["siamura"]["step_done"]
        except Exception as error:  # a cut file, pickled code, another program's checkpoint
            raise ValueError(
                f"{path} is no checkpoint of siamura.fit ({type(error).__name__}); remove it."
            ) from error
        return held


class Checkpoints(pl.Callback):
    """Write a checkpoint every so many steps, after everything else of the step is done.

    Parameters
    ----------
    path : Path
        Overwritten each time.
    every : int
        Steps in between.
    accumulate : int
        Batches whose gradients add up; a checkpoint never falls between them.
    """

    def __init__(self, path: Path, every: int, accumulate: int = 1) -> None:
        self.path = path
        self.every = -(-every // accumulate) * accumulate

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Save: the step before is complete now, its validation included."""
        module: TrainModule = pl_module
        if module.step_done and module.step_done % self.every == 0:
            self._save(trainer, module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Save: the run is complete, or was asked to stop."""
        module: TrainModule = pl_module
        self._save(trainer, module)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Save after SIGTERM, which Lightning answers between two steps."""
        module: TrainModule = pl_module
        if (
            isinstance(exception, SIGTERMException)
            and module.step_done % trainer.accumulate_grad_batches == 0
        ):
            self._save(trainer, module)

    def _save(self, trainer: pl.Trainer, module: TrainModule) -> None:
        trainer.save_checkpoint(self.path)
        if trainer.is_global_zero:
            write_history(module.history, self.path.parent)


def write_history(history: list[dict[str, Any]], folder: Path) -> None:
    """Write history.csv beside and rename."""
    with writing(folder / "history.csv"):
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / "history.csv", pd.DataFrame(history).to_csv(index=False, lineterminator="\n"))
