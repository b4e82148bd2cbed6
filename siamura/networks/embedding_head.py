"""What stands on a trunk: pooling, and dense layers to the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .locator import LocatedPool

__all__ = ["EmbeddingHead", "GeM", "Pooling", "make_pool"]

Pooling = Literal["avg", "max", "gem", "cls", "located"]


class GeM(nn.Module):
    """Generalised mean over a feature map: average at p = 1, towards the maximum as p grows.

    Parameters
    ----------
    p : float
        Exponent at the start; it learns.
    eps : float
        Smallest activation, which keeps the gradient of the root finite.

    References
    ----------
    F. Radenović, G. Tolias, O. Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI
    2018, eq. 3.

    Examples
    --------
    >>> GeM(p=1.0)(torch.tensor([[[[1.0, 3.0]]]])).tolist()
    [[2.0]]
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Pool a feature map (B, C, h, w) to (B, C)."""
        p = self.p.clamp(min=1.0)
        return x.clamp(min=self.eps).pow(p).mean((-2, -1)).pow(1.0 / p)


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1))


class _Max(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.amax((-2, -1))


class _ClassToken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] != 1 or x.shape[-1] != 1:
            raise ValueError(
                f'pool="cls" takes a class token, (B, C, 1, 1), and got {tuple(x.shape)}; give the trunk '
                'output="class_token".'
            )
        return x[:, :, 0, 0]


def make_pool(name: Pooling) -> nn.Module:
    """Pooling by name, but ``located``, which has weights for a number of channels.

    Raises
    ------
    ValueError
        If the name is none of ``avg``, ``max``, ``gem`` and ``cls``.
    """
    pools: dict[str, type[nn.Module]] = {"avg": _Mean, "max": _Max, "gem": GeM, "cls": _ClassToken}
    if name not in pools:
        raise ValueError(f"pool={name!r} is unknown; choose one of {', '.join(pools)}.")
    return pools[name]()


class EmbeddingHead(nn.Module):
    """Pooling, dense layers with ReLU, and the embedding, in float32 whatever the trunk computes in.

    Parameters
    ----------
    channels : int
        Channels of the feature map.
    dim : int
        Dimensions of the embedding.
    pool : {"avg", "max", "gem", "cls", "located"}
        How the map becomes a vector; ``"cls"`` takes a transformer's class token instead, ``"located"`` is the mean and
        means weighted by where a finding may be (`LocatedPool`).
    hidden : sequence of int
        Widths of dense layers in between.
    batch_norm : bool
        Batch normalisation after each hidden layer, and before the L2 normalisation.
    dropout : float
        Share of activations dropped before each dense layer.
    normalize : bool
        Scale each embedding to length 1.
    finer : int
        With ``pool="located"``: channels of a finer map beside.

    Examples
    --------
    >>> head = EmbeddingHead(8, 4, hidden=(16,))
    >>> head(torch.rand(3, 8, 2, 2)).norm(dim=1).round(decimals=4).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        *,
        pool: Pooling = "avg",
        hidden: Sequence[int] = (),
        batch_norm: bool = False,
        dropout: float = 0.0,
        normalize: bool = True,
        finer: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("dim", dim), *(("hidden", width) for width in hidden)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout={dropout} must be at least 0 and below 1.")
        self.pool: nn.Module
        if pool == "located":
            self.pool = LocatedPool(channels, finer)
            channels = self.pool.width
        else:
            self.pool = make_pool(pool)
        self.normalize = normalize
        layers: list[nn.Module] = []
        for width, last in [(w, False) for w in hidden] + [(dim, True)]:
            if dropout:
                layers.append(nn.Dropout(dropout))
            layers.append(nn.Linear(channels, width))
            if batch_norm:
                layers.append(nn.BatchNorm1d(width))
            if not last:
                layers.append(nn.ReLU())
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Embed a feature map (B, C, h, w) as float32 (B, dim)."""
        with torch.autocast(features.device.type, enabled=False):
            return self.after_pool(self.pool(features.float()))

    def after_pool(self, pooled: Tensor) -> Tensor:
        """Embed pooled features, float32 (B, C)."""
        out: Tensor = self.layers(pooled)
        return F.normalize(out) if self.normalize else out

    @property
    def pools_first(self) -> bool:
        """Whether the pooling has no weights, so that pooled features can be kept."""
        return not any(True for _ in self.pool.parameters())


class Neck(nn.Module):
    """A classifier beside the embedding: batch normalisation, then one dense layer, in float32.

    The triplet loss and the cross-entropy pull the same vector in different ways; the normalisation between them lets
    both converge (Luo et al., "Bag of tricks and a strong baseline for deep person re-identification", 2019).

    Parameters
    ----------
    dim : int
        Dimensions of the embedding.
    classes : int
        Classes, at least 2.

    Examples
    --------
    >>> Neck(8, 2)(torch.rand(4, 8)).shape
    torch.Size([4, 2])
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"classes={classes} must be at least 2.")
        self.norm = nn.BatchNorm1d(dim)
        self.dense = nn.Linear(dim, classes)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Give the logits, float32 (B, classes), of embeddings (B, dim)."""
        with torch.autocast(embeddings.device.type, enabled=False):
            out: Tensor = self.dense(self.norm(embeddings.float()))
            return out

    @torch.no_grad()
    def affine(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give the same in evaluation mode as a standardisation and a dense layer.

        Returns
        -------
        mean, scale : Tensor (dim,)
        weight : Tensor (classes, dim)
        bias : Tensor (classes,)
            The logits are ``weight @ ((x - mean) / scale) + bias``.
        """
        norm, dense = self.norm, self.dense
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var + norm.eps).sqrt()
        weight = dense.weight * norm.weight
        bias = dense.bias + dense.weight @ norm.bias
        return norm.running_mean.clone(), scale, weight, bias
