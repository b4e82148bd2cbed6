"""The sum or mean over all triplets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._base import LossDict, MetricLoss
from ._pml import AvgNonZeroReducer, convert_to_triplets


class TripletLoss(MetricLoss):
    """All triplets, exactly.  In place of PML's ``TripletMarginLoss``.

    Examples
    --------
    >>> import torch
    >>> loss = TripletLoss(margin=0.2)
    >>> float(loss(torch.eye(4), torch.tensor([0, 0, 1, 1])))
    0.2...
    """

    def __init__(
        self,
        margin: float = 0.05,
        swap: bool = False,
        smooth_loss: bool = False,
        triplets_per_anchor: int | str = "all",
        *,
        chunk: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.margin = margin
        self.swap = swap
        self.smooth_loss = smooth_loss
        self.triplets_per_anchor = triplets_per_anchor
        self.chunk = chunk
        self.add_to_recordable_attributes(list_of_names=["margin"], is_stat=False)

    def get_default_reducer(self) -> AvgNonZeroReducer:
        """Return PML's: the mean over the triplets that are not zero."""
        return AvgNonZeroReducer()

    def compute_loss(self, embeddings, labels, indices_tuple, ref_emb, ref_labels) -> LossDict:  # type: ignore[no-untyped-def]
        """Return PML's dictionary of the loss."""
        if labels is None and indices_tuple is None:
            raise ValueError("labels and indices_tuple cannot both be None; give one of them")
        triplets = convert_to_triplets(
            indices_tuple, labels, ref_labels, t_per_anchor=self.triplets_per_anchor
        )
        a, p, n = triplets
        if len(a) == 0:
            return self._nothing()
        matrix = self._matrix(embeddings, ref_emb)
        ap, an = matrix[a, p], matrix[a, n]
        if self.swap:
            an = self.distance.smallest_dist(an, self._matrix(ref_emb, ref_emb)[p, n])
        violation: Tensor = self.distance.margin(ap, an) + self.margin
        losses = torch.nn.functional.softplus(violation) if self.smooth_loss else violation.relu()
        with torch.no_grad():
            self._figures = {
                "active_fraction": (losses > 0).float().mean(),
                "hardest_positive": ap.mean(),
                "hardest_negative": an.mean(),
                "mean_distance": matrix.mean(),
                "anchors": float(len(a.unique())),
            }
        return self._terms(losses, (a, p, n))
