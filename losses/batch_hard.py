"""The hardest positive and negative of each anchor."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from ._base import Batch, LossDict, MetricLoss, finite
from ._mining import anchor_terms
from ._terms import Values, hinge, soft


class BatchHardTripletLoss(MetricLoss):
    r"""Every item once as the anchor, with its hardest positive and its hardest negative.

    .. math:: \max(0, \max_p D_{ap} - \min_n D_{an} + m)

    averaged over the anchors that have a positive and a negative; the others are left out, and counted as
    ``statistics["left_out"]``.

    Parameters
    ----------
    margin : float or "soft"
        In units of the distance; "soft" takes softplus in the place of the hinge, which needs no margin.
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
    arXiv 1703.07737 (2017), eq. 5.

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

    def __init__(self, margin: float | Literal["soft"] = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin: float | Literal["soft"] = margin if margin == "soft" else finite("margin", margin)

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor | None,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor,
        ref_labels: Tensor | None,
    ) -> LossDict:
        """Return PML's dictionary of the loss; called by ``forward``."""
        batch = Batch(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        return anchor_terms(self, batch, self._term)

    def _term(self, ap: Values, an: Values) -> tuple[Values, Values, Values]:
        gap = self.distance.margin(ap, an)
        if self.margin == "soft":
            return soft(gap, self.distance.is_inverted)
        return hinge(gap + self.margin, self.distance.is_inverted)
