"""FaceNet's choice of negatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._base import LossDict, MetricLoss, masks


class SemiHardTripletLoss(MetricLoss):
    """Every positive pair with the nearest negative that is farther than the positive (Schroff et al. 2015).

    Examples
    --------
    >>> import torch
    >>> loss = SemiHardTripletLoss(margin=0.2)
    >>> float(loss(torch.eye(4), torch.tensor([0, 0, 1, 1])))
    0.2...
    """

    def __init__(self, margin: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin = margin

    def _transform(self, distances: Tensor) -> Tensor:
        return distances

    def compute_loss(self, embeddings, labels, indices_tuple, ref_emb, ref_labels) -> LossDict:  # type: ignore[no-untyped-def]
        """Return PML's dictionary of the loss."""
        matrix = self._matrix(embeddings, ref_emb)
        same, other = masks(labels, ref_labels)
        a, p = (same & other.any(1, keepdim=True)).nonzero(as_tuple=True)
        if len(a) == 0:
            return self._nothing()
        sign = -1.0 if self.distance.is_inverted else 1.0
        with torch.no_grad():
            key, order = (sign * matrix).masked_fill(~other, torch.inf).sort(1)
            rank = torch.searchsorted(key, sign * matrix, right=True)
            n = order.gather(1, torch.minimum(rank, other.sum(1, keepdim=True) - 1).clamp(min=0))[a, p]
        ap, an = matrix[a, p], matrix[a, n]
        losses = (self.distance.margin(self._transform(ap), self._transform(an)) + self.margin).relu()
        self._figures = {
            "active_fraction": (losses.detach() > 0).float().mean(),
            "hardest_positive": ap.detach().mean(),
            "hardest_negative": an.detach().mean(),
            "mean_distance": matrix.detach().mean(),
            "anchors": float(len(a.unique())),
        }
        return self._terms(losses, (a, p, n))
