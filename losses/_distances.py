"""Distances of all pairs: exact where two embeddings nearly meet, and by rows where memory is short.

The usual matrix product |x|² + |y|² - 2xy loses every digit of a small distance in float32, and the direct
difference takes ten times as long. Here float32 embeddings are centred and multiplied in float64: the error
stays below the resolution of the input, at the price of one product.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ._pml import CosineSimilarity, DotProductSimilarity, LpDistance


class Geometry(Protocol):
    """A distance taken apart: what is needed for some rows, and the gradient of those rows."""

    normalized: bool

    def place(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return both sides, float64 and of length 1 if normalised, as the other methods want them."""

    def rows(self, x: Tensor, y: Tensor, own: int | None) -> Tensor:
        """Return the distances (r, R), float32; `own` is the place of row 0 in `y` where y holds x."""

    def pull(self, x: Tensor, y: Tensor, distances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of sum(weights * distances) for `x` and `y`."""

    def pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the distances of row i of `x` and row i of `y`, float32 (r,), with a graph."""


class Euclidean:
    """``LpDistance(p=2)``."""

    def __init__(self, normalized: bool) -> None:
        self.normalized = normalized

    def place(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Centre."""
        centre = y.detach().mean(0)
        moved = x - centre
        return moved, (moved if y is x else y - centre)

    def rows(self, x: Tensor, y: Tensor, own: int | None) -> Tensor:
        """Return Euclidean distances."""
        lengths = (y * y).sum(1)
        squares = torch.addmm(lengths, x, y.t(), alpha=-2)
        squares += (x * x).sum(1, keepdim=True) if own is None else lengths[own : own + len(x), None]
        distances = squares.clamp_min_(0).sqrt_().float()
        if own is not None:
            distances.diagonal(own).zero_()
        return distances

    def pull(self, x: Tensor, y: Tensor, distances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Spread the weights along the unit vectors between the pairs; none where two points meet."""
        steep = _steep(distances, weights)
        if x is y:
            steep = steep + steep.t()
            grad = torch.addmm(x * steep.sum(1, keepdim=True), steep, x, alpha=-1)
            return grad, grad
        return (
            torch.addmm(x * steep.sum(1, keepdim=True), steep, y, alpha=-1),
            torch.addmm(y * steep.sum(0)[:, None], steep.t(), x, alpha=-1),
        )

    def pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """Return Euclidean distances, with a gradient of 0 where two points meet."""
        squares = (x - y).square().sum(1)
        return (squares + (squares == 0)).sqrt().mul(squares > 0).float()


class Similarity:
    """``DotProductSimilarity`` and ``CosineSimilarity``."""

    def __init__(self, normalized: bool) -> None:
        self.normalized = normalized

    def place(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Narrow to float32."""
        narrow = x.float()
        return narrow, (narrow if y is x else y.float())

    def rows(self, x: Tensor, y: Tensor, own: int | None) -> Tensor:
        """Return inner products."""
        return (x @ y.t()).float()

    def pull(self, x: Tensor, y: Tensor, distances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights @ y and its counterpart."""
        weights = weights.to(x.dtype)
        if x is y:
            grad = (weights + weights.t()) @ x
            return grad, grad
        return weights @ y, weights.t() @ x

    def pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """Return inner products."""
        return (x * y).sum(1)


def _steep(distances: Tensor, weights: Tensor) -> Tensor:
    """Return weights / distances in float64, 0 where the distance is 0."""
    steep = weights.double()
    steep /= distances.clamp_min(torch.finfo(torch.float32).tiny)
    steep *= distances > 0
    return steep


def on_sphere(embeddings: Tensor, normalized: bool) -> tuple[Tensor, Tensor | None]:
    """Return the embeddings in float64, of length 1 if wanted, and the lengths that they had."""
    wide = embeddings.double()
    if not normalized:
        return wide, None
    size = torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min_(1e-12)
    return wide / size, size


def off_sphere(grad: Tensor, unit: Tensor, size: Tensor | None) -> Tensor:
    """Return the gradient for the embeddings, float32, from that for what `on_sphere` made of them."""
    if size is not None:
        along = (grad * unit).sum(1, keepdim=True).mul_(size > 1e-12)
        grad = torch.addcmul(grad, unit, along, value=-1).div_(size)
    return grad.float()


def prepare(form: Geometry, embeddings: Tensor, ref_emb: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sides as the geometry wants them, connected to the embeddings' graph."""

    def wide(x: Tensor) -> Tensor:
        return normalize(x.double(), dim=1) if form.normalized else x.double()

    x = wide(embeddings)
    return form.place(x, x if ref_emb is embeddings else wide(ref_emb))


def geometry(distance: Any, embeddings: Tensor) -> Geometry | None:
    """Return the fast form of a distance, or None if it has to be called."""
    plain = embeddings.dtype == torch.float32 and embeddings.device.type in ("cpu", "cuda")
    if not plain or getattr(distance, "collect_stats", False) or getattr(distance, "power", 1) != 1:
        return None
    if type(distance) is LpDistance and distance.p == 2:
        return Euclidean(distance.normalize_embeddings)
    if type(distance) in (CosineSimilarity, DotProductSimilarity) and distance.p == 2:
        return Similarity(distance.normalize_embeddings)
    return None


class _Matrix(torch.autograd.Function):
    """All distances of a geometry, with their gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, form: Geometry, own: bool) -> Tensor:
        y = x if own else y
        distances = form.rows(x, y, 0 if own else None)
        ctx.save_for_backward(x, y, distances)
        ctx.form, ctx.own = form, own
        return distances

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, distances = ctx.saved_tensors
        if ctx.own:
            return ctx.form.pull(x, x, distances, grads[0])[0], None, None, None
        return (*ctx.form.pull(x, y, distances, grads[0]), None, None)


def pair_matrix(distance: Any, embeddings: Tensor, ref_emb: Tensor) -> Tensor:
    """Return the distance (or similarity) of every pair, (B, R), with a graph."""
    form = geometry(distance, embeddings)
    if form is not None:
        x, y = prepare(form, embeddings, ref_emb)
        made: Tensor = _Matrix.apply(x, y, form, y is x)
        return made
    if type(distance) is LpDistance and distance.p == 2 and not distance.collect_stats:
        x = distance.maybe_normalize(embeddings)
        y = x if ref_emb is embeddings else distance.maybe_normalize(ref_emb)
        made = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
        return made if distance.power == 1 else made**distance.power
    called: Tensor = distance(embeddings, ref_emb)
    return called
