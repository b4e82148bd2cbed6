"""What the losses share: precision, the reducer's shortcuts, and the figures of the last call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._distances import pair_matrix
from ._pml import AvgNonZeroReducer, BaseMetricLossFunction, MeanReducer, MultipleReducers, SumReducer

LossDict = dict[str, dict[str, Any]]


class MetricLoss(BaseMetricLossFunction):  # type: ignore[misc]
    """A pytorch-metric-learning loss that computes in float32 or better and keeps figures of its last call.

    Parameters
    ----------
    distance, reducer, embedding_regularizer, embedding_reg_weight, collect_stats
        As in pytorch-metric-learning.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._figures: dict[str, Tensor | float] = {}

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        embeddings : floating (B, d)
            Half precision is computed in float32.
        labels : int (B,), optional
            Needed unless `indices_tuple` is given.
        indices_tuple : 3 or 4 tensors of int64, optional
            Triplets (anchor, positive, negative) or pairs (anchor, positive, anchor, negative) of a miner.
        ref_emb : floating (R, d), optional
            Where positives and negatives come from; `embeddings` by default.
        ref_labels : int (R,), optional
            Their labels.

        Returns
        -------
        Tensor
            A scalar, unless the reducer keeps the elements.
        """
        if not torch.is_floating_point(embeddings):
            raise ValueError(f"embeddings must be floating point; they are {embeddings.dtype}")
        own = ref_emb is None or ref_emb is embeddings
        embeddings = _wide(embeddings)
        if ref_emb is not None:
            ref_emb = embeddings if own else _wide(ref_emb).to(embeddings.dtype)
        with torch.autocast(embeddings.device.type, enabled=False):
            loss: Tensor = super().forward(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        return loss

    @property
    def statistics(self) -> dict[str, float]:
        """Figures of the last call.

        ``active_fraction`` of the terms that are not zero, mean ``hardest_positive`` and
        ``hardest_negative`` distance of the anchors that count, ``mean_distance`` over all pairs of
        different items, and the number of ``anchors`` with a positive and a negative. They stay on the
        device until they are read.
        """
        self._figures = {name: float(value) for name, value in self._figures.items()}
        return dict(self._figures)

    def _shortcut(self) -> str | None:
        """Return "sum", "mean" or "nonzero" if the reducer needs no more than that of the terms."""
        reducer = self.reducer
        if type(reducer) is MultipleReducers:
            reducer = reducer.reducers["loss"] if "loss" in reducer.reducers else reducer.default_reducer
        if reducer.collect_stats:
            return None
        return {SumReducer: "sum", MeanReducer: "mean", AvgNonZeroReducer: "nonzero"}.get(type(reducer))

    def _matrix(self, embeddings: Tensor, ref_emb: Tensor) -> Tensor:
        """Return the distances of the pairs, (B, R)."""
        return pair_matrix(self.distance, embeddings, ref_emb)

    def _terms(self, losses: Tensor, indices: tuple[Tensor, Tensor, Tensor]) -> LossDict:
        """Hand every term to the reducer."""
        return {"loss": {"losses": losses, "indices": indices, "reduction_type": "triplet"}}

    def _reduced(self, loss: Tensor) -> LossDict:
        """Hand a finished scalar to the reducer."""
        return {"loss": {"losses": loss, "indices": None, "reduction_type": "already_reduced"}}

    def _nothing(self) -> LossDict:
        """Say that no triplet exists: a zero with a gradient of zero."""
        empty: LossDict = self.zero_losses()
        return empty


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def masks(labels: Tensor, ref_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return which pairs share a label (an item and itself excepted) and which do not, bool (B, R) each."""
    same = labels[:, None] == ref_labels[None, :]
    other = ~same
    if ref_labels is labels:
        same.fill_diagonal_(False)
    return same, other
