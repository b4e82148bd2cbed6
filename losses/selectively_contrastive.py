"""Hard negatives pushed away alone."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ._mining import mine_per_anchor
from ._pairs import Batch
from .base import CosineSimilarity, Mined, TripletBase, check_finite


class SelectivelyContrastiveLoss(TripletBase):
    r"""The softmax triplet loss; where the negative beats the positive, the negative alone is pushed away.

    On similarities S, for the hardest negative n and a positive p of each anchor a,

    .. math::
        -\log \frac{e^{S_{ap}/\tau}}{e^{S_{ap}/\tau} + e^{S_{an}/\tau}}, \quad
        \text{but } \lambda S_{an} \text{ where } S_{an} > S_{ap}.

    Parameters
    ----------
    lam : float
        Weight of the triplets whose negative is more similar than their positive.
    positives : {"easy", "hard"}
        The most similar positive of each anchor, as the authors do, or the least similar one.
    temperature : float
        Of the softmax; the authors' code uses 0.1 where the paper's formula has none.
    **kwargs
        ``distance`` (cosine similarity by default; it must be a similarity), ``reducer`` (MeanReducer by
        default), and so on, as in pytorch-metric-learning.

    Notes
    -----
    The loss can fall below 0, where a hard negative has a similarity below 0. With a miner's pairs the
    choice is made among these; a miner's triplets are taken as they are.

    References
    ----------
    H. Xuan, A. Stylianou, X. Liu, R. Pless, Hard negative examples are hard, but useful, ECCV 2020, eq. 7.

    Examples
    --------
    >>> import torch
    >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> loss = SelectivelyContrastiveLoss(lam=1.0)
    >>> round(float(loss(embeddings, torch.tensor([0, 0, 1, 1]))), 4)
    0.6931
    """

    def __init__(
        self,
        lam: float = 1.0,
        *,
        positives: Literal["easy", "hard"] = "easy",
        temperature: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.lam = check_finite("lam", lam)
        self.temperature = check_finite("temperature", temperature)
        if self.lam < 0:
            raise ValueError(f"lam={lam!r} must be at least 0")
        if self.temperature <= 0:
            raise ValueError(f"temperature={temperature!r} must be above 0")
        if positives not in ("easy", "hard"):
            raise ValueError(f"positives={positives!r} is unknown; use 'easy' or 'hard'")
        if not self.distance.is_inverted:
            raise ValueError(
                f"distance={type(self.distance).__name__} is no similarity; use CosineSimilarity "
                "(the default) or DotProductSimilarity"
            )
        self.positives = positives

    def get_default_distance(self) -> CosineSimilarity:
        """Return the cosine similarity."""
        return CosineSimilarity()

    def mine(self, batch: Batch) -> Mined:
        """Choose the hardest negative of each anchor, and its easiest or hardest positive."""
        return mine_per_anchor(self.distance, batch, easy_positive=self.positives == "easy")

    def term(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the softmax loss, or the negative's similarity where it beats the positive's."""
        contrast = softplus((negative - positive) / self.temperature, threshold=40)
        return torch.where(negative > positive, self.lam * negative, contrast)
