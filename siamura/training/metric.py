"""`fit`: train a distance."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from torch import nn
from torch.utils.data import Dataset

from .callbacks import Averaging, CollapseWatch, Validation
from .data import (
    Augment,
    batch_count,
    check_sampler,
    check_valid,
    chosen_augment,
    known_labels,
    without_augmentation,
)
from .engine import RunSettings, run
from .head_first import head_steps, train_head
from .machine import check_weights
from .module import Curriculum, Feed, MetricModule, measured, mines_triplets
from .optimisers import OptimiserSettings
from .validation import NeighbourCheck

__all__ = ["fit", "run_length"]

# Losses that, from scratch, may stay at the margin for ever without a start on all triplets. The selectively
# contrastive one pushes hard negatives away and pulls nothing there: it does not collapse, and has no such value.
_HARD = ("BatchHardTripletLoss", "TripletFocalLoss", "SemiHardTripletLoss")


def fit(
    net: nn.Module,
    data: Dataset[Any],
    batches: Iterable[Sequence[int]],
    loss: nn.Module,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    valid: Dataset[Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    lr: float = 1e-3,
    seed: int = 0,
    warmup_loss: nn.Module | str | None = "auto",
    warmup_steps: int | float | None = None,
    warmup_until: float = 0.9,
    blend: float = 0.5,
    augment: str | Augment | None = None,
    optimizer: str = "adamw",
    schedule: str = "onecycle",
    lr_warmup: float = 0.3,
    weight_decay: float = 0.01,
    trunk_lr: float | None = None,
    layer_decay: float = 1.0,
    clip: float | None = None,
    accumulate: int = 1,
    ema: float | None = None,
    precision: str = "auto",
    channels_last: bool | None = None,
    compile: bool = False,
    freeze_batchnorm: bool | None = None,
    head_first: int | float = 0,
    validate_every: int | None = None,
    monitor: str = "valid_kappa",
    keep_best: bool = False,
    patience: int | None = None,
    checkpoint_every: int | None = 100,
    resume: bool = False,
    on_collapse: str | None = "warn",
    loggers: Sequence[Any] = (),
    callbacks: Sequence[pl.Callback] = (),
    workers: int = 0,
    accelerator: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Train a network on a metric-learning loss.

    Parameters
    ----------
    net : Module
        An `EmbeddingNet`; trained in place, left in eval mode.
    data : Dataset
        A `RadiographDataset`, or any data set of (image, label).
    batches : batch sampler
        Such as `siamura.samplers.PKBatchSampler`: iterable of lists of positions, with a length.
    loss : Module
        A pytorch-metric-learning loss, of (embeddings, labels).
    epochs, steps : int, optional
        Passes over `batches`, and batches; where both are given, the shorter.
    valid : Dataset, optional
        Measured on the fly: loss, P@1 and kappa of a 15-NN vote among at most 512 training images.
    out : path, optional
        Run folder: history.csv, model/ (see `save_pretrained`) and checkpoint.ckpt are written there.
    lr : float
        Highest learning rate.
    seed : int
        Of augmentation and dropout; the sampler has its own. Global random states are left alone.
    warmup_loss : Module, "auto" or None
        The loss of the first steps. From scratch, losses that mine hard triplets can stay at the margin for
        ever; ``"auto"`` gives batch hard, semi-hard and triplet focal a start on all triplets (`TripletLoss` with
        the same margin and distance; 0.2 for a soft margin, and on similarities the default distance), and others
        none.
    warmup_steps : int, float or None
        Steps, or share of the run, that this start takes. None lets the final loss take over as far as it can
        without collapsing: its weight grows while its running mean is below `warmup_until` times its value with
        all embeddings in one point (for most, the margin), and shrinks while it is above.
    warmup_until : float
        See `warmup_steps`.
    blend : float
        Where `warmup_steps` is given: its last share, over which the first loss gives way linearly. 0 switches.
    augment : None, str or callable
        ``"flip"``, another preset of `siamura.pixels.augmentation`, or a function of (images, generator).
    optimizer, schedule, lr_warmup, weight_decay, trunk_lr, layer_decay
        See `OptimiserSettings` (`lr_warmup` is its `warmup`).
    clip : float, optional
        Largest norm of the gradient.
    accumulate : int
        Batches whose gradients add up to one step of the optimiser. Triplets are mined within a batch.
    ema : float, optional
        Decay of a moving average of the weights, which is validated and kept.
    precision : {"auto", "32", "bf16", "fp16"}
        ``"auto"`` is what makes a step fastest: bf16 autocast where the machine computes in it, but float32 for
        depthwise trunks (EfficientNet, MobileNet, ConvNeXt) on a CPU. It goes by the kind of network and machine,
        not by a stopwatch, so the same seed gives the same run. Distances and losses are always float32.
    channels_last : bool, optional
        Memory layout; by default with half precision, and for depthwise trunks on a CPU. What was chosen is in the
        history's ``attrs``, and a resumed run keeps it.
    compile : bool
        `torch.compile` the trunk: a minute or more at the start, for faster steps on a GPU.
    freeze_batchnorm : bool, optional
        Let the trunk's batch norms use and keep the statistics that they have, which a few small batches would
        spoil. By default where the trunk has been given weights.
    head_first : int or float
        Steps, or share of the run's, in which the head trains alone before the run, by `loss` itself, on
        features of the trunk that are computed once without augmentation and kept (at most 4 GiB). They are not
        among `steps` and leave no rows in the history; ``attrs["head_loss"]`` has their losses. Then all layers
        train, the trunk at `trunk_lr` with `layer_decay`.
    validate_every : int, optional
        Steps; by default each epoch, but at most five times. The last step is always measured.
    monitor : str
        The column that `keep_best` and `patience` go by.
    keep_best : bool
        End with the weights of the best validation instead of the last ones.
    patience : int, optional
        Stop after so many validations without a better one.
    checkpoint_every : int or None
        Steps between checkpoints in `out`; None writes none.
    resume : bool
        Go on from the checkpoint in `out`, if there is one. On a CPU the end is bit-identical to that of a
        run that nothing interrupted, wherever it was killed.
    on_collapse : {"warn", "act", "stop"} or None
        What to do when all embeddings become one point; see `CollapseWatch`.
    loggers : sequence
        ``"csv"``, ``"tensorboard"`` (extra ``[tensorboard]``), or Lightning loggers.
    callbacks : sequence
        Lightning callbacks.
    workers : int
        Processes that load batches; 0 loads in this one, which is right for images held in memory.
    accelerator : {"auto", "cpu", "cuda", "mps"}
        Where to compute. Under torchrun or Slurm all processes train together, see docs/training.md.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        One row a step: step, epoch, loss, lr, active_fraction, mean_distance, hardest_positive,
        hardest_negative, objective (the loss that trained, the final one where both did), share (the final loss's
        weight), and with `valid` valid_loss, valid_p1 and valid_kappa (NaN between
        measurements). ``history.attrs["interrupted"]`` tells whether Ctrl-C ended it; ``attrs`` also holds the
        ``steps`` that it was to take, ``precision`` and ``channels_last``.

    Raises
    ------
    ValueError
        If an argument is out of its range, with what would be right; if the images are no grey values from 0 to 255,
        `batches` was made for other data, or there is nothing to learn from (no triplet in any batch).
    OSError
        If a checkpoint cannot be written, as on a full disk; the network is then as the last step left it.
    FloatingPointError
        If the loss becomes infinite or NaN.

    Warns
    -----
    CollapseWarning
        If the embeddings collapse.
    RuntimeWarning
        After Ctrl-C, which ends the run at the next step and returns what there is.

    Examples
    --------
    >>> import torch
    >>> from pytorch_metric_learning.losses import TripletMarginLoss
    >>> from torch.utils.data import TensorDataset
    >>> from siamura.networks import EmbeddingNet
    >>> data = TensorDataset(torch.zeros(8, 1, 32, 32, dtype=torch.uint8), torch.arange(8) % 2)
    >>> net = EmbeddingNet("squeezenet1_1", dim=8)
    >>> history = fit(net, data, [[0, 1, 2, 3], [4, 5, 6, 7]], TripletMarginLoss(), epochs=1, progress=False)
    >>> history[["step", "epoch"]].values.tolist()
    [[1, 1], [2, 1]]
    """
    total = run_length(batches, epochs, steps)
    if (keep_best or patience is not None or schedule == "plateau") and valid is None:
        raise ValueError('keep_best, patience and schedule="plateau" go by validation figures; give valid=.')
    if isinstance(loss, DistributedLossWrapper):
        raise ValueError(
            "loss is a DistributedLossWrapper, but fit gathers the batch of all processes itself; give the loss "
            "in it (loss.loss)."
        )
    check_valid(data, valid)
    check_sampler(batches, data)
    _check_triplets(loss, batches, data)
    check_weights(net)
    _adopt_preprocess(net, data)
    settings = RunSettings(
        out=None if out is None else Path(out),
        resume=resume,
        checkpoint_every=checkpoint_every,
        precision=precision,
        channels_last=channels_last,
        compile=compile,
        freeze_batchnorm=freeze_batchnorm,
        clip=clip,
        accumulate=accumulate,
        accelerator=accelerator,
        progress=progress,
        loggers=loggers,
    ).resolved(net)
    optimiser = OptimiserSettings(
        lr=lr,
        total=-(-total // accumulate),
        optimizer=optimizer,
        schedule=schedule,
        warmup=lr_warmup,
        weight_decay=weight_decay,
        trunk_lr=trunk_lr,
        layer_decay=layer_decay,
        fused=settings.fused,
    )
    made = chosen_augment(augment, data)
    alone = head_steps(head_first, total)
    feed = Feed(data, batches, total, made, seed, workers, head_first=alone)
    curriculum = _curriculum(loss, warmup_loss, warmup_steps, warmup_until, blend, total)
    module = MetricModule(net, curriculum, feed, optimiser, channels_last=settings.layout)
    beside: list[pl.Callback] = []
    if ema is not None:
        beside.append(Averaging(ema))
    if valid is not None:
        check = NeighbourCheck(
            data,
            valid,
            loss,
            batch_size=_batch_size(batches),
            seed=seed,
            precision=settings.numbers,
            accelerator=accelerator,
        )
        usual = max(batch_count(batches), -(-total // 5))
        beside.append(
            Validation(
                check,
                usual if validate_every is None else validate_every,
                total,
                monitor=monitor,
                keep_best=keep_best,
                patience=patience,
                plateau=3 if schedule == "plateau" else None,
            )
        )
    if on_collapse is not None:
        beside.append(CollapseWatch(on_collapse))
    with without_augmentation(data):  # its own augmentation is in the feed, where its draws belong to a step
        head_loss: list[float] = []
        if alone and settings.starts:
            final = measured(loss)
            head_loss = train_head(
                net,
                data,
                batches,
                alone,
                lambda emb, labels, _: final(emb, labels),
                beside=final,
                optimiser=optimiser,
                seed=seed,
                accelerator=accelerator,
            )
        history = run(module, settings, [*beside, *callbacks])
    history.attrs["head_loss"] = head_loss
    return history


def _check_triplets(loss: nn.Module, batches: Iterable[Any], data: Dataset[Any]) -> None:
    """Refuse what can never give a triplet, where that is known before the first step."""
    labels = known_labels(data)
    if labels is not None and len(np.unique(labels)) < 2:
        raise ValueError(
            f"all {len(labels)} rows of data have the label {labels[0] if len(labels) else None}; a distance is learnt "
            "from at least two labels."
        )
    if mines_triplets(loss):
        for name in ("p", "k"):
            if getattr(batches, name, 2) == 1:
                raise ValueError(
                    f"batches has {name}=1: no batch holds a triplet (two rows of one label and one of another), and "
                    f"{type(loss).__name__} learns from nothing else; choose p and k of at least 2."
                )


def run_length(batches: Iterable[Any], epochs: int | None, steps: int | None) -> int:
    """Count the steps of a run: epochs of a sampler, steps, or the shorter of both."""
    for name, value in (("epochs", epochs), ("steps", steps)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    per_epoch = batch_count(batches)
    lengths = [n for n in (None if epochs is None else epochs * per_epoch, steps) if n is not None]
    if not lengths:
        raise ValueError("epochs and steps are both None; give the length of the training in one of them.")
    return min(lengths)


def _curriculum(
    loss: nn.Module,
    warmup: nn.Module | str | None,
    length: int | float | None,
    until: float,
    blend: float,
    total: int,
) -> Curriculum:
    if isinstance(warmup, str) and warmup != "auto":
        raise ValueError(f'warmup_loss={warmup!r} is unknown; give a loss, "auto" or None.')
    if length is not None and (length < 0 or (isinstance(length, float) and length > 1)):
        raise ValueError(
            f"warmup_steps={length!r} must be a share of the run from 0.0 to 1.0, or whole steps."
        )
    for name, value in (("blend", blend), ("warmup_until", until)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name}={value} must lie in 0 to 1.")
    if warmup == "auto":
        warmup = None
        if type(loss).__name__ in _HARD and type(loss).__module__.startswith("siamura."):
            from pytorch_metric_learning.reducers import MeanReducer

            from siamura.losses import TripletLoss

            # Over all triplets, not only the active ones: solved batches then weigh less than unsolved ones.
            margin, distance = getattr(loss, "margin", 0.2), getattr(loss, "distance", None)
            warmup = TripletLoss(
                margin=0.2 if margin == "soft" else float(margin),
                distance=None if distance is None or distance.is_inverted else distance,
                reducer=MeanReducer(),
            )
    assert not isinstance(warmup, str)
    steps = round(length * total) if isinstance(length, float) else length
    if warmup is None or steps == 0:
        return Curriculum(loss)
    steps = None if steps is None else min(steps, total)
    return Curriculum(loss, warmup, steps, blend, until, rise=1.0 / max(1, round(0.1 * total)))


def _adopt_preprocess(net: nn.Module, data: Dataset[Any]) -> None:
    """Let the network remember how its images were made."""
    made = getattr(data, "pre", None)
    if made is not None and hasattr(net, "preprocess"):
        net.preprocess = made


def _batch_size(batches: Iterable[Any]) -> int:
    """Size of a batch, without moving a sampler on."""
    if hasattr(batches, "p") and hasattr(batches, "k"):
        return int(batches.p) * int(batches.k)
    if isinstance(batches, Sequence):
        return len(batches[0])
    return 32
