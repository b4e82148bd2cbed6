"""The sum over all triplets, row by row, with its gradient found on the way forward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ._counting import weigh
from ._distances import Geometry, geometry, off_sphere, on_sphere, pair_matrix
from ._first_order import first_order
from ._pairs import Block, Pairs

FAR = 3e38  # beyond any distance, and within float32
_CACHED = 1 << 17  # pairs of one block that stay in a processor's cache
_SMALL = 1 << 17  # pairs that are kept for the figures, in case they are asked for
_HELD = 1 << 26  # pairs of one block that a device's memory holds with ease


@dataclass
class Tally:
    """What the rows seen so far add up to.

    Parameters
    ----------
    margin : float
    inverted : bool
        Whether a larger value means nearer.
    curve : callable, optional
        A rising map of the distances; returns its value and its slope.
    smooth : bool
        Softplus in the place of the hinge, which takes every triplet in turn.
    between : (R, R), optional
        Distances among the references: the negative may be seen from the positive (``swap``).
    """

    margin: float
    inverted: bool
    curve: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    smooth: bool = False
    between: Tensor | None = None
    total: Any = 0.0
    active: Any = 0.0
    triplets: Any = 0.0
    anchors: Any = 0.0
    farthest: Any = 0.0
    nearest: Any = 0.0
    distances: Any = 0.0
    pairs: int = 0
    between_weights: Tensor | None = None
    waiting: list[tuple[Tensor, Block]] = field(default_factory=list)

    def add(self, distances: Tensor, block: Block) -> Tensor:
        """Count the rows of a block; return the gradient of their sum for each distance, (r, R)."""
        keys, slope = (distances, None) if self.curve is None else self.curve(distances)
        if self.inverted:
            keys = -keys
        if self.smooth or self.between is not None:
            weights = self._each(keys, block)
        else:
            weights, active = weigh(keys, block, self.margin)
            self.total = self.total + _dot(weights, keys) + self.margin * active
            self.active = self.active + active
        if block.start == 0 and distances.numel() <= _SMALL:
            self.waiting.append((distances, block))
        else:
            self._look(distances, block)
        if self.inverted:
            weights = -weights
        return weights if slope is None else weights.double() * slope

    def _look(self, distances: Tensor, block: Block) -> None:
        positive, negative = block.positive, block.negative
        up, down = block.weights
        positives, negatives = up.sum(1), down.sum(1)
        counts = (positives > 0) & (negatives > 0)
        self.triplets = self.triplets + (positives.double() * negatives).sum()
        self.anchors = self.anchors + counts.sum()
        far, near = extremes(distances, positive, negative, self.inverted)
        self.farthest = self.farthest + torch.where(counts, far, 0.0).sum(dtype=torch.float64)
        self.nearest = self.nearest + torch.where(counts, near, 0.0).sum(dtype=torch.float64)
        self.distances = self.distances + distances.sum(dtype=torch.float64)
        self.pairs += distances.numel()
        if block.own:
            itself = distances.diagonal(block.start)
            self.distances = self.distances - itself.sum(dtype=torch.float64)
            self.pairs -= len(itself)

    def _each(self, keys: Tensor, block: Block) -> Tensor:
        """Go through the triplets, one anchor at a time: P x N terms in memory."""
        weights = torch.zeros_like(keys)
        if self.between is not None and self.between_weights is None:
            self.between_weights = torch.zeros_like(self.between)
        up, down = block.weights
        for row in range(len(keys)):
            p, n = up[row].nonzero()[:, 0], down[row].nonzero()[:, 0]
            if len(p) == 0 or len(n) == 0:
                continue
            times = up[row, p, None].to(keys.dtype) * down[row, n]
            far, near = keys[row, p], keys[row, n]
            gap = near.expand(len(p), -1)
            own = torch.ones_like(gap)
            if self.between is not None:
                crossed = self.between[p][:, n] * (-1.0 if self.inverted else 1.0)
                own = (near < crossed).to(keys.dtype) + 0.5 * (
                    near == crossed
                )  # as torch.minimum shares ties
                gap = torch.minimum(near, crossed)
            excess = far[:, None] - gap + self.margin
            if self.smooth:
                terms = softplus(excess)
                slope = torch.where(excess > 20, 1.0, excess.sigmoid()) * times
            else:
                terms = excess.relu()
                slope = (excess > 0) * times
            self.total = self.total + (terms * times).sum(dtype=torch.float64)
            self.active = self.active + ((terms > 0) * times).sum(dtype=torch.float64)
            weights[row, p] += slope.sum(1)
            weights[row, n] -= (slope * own).sum(0)
            if self.between_weights is not None:
                crossing = slope * (1 - own) * (-1.0 if self.inverted else 1.0)
                self.between_weights[p[:, None], n] -= crossing
        return weights

    def reduce(self, how: str) -> tuple[Tensor, Tensor]:
        """Return the loss, and the factor that makes it of the sum: "sum", "mean" or "nonzero"."""
        total = torch.as_tensor(self.total, dtype=torch.float64)
        if how == "sum":
            return total, torch.ones_like(total)
        if how == "mean":
            self._settle()
        number = torch.as_tensor(self.triplets if how == "mean" else self.active, dtype=torch.float64)
        factor = 1 / number.clamp(min=1)
        return total * factor, factor

    def _settle(self) -> None:
        with torch.no_grad():
            while self.waiting:
                self._look(*self.waiting.pop())

    def read(self) -> dict[str, float]:
        """Return the statistics of the call."""
        self._settle()
        self.between = self.between_weights = None
        anchors, triplets = float(self.anchors), float(self.triplets)
        return {
            "active_fraction": float(self.active) / max(triplets, 1.0),
            "hardest_positive": float(self.farthest) / anchors if anchors else math.nan,
            "hardest_negative": float(self.nearest) / anchors if anchors else math.nan,
            "mean_distance": float(self.distances) / max(self.pairs, 1),
            "anchors": anchors,
            "triplets": triplets,
        }


def extremes(distances: Tensor, positive: Tensor, negative: Tensor, inverted: bool) -> tuple[Tensor, Tensor]:
    """Return each row's hardest positive and hardest negative distance (meaningless where there is none)."""
    if inverted:
        near, far = extremes(distances, negative, positive, False)
        return far, near
    # A sum in the place of a choice: branches on labels cannot be predicted.
    farthest = torch.sub(distances, (~positive).to(distances.dtype), alpha=FAR).amax(1)
    nearest = torch.add(distances, (~negative).to(distances.dtype), alpha=FAR).amin(1)
    return farthest, nearest


def _dot(weights: Tensor, keys: Tensor) -> Tensor:
    return torch.dot(weights.double().view(-1), keys.double().reshape(-1))


def blocks(
    rows: int, columns: int, device: torch.device, size: int | None = None
) -> Iterator[tuple[int, int]]:
    """Cut the rows so that a block of pairs stays in the cache (or, on a GPU, keeps it busy)."""
    size = size or max(1, (_CACHED if device.type == "cpu" else _HELD) // columns)
    for start in range(0, rows, size):
        yield start, min(start + size, rows)


class _ByRows(torch.autograd.Function):
    """The reduced sum, without ever holding the matrix: each block of rows leaves its gradient and goes."""

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        ref_emb: Tensor,
        form: Geometry,
        pairs: Pairs,
        tally: Tally,
        how: str,
        size: int | None,
    ) -> Tensor:
        own = pairs.own
        made, length = on_sphere(embeddings, form.normalized)
        ref_made, ref_length = (made, length) if own else on_sphere(ref_emb, form.normalized)
        x, y = form.place(made, ref_made)
        wanted = any(ctx.needs_input_grad)
        cuts = list(blocks(len(x), len(y), x.device, size))
        whole = len(cuts) == 1
        if wanted and not whole:
            gx = torch.zeros_like(x)
            gy = gx if own else torch.zeros_like(y)
        for start, stop in cuts:
            rows = x if whole else x[start:stop]
            distances = form.rows(rows, y, start if own else None)
            weights = tally.add(distances, pairs.block(start, stop))
            if wanted and whole:
                gx, gy = form.pull(rows, y, distances, weights)
            elif wanted:
                for_rows, for_all = form.pull(rows, y, distances, weights)
                gx[start:stop] += for_rows
                gy += for_all
        loss, factor = tally.reduce(how)
        if wanted:
            grads = [off_sphere(gx.mul_(factor), made, length)]
            if not own:
                grads.append(off_sphere(gy.mul_(factor), ref_made, ref_length))
            ctx.save_for_backward(*grads)
        return loss.float()

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gx, *gy = (saved * grads[0] for saved in ctx.saved_tensors)
        return gx, (gy[0] if gy else None), None, None, None, None, None


class _Called(torch.autograd.Function):
    """The same for a distance that has to be called; its parameters get their gradient too."""

    @staticmethod
    def forward(
        ctx: Any,
        distance: Any,
        pairs: Pairs,
        tally: Tally,
        how: str,
        size: int,
        own: bool,
        x: Tensor,
        y: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        inputs = [x, *([] if own else [y]), *parameters]
        wanted = [i for i, value in enumerate(inputs) if value.requires_grad]
        grads = [torch.zeros_like(value) for value in inputs]
        leaf = x.detach().requires_grad_(x.requires_grad)
        ref = leaf if own else y.detach().requires_grad_(y.requires_grad)
        sources = [leaf, *([] if own else [ref]), *parameters]
        for start, stop in blocks(len(x), len(y), x.device, size):
            with torch.enable_grad():
                distances = pair_matrix(distance, leaf[start:stop], ref)
            weights = tally.add(distances.detach(), pairs.block(start, stop))
            if wanted and distances.requires_grad:
                found = torch.autograd.grad(
                    distances, [sources[i] for i in wanted], weights.to(distances.dtype), allow_unused=True
                )
                for i, grad in zip(wanted, found, strict=True):
                    if grad is not None:
                        grads[i] += grad
        loss, factor = tally.reduce(how)
        ctx.own = own
        ctx.save_for_backward(*(grad.mul_(factor) for grad in grads))
        return loss.to(x.dtype)

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gx, *rest = (grad * grads[0] for grad in ctx.saved_tensors)
        gy = None if ctx.own else rest.pop(0)
        return (None, None, None, None, None, None, gx, gy, *rest)


class _Weighted(torch.autograd.Function):
    """A number whose gradient for some matrices is already known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, count: int, *both: Tensor) -> Tensor:
        ctx.save_for_backward(*both[count:])
        ctx.count = count
        return value.to(both[0].dtype)

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(weight * grads[0] for weight in ctx.saved_tensors), *([None] * ctx.count))


def sum_triplets(
    distance: Any,
    embeddings: Tensor,
    ref_emb: Tensor,
    pairs: Pairs,
    tally: Tally,
    how: str,
    chunk: int | None,
    swap: bool,
) -> Tensor:
    """Return the sum or mean over all triplets of the pairs, with a graph.

    Parameters
    ----------
    how : {"sum", "mean", "nonzero"}
        The last divides by the number of triplets above zero.
    chunk : int or None
        Anchors whose distances are held at a time; None decides by size.
    """
    form = geometry(distance, embeddings)
    if form is not None and not swap:
        made: Tensor = _ByRows.apply(embeddings, ref_emb, form, pairs, tally, how, chunk)
        return made
    own = ref_emb is embeddings
    rows = len(embeddings)
    if not swap and (chunk is not None or rows * len(ref_emb) > _HELD):
        size = chunk or max(1, _HELD // 16 // len(ref_emb))
        parameters = [value for value in distance.parameters() if value.requires_grad]
        called: Tensor = _Called.apply(
            distance, pairs, tally, how, size, own, embeddings, ref_emb, *parameters
        )
        return called
    matrix = pair_matrix(distance, embeddings, ref_emb)
    sources = [matrix]
    if swap:
        sources.append(matrix if own else pair_matrix(distance, ref_emb, ref_emb))
    with torch.no_grad():
        held = matrix.detach()
        tally.between = sources[1].detach() if swap else None
        weights = torch.empty_like(held)
        for start, stop in blocks(rows, len(ref_emb), held.device, chunk):
            weights[start:stop] = tally.add(held[start:stop], pairs.block(start, stop))
        loss, factor = tally.reduce(how)
        gradients = [weights.mul_(factor.to(weights.dtype))]
        if tally.between_weights is not None:
            gradients.append(tally.between_weights.mul_(factor.to(weights.dtype)))
    weighted: Tensor = _Weighted.apply(loss, len(sources), *sources, *gradients)
    return weighted
