"""The hardest positive and negative of each anchor."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ._base import LossDict, MetricLoss, masks


class BatchHardTripletLoss(MetricLoss):
    """Each item once as the anchor, with its hardest positive and its hardest negative (Hermans et al. 2017).

    Examples
    --------
    >>> import torch
    >>> loss = BatchHardTripletLoss(margin=0.2)
    >>> float(loss(torch.eye(4), torch.tensor([0, 0, 1, 1])))
    0.2...
    """

    def __init__(self, margin: float | Literal["soft"] = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin = margin

    def _transform(self, distances: Tensor) -> Tensor:
        return distances

    def compute_loss(self, embeddings, labels, indices_tuple, ref_emb, ref_labels) -> LossDict:  # type: ignore[no-untyped-def]
        """Return PML's dictionary of the loss."""
        matrix = self._matrix(embeddings, ref_emb)
        same, other = masks(labels, ref_labels)
        keep = same.any(1) & other.any(1)
        anchors = keep.nonzero()[:, 0]
        if len(anchors) == 0:
            return self._nothing()
        sign = -1.0 if self.distance.is_inverted else 1.0
        with torch.no_grad():
            far = (sign * matrix).masked_fill(~same, -torch.inf).argmax(1)[anchors]
            near = (sign * matrix).masked_fill(~other, torch.inf).argmin(1)[anchors]
        ap, an = matrix[anchors, far], matrix[anchors, near]
        violation = self.distance.margin(self._transform(ap), self._transform(an))
        if self.margin == "soft":
            losses = torch.nn.functional.softplus(violation)
        else:
            losses = (violation + self.margin).relu()
        self._figures = {
            "active_fraction": (losses.detach() > 0).float().mean(),
            "hardest_positive": ap.detach().mean(),
            "hardest_negative": an.detach().mean(),
            "mean_distance": matrix.detach().mean(),
            "anchors": float(len(anchors)),
        }
        return self._terms(losses, (anchors, far, near))
