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
    frozen : Module, optional
        The network with its trunk as given and a head trained on that: with `keep_best`, the run ends with its weights
        where no measurement of the run is better than its own.
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
        frozen: nn.Module | None = None,
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
        self.frozen_figures: dict[str, float] = {}
        self.frozen_weights: dict[str, Tensor] | None = None
        if frozen is not None:
            self.frozen_figures = measure(frozen)
            self.frozen_weights = _weights_of(frozen)
            self._value(self.frozen_figures)  # an unknown monitor is told before the first step

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
        value = self._value(figures)
        if value > self.best:
            self.best, self.bad, self.bad_plateau = value, 0, 0
            if self.keep_best:
                self.weights = _weights_of(net)
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

    def _value(self, figures: dict[str, float]) -> float:
        """Give what counts, more being better."""
        check_choice("monitor", self.monitor, figures)
        return figures[self.monitor] * self._sign

    @property
    def _sign(self) -> float:
        return -1.0 if self.monitor.endswith("loss") else 1.0

    @property
    def falls_back(self) -> bool:
        """Whether the frozen trunk is as good as anything that was measured in the run."""
        measured = self.frozen_weights is not None and self.best > -float("inf")
        return measured and self._value(self.frozen_figures) >= self.best

    def finish(self, net: nn.Module) -> None:
        """Give the network its best weights."""
        if self.falls_back:
            assert self.frozen_weights is not None
            # Of a run on kept features, `net` holds the whole network.
            getattr(net, "net", net).load_state_dict(self.frozen_weights)
            _LOG.warning(
                "training did not help: %s is %.3f with the trunk as given and a head trained on it, and %.3f at its "
                "best in the run; the network ends with the trunk as given and that head.",
                self.monitor,
                self.frozen_figures[self.monitor],
                self._sign * self.best,
            )
        elif self.weights is not None:
            net.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Keep what was best, and how long ago."""
        kept = ("best", "bad", "bad_plateau", "weights", "frozen_figures", "frozen_weights")
        return {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        vars(self).update(state_dict)


def _weights_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in net.state_dict().items()}
