"""The network of the triplet form: grey images to embeddings, with its preprocessing kept beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .embedding_head import EmbeddingHead, Neck, Pooling
from .grey_net import GreyNet
from .locator import LocatedPool, halving_block, joined, watched

if TYPE_CHECKING:
    from siamura.pixels import Preprocess

__all__ = ["EmbeddingNet"]


class EmbeddingNet(GreyNet):
    """A trunk and an embedding head: grey images in, vectors of length 1 out.

    Parameters
    ----------
    trunk : str
        ``"densenet169"``, ``"resnet50"``, any torchvision classifier, or ``"timm:NAME"``, vision transformers
        included; see `Trunk`.
    dim : int
        Dimensions of the embedding.
    weights : None, "imagenet" or path
        What the trunk starts from.
    pool, hidden, batch_norm, dropout, normalize
        See `EmbeddingHead`. With ``pool="located"`` the network can say where a finding is (`located`), once
        ``fit(..., lesions=boxes)`` has taught it.
    image_size : int, optional
        See `Trunk`.
    preprocess : Preprocess, optional
        How the images were made. `fit` sets it from the data; it is saved with the weights.
    classes : int
        Where 2 or more, a classifier of so many classes stands on the embedding (`Neck`), for a loss beside the
        distance: ``fit(..., classify=1.0)``, which adds one itself where there is none.
    seed : int
        Of the weights drawn. The global random state is left alone.

    Attributes
    ----------
    trunk : Trunk
    head : EmbeddingHead
    neck : Neck or None

    Examples
    --------
    >>> net = EmbeddingNet("squeezenet1_1", dim=16)
    >>> net(torch.zeros(2, 1, 64, 64, dtype=torch.uint8)).shape
    torch.Size([2, 16])
    """

    def __init__(
        self,
        trunk: str = "densenet169",
        dim: int = 128,
        weights: str | Path | None = None,
        *,
        pool: Pooling = "avg",
        hidden: Sequence[int] = (),
        batch_norm: bool = False,
        dropout: float = 0.0,
        normalize: bool = True,
        image_size: int | None = None,
        preprocess: Preprocess | None = None,
        classes: int = 0,
        seed: int = 0,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(trunk, weights, image_size=image_size, preprocess=preprocess, pool=pool)
            found = halving_block(self.trunk) if pool == "located" else None
            self.head = EmbeddingHead(
                self.trunk.channels,
                dim,
                pool=pool,
                hidden=hidden,
                batch_norm=batch_norm,
                dropout=dropout,
                normalize=normalize,
                finer=0 if found is None else found[1],
            )
        self.halving: str | None = None  # the block whose input the pooling looks at too
        if found is not None and isinstance(self.head.pool, LocatedPool):
            self.halving = found[0]
            self.trunk.model.get_submodule(self.halving).register_forward_pre_hook(self.head.pool.kept)
        self.dim = dim
        self.config |= {
            "dim": dim,
            "pool": pool,
            "hidden": list(hidden),
            "batch_norm": batch_norm,
            "dropout": dropout,
            "normalize": normalize,
        }
        self.neck: Neck | None = None
        if classes:
            self.add_neck(classes, seed=seed)

    def add_neck(self, classes: int, *, seed: int = 0) -> None:
        """Put a new classifier of so many classes on the embedding, in place of one that is there.

        Parameters
        ----------
        classes : int
            At least 2.
        seed : int
            Of the weights drawn.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.neck = Neck(self.dim, classes).to(self.mean.device)
        self.config["classes"] = classes

    def located(self, x: Tensor) -> Tensor:
        """Give a logit for each place of grey images, (B, 1, S, S) from 0 to 255: float32 (B, h, w).

        The places are those of the finest map that is looked at, such as 14 x 14 of 224 pixels.

        Raises
        ------
        ValueError
            If the network has no ``pool="located"``.
        """
        if self.config["pool"] != "located":
            raise ValueError(
                f'a network with pool="{self.config["pool"]}" does not say where a finding is; make it with '
                'pool="located", and train it by fit(..., lesions=boxes).'
            )
        with watched(self) as logits:
            self(x)
        return joined(logits)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Give the classifier's logits, float32 (B, classes), of embeddings, float32 (B, dim).

        Training draws as many images of each class, so their softmax is a probability for classes that are equally
        frequent; `siamura.MLPHead.from_network` corrects that.

        Raises
        ------
        ValueError
            If the network has no classifier.
        """
        if self.neck is None:
            raise ValueError(
                "the network has no classifier; give classes=, or train by fit(..., classify=1.0)."
            )
        out: Tensor = self.neck(embeddings)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Embed grey images, uint8 or float (B, 1, S, S) from 0 to 255, as float32 (B, dim)."""
        out: Tensor = self.head(self.features(x))
        return out
