"""A batch: its embeddings, its references, and which pairs of them are positive and which negative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    same_set : bool
        Whether the references are the embeddings, so that column ``start + i`` is row i itself.
    diagonal : bool
        Whether every pair is positive or negative, but for column ``start + i`` of row i, which is neither.
    times_positive, times_negative : int64 (r, R) or None
        How often each pair counts, where some count more than once.
    """

    positive: Tensor
    negative: Tensor
    start: int
    same_set: bool
    diagonal: bool = False
    times_positive: Tensor | None = None
    times_negative: Tensor | None = None

    @property
    def times(self) -> tuple[Tensor, Tensor]:
        """How often each pair counts as a positive and as a negative."""
        up = self.positive if self.times_positive is None else self.times_positive
        down = self.negative if self.times_negative is None else self.times_negative
        return up, down


@dataclass
class Batch:
    """What ``compute_loss`` is given.

    Parameters
    ----------
    embeddings, ref_emb : floating (B, ...), (R, ...)
        The same object where the batch is compared with itself.
    labels, ref_labels : (B,), (R,) or None
        Where they are the same object, an item is no positive of itself.
    indices : 3 or 4 tensors of int64, optional
        A miner's triplets or pairs, as `check_indices` returns them. They take the place of the labels.
    """

    embeddings: Tensor
    labels: Tensor | None
    indices: tuple[Tensor, ...] | None
    ref_emb: Tensor
    ref_labels: Tensor | None
    _times: tuple[Tensor, Tensor, bool] | None = field(default=None, repr=False)

    @property
    def same_set(self) -> bool:
        """Whether the references are the embeddings themselves."""
        return self.ref_emb is self.embeddings

    @property
    def shape(self) -> tuple[int, int]:
        """Number of embeddings and of references."""
        return len(self.embeddings), len(self.ref_emb)

    @property
    def triplets(self) -> tuple[Tensor, ...] | None:
        """The miner's triplets, if it gave triplets."""
        return self.indices if self.indices is not None and len(self.indices) == 3 else None

    def block(self, start: int = 0, stop: int | None = None) -> Block:
        """Return the pairs of rows `start` to `stop`, by the miner or by the labels."""
        rows = slice(start, stop)
        if self.indices is not None:
            if self._times is None:
                a, p, b, n = self.indices
                up, down = _times(a, p, self.shape), _times(b, n, self.shape)
                once = not bool(((up > 1) | (down > 1) | ((up > 0) & (down > 0))).any())
                self._times = up, down, once
            up, down, once = self._times
            up, down = up[rows], down[rows]
            times = (None, None) if once else (up, down)
            return Block(up > 0, down > 0, start, self.same_set, False, *times)
        if self.labels is None or self.ref_labels is None:
            raise ValueError("ref_emb came without ref_labels and indices_tuple; give one of them")
        same = self.labels[rows, None] == self.ref_labels
        other = ~same
        excluded = self.labels is self.ref_labels
        if excluded:
            same.diagonal(start).fill_(False)
        return Block(same, other, start, self.same_set, excluded)


def check_indices(
    indices: Sequence[object], rows: int, references: int, device: torch.device
) -> tuple[Tensor, ...]:
    """Return a miner's indices as int64 tensors from 0 on, or say what is wrong with them.

    Parameters
    ----------
    indices : 3 or 4 sequences
        Whole numbers of any kind: tensors, arrays, lists. As everywhere in torch, -1 is the last item.
    rows, references : int
        Number of embeddings and of references.

    Raises
    ------
    ValueError
        If they are neither triplets nor pairs.
    IndexError
        If an index lies outside its embeddings, is no whole number, or has no partner.
    """
    if len(indices) not in (3, 4):
        raise ValueError(
            f"indices_tuple has {len(indices)} tensors; give 3 (anchors, positives, negatives) or 4 "
            "(anchors, positives, anchors, negatives)"
        )
    checked = []
    for place, given in enumerate(indices):
        try:
            index = torch.as_tensor(given, device=device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise IndexError(
                f"indices_tuple[{place}] is a {type(given).__name__} ({str(error).splitlines()[0]}); give one row "
                "of whole numbers"
            ) from error
        if index.numel() == 0:
            index = index.reshape(-1).long()
        if index.ndim != 1 or index.dtype == torch.bool or index.is_floating_point() or index.is_complex():
            raise IndexError(
                f"indices_tuple[{place}] has dtype {index.dtype} and shape {tuple(index.shape)}; give one row of "
                "whole numbers"
            )
        index = index.long()
        anchors = place == 0 or (place == 2 and len(indices) == 4)
        size = rows if anchors else references
        if index.numel() and not bool(((index >= -size) & (index < size)).all()):
            wrong = index[(index < -size) | (index >= size)][0].item()
            what = "embeddings" if anchors or references == rows else "references"
            raise IndexError(f"indices_tuple[{place}] holds {wrong}, but there are {size} {what}")
        checked.append(torch.where(index < 0, index + size, index))
    for first, second in ((0, 1), (0, 2)) if len(checked) == 3 else ((0, 1), (2, 3)):
        if len(checked[first]) != len(checked[second]):
            raise IndexError(
                f"indices_tuple[{first}] has {len(checked[first])} indices and indices_tuple[{second}] "
                f"{len(checked[second])}; give as many of each"
            )
    return tuple(checked)


def _times(rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).view(shape)
