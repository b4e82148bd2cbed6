"""Batches: the stream of a whole run from any step on, and rows fetched for embedding."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from siamura._validation import check_whole

from .distributed import rank_and_world
from .seeds import own_rng

__all__ = [
    "ShuffledBatches",
    "Stream",
    "augmentation_of",
    "check_sampler",
    "check_valid",
    "collate",
    "fetch",
    "known_labels",
    "labels_of",
    "stream_loader",
]

Augment = Callable[[Tensor, torch.Generator], Tensor]


class Stream(Sampler[list[int]]):
    """The batches of a run, one list of positions a step, starting at any step.

    Parameters
    ----------
    batches : iterable of lists of int
        A batch sampler with a length; where it has `set_epoch`, it is called with the number of each pass.
    total : int
        Steps of the whole run.
    start : int
        Steps already done, which are left out.
    rank, world_size : int
        Each process takes every `world_size`-th position of a batch. A sampler that splits its batches itself
        (it has a `world_size` above 1) is taken as it is.
    count : int, optional
        Rows of the data; a position beyond them is refused.

    Raises
    ------
    ValueError
        If `batches` yields no lists, is empty, names a row that is not there, or a batch cannot be split evenly.

    Examples
    --------
    >>> list(Stream([[0, 1], [2, 3]], total=5, start=1))
    [[2, 3], [0, 1], [2, 3], [0, 1]]
    """

    def __init__(
        self,
        batches: Iterable[Any],
        total: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        count: int | None = None,
    ) -> None:
        self.batches = batches
        self.total = total
        self.start = start
        self.rank = rank
        self.world_size = 1 if getattr(batches, "world_size", 1) > 1 else world_size
        self.count = count
        self.per_epoch = batch_count(batches)

    def __len__(self) -> int:
        return max(0, self.total - self.start)

    def __iter__(self) -> Iterator[list[int]]:
        step = self.start
        epoch, skip = divmod(step, self.per_epoch)
        set_epoch = getattr(self.batches, "set_epoch", None)
        if set_epoch is None:  # it can only be replayed
            epoch, skip = 0, step
        seen = 0
        while step < self.total:
            if set_epoch is not None:
                set_epoch(epoch)
            before = seen
            for batch in self.batches:
                seen += 1
                if skip:
                    skip -= 1
                    continue
                yield self._own_positions(batch)
                step += 1
                if step == self.total:
                    return
            if seen == before:
                raise ValueError("batches ended before its first batch; is its length 0?")
            epoch += 1

    def _own_positions(self, batch: Any) -> list[int]:
        try:
            positions = [int(i) for i in batch]
        except TypeError:
            raise ValueError(
                f"batches must yield lists of positions, one list a batch; it yielded {batch!r}. "
                "Use siamura.samplers.PKBatchSampler, or wrap an index sampler in torch's BatchSampler."
            ) from None
        if self.count is not None and any(not 0 <= position < self.count for position in positions):
            wrong = next(position for position in positions if not 0 <= position < self.count)
            raise ValueError(
                f"batches gave the position {wrong}, and data has {self.count} rows; make the sampler from the data "
                "set that it is used with."
            )
        if self.world_size == 1:
            return positions
        if len(positions) % self.world_size:
            raise ValueError(
                f"a batch of {len(positions)} cannot be split evenly over {self.world_size} processes; "
                f"choose P x K divisible by {self.world_size}."
            )
        return positions[self.rank :: self.world_size]


class ShuffledBatches:
    """Each epoch every row once, in a new order, in batches of nearly equal size.

    Parameters
    ----------
    count : int
        Rows.
    batch_size : int
        Most rows in a batch.
    seed : int
        Of the orders.

    Examples
    --------
    >>> [len(batch) for batch in ShuffledBatches(9, 4)]
    [3, 3, 3]
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0) -> None:
        check_whole("batch_size", batch_size)
        self.count, self.seed, self.epoch = count, seed, 0
        self.batches = max(1, -(-count // batch_size))

    def __len__(self) -> int:
        return self.batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        world = rank_and_world()[1]
        for batch in np.array_split(order, self.batches):
            yield batch[: len(batch) - len(batch) % world].tolist()  # each process takes as many


def batch_count(batches: Iterable[Any]) -> int:
    """Batches in one pass over a sampler."""
    try:
        count = len(batches)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(
            f"batches={type(batches).__name__} has no length; give a batch sampler with one."
        ) from None
    if count < 1:
        raise ValueError("batches is empty; are there fewer images than one batch takes?")
    return count


def collate(batch: Any) -> tuple[Tensor, ...]:
    """Pass on what is a batch already (`__getitems__`), and stack what is not."""
    if isinstance(batch, tuple) and len(batch) >= 2 and isinstance(batch[0], Tensor):
        return batch
    images, labels = default_collate(batch)
    return images, labels


def fetch(data: Dataset[Any], positions: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Images and labels at some positions, as one batch."""
    many = getattr(data, "__getitems__", None)
    images, labels = collate(many(list(positions)) if many is not None else [data[i] for i in positions])
    return images, labels


def check_sampler(batches: Iterable[Any], data: Dataset[Any]) -> None:
    """See that a batch sampler was made for the data: as many rows, and labels that agree.

    A sampler gives its labels as `PKBatchSampler` does, by ``labels``, or as an index sampler inside a
    `BatchSampler`. Its labels may be finer than those of the data, or have other names.

    Raises
    ------
    ValueError
        If it does not; the message names the first row that differs.
    """
    count = len(data)  # type: ignore[arg-type]
    told = next(
        (
            found
            for source in (batches, getattr(batches, "sampler", None))
            if (found := getattr(source, "labels", None)) is not None and not callable(found)
        ),
        None,
    )
    if told is None:
        return
    theirs = np.asarray(told)
    if theirs.ndim != 1:
        return
    if len(theirs) != count:
        raise ValueError(
            f"batches was made for {len(theirs)} rows, and data has {count}; make the sampler from the data set: "
            "PKBatchSampler(data.labels, ...). Files that could not be read are not in data."
        )
    mine = known_labels(data)
    if mine is None:
        return
    _, kinds = np.unique(theirs, return_inverse=True)
    first = np.full(kinds.max() + 1, -1)
    first[kinds[::-1]] = np.arange(count)[::-1]  # the first row of each of the sampler's labels
    wrong = np.flatnonzero(mine != mine[first[kinds]])
    if len(wrong):
        row, other = int(wrong[0]), int(first[kinds[wrong[0]]])
        raise ValueError(
            f"batches takes rows {other} and {row} for one label ({theirs[row]}), and in data they have "
            f"{mine[other]} and {mine[row]}; {len(wrong)} rows differ. Make the sampler from the data set: "
            "PKBatchSampler(data.labels, ...)."
        )


def check_valid(data: Dataset[Any], valid: Dataset[Any] | None) -> None:
    """See that validation images are made like those of the training, and are of other patients.

    Raises
    ------
    ValueError
        If they were preprocessed otherwise.
    """
    if valid is None:
        return
    mine, theirs = getattr(data, "pre", None), getattr(valid, "pre", None)
    if mine is not None and theirs is not None and mine != theirs:
        raise ValueError(f"valid was preprocessed by {theirs}, data by {mine}; make both by one.")
    known = [set(getattr(d, "table", {}).get("patient", ())) for d in (data, valid)]
    if both := sorted(map(str, known[0] & known[1])):
        warnings.warn(
            f"{len(both)} patients are in data and valid ({', '.join(both[:3])}{', ...' if both[3:] else ''}): "
            "validation figures then measure recognising them; see siamura.split_patients.",
            UserWarning,
            stacklevel=3,
        )


def stream_loader(data: Dataset[Any], stream: Stream, workers: int, seed: int) -> DataLoader[Any]:
    """Make a loader over a stream, whose workers' seeds do not come from the global random state."""
    return DataLoader(
        data,
        batch_sampler=stream,
        collate_fn=collate,
        num_workers=workers,
        generator=torch.Generator().manual_seed(seed),
        pin_memory=torch.cuda.is_available(),
        persistent_workers=False,
    )


def known_labels(data: Dataset[Any]) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Labels of all rows where the data set gives them without reading images, else None."""
    count = len(data)  # type: ignore[arg-type]
    held: Any = getattr(data, "labels", None)
    if held is None or callable(held) or len(held) != count:
        held = getattr(data, "table", None)
        held = None if held is None else held["label"]
    if held is None:
        held = getattr(data, "tensors", (None, None))[1]
    rows: Any = data  # a list of (image, label) serves as a data set
    if held is None and isinstance(rows, (list, tuple)):
        held = [int(row[1]) for row in rows]
    return None if held is None else np.asarray(held, dtype=np.int64)


def labels_of(data: Dataset[Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Labels of all rows, without reading images where the data set gives them."""
    known = known_labels(data)
    if known is not None:
        return known
    return np.asarray([int(data[i][1]) for i in range(len(data))], dtype=np.int64)  # type: ignore[arg-type]


@contextmanager
def augmentation_of(data: Dataset[Any], asked: str | Augment | None = None) -> Iterator[Augment | None]:
    """Let a data set give images as they are, and yield what augments them: a function of (images, generator).

    Parameters
    ----------
    data : Dataset
        Its own augmentation (``data.augment``) is put back in the end.
    asked : None, str or callable
        In place of the data set's own: a preset of `siamura.pixels.augmentation` (``"none"``, ``"flip"``,
        ``"mura"``, ...), an `Augmentation`, or a function of (images uint8 (B, 1, S, S), torch.Generator).

    Raises
    ------
    ValueError
        If there is no such preset.
    """
    own = getattr(data, "augment", None)
    made = _seeded(own) if asked is None else _by_name(asked)
    if own is not None:
        data.augment = None  # type: ignore[attr-defined]
    try:
        yield made
    finally:
        if own is not None:
            data.augment = own  # type: ignore[attr-defined]


def _by_name(asked: str | Augment) -> Augment | None:
    if asked == "none":
        return None
    if isinstance(asked, str):
        # Here, as it loads torchvision, which embedding does without.
        from siamura.pixels.augmentation import Augmentation

        asked = Augmentation.preset(asked)
    return _seeded(asked) if isinstance(getattr(asked, "generator", None), torch.Generator) else asked


def _seeded(own: Any) -> Augment | None:
    """Draw what takes images alone from the generator of a step: by its own generator, or the global one."""
    if own is None:
        return None
    held = getattr(own, "generator", None)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        if isinstance(held, torch.Generator):
            held.set_state(generator.get_state())
            return cast("Tensor", own(images))
        seed = int(torch.randint(2**62, (), generator=generator))
        with own_rng(images.device, seed):
            return cast("Tensor", own(images))

    return augment
