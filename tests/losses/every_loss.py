"""Every loss and form of it by name, as several tests make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from siamura.losses import (
    BatchHardTripletLoss,
    SelectivelyContrastiveLoss,
    SemiHardTripletLoss,
    TripletFocalLoss,
    TripletLoss,
)


def makers(
    margin: float, sigma: float, *names: str, without: tuple[str, ...] = ()
) -> dict[str, Callable[..., Any]]:
    """Name -> function that makes the loss with further keywords; those of `names`, or all but some."""
    found: dict[str, Callable[..., Any]] = {
        "all": lambda **k: TripletLoss(margin, **k),
        "smooth": lambda **k: TripletLoss(margin, smooth_loss=True, **k),
        "swap": lambda **k: TripletLoss(margin, swap=True, **k),
        "random": lambda **k: TripletLoss(margin, triplets_per_anchor=3, **k),
        "hard": lambda **k: BatchHardTripletLoss(margin, **k),
        "soft": lambda **k: BatchHardTripletLoss("soft", **k),
        "quantile": lambda **k: BatchHardTripletLoss("soft", mining="quantile", **k),
        "weighted": lambda **k: BatchHardTripletLoss("soft", mining="weighted", **k),
        "semi": lambda **k: SemiHardTripletLoss(margin, **k),
        "focal": lambda **k: TripletFocalLoss(margin, sigma, **k),
        "focal-all": lambda **k: TripletFocalLoss(margin, sigma, "all", **k),
        "focal-semi": lambda **k: TripletFocalLoss(margin, sigma, "semi-hard", **k),
        "selective": lambda **k: SelectivelyContrastiveLoss(sigma, **k),
    }
    return {name: found[name] for name in names or found if name not in without}
