"""Names that several packages use: body parts, heads and scores. Each list stands here once."""

from __future__ import annotations

from typing import Final

__all__ = ["BASELINES", "HEADS", "LOSS_SETTINGS", "PARTS", "SPLITS"]

#: Body parts of MURA, as its folders name them.
PARTS: Final = (
    "XR_ELBOW",
    "XR_FINGER",
    "XR_FOREARM",
    "XR_HAND",
    "XR_HUMERUS",
    "XR_SHOULDER",
    "XR_WRIST",
)

#: What answers in a run, by its name in files, as a person reads it; in the order of tables.
HEADS: Final = {
    "knn": "k-NN",
    "mlp": "MLP",
    "classifier": "Classifier",
    "trivial": "Trivial baseline",
    "frozen_knn": "Frozen trunk, k-NN",
    "frozen_logistic": "Frozen trunk, logistic",
}

#: Those of them that training must beat.
BASELINES: Final = ("trivial", "frozen_knn", "frozen_logistic")

#: The two splits of a run, by their name in tables, as a person reads them.
SPLITS: Final = {"train": "Training", "valid": "Validation"}

#: The settings that each training loss has beside the batch.
LOSS_SETTINGS: Final = {
    "triplet": ("margin",),
    "batch_hard": ("margin",),
    "semi_hard": ("margin",),
    "triplet_focal": ("margin", "sigma"),
    "selectively_contrastive": (),
}
