"""Images, labels and probabilities of the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from . import style


def as_image(image: ArrayLike, name: str = "image") -> NDArray[Any]:
    """Take a grey image (H, W), or (1, H, W) as the network takes it; colour (H, W, 3) stays."""
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(f"{name} has shape {array.shape}; it must be (H, W), (1, H, W) or (H, W, 3)")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; radiographs are finite numbers, usually uint8")
    return array


def as_images(images: Any, name: str) -> list[NDArray[Any]]:
    """Check a sequence of images, at least one."""
    found = [as_image(image, f"{name}[{i}]") for i, image in enumerate(images)]
    if not found:
        raise ValueError(f"{name} is empty; give at least one image")
    return found


def as_answers(
    label: ArrayLike,
    probability: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    both: bool = True,
    name: str = "",
) -> pd.DataFrame:
    """Labels and probabilities as columns ``label, probability, group``; both must be there if `both`."""
    # Here, as it loads SciPy, which plots of embeddings and images do without.
    from siamura.evaluation._checks import as_label, as_probability, as_units

    where = f" of {name!r}" if name else ""
    y = as_label(label, f"label{where}")
    p = as_probability(probability, len(y), f"probability{where}")
    unit = as_units(groups, len(y), f"groups{where}")
    if both and len(set(y.tolist())) < 2:
        raise ValueError(
            f"label{where} holds only {y[0]} ({'abnormal' if y[0] else 'normal'}), {len(y)} times; "
            "this curve needs normal (0) and abnormal (1) rows"
        )
    return pd.DataFrame({"label": y, "probability": p, "group": unit})


def as_panels(
    label: Any, probability: ArrayLike | None, groups: ArrayLike | None, *, both: bool = True
) -> dict[str, tuple[pd.DataFrame, bool]]:
    """Answers of one model or, as a mapping, of several: name -> (frame, whether patients are known)."""
    if not isinstance(label, Mapping):
        if probability is None:
            raise ValueError(
                "probability is missing; give label and probability, or a mapping of name to both"
            )
        return {"": (as_answers(label, probability, groups, both=both), groups is not None)}
    if not label:
        raise ValueError("the mapping of models is empty; give at least one name: (label, probability)")
    if probability is not None or groups is not None:
        raise ValueError(
            "with a mapping, give probability and groups inside it: name: (label, probability, groups)"
        )
    if len(label) > len(style.PALETTE):
        raise ValueError(
            f"{len(label)} models cannot be told apart; draw at most {len(style.PALETTE)} in one figure"
        )
    found = {}
    for name, given in label.items():
        if not isinstance(given, tuple) or len(given) not in (2, 3):
            raise ValueError(
                f"{name!r} must map to a tuple (label, probability) or (label, probability, groups)"
            )
        found[str(name)] = (as_answers(*given, both=both, name=str(name)), len(given) == 3)
    return found
