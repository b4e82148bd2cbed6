"""Trunks by name: torchvision's and timm's models without their tops, for one grey channel."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from siamura._validation import check_number

from .folding import fold_grey
from .timm_trunks import TIMM
from .timm_trunks import build as build_timm
from .torchvision_trunks import TRUNKS
from .torchvision_trunks import build as build_torchvision
from .weights import load_weights

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TRUNKS", "Trunk"]

_LOG = logging.getLogger(__name__)


class Trunk(nn.Module):
    """A model without its top: one grey channel in, a feature map out.

    Where the model gives tokens (ViT, DINOv2, DINOv3, EVA, BEiT, ...), those of the patches become the map; class and
    register tokens are split off.

    Parameters
    ----------
    name : str
        A torchvision classifier (`TRUNKS` and any other), or with the ``[timm]`` extra ``"timm:NAME"`` or
        ``"timm:hf-hub:OWNER/NAME"``, a timm model on the Hugging Face Hub.
    weights : None, "imagenet" or path
        None draws the weights; ``"imagenet"`` fetches the published ones; a path loads a file, see
        `load_weights`. Nothing else uses a network.
    image_size : int, optional
        The images' side, in pixels, for which position embeddings are made (and resampled, where weights are
        loaded). By default the side that the published weights were trained on. Convolutional trunks need none.
    grey : bool
        Fold the first convolution's three channels into one (see `fold_grey`). False keeps three: the grey
        image is then repeated, which gives the same output more slowly. So do timm's trunks whose first
        convolution cannot be folded.
    output : {"map", "class_token"}
        What to give: the feature map, or the class token as a map of one place.

    Attributes
    ----------
    channels : int
        Channels of the feature map.
    input_size : int
        The side that the published weights were trained on.
    image_size : int or None
        The side that the position embeddings are made for; None where there are none.
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
        If no such trunk is known, it gives no map, or it has no class token where one is asked for.

    Examples
    --------
    >>> trunk = Trunk("squeezenet1_1")
    >>> trunk(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 512, 3, 3])
    >>> trunk = Trunk("timm:test_vit", image_size=64)
    >>> trunk(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 64, 4, 4])
    """

    def __init__(
        self,
        name: str,
        weights: str | Path | None = None,
        *,
        image_size: int | None = None,
        grey: bool = True,
        output: Literal["map", "class_token"] = "map",
    ) -> None:
        super().__init__()
        if output not in ("map", "class_token"):
            raise ValueError(f'output={output!r} is unknown; choose "map" or "class_token".')
        if name.startswith(TIMM):
            built = build_timm(name.removeprefix(TIMM), weights, image_size)
        else:
            built = build_torchvision(name, weights, image_size)
        self.name, self.model, self._features = built.name, built.model, built.features
        self.input_size, self.min_size, self.image_size = built.input_size, built.min_size, built.image_size
        self.mean, self.std = built.mean, built.std
        self._fixed, self._multiple = built.fixed, built.multiple
        self.weights_given = weights is not None
        self.output: Literal["map", "class_token"] = "map"
        if weights is not None and weights != "imagenet":
            load_weights(self.model, weights)
        self.grey = False
        self.channels, token, inputs = self._probe()
        if output == "class_token" and not token:
            raise ValueError(
                f'pool="cls" needs a trunk with a class token, and {name} has none; choose pool="avg", "max" or '
                '"gem".'
            )
        self.output = output
        if grey:
            try:
                self._fold(inputs)
            except ValueError as error:
                if not name.startswith(TIMM):
                    raise
                _LOG.info("%s keeps three channels: %s", name, error)
        self.train()

    def _probe(self) -> tuple[int, bool, list[nn.Module]]:
        """Channels of the map, whether there is a class token, and the convolutions that see the image."""
        if self._fixed:
            side = self.image_size or self.input_size
        elif self._multiple > 1:
            side = self._multiple * math.ceil(64 / self._multiple)
        else:
            side = self.image_size or max(self.min_size, 64)
        seen: list[nn.Module] = []

        def note(module: nn.Module, given: tuple[object, ...]) -> None:
            if given and isinstance(given[0], Tensor) and given[0].ndim == 4 and given[0].shape[1] == 3:
                seen.append(module)

        handles = [
            module.register_forward_pre_hook(note)
            for module in self.model.modules()
            if isinstance(module, nn.Conv2d)
        ]
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                self.eval()
                places, token = self._features(self.model, torch.zeros(1, 3, side, side))
        except (AssertionError, RuntimeError) as error:
            told = str(error).split("\n")[0]
            raise ValueError(f"{self.name} takes no images of {side} px ({told:.200}).") from error
        finally:
            for handle in handles:
                handle.remove()
        return int(places.shape[1]), token is not None, seen

    def _fold(self, inputs: list[nn.Module]) -> None:
        first = next((m for m in self.model.modules() if isinstance(m, nn.Conv2d)), None)
        if inputs != [first]:
            raise ValueError(f"the image goes into {len(inputs)} convolutions, of which one can be folded.")
        fold_grey(self.model)
        self.grey = True

    def forward(self, x: Tensor) -> Tensor:
        """Feature map of normalised images.

        Parameters
        ----------
        x : Tensor, float (B, 1, H, W)
            Grey images, normalised by `mean` and `std`.

        Returns
        -------
        Tensor (B, `channels`, h, w)
            With ``output="class_token"``, (B, `channels`, 1, 1).
        """
        height, width = x.shape[-2], x.shape[-1]
        use = f"{height} x {width}; use Preprocess(size={self.image_size or self.input_size})"
        if min(height, width) < self.min_size:
            raise ValueError(
                f"{self.name} needs images of at least {self.min_size} px a side, and got {use}."
            )
        if self._fixed and (height != self.image_size or width != self.image_size):
            raise ValueError(
                f"{self.name} was made for images of {self.image_size} x {self.image_size}, and got {use}, or make it "
                f"with image_size={max(height, width)}."
            )
        if height % self._multiple or width % self._multiple:
            low = self._multiple * max(1, height // self._multiple)
            raise ValueError(
                f"{self.name} has patches of {self._multiple} px, and got images of {height} x {width}; use "
                f"Preprocess(size={low}) or size={low + self._multiple}."
            )
        places, token = self._features(self.model, x if self.grey else x.expand(-1, 3, -1, -1))
        if self.output == "map":
            return places
        assert token is not None
        return token[:, :, None, None]

    @property
    def channels_last(self) -> bool:
        """Whether the layers inside give maps with the channels last."""
        swin = type(self.model).__name__ == "SwinTransformer"
        return getattr(self.model, "output_fmt", "NHWC" if swin else "NCHW") == "NHWC"

    @property
    def tokens_in_rows(self) -> bool:
        """Whether the tokens inside stand row by row; Hiera's stand window by window until the end."""
        return not hasattr(self.model, "reroll")

    @property
    def prefix_tokens(self) -> int | None:
        """Tokens before those of the patches, where the model says how many."""
        held = getattr(self.model, "num_prefix_tokens", 1 if hasattr(self.model, "class_token") else None)
        return None if held is None else int(held)

    def layers(self) -> list[str]:
        """Names of the layers with weights, from the input on: what `unfreeze` takes.

        Class token and position embeddings are layers of their own.
        """
        return list(self._layers())

    def _layers(self) -> dict[str, list[nn.Parameter]]:
        found = {name: [weight] for name, weight in self.model.named_parameters(recurse=False)}
        for name, module in self.model.named_modules():
            if name and (weights := list(module.parameters(recurse=False))):
                found[name] = weights
        return found

    def blocks(self) -> dict[str, int]:
        """Number of the block that each weight belongs to, by its name in ``named_parameters``, the input's being 0.

        For timm's models the groups are timm's (``group_matcher``): a transformer's blocks one by one, the embedding of
        the patches before them; for torchvision's, the stages, or a transformer's blocks.

        Examples
        --------
        >>> blocks = Trunk("timm:test_vit", image_size=64).blocks()
        >>> blocks["model.cls_token"], blocks["model.blocks.0.norm1.weight"], max(blocks.values())
        (0, 1, 6)
        """
        names = [name for name, _ in self.model.named_parameters()]
        if self.name.startswith(TIMM) and hasattr(self.model, "group_matcher"):
            from timm.models import group_parameters  # an optional extra

            held = group_parameters(self.model, self.model.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
            last = max(held.values(), default=0)
            return {f"model.{name}": int(held.get(name, last)) for name in names}
        order: dict[str, int] = {}
        return {f"model.{name}": order.setdefault(_block(name), len(order)) for name in names}

    def undecayed(self) -> set[str]:
        """Names of the weights that should not decay beside biases and norms: tokens, positions, bias tables."""
        listed: set[str] = set(getattr(self.model, "no_weight_decay", set)())
        return {
            f"model.{name}"
            for name, _ in self.model.named_parameters()
            if name in listed or name.rpartition(".")[2] in _UNDECAYED
        }

    def block_at(self, share: float) -> str:
        """Name the block in front of which about such a share of the layers lies, so that whole blocks are frozen.

        Parameters
        ----------
        share : float
            Of the layers, at least 0 and below 1.

        Returns
        -------
        str
            For `unfreeze`.

        Examples
        --------
        >>> Trunk("resnet18").block_at(0.5)
        'layer3'
        """
        check_number("share", share, least=0, below=1)
        names = self.layers()
        starts: dict[str, int] = {}

        def divide(prefix: str, at: int, count: int) -> None:
            # What holds most of the layers (features, blocks, encoder.layers) is no block, but a row of blocks.
            if count <= max(1.0, _ROW * len(names)):
                starts[prefix] = at
                return
            depth = prefix.count(".") + 2 if prefix else 1
            parts = [".".join(name.split(".")[:depth]) for name in names[at : at + count]]
            for block in dict.fromkeys(parts):
                if block != prefix:  # weights of the row's own, such as position embeddings
                    divide(block, at + parts.index(block), parts.count(block))

        divide("", 0, len(names))
        return min(starts, key=lambda block: abs(starts[block] - share * len(names)))

    def freeze(self) -> None:
        """Keep every weight of the trunk as it is."""
        self.unfreeze(None)

    def unfreeze(self, start: str | int | float | None = 0) -> list[str]:
        """Let the layers from `start` on learn, and freeze those before it.

        Parameters
        ----------
        start : str, int, float or None
            Name of a layer or block (``"features.denseblock3"``, ``"layer4"``, ``"blocks.9"``), number of a layer in
            `layers` (negative from the end), fraction of them, or None to freeze all.

        Returns
        -------
        list of str
            The layers that learn.

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        layers = self._layers()
        names = list(layers)
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
        for name in names[at:]:
            for weight in layers[name]:
                weight.requires_grad_(True)
        return names[at:]

    def train(self, mode: bool = True) -> Trunk:
        """Set the mode; what is frozen keeps its batch statistics, and drops nothing."""
        super().train(mode)
        for module in self.modules() if mode else ():
            learns = [weight.requires_grad for weight in module.parameters()]
            if learns and not any(learns):
                module.eval()
        return self


_ROW = 0.6

_UNDECAYED = {"cls_token", "class_token", "reg_token", "dist_token", "pos_embed", "pos_embedding",
              "relative_position_bias_table"}  # fmt: skip


def _block(name: str) -> str:
    """Name the block of a torchvision model's weight: ``features.denseblock1``, ``layer3``, ``encoder.layers.0``."""
    parts = name.split(".")
    if name.startswith("encoder.layers."):
        return ".".join(parts[:3])
    if name in ("class_token", "encoder.pos_embedding"):
        return "conv_proj"
    return ".".join(parts[: 2 if parts[0] in ("features", "encoder") else 1])
