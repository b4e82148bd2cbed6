"""Which triplets: one of each anchor, one of each positive pair, all of them, or a miner's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from ._counting import sort_rows
from ._distances import blocks, find_kernel, mean_distance, pair_matrix, pick, widen
from ._pairs import Batch, Block
from .base import Mined, convert_to_triplets

FAR = 3e38  # beyond any distance, and within float32
Choice = Callable[[Tensor, Block], tuple[Tensor, Tensor]]

MININGS = ("hard", "quantile", "weighted")


def check_mining(mining: str, quantile: float | None, allowed: tuple[str, ...] = MININGS) -> float:
    """Return the quantile, 0.9 by default; say which minings there are, and what a quantile is."""
    if mining not in allowed:
        raise ValueError(f"mining={mining!r} is unknown; use one of {', '.join(map(repr, allowed))}")
    if quantile is None:
        return 0.9
    if isinstance(quantile, bool) or not isinstance(quantile, (int, float)) or not 0 < quantile <= 1:
        raise ValueError(f"quantile={quantile!r} must be above 0 and at most 1; 1 is the hardest")
    if mining != "quantile":
        raise ValueError(f"quantile={quantile!r} does nothing with mining={mining!r}; leave it out")
    return quantile


def check_chunk(chunk: int | None, unused: str = "") -> int | None:
    """Return the anchors in memory at a time, if that is a whole number, or None; `unused` says why it does nothing."""
    if chunk is None:
        return None
    given: Any = chunk  # NumPy's whole numbers count too
    if isinstance(given, bool) or not isinstance(given, Integral) or given < 1:
        raise ValueError(f"chunk={chunk!r} must be at least 1 anchor, or None to decide by size")
    if unused:
        raise ValueError(f"chunk={chunk!r} does nothing with {unused}; leave it out")
    return int(chunk)


def mine_per_anchor(
    distance: Any, batch: Batch, mining: str = "hard", quantile: float = 1.0, *, easy_positive: bool = False
) -> Mined:
    """Choose one triplet of every anchor that has a positive and a negative.

    Parameters
    ----------
    mining : {"hard", "quantile", "weighted"}
        The hardest; that at a quantile of the hardness, which label noise does not reach; or the mean over all,
        weighted by hardness.
    quantile : float
        For "quantile": 1 is the hardest, 0.5 the median.
    easy_positive : bool
        For "hard": take the easiest positive instead.
    """
    if batch.triplets is not None:
        return take_given_triplets(distance, batch, batch.triplets)
    if mining == "weighted":
        return _weighted(distance, batch)
    choose: Choice = (
        partial(_at_quantile, quantile=quantile)
        if mining == "quantile"
        else partial(_hardest, easy=easy_positive)
    )
    kernel = find_kernel(distance, batch.embeddings)
    sign = -1.0 if distance.is_inverted else 1.0
    if kernel is None:
        matrix = pair_matrix(distance, batch.embeddings, batch.ref_emb)
        a, p, n = _existing(choose, sign * matrix.detach(), batch.block())
        mean = mean_distance(matrix, batch.same_set)
        return Mined(a, p, n, pick(matrix, a, p), pick(matrix, a, n), mean)
    # The matrix serves the choice alone; the chosen pairs are computed anew, so that the gradient costs O(B d).
    x, y = widen(kernel, batch.embeddings, batch.ref_emb)
    rows, columns = batch.shape
    with torch.no_grad():
        near, ref_near = kernel.prepare(x, y)
        found, means = [], []
        for start, stop in blocks(rows, columns, x.device):
            part = kernel.rows(near[start:stop], ref_near, start if batch.same_set else None)
            means.append(part.sum(dtype=torch.float64))
            if batch.same_set:
                means.append(-part.diagonal(start).sum(dtype=torch.float64))
            a, p, n = _existing(choose, -part if distance.is_inverted else part, batch.block(start, stop))
            found.append((a + start, p, n))
        a, p, n = found[0] if len(found) == 1 else (torch.cat(parts) for parts in zip(*found, strict=True))
        mean = torch.stack(means).sum() / max(rows * columns - (rows if batch.same_set else 0), 1)
    others = y.index_select(0, torch.cat([p, n])).view(2, len(a), y.shape[1])
    positive, negative = kernel.pairs(x if len(a) == rows else x.index_select(0, a), others)
    return Mined(a, p, n, positive, negative, mean)


def _existing(choose: Choice, keys: Tensor, block: Block) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows that have a positive and a negative, with the chosen ones."""
    p, n = choose(keys, block)
    keep = block.positive.gather(1, p[:, None]) & block.negative.gather(1, n[:, None])
    a = keep[:, 0].nonzero()[:, 0]
    return (a, p, n) if len(a) == len(keys) else (a, p[a], n[a])


def _hardest(keys: Tensor, block: Block, easy: bool) -> tuple[Tensor, Tensor]:
    # A sum in the place of a choice: branches on labels cannot be predicted.
    away = (~block.positive).to(keys.dtype)
    p = torch.add(keys, away, alpha=FAR).argmin(1) if easy else torch.sub(keys, away, alpha=FAR).argmax(1)
    return p, torch.add(keys, (~block.negative).to(keys.dtype), alpha=FAR).argmin(1)


def _at_quantile(keys: Tensor, block: Block, quantile: float) -> tuple[Tensor, Tensor]:
    """Choose by nearest rank: the ceil(q · number)-th, from the easiest on."""
    chosen = []
    for mask, ease in ((block.positive, keys), (block.negative, -keys)):
        _, order = sort_rows(ease.masked_fill(~mask, torch.inf).contiguous())
        rank = (mask.sum(1, keepdim=True) * quantile - 1e-9).ceil().long() - 1
        chosen.append(order.gather(1, rank.clamp_(min=0))[:, 0])
    return chosen[0], chosen[1]


def _weighted(distance: Any, batch: Batch) -> Mined:
    """Average each anchor's distances, the farther positive and the nearer negative weighing more."""
    matrix = pair_matrix(distance, batch.embeddings, batch.ref_emb)
    block = batch.block()
    sign = -1.0 if distance.is_inverted else 1.0
    a, p, n = _existing(partial(_hardest, easy=False), sign * matrix.detach(), block)
    rows = matrix[a]
    positive, negative = (
        (rows * (way * rows).masked_fill(~mask[a], -torch.inf).softmax(1)).sum(1)
        for mask, way in ((block.positive, sign), (block.negative, -sign))
    )
    return Mined(a, p, n, positive, negative, mean_distance(matrix, batch.same_set))


def mine_per_positive_pair(distance: Any, batch: Batch) -> Mined:
    """Choose for every positive pair the nearest negative beyond it, or else the farthest negative."""
    if batch.triplets is not None:
        return take_given_triplets(distance, batch, batch.triplets)
    matrix = pair_matrix(distance, batch.embeddings, batch.ref_emb)
    block = batch.block()
    with torch.no_grad():
        a, p = (block.positive & block.negative.any(1, keepdim=True)).nonzero(as_tuple=True)
        keys = -matrix.detach() if distance.is_inverted else matrix.detach()
        ordered, order = sort_rows(keys.masked_fill(~block.negative, torch.inf))
        rank = torch.searchsorted(ordered, keys, right=True)
        last = block.negative.sum(1, keepdim=True) - 1
        n = order.gather(1, torch.minimum(rank, last).clamp_(min=0))[a, p]
    mean = mean_distance(matrix, batch.same_set)
    return Mined(a, p, n, pick(matrix, a, p), pick(matrix, a, n), mean)


def list_all_triplets(distance: Any, batch: Batch, *, swap: bool = False) -> Mined:
    """List all triplets of the labels or of a miner's pairs."""
    triplets = convert_to_triplets(batch.indices, batch.labels, batch.ref_labels, t_per_anchor="all")
    return take_given_triplets(distance, batch, triplets, swap=swap)


def take_given_triplets(
    distance: Any, batch: Batch, triplets: tuple[Tensor, ...], *, swap: bool = False
) -> Mined:
    """Take triplets as they are; with `swap`, the negative is seen from the positive where it is nearer there."""
    a, p, n = triplets
    matrix = pair_matrix(distance, batch.embeddings, batch.ref_emb)
    positive, negative = pick(matrix, a, p), pick(matrix, a, n)
    if swap:
        among = matrix if batch.same_set else pair_matrix(distance, batch.ref_emb, batch.ref_emb)
        negative = distance.smallest_dist(negative, pick(among, p, n))
    return Mined(a, p, n, positive, negative, mean_distance(matrix, batch.same_set))
