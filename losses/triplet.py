"""The sum or mean over all triplets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ._all_triplets import sum_all_triplets
from ._mining import check_chunk, list_all_triplets, take_given_triplets
from ._pairs import Batch
from .base import AvgNonZeroReducer, Mined, Summed, TripletBase, check_finite, get_random_triplet_indices


class TripletLoss(TripletBase):
    r"""All valid triplets of a batch, exactly and without a list of them.

    .. math:: \max(0, D_{ap} - D_{an} + m)

    for every anchor a, positive p and negative n, summed or averaged as the reducer says. It takes the place
    of PML's ``TripletMarginLoss`` with the same arguments, the same defaults and the same values.

    Distances are sorted and counted: O(B² log B) time where the list of triplets takes O(B³). This serves
    labels and a miner's pairs with the reducers AvgNonZero (the default), Mean and Sum. ``swap``,
    ``smooth_loss`` and a reducer that needs every term take the list, in O(B³) memory.

    Parameters
    ----------
    margin : float
        In units of the distance.
    swap : bool
        Use the positive-negative distance where it is the smaller one. With ``ref_emb`` it is measured among
        the references.
    smooth_loss : bool
        Softplus in the place of the hinge.
    triplets_per_anchor : int or "all"
        Random triplets, drawn as PML draws them (from torch's global generator), or all of them.
    chunk : int, optional
        Anchors whose distances are in memory at a time: O(chunk · R) memory, at no cost in time. By default
        blocks of some 130,000 pairs for the Euclidean distance and the similarities, whatever the batch; the
        whole matrix for any other distance, up to 67 million pairs.
    **kwargs
        ``distance``, ``reducer``, ``embedding_regularizer``, ``embedding_reg_weight``, ``collect_stats``, as
        in PML.

    See Also
    --------
    BatchHardTripletLoss : the hardest triplet of each anchor alone; stronger late, prone to collapse early.
    SemiHardTripletLoss : one negative a positive pair.

    Notes
    -----
    Half-precision embeddings are computed in float32 (and float64 inside the distance), and so is the loss.
    The count of active triplets follows floating-point comparison term by term, so that ties count as they
    do in PML.

    References
    ----------
    K. Q. Weinberger and L. K. Saul, Distance metric learning for large margin nearest neighbor
    classification, JMLR 10 (2009); A. Hermans, L. Beyer, B. Leibe, In defense of the triplet loss for person
    re-identification, arXiv 1703.07737 (2017), eq. 6 ("batch all").

    Examples
    --------
    >>> import torch
    >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> loss = TripletLoss(margin=0.2)
    >>> round(float(loss(embeddings, torch.tensor([0, 0, 1, 1]))), 4)
    0.2
    >>> loss.statistics["active_fraction"]
    0.5
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
        self.margin = check_finite("margin", margin)
        if triplets_per_anchor != "all" and (
            not isinstance(triplets_per_anchor, int) or triplets_per_anchor < 1
        ):
            raise ValueError(
                f"triplets_per_anchor={triplets_per_anchor!r} must be 'all' or a whole number of at least 1"
            )
        self.swap = swap
        self.smooth_loss = smooth_loss
        self.triplets_per_anchor = triplets_per_anchor
        listed = {
            "swap": swap,
            "smooth_loss": smooth_loss,
            "triplets_per_anchor": triplets_per_anchor != "all",
        }
        self.chunk = check_chunk(chunk, next((name for name, used in listed.items() if used), ""))
        self.add_to_recordable_attributes(list_of_names=["margin"], is_stat=False)

    def get_default_reducer(self) -> AvgNonZeroReducer:
        """Return PML's default: the mean over the triplets that are not zero."""
        return AvgNonZeroReducer()

    def mine(self, batch: Batch) -> Mined | Summed:
        """Take all triplets, counted where nothing asks for their list, or random ones."""
        if self.triplets_per_anchor != "all" and batch.indices is None:
            with torch.device("cpu"):  # PML draws there, whatever the default device
                drawn = get_random_triplet_indices(
                    batch.labels, batch.ref_labels, t_per_anchor=self.triplets_per_anchor
                )
            return take_given_triplets(self.distance, batch, drawn, swap=self.swap)
        if self.swap or self.smooth_loss:
            return list_all_triplets(self.distance, batch, swap=self.swap)
        return sum_all_triplets(self.distance, batch, self.margin, self.reduction, chunk=self.chunk)

    def term(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the hinge, or softplus in its place."""
        excess = self.distance.margin(positive, negative) + self.margin
        return softplus(excess) if self.smooth_loss else excess.relu()
