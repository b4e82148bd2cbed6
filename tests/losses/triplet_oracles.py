"""Slow and plain: triple loops over exact distances, and the gradient they imply."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor


def batch(
    seed: int,
    rows: int,
    labels: int,
    *,
    dim: int = 5,
    scale: float = 1.0,
    kind: str = "random",
    refs: int = 0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Embeddings and labels, and references with theirs (None for 0)."""
    rng = torch.Generator().manual_seed(seed)
    total = rows + refs
    points = torch.randn(total, dim, generator=rng, dtype=torch.float64) * scale
    if kind == "duplicates":
        points = points[torch.randint(0, max(1, total // 3), (total,), generator=rng)]
    elif kind == "equal":
        points = points[:1].expand(total, -1).clone()
    elif kind == "clusters":
        points = points[:3][torch.randint(0, min(3, total), (total,), generator=rng)] + 1e-4 * points
    points = points.to(dtype)
    y = torch.randint(0, labels, (total,), generator=rng)
    x = points[:rows].clone().requires_grad_()
    if not refs:
        return x, y[:rows], None, None
    return x, y[:rows], points[rows:].clone().requires_grad_(), y[rows:]


def euclidean(x: Tensor, y: Tensor, normalized: bool = True) -> Tensor:
    """Distances by direct differences, float64, with a gradient of 0 where two points meet."""
    x, y = x.double(), y.double()
    if normalized:
        x, y = torch.nn.functional.normalize(x), torch.nn.functional.normalize(y)
    squares = (x[:, None] - y[None]).square().sum(2)
    return torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).sqrt(), 0.0)


def triplets(y: Tensor, ry: Tensor | None) -> Iterator[tuple[int, int, int]]:
    own = ry is None
    refs = (y if ry is None else ry).tolist()
    for a, label in enumerate(y.tolist()):
        positives = [p for p, other in enumerate(refs) if other == label and not (own and p == a)]
        negatives = [n for n, other in enumerate(refs) if other != label]
        for p in positives:
            for n in negatives:
                yield a, p, n


def all_triplets(
    matrix: Tensor, y: Tensor, ry: Tensor | None, margin: float, how: str, *, smooth: bool = False
) -> tuple[float, Tensor, int, int]:
    """Value, gradient for the matrix, active triplets, triplets."""
    d = matrix.detach().tolist()
    weights = [[0.0] * matrix.shape[1] for _ in range(matrix.shape[0])]
    total, active, number = 0.0, 0, 0
    for a, p, n in triplets(y, ry):
        number += 1
        excess = d[a][p] - d[a][n] + margin
        if smooth:
            total += max(excess, 0.0) + math.log1p(math.exp(-abs(excess)))
            active += 1
            slope = 1 / (1 + math.exp(-excess))
        elif excess > 0:
            total += excess
            active += 1
            slope = 1.0
        else:
            continue
        weights[a][p] += slope
        weights[a][n] -= slope
    divisor = {"sum": 1, "mean": max(number, 1), "nonzero": max(active, 1)}[how]
    return total / divisor, torch.tensor(weights, dtype=torch.float64) / divisor, active, number


def batch_hard(
    matrix: Tensor, y: Tensor, ry: Tensor | None, easy: bool = False
) -> list[tuple[int, int, int]]:
    """The hardest triplet of each anchor that has one, or the easiest positive with the hardest negative."""
    d = matrix.detach().tolist()
    best: dict[int, tuple[int, int]] = {}
    for a, p, n in triplets(y, ry):
        chosen_p, hardest_n = best.get(a, (p, n))
        better = d[a][p] < d[a][chosen_p] if easy else d[a][p] > d[a][chosen_p]
        best[a] = p if better else chosen_p, n if d[a][n] < d[a][hardest_n] else hardest_n
    return [(a, p, n) for a, (p, n) in best.items()]


def semi_hard(matrix: Tensor, y: Tensor, ry: Tensor | None) -> list[tuple[int, int, int]]:
    """For every positive pair the nearest negative beyond it, or else the farthest negative."""
    d = matrix.detach().tolist()
    negatives: dict[tuple[int, int], list[int]] = {}
    for a, p, n in triplets(y, ry):
        negatives.setdefault((a, p), []).append(n)
    chosen = []
    for (a, p), ns in negatives.items():
        beyond = [n for n in ns if d[a][n] > d[a][p]]
        n = min(beyond, key=lambda n: d[a][n]) if beyond else max(ns, key=lambda n: d[a][n])
        chosen.append((a, p, n))
    return chosen


def close(found: Tensor, wanted: Tensor | float, tolerance: float) -> bool:
    """Equal to `tolerance` of the largest value, or of 1 if that is larger."""
    want = torch.as_tensor(wanted, dtype=torch.float64)
    size = max(float(want.abs().max()) if want.numel() else 0.0, 1e-300)
    return float((found.detach().double() - want).abs().max() if want.numel() else 0.0) <= tolerance * size
