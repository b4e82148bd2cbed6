"""A triplet's term: its value with its slopes, and the figures over many."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._first_order import first_order

Values = Any  # a tensor or an array, float64
Term = Callable[[Values, Values], tuple[Values, Values, Values]]


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


class Terms(torch.autograd.Function):
    """Terms that know their slopes."""

    @staticmethod
    def forward(ctx: Any, ap: Tensor, an: Tensor, term: Term) -> Tensor:
        terms, of_positive, of_negative = term(ap.double(), an.double())
        ctx.save_for_backward(of_positive, of_negative)
        made: Tensor = terms.to(ap.dtype)
        return made

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        of_positive, of_negative = ctx.saved_tensors
        grad = grads[0]
        return (of_positive * grad).to(grad.dtype), (of_negative * grad).to(grad.dtype), None


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
