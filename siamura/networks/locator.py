"""Where a finding is: logits for the places of a trunk's maps, and a pooling that looks there."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .trunks import Trunk

__all__ = ["LocatedPool", "halving_block", "joined", "place_logits", "watched"]


def place_logits(channels: int) -> nn.Conv2d:
    """Make a 1 x 1 convolution that gives a logit for each place; it begins with 0 everywhere."""
    layer = nn.Conv2d(channels, 1, 1)
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


class Kept:
    """A forward pre-hook that keeps what its module takes in, for the same thread to take once."""

    def __init__(self) -> None:
        self.by_thread: dict[int, Tensor] = {}

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()  # a copy keeps nothing

    def __call__(self, _: nn.Module, given: tuple[Any, ...]) -> None:
        self.by_thread[threading.get_ident()] = given[0]

    def take(self) -> Tensor:
        """Give it, and keep it no longer.

        Raises
        ------
        RuntimeError
            If the module did not run since.
        """
        try:
            return self.by_thread.pop(threading.get_ident())
        except KeyError:
            raise RuntimeError(
                'pool="located" looks at two maps of the trunk: call the network, or its features right before its '
                "head."
            ) from None


class LocatedPool(nn.Module):
    """The mean over a feature map, and beside it the mean weighted by where a finding may be.

    The weights are a softmax over the places of a 1 x 1 convolution's logits, which ``fit(..., lesions=boxes)``
    teaches by boxes; they begin equal. Where a map of twice the side is given too, its weighted mean is the third part:
    small findings are seen there.

    Parameters
    ----------
    channels : int
        C, of the map.
    finer : int
        C', of the map of twice the side; 0 where there is none. `kept` is then the hook of what takes that map in.

    References
    ----------
    M. Ilse, J. M. Tomczak, M. Welling, Attention-based deep multiple instance learning, ICML 2018, eq. 7 and 8 (without
    the hidden layer).

    Examples
    --------
    >>> LocatedPool(2)(torch.ones(3, 2, 7, 7)).shape
    torch.Size([3, 4])
    """

    def __init__(self, channels: int, finer: int = 0) -> None:
        super().__init__()
        self.layer = place_logits(channels)
        self.finer = place_logits(finer) if finer else None
        self.kept = Kept()
        self.width = 2 * channels + finer

    def forward(self, x: Tensor) -> Tensor:
        """Pool a feature map (B, C, h, w) to (B, 2 C), or with a finer map to (B, 2 C + C')."""
        parts = [x.mean((-2, -1)), _weighted(x, self.layer(x))]
        if self.finer is not None:
            finer = self.kept.take().to(x.dtype)
            parts.append(_weighted(finer, self.finer(finer)))
        return torch.cat(parts, dim=1)


def _weighted(x: Tensor, logits: Tensor) -> Tensor:
    """Mean over the places, weighted by a softmax: (B, C)."""
    return (x.flatten(2) * logits.flatten(2).softmax(dim=2)).sum(dim=2)


def halving_block(trunk: Trunk) -> tuple[str, int] | None:
    """Name the block that halves a map to the size of the last one, and the channels of what it takes in.

    What it takes in is the second map on which places are looked for, as it shows smaller things.

    Returns
    -------
    str, int or None
        None where no block does so: of tokens, of maps with the channels last, or where the trunk ends with a pooling.

    Examples
    --------
    >>> halving_block(Trunk("resnet18"))
    ('layer4', 256)
    """
    if trunk.channels_last or trunk.prefix_tokens is not None:
        return None
    held: dict[int, list[str]] = defaultdict(list)
    for name, block in trunk.blocks().items():
        held[block].append(name.removeprefix("model."))
    found: list[tuple[str, int, int, int]] = []

    def note(name: str) -> Any:
        def hook(_: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            if given and all(isinstance(x, Tensor) and x.ndim == 4 for x in (given[0], out)):
                found.append((name, int(given[0].shape[1]), int(given[0].shape[-1]), int(out.shape[-1])))

        return hook

    handles = []
    for names in held.values():
        levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
        shared = takewhile(lambda level: len(set(level)) == 1, levels)
        if name := ".".join(level[0] for level in shared):
            handles.append(trunk.model.get_submodule(name).register_forward_hook(note(name)))
    training = [module for module in trunk.modules() if module.training]
    try:
        with torch.no_grad():
            trunk.eval()
            side = trunk.image_size or trunk.input_size
            place = next(trunk.parameters()).device
            last = trunk(torch.zeros(1, 1, side, side, device=place)).shape[-1]
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
    name, channels, before, after = next((one for one in found if one[3] == last), ("", 0, 0, 0))
    return (name, channels) if after == last and before == 2 * last else None


@contextmanager
def watched(net: Any) -> Iterator[list[Tensor]]:
    """Collect where a network looks, while it computes.

    Parameters
    ----------
    net : EmbeddingNet
        With ``pool="located"``.

    Yields
    ------
    list of Tensor
        Logits of the places of the last map, float32 (B, h, w), and of the finer map where there is one; empty before
        the network is called.
    """
    found: dict[int, Tensor] = {}
    logits: list[Tensor] = []
    thread = threading.get_ident()
    layers = [layer for layer in (net.head.pool.layer, net.head.pool.finer) if layer is not None]

    def keep(order: int, _: nn.Module, __: Any, out: Tensor) -> None:
        if threading.get_ident() == thread:
            found[order] = out[:, 0]
            logits[:] = [found[key] for key in sorted(found)]

    handles = [layer.register_forward_hook(partial(keep, order)) for order, layer in enumerate(layers)]
    try:
        yield logits
    finally:
        for handle in handles:
            handle.remove()


def joined(logits: list[Tensor]) -> Tensor:
    """Mean of the logits of all maps at the places of the finest, float32 (B, h, w)."""
    height = max(one.shape[-2] for one in logits)
    width = max(one.shape[-1] for one in logits)
    large = [F.interpolate(one[:, None], (height, width), mode="bilinear")[:, 0] for one in logits]
    return torch.stack(large).mean(dim=0)
