"""PML's wrappers that ask for a loss by its name, for the losses of this package too."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from .base import PMLCrossBatchMemory, PMLSelfSupervisedLoss

_NAMES = [
    "TripletLoss",
    "BatchHardTripletLoss",
    "SemiHardTripletLoss",
    "TripletFocalLoss",
    "SelectivelyContrastiveLoss",
]


class SelfSupervisedLoss(PMLSelfSupervisedLoss):  # type: ignore[misc]
    """PML's ``SelfSupervisedLoss`` for the losses of this package too: each item's other view is its positive.

    Called as ``loss(embeddings, ref_emb)``, where row i of `ref_emb` is another view of item i.

    Parameters
    ----------
    loss : PML loss
        One of this package, or any that PML's own wrapper takes.
    symmetric : bool
        Compare all views with each other (the default), or `embeddings` with `ref_emb` alone.

    Examples
    --------
    >>> import torch
    >>> from siamura.losses import SelfSupervisedLoss, TripletLoss
    >>> views = torch.eye(3), torch.eye(3)
    >>> float(SelfSupervisedLoss(TripletLoss(margin=0.2))(*views))
    0.0
    """

    @staticmethod
    def supported_losses() -> list[str]:
        """Return the names of the losses that it takes."""
        return [*PMLSelfSupervisedLoss.supported_losses(), *_NAMES]

    @property
    def statistics(self) -> dict[str, float]:
        """Figures of the last call of a loss that keeps them."""
        found: dict[str, float] = self.loss.statistics
        return found


class CrossBatchMemory(PMLCrossBatchMemory):  # type: ignore[misc]
    """PML's ``CrossBatchMemory`` for the losses of this package too, whose queue survives a checkpoint.

    The last ``memory_size`` embeddings are the references of each batch, so that a small batch meets many
    negatives. ``state_dict`` holds the embeddings, the labels, and where the queue stands.

    Parameters
    ----------
    loss : PML loss
        One of this package, or any that PML's own memory takes.
    embedding_size : int
        Dimensions of an embedding.
    memory_size : int
        Embeddings in the memory, at least a batch.
    miner : PML miner, optional
        Chooses pairs or triplets between the batch and the memory.

    References
    ----------
    X. Wang, H. Zhang, W. Huang, M. R. Scott, Cross-batch memory for embedding learning, CVPR 2020.

    Examples
    --------
    >>> import torch
    >>> from siamura.losses import CrossBatchMemory, TripletLoss
    >>> memory = CrossBatchMemory(TripletLoss(margin=0.2), embedding_size=2, memory_size=8)
    >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> round(float(memory(embeddings, torch.tensor([0, 0, 1, 1]))), 4)
    0.2
    >>> again = CrossBatchMemory(TripletLoss(margin=0.2), embedding_size=2, memory_size=8)
    >>> _ = again.load_state_dict(memory.state_dict())
    >>> again.queue_idx
    4
    """

    @staticmethod
    def supported_losses() -> list[str]:
        """Return the names of the losses that a memory serves."""
        return [*PMLCrossBatchMemory.supported_losses(), *_NAMES]

    @property
    def statistics(self) -> dict[str, float]:
        """Figures of the last call of a loss that keeps them; distances are those to the memory."""
        found: dict[str, float] = self.loss.statistics
        return found

    def get_extra_state(self) -> dict[str, Any]:
        """Return where the queue stands; ``state_dict`` calls it."""
        return {"queue_idx": self.queue_idx, "has_been_filled": self.has_been_filled}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take up where the queue stood; ``load_state_dict`` calls it."""
        place, filled = int(state["queue_idx"]), bool(state["has_been_filled"])
        if not 0 <= place < self.memory_size:
            raise ValueError(
                f"the checkpoint's queue stands at {place}, but memory_size={self.memory_size}; make the "
                "memory as large as it was"
            )
        self.queue_idx, self.has_been_filled = place, filled

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The buffers follow the precision of the embeddings, so that a checkpoint's may differ from a new one's.
        for name in ("embedding_memory", "label_memory"):
            saved = state_dict.get(prefix + name)
            if isinstance(saved, torch.Tensor) and saved.shape == getattr(self, name).shape:
                setattr(self, name, getattr(self, name).to(saved.dtype))
        saved, key = state_dict.get(prefix + "embedding_memory"), prefix + "_extra_state"
        if key not in state_dict and isinstance(saved, torch.Tensor) and len(saved) == self.memory_size:
            # PML's own memory does not say where its queue stands, but its rows are 0 before they are filled.
            used = _rows_used(saved)
            filled = used == self.memory_size
            state_dict[key] = {"queue_idx": 0 if filled else used, "has_been_filled": filled}
            if filled:
                warnings.warn(
                    "the checkpoint of a full memory does not say which of its embeddings is the oldest (PML's "
                    "own memory keeps no place); the first row is taken for it",
                    UserWarning,
                    stacklevel=2,
                )
        super()._load_from_state_dict(state_dict, prefix, *args)


def _rows_used(memory: torch.Tensor) -> int:
    """Return the number of rows up to the last that is not 0."""
    rows = (memory != 0).flatten(1).any(1).nonzero()
    return int(rows.max()) + 1 if len(rows) else 0
