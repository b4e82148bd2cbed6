"""Hard negatives pushed away alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
import torch

from ._base import LossDict
from .batch_hard import BatchHardTripletLoss
from pytorch_metric_learning.distances import CosineSimilarity


class SelectivelyContrastiveLoss(BatchHardTripletLoss):
    """Softmax triplet loss, but only the negative is pushed where it beats the positive (Xuan et al. 2020).

    Examples
    --------
    >>> import torch
    >>> loss = SelectivelyContrastiveLoss(lam=1.0)
    >>> float(loss(torch.eye(4), torch.tensor([0, 0, 1, 1])))
    0.69...
    """

    def __init__(self, lam: float = 1.0, **kwargs: Any) -> None:
        super().__init__(margin=0.0, **kwargs)
        self.lam = lam

    def get_default_distance(self) -> CosineSimilarity:
        """Return the cosine similarity."""
        return CosineSimilarity()

    def compute_loss(self, embeddings: Tensor, *args: Any) -> LossDict:
        """Return PML's dictionary of the loss."""
        found = super().compute_loss(embeddings, *args)
        indices = found["loss"]["indices"]
        if indices is None:
            return found
        a, p, n = indices
        matrix = self._matrix(embeddings, args[2])
        ap, an = matrix[a, p], matrix[a, n]
        losses = torch.where(an > ap, self.lam * an, nn.functional.softplus(an - ap))
        return self._terms(losses, indices)
