"""FaceNet's choice of negatives."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ._mining import mine_per_positive_pair
from ._pairs import Batch
from .base import Mined, TripletBase, check_finite


class SemiHardTripletLoss(TripletBase):
    r"""Every positive pair with the nearest negative that is farther than the positive (FaceNet).

    .. math:: \max(0, D_{ap} - D_{an} + m), \quad n = \arg\min_{n: D_{an} > D_{ap}} D_{an}

    Where all negatives are nearer than the positive, the farthest of them is taken, as the loss that comes
    with TensorFlow Addons does. The mean is taken over the positive pairs.

    Parameters
    ----------
    margin : float
        In units of the distance.
    **kwargs
        ``distance``, ``reducer`` (MeanReducer by default), and so on, as in pytorch-metric-learning. FaceNet
        itself uses squared distances: ``LpDistance(power=2)``.

    See Also
    --------
    BatchHardTripletLoss : the hardest negative instead, which can collapse a network early in training.

    Notes
    -----
    With a miner's pairs the choice is made among these; a miner's triplets are taken as they are.

    References
    ----------
    F. Schroff, D. Kalenichenko, J. Philbin, FaceNet: a unified embedding for face recognition and
    clustering, CVPR 2015, section 3.2.

    Examples
    --------
    >>> import torch
    >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> loss = SemiHardTripletLoss(margin=0.8)
    >>> round(float(loss(embeddings, torch.tensor([0, 0, 1, 1]))), 4)
    0.2142
    """

    def __init__(self, margin: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin = check_finite("margin", margin)

    def mine(self, batch: Batch) -> Mined:
        """Choose one negative for every positive pair."""
        return mine_per_positive_pair(self.distance, batch)

    def term(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the hinge."""
        excess: Tensor = self.distance.margin(positive, negative) + self.margin
        return excess.relu()
