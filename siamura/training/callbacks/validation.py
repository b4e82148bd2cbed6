"""Validation within a run, and what follows from it: the best weights, an early stop, a lower rate."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from torch import Tensor, nn

from siamura._validation import check_choice, check_whole

from ..module import TrainModule
from ..optimisers import scale_rates
from .averaging import Averaging

__all__ = ["Validation"]

_LOG = logging.getLogger(__name__)


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
            if value is not None:
                check_whole(name, value)
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
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        average = next((c.average for c in callbacks if isinstance(c, Averaging)), None)
        net: nn.Module = module.net if average is None else average.module
        figures = self.measure(net)
        module.history[-1].update(figures)
        for logger in trainer.loggers:
            logger.log_metrics(figures, step)
        check_choice("monitor", self.monitor, figures)
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
            scale_rates(trainer, 0.1)
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
