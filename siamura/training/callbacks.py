"""What happens beside a step: progress, checkpoints, averaging, and the watch against collapse."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from siamura._files import atomic_path, atomic_write, writing

from .module import MetricModule, TrainModule

__all__ = ["Averaging", "Checkpoints", "CollapseWarning", "CollapseWatch", "Progress", "SafeCheckpointIO"]

_LOG = logging.getLogger(__name__)


class CollapseWarning(UserWarning):
    """All embeddings have become one point.

    Examples
    --------
    >>> import warnings
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


class Progress(pl.Callback):
    """One bar for the run, with the figures that tell whether it learns."""

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
        from tqdm.auto import tqdm

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


class Averaging(pl.Callback):
    """An exponential moving average of the network, used for validation and kept at the end.

    Lightning's `WeightAveraging` (2.6 and later) averages from step to step too. It counts by the trainer's
    ``global_step``, which begins anew in a resumed run (the steps that are left are a run of their own to
    Lightning), and would leave out as many updates as were done before. This one goes on exactly.

    Parameters
    ----------
    decay : float
        Weight of the past.

    Examples
    --------
    ``fit(..., ema=0.9)`` makes one itself; as a callback it can be looked at afterwards.

    >>> from siamura import EmbeddingNet, fit
    >>> from siamura.losses import TripletLoss
    >>> data = [(torch.full((1, 32, 32), 60 * i, dtype=torch.uint8), i // 2) for i in range(4)]
    >>> net, averaging = EmbeddingNet("squeezenet1_1", dim=8), Averaging(decay=0.9)
    >>> options = {"callbacks": [averaging], "progress": False}
    >>> history = fit(net, data, [[0, 1, 2, 3]], TripletLoss(), steps=3, **options)
    >>> all(map(torch.equal, net.parameters(), averaging.average.module.parameters()))  # it ends as the average
    True
    """

    def __init__(self, decay: float) -> None:
        if not 0.0 < decay < 1.0:
            raise ValueError(f"ema={decay} must lie between 0 and 1, such as 0.999.")
        self.decay = decay
        self.average: AveragedModel | None = None
        self._state: dict[str, Tensor] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start from the weights at hand, or from the checkpoint's average."""
        module: TrainModule = pl_module
        self.average = AveragedModel(
            module.net,
            multi_avg_fn=get_ema_multi_avg_fn(self.decay),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
        if self._state is not None:
            self.average.load_state_dict(self._state)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Follow the network, once the optimiser has stepped."""
        module: TrainModule = pl_module
        assert self.average is not None
        step = module.step_done + 1
        if step % trainer.accumulate_grad_batches == 0 or step == module.total:
            self.average.update_parameters(module.net)

    def state_dict(self) -> dict[str, Any]:
        """Keep the average."""
        return {} if self.average is None else {"average": self.average.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again, once there is a network."""
        self._state = state_dict.get("average")

    def finish(self, net: nn.Module) -> None:
        """Give the network the average."""
        if self.average is not None:
            net.load_state_dict(self.average.module.state_dict())
        elif self._state is not None:  # the run was complete already
            net.load_state_dict(
                {k.removeprefix("module."): v for k, v in self._state.items() if k != "n_averaged"}
            )


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
        if action not in ("warn", "act", "stop"):
            raise ValueError(f'on_collapse={action!r} is unknown; choose "warn", "act", "stop" or None.')
        self.action = action
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
            still = abs(row["loss"] - margin) < 0.1 * margin
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
            _scale_rates(trainer, 1.0 / 3.0)
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


def _scale_rates(trainer: pl.Trainer, factor: float) -> None:
    """Scale the learning rate, and with it the rest of its schedule."""
    for group in trainer.optimizers[0].param_groups:
        for name in ("lr", "initial_lr", "max_lr", "min_lr"):  # the one-cycle schedule reads its ends here
            if name in group:
                group[name] *= factor
    for config in trainer.lr_scheduler_configs:
        for schedule in getattr(config.scheduler, "_schedulers", [config.scheduler]):
            schedule.base_lrs = [rate * factor for rate in schedule.base_lrs]


def _callbacks(trainer: pl.Trainer) -> list[pl.Callback]:
    found: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return found


class Validation(pl.Callback):
    """Measure every so many steps, write it into the history, and act on it.

    Parameters
    ----------
    measure : callable
        Of the network, gives figures by name (``valid_...``). Called by every process.
    every, total : int
        Steps in between, and of the run, whose last one is measured too.
    monitor : str
        The figure that counts; falling is better where its name ends in ``loss``.
    keep_best : bool
        End with the weights of the best measurement.
    patience : int, optional
        Measurements without a better one until the run stops.
    plateau : int, optional
        Measurements without a better one until the learning rate falls to a tenth.
    """

    def __init__(
        self,
        measure: Callable[[nn.Module], dict[str, float]],
        every: int,
        total: int,
        *,
        monitor: str,
        keep_best: bool = False,
        patience: int | None = None,
        plateau: int | None = None,
    ) -> None:
        for name, value in (("validate_every", every), ("patience", patience)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        self.measure = measure
        self.every = every
        self.total = total
        self.monitor = monitor
        self.keep_best = keep_best
        self.patience = patience
        self.plateau = plateau
        self.best = -float("inf")
        self.weights: dict[str, Tensor] | None = None
        self.bad = 0
        self.bad_plateau = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure when it is time."""
        module: TrainModule = pl_module
        step = module.step_done + 1
        if step % self.every and step != self.total:
            return
        average = next((c.average for c in _callbacks(trainer) if isinstance(c, Averaging)), None)
        net: nn.Module = module.net if average is None else average.module
        figures = self.measure(net)
        module.history[-1].update(figures)
        for logger in trainer.loggers:
            logger.log_metrics(figures, step)
        if self.monitor not in figures:
            raise ValueError(
                f"monitor={self.monitor!r} was not measured; choose one of {', '.join(figures)}."
            )
        value = figures[self.monitor] * (-1.0 if self.monitor.endswith("loss") else 1.0)
        if value > self.best:
            self.best, self.bad, self.bad_plateau = value, 0, 0
            if self.keep_best:
                self.weights = {name: w.detach().cpu().clone() for name, w in net.state_dict().items()}
            return
        self.bad += 1
        self.bad_plateau += 1
        if self.plateau is not None and self.bad_plateau >= self.plateau:
            self.bad_plateau = 0
            _scale_rates(trainer, 0.1)
            _LOG.info("step %d: no better %s, learning rate to a tenth", step, self.monitor)
        if self.stopped:
            _LOG.info("step %d: no better %s in %d measurements, stopped", step, self.monitor, self.bad)
            trainer.should_stop = True

    @property
    def stopped(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.bad >= self.patience

    def finish(self, net: nn.Module) -> None:
        """Give the network its best weights."""
        if self.weights is not None:
            net.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Keep what was best, and how long ago."""
        return {name: getattr(self, name) for name in ("best", "bad", "bad_plateau", "weights")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        vars(self).update(state_dict)
