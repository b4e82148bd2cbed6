"""The hardest positive and negative of each anchor."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from torch.nn.functional import softplus

from ._mining import check_mining, mine_per_anchor
from ._pairs import Batch
from .base import Mined, TripletBase, check_finite


class BatchHardTripletLoss(TripletBase):
    r"""Every item once as the anchor, with its hardest positive and its hardest negative.

    .. math:: \max(0, \max_p D_{ap} - \min_n D_{an} + m)

    averaged over the anchors that have a positive and a negative; the others are left out, and counted as
    ``statistics["left_out"]``.

    Parameters
    ----------
    margin : float or "soft"
        In units of the distance; "soft" takes softplus in the place of the hinge, which needs no margin.
    mining : {"hard", "quantile", "weighted"}
        "hard" takes the farthest positive and the nearest negative, which are outliers and wrong labels where
        there are any. "quantile" takes the positive below which a share `quantile` of the anchor's positives
        lies, and the negative at the same rank from the far end. "weighted" takes the mean distance to all
        positives, weighted by :math:`e^{D}` (normalised over the positives), and to all negatives, weighted by
        :math:`e^{-D}`: the adaptive weights of Ristani and Tomasi.
    quantile : float, optional
        For "quantile" alone: above 0, at most 1, 0.9 by default; 1 is the hardest. Ranks are whole: of n positives the
        ceil(quantile * n)-th farthest from the anchor.
    **kwargs
        ``distance``, ``reducer`` (MeanReducer by default), and so on, as in pytorch-metric-learning.

    See Also
    --------
    TripletLoss : all triplets; the safer start from scratch.
    TripletFocalLoss : the same triplets between exponentials of distances.

    Notes
    -----
    A loss about the margin while ``statistics["mean_distance"]`` is about 0 means collapse: all embeddings
    have met in one point. Start with ``TripletLoss``, with "soft", or with a lower learning rate.

    With a miner's pairs the hardest are chosen among these; a miner's triplets are taken as they are.

    References
    ----------
    A. Hermans, L. Beyer, B. Leibe, In defense of the triplet loss for person re-identification,
    arXiv 1703.07737 (2017), eq. 5. E. Ristani, C. Tomasi, Features for multi-target multi-camera tracking and
    re-identification, CVPR 2018, "Adaptive weighted triplet loss".

    Examples
    --------
    >>> import torch
    >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> loss = BatchHardTripletLoss(margin=0.2)
    >>> round(float(loss(embeddings, torch.tensor([0, 0, 1, 1]))), 4)
    0.2
    >>> loss(embeddings, torch.tensor([0, 0, 1, 2])), loss.statistics["left_out"]
    (tensor(0.2000), 2.0)
    """

    def __init__(
        self,
        margin: float | Literal["soft"] = 0.2,
        *,
        mining: Literal["hard", "quantile", "weighted"] = "hard",
        quantile: float | None = None,
        **kwargs: Any,
    ) -> None:
        share = check_mining(mining, quantile)
        super().__init__(**kwargs)
        self.margin: float | Literal["soft"] = margin if margin == "soft" else check_finite("margin", margin)
        self.mining, self.quantile = mining, share

    def mine(self, batch: Batch) -> Mined:
        """Choose one triplet of each anchor."""
        return mine_per_anchor(self.distance, batch, self.mining, self.quantile)

    def term(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the hinge, or softplus in its place."""
        gap = self.distance.margin(positive, negative)
        return softplus(gap, threshold=40) if self.margin == "soft" else (gap + self.margin).relu()
