"""The sum or mean over all triplets."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ._all import all_triplets
from ._base import Batch, LossDict, MetricLoss, finite
from ._pml import AvgNonZeroReducer, get_random_triplet_indices


class TripletLoss(MetricLoss):
    r"""All valid triplets of a batch, exactly and without a list of them.

    .. math:: \max(0, D_{ap} - D_{an} + m)

    for every anchor a, positive p and negative n, summed or averaged as the reducer says. It takes the place
    of PML's ``TripletMarginLoss`` with the same arguments, the same defaults and the same values.

    Distances are sorted and counted: O(B² log B) time where the list of triplets takes O(B³). This serves
    labels and a miner's pairs with the reducers AvgNonZero (the default), Mean and Sum. ``swap`` and
    ``smooth_loss`` go through the triplets one anchor at a time; a reducer that needs every term gets a list.

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
        self.margin = finite("margin", margin)
        if triplets_per_anchor != "all" and (
            not isinstance(triplets_per_anchor, int) or triplets_per_anchor < 1
        ):
            raise ValueError(
                f"triplets_per_anchor={triplets_per_anchor!r} must be 'all' or a whole number of at least 1"
            )
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk={chunk!r} must be at least 1 anchor, or None to decide by size")
        self.swap = swap
        self.smooth_loss = smooth_loss
        self.triplets_per_anchor = triplets_per_anchor
        self.chunk = chunk
        self.add_to_recordable_attributes(list_of_names=["margin"], is_stat=False)

    def get_default_reducer(self) -> AvgNonZeroReducer:
        """Return PML's default: the mean over the triplets that are not zero."""
        return AvgNonZeroReducer()

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor | None,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor,
        ref_labels: Tensor | None,
    ) -> LossDict:
        """Return PML's dictionary of the loss; called by ``forward``."""
        if indices_tuple is None and labels is not None and self.triplets_per_anchor != "all":
            number = self.triplets_per_anchor
            indices_tuple = get_random_triplet_indices(labels, ref_labels, t_per_anchor=number)
        batch = Batch(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        return all_triplets(
            self, batch, self.margin, smooth=self.smooth_loss, swap=self.swap, chunk=self.chunk
        )
