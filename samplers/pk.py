"""P labels times K items a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ._dealing import Ints, Stratum, deal, share

_STATE = 1  # version of the state's layout


class PKBatchSampler:
    """Batches of exactly P labels with K items of each.

    Every epoch goes through the items of a label in a new order, and takes none a second time before all
    the others were taken once. It is a batch sampler: hand it to ``DataLoader(batch_sampler=...)``.

    Parameters
    ----------
    labels : sequence of n ints or strings
        The label of each item.
    p : int
        Labels a batch.
    k : int or mapping of label to int
        Items of each label in a batch; with a mapping, so many of each, where every label is in every batch (`p` is
        the number of labels).
    groups : sequence of n ints or strings, optional
        What an item belongs to (a patient, a video, a product). The K items of a label come from different
        groups as far as the label has them: a group with at most ``floor(n_label / k)`` items never meets
        itself in a batch, a larger one is spread evenly.
    within : sequence of n ints or strings, optional
        A domain (a body part, a camera). All items of a batch come from one of its values, and the values
        get batches in proportion to their items. Labels are then counted inside each value.
    seed : int
        Of the sampler's own generator. The same seed and epoch give the same batches.
    length : int, optional
        Batches an epoch. By default just enough that every item is drawn at least once.
    rank, world_size : int
        The process this sampler works for, and how many there are. Each global batch of P times K items is
        split among them; ``p * k`` must be a multiple of `world_size`. Where K is a multiple too, every
        process gets K / world_size items of each label.
    short : {"raise", "repeat", "drop"}
        What happens to a label with fewer than K items: an error (the default), its items repeat within a
        batch, or it is left out together with its items.

    Attributes
    ----------
    labels : array (n,)
        As given.
    batch_size : int
        Items of a batch, over all processes.
    epoch : int
        The epoch that the next iteration draws. It moves on by itself before an iteration gives its last batch.
    dropped : int
        Items left out by ``short="drop"``.

    Raises
    ------
    ValueError
        If the data cannot fill a batch: fewer than P labels, or a label with fewer than K items; or if a mapping lacks
        a label.

    Examples
    --------
    >>> sampler = PKBatchSampler([0, 0, 0, 0, 1, 1, 1, 1], p=2, k=2, seed=0)
    >>> len(sampler)
    2
    >>> batches = list(sampler)
    >>> sorted(batches[0] + batches[1])
    [0, 1, 2, 3, 4, 5, 6, 7]
    >>> labels = [0, 0, 0, 0, 0, 0, 1, 1]
    >>> [sorted(labels[i] for i in batch) for batch in PKBatchSampler(labels, p=2, k={0: 3, 1: 1})]
    [[0, 0, 0, 1], [0, 0, 0, 1]]
    """

    def __init__(
        self,
        labels: Sequence[Any] | npt.ArrayLike,
        p: int,
        k: int | Mapping[Any, int],
        groups: Sequence[Any] | npt.ArrayLike | None = None,
        within: Sequence[Any] | npt.ArrayLike | None = None,
        seed: int = 0,
        length: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        *,
        short: Literal["raise", "repeat", "drop"] = "raise",
    ) -> None:
        self.p, self.seed = _whole("p", p, 1), _whole("seed", seed, 0)
        names, label = _codes("labels", labels, None)
        self.k: int | dict[Any, int] = (
            _each(k, names, self.p) if isinstance(k, Mapping) else _whole("k", k, 1)
        )
        self.batch_size = sum(self.k.values()) if isinstance(self.k, dict) else self.p * self.k
        self.world_size = _whole("world_size", world_size, 1)
        self.rank = _whole("rank", rank, 0)
        if self.rank >= self.world_size:
            raise ValueError(f"rank={rank} must be below world_size={world_size}; ranks count from 0")
        if self.batch_size % self.world_size:
            made = f"k={k}" if isinstance(k, Mapping) else f"p * k = {p} * {k}"
            raise ValueError(
                f"a batch of {made} = {self.batch_size} items cannot be split evenly among world_size={world_size} "
                "processes; choose p or k as a multiple of it"
            )
        if short not in ("raise", "repeat", "drop"):
            raise ValueError(f"short={short!r} is unknown; use 'raise', 'repeat' or 'drop'")
        #: What was given, so that who uses the sampler can compare it with the data.
        self.labels = np.asarray(labels)
        n = len(label)
        _, group = _codes("groups", groups, n) if groups is not None else ([], -1 - np.arange(n))
        domains, domain = (
            _codes("within", within, n) if within is not None else ([None], np.zeros_like(label))
        )
        self.dropped = 0
        self._fingerprint = hashlib.sha256(
            b"".join(np.ascontiguousarray(a).tobytes() for a in (label, group, domain))
        ).hexdigest()[:16]

        # One stable sort finds the items of every (domain, label).
        key = domain * len(names) + label
        order = np.argsort(key, kind="stable").astype(np.int64)
        found, starts = np.unique(key[order], return_index=True)
        pieces = np.split(order, starts[1:])
        self._strata: list[tuple[Ints, Ints, int]] = []
        self._members: list[Ints] = []  # for each domain, the numbers of its strata
        needs: list[int] = []
        sizes: list[int] = []
        per_domain: dict[int, list[tuple[int, Ints]]] = {d: [] for d in range(len(domains))}
        for code, piece in zip(found.tolist(), pieces, strict=True):
            per_domain[code // len(names)].append((code % len(names), piece))
        for number, name in enumerate(domains):
            where = "" if within is None else f" in within={name!r}"
            kept = self._kept(per_domain[number], names, where, short)
            self._members.append(np.arange(len(self._strata), len(self._strata) + len(kept), dtype=np.int64))
            self._strata.extend((piece, group[piece], k) for piece, k in kept)
            blocks = [-(-len(piece) // k) for piece, k in kept]
            needs.append(max(max(blocks), -(-sum(blocks) // self.p)))
            sizes.append(sum(len(piece) for piece, _ in kept))
        self._blocks = np.array([-(-len(piece) // k) for piece, _, k in self._strata], dtype=np.int64)
        weight = np.array(sizes, dtype=np.float64)
        if length is None:
            # In proportion, and no domain short of what its items need.
            per_item = (np.array(needs) / weight).max()
            self._batches = np.ceil(weight * per_item - 1e-9).astype(np.int64)
        else:
            total = _whole("length", length, 1)
            high = np.full(len(sizes), total, dtype=np.int64)
            self._batches = share(weight, total, np.zeros_like(high), high)
        self.epoch = 0
        self._drawn = 0  # the epoch that was drawn last
        self._position = 0
        self._resume = 0

    def _k_of(self, name: Any) -> int:
        """Items of a label in a batch."""
        return self.k[name] if isinstance(self.k, dict) else self.k

    def _kept(
        self, parts: list[tuple[int, Ints]], names: list[Any], where: str, short: str
    ) -> list[tuple[Ints, int]]:
        """Return the items of the labels that can fill their places, and how many places; or say why they cannot."""
        sized = [(names[code], piece, self._k_of(names[code])) for code, piece in parts]
        few = [(name, len(piece)) for name, piece, k in sized if len(piece) < k]
        if few and short == "raise":
            listed = ", ".join(f"{name!r} has {count}" for name, count in few[:5])
            more = f" and {len(few) - 5} more labels" if len(few) > 5 else ""
            less = (
                "fewer of it" if isinstance(self.k, dict) else f"k={min(count for _, count in few)} or less"
            )
            raise ValueError(
                f"k={self.k} items of each label were asked for, but{where} label {listed}{more}; use {less}, "
                "short='repeat' to draw items of small labels repeatedly, or short='drop' to leave such labels out"
            )
        kept = [(piece, k) for _, piece, k in sized if len(piece) >= k or short == "repeat"]
        if len(kept) < self.p:
            left = f" with at least k={self.k} items" if short == "drop" else ""
            less = "" if isinstance(self.k, dict) else f"p={len(kept)} or less"
            smaller = "a smaller k" if (short == "drop" and few) or isinstance(self.k, dict) else ""
            raise ValueError(
                f"p={self.p} labels a batch were asked for, but the data has {len(kept)}{where}{left}; "
                f"use {', or '.join(filter(None, (less, smaller)))}"
                if kept
                else f"the data has no label{where}{left}, and p={self.p} were asked for; use a smaller k"
            )
        self.dropped += sum(len(piece) for _, piece in parts) - sum(len(piece) for piece, _ in kept)
        return kept

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return int(self._batches.sum())

    def __repr__(self) -> str:
        items = sum(len(piece) for piece, *_ in self._strata)
        return (
            f"PKBatchSampler({len(self)} batches of p={self.p} labels x k={self.k} items, {items} items in "
            f"{len(self._members)} domains, seed={self.seed}, rank {self.rank} of {self.world_size})"
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws.

        Setting the epoch a loaded state stopped in keeps the place where it stopped.
        """
        epoch = _whole("epoch", epoch, 0)
        if epoch != self.epoch:
            self.epoch, self._position, self._resume, self._drawn = epoch, 0, 0, epoch

    def state_dict(self, position: int | None = None) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on from here.

        Parameters
        ----------
        position : int, optional
            Batches used of the epoch that was begun last. By default those handed out; a DataLoader with
            workers fetches ahead of its user, perhaps to the end of the epoch, so say how many were really
            trained on. 0 after a whole epoch means the start of the next.
        """
        place = self._position if position is None else _whole("position", position, 0)
        epoch = self._drawn if position else self.epoch
        if place >= len(self):
            epoch, place = epoch + place // len(self), place % len(self)
        return {
            "version": _STATE,
            "epoch": epoch,
            "position": place,
            "seed": self.seed,
            "p": self.p,
            "k": list(map(list, self.k.items())) if isinstance(self.k, dict) else self.k,
            "length": len(self),
            "data": self._fingerprint,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken: the next iteration starts with the batch after it.

        Raises
        ------
        ValueError
            If the state was taken with other data or other settings.
        """
        mine = self.state_dict(0)
        for name in ("version", "seed", "p", "k", "length", "data"):
            if name not in state or state[name] != mine[name]:
                what = "labels, groups or within" if name == "data" else name
                raise ValueError(
                    f"the state was taken with another {what} ({state.get(name)!r} there, {mine[name]!r} "
                    "here); make the sampler as it was, or start without the state"
                )
        epoch, place = _whole("the state's epoch", state["epoch"], 0), int(state["position"])
        if not 0 <= place < len(self):
            raise ValueError(f"the state's position={place} must lie in an epoch of {len(self)} batches")
        self.epoch = self._drawn = epoch
        self._position = self._resume = place

    def __iter__(self) -> Iterator[list[int]]:
        """Draw one epoch: lists of positions, label after label."""
        epoch, start, total = self.epoch, self._resume, len(self)
        self._resume, self._position, self._drawn = 0, start, epoch
        for number, batch in enumerate(self._draw(epoch)):
            if number < start:
                continue
            if self.epoch == epoch:  # and not another one that was chosen meanwhile
                # Before the last batch is given: a loop that takes len(sampler) batches asks for no more.
                last = number + 1 == total
                self.epoch, self._position = (epoch + 1, 0) if last else (epoch, number + 1)
            yield batch[self.rank :: self.world_size].tolist()

    def _draw(self, epoch: int) -> Iterator[Ints]:
        """Draw the global batches of an epoch, int64 (batch_size,) each, label after label."""

        def generator(number: int) -> np.random.Generator:  # as SeedSequence.spawn numbers its children
            return np.random.default_rng(np.random.SeedSequence((self.seed, epoch), spawn_key=(number,)))

        rng = generator(0)
        strata: list[Stratum | None] = [None] * len(self._strata)
        plans = [
            self._plan(members, int(count), rng)
            for members, count in zip(self._members, self._batches, strict=True)
        ]
        turns = rng.permutation(np.repeat(np.arange(len(plans)), self._batches))
        used = [0] * len(plans)
        for turn in turns.tolist():
            chosen = plans[turn][used[turn]]
            used[turn] += 1
            rows = []
            for number in chosen.tolist():
                stratum = strata[number]
                if stratum is None:
                    items, groups, k = self._strata[number]
                    stratum = strata[number] = Stratum(items, groups, k, generator(1 + number))
                rows.append(stratum.block())
            yield np.concatenate(rows)

    def _plan(self, members: Ints, count: int, rng: np.random.Generator) -> Ints:
        """Return the strata of each of `count` batches, int64 (count, p), each as often as its size asks."""
        if count == 0:
            return np.empty((0, self.p), dtype=np.int64)
        blocks = self._blocks[members]
        total = count * self.p
        high = np.full(len(members), count, dtype=np.int64)
        low = np.minimum(blocks, count)
        if low.sum() > total:
            low = np.zeros_like(high)
        order = rng.permutation(len(members))  # so that rounding favours no label
        shares = share(blocks[order].astype(np.float64), total, low[order], high)
        batch = deal(np.full(count, self.p, dtype=np.int64))
        strata = np.repeat(members[order], shares)
        plan = strata[np.argsort(batch, kind="stable")].reshape(count, self.p)
        return plan[rng.permutation(count)]


def _whole(name: str, value: int, least: int) -> int:
    try:
        right = not isinstance(value, bool) and int(value) == value and value >= least
    except (TypeError, ValueError, OverflowError):
        right = False
    if not right:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")
    return int(value)


def _each(k: Mapping[Any, int], names: list[Any], p: int) -> dict[Any, int]:
    """Check how many items of each label are wanted: of every label, and all of them in every batch."""
    for given, which in ((names, "lacks the label"), (k, "has a label that the data lack,")):
        other = k if given is names else names
        if odd := [name for name in given if name not in other]:
            raise ValueError(f"k={dict(k)} {which} {odd[0]!r}; give a number for each of {names[:10]}")
    if p != len(names):
        raise ValueError(
            f"k={dict(k)} has a number for each of {len(names)} labels, so p={p} must be {len(names)} too"
        )
    return {name: _whole(f"k[{name!r}]", k[name], 1) for name in names}


def _codes(name: str, values: Sequence[Any] | npt.ArrayLike, n: int | None) -> tuple[list[Any], Ints]:
    """Return the distinct values, and for each item the number of its value."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one value an item; it has shape {array.shape}")
    if n is not None and len(array) != n:
        raise ValueError(f"{name} has {len(array)} values, but there are {n} labels; give one an item")
    if n is None and not len(array):
        raise ValueError(f"{name} is empty; give one an item")
    absent: list[int] = []
    if array.dtype.kind == "f":
        absent = np.flatnonzero(np.isnan(array)).tolist()
    elif array.dtype.kind == "O" or (array.dtype.kind == "U" and not isinstance(values, np.ndarray)):
        # Of a list with strings and NaN, NumPy makes the string "nan".
        absent = [place for place, value in enumerate(list(values)) if _absent(value)]  # type: ignore[arg-type]
    if absent:
        raise ValueError(
            f"{name} has missing values (None or NaN) at {absent[:5]}, {len(absent)} in all; fill them, or leave "
            "these items out"
        )
    if array.dtype.kind == "U" and not isinstance(values, np.ndarray):
        # Of a list with strings and numbers, NumPy makes strings: 1 and "1" would become one value.
        kinds = sorted({type(value).__name__ for value in values if not isinstance(value, str)})  # type: ignore[union-attr]
        if kinds:
            raise ValueError(f"{name} mixes str and {', '.join(kinds)}; use one kind")
    try:
        distinct, codes = np.unique(array, return_inverse=True)
    except TypeError as error:
        raise ValueError(
            f"{name} mixes kinds of values that have no order ({error}); use one kind"
        ) from error
    return distinct.tolist(), codes.astype(np.int64)


def _absent(value: Any) -> bool:
    """Tell None, NaN and pandas' NA, which cannot even be asked."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        return True
