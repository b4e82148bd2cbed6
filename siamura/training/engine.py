"""One run of Lightning: quiet, interruptible, resumable."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from siamura.networks import Trunk
from siamura.networks.drop_path import drop_paths

from .callbacks import Checkpoints, Progress, SafeCheckpointIO, write_history
from .machine import processes, resolve_channels_last, resolve_device, resolve_precision
from .module import TrainModule
from .options import TrainingOptions
from .synced_batch_norm import SyncedBatchNorm

__all__ = ["RunSettings", "pretrained", "run_training"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSettings:
    """Where and how a run computes, settled for a network on this machine; see `TrainingOptions`."""

    out: Path | None
    resume: bool
    checkpoint_every: int | None
    precision: str
    channels_last: bool
    compile: bool
    freeze_batchnorm: bool
    drop_path: float | None
    clip: float | None
    accumulate: int
    accelerator: str
    progress: bool
    loggers: Sequence[Any]

    @classmethod
    def of(
        cls, options: TrainingOptions, net: torch.nn.Module, *, drop_path: float | None = None
    ) -> RunSettings:
        """Settle the options of a run: what a network on this machine computes in; a resumed run keeps what it had.

        `drop_path` is its rate where the options give none.
        """
        given: dict[str, Any] = {held.name: options.get(held.name) for held in fields(cls)}
        given["out"] = None if options["out"] is None else Path(options["out"])
        if options["resume"] and options["out"] is None:
            raise ValueError("resume=True needs the folder of the run to go on with; give out=.")
        settings = cls(**given)
        held: dict[str, Any] = {}
        if not settings.starts:
            assert settings.checkpoint is not None
            held = SafeCheckpointIO().load_checkpoint(settings.checkpoint)["siamura"].get("computed", {})
        precision = held.get("precision", "auto") if given["precision"] == "auto" else given["precision"]
        precision = resolve_precision(precision, settings.device, net)
        last = held.get("channels_last") if given["channels_last"] is None else given["channels_last"]
        last = resolve_channels_last(last, precision, settings.device, net)
        frozen = (
            held.get("freeze_batchnorm") if given["freeze_batchnorm"] is None else given["freeze_batchnorm"]
        )
        if frozen is None:
            frozen = pretrained(net)
        drop = held.get("drop_path") if given["drop_path"] is None else given["drop_path"]
        if drop is None and settings.starts:
            drop = drop_path
        _LOG.info("computing in %s, channels %s", precision, "last" if last else "first")
        return replace(
            settings, precision=precision, channels_last=last, freeze_batchnorm=frozen, drop_path=drop
        )

    @property
    def starts(self) -> bool:
        """Whether the run begins at its first step, and not from a checkpoint."""
        return not (self.resume and self.checkpoint is not None and self.checkpoint.is_file())

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return resolve_device(self.accelerator)

    @property
    def fused(self) -> bool:
        """Whether the optimiser may use torch's fused step: Lightning does not clip for it in half precision."""
        return self.precision == "32" or (self.precision == "bf16" and self.clip is None)

    @property
    def checkpoint(self) -> Path | None:
        """The one checkpoint of the run."""
        return None if self.out is None else self.out / "checkpoint.ckpt"


def run_training(
    module: TrainModule, settings: RunSettings, callbacks: Sequence[pl.Callback]
) -> pd.DataFrame:
    """Train, and leave a usable state whatever ends it.

    Parameters
    ----------
    module : TrainModule
        What to train.
    settings : RunSettings
        How.
    callbacks : sequence of Callback
        Beside progress and checkpoints. Those with a method ``finish(net)`` have the last word on the
        weights.

    Returns
    -------
    DataFrame
        The history, one row a step. Its ``attrs`` say whether the run was ``interrupted``, how many ``steps`` it
        was to take, in what ``precision`` and layout (``channels_last``) it computed, and what it did with batch norms
        (``freeze_batchnorm``) and residual blocks (``drop_path``; None leaves them as the trunk has them).
    """
    net = module.net
    module.computed = {
        "precision": settings.precision,
        "channels_last": settings.channels_last,
        "freeze_batchnorm": settings.freeze_batchnorm,
        "drop_path": settings.drop_path,
    }
    local, nodes = processes()
    many = local * nodes > 1
    place = next(net.parameters()).device
    source = None if settings.starts else settings.checkpoint
    if settings.channels_last:
        net.to(memory_format=torch.channels_last)
    plugins: list[Any] = [SafeCheckpointIO()]
    if many and settings.device.type == "cpu":
        plugins.append(SyncedBatchNorm())
    interrupt = Interrupt()
    beside: list[pl.Callback] = [*callbacks, interrupt, RowLogger()]
    if settings.progress:
        beside.append(Progress())
    if settings.checkpoint is not None and settings.checkpoint_every is not None:
        beside.append(Checkpoints(settings.checkpoint, settings.checkpoint_every, settings.accumulate))
    with quiet(), interrupt.listening():
        trainer = pl.Trainer(
            accelerator=settings.device.type,
            devices=local if many else 1,
            num_nodes=nodes,
            strategy="ddp" if many else "auto",
            precision=_PRECISIONS[settings.precision],
            max_epochs=1,
            gradient_clip_val=settings.clip,
            accumulate_grad_batches=settings.accumulate,
            sync_batchnorm=many and settings.device.type == "cuda",
            use_distributed_sampler=False,
            callbacks=beside,
            plugins=plugins,
            logger=_loggers(settings),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=settings.out,
        )
        terminated = False
        try:
            net.train()
            if settings.freeze_batchnorm:
                keep_statistics(net)
            with _dropping(net, settings.drop_path), _compiled(net, settings.compile):
                trainer.fit(module, ckpt_path=source, weights_only=True)
        except SystemExit as error:  # Lightning's answer to a KeyboardInterrupt, and to SIGTERM
            if not trainer.interrupted:
                raise
            interrupt.asked = True
            terminated = isinstance(error, SIGTERMException)
        finally:
            net.eval().to(place)
    for callback in callbacks:
        if hasattr(callback, "finish"):
            callback.finish(net)
    history = pd.DataFrame(module.history)
    history.attrs.update(module.computed, interrupted=interrupt.asked, steps=module.total)
    if interrupt.asked:
        kept = "" if settings.out is None else f" and saved in {settings.out}; resume=True goes on"
        warnings.warn(
            f"interrupted after step {module.step_done} of {module.total}; the network is as that step left "
            f"it{kept}.",
            RuntimeWarning,
            stacklevel=3,
        )
    if settings.out is not None and trainer.is_global_zero:
        write_history(module.history, settings.out)
        if hasattr(net, "save_pretrained"):
            net.save_pretrained(settings.out / "model")  # type: ignore[operator]
    if terminated:
        raise SystemExit(128 + signal.SIGTERM)
    return history


def pretrained(net: torch.nn.Module) -> bool:
    """Whether weights were given for a network's trunk."""
    return bool(getattr(getattr(net, "trunk", None), "weights_given", False))


def _dropping(net: torch.nn.Module, rate: float | None) -> AbstractContextManager[None]:
    """Let the residual blocks of a network's trunk be passed over at a rate; None leaves them as they are."""
    trunk = getattr(net, "trunk", None)
    if rate is None or (rate == 0 and not isinstance(trunk, Trunk)):
        return nullcontext()
    if not isinstance(trunk, Trunk):
        raise ValueError(
            f"drop_path={rate}: no residual block of a trunk learns. Leave it out, or unfreeze some."
        )
    return drop_paths(trunk, rate)


def keep_statistics(net: torch.nn.Module) -> None:
    """Let the batch norms of a network's trunk (or of all of it) use and keep the statistics that they have."""
    for layer in getattr(net, "trunk", net).modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.eval()


_PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Interrupt(pl.Callback):
    """Ctrl-C ends the run after the step at hand; a second one ends it at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over SIGINT where that is possible: in the main thread."""
        before = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()

        def ask(number: int, frame: Any) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True

        if main:
            signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            if main:
                signal.signal(signal.SIGINT, before)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop at a whole step of the optimiser."""
        module: TrainModule = pl_module
        if self.asked and (module.step_done + 1) % trainer.accumulate_grad_batches == 0:
            trainer.should_stop = True


class RowLogger(pl.Callback):
    """Hand each step's figures to Lightning's loggers."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the numbers of the row."""
        module: TrainModule = pl_module
        row = module.history[-1]
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if isinstance(v, float)}, row["step"])


def _loggers(settings: RunSettings) -> Any:
    """Lightning's loggers by name; none makes no folder."""
    found: list[Any] = []
    for logger in (settings.loggers,) if isinstance(settings.loggers, str) else settings.loggers:
        if not isinstance(logger, str):
            found.append(logger)
        elif settings.out is None:
            raise ValueError(f"loggers={logger!r} needs a folder to write to; give out=.")
        elif logger == "tensorboard":
            try:
                found.append(TensorBoardLogger(settings.out, name="", version="tensorboard"))
            except ModuleNotFoundError as error:
                raise ImportError(
                    'loggers="tensorboard" needs the tensorboard package: pip install "siamura[tensorboard]".'
                ) from error
        elif logger == "csv":
            found.append(CSVLogger(settings.out, name="", version="csv"))
        elif logger == "mlflow":
            found.append(_extra("mlflow", partial(MLFlowLogger, save_dir=str(settings.out / "mlflow"))))
        elif logger == "wandb":
            found.append(_extra("wandb", partial(WandbLogger, save_dir=str(settings.out))))
        else:
            raise ValueError(
                f"loggers={logger!r} is unknown; choose csv, tensorboard, mlflow, wandb, or a Lightning logger."
            )
    return found or False


def _extra(package: str, make: Callable[[], Any]) -> Any:
    """Make a logger whose package siamura does not bring."""
    try:
        return make()
    except ModuleNotFoundError as error:
        raise ImportError(
            f'loggers="{package}" needs the {package} package: pip install {package}.'
        ) from error


@contextmanager
def _compiled(net: torch.nn.Module, wanted: bool) -> Iterator[None]:
    """Compile the trunk while training; its names and its saved form stay as they are."""
    trunk: Any = getattr(net, "trunk", net)
    if wanted:
        trunk.compile()
    try:
        yield
    finally:
        if wanted:
            trunk._compiled_call_impl = None


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's banners, and its advice on settings that are chosen here."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = [(logger := logging.getLogger(name), logger.level) for name in names]
    for logger, _ in levels:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=PossibleUserWarning)
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)
