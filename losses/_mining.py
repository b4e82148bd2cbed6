"""One triplet an anchor, or one a positive pair, and the loss over them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ._all import mean_distance, pick
from ._base import Batch, LossDict, MetricLoss
from ._counting import Floats, ordinals, sort_rows
from ._distances import Euclidean, Geometry, Similarity, geometry, pair_matrix
from ._pairs import Block, Pairs
from ._triplets import blocks

_FAR = 3e38
Values = Any  # a tensor or an array, float64
Term = Callable[[Values, Values], tuple[Values, Values, Values]]


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
    with torch.no_grad():
        p, n, keep, mean = _search(x, y, form, pairs, inverted, easy_positive)
    both = form.pairs(torch.cat([x, x]), y.index_select(0, torch.cat([p, n])))
    return Mined(anchors, p, n, both[:rows], both[rows:], keep, mean)


def _search(
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
        found.append(_choose(distances, pairs.block(start, stop), inverted, easy))
    p, n, keep = found[0] if len(found) == 1 else (torch.cat(part) for part in zip(*found, strict=True))
    number = rows * columns - (rows if pairs.own else 0)
    return p, n, keep, torch.stack(sums).sum() / max(number, 1)


def _choose(distances: Tensor, block: Block, inverted: bool, easy: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return each row's positive, its negative, and whether it has both."""
    up, down = block.positive, block.negative
    if distances.device.type == "cpu" and distances.dtype == torch.float32:
        p, n, keep = (
            torch.from_numpy(part) for part in _choose_numpy(distances.numpy(), block, inverted, easy)
        )
        return p, n, keep
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


def _choose_numpy(
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


def hinge(excess: Values, inverted: bool) -> tuple[Values, Values, Values]:
    """Return relu(excess), and its slopes for the positive's and the negative's distance."""
    slope = (excess > 0) * 1.0
    return excess * slope, *((-slope, slope) if inverted else (slope, -slope))


def soft(excess: Values, inverted: bool) -> tuple[Values, Values, Values]:
    """Return softplus(excess), and its slopes."""
    if isinstance(excess, np.ndarray):
        slope: Values = np.exp(-np.logaddexp(0, -excess))
        terms: Values = np.logaddexp(0, excess)
    else:
        slope, terms = excess.sigmoid(), torch.nn.functional.softplus(excess, threshold=40)
    return terms, *((-slope, slope) if inverted else (slope, -slope))


class _Terms(torch.autograd.Function):
    """Terms that know their slopes."""

    @staticmethod
    def forward(ctx: Any, ap: Tensor, an: Tensor, term: Term) -> Tensor:
        terms, of_positive, of_negative = term(ap.double(), an.double())
        ctx.save_for_backward(of_positive, of_negative)
        made: Tensor = terms.to(ap.dtype)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        of_positive, of_negative = ctx.saved_tensors
        grad = grads[0]
        return (of_positive * grad).to(grad.dtype), (of_negative * grad).to(grad.dtype), None


class _Chosen(torch.autograd.Function):
    """The reduced loss of the hardest triplets in one go: its gradient is found on the way forward."""

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        ref_emb: Tensor,
        loss: MetricLoss,
        pairs: Pairs,
        form: Euclidean | Similarity,
        term: Term,
        easy: bool,
        how: str,
    ) -> Tensor:
        if embeddings.device.type == "cpu":
            total, figures, saved = _chosen_numpy(
                embeddings, ref_emb, loss, pairs, form, term, easy, how, any(ctx.needs_input_grad)
            )
            loss._figures = figures
            ctx.save_for_backward(*saved)
            return total
        own = pairs.own
        unit, size = _unit(embeddings, form)
        ref_unit, ref_size = (unit, size) if own else _unit(ref_emb, form)
        x, y = unit, ref_unit
        straight = isinstance(form, Euclidean)
        if straight:
            centre = y.mean(0)
            x = x - centre
            y = x if own else y - centre
        p, n, keep, mean = _search(x, y, form, pairs, loss.distance.is_inverted, easy)
        rows = len(x)
        chosen = torch.cat([p, n])
        others = y.index_select(0, chosen).view(2, rows, -1)
        if straight:
            toward = x - others
            values = toward.square().sum(2).sqrt_()
            toward /= (values + (values == 0))[..., None]
            onto = -toward
        else:
            values, toward, onto = (x * others).sum(2), others, x.expand_as(others)
        ap, an = values[0], values[1]
        terms, of_positive, of_negative = term(ap, an)
        terms = terms.where(keep, 0.0)
        total = terms.sum()
        scale = keep.double()
        anchors = scale.sum()
        if how != "sum":
            number = (anchors if how == "mean" else (terms > 0).sum()).clamp(min=1)
            total = total / number
            scale /= number
        loss._figures = Figures(terms, ap, an, keep, mean)
        if any(ctx.needs_input_grad):
            slopes = torch.stack([of_positive, of_negative]).mul_(scale)[..., None]
            gx = (slopes * toward).sum(0)
            sent = (slopes * onto).view(2 * rows, -1)
            if own:
                gx.index_add_(0, chosen, sent)
                grads = [_undo(gx, unit, size)]
            else:
                gy = torch.zeros_like(y).index_add_(0, chosen, sent)
                grads = [_undo(gx, unit, size), _undo(gy, ref_unit, ref_size)]
            ctx.save_for_backward(*grads)
        value: Tensor = total.float()
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gx, *gy = (saved * grads[0] for saved in ctx.saved_tensors)
        return gx, (gy[0] if gy else None), None, None, None, None, None, None


def _unit(embeddings: Tensor, form: Euclidean | Similarity) -> tuple[Tensor, Tensor | None]:
    """Return the embeddings in float64, of length 1 if the distance normalises, and their lengths."""
    wide = embeddings.double()
    if not form.normalized:
        return wide, None
    size = torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min_(1e-12)
    return wide / size, size


def _undo(grad: Tensor, unit: Tensor, size: Tensor | None) -> Tensor:
    """Return the gradient for the embeddings from that for the normalised ones."""
    if size is not None:
        along = (grad * unit).sum(1, keepdim=True).mul_(size > 1e-12)
        grad = torch.addcmul(grad, unit, along, value=-1).div_(size)
    return grad.float()


def _chosen_numpy(
    embeddings: Tensor,
    ref_emb: Tensor,
    loss: MetricLoss,
    pairs: Pairs,
    form: Euclidean | Similarity,
    term: Term,
    easy: bool,
    how: str,
    wanted: bool,
) -> tuple[Tensor, Figures, list[Tensor]]:
    """Do the same in NumPy: small batches are ruled by what an operation costs before it computes."""
    own, inverted, straight = pairs.own, loss.distance.is_inverted, isinstance(form, Euclidean)
    unit, size = _unit_numpy(embeddings, form)
    ref_unit, ref_size = (unit, size) if own else _unit_numpy(ref_emb, form)
    x, y = unit, ref_unit
    if straight:
        centre = np.add.reduce(y, 0) / len(y)
        x = x - centre
        y = x if own else y - centre
        lengths = np.einsum("ij,ij->i", y, y)
        own_lengths = lengths if own else np.einsum("ij,ij->i", x, x)
    rows, columns = len(x), len(y)
    summed, parts = 0.0, []
    for start, stop in blocks(rows, columns, embeddings.device):
        part = x[start:stop]
        values = part @ y.T
        if straight:
            values *= -2
            values += own_lengths[start:stop, None]
            values += lengths
            np.maximum(values, 0, out=values)
            np.sqrt(values, out=values)
        distances = values.astype(np.float32)
        if own:
            itself = distances.reshape(-1)[start :: columns + 1][: stop - start]
            if straight:
                itself[:] = 0
            summed -= float(np.add.reduce(itself, dtype=np.float64))
        summed += float(np.add.reduce(distances, axis=None, dtype=np.float64))
        parts.append(_choose_numpy(distances, pairs.block(start, stop), inverted, easy))
    p, n, keep = parts[0] if len(parts) == 1 else (np.concatenate(part) for part in zip(*parts, strict=True))
    chosen = np.concatenate([p, n])
    others = y[chosen].reshape(2, rows, -1)
    if straight:
        toward = x - others
        picked = np.sqrt(np.einsum("cij,cij->ci", toward, toward))
        toward /= (picked + (picked == 0))[..., None]
    else:
        toward = others
        picked = np.einsum("ij,cij->ci", x, others)
    terms, of_positive, of_negative = term(picked[0], picked[1])
    whole = bool(keep.all())
    live = terms if whole else np.where(keep, terms, 0.0)
    total: float = live.sum().item()
    divisor = 1.0
    if how != "sum":
        divisor = max(float(np.count_nonzero(keep if how == "mean" else live > 0)), 1.0)
    mean = summed / max(rows * columns - (rows if own else 0), 1)
    figures = Figures(terms, picked[0], picked[1], keep, mean)
    saved: list[Tensor] = []
    if wanted:
        slopes = np.empty((2, rows))
        slopes[0], slopes[1] = of_positive, of_negative
        slopes *= 1 / divisor if whole else keep / divisor
        toward = toward * slopes[..., None]
        gx = toward[0] + toward[1]
        onto = -toward if straight else x * slopes[..., None]
        sent = torch.from_numpy(onto.reshape(2 * rows, -1))
        gy = torch.from_numpy(gx) if own else torch.zeros(columns, x.shape[1], dtype=torch.float64)
        gy.index_add_(0, torch.from_numpy(chosen), sent)
        saved.append(_undo_numpy(gx, unit, size))
        if not own:
            saved.append(_undo_numpy(gy.numpy(), ref_unit, ref_size))
    return torch.tensor(total / divisor, dtype=embeddings.dtype), figures, saved


Doubles = npt.NDArray[np.float64]


def _unit_numpy(embeddings: Tensor, form: Euclidean | Similarity) -> tuple[Doubles, Doubles | None]:
    wide = embeddings.detach().numpy().astype(np.float64)
    if not form.normalized:
        return wide, None
    size = np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
    size = np.maximum(size, 1e-12)
    wide /= size
    return wide, size


def _undo_numpy(grad: Doubles, unit: Doubles, size: Doubles | None) -> Tensor:
    if size is not None:
        along = np.einsum("ij,ij->i", grad, unit)[:, None] * (size > 1e-12)
        grad = (grad - unit * along) / size
    return torch.from_numpy(grad.astype(np.float32))


def anchor_terms(loss: MetricLoss, batch: Batch, term: Term, *, easy_positive: bool = False) -> LossDict:
    """Return PML's dictionary for the hardest triplet of each anchor (or for the triplets of a miner).

    Parameters
    ----------
    term : callable
        Distances of positives and negatives, float64, to the terms and their slopes for both.
    easy_positive : bool
        Take the easiest positive instead.
    """
    how, form = loss._shortcut(), geometry(loss.distance, batch.embeddings)
    if batch.triplets is None and how is not None and isinstance(form, (Euclidean, Similarity)):
        value: Tensor = _Chosen.apply(
            batch.embeddings, batch.ref_emb, loss, batch.pairs(), form, term, easy_positive, how
        )
        return loss._reduced(value)
    return finish(loss, listed(loss, batch) or hardest(loss, batch, easy_positive), term)


def pair_terms(loss: MetricLoss, batch: Batch, term: Term) -> LossDict:
    """Return PML's dictionary for one triplet a positive pair (or for the triplets of a miner)."""
    return finish(loss, listed(loss, batch) or semi_hard(loss, batch), term)


@dataclass
class Figures:
    """The statistics of chosen triplets, computed when they are asked for."""

    terms: Values
    ap: Values
    an: Values
    keep: Values
    mean: Values
    anchors: Tensor | None = None

    def read(self) -> dict[str, float]:
        """Return the figures."""
        terms, ap, an, keep = (torch.as_tensor(part) for part in (self.terms, self.ap, self.an, self.keep))
        number = int(keep.sum())
        anchors = number if self.anchors is None else int(torch.unique(self.anchors).numel())
        return {
            "active_fraction": float((terms[keep] > 0).double().mean()) if number else 0.0,
            "hardest_positive": float(ap[keep].mean()) if number else math.nan,
            "hardest_negative": float(an[keep].mean()) if number else math.nan,
            "mean_distance": float(self.mean),
            "anchors": float(anchors),
            "left_out": float(len(keep) - number),
        }


def finish(loss: MetricLoss, mined: Mined, term: Term) -> LossDict:
    """Hand the terms of the triplets that exist to the reducer, and leave the figures with the loss."""
    a, p, n, ap, an, keep = mined.a, mined.p, mined.n, mined.ap, mined.an, mined.keep
    if len(a) == 0:
        return loss._nothing()
    if keep is None:
        keep = torch.ones_like(a, dtype=torch.bool)
    terms: Tensor = _Terms.apply(ap, an, term)
    loss._figures = Figures(terms.detach(), ap.detach(), an.detach(), keep, mined.mean, a[keep])
    if not bool(keep.all()):
        a, p, n, terms = a[keep], p[keep], n[keep], terms[keep]
        if len(a) == 0:
            return {"loss": loss.zero_loss()}
    how = loss._shortcut()
    if how is None:
        return loss._terms(terms, (a, p, n))
    total = terms.sum(dtype=torch.float64)
    if how != "sum":
        total = total / (len(terms) if how == "mean" else (terms > 0).sum().clamp(min=1))
    return loss._reduced(total.to(terms.dtype))
