"""The supervised classifiers that siamura is compared with: a trunk and a top that ends in one logit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ._torchvision import torchvision_models
from .embedding_head import make_pool
from .grey_net import GreyNet
from .weights import imagenet_file, read_weights

if TYPE_CHECKING:
    from siamura.pixels import Preprocess

__all__ = ["TOPS", "Classifier", "ClassifierHead", "Top"]


@dataclass(frozen=True)
class Top:
    """What stands on a trunk, from the feature map to one logit.

    Parameters
    ----------
    pool : {"avg", "max", "gem", "cls", "flatten"}
        How the map becomes a vector; ``"cls"`` takes a transformer's class token, ``"flatten"`` keeps every position.
    map_norm : bool
        Batch normalisation of the map first.
    hidden : tuple of int
        Widths of dense layers.
    activation : {"relu", "leaky_relu"}
        After each of them; without hidden layers ``"leaky_relu"`` stands before the output.
    dropout : float
        Share dropped.
    dropout_at : int
        Number of dense layers before the dropout; -1 is right before the output.
    classes : int
        Outputs of a dense layer in between without activation, as an ImageNet classifier has them.
    l2 : float
        Weight of the squared weights of the dense layers in the loss (of the hidden ones, if there are any).

    Examples
    --------
    >>> head = ClassifierHead(channels=512, top=Top(hidden=(64,), dropout=0.5))
    >>> [type(layer).__name__ for layer in head.layers]
    ['Linear', 'ReLU', 'Dropout', 'Linear']
    >>> Classifier("squeezenet1_1", Top(pool="gem")).config["top"]["pool"]
    'gem'
    """

    pool: str = "avg"
    map_norm: bool = False
    hidden: tuple[int, ...] = ()
    activation: str = "relu"
    dropout: float = 0.0
    dropout_at: int = -1
    classes: int = 0
    l2: float = 0.0


TOPS: dict[str, Top] = {
    # The MURA paper: the last layer replaced by one with a single output.
    "mura": Top(),
    "b_densenet169": Top(hidden=(1664, 832), dropout=0.02, dropout_at=1),
    "b_resnet50": Top(pool="flatten", hidden=(2048, 1024, 512), l2=0.01),
    "b_vgg19": Top(pool="flatten", hidden=(512, 512, 256), l2=0.01),
    # System C's 1001 outputs are 1000 classes and one of background; torchvision's weights have 1000.
    "c": Top(classes=1000, dropout=0.3, l2=1e-4),
    # Rate of the dropout not stated: 0.5 is usual.
    "d": Top(map_norm=True, dropout=0.5, activation="leaky_relu"),
    # Widths of its three dense layers not stated.
    "e": Top(hidden=(512, 128)),
}
"""Tops of the systems that the reports describe, and of the MURA paper."""


class ClassifierHead(nn.Module):
    """A top, in float32 whatever the trunk computes in.

    Parameters
    ----------
    channels : int
        Channels of the feature map.
    top : Top
        What to build.
    area : int, optional
        Positions of the map; needed where it is flattened.

    Examples
    --------
    >>> ClassifierHead(8, Top(hidden=(4,)))(torch.rand(3, 8, 2, 2)).shape
    torch.Size([3])
    """

    def __init__(self, channels: int, top: Top, area: int | None = None) -> None:
        super().__init__()
        if top.activation not in ("relu", "leaky_relu"):
            raise ValueError(f"activation={top.activation!r} is unknown; choose relu or leaky_relu.")
        if not 0.0 <= top.dropout < 1.0:
            raise ValueError(f"dropout={top.dropout} must be at least 0 and below 1.")
        self.top = top
        self.map_norm = nn.BatchNorm2d(channels) if top.map_norm else nn.Identity()
        if top.pool == "flatten":
            if area is None:
                raise ValueError(
                    'pool="flatten" needs the size of the images; give image_size or preprocess.'
                )
            self.pool: nn.Module = nn.Flatten()
            channels *= area
        else:
            self.pool = make_pool(top.pool)  # type: ignore[arg-type]
        activation = nn.ReLU if top.activation == "relu" else nn.LeakyReLU
        self.classes = nn.Linear(channels, top.classes) if top.classes else nn.Identity()
        width = top.classes or channels
        layers: list[nn.Module] = []
        for number, out in enumerate(top.hidden):
            if top.dropout and number == top.dropout_at:
                layers.append(nn.Dropout(top.dropout))
            layers += [nn.Linear(width, out), activation()]
            width = out
        if top.dropout and (top.dropout_at < 0 or top.dropout_at >= len(top.hidden)):
            layers.append(nn.Dropout(top.dropout))
        if not top.hidden and top.activation == "leaky_relu":
            layers.append(activation())
        layers.append(nn.Linear(width, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B,) of feature maps (B, C, h, w)."""
        with torch.autocast(features.device.type, enabled=False):
            pooled = self.pool(self.map_norm(features.float()))
            return self.after_pool(pooled)

    def after_pool(self, pooled: Tensor) -> Tensor:
        """Logits (B,) of pooled features (B, C)."""
        out: Tensor = self.layers(self.classes(pooled))
        return out.squeeze(1)

    @property
    def pools_first(self) -> bool:
        """Whether nothing that learns stands before the pooling, so that pooled features can be kept."""
        return not self.top.map_norm and self.top.pool != "gem"

    def penalty(self) -> Tensor:
        """L2 term of the loss."""
        dense = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        dense = dense[:-1] or dense
        return self.top.l2 * torch.stack([layer.weight.square().sum() for layer in dense]).sum()


class Classifier(GreyNet):
    """A trunk and a top that ends in one logit: above 0 is abnormal.

    Parameters
    ----------
    trunk : str
        See `Trunk`.
    top : str or Top
        One of `TOPS`, or your own.
    weights : None, "imagenet" or path
        What the trunk starts from.
    image_size : int, optional
        The images' side; needed where the top flattens, unless `preprocess` tells.
    preprocess : Preprocess, optional
        How the images were made.
    hidden, dropout : optional
        In place of the top's.
    seed : int
        Of the weights drawn. The global random state is left alone.

    Attributes
    ----------
    trunk : Trunk
        ``net.trunk.freeze()``, ``net.trunk.unfreeze("features.denseblock3")``.
    head : ClassifierHead

    Examples
    --------
    >>> net = Classifier("squeezenet1_1", "d")
    >>> net(torch.zeros(2, 1, 64, 64, dtype=torch.uint8)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        trunk: str = "densenet169",
        top: str | Top | dict[str, Any] = "mura",
        weights: str | Path | None = None,
        *,
        image_size: int | None = None,
        preprocess: Preprocess | None = None,
        hidden: Sequence[int] | None = None,
        dropout: float | None = None,
        seed: int = 0,
    ) -> None:
        made = _top(top)
        if hidden is not None:
            made = replace(made, hidden=tuple(hidden))
        if dropout is not None:
            made = replace(made, dropout=dropout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(trunk, weights, image_size=image_size, preprocess=preprocess, pool=made.pool)
            area = None
            side = self.config["image_size"]
            if made.pool == "flatten" and side is not None:
                self.trunk.eval()
                with torch.no_grad():
                    area = self.trunk(torch.zeros(1, 1, side, side))[0, 0].numel()
                self.trunk.train()
            self.head = ClassifierHead(self.trunk.channels, made, area)
            if made.classes and weights == "imagenet":
                self._published_classes()
        self.config["top"] = asdict(made)

    def _published_classes(self) -> None:
        """Take over the published classifier, as system C does."""
        models = torchvision_models()
        url = models.get_model_weights(self.trunk.name).DEFAULT.url
        held = read_weights(imagenet_file(self.trunk.name, url))
        classes = self.head.classes
        assert isinstance(classes, nn.Linear)
        for name in ("fc", "classifier"):
            if held.get(f"{name}.weight", torch.empty(0)).shape == classes.weight.shape:
                classes.load_state_dict({kind: held[f"{name}.{kind}"] for kind in ("weight", "bias")})
                classes.requires_grad_(False)
                return
        raise ValueError(
            f"top 'c' takes a trunk whose published top is one dense layer; {self.trunk.name} has another."
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,) of grey images, uint8 or float (B, 1, S, S) from 0 to 255."""
        out: Tensor = self.head(self.features(x))
        return out


def _top(top: str | Top | dict[str, Any]) -> Top:
    if isinstance(top, dict):
        return Top(**{**top, "hidden": tuple(top.get("hidden", ()))})
    if isinstance(top, Top):
        return top
    if top not in TOPS:
        raise ValueError(f"top={top!r} is unknown; choose one of {', '.join(TOPS)}, or give a Top.")
    return TOPS[top]
