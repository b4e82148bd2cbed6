"""One triplet an anchor, or one a positive pair, and the loss over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._all import mean_distance, pick
from ._base import Batch, LossDict, MetricLoss
from ._counting import ordinals, sort_rows
from ._distances import geometry, pair_matrix
from ._pairs import Block
from ._triplets import blocks

_FAR = 3e38


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
    rows, columns = pairs.shape
    device = batch.embeddings.device
    anchors = torch.arange(rows, device=device)
    if form is None:
        matrix = pair_matrix(loss.distance, batch.embeddings, batch.ref_emb)
        p, n, keep = _choose(matrix.detach(), pairs.block(), inverted, easy_positive)
        return Mined(
            anchors,
            p,
            n,
            pick(matrix, anchors, p),
            pick(matrix, anchors, n),
            keep,
            mean_distance(matrix, batch.own),
        )
    x, y = form.prepare(batch.embeddings, batch.ref_emb)
    found = []
    total = torch.zeros((), dtype=torch.float64, device=device)
    with torch.no_grad():
        for start, stop in blocks(rows, columns, device):
            distances = form.rows(x[start:stop], y, start if batch.own else None)
            total += distances.sum(dtype=torch.float64)
            if batch.own:
                total -= distances.diagonal(start).sum(dtype=torch.float64)
            found.append(_choose(distances, pairs.block(start, stop), inverted, easy_positive))
    p, n, keep = found[0] if len(found) == 1 else (torch.cat(part) for part in zip(*found, strict=True))
    both = form.pairs(torch.cat([x, x]), y.index_select(0, torch.cat([p, n])))
    number = rows * columns - (rows if batch.own else 0)
    return Mined(anchors, p, n, both[:rows], both[rows:], keep, total / max(number, 1))


def _choose(distances: Tensor, block: Block, inverted: bool, easy: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return each row's positive, its negative, and whether it has both."""
    up, down = block.positive, block.negative
    if distances.device.type == "cpu" and distances.dtype == torch.float32:
        keys = ordinals(distances.numpy())
        if inverted:
            keys = ~keys  # the order turned round
        chosen = -up.numpy().astype(np.int32)
        if easy:
            p = torch.from_numpy(((keys & chosen) | (~chosen & np.int32(2**31 - 1))).argmin(1))
        else:
            p = torch.from_numpy(((keys & chosen) | (~chosen & np.int32(-(2**31)))).argmax(1))
        chosen = -down.numpy().astype(np.int32)
        n = torch.from_numpy(((keys & chosen) | (~chosen & np.int32(2**31 - 1))).argmin(1))
    else:
        turned = -distances if inverted else distances
        away = (~up).to(distances.dtype)
        p = (
            torch.add(turned, away, alpha=_FAR).argmin(1)
            if easy
            else torch.sub(turned, away, alpha=_FAR).argmax(1)
        )
        n = torch.add(turned, (~down).to(distances.dtype), alpha=_FAR).argmin(1)
    keep = up.gather(1, p[:, None])[:, 0] & down.gather(1, n[:, None])[:, 0]
    return p, n, keep


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


def finish(loss: MetricLoss, mined: Mined, terms: Tensor, active: Tensor | None = None) -> LossDict:
    """Hand the terms to the reducer, and leave the figures with the loss."""
    how, keep = loss._shortcut(), mined.keep
    if len(terms) == 0:
        return loss._nothing()
    if how is None or keep is None:
        a, p, n, ap, an = mined.a, mined.p, mined.n, mined.ap, mined.an
        if keep is not None:
            a, p, n, ap, an, terms = (part[keep] for part in (a, p, n, ap, an, terms))
            active = None if active is None else active[keep]
            if len(terms) == 0:
                return loss._nothing()
        anchors = torch.zeros(int(a.max()) + 1, device=a.device).index_fill_(0, a, 1.0).sum()
        alive = (terms.detach() > 0) if active is None else active
        loss._figures = {
            "active_fraction": alive.double().mean(),
            "hardest_positive": ap.detach().double().mean(),
            "hardest_negative": an.detach().double().mean(),
            "mean_distance": mined.mean,
            "anchors": anchors,
            "left_out": 0.0 if keep is None else float(len(keep) - len(terms)),
        }
        return loss._terms(terms, (a, p, n))
    terms = torch.where(keep, terms, 0.0)
    with torch.no_grad():
        anchors = keep.sum()
        alive = ((terms > 0) if active is None else (active & keep)).sum()
        number = anchors.clamp(min=1)
        loss._figures = {
            "active_fraction": alive / number,
            "hardest_positive": torch.where(keep, mined.ap.detach(), 0.0).sum() / anchors,
            "hardest_negative": torch.where(keep, mined.an.detach(), 0.0).sum() / anchors,
            "mean_distance": mined.mean,
            "anchors": anchors,
            "left_out": len(keep) - anchors,
        }
        if how == "nonzero":
            number = (terms > 0).sum().clamp(min=1)
    total = terms.sum()
    return loss._reduced(total if how == "sum" else total / number)
