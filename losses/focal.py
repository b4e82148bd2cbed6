"""The triplet focal loss."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ._base import LossDict, MetricLoss
from .batch_hard import BatchHardTripletLoss
from .semi_hard import SemiHardTripletLoss
from .triplet import TripletLoss


class _Exp:
    sigma: float

    def _transform(self, distances: Tensor) -> Tensor:
        return torch.exp(distances / self.sigma)


class _FocalHard(_Exp, BatchHardTripletLoss):
    pass


class _FocalSemi(_Exp, SemiHardTripletLoss):
    pass


class _FocalAll(TripletLoss):
    sigma: float

    def _matrix(self, embeddings: Tensor, ref_emb: Tensor) -> Tensor:
        return torch.exp(super()._matrix(embeddings, ref_emb) / self.sigma)


class TripletFocalLoss(MetricLoss):
    """The triplet loss between exponentials of distances: hard triplets weigh more.

    Examples
    --------
    >>> import torch
    >>> loss = TripletFocalLoss(margin=0.2, sigma=1.0)
    >>> float(loss(torch.eye(4), torch.tensor([0, 0, 1, 1])))
    0.2...
    """

    def __init__(
        self,
        margin: float = 0.2,
        sigma: float = 1.0,
        mining: Literal["hard", "all", "semi-hard"] = "hard",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.margin, self.sigma, self.mining = margin, sigma, mining
        inner = {"hard": _FocalHard, "all": _FocalAll, "semi-hard": _FocalSemi}[mining]
        self._inner = inner(margin=margin, distance=self.distance, reducer=self.reducer)
        self._inner.sigma = sigma

    def compute_loss(self, *args: Any) -> LossDict:
        """Return PML's dictionary of the loss."""
        found: LossDict = self._inner.compute_loss(*args)
        self._figures = self._inner._figures
        return found
