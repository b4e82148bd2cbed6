"""Parts of the patients: what is chosen on some is measured on the others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["patient_folds", "spread_classes"]


def patient_folds(label: NDArray[Any], patient: NDArray[Any], folds: int, seed: int) -> Any | None:
    """Return a splitter into at most `folds` parts of whole patients, each with every label; None for fewer than 2.

    A part without a label has no likelihood of it: there are as many parts as the rarest label's patients allow.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # here, as scikit-learn takes a second to load

    fewest = min((len(np.unique(patient[label == kind])) for kind in np.unique(label)), default=0)
    number = min(folds, fewest)
    return StratifiedGroupKFold(number, shuffle=True, random_state=seed) if number >= 2 else None


def spread_classes(share: NDArray[np.float64], known: NDArray[Any], number: int) -> NDArray[np.float64]:
    """Give probabilities of the classes that a model knows their columns among all `number` classes, (N, C)."""
    full = np.zeros((len(share), number))
    full[:, np.asarray(known, dtype=np.int64)] = share
    return full
