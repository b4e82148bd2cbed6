"""The Lightning modules: one step, its random numbers, and what a metric learns from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from pytorch_metric_learning.losses import CrossBatchMemory
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from siamura.networks.locator import watched
from siamura.pixels.checks import check_augmented, check_gray

from .curriculum import Curriculum
from .data import Augment, Stream, batch_count, stream_loader
from .distributed import gather_rows, rank_and_world
from .growing import side_at, to_side
from .locating import places_loss
from .optimisers import OptimiserSettings
from .seeds import own_rng, step_generator, step_seed

__all__ = ["Feed", "MetricModule", "NothingToLearn", "TrainModule", "cross_entropy", "mines_triplets"]

# Steps without a single triplet after which a run is given up.
PATIENCE = 50


class NothingToLearn(ValueError):
    """A run whose loss never had anything to learn from."""


@dataclass
class Feed:
    """Where a run's batches come from.

    Parameters
    ----------
    data : Dataset
        Images and labels.
    batches : iterable of lists of int
        The batch sampler.
    total : int
        Steps of the run.
    augment : callable, optional
        Of (images, generator).
    seed : int
        Of augmentation and dropout.
    workers : int
        Processes that load.
    images : bool
        Whether these are images, grey from 0 to 255, and not features.
    head_first : int
        Steps that the head took before.
    start_size : int, optional
        Side of the first images, see `side_at`.
    augment_masks : callable, optional
        Of (masks, generator), where the data set gives masks of boxes too: what `augment` does to the images' places.
    """

    data: Dataset[Any]
    batches: Any
    total: int
    augment: Augment | None = None
    seed: int = 0
    workers: int = 0
    images: bool = True
    head_first: int = 0
    start_size: int | None = None
    augment_masks: Augment | None = None


class TrainModule(pl.LightningModule):
    """What training a metric and training a classifier share.

    Parameters
    ----------
    net : Module
        What learns.
    feed : Feed
        Its batches.
    optimiser : OptimiserSettings
        How it learns.
    channels_last : bool
        Memory layout of images.

    Attributes
    ----------
    step_done : int
        Steps done since the run's very start, interruptions included.
    history : list of dict
        One row a step.
    computed : dict
        Precision and memory layout, which a resumed run keeps.
    """

    def __init__(
        self, net: nn.Module, feed: Feed, optimiser: OptimiserSettings, *, channels_last: bool = False
    ) -> None:
        super().__init__()
        self.net = net
        self._feed = feed
        self._optimiser = optimiser
        self._channels_last = channels_last
        self.step_done = 0
        self.history: list[dict[str, Any]] = []
        self.computed: dict[str, Any] = {}

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self._feed.total

    def objective(self, images: Tensor, labels: Tensor, *boxes: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Loss of a batch, and what the history keeps of it; `boxes` as `BoxedRows` gives them, where it does."""
        raise NotImplementedError

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """One step, with random numbers of its own."""
        images, labels, *boxes = batch
        rank, _ = rank_and_world()
        if self._feed.images:
            check_gray(images)
        if self._feed.augment is not None:
            made = self._augmented(images, self._feed.augment)
            images = check_augmented(images, made) if self._feed.images else made
        if boxes and self._feed.augment_masks is not None:
            boxes[0] = self._augmented(boxes[0], self._feed.augment_masks)
        if (start := self._feed.start_size) is not None:
            images = to_side(images, side_at(self.step_done, self.total, start, images.shape[-1]))
        if self._channels_last and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        with own_rng(self.device, self._feed.seed, 1, self.step_done, rank):
            loss, row = self.objective(images, labels, *boxes)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at step {self.step_done + 1}; lower lr, raise the loss's sigma or "
                "temperature, or train in precision='32'. The last checkpoint, if there is one, is sound."
            )
        rates = [group["lr"] for group in self.trainer.optimizers[0].param_groups]
        per_epoch = batch_count(self._feed.batches)
        self.history.append(
            {
                "step": self.step_done + 1,
                "epoch": self.step_done // per_epoch + 1,
                "loss": value,
                "lr": max(rates),
                **row,
            }
        )
        return loss

    def _augmented(self, images: Tensor, augment: Augment) -> Tensor:
        """Augment; several processes draw for the whole batch and use their share, as one would."""
        rank, world = rank_and_world()
        generator = step_generator(self._feed.seed, 2, self.step_done)
        if world == 1:
            return augment(images, generator)
        whole = torch.zeros(
            (len(images) * world, *images.shape[1:]), dtype=images.dtype, device=images.device
        )
        whole[rank::world] = images
        return augment(whole, generator)[rank::world]

    def on_train_batch_end(self, *_: Any) -> None:
        """Count the step."""
        self.step_done += 1

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches from the first step that is not done."""
        rank, world = rank_and_world()
        # A run that stopped early is complete: resumed by the same settings, it has no step left.
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        total = self.step_done if any(getattr(c, "stopped", False) for c in callbacks) else self._feed.total
        count = len(self._feed.data)  # type: ignore[arg-type]
        stream = Stream(self._feed.batches, total, self.step_done, rank, world, count)
        return stream_loader(self._feed.data, stream, self._feed.workers, step_seed(self._feed.seed, 3))

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule."""
        return self._optimiser.build(self)

    def _plan(self) -> dict[str, Any]:
        """What a checkpoint cannot be resumed without: the schedules are laid out over it."""
        settings = self._optimiser
        planned = settings.schedule in ("onecycle", "cosine")
        return {
            "steps": self._feed.total if planned else None,
            "steps of the optimiser": settings.total if planned else None,
            "batches an epoch": batch_count(self._feed.batches),
            "seed": self._feed.seed,
            "optimizer": settings.optimizer,
            "schedule": settings.schedule,
            "head_first": self._feed.head_first,
            "start_size": self._feed.start_size,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the count and the history."""
        checkpoint["siamura"] = {
            "step_done": self.step_done,
            "history": [dict(row) for row in self.history],
            "plan": self._plan(),
            "computed": self.computed,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up again, if they are of the same run."""
        mine = self._plan()
        there = checkpoint["siamura"].get("plan", mine)
        other = [
            f"{name} {there[name]!r}, now {mine[name]!r}"
            for name in mine
            if there.get(name, mine[name]) != mine[name]
        ]
        if other:
            raise ValueError(
                f"the checkpoint is of another run ({'; '.join(other)}); resume with the arguments it was "
                "started with, or train the saved network further in another folder."
            )
        self.step_done = checkpoint["siamura"]["step_done"]
        self.history = [dict(row) for row in checkpoint["siamura"]["history"]]


class MetricModule(TrainModule):
    """Training a distance.

    Parameters
    ----------
    curriculum : Curriculum
        The losses.
    classify : float
        Weight of a cross-entropy by the network's neck.
    locate : float
        Weight of `places_loss`, where the data set gives boxes.
    net, feed, optimiser, channels_last
        See `TrainModule`.
    """

    def __init__(
        self,
        net: nn.Module,
        curriculum: Curriculum,
        *args: Any,
        classify: float = 0.0,
        locate: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(net, *args, **options)
        self.curriculum = curriculum
        self.classify, self.locate = classify, locate
        self.loss = curriculum.loss
        self.warmup = curriculum.warmup
        self._mines = mines_triplets(curriculum.loss)
        self._had_triplets = False

    def objective(self, images: Tensor, labels: Tensor, *boxes: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Embed, gather what the other processes embedded, and mine the whole batch."""
        whole: Any = getattr(self.net, "net", self.net)
        placed = None
        if boxes:
            with watched(whole) as places:
                emb = gather_rows(self.net(images).float())
            masks, boxed = boxes
            placed = places_loss(places, masks, boxed, labels)
        else:
            emb = gather_rows(self.net(images).float())
        labels = gather_rows(labels)
        self._had_triplets = self._had_triplets or has_triplet(labels)
        share = self.curriculum.share(self.step_done)
        # What the final loss would be in one point, and what it is while it does not train, only this start needs.
        guided = self.warmup is not None and self.curriculum.steps is None
        final = first = None
        with torch.autocast(emb.device.type, enabled=False):
            # First, as a loss keeps the statistics of its last call.
            collapsed = self._collapsed(emb, labels) if guided else math.nan
            if share > 0.0 or guided:
                with torch.set_grad_enabled(torch.is_grad_enabled() and share > 0.0):
                    final = self.loss(emb, labels)
            if self.warmup is not None and share < 1.0:
                first = self.warmup(emb, labels)
        if guided:
            assert final is not None
            self.curriculum.observe(float(final.detach()), collapsed)
        if share == 0.0 and first is not None:
            used, loss = self.warmup, first
        else:
            assert final is not None
            used, loss = self.loss, final if first is None else first.lerp(final, share)
        assert used is not None
        figures = statistics_of(used, emb.detach(), labels)
        row = {name: figures.get(name, float("nan")) for name in STATISTICS}
        if self.classify:
            beside = cross_entropy(self.net, emb, labels)
            row |= {"metric_loss": float(loss.detach()), "classification_loss": float(beside.detach())}
            loss = loss + self.classify * beside
        if placed is not None:
            row["location_loss"] = float(placed.detach())
            loss = loss + self.locate * placed
        return loss, row | {"objective": type(used).__name__, "share": share}

    def on_train_batch_end(self, *args: Any) -> None:
        """Count the step; a run that trains on nothing ends early."""
        super().on_train_batch_end(*args)
        done = self.step_done
        ends = done == self.total or self._stops()
        nothing = not self._had_triplets and (self._mines or self._all_zero())
        if nothing and (ends or done == PATIENCE):
            raise NothingToLearn(
                f"no batch of the first {done} steps held a triplet: two rows of one label and one of another. "
                "Choose k of at least 2 and p of at least 2 in the sampler, and look at the labels of data."
            )
        if ends and not self._feed.head_first and self._all_zero():
            raise NothingToLearn(
                f"the loss was 0 in every one of the {done} steps, so nothing was trained; look at its miner and its "
                "margin, at the labels and groups of the batches, or at whether the network is trained already."
            )

    def _stops(self) -> bool:
        """Whether a callback ends the run at this step; after Ctrl-C the run is partial, and says so itself."""
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        return self.trainer.should_stop and not any(getattr(c, "asked", False) for c in callbacks)

    def _all_zero(self) -> bool:
        return all(row["loss"] == 0.0 for row in self.history)

    @torch.no_grad()
    def _collapsed(self, emb: Tensor, labels: Tensor) -> float:
        """The final loss with all embeddings in one point."""
        return float(without_memory(self.loss)(emb[:1].expand_as(emb), labels))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the curriculum's place too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["siamura"]["curriculum"] = self.curriculum.state_dict()
        checkpoint["siamura"]["had_triplets"] = self._had_triplets

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        super().on_load_checkpoint(checkpoint)
        self.curriculum.load_state_dict(checkpoint["siamura"]["curriculum"])
        self._had_triplets = checkpoint["siamura"].get("had_triplets", True)


def cross_entropy(net: Any, emb: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of a network's classifier on embeddings, their mean over a batch."""
    logits: Tensor = net.neck(emb)
    return nn.functional.cross_entropy(logits, labels)


def mines_triplets(loss: nn.Module) -> bool:
    """Return whether a loss learns from nothing but the triplets within a batch."""
    return type(loss).__module__.startswith("siamura.losses") and without_memory(loss) is loss


def has_triplet(labels: Tensor) -> bool:
    """Return whether a batch has two rows of one label and one of another."""
    counts = torch.unique(labels, return_counts=True)[1]
    return len(counts) > 1 and int(counts.max()) > 1


def without_memory(loss: nn.Module) -> nn.Module:
    """Give the loss without its memory, which would keep what is only measured and train on it."""
    return loss.loss if isinstance(loss, CrossBatchMemory) else loss


STATISTICS = ("active_fraction", "mean_distance", "hardest_positive", "hardest_negative")


def statistics_of(loss: Callable[..., Tensor], emb: Tensor, labels: Tensor) -> dict[str, float]:
    """Figures of a loss's last call; computed here for losses that keep none."""
    own = getattr(loss, "statistics", None)
    if isinstance(own, dict):
        return own
    distance = torch.cdist(emb, emb, compute_mode="donot_use_mm_for_euclid_dist")
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(emb), dtype=torch.bool, device=emb.device)
    positive = distance.masked_fill(~same | itself, float("-inf")).amax(1)
    negative = distance.masked_fill(same, float("inf")).amin(1)
    counts = torch.isfinite(positive) & torch.isfinite(negative)
    margin = float(getattr(loss, "margin", 0.0))
    figures = {
        "active_fraction": (positive - negative + margin > 0)[counts].float().mean(),
        "mean_distance": distance[~itself].mean(),
        "hardest_positive": positive[counts].mean(),
        "hardest_negative": negative[counts].mean(),
    }
    return {name: float(value) for name, value in figures.items()}
