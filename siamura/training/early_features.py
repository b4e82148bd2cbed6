"""What a trunk's frozen first layers give, computed once and kept, and the rest of the network trained on it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from siamura.networks import Trunk

from .data import Augment, fetch, labels_of
from .embedding import forward_rows
from .head_first import FEATURE_BYTES

__all__ = ["EarlyFeatures", "LateNet", "keep_early_features"]

_LOG = logging.getLogger(__name__)

_AT_ONCE = 128  # images whose features are held in float32


class _Reached(Exception):
    """The first layers are done; holds what they gave."""


class LateNet(nn.Module):
    """A network from its first learning block on: what that block takes in, embeddings out. Weights are shared.

    Parameters
    ----------
    net : EmbeddingNet
        The first layers of its trunk are frozen, all after them learn.

    Raises
    ------
    ValueError
        If there are no such layers, or the model is no chain that can be cut there.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.start = _first_learning(getattr(net, "trunk", None))
        # In a list, so that its weights are not counted twice; a deep copy keeps them shared.
        self._late = [_without_first(net.trunk.model, self.start.split("."))]

    @property
    def trunk(self) -> Trunk:
        """The whole trunk, for what goes by its blocks."""
        trunk: Trunk = self.net.trunk
        return trunk

    @property
    def neck(self) -> Any:
        """The classifier on the embedding."""
        return self.net.neck

    def early(self, x: Tensor) -> Tensor:
        """Compute what the first learning block takes in, of grey images (B, 1, S, S)."""

        def stop(module: nn.Module, given: tuple[Any, ...]) -> None:
            # In the exception: several threads may pass here at once, each with hooks of its own.
            raise _Reached(given[0])

        handle = self.trunk.model.get_submodule(self.start).register_forward_pre_hook(stop)
        try:
            self.net.features(x)
        except _Reached as reached:
            return cast("Tensor", reached.args[0])
        finally:
            handle.remove()
        raise ValueError(f"{self.trunk.name} does not pass through {self.start}.")

    def late(self, early: Tensor) -> Tensor:
        """Compute the trunk's map of that."""
        places, token = self.trunk._features(self._late[0], early)
        if self.trunk.output == "map":
            return places
        assert token is not None
        return token[:, :, None, None]

    def forward(self, early: Tensor) -> Tensor:
        """Embed what `early` gave: float32 (B, dim)."""
        out: Tensor = self.net.head(self.late(early))
        return out

    def save_pretrained(self, folder: Path) -> Path:
        """Write the whole network."""
        written: Path = self.net.save_pretrained(folder)
        return written


class EarlyFeatures:
    """Features of all images, and of their mirror images, to be drawn from as an augmentation draws.

    Parameters
    ----------
    features : Tensor, float16 (1 or 2, N, C, h, w)
        Of the images, and of those mirrored left to right.
    flips : callable, optional
        The augmentation, of which the flips are drawn; None flips nothing.
    """

    def __init__(self, features: Tensor, flips: Any | None) -> None:
        self.features = features
        self.flips = flips

    def __call__(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        """Give the features at some positions, float32 (B, C, h, w), where the positions are."""
        at = positions.cpu()
        mirrored = torch.zeros(len(at), dtype=torch.long)
        if self.flips is not None:
            self.flips.generator.set_state(generator.get_state())
            mirrored = self.flips.make_params([torch.empty(len(at), 1, 1, 1)])["hflip"].long()
        return self.features[mirrored, at].to(positions.device).float()


def keep_early_features(
    net: Any, data: Dataset[Any], augment: Augment | None, asked: bool | None, *, accelerator: str
) -> tuple[LateNet, Dataset[Any], EarlyFeatures] | None:
    """Cut a network in front of its first learning block, and compute what comes in there for all images.

    Parameters
    ----------
    net : EmbeddingNet
    data : Dataset
    augment : callable, optional
        Of the run. Only flips can be kept.
    asked : bool, optional
        The option ``cache_features``.
    accelerator : str

    Returns
    -------
    LateNet, Dataset, EarlyFeatures, or None
        What trains, positions and labels in place of images, and what makes features of positions; None where nothing
        is kept.

    Raises
    ------
    ValueError
        If it is asked for and cannot be done, with the reason.
    """
    if asked is False:
        return None
    try:
        flips = _flips_of(augment)
        cut = LateNet(net)
        if not _sees_halving(cut):
            raise ValueError(f"the network looks at what {net.halving} takes in too, which is frozen")
        images = fetch(data, [0])[0]
        count = len(data)  # type: ignore[arg-type]
        shape = _check_cut(cut, images)
        sides = 2 if flips is not None else 1
        if (size := 2 * sides * count * int(np.prod(shape))) > FEATURE_BYTES:
            raise ValueError(
                f"the features of {count} images take {size / 2**30:.1f} GiB, more than {FEATURE_BYTES >> 30}"
            )
    except ValueError as error:
        if asked:
            raise ValueError(f"cache_features=True cannot be had: {error}. Leave it out.") from error
        _LOG.info("the first layers are computed in every step: %s", error)
        return None
    kept = torch.empty((sides, count, *shape), dtype=torch.float16)
    early = _Early(cut)
    for start in range(0, count, _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, count))
        for side in range(sides):
            source: Any = _Mirrored(data) if side else data
            found, _ = forward_rows(early, source, rows, accelerator=accelerator, progress=False)
            kept[side, start : start + len(rows)] = found
    if not bool(torch.isfinite(kept).all()):
        if asked:
            raise ValueError(
                "cache_features=True cannot be had: features exceed half precision. Leave it out."
            )
        _LOG.info("the first layers are computed in every step: their features exceed half precision")
        return None
    _LOG.info("kept what the layers before %s give, %.2f GiB", cut.start, kept.numel() * 2 / 2**30)
    positions = TensorDataset(torch.arange(count), torch.from_numpy(labels_of(data)))
    return cut, positions, EarlyFeatures(kept, flips)


def _sees_halving(cut: LateNet) -> bool:
    """Whether the second map that a network looks at (`halving_block`) is computed behind the kept features."""
    halving, layers = getattr(cut.net, "halving", None), cut.trunk.layers()

    def first(block: str) -> int:
        return next(i for i, name in enumerate(layers) if name == block or name.startswith(block + "."))

    return halving is None or first(cut.start) <= first(halving)


class _Early(nn.Module):
    """The first layers, as a module that can be embedded with."""

    def __init__(self, cut: LateNet) -> None:
        super().__init__()
        self.cut = cut
        self.preprocess = getattr(cut.net, "preprocess", None)

    @property
    def trunk(self) -> Trunk:
        return self.cut.trunk

    def forward(self, x: Tensor) -> Tensor:
        return self.cut.early(x)


class _Mirrored(Dataset[Any]):
    """The images mirrored left to right."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.pre = getattr(data, "pre", None)

    def __len__(self) -> int:
        return len(self.data)

    def __getitems__(self, positions: list[int]) -> tuple[Tensor, Tensor]:
        images, labels = fetch(self.data, positions)
        return images.flip(-1), labels


def _flips_of(augment: Any) -> Any | None:
    """The augmentation, if it mirrors at most; None for none."""
    if augment is None:
        return None
    from siamura.pixels.augmentation import Augmentation  # here, as it loads torchvision

    own = next((cell for cell in _held(augment) if isinstance(cell, Augmentation)), None)
    if own is None or any(value for name, value in own.settings.items() if name != "hflip"):
        raise ValueError("the augmentation changes more than the side, so that each step's images are new")
    return own


def _held(augment: Any) -> Iterator[Any]:
    """What a function made by `augmentation_of` holds."""
    yield augment
    for cell in getattr(augment, "__closure__", None) or ():
        yield cell.cell_contents


def _first_learning(trunk: Any) -> str:
    """Name the first block that learns, all layers before it being frozen and all from it on learning."""
    if not isinstance(trunk, Trunk):
        raise ValueError("the network has no Trunk")
    layers = trunk._layers()
    names = list(layers)
    learns = [any(weight.requires_grad for weight in layers[name]) for name in names]
    at = learns.index(True) if True in learns else 0
    if not at or not all(learns[at:]):
        raise ValueError("no first layers of the trunk are frozen in front of others that all learn")
    parts = names[at].split(".")
    for depth in range(1, len(parts) + 1):  # the largest block that begins there
        block = ".".join(parts[:depth])
        first = next(name for name in names if name == block or name.startswith(block + "."))
        if first == names[at]:
            return block
    return names[at]


def _without_first(module: nn.Module, path: list[str]) -> nn.Module:
    """Copy a model with every child before the path passed over; what is on and behind the path is shared."""
    copied = copy.copy(module)
    children = dict(module._modules)
    for name in list(children):
        if name == path[0]:
            break
        if children[name] is not None:
            children[name] = nn.Identity()
    child = children[path[0]]
    if len(path) > 1 and child is not None:
        children[path[0]] = _without_first(child, path[1:])
    copied._modules = children
    return copied


def _check_cut(cut: LateNet, images: Tensor) -> tuple[int, ...]:
    """See that both parts give what the whole does; give the shape of one image's features."""
    was = cut.net.training
    place = next(cut.net.parameters()).device
    try:
        cut.net.eval()
        with torch.inference_mode():
            whole = cut.net.features(images[:1].to(place))
            early = cut.early(images[:1].to(place))
            again = cut.late(early) if isinstance(early, Tensor) and early.ndim >= 3 else None
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        told = str(error).split("\n")[0]
        raise ValueError(f"{cut.trunk.name} cannot be cut in front of {cut.start} ({told:.120})") from error
    finally:
        cut.net.train(was)
    if again is None or again.shape != whole.shape or not torch.equal(again, whole):
        raise ValueError(f"{cut.trunk.name} is no chain that can be cut in front of {cut.start}")
    return tuple(early.shape[1:])
