"""The sum over all triplets without a list of them, block of rows by block of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ._counting import count_active_triplets
from ._distances import HELD, Kernel, blocks, find_kernel, normalize, normalize_backward, pair_matrix
from ._mining import FAR, list_all_triplets
from ._pairs import Batch, Block
from .base import Mined, Statistics, Summed

Transform = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass
class TripletAccumulator:
    """What the rows seen so far add up to.

    Parameters
    ----------
    margin : float
    inverted : bool
        Whether a larger value means nearer.
    transform : callable, optional
        A rising map of the distances; returns its value and its slope.
    sums : float64 (8,) or None
        The sum over all triplets, the active triplets, all triplets, the anchors that count, their hardest
        positive and negative distances, all distances between different items, and the number of these.
    """

    margin: float
    inverted: bool
    transform: Transform | None = None
    sums: Tensor | None = None

    def add(self, distances: Tensor, block: Block) -> Tensor:
        """Count the rows of a block; return the gradient of their sum for each distance, (r, R).

        The weights of the distances are constant between two ties, so that the sum keeps the graph of the
        distances, if they have one, and with it every derivative.
        """
        keys, slope = (distances, None) if self.transform is None else self.transform(distances)
        keys = keys.to(distances.dtype) * (-1 if self.inverted else 1)
        weights, active = count_active_triplets(keys.detach(), block, self.margin)
        total = torch.dot(weights.double().view(-1), keys.double().reshape(-1)) + self.margin * active
        sums = torch.cat([total.view(1), _figures(distances.detach(), block, active, self.inverted)])
        self.sums = sums if self.sums is None else self.sums + sums
        if self.inverted:
            weights = -weights
        return weights if slope is None else weights.double() * slope

    def reduce(self, reduction: str) -> tuple[Tensor, Tensor | float]:
        """Return the loss, and the factor that makes it of the sum."""
        assert self.sums is not None
        total, active, triplets = self.sums[:3]
        if reduction == "sum":
            return total, 1.0
        factor = 1 / (triplets if reduction == "mean" else active).detach().clamp(min=1)
        return total * factor, factor


def _figures(distances: Tensor, block: Block, active: Tensor, inverted: bool) -> Tensor:
    up, down = (count.sum(1) for count in block.times)
    counts = (up > 0) & (down > 0)
    positive, negative = block.positive, block.negative
    if inverted:
        positive, negative = negative, positive
    # A sum in the place of a choice: branches on labels cannot be predicted.
    far = torch.sub(distances, (~positive).to(distances.dtype), alpha=FAR).amax(1)
    near = torch.add(distances, (~negative).to(distances.dtype), alpha=FAR).amin(1)
    if inverted:
        far, near = near, far
    whole, number = distances.sum(dtype=torch.float64), distances.numel()
    if block.same_set:
        itself = distances.diagonal(block.start)
        whole, number = whole - itself.sum(dtype=torch.float64), number - len(itself)
    figures = (
        active,
        (up.double() * down).sum(),
        counts.sum(),
        far.where(counts, 0.0).sum(dtype=torch.float64),
        near.where(counts, 0.0).sum(dtype=torch.float64),
        whole,
    )
    return torch.stack([*(figure.double() for figure in figures), torch.full_like(whole, number)])


def _statistics(sums: Tensor, rows: int) -> Statistics:
    _, active, triplets, anchors, far, near, distances, pairs = sums.tolist()
    return {
        "active_fraction": active / max(triplets, 1.0),
        "hardest_positive": far / anchors if anchors else math.nan,
        "hardest_negative": near / anchors if anchors else math.nan,
        "mean_distance": distances / max(pairs, 1.0),
        "anchors": anchors,
        "triplets": triplets,
        "left_out": rows - anchors,
    }


def sum_all_triplets(
    distance: Any,
    batch: Batch,
    margin: float,
    reduction: str | None,
    *,
    transform: Transform | None = None,
    chunk: int | None = None,
) -> Mined | Summed:
    """Sum the hinge over all triplets, or list them where the reducer or a miner asks for it.

    Parameters
    ----------
    reduction : {"sum", "mean", "nonzero"} or None
        "nonzero" divides by the number of triplets above zero; None lists the triplets.
    transform : callable, optional
        See `TripletAccumulator`.
    chunk : int, optional
        Anchors whose distances are held at a time; None decides by size.
    """
    if reduction is None or batch.triplets is not None:
        return list_all_triplets(distance, batch)
    accumulator = TripletAccumulator(margin, distance.is_inverted, transform)
    kernel = find_kernel(distance, batch.embeddings)
    if kernel is not None:
        loss, gx, gy = _loss_and_gradients(kernel, batch, accumulator, reduction, chunk)

        def again(embeddings: Tensor, ref_emb: Tensor) -> Tensor:
            return _from_matrix(
                distance, batch, replace(accumulator, sums=None), reduction, embeddings, ref_emb
            )

        ref_emb = None if batch.same_set else batch.ref_emb
        loss = _KnownGradient.apply(batch.embeddings, ref_emb, loss, gx, gy, again)
    elif chunk is None and batch.shape[0] * batch.shape[1] <= HELD:
        loss = _from_matrix(distance, batch, accumulator, reduction, batch.embeddings, batch.ref_emb)
    else:
        loss = _in_chunks(
            distance, batch, accumulator, reduction, chunk or max(1, HELD // 16 // batch.shape[1])
        )
    assert accumulator.sums is not None
    statistics = partial(_statistics, accumulator.sums.detach(), len(batch.embeddings))
    return Summed(loss.to(batch.embeddings.dtype), statistics)


def _loss_and_gradients(
    kernel: Kernel, batch: Batch, accumulator: TripletAccumulator, reduction: str, chunk: int | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the loss and its gradients: each block of rows leaves its part of the gradient and goes."""
    wanted = torch.is_grad_enabled() and (batch.embeddings.requires_grad or batch.ref_emb.requires_grad)
    same = batch.same_set
    with torch.no_grad():
        unit, length = normalize(batch.embeddings.detach(), kernel.normalized)
        ref_unit, ref_length = (
            (unit, length) if same else normalize(batch.ref_emb.detach(), kernel.normalized)
        )
        x, y = kernel.prepare(unit, ref_unit)
        cuts = list(blocks(len(x), len(y), x.device, chunk))
        whole = len(cuts) == 1
        if wanted and not whole:
            gx = torch.zeros_like(x)
            gy = gx if same else torch.zeros_like(y)
        for start, stop in cuts:
            rows = x if whole else x[start:stop]
            distances = kernel.rows(rows, y, start if same else None)
            weights = accumulator.add(distances, batch.block(start, stop))
            if wanted and whole:
                gx, gy = kernel.gradient(rows, y, distances, weights)
            elif wanted:
                for_rows, for_all = kernel.gradient(rows, y, distances, weights)
                gx[start:stop] += for_rows
                gy += for_all
        loss, factor = accumulator.reduce(reduction)
        if not wanted:
            return loss, None, None
        dtype = batch.embeddings.dtype
        grad = normalize_backward(gx * factor, unit, length).to(dtype)
        ref_grad = None if same else normalize_backward(gy * factor, ref_unit, ref_length).to(dtype)
    return loss, grad, ref_grad


class _KnownGradient(torch.autograd.Function):
    """A loss whose gradient was found along with its value.

    A second derivative computes the loss once more from the whole matrix, whose graph torch differentiates.
    """

    @staticmethod
    def forward(
        embeddings: Tensor,
        ref_emb: Tensor | None,
        loss: Tensor,
        grad: Tensor | None,
        ref_grad: Tensor | None,
        again: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        return loss.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        embeddings, ref_emb, _, grad, ref_grad, ctx.again = inputs
        ctx.save_for_backward(embeddings, ref_emb, grad, ref_grad)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        embeddings, ref_emb, grad, ref_grad = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            inputs = [embeddings] if ref_emb is None else [embeddings, ref_emb]
            wanted = [value for value, asked in zip(inputs, ctx.needs_input_grad, strict=False) if asked]
            loss = ctx.again(embeddings, embeddings if ref_emb is None else ref_emb)
            found = iter(torch.autograd.grad(loss, wanted, grads[0], create_graph=True))
            grad, ref_grad = (next(found) if asked else None for asked in ctx.needs_input_grad[:2])
        else:
            grad, ref_grad = (None if part is None else part * grads[0] for part in (grad, ref_grad))
        return grad, ref_grad, None, None, None, None


def _from_matrix(
    distance: Any,
    batch: Batch,
    accumulator: TripletAccumulator,
    reduction: str,
    embeddings: Tensor,
    ref_emb: Tensor,
) -> Tensor:
    """Return the loss by the whole matrix of distances and its graph."""
    accumulator.add(pair_matrix(distance, embeddings, ref_emb), batch.block())
    return accumulator.reduce(reduction)[0]


def _in_chunks(
    distance: Any, batch: Batch, accumulator: TripletAccumulator, reduction: str, size: int
) -> Tensor:
    """Do the same by parts of the matrix, each made once more on the way back."""

    def part(rows: Tensor, ref_emb: Tensor, start: int, stop: int) -> Tensor:
        own = replace(accumulator, sums=None)
        own.add(pair_matrix(distance, rows, ref_emb), batch.block(start, stop))
        assert own.sums is not None
        return own.sums

    for start, stop in blocks(*batch.shape, batch.embeddings.device, size):
        rows = batch.embeddings[start:stop]
        added = checkpoint(
            part, rows, batch.ref_emb, start, stop, use_reentrant=False, preserve_rng_state=False
        )
        accumulator.sums = added if accumulator.sums is None else accumulator.sums + added
    return accumulator.reduce(reduction)[0]
