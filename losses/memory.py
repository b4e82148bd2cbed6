"""A cross-batch memory that knows these losses."""

from __future__ import annotations

from ._pml import PMLCrossBatchMemory


class CrossBatchMemory(PMLCrossBatchMemory):  # type: ignore[misc]
    """PML's ``CrossBatchMemory``, for the losses of this package too."""

    @staticmethod
    def supported_losses() -> list[str]:
        """Return the names of the losses that a memory serves."""
        return [
            *PMLCrossBatchMemory.supported_losses(),
            "TripletLoss",
            "BatchHardTripletLoss",
            "SemiHardTripletLoss",
            "TripletFocalLoss",
            "SelectivelyContrastiveLoss",
        ]
