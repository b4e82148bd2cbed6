"""What a trained classifier says of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .embedding import forward_rows

if TYPE_CHECKING:
    from torch import nn

    from .embedding import Images

__all__ = ["predict_proba"]


def predict_proba(
    net: nn.Module,
    data: Images,
    batch_size: int = 64,
    *,
    precision: str = "auto",
    accelerator: str = "auto",
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """Probability that each image is abnormal, in the order of the table.

    Parameters
    ----------
    net : Classifier
        Or any module that gives logits (B,).
    data, batch_size, precision, accelerator, progress
        See `embed`.

    Returns
    -------
    float32 (N,)

    Examples
    --------
    >>> from siamura.networks import Classifier
    >>> net = Classifier("squeezenet1_1")
    >>> abnormal = predict_proba(net, np.zeros((3, 64, 64), np.uint8), progress=False)
    >>> abnormal.shape, bool(((0 <= abnormal) & (abnormal <= 1)).all())
    ((3,), True)
    """
    logits, _ = forward_rows(
        net, data, batch_size=batch_size, precision=precision, accelerator=accelerator, progress=progress
    )
    return logits.sigmoid().numpy()
