"""Which triplets: the hardest of each anchor, the semi-hard one of each positive pair, or a miner's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ._all import mean_distance, pick
from ._base import Batch, MetricLoss
from ._counting import Floats, computes_in_numpy, ordinals, sort_rows
from ._distances import Geometry, geometry, pair_matrix, prepare
from ._pairs import Block, Pairs
from ._triplets import FAR, blocks


@dataclass
class Mined:
    """Chosen triplets.

    Parameters
    ----------
    a, p, n : int64 (T,)
        Anchors, positives, negatives.
    ap, an : floating (T,)
        Their distances, with a graph.
    keep : bool (T,) or None
        Which of them exist; None for all.
    mean : scalar tensor
        Mean distance over the pairs of different items.
    """

    a: Tensor
    p: Tensor
    n: Tensor
    ap: Tensor
    an: Tensor
    keep: Tensor | None
    mean: Tensor


def listed(loss: MetricLoss, batch: Batch) -> Mined | None:
    """Take the triplets that a miner chose, if it chose triplets."""
    if batch.triplets is None:
        return None
    a, p, n = batch.triplets
    matrix = pair_matrix(loss.distance, batch.embeddings, batch.ref_emb)
    return Mined(a, p, n, pick(matrix, a, p), pick(matrix, a, n), None, mean_distance(matrix, batch.own))


def hardest(loss: MetricLoss, batch: Batch, easy_positive: bool = False) -> Mined:
    """Choose for every anchor its hardest negative and its hardest (or easiest) positive.

    The matrix serves the choice alone; the distances of the chosen pairs are computed anew, so that the
    gradient costs O(B d).
    """
    pairs, inverted = batch.pairs(), loss.distance.is_inverted
    form = geometry(loss.distance, batch.embeddings)
    rows = pairs.shape[0]
    device = batch.embeddings.device
    anchors = torch.arange(rows, device=device)
    if form is None:
        matrix = pair_matrix(loss.distance, batch.embeddings, batch.ref_emb)
        p, n, keep = choose(matrix.detach(), pairs.block(), inverted, easy_positive)
        return Mined(
            anchors,
            p,
            n,
            pick(matrix, anchors, p),
            pick(matrix, anchors, n),
            keep,
            mean_distance(matrix, batch.own),
        )
    x, y = prepare(form, batch.embeddings, batch.ref_emb)
    with torch.no_grad():
        p, n, keep, mean = search(x, y, form, pairs, inverted, easy_positive)
    both = form.pairs(torch.cat([x, x]), y.index_select(0, torch.cat([p, n])))
    return Mined(anchors, p, n, both[:rows], both[rows:], keep, mean)


def search(
    x: Tensor, y: Tensor, form: Geometry, pairs: Pairs, inverted: bool, easy: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return every row's positive, negative, and whether it has both; and the mean distance."""
    found = []
    sums: list[Tensor] = []
    rows, columns = pairs.shape
    for start, stop in blocks(rows, columns, x.device):
        part = x if stop - start == rows else x[start:stop]
        distances = form.rows(part, y, start if pairs.own else None)
        sums.append(distances.sum(dtype=torch.float64))
        if pairs.own:
            sums.append(-distances.diagonal(start).sum(dtype=torch.float64))
        found.append(choose(distances, pairs.block(start, stop), inverted, easy))
    p, n, keep = found[0] if len(found) == 1 else (torch.cat(part) for part in zip(*found, strict=True))
    number = rows * columns - (rows if pairs.own else 0)
    return p, n, keep, torch.stack(sums).sum() / max(number, 1)


def choose(distances: Tensor, block: Block, inverted: bool, easy: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return each row's positive, its negative, and whether it has both."""
    up, down = block.positive, block.negative
    if computes_in_numpy(distances):
        p, n, keep = (
            torch.from_numpy(part) for part in choose_numpy(distances.numpy(), block, inverted, easy)
        )
        return p, n, keep
    turned = -distances if inverted else distances
    away = (~up).to(distances.dtype)
    if easy:
        p = torch.add(turned, away, alpha=FAR).argmin(1)
    else:
        p = torch.sub(turned, away, alpha=FAR).argmax(1)
    n = torch.add(turned, (~down).to(distances.dtype), alpha=FAR).argmin(1)
    keep = up.gather(1, p[:, None])[:, 0] & down.gather(1, n[:, None])[:, 0]
    return p, n, keep


def choose_numpy(
    distances: Floats, block: Block, inverted: bool, easy: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Do the same by bit masks on integers: branches on labels cannot be predicted."""
    keys = ordinals(distances)
    if inverted:
        keys = ~keys  # the order turned round
    up, down = block.positive.numpy(), block.negative.numpy()
    top = np.int32(2**31 - 1)
    chosen = -up.astype(np.int32)
    p = (
        ((keys & chosen) | (~chosen & top)).argmin(1)
        if easy
        else ((keys & chosen) | (~chosen & ~top)).argmax(1)
    )
    chosen = -down.astype(np.int32)
    n = ((keys & chosen) | (~chosen & top)).argmin(1)
    places = np.arange(len(p))
    return p, n, up[places, p] & down[places, n]


def semi_hard(loss: MetricLoss, batch: Batch) -> Mined:
    """Choose for every positive pair the nearest negative beyond it, or else the farthest negative."""
    pairs = batch.pairs()
    matrix = pair_matrix(loss.distance, batch.embeddings, batch.ref_emb)
    block = pairs.block()
    with torch.no_grad():
        a, p = (block.positive & block.negative.any(1, keepdim=True)).nonzero(as_tuple=True)
        keys = -matrix if loss.distance.is_inverted else matrix.detach()
        ordered, order = sort_rows(keys.masked_fill(~block.negative, torch.inf))
        rank = torch.searchsorted(ordered, keys, right=True)
        last = block.negative.sum(1, keepdim=True) - 1
        n = order.gather(1, torch.minimum(rank, last).clamp_(min=0))[a, p]
    return Mined(a, p, n, pick(matrix, a, p), pick(matrix, a, n), None, mean_distance(matrix, batch.own))
