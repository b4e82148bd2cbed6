"""The triplet focal loss."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from ._all_triplets import sum_all_triplets
from ._mining import MININGS, check_chunk, check_mining, mine_per_anchor, mine_per_positive_pair
from ._pairs import Batch
from .base import (
    AvgNonZeroReducer,
    CosineSimilarity,
    LpDistance,
    MeanReducer,
    Mined,
    Summed,
    TripletBase,
    check_finite,
)


class TripletFocalLoss(TripletBase):
    r"""The triplet loss between exponentials of the distances: the harder a triplet, the more it weighs.

    .. math:: \max(0, e^{D_{ap} / \sigma} - e^{D_{an} / \sigma} + m)

    Parameters
    ----------
    margin : float
        In units of the exponentials.
    sigma : float
        In units of the distance. The smaller it is, the more the far pairs rule: the gradient of a pair at
        distance D grows like :math:`e^{D/\sigma} / \sigma`. For 32 random normalised embeddings its norm is
        about 4 times that of batch hard at sigma 1, 350 times at 0.3, and 10 million times at 0.1. Divide the
        learning rate accordingly (or clip gradients; an optimiser like Adam rescales them anyway).
    mining : {"hard", "all", "semi-hard", "quantile", "weighted"}
        The triplets of `TripletLoss` ("all"), of `SemiHardTripletLoss`, or those of `BatchHardTripletLoss` and
        its minings. "all" is exact by the same sorting, as the exponential rises with the distance. With
        "weighted" the exponentials are those of the mean distances.
    quantile : float, optional
        For "quantile" alone, as in `BatchHardTripletLoss`.
    chunk : int, optional
        For "all" alone: anchors in memory at a time, as in `TripletLoss`.
    **kwargs
        ``distance``, ``reducer`` and so on, as in pytorch-metric-learning. By default the mean over the
        anchors or the positive pairs ("semi-hard"), and over the triplets that are not zero ("all").

    Raises
    ------
    ValueError
        If the exponential or its slope overflows for the distance's range: at construction for normalised
        embeddings (distances up to 2 need a sigma of at least 0.0238), at the call otherwise. The message
        says which sigma would do.

    Notes
    -----
    At full collapse the loss equals the margin, as that of batch hard does: watch
    ``statistics["mean_distance"]``.

    References
    ----------
    S. Zhang, Q. Zhang, X. Wei, Y. Zhang, Y. Xia, Person re-identification with triplet focal loss,
    IEEE Access 6 (2018).

    Examples
    --------
    >>> import torch
    >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> loss = TripletFocalLoss(margin=0.2, sigma=0.5)
    >>> round(float(loss(embeddings, torch.tensor([0, 0, 1, 1]))), 4)
    0.2
    """

    def __init__(
        self,
        margin: float = 0.2,
        sigma: float = 1.0,
        mining: Literal["hard", "all", "semi-hard", "quantile", "weighted"] = "hard",
        *,
        quantile: float | None = None,
        chunk: int | None = None,
        **kwargs: Any,
    ) -> None:
        share = check_mining(mining, quantile, ("all", "semi-hard", *MININGS))
        self._mining = mining
        super().__init__(**kwargs)
        self.margin = check_finite("margin", margin)
        self.sigma = check_finite("sigma", sigma)
        if self.sigma <= 0:
            raise ValueError(f"sigma={sigma!r} must be above 0; 0.3 to 1 are usual for normalised embeddings")
        self.chunk = check_chunk(chunk, "" if mining == "all" else f"mining={mining!r}")
        self.quantile = share
        self._dtype = torch.float32  # of the embeddings of the call
        self._range = _largest(self.distance)
        if self._range is not None:
            self._check(self._range, torch.float32)

    @property
    def mining(self) -> str:
        """Which triplets are taken."""
        return self._mining

    def get_default_reducer(self) -> AvgNonZeroReducer | MeanReducer:
        """Return the mean over the triplets above zero for "all", the mean otherwise."""
        return AvgNonZeroReducer() if self._mining == "all" else MeanReducer()

    def _check(self, distance: float, dtype: torch.dtype) -> None:
        limit = math.log(torch.finfo(dtype).max)
        if distance > 0 and _exponent(distance, self.sigma) > limit:
            least = _rounded_up(_least(distance, limit))
            raise ValueError(
                f"sigma={self.sigma:g} is too small: exp(distance / sigma) or its slope overflows for distances "
                f"up to {distance:.4g}; use sigma={least:g} or more"
                + ("" if self._range is not None else ", or normalise the embeddings")
            )

    def transform(self, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Return the exponentials and their slope, in float64."""
        if self._range is None and len(distances):
            self._check(float(distances.detach().max()), self._dtype)
        value = (distances.double() / self.sigma).exp()
        return value, value / self.sigma

    def mine(self, batch: Batch) -> Mined | Summed:
        """Choose triplets as `mining` says."""
        self._dtype = batch.embeddings.dtype
        if self.mining == "all":
            return sum_all_triplets(
                self.distance, batch, self.margin, self.reduction, transform=self.transform, chunk=self.chunk
            )
        if self.mining == "semi-hard":
            return mine_per_positive_pair(self.distance, batch)
        return mine_per_anchor(self.distance, batch, self.mining, self.quantile)

    def term(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the hinge between the exponentials."""
        far, near = self.transform(positive)[0], self.transform(negative)[0]
        excess: Tensor = self.distance.margin(far, near) + self.margin
        return excess.relu()


def _exponent(distance: float, sigma: float) -> float:
    """Return the logarithm of the exponential or, if that is larger, of twice its slope.

    Twice, as an embedding may be the anchor's end and the positive's end of the mean loss at once.
    """
    return distance / sigma + max(0.0, math.log(2 / sigma))


def _least(distance: float, limit: float) -> float:
    """Return the sigma at which `_exponent`, which falls with it, is `limit`."""
    low, high = distance / limit, max(2.0, distance)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _exponent(distance, middle) > limit else (low, middle)
    return high


def _rounded_up(value: float) -> float:
    """Return three digits of it, the last one rounded up."""
    digits = 2 - math.floor(math.log10(value))
    return math.ceil(value * 10.0**digits) / 10.0**digits


def _largest(distance: Any) -> float | None:
    """Return the largest value that the distance can take, if it is bounded."""
    if not distance.normalize_embeddings or distance.power <= 0:
        return None
    if type(distance) is LpDistance:
        return float(2.0**distance.power)
    return 1.0 if type(distance) is CosineSimilarity else None
