"""What the losses share: precision, the reducer's shortcuts, and the figures of the last call."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ._pairs import Pairs
from ._pml import AvgNonZeroReducer, BaseMetricLossFunction, MeanReducer, MultipleReducers, SumReducer

LossDict = dict[str, dict[str, Any]]


class Readable(Protocol):
    """Figures that are computed when they are asked for."""

    def read(self) -> dict[str, float]:
        """Return the figures."""


class MetricLoss(BaseMetricLossFunction):  # type: ignore[misc]
    """A pytorch-metric-learning loss that computes in float32 or better and keeps figures of its last call.

    Parameters
    ----------
    **kwargs
        ``distance``, ``reducer``, ``embedding_regularizer``, ``embedding_reg_weight``, ``collect_stats``, as
        in pytorch-metric-learning.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._figures: dict[str, Tensor | float] | Readable = {}

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
            Triplets (anchor, positive, negative) are taken as they are; pairs (anchor, positive, anchor,
            negative) say which positives and negatives there are to choose from.
        ref_emb : floating (R, d), optional
            Where positives and negatives come from; `embeddings` by default.
        ref_labels : int (R,), optional
            Their labels; without them row i of `ref_emb` is another view of item i, as in PML.

        Returns
        -------
        Tensor
            A scalar, unless the reducer keeps the elements.
        """
        if not torch.is_floating_point(embeddings):
            raise ValueError(f"embeddings must be floating point; they are {embeddings.dtype}")
        if embeddings.ndim != 2:
            raise ValueError(f"embeddings must have shape (batch, dim); they have {tuple(embeddings.shape)}")
        if indices_tuple is not None and len(indices_tuple) not in (3, 4):
            raise ValueError(
                f"indices_tuple has {len(indices_tuple)} tensors; give 3 (anchors, positives, negatives) or 4 "
                "(anchors, positives, anchors, negatives)"
            )
        if ref_emb is not None and ref_emb.shape[1:] != embeddings.shape[1:]:
            raise ValueError(
                f"ref_emb has {ref_emb.shape[-1]} dimensions, embeddings have {embeddings.shape[1]}; both must "
                "come from one network"
            )
        if ref_emb is not None and ref_labels is None and labels is not None and indices_tuple is None:
            if len(ref_emb) != len(embeddings):
                raise ValueError(
                    f"ref_emb has {len(ref_emb)} rows and no ref_labels, for a batch of {len(embeddings)}; give "
                    "ref_labels"
                )
            labels = ref_labels = labels.to(embeddings.device)
        own = ref_emb is None or ref_emb is embeddings
        embeddings = _wide(embeddings)
        if ref_emb is not None:
            ref_emb = embeddings if own else _wide(ref_emb).to(embeddings)
        loss: Tensor
        if not torch.is_autocast_enabled(embeddings.device.type):
            loss = super().forward(embeddings, labels, indices_tuple, ref_emb, ref_labels)
            return loss
        with torch.autocast(embeddings.device.type, enabled=False):
            loss = super().forward(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        return loss

    @property
    def statistics(self) -> dict[str, float]:
        """Figures of the last call; empty before the first.

        ``active_fraction`` of the terms that are not zero, mean ``hardest_positive`` and
        ``hardest_negative`` distance of the anchors that count, ``mean_distance`` over all pairs of
        different items, and the number of ``anchors`` with a positive and a negative. They stay on the
        device until they are read. With listed triplets the hardest distances are the mean of the list's.
        """
        figures = self._figures
        read = (
            {name: float(value) for name, value in figures.items()}
            if isinstance(figures, dict)
            else figures.read()
        )
        self._figures = {**read}
        return read

    def _shortcut(self) -> str | None:
        """Return "sum", "mean" or "nonzero" if the reducer needs no more than that of the terms."""
        reducer = self.reducer
        if type(reducer) is MultipleReducers:
            reducer = dict(reducer.reducers.items()).get("loss", reducer.default_reducer)
        if reducer.collect_stats:
            return None
        return {SumReducer: "sum", MeanReducer: "mean", AvgNonZeroReducer: "nonzero"}.get(type(reducer))

    def _terms(self, losses: Tensor, indices: tuple[Tensor, Tensor, Tensor]) -> LossDict:
        """Hand every term to the reducer, which might drop a NaN without a word."""
        if not bool(torch.isfinite(losses.detach()).all()):
            raise ValueError(
                "the loss has terms that are NaN or infinite; look for NaN or infinity in the embeddings "
                "(a learning rate too high?) or for distances beyond the range of the loss"
            )
        return {"loss": {"losses": losses, "indices": indices, "reduction_type": "triplet"}}

    def _reduced(self, loss: Tensor) -> LossDict:
        """Hand a finished scalar to the reducer."""
        return {"loss": {"losses": loss, "indices": None, "reduction_type": "already_reduced"}}

    def _nothing(self) -> LossDict:
        """Say that no triplet exists: a zero with a gradient of zero."""
        self._figures = {"active_fraction": 0.0, "anchors": 0.0}
        empty: LossDict = self.zero_losses()
        return empty


class Batch(NamedTuple):
    """What ``compute_loss`` is given."""

    embeddings: Tensor
    labels: Tensor | None
    listed: tuple[Tensor, ...] | None
    ref_emb: Tensor
    ref_labels: Tensor | None

    @property
    def own(self) -> bool:
        """Whether the references are the embeddings themselves."""
        return self.ref_emb is self.embeddings

    @property
    def empty(self) -> bool:
        """Whether there is no pair at all."""
        return not (len(self.embeddings) and len(self.ref_emb))

    @property
    def triplets(self) -> tuple[Tensor, ...] | None:
        """The miner's triplets, if it gave triplets."""
        if self.listed is None or len(self.listed) != 3:
            return None
        return tuple(index.to(self.embeddings.device) for index in self.listed)

    def pairs(self) -> Pairs:
        """Positive and negative pairs, by the miner or by the labels."""
        return Pairs(
            (len(self.embeddings), len(self.ref_emb)),
            self.labels,
            self.ref_labels,
            self.listed,
            self.embeddings.device,
            self.own,
        )


def finite(name: str, value: float) -> float:
    """Return `value` as a float, or say that it has to be a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}={value!r} must be a finite number")
    return float(value)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
