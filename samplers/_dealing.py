"""Dealing items to batches so that every batch gets different groups: the arithmetic of the samplers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def deal(capacity: Ints) -> Ints:
    """Which block each item goes to, so that equal groups fall into different blocks.

    The items stand in a row, group after group; they are dealt like cards, one to each block in turn, so
    that a group no larger than the number of full blocks never meets itself.

    Parameters
    ----------
    capacity : int64 (number of blocks,)
        Items that each block holds, falling; the sum is the number of items.

    Returns
    -------
    int64 (number of items,)
        The block of each item.
    """
    blocks = len(capacity)
    rows = int(capacity.max(initial=0))
    slots = np.tile(np.arange(blocks, dtype=np.int64), rows)
    if capacity.min(initial=rows) != rows:
        slots = slots[np.repeat(np.arange(rows), blocks) < capacity[slots]]
    return slots


class Stratum:
    """The items of one label (in one ``within`` value), drawn in passes, K at a time.

    Every pass holds each item once, in a new order; a block of K takes from as many groups as it can. A small
    group, of at most floor(n / k) items, has at most one item in any block, those between two passes included:
    there a block takes first the groups of exactly floor(n / k) items, which need every later block.

    Parameters
    ----------
    items : int64 (n,)
        Positions in the data.
    groups : int64 (n,)
        The group of each item; -1 - i for an item that is a group of its own.
    k : int
        Items a block.
    rng : numpy.random.Generator
        Its own generator, so that the strata do not depend on each other's use.
    """

    def __init__(self, items: Ints, groups: Ints, k: int, rng: np.random.Generator) -> None:
        self._k = k
        self._rng = rng
        self._items = items
        if groups[0] < 0:  # each item is a group of its own
            self._groups, sizes = np.arange(len(items)), np.ones(len(items), dtype=np.int64)
        else:
            _, self._groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        most = len(items) // k  # items that a small group has
        self._small, self._tight = sizes <= most, sizes == most
        self._distinct = len(sizes) == len(items)
        self._blocks = self._draw()

    def block(self) -> Ints:
        """Return the next K items."""
        return next(self._blocks)

    def _draw(self) -> Iterator[Ints]:
        n, k = len(self._items), self._k
        carried = np.empty(0, dtype=np.int64)  # places (not positions) left over from the pass before
        while True:
            fresh = self._rng.permutation(n)
            while len(carried) + len(fresh) < k:  # fewer items than K: whole passes within one block
                carried = np.concatenate([carried, fresh])
                fresh = self._rng.permutation(n)
            if len(carried):
                head, fresh = self._complete(carried, fresh)
                yield self._items[head]
            full = len(fresh) // k
            arranged = self._arrange(fresh, full)
            yield from self._items[arranged[: full * k]].reshape(full, k)
            carried = arranged[full * k :]

    def _complete(self, carried: Ints, fresh: Ints) -> tuple[Ints, Ints]:
        """Fill a block begun in the pass before with items it does not hold, of groups it does not hold."""
        wanted = self._k - len(carried)
        groups = self._groups[fresh]
        if self._distinct:
            again = np.zeros(len(fresh), dtype=np.int64)
        else:
            order = np.argsort(groups, kind="stable")
            ordered = groups[order]
            starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
            lengths = np.diff(np.r_[starts, len(ordered)])
            again = np.empty(len(fresh), dtype=np.int64)  # the how-many-eth of its group, as `fresh` has them
            again[order] = np.arange(len(fresh)) - np.repeat(starts, lengths)
            again += np.bincount(self._groups[carried], minlength=len(self._small))[groups]
        cost = 2 * again + ~self._tight[groups]
        most = 2 * (len(fresh) + len(carried)) + 2
        cost += most * ((again > 0) & self._small[groups])  # a small group never meets itself
        cost += 2 * most * np.isin(fresh, carried)  # the item itself comes last of all
        choice = np.argsort(cost, kind="stable")
        rest = np.ones(len(fresh), dtype=bool)
        rest[choice[:wanted]] = False
        return np.concatenate([carried, fresh[choice[:wanted]]]), fresh[rest]

    def _arrange(self, places: Ints, full: int) -> Ints:
        """Order the places so that cutting them into K's separates equal groups; the remainder comes last."""
        if full == 0 or self._distinct:
            return places
        groups = self._groups[places]
        sizes = np.bincount(groups, minlength=len(self._small))
        # Groups that reach every block go first, the small ones of them before the others, as these alone need
        # a place in the remainder too. The rest is in random order: size must not decide the company.
        rank = self._rng.permutation(len(sizes)).astype(np.int64)
        rank[sizes > full] -= len(sizes)
        rank[(sizes > full) & self._small] -= len(sizes)
        order = np.argsort(rank[groups], kind="stable")
        left = len(places) - full * self._k
        capacity = np.full(full + (left > 0), self._k, dtype=np.int64)
        if left:
            capacity[-1] = left
        block = deal(capacity)
        shuffled = np.concatenate([self._rng.permutation(full), [full]])
        return places[order][np.argsort(shuffled[block], kind="stable")]


def share(weights: npt.NDArray[np.float64], total: int, low: Ints, high: Ints) -> Ints:
    """Whole numbers between `low` and `high` with the sum `total`, as near to `weights` as they can be.

    Raises
    ------
    ValueError
        If no such numbers exist.
    """
    if not low.sum() <= total <= high.sum():
        raise ValueError(f"no shares of {total} lie between {low.tolist()} and {high.tolist()}")
    bottom, top = 0.0, float(total + 1) / max(float(weights.min()), 1e-300)
    for _ in range(200):  # the one scale at which the clipped shares sum to the total
        scale = (bottom + top) / 2
        if np.clip(weights * scale, low, high).sum() < total:
            bottom = scale
        else:
            top = scale
        if top - bottom <= 1e-15 * top:
            break
    exact = np.clip(weights * bottom, low, high)  # no more than the total: what is missing is dealt out
    shares = np.clip(np.floor(exact + 1e-9).astype(np.int64), low, high)
    while (missing := total - int(shares.sum())) > 0:
        room = np.flatnonzero(shares < high)
        gets = room[np.argsort((shares - exact)[room], kind="stable")[:missing]]
        shares[gets] += 1
    return shares
