"""Distances of all pairs: exact where two embeddings nearly meet, and by rows where memory is short.

The usual matrix product |x|² + |y|² - 2xy loses every digit of a small distance in float32, and the direct
difference takes ten times as long. Here float32 embeddings are centred and multiplied in float64: the error
stays below the resolution of the input, at the price of one product.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from .base import CosineSimilarity, DotProductSimilarity, LpDistance

CACHED = 1 << 17  # pairs of one block that stay in a processor's cache
HELD = 1 << 26  # pairs of one block that a device's memory holds with ease


class Kernel(Protocol):
    """A distance taken apart: some rows of the matrix, their gradient, and single pairs."""

    normalized: bool

    def prepare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return both sides (float64, of length 1 if normalised) as the other methods want them."""

    def rows(self, x: Tensor, y: Tensor, start: int | None) -> Tensor:
        """Return the distances (r, R); `start` is the place of row 0 in `y` where y holds x."""

    def gradient(self, x: Tensor, y: Tensor, distances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of sum(weights * distances) for `x` and `y`."""

    def pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the distances of row i of `x` (r, d) and row i of each of `y` (s, r, d): (s, r), with a graph."""


class Euclidean:
    """``LpDistance(p=2)``."""

    def __init__(self, normalized: bool, dtype: torch.dtype) -> None:
        self.normalized, self.dtype = normalized, dtype

    def prepare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Centre."""
        centre = y.detach().mean(0)
        moved = x - centre
        return moved, (moved if y is x else y - centre)

    def rows(self, x: Tensor, y: Tensor, start: int | None) -> Tensor:
        """Return Euclidean distances."""
        if self.dtype == torch.float64:  # there is nothing wider to multiply in
            return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
        lengths = (y * y).sum(1)
        squares = torch.addmm(lengths, x, y.t(), alpha=-2)
        squares += (x * x).sum(1, keepdim=True) if start is None else lengths[start : start + len(x), None]
        distances = squares.clamp_min_(0).sqrt_().to(self.dtype)
        if start is not None:
            distances.diagonal(start).zero_()
        return distances

    def gradient(self, x: Tensor, y: Tensor, distances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Spread the weights along the unit vectors between the pairs; none where two points meet."""
        steep = weights / distances.double().clamp_min(torch.finfo(torch.float32).tiny)
        steep = steep.where(distances > 0, 0.0)
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
        squares = (x - y).square().sum(2)
        together = squares == 0
        return (squares + together).sqrt() * ~together


class Similarity:
    """``DotProductSimilarity`` and ``CosineSimilarity``."""

    def __init__(self, normalized: bool, dtype: torch.dtype) -> None:
        self.normalized, self.dtype = normalized, dtype

    def prepare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Narrow to the embeddings' precision."""
        narrow = x.to(self.dtype)
        return narrow, (narrow if y is x else y.to(self.dtype))

    def rows(self, x: Tensor, y: Tensor, start: int | None) -> Tensor:
        """Return inner products."""
        return x @ y.t()

    def gradient(self, x: Tensor, y: Tensor, distances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights @ y and its counterpart."""
        weights = weights.to(x.dtype)
        if x is y:
            grad = (weights + weights.t()) @ x
            return grad, grad
        return weights @ y, weights.t() @ x

    def pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """Return inner products."""
        return (x * y).sum(2)


def find_kernel(distance: Any, embeddings: Tensor, power: bool = False) -> Kernel | None:
    """Return the fast form of a distance, or None if it has to be called; `power`: another power than 1 will do."""
    known: dict[type, type[Euclidean | Similarity]] = {
        LpDistance: Euclidean,
        CosineSimilarity: Similarity,
        DotProductSimilarity: Similarity,
    }
    form = known.get(type(distance))
    plain = embeddings.dtype in (torch.float32, torch.float64) and embeddings.device.type in ("cpu", "cuda")
    if form is None or not plain or distance.collect_stats or distance.p != 2:
        return None
    if not power and distance.power != 1:
        return None
    return form(distance.normalize_embeddings, embeddings.dtype)


def normalize(embeddings: Tensor, normalized: bool) -> tuple[Tensor, Tensor | None]:
    """Return the embeddings in float64, of length 1 if wanted, and the lengths that they had."""
    wide = embeddings.double()
    if not normalized:
        return wide, None
    length = torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min(1e-12)
    return wide / length, length


def normalize_backward(grad: Tensor, unit: Tensor, length: Tensor | None) -> Tensor:
    """Return the gradient for the embeddings from that for what `normalize` made of them."""
    if length is None:
        return grad
    along = (grad * unit).sum(1, keepdim=True).mul_(length > 1e-12)
    return torch.addcmul(grad, unit, along, value=-1).div_(length)


def widen(kernel: Kernel, embeddings: Tensor, ref_emb: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sides in float64, of length 1 if the kernel wants it, connected to the embeddings' graph."""
    x, _ = normalize(embeddings, kernel.normalized)
    return x, (x if ref_emb is embeddings else normalize(ref_emb, kernel.normalized)[0])


def blocks(
    rows: int, columns: int, device: torch.device, size: int | None = None
) -> Iterator[tuple[int, int]]:
    """Cut the rows so that a block of pairs stays in the cache (or, on a GPU, keeps it busy)."""
    size = size or max(1, (CACHED if device.type == "cpu" else HELD) // columns)
    for start in range(0, rows, size):
        yield start, min(start + size, rows)


class _Matrix(torch.autograd.Function):
    """All distances of a kernel; its backward pass is a function of the distances and has a gradient itself."""

    @staticmethod
    def forward(x: Tensor, y: Tensor | None, kernel: Kernel) -> Tensor:
        return kernel.rows(x, x, 0) if y is None else kernel.rows(x, y, None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y, ctx.kernel = inputs
        ctx.save_for_backward(x, y, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, distances = ctx.saved_tensors
        if y is None:
            return ctx.kernel.gradient(x, x, distances, grads[0])[0], None, None
        return (*ctx.kernel.gradient(x, y, distances, grads[0]), None)


def pair_matrix(distance: Any, embeddings: Tensor, ref_emb: Tensor) -> Tensor:
    """Return the distance (or similarity) of every pair, (B, R), with a graph."""
    kernel = find_kernel(distance, embeddings, power=True)
    made: Tensor
    if kernel is None:
        made = distance(embeddings, ref_emb)
        return made
    x, y = kernel.prepare(*widen(kernel, embeddings, ref_emb))
    made = _Matrix.apply(x, None if y is x else y, kernel)
    return made if distance.power == 1 else made**distance.power


def mean_distance(matrix: Tensor, same_set: bool) -> Tensor:
    """Return the mean over the pairs of different items."""
    total, number = matrix.detach().sum(dtype=torch.float64), matrix.numel()
    if same_set:
        total = total - matrix.detach().diagonal().sum(dtype=torch.float64)
        number -= len(matrix)
    return total / max(number, 1)


def pick(matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return ``matrix[rows, columns]`` by one flat index, whose gradient is quick to add up."""
    return matrix.reshape(-1).index_select(0, rows * matrix.shape[1] + columns)
