"""Trunks by name: torchvision's and timm's classifiers without their tops, for one grey channel."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ._torchvision import torchvision_models

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TRUNKS", "Trunk", "check_trunk", "fold_grey"]

_LOG = logging.getLogger(__name__)

TRUNKS = (
    "densenet121",
    "densenet169",
    "densenet201",
    "resnet18",
    "resnet50",
    "resnet152",
    "vgg16",
    "vgg19",
    "inception_v3",
    "efficientnet_b0",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "squeezenet1_1",
    "convnext_tiny",
)
"""Trunks that the tests run; any other torchvision classifier works by the same road."""

# The mean over ImageNet's channels of its means and deviations.
_GREY = (0.449, 0.226)
_HALF = (0.5, 0.5)  # Inception's weights were trained on -1..1


class Trunk(nn.Module):
    """A classifier's convolutional part: one grey channel in, a feature map out.

    Parameters
    ----------
    name : str
        A torchvision classifier (`TRUNKS` and any other), or ``"timm:NAME"`` with the ``[timm]`` extra.
    weights : None, "imagenet" or path
        None draws the weights; ``"imagenet"`` loads the published ones; a path loads a file, see
        `load_weights`.
    image_size : int, optional
        The images' side, in pixels. Only transformers with fixed positions (``vit_*``, ``maxvit_t``) need it.
    grey : bool
        Fold the first convolution's three channels into one (see `fold_grey`). False keeps three: the grey
        image is then repeated, which gives the same output more slowly. So do timm's trunks whose first
        convolution cannot be folded.

    Attributes
    ----------
    channels : int
        Channels of the feature map.
    input_size : int
        The side that the published weights were trained on.
    min_size : int
        The smallest side that gives a feature map.
    weights_given : bool
        Whether it began with trained weights, or some were loaded since; `fit` then keeps the statistics of its
        batch norms.
    mean, std : float
        What the trunk expects its input, in 0..1, to be normalised by.

    Raises
    ------
    ValueError
        If no such trunk is known.

    Examples
    --------
    >>> trunk = Trunk("squeezenet1_1")
    >>> trunk(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 512, 3, 3])
    """

    def __init__(
        self,
        name: str,
        weights: str | Path | None = None,
        *,
        image_size: int | None = None,
        grey: bool = True,
    ) -> None:
        super().__init__()
        self.name = name
        self.grey = grey
        self.weights_given = weights is not None
        self.mean, self.std = _GREY
        self.min_size = 32
        if name.startswith("timm:"):
            self.model, self._map = self._timm(name.removeprefix("timm:"), weights)
        else:
            self.model, self._map = self._torchvision(name, weights, image_size)
        if weights is not None and weights != "imagenet":
            from .weights import load_weights

            load_weights(self.model, weights)
        if grey:
            try:
                fold_grey(self.model)
            except ValueError as error:
                if not name.startswith("timm:"):
                    raise
                _LOG.info("%s keeps three channels: %s", name, error)
                self.grey = False
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # a probe tells the channels of any trunk
            side = max(self.min_size, 64) if name not in _FIXED else self.input_size
            self.channels = int(self.eval()(torch.zeros(1, 1, side, side)).shape[1])
        self.train()

    def _torchvision(
        self, name: str, weights: str | Path | None, image_size: int | None
    ) -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]:
        models = torchvision_models()
        _known(name)
        enum = models.get_model_weights(name)
        self.input_size = int(getattr(enum.DEFAULT.transforms(), "crop_size", [224])[0])
        options: dict[str, Any] = {}
        if name in ("inception_v3", "googlenet"):
            # The auxiliary top exists for training its own loss; the input scaling is ours to do.
            options = {"aux_logits": False, "init_weights": weights is None, "transform_input": False}
            self.mean, self.std = _HALF
            self.min_size = 75 if name == "inception_v3" else 32
        elif name in _FIXED:
            self.input_size = image_size or self.input_size
            self.min_size = self.input_size
            options = {"image_size": self.input_size} if name.startswith("vit") else {}
            if name == "maxvit_t":
                options = {"input_size": (self.input_size, self.input_size)}
        model = models.get_model(name, weights=None, **options)
        cut = _MAPS.get(type(model).__name__)
        if cut is None:
            raise ValueError(f"trunk={name!r} has no feature map known here; try timm:{name}.")
        if weights == "imagenet":
            from .weights import imagenet_file, load_weights

            load_weights(model, imagenet_file(name, enum.DEFAULT.url))
        for top in ("classifier", "fc", "head", "heads"):
            if hasattr(model, top):
                delattr(model, top)
        return model, cut

    def _timm(
        self, name: str, weights: str | Path | None
    ) -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]:
        timm = _import_timm(name)
        try:
            model = timm.create_model(name, pretrained=weights == "imagenet", num_classes=0, global_pool="")
        except Exception as error:  # timm and the Hub raise a dozen kinds where there is no network
            if weights != "imagenet":
                raise
            raise FileNotFoundError(
                f'weights="imagenet" of timm:{name} could not be fetched ({error}). '
                f"Fetch https://huggingface.co/timm/{name} on a machine with a network and give the file as "
                "weights=PATH."
            ) from error
        config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
        self.input_size = int(config.get("input_size", (3, 224, 224))[-1])
        self.mean, self.std = fmean(config.get("mean", _GREY[:1])), fmean(config.get("std", _GREY[1:]))
        return model, _timm_map

    def forward(self, x: Tensor) -> Tensor:
        """Feature map of normalised images.

        Parameters
        ----------
        x : Tensor, float (B, 1, H, W)
            Grey images, normalised by `mean` and `std`.

        Returns
        -------
        Tensor (B, `channels`, h, w)
        """
        if min(x.shape[-2:]) < self.min_size:
            raise ValueError(
                f"{self.name} needs images of at least {self.min_size} px a side, and got "
                f"{x.shape[-2]} x {x.shape[-1]}; use Preprocess(size={self.input_size})."
            )
        return self._map(self.model, x if self.grey else x.expand(-1, 3, -1, -1))

    def layers(self) -> list[str]:
        """Names of the layers with weights, from the input on: what `unfreeze` takes."""
        return [
            name
            for name, module in self.model.named_modules()
            if next(iter(module.parameters(recurse=False)), None) is not None
        ]

    def freeze(self) -> None:
        """Keep every weight of the trunk as it is."""
        self.unfreeze(None)

    def unfreeze(self, start: str | int | float | None = 0) -> list[str]:
        """Let the layers from `start` on learn, and freeze those before it.

        Parameters
        ----------
        start : str, int, float or None
            Name of a layer or block (``"features.denseblock3"``, ``"layer4"``), number of a layer in `layers`
            (negative from the end), fraction of them, or None to freeze all.

        Returns
        -------
        list of str
            The layers that learn.

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        names = self.layers()
        if start is None:
            at = len(names)
        elif isinstance(start, str):
            found = [i for i, name in enumerate(names) if name == start or name.startswith(start + ".")]
            if not found:
                blocks = sorted({".".join(name.split(".")[:2]) for name in names})
                raise ValueError(
                    f"start={start!r} is no layer of {self.name}; it has {', '.join(blocks[:12])}, ..."
                )
            at = found[0]
        else:
            at = round(start * len(names)) if isinstance(start, float) else start
            if not -len(names) <= at <= len(names):
                raise ValueError(f"start={start} is beyond the {len(names)} layers of {self.name}.")
            at = at % len(names) if at < 0 else at
        self.requires_grad_(False)
        modules = dict(self.model.named_modules())
        for name in names[at:]:
            for weight in modules[name].parameters(recurse=False):
                weight.requires_grad_(True)
        return names[at:]

    def train(self, mode: bool = True) -> Trunk:
        """Set the mode; what is frozen keeps its batch statistics, and a frozen trunk drops nothing."""
        super().train(mode and any(weight.requires_grad for weight in self.parameters()))
        if self.training:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    scale = module.weight
                    if scale is not None and not scale.requires_grad:
                        module.eval()
        return self


def check_trunk(name: str, shapes: Mapping[str, Sequence[int]]) -> None:
    """See, before it is made, that a trunk is about as large as the weights that are to fill it.

    Parameters
    ----------
    name : str
        See `Trunk`.
    shapes : mapping of str to sequence of int
        Of the file's tensors.

    Raises
    ------
    ValueError
        If no such trunk is known, or it is more than twice as large.
    """
    with torch.device("meta"), _Undrawn(), torch.random.fork_rng(devices=[]):  # takes no memory
        if name.startswith("timm:"):
            model = _import_timm(name.removeprefix("timm:")).create_model(
                name.removeprefix("timm:"), pretrained=False, num_classes=0
            )
        else:
            models = torchvision_models()
            options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
            model = models.get_model(_known(name), weights=None, **options)
    wanted = sum(weight.numel() for weight in model.parameters())
    held = sum(math.prod(shape) for shape in shapes.values())
    # A model with its classifier, which the file does not hold: VGG's has 120 million weights.
    tops = sum(
        weight.numel()
        for top in ("classifier", "fc", "head", "heads", "aux1", "aux2", "AuxLogits")
        if isinstance(module := getattr(model, top, None), nn.Module)
        for weight in module.parameters()
    )
    if wanted - tops > 2 * held:
        raise ValueError(
            f"trunk={name!r} has {wanted - tops} weights, and the file of weights beside it holds {held}; they do not "
            "belong together."
        )


class _Undrawn(TorchFunctionMode):
    """Leave out what is done in place, as all that draws weights: on the meta device it imports torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function, or give its first argument as it is."""
        name = getattr(func, "__name__", "")
        kwargs = kwargs or {}
        if name.endswith("_") and not name.endswith("__") and (args or "tensor" in kwargs):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _known(name: str) -> str:
    """Give the name of a torchvision classifier, or say which are near it."""
    models = torchvision_models()
    known = models.list_models(module=models)
    if name in known:
        return name
    near = get_close_matches(name, known, n=3) or list(TRUNKS)
    raise ValueError(
        f"trunk={name!r} is unknown; did you mean {', '.join(near)}? Any torchvision classifier will "
        'do, and "timm:NAME" with the [timm] extra.'
    )


def _import_timm(name: str) -> Any:
    """Import timm, an extra, and see that it knows the name."""
    torchvision_models()  # timm imports it
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            f'trunk="timm:{name}" needs the timm package: pip install "siamura[timm]".'
        ) from error
    if not timm.is_model(name.split(".")[0]):
        near = ", ".join(timm.list_models(f"*{name[:6]}*")[:3]) or "see timm.list_models()"
        raise ValueError(f'trunk="timm:{name}" is unknown to timm {timm.__version__}; {near}.')
    return timm


def fold_grey(model: nn.Module) -> None:
    """Sum the first convolution's three input channels into one, in place.

    A grey image normalised by ONE mean and deviation and repeated over three channels gives the same output
    as that image through the folded convolution, for a third of the first layer's work. With one mean a
    channel it would not: zero padding stands for another grey in each channel there.

    Parameters
    ----------
    model : Module
        Its first convolution with three input channels is replaced. A model that has one channel already is
        left alone.

    Raises
    ------
    ValueError
        If the first convolution has another number of channels, or does not use its weights as they are.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3))
    >>> image = torch.rand(1, 1, 8, 8)
    >>> before = model(image.expand(-1, 3, -1, -1))
    >>> fold_grey(model)
    >>> bool(torch.allclose(model(image), before, atol=1e-5))
    True
    """
    found = next(((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)
    if found is None:
        raise ValueError(f"{type(model).__name__} has no convolution to fold.")
    name, conv = found
    if conv.in_channels == 1:
        return
    if conv.in_channels != 3 or conv.groups != 1:
        raise ValueError(
            f"the first convolution ({name}) has {conv.in_channels} channels, not 3; cannot fold it."
        )
    whole = conv.weight
    with torch.no_grad():
        side = 2 * max(conv.kernel_size)
        probe = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0)).to(whole)
        wanted = conv(probe.expand(-1, 3, -1, -1))
        conv.weight = nn.Parameter(whole.sum(1, keepdim=True))
        conv.in_channels = 1
        # Convolutions that standardise their weights would do so anew with the sum.
        if not torch.allclose(conv(probe), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max())):
            conv.weight, conv.in_channels = whole, 3
            raise ValueError(
                f"the first convolution ({name}, {type(conv).__name__}) rescales its weights; cannot fold it."
            )


def _dense(model: nn.Module, x: Tensor) -> Tensor:
    # Not in place: the map that a hook saved before the ReLU must stay what it was.
    return torch.relu(model.features(x))  # type: ignore[operator]


def _features(model: nn.Module, x: Tensor) -> Tensor:
    return model.features(x)  # type: ignore[operator, no-any-return]


def _in_turn(*names: str) -> Callable[[nn.Module, Tensor], Tensor]:
    def run(model: nn.Module, x: Tensor) -> Tensor:
        for name in names:
            x = getattr(model, name)(x)
        return x

    return run


def _inception(model: nn.Module, x: Tensor) -> Tensor:
    for name, child in model.named_children():
        if name in ("avgpool", "AuxLogits"):
            break
        x = child(x)
    return x


def _swin(model: nn.Module, x: Tensor) -> Tensor:
    return model.norm(model.features(x)).permute(0, 3, 1, 2)  # type: ignore[operator, no-any-return]


def _vit(model: nn.Module, x: Tensor) -> Tensor:
    patch: int = model.patch_size  # type: ignore[assignment]
    height, width = x.shape[-2] // patch, x.shape[-1] // patch
    tokens = model._process_input(x)  # type: ignore[operator]
    # Not len(x), which an export to ONNX would take for a constant.
    token = model.class_token.expand(x.shape[0], -1, -1)  # type: ignore[operator]
    tokens = model.encoder(torch.cat([token, tokens], dim=1))[:, 1:]  # type: ignore[operator]
    return tokens.transpose(1, 2).reshape(x.shape[0], -1, height, width)  # type: ignore[no-any-return]


def _maxvit(model: nn.Module, x: Tensor) -> Tensor:
    x = model.stem(x)  # type: ignore[operator]
    for block in model.blocks:  # type: ignore[union-attr]
        x = block(x)
    return x


def _timm_map(model: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = model.forward_features(x)  # type: ignore[operator]
    if out.ndim != 4:
        raise ValueError(
            f"{type(model).__name__} of timm gives tokens, not a feature map; choose a convolutional one."
        )
    channels = getattr(model, "num_features", out.shape[1])
    return out if out.shape[1] == channels else out.permute(0, 3, 1, 2)


_FIXED = ("vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32", "maxvit_t")
_MAPS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "DenseNet": _dense,
    "ResNet": _in_turn("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"),
    "VGG": _features,
    "AlexNet": _features,
    "SqueezeNet": _features,
    "MobileNetV2": _features,
    "MobileNetV3": _features,
    "EfficientNet": _features,
    "ConvNeXt": _features,
    "Inception3": _inception,
    "GoogLeNet": _inception,
    "MNASNet": _in_turn("layers"),
    "ShuffleNetV2": _in_turn("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"),
    "RegNet": _in_turn("stem", "trunk_output"),
    "SwinTransformer": _swin,
    "VisionTransformer": _vit,
    "MaxVit": _maxvit,
}
