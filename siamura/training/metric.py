"""`fit`: train a distance."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Unpack, cast

import lightning.pytorch as pl
import numpy as np
import pandas as pd
from pytorch_metric_learning.reducers import MeanReducer
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from torch import Tensor, nn
from torch.utils.data import Dataset

from siamura.losses import TripletLoss
from siamura.networks import Trunk
from siamura.networks.drop_path import residuals

from .callbacks import Averaging, CollapseWatch, Validation
from .curriculum import Curriculum
from .data import augmentation_of, batch_count, check_sampler, check_valid, fetch, known_labels, labels_of
from .early_features import keep_early_features
from .engine import RunSettings, pretrained, run_training
from .growing import check_start_size
from .head_first import head_steps, share_or_steps, train_head
from .locating import BoxedRows, place_boxes
from .machine import check_weights
from .module import Feed, MetricModule, cross_entropy, mines_triplets, without_memory
from .neighbour_check import NeighbourCheck
from .optimisers import OptimiserSettings
from .options import ClassifierOptions, FitOptions
from .recomputing import recomputed
from .typed_options import documented, options_of

__all__ = ["averaging_and_validation", "fit", "run_length"]

_LOG = logging.getLogger(__name__)

_FROZEN_STEPS = 200  # of a head on the frozen trunk, which `keep_best` falls back on

# Losses that, from scratch, may stay at the margin for ever without a start on all triplets. The selectively
# contrastive one pushes hard negatives away and pulls nothing there: it does not collapse, and has no such value.
_HARD = ("BatchHardTripletLoss", "TripletFocalLoss", "SemiHardTripletLoss")


@documented(FitOptions)
def fit(
    net: nn.Module,
    data: Dataset[Any],
    batches: Iterable[Sequence[int]],
    loss: nn.Module,
    **options: Unpack[FitOptions],
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
    {options}

    Returns
    -------
    DataFrame
        One row a step: step, epoch, loss, lr, active_fraction, mean_distance, hardest_positive,
        hardest_negative, objective (the loss that trained, the final one where both did), share (the final loss's
        weight), and with `valid` valid_loss, valid_p1 and valid_kappa of a 15-NN vote among at most 512 training
        images (NaN between measurements); with `classify` also metric_loss and classification_loss, the two terms of
        the loss, with `lesions` location_loss. ``history.attrs["interrupted"]`` says whether Ctrl-C ended it; ``attrs``
        also holds the ``steps`` that it was to take, ``precision``, ``channels_last``, ``freeze_batchnorm`` and
        ``drop_path``.

    Raises
    ------
    TypeError
        If there is no such option.
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
    chosen = options_of(FitOptions, options, "fit")
    valid, seed = chosen["valid"], chosen["seed"]
    total = run_length(batches, chosen["epochs"], chosen["steps"])
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
    if chosen["classify"]:
        _add_classifier(net, data, seed)
    if chosen["compile"] and getattr(net, "halving", None) is not None:
        raise ValueError('compile=True and pool="located" exclude each other: it looks inside the trunk.')
    boxes = {}
    if chosen["lesions"] is not None:
        if getattr(net, "config", {}).get("pool") != "located":
            raise ValueError(
                'lesions needs a network that looks for places: EmbeddingNet(..., pool="located").'
            )
        boxes = place_boxes(data, chosen["lesions"], progress=chosen["progress"])
    if chosen["start_size"] is not None:
        check_start_size(net, chosen["start_size"], fetch(data, [0])[0])
    settings = RunSettings.of(chosen, net, drop_path=_usual_drop_path(net))
    optimiser = OptimiserSettings.of(chosen, total, fused=settings.fused)
    alone = head_steps(chosen["head_first"], total)
    curriculum = _curriculum(loss, chosen, total)
    check = None
    if valid is not None:
        check = NeighbourCheck(
            data,
            valid,
            loss,
            batch_size=_batch_size(batches),
            seed=seed,
            precision=settings.precision,
            accelerator=chosen["accelerator"],
        )
    # The data set's own augmentation is in the feed, where its draws belong to a step.
    with augmentation_of(data, chosen["augment"]) as augment:
        head_loss: list[float] = []
        if alone and settings.starts:
            head_loss = _train_head(net, data, batches, alone, loss, chosen, optimiser)
        frozen = None
        if check is not None and chosen["keep_best"] and settings.starts and pretrained(net):
            frozen = _frozen(net, data, batches, alone, loss, chosen, optimiser)
        beside = averaging_and_validation(
            chosen,
            None if check is None else _OfWhole(check),
            max(batch_count(batches), -(-total // 5)),
            total,
            frozen=frozen,
        )
        if chosen["on_collapse"] is not None:
            beside.append(CollapseWatch(chosen["on_collapse"]))
        learner, rows, images = net, data, True
        cut, masks = None, augment
        if not chosen["compile"] and chosen["start_size"] is None:
            cut = keep_early_features(
                net, data, augment, chosen["cache_features"], accelerator=chosen["accelerator"]
            )
        if cut is not None:
            learner, rows, augment = cut
            images = False
        if boxes:
            rows = BoxedRows(rows, boxes, int(fetch(data, [0])[0].shape[-1]))
        feed = Feed(
            rows, batches, total, augment, seed, chosen["workers"], images, alone, chosen["start_size"], masks
        )
        module = MetricModule(
            learner,
            curriculum,
            feed,
            optimiser,
            classify=chosen["classify"],
            locate=chosen["locate"],
            channels_last=settings.channels_last,
        )
        with recomputed(net) if chosen["recompute"] else nullcontext():
            history = run_training(module, settings, [*beside, *chosen["callbacks"]])
    net.eval()
    history.attrs["head_loss"] = head_loss
    if isinstance(k := getattr(batches, "k", None), int | Mapping) and hasattr(batches, "labels"):
        each = (
            k if isinstance(k, Mapping) else dict.fromkeys(np.unique(np.asarray(batches.labels)).tolist(), k)
        )
        history.attrs["drawn"] = dict(each)  # images of each class in a batch
    return history


class _OfWhole:
    """Measures the whole network, of which the later layers alone may be training."""

    def __init__(self, check: NeighbourCheck) -> None:
        self.check = check

    def __call__(self, learner: nn.Module) -> dict[str, float]:
        whole: nn.Module = getattr(learner, "net", learner)
        return self.check(whole)


def _add_classifier(net: Any, data: Dataset[Any], seed: int) -> None:
    """See that the network has a classifier of as many classes as the labels are, or give it one."""
    if not hasattr(net, "add_neck"):
        raise ValueError(f"classify needs an EmbeddingNet; a {type(net).__name__} takes no classifier.")
    labels = labels_of(data)
    classes = int(labels.max()) + 1 if len(labels) else 0
    if labels.min(initial=0) < 0 or classes < 2:
        raise ValueError(
            f"classify needs labels that are codes from 0 on, of two classes or more; data has {np.unique(labels)[:5]}."
        )
    if net.neck is None:
        net.add_neck(classes, seed=seed)
    elif net.neck.dense.out_features < classes:
        raise ValueError(
            f"the network's classifier has {net.neck.dense.out_features} classes, and data has labels up to "
            f"{classes - 1}; give net.add_neck({classes})."
        )


def _usual_drop_path(net: nn.Module) -> float | None:
    """Rate for a trunk that began with trained weights, and has residual blocks that learn and no rate of its own."""
    trunk = getattr(net, "trunk", None)
    if not isinstance(trunk, Trunk) or not pretrained(net):
        return None
    found = residuals(trunk)
    own = any(one.rate for one in found)
    return None if own or not any(one.learns for one in found) else 0.2


def _train_head(
    net: Any,
    data: Dataset[Any],
    batches: Iterable[Any],
    steps: int,
    loss: nn.Module,
    chosen: FitOptions,
    optimiser: OptimiserSettings,
) -> list[float]:
    """Train the head alone, by the loss and, where asked for, its cross-entropy."""
    final, weight = without_memory(loss), chosen["classify"]

    def objective(emb: Tensor, labels: Tensor, _: list[int]) -> Tensor:
        value: Tensor = final(emb, labels)
        return value + weight * cross_entropy(net, emb, labels) if weight else value

    return train_head(
        net,
        data,
        batches,
        steps,
        objective,
        beside=nn.ModuleList([final, net.neck]) if weight else final,
        optimiser=optimiser,
        seed=chosen["seed"],
        accelerator=chosen["accelerator"],
    )


def _frozen(
    net: Any,
    data: Dataset[Any],
    batches: Iterable[Any],
    alone: int,
    loss: nn.Module,
    chosen: FitOptions,
    optimiser: OptimiserSettings,
) -> nn.Module | None:
    """Give what training has to beat: the network with its trunk as given, and a head trained on that."""
    if alone:
        return cast("nn.Module", net)
    other = copy.deepcopy(net)
    steps = min(_FROZEN_STEPS, optimiser.total)
    try:
        _train_head(other, data, batches, steps, copy.deepcopy(loss), chosen, optimiser)
    except ValueError as error:
        _LOG.warning("keep_best has no frozen trunk to fall back on: %s", error)
        return None
    return cast("nn.Module", other.eval())


def averaging_and_validation(
    options: FitOptions | ClassifierOptions,
    check: Callable[[nn.Module], dict[str, float]] | None,
    every: int,
    total: int,
    *,
    frozen: nn.Module | None = None,
) -> list[pl.Callback]:
    """Make the callbacks of averaging and validation; `every` counts where no `validate_every` is given."""
    plateau = options["schedule"] == "plateau"
    beside: list[pl.Callback] = []
    if options["ema"] is not None:
        beside.append(Averaging(options["ema"]))
    if check is not None:
        beside.append(
            Validation(
                check,
                options["validate_every"] or every,
                total,
                monitor=options["monitor"],
                keep_best=options["keep_best"] is not False,
                patience=options["patience"],
                plateau=3 if plateau else None,
                frozen=frozen,
            )
        )
    return beside


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
    per_epoch = batch_count(batches)
    lengths = [n for n in (None if epochs is None else epochs * per_epoch, steps) if n is not None]
    if not lengths:
        raise ValueError("epochs and steps are both None; give the length of the training in one of them.")
    return min(lengths)


def _curriculum(loss: nn.Module, options: FitOptions, total: int) -> Curriculum:
    warmup, length = options["warmup_loss"], options["warmup_steps"]
    if isinstance(warmup, str) and warmup != "auto":
        raise ValueError(f'warmup_loss={warmup!r} is unknown; give a loss, "auto" or None.')
    if length is not None:
        length = share_or_steps("warmup_steps", length)
    if warmup == "auto":
        warmup = None
        # A cross-entropy on the same embedding keeps it from becoming one point.
        if (
            not options["classify"]
            and type(loss).__name__ in _HARD
            and type(loss).__module__.startswith("siamura.")
        ):
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
    rise = 1.0 / max(1, round(0.1 * total))
    return Curriculum(loss, warmup, steps, options["blend"], options["warmup_until"], rise)


def _adopt_preprocess(net: nn.Module, data: Dataset[Any]) -> None:
    """Let the network remember how its images were made."""
    made = getattr(data, "pre", None)
    if made is not None and hasattr(net, "preprocess"):
        net.preprocess = made


def _batch_size(batches: Iterable[Any]) -> int:
    """Size of a batch, without moving a sampler on."""
    if (size := getattr(batches, "batch_size", None)) is not None:
        return int(size)
    if isinstance(batches, Sequence):
        return len(batches[0])
    return 32
