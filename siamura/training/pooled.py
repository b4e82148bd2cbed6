"""Embeddings and the trunk's pooled features in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .embedding import forward_rows

if TYPE_CHECKING:
    from siamura.networks import EmbeddingNet

    from .embedding import Images

__all__ = ["embed_with_features"]


class _WithFeatures(nn.Module):
    """The embedding, and behind it the mean of each channel of the last feature map."""

    def __init__(self, net: EmbeddingNet) -> None:
        super().__init__()
        self.net = net
        self.preprocess = net.preprocess

    def forward(self, x: Tensor) -> Tensor:
        """Compute both, float32 (B, dim + C)."""
        maps = self.net.features(x)
        return torch.cat([self.net.head(maps), maps.float().mean((-2, -1))], dim=1)


def embed_with_features(
    net: EmbeddingNet, data: Images, *, rows: npt.NDArray[np.int64] | None = None, **options: Any
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Embed images as `siamura.embed` does, to the bit, and give the trunk's pooled features too.

    Parameters
    ----------
    net, data
        As for `siamura.embed`.
    rows : int64 (M,), optional
        The images; all by default.
    **options
        ``batch_size``, ``accelerator`` and ``progress`` of `siamura.embed`.

    Returns
    -------
    embeddings : float32 (M, dim)
    features : float32 (M, C)
    """
    both = forward_rows(_WithFeatures(net), data, rows, **options)[0].numpy()
    return both[:, : net.dim].copy(), both[:, net.dim :].copy()
