"""Which pairs are positive and which are negative."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Block:
    """Some rows of the pairs.

    Parameters
    ----------
    positive, negative : bool (r, R)
        Which pairs count.
    start : int
        The first row.
    own : bool
        Whether the references are the embeddings, so that column ``start + i`` is row i itself.
    diagonal : bool
        Whether every pair is positive or negative, but for column ``start + i`` of row i, which is neither.
    times_positive, times_negative : int64 (r, R) or None
        How often each pair counts, where some count more than once.
    """

    positive: Tensor
    negative: Tensor
    start: int
    own: bool
    diagonal: bool = False
    times_positive: Tensor | None = None
    times_negative: Tensor | None = None

    @property
    def weights(self) -> tuple[Tensor, Tensor]:
        """How often each pair counts as a positive and as a negative."""
        up = self.positive if self.times_positive is None else self.times_positive
        down = self.negative if self.times_negative is None else self.times_negative
        return up, down


class Pairs:
    """Positive and negative pairs, by labels or as a miner lists them.

    Parameters
    ----------
    shape : (int, int)
        Number of embeddings B and of references R.
    labels, ref_labels : (B,), (R,) or None
        Where they are the same object, an item is no positive of itself.
    listed : four int64 tensors, optional
        Anchors, positives, anchors, negatives. They take the place of the labels.
    device : torch.device
        Where the pairs are needed.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        labels: Tensor | None,
        ref_labels: Tensor | None,
        listed: tuple[Tensor, ...] | None,
        device: torch.device,
        own: bool,
    ) -> None:
        self.shape, self.own = shape, own
        self._labels, self._ref_labels = labels, ref_labels
        self._excluded = labels is ref_labels
        self._listed: tuple[Tensor, Tensor] | None = None
        self.simple = True
        if listed is not None:
            a, p, b, n = (index.to(device) for index in listed)
            up, down = _times(a, p, shape), _times(b, n, shape)
            self._listed = up, down
            self.simple = not bool(((up > 1) | (down > 1) | ((up > 0) & (down > 0))).any())
        elif labels is None or ref_labels is None:
            raise ValueError(
                "labels and indices_tuple cannot both be None (ref_labels neither); give one of them"
            )

    def block(self, start: int = 0, stop: int | None = None) -> Block:
        """Return rows `start` to `stop`."""
        rows = slice(start, stop)
        if self._listed is not None:
            up, down = self._listed[0][rows], self._listed[1][rows]
            times = (None, None) if self.simple else (up, down)
            return Block(up > 0, down > 0, start, self.own, False, *times)
        assert self._labels is not None
        assert self._ref_labels is not None
        same = self._labels[rows, None] == self._ref_labels
        other = ~same
        if self._excluded:
            same.diagonal(start).fill_(False)
        return Block(same, other, start, self.own, self._excluded)


def _times(rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).view(shape)
