"""Looking into a network without leaving a trace: modes, flags and hooks come back as they were."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial

import torch
from torch import Tensor, nn

from siamura.networks.tokens import map_of

__all__ = ["LayerOutput", "capture_layer", "choose_layer", "choose_layers", "find_layer", "frozen_eval"]


@contextmanager
def frozen_eval(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, gradients on and its weights frozen, and undo all of it.

    Each module's mode and each weight's ``requires_grad`` come back whatever happens inside, also where they
    differed from module to module. It works under ``torch.no_grad`` and ``torch.inference_mode`` too.

    Parameters
    ----------
    model : Module

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
    >>> with frozen_eval(net):
    ...     net.training, net[0].weight.requires_grad
    (False, False)
    >>> net.training, net[1].training, net[0].weight.requires_grad
    (True, True, True)
    """
    modes = [(module, module.training) for module in model.modules()]
    learning = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        model.eval()
        for weight, _ in learning:
            weight.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight, flag in learning:
            weight.requires_grad_(flag)


class LayerOutput:
    """What a watched layer gave in the last pass.

    Attributes
    ----------
    activation : Tensor (B, K, h, w), (B, h, w, K) or (B, n, K)
        A leaf: what follows the layer can be differentiated with respect to it.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        self.name = name
        self.size: tuple[int, int] | None = None
        self._prefix, self._last, self._raster = _layout(model)
        self._outputs: list[Tensor] = []

    @property
    def activation(self) -> Tensor:
        """The layer's output."""
        if len(self._outputs) != 1:
            raise ValueError(
                f"layer={self.name!r} ran {len(self._outputs)} times in one pass; choose one that runs once."
            )
        return self._outputs[0]

    def as_map(self, values: Tensor) -> Tensor | None:
        """The layer's output, or its gradient, as a feature map (B, K, h, w); tokens of no patch are left out."""
        if self.size is None or (values.ndim == 3 and not self._raster):
            return values if values.ndim == 4 else None
        found = map_of(values, self.size, prefix=self._prefix, channels_last=self._last)
        return values if found is None and values.ndim == 4 else found


def _layout(model: nn.Module) -> tuple[int | None, bool, bool]:
    """Tokens before the patches, whether channels stand last, and whether tokens stand row by row."""
    trunk = getattr(model, "trunk", model)
    return (
        getattr(trunk, "prefix_tokens", None),
        bool(getattr(trunk, "channels_last", False)),
        bool(getattr(trunk, "tokens_in_rows", True)),
    )


@contextmanager
def capture_layer(model: nn.Module, layer: str | nn.Module) -> Iterator[LayerOutput]:
    """Keep one layer's output, as a leaf for gradients.

    What runs after the layer gets a copy, so that an in-place ReLU (DenseNet's last one, any
    ``nn.ReLU(inplace=True)``) cannot overwrite what was kept. What runs before it builds no graph.

    Parameters
    ----------
    model : Module
    layer : str or Module
        A name of ``model.named_modules()``, or the module.

    Yields
    ------
    LayerOutput
        Its ``activation`` is there after a pass.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, kernel_size=3), nn.Flatten(), nn.Linear(144, 1))
    >>> with capture_layer(net, "0") as seen:
    ...     score = net(torch.ones(1, 1, 8, 8)).sum()
    >>> (gradient,) = torch.autograd.grad(score, seen.activation)
    >>> seen.activation.shape, gradient.shape
    (torch.Size([1, 4, 6, 6]), torch.Size([1, 4, 6, 6]))
    """
    name, module = find_layer(model, layer)
    seen = LayerOutput(name, model)

    def note(_: nn.Module, given: tuple[object, ...]) -> None:
        if given and isinstance(given[0], Tensor) and given[0].ndim == 4:
            seen.size = (int(given[0].shape[-2]), int(given[0].shape[-1]))

    def keep(_: nn.Module, __: object, output: object) -> Tensor:
        if (
            not isinstance(output, Tensor)
            or not output.is_floating_point()
            or output.ndim not in (3, 4)
            or seen.as_map(output) is None
        ):
            what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"layer={name!r} gives {what}; a feature map (B, K, h, w) or tokens of a grid are needed."
            )
        kept = output.detach().clone().requires_grad_(torch.is_grad_enabled())
        seen._outputs.append(kept)
        return kept.clone()

    handles = [model.register_forward_pre_hook(note), module.register_forward_hook(keep)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def find_layer(model: nn.Module, layer: str | nn.Module) -> tuple[str, nn.Module]:
    """Name and module of a layer."""
    modules = dict(model.named_modules())
    if isinstance(layer, str):
        if layer not in modules:
            near = get_close_matches(layer, modules, n=3, cutoff=0.3) or list(modules)[1:4]
            raise ValueError(
                f"layer={layer!r} is no module of {type(model).__name__}; near: {', '.join(near)}."
            )
        return layer, modules[layer]
    for name, module in modules.items():
        if module is layer:
            return name, module
    raise ValueError(f"layer is a {type(layer).__name__} that is no part of {type(model).__name__}.")


def choose_layer(model: nn.Module, x: Tensor, cells: int = 6) -> str:
    """Name the deepest layer whose feature map still has enough cells to point with.

    DenseNet-169's last map has 7 x 7 cells for an input of 224 pixels, and 3 x 3 for one of 96.

    Parameters
    ----------
    model : Module
    x : Tensor (1, C, H, W)
        One input.
    cells : int
        Cells wanted along the shorter side. Where no layer has as many, the deepest with most is taken.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If no layer gives a feature map of the input's proportions.

    Examples
    --------
    >>> from siamura import EmbeddingNet
    >>> net = EmbeddingNet("resnet18", dim=8)
    >>> [choose_layer(net, torch.zeros(1, 1, side, side)) for side in (96, 224)]  # 6 and 7 cells
    ['trunk.model.layer3', 'trunk']
    """
    found = _feature_maps(model, x)
    enough = min(cells, max(min(h, w) for _, _, h, w in found))
    return [name for name, _, h, w in found if min(h, w) >= enough][-1]


def choose_layers(model: nn.Module, x: Tensor) -> list[str]:
    """Name one layer for every halving of the image, from a quarter of its side down to the last map.

    Of the maps of about one size, the deepest of those with the most channels: the end of a stage (DenseNet's
    transitions, after its blocks, ResNet's ``layer1`` to ``layer4``).

    Parameters
    ----------
    model : Module
    x : Tensor (1, C, H, W)
        One input.

    Returns
    -------
    list of str
        The shallowest first. Where no map is as small as a quarter, the deepest layer alone.

    Raises
    ------
    ValueError
        If no layer gives a feature map of the input's proportions.

    Examples
    --------
    >>> from siamura import EmbeddingNet
    >>> net = EmbeddingNet("resnet18", dim=8)
    >>> [name.removeprefix("trunk.model.") for name in choose_layers(net, torch.zeros(1, 1, 96, 96))]
    ['layer1', 'layer2', 'layer3', 'trunk']
    """
    stages: dict[int, tuple[str, int]] = {}
    found = _feature_maps(model, x)
    for name, channels, h, w in found:
        halvings = round(math.log2(min(x.shape[-2:]) / min(h, w)))
        if halvings >= 2 and channels >= stages.get(halvings, ("", 0))[1]:
            stages[halvings] = name, channels
    return [stages[key][0] for key in sorted(stages)] or [found[-1][0]]


def _feature_maps(model: nn.Module, x: Tensor) -> list[tuple[str, int, int, int]]:
    """Name, channels, height and width of each map of more than one cell, of layers that run once, in their order."""
    maps: list[tuple[str, int, int, int]] = []
    blocks: dict[str, type[nn.Module]] = {}
    size = (int(x.shape[-2]), int(x.shape[-1]))
    prefix, last, raster = _layout(model)

    def note(name: str, module: nn.Module, given: tuple[object, ...], output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim not in (3, 4) or not output.is_floating_point():
            return
        if isinstance(module, nn.Dropout):  # of attention: tokens by tokens
            return
        found = map_of(output, size, prefix=prefix, channels_last=last)
        if found is None or len(output) != len(x):  # windows are counted in the batch
            return
        if output.ndim == 3 or found.shape != output.shape or last:
            # Of tokens only what a transformer's block gives: what goes in and out alike, and has parts.
            alike = bool(given) and isinstance(given[0], Tensor) and given[0].shape == output.shape
            if name != "trunk" and not (raster and alike and _has_parts(module)):
                return
            if name != "trunk":
                blocks[name] = type(module)
        maps.append((name, *found.shape[1:]))

    handles = []
    try:
        for name, module in model.named_modules():
            if name:
                handles.append(module.register_forward_hook(partial(note, name)))
        with frozen_eval(model), torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    if getattr(getattr(model, "trunk", None), "output", "map") == "class_token":
        # The class token looks at the patches in the last block: what that gives for them has no effect.
        kinds = Counter(blocks.values())
        ends = [name for name in blocks if kinds[blocks[name]] > 1][-1:]
        wide = [name for name in blocks if kinds[blocks[name]] == 1]
        maps = [
            m for m in maps if m[0] not in wide and not (m[0] + ".").startswith(tuple(f"{e}." for e in ends))
        ]
    ran = Counter(name for name, *_ in maps)
    once = [(name, k, h, w) for name, k, h, w in maps if ran[name] == 1 and min(h, w) > 1]
    if not once:
        raise ValueError(f"{type(model).__name__} has no layer with a feature map (B, K, h, w); give layer=.")
    return once


def _has_parts(module: nn.Module) -> bool:
    return not isinstance(module, (nn.Sequential, nn.ModuleList)) and any(True for _ in module.children())
