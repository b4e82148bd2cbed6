"""The base of the triplet losses: pytorch-metric-learning's interface, and the one computation of a loss.

All that this package takes from pytorch-metric-learning (PML) is imported here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from pytorch_metric_learning.distances import CosineSimilarity, DotProductSimilarity, LpDistance
from pytorch_metric_learning.distances.base_distance import BaseDistance
from pytorch_metric_learning.losses import CrossBatchMemory as PMLCrossBatchMemory
from pytorch_metric_learning.losses import SelfSupervisedLoss as PMLSelfSupervisedLoss
from pytorch_metric_learning.losses.base_metric_loss_function import BaseMetricLossFunction
from pytorch_metric_learning.reducers import AvgNonZeroReducer, MeanReducer, MultipleReducers, SumReducer
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_triplets, get_random_triplet_indices
from torch import Tensor

from ._pairs import Batch, check_indices

__all__ = [
    "AvgNonZeroReducer",
    "BaseDistance",
    "CosineSimilarity",
    "DistributedLossWrapper",
    "DotProductSimilarity",
    "LpDistance",
    "MeanReducer",
    "Mined",
    "PMLCrossBatchMemory",
    "PMLSelfSupervisedLoss",
    "Summed",
    "TripletBase",
    "check_finite",
    "convert_to_triplets",
    "get_random_triplet_indices",
]

LossDict = dict[str, dict[str, Any]]
Statistics = dict[str, float]


class Mined(NamedTuple):
    """Chosen triplets, with the distances that the loss is a function of.

    Parameters
    ----------
    anchors, positives, negatives : int64 (T,)
    positive, negative : floating (T,)
        The distance of each anchor to its positive and to its negative, with a graph.
    mean_distance : scalar tensor
        Over the pairs of different items.
    """

    anchors: Tensor
    positives: Tensor
    negatives: Tensor
    positive: Tensor
    negative: Tensor
    mean_distance: Tensor


class Summed(NamedTuple):
    """A loss that was computed without a list of triplets.

    Parameters
    ----------
    loss : scalar tensor
        With a graph.
    statistics : callable
        Computes the statistics when they are asked for.
    """

    loss: Tensor
    statistics: Callable[[], Statistics]


class TripletBase(BaseMetricLossFunction):  # type: ignore[misc]
    """A pytorch-metric-learning loss over triplets, computed in float32 or better, with statistics of its last call.

    A subclass says which triplets (`mine`), and what each adds to the loss (`term`).

    Parameters
    ----------
    **kwargs
        ``distance``, ``reducer``, ``embedding_regularizer``, ``embedding_reg_weight``, ``collect_stats``, as
        in pytorch-metric-learning.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._statistics: Callable[[], Statistics] = dict

    def mine(self, batch: Batch) -> Mined | Summed:
        """Choose the triplets of a batch, or compute the reduced loss over them."""
        raise NotImplementedError

    def term(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return what each triplet adds to the loss, given its two distances, (T,)."""
        raise NotImplementedError

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Sequence[Any] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        embeddings : floating (B, d)
            Half precision is computed in float32. A distance of one's own whose ``check_shapes`` allows it
            may take other shapes, such as (B, n, d).
        labels : int (B,), optional
            Needed unless `indices_tuple` is given.
        indices_tuple : 3 or 4 sequences of whole numbers, optional
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
        if torch.compiler.is_compiling():  # mining sorts and counts by the data: the compiler steps aside
            compute: Callable[..., Tensor] = torch.compiler.disable(self._forward)  # type: ignore[no-untyped-call]
            return compute(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        return self._forward(embeddings, labels, indices_tuple, ref_emb, ref_labels)

    def _forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None,
        indices_tuple: Sequence[Any] | None,
        ref_emb: Tensor | None,
        ref_labels: Tensor | None,
    ) -> Tensor:
        if not torch.is_floating_point(embeddings):
            raise ValueError(f"embeddings must be floating point; they are {embeddings.dtype}")
        if getattr(type(self.distance), "check_shapes", None) is BaseDistance.check_shapes:
            if embeddings.ndim != 2:
                raise ValueError(
                    f"embeddings must have shape (batch, dim); they have {tuple(embeddings.shape)}"
                )
            if ref_emb is not None and ref_emb.shape[1:] != embeddings.shape[1:]:
                raise ValueError(
                    f"ref_emb has {ref_emb.shape[-1]} dimensions, embeddings have {embeddings.shape[1]}; both "
                    "must come from one network"
                )
        if labels is None and indices_tuple is None:
            raise ValueError("labels and indices_tuple cannot both be None; give one of them")
        if ref_emb is not None and ref_labels is None and labels is not None and indices_tuple is None:
            if len(ref_emb) != len(embeddings):
                raise ValueError(
                    f"ref_emb has {len(ref_emb)} rows and no ref_labels, for a batch of {len(embeddings)}; give "
                    "ref_labels"
                )
            labels = ref_labels = labels.to(embeddings.device)
        if indices_tuple is not None:
            references = len(embeddings if ref_emb is None else ref_emb)
            indices_tuple = check_indices(indices_tuple, len(embeddings), references, embeddings.device)
        same_set = ref_emb is None or ref_emb is embeddings
        embeddings = _widen(embeddings)
        if ref_emb is not None:
            ref_emb = embeddings if same_set else _widen(ref_emb).to(embeddings)
        device = embeddings.device.type
        context = (
            torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
        )
        with context:
            loss: Tensor = super().forward(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        return loss

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
        self._statistics = partial(dict, active_fraction=0.0, anchors=0.0, left_out=float(len(embeddings)))
        found = None if 0 in batch.shape else self.mine(batch)
        if isinstance(found, Summed):
            self._statistics = found.statistics
            return _reduced(found.loss)
        if found is None or len(found.anchors) == 0:
            nothing: LossDict = self.zero_losses()
            return nothing
        terms = self.term(found.positive, found.negative)
        seen = found._replace(positive=found.positive.detach(), negative=found.negative.detach())
        self._statistics = partial(_statistics, seen, terms.detach(), len(embeddings))
        reduction = self.reduction
        if reduction is not None:
            total = terms.sum(dtype=torch.float64)
            if reduction != "sum":
                total = total / (len(terms) if reduction == "mean" else (terms > 0).sum().clamp(min=1))
            return _reduced(total.to(embeddings.dtype))
        if not bool(torch.isfinite(terms.detach()).all()):  # some reducers drop NaN in silence
            raise ValueError(
                "the loss has terms that are NaN or infinite; look for NaN or infinity in the embeddings "
                "(a learning rate too high?) or for distances beyond the range of the loss"
            )
        triplets = found.anchors, found.positives, found.negatives
        terms = terms.to(embeddings.dtype)
        return {"loss": {"losses": terms, "indices": triplets, "reduction_type": "triplet"}}

    @property
    def reduction(self) -> str | None:
        """The reducer as "sum", "mean" or "nonzero", or None for one that needs every term."""
        reducer = self.reducer
        if type(reducer) is MultipleReducers:
            reducer = dict(reducer.reducers.items()).get("loss", reducer.default_reducer)
        if reducer.collect_stats:
            return None
        return {SumReducer: "sum", MeanReducer: "mean", AvgNonZeroReducer: "nonzero"}.get(type(reducer))

    @property
    def statistics(self) -> Statistics:
        """Figures of the last call; empty before the first.

        ``active_fraction`` of the terms that are not zero; mean ``hardest_positive`` and
        ``hardest_negative`` distance of the anchors that count (with mined or listed triplets, the mean over
        these); ``mean_distance`` over all pairs of different items; the number of ``anchors`` with a positive
        and a negative, and of those ``left_out``; the number of ``triplets``. They stay on the device until
        they are read, and are neither pickled nor copied with the loss.
        """
        found = self._statistics()
        self._statistics = partial(dict, found)
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last batch out of what is pickled or copied."""
        return {**self.__dict__, "_statistics": dict}


def _reduced(loss: Tensor) -> LossDict:
    return {"loss": {"losses": loss, "indices": None, "reduction_type": "already_reduced"}}


def _statistics(found: Mined, terms: Tensor, rows: int) -> Statistics:
    anchors = int(torch.unique(found.anchors).numel())
    return {
        "active_fraction": float((terms > 0).double().mean()),
        "hardest_positive": float(found.positive.double().mean()),
        "hardest_negative": float(found.negative.double().mean()),
        "mean_distance": float(found.mean_distance),
        "anchors": float(anchors),
        "triplets": float(len(terms)),
        "left_out": float(rows - anchors),
    }


def check_finite(name: str, value: float) -> float:
    """Return `value` as a float, or say that it has to be a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}={value!r} must be a finite number")
    return float(value)


def _widen(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
