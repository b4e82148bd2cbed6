"""All triplets of a batch, for whatever reducer and miner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ._base import Batch, LossDict, MetricLoss
from ._distances import pair_matrix
from ._first_order import first_order
from ._pml import convert_to_triplets
from ._triplets import Tally, sum_triplets

Curve = Callable[[Tensor], tuple[Tensor, Tensor]]


def all_triplets(
    loss: MetricLoss,
    batch: Batch,
    margin: float,
    *,
    curve: Curve | None = None,
    smooth: bool = False,
    swap: bool = False,
    chunk: int | None = None,
) -> LossDict:
    """Return PML's dictionary for the sum over all triplets, and leave the figures with the loss.

    Parameters
    ----------
    curve : callable, optional
        A rising map of the distances; returns its value and its slope.
    smooth, swap, chunk
        As in ``TripletLoss``.
    """
    if batch.empty:
        return loss._nothing()
    how = loss._shortcut()
    if how is None or batch.triplets is not None:
        if batch.labels is None and batch.listed is None:
            raise ValueError("labels and indices_tuple cannot both be None; give one of them")
        triplets = batch.triplets or convert_to_triplets(
            batch.listed, batch.labels, batch.ref_labels, t_per_anchor="all"
        )
        return listed_triplets(loss, batch, triplets, margin, curve=curve, smooth=smooth, swap=swap)
    tally = Tally(margin=margin, inverted=loss.distance.is_inverted, curve=curve, smooth=smooth)
    value = sum_triplets(
        loss.distance, batch.embeddings, batch.ref_emb, batch.pairs(), tally, how, chunk, swap
    )
    loss._figures = tally
    return loss._reduced(value)


def listed_triplets(
    loss: MetricLoss,
    batch: Batch,
    triplets: tuple[Tensor, ...],
    margin: float,
    *,
    curve: Curve | None = None,
    smooth: bool = False,
    swap: bool = False,
) -> LossDict:
    """Return PML's dictionary with every listed triplet as a term of its own."""
    a, p, n = triplets
    if len(a) == 0:
        return loss._nothing()
    matrix = pair_matrix(loss.distance, batch.embeddings, batch.ref_emb)
    ap, an = pick(matrix, a, p), pick(matrix, a, n)
    if swap:
        among = matrix if batch.own else pair_matrix(loss.distance, batch.ref_emb, batch.ref_emb)
        an = loss.distance.smallest_dist(an, pick(among, p, n))
    far, near = (ap, an) if curve is None else (bend(ap, curve), bend(an, curve))
    excess: Tensor = loss.distance.margin(far, near) + margin
    terms = softplus(excess) if smooth else excess.relu()
    loss._figures = listed_figures(terms, ap, an, matrix, batch.own, a)
    return loss._terms(terms, (a, p, n))


class _Bend(torch.autograd.Function):
    """A curve that knows its slope."""

    @staticmethod
    def forward(ctx: Any, distances: Tensor, curve: Curve) -> Tensor:
        value, slope = curve(distances)
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return (grads[0] * ctx.saved_tensors[0]).to(grads[0].dtype), None


def bend(distances: Tensor, curve: Curve) -> Tensor:
    """Return the curve's value, with a graph."""
    bent: Tensor = _Bend.apply(distances, curve)
    return bent


def pick(matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return ``matrix[rows, columns]`` by one flat index, whose gradient is quick to add up."""
    return matrix.reshape(-1).index_select(0, rows * matrix.shape[1] + columns)


def listed_figures(
    terms: Tensor, ap: Tensor, an: Tensor, matrix: Tensor, own: bool, anchors: Tensor
) -> dict[str, Tensor | float]:
    """Return the statistics where every term is at hand."""
    with torch.no_grad():
        return {
            "active_fraction": (terms > 0).double().mean(),
            "hardest_positive": ap.double().mean(),
            "hardest_negative": an.double().mean(),
            "mean_distance": mean_distance(matrix, own),
            "anchors": torch.zeros(len(matrix), device=matrix.device).index_fill_(0, anchors, 1.0).sum(),
            "triplets": float(len(terms)),
        }


def mean_distance(matrix: Tensor, own: bool) -> Tensor:
    """Return the mean over the pairs of different items."""
    total, number = matrix.detach().sum(dtype=torch.float64), matrix.numel()
    if own:
        total = total - matrix.detach().diagonal().sum(dtype=torch.float64)
        number -= len(matrix)
    return total / max(number, 1)
