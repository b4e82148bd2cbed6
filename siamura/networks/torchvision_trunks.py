"""torchvision's classifiers without their tops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ._features import Built
from ._torchvision import torchvision_models
from .weights import imagenet_file, load_weights

if TYPE_CHECKING:
    from pathlib import Path

    from ._features import Features

__all__ = ["TRUNKS", "build", "known"]

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
"""Trunks that the tests run; any other torchvision classifier works in the same way."""


def known(name: str) -> str:
    """Give the name of a torchvision classifier, or say which are near it."""
    models = torchvision_models()
    held = models.list_models(module=models)
    if name in held:
        return name
    near = get_close_matches(name, held, n=3) or list(TRUNKS)
    raise ValueError(
        f"trunk={name!r} is unknown; did you mean {', '.join(near)}? Any torchvision classifier will "
        'do, and "timm:NAME" with the [timm] extra.'
    )


def build(name: str, weights: str | Path | None, image_size: int | None) -> Built:
    """Make a torchvision classifier without its top."""
    models = torchvision_models()
    known(name)
    enum = models.get_model_weights(name)
    side = int(getattr(enum.DEFAULT.transforms(), "crop_size", [224])[0])
    options: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    if name in ("inception_v3", "googlenet"):
        # The auxiliary top exists for training its own loss; the input scaling is ours to do.
        options = {"aux_logits": False, "init_weights": weights is None, "transform_input": False}
        facts = {"mean": 0.5, "std": 0.5}  # their weights were trained on -1..1
        if name == "inception_v3":
            facts["min_size"] = 75
    elif name in _FIXED:
        side = image_size or side
        facts = {"min_size": side, "image_size": side, "fixed": True}
        options = {"input_size": (side, side)} if name == "maxvit_t" else {"image_size": side}
    try:
        model = models.get_model(name, weights=None, **options)
    except (ValueError, RuntimeError, AssertionError) as error:
        told = str(error).split("\n")[0]
        raise ValueError(f"{name} cannot be made for images of {side} px ({told}).") from error
    features = _features_of(type(model).__name__)
    if features is None:
        raise ValueError(f"trunk={name!r} has no feature map known here; try timm:{name}.")
    if weights == "imagenet":
        load_weights(model, imagenet_file(name, enum.DEFAULT.url))
    for top in ("classifier", "fc", "head", "heads"):
        if hasattr(model, top):
            delattr(model, top)
    return Built(model, name, features, side, **facts)


def _features_of(kind: str) -> Features | None:
    if kind == "VisionTransformer":
        return _vit
    cut = _MAPS.get(kind)
    return None if cut is None else partial(_map_alone, cut)  # pickles, as a lambda does not


def _map_alone(
    cut: Callable[[nn.Module, Tensor], Tensor], model: nn.Module, x: Tensor
) -> tuple[Tensor, Tensor | None]:
    return cut(model, x), None


def _dense(model: nn.Module, x: Tensor) -> Tensor:
    # Not in place: the map that a hook saved before the ReLU must stay what it was.
    return torch.relu(model.features(x))  # type: ignore[operator]


def _features(model: nn.Module, x: Tensor) -> Tensor:
    return model.features(x)  # type: ignore[operator, no-any-return]


def _in_turn(*names: str) -> Callable[[nn.Module, Tensor], Tensor]:
    return partial(_run_in_turn, names)


def _run_in_turn(names: Sequence[str], model: nn.Module, x: Tensor) -> Tensor:
    for name in names:
        x = getattr(model, name)(x)
    return x


def _inception(model: nn.Module, x: Tensor) -> Tensor:
    for name, child in model.named_children():
        if name in ("avgpool", "AuxLogits"):
            break
        x = child(x)
    return x


def _swin(model: nn.Module, x: Tensor) -> Tensor:
    return model.norm(model.features(x)).permute(0, 3, 1, 2)  # type: ignore[operator, no-any-return]


def _vit(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    patch: int = model.patch_size  # type: ignore[assignment]
    height, width = x.shape[-2] // patch, x.shape[-1] // patch
    tokens = model._process_input(x)  # type: ignore[operator]
    # Not len(x), which an export to ONNX would take for a constant.
    token = model.class_token.expand(x.shape[0], -1, -1)  # type: ignore[operator]
    tokens = model.encoder(torch.cat([token, tokens], dim=1))  # type: ignore[operator]
    places = tokens[:, 1:].transpose(1, 2).reshape(x.shape[0], -1, height, width)
    return places, tokens[:, 0]


def _maxvit(model: nn.Module, x: Tensor) -> Tensor:
    x = model.stem(x)  # type: ignore[operator]
    for block in model.blocks:  # type: ignore[union-attr]
        x = block(x)
    return x


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
    "MaxVit": _maxvit,
}
