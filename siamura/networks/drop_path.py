"""Stochastic depth: residual blocks of a trunk that are passed over at random while it trains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import StochasticDepth, stochastic_depth

if TYPE_CHECKING:
    from .trunks import Trunk

__all__ = ["Residual", "drop_paths", "residuals"]

# Where timm's and torchvision's blocks hold what their branch goes through before the shortcut is added.
_PLACES = ("drop_path", "drop_path1", "drop_path2", "stochastic_depth")


@dataclass(frozen=True)
class Residual:
    """A block with a shortcut around it.

    Parameters
    ----------
    block : Module
    places : tuple of str
        Its attributes that the branches go through; none in torchvision's ResNets, where the last norm ends the branch.
    """

    block: nn.Module
    places: tuple[str, ...]

    @property
    def learns(self) -> bool:
        """Whether any of its weights learns."""
        return any(weight.requires_grad for weight in self.block.parameters())

    @property
    def rate(self) -> float:
        """The probability with which it is passed over now, as its places say."""
        held = [getattr(self.block, name) for name in self.places]
        return max(
            (float(getattr(one, "p", getattr(one, "drop_prob", 0.0)) or 0.0) for one in held), default=0.0
        )


def residuals(trunk: Trunk) -> list[Residual]:
    """Find the residual blocks of a trunk, from the input on.

    Examples
    --------
    >>> from siamura.networks import Trunk
    >>> [len(residuals(Trunk(name))) for name in ("resnet18", "efficientnet_b0", "densenet121")]
    [8, 9, 0]
    """
    found = []
    for block in trunk.model.modules():
        if not (getattr(block, "has_skip", True) and getattr(block, "use_res_connect", True)):
            continue  # this one's branch is all there is
        places = tuple(name for name in _PLACES if hasattr(block, name) and _passes(getattr(block, name)))
        if places or isinstance(block, BasicBlock | Bottleneck):
            found.append(Residual(block, places))
    return found


def _passes(held: Any) -> bool:
    return (
        held is None or isinstance(held, nn.Identity | StochasticDepth) or type(held).__name__ == "DropPath"
    )


@contextlib.contextmanager
def drop_paths(trunk: Trunk, rate: float) -> Iterator[None]:
    """Let the residual blocks that learn be passed over at random in training mode, as long as the context lasts.

    The probability rises linearly from the first block to `rate` at the last one, and is drawn for each image; what a
    branch gives is divided by the probability that it is kept. In evaluation mode nothing changes, and no weight's name
    does.

    Parameters
    ----------
    trunk : Trunk
    rate : float
        From 0, which also turns off the rates that the model came with, to below 1.

    Raises
    ------
    ValueError
        If `rate` is not 0 and no residual block learns.

    References
    ----------
    G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Weinberger, "Deep networks with stochastic depth", ECCV 2016, eq. 4.

    Examples
    --------
    >>> import torch
    >>> from siamura.networks import Trunk
    >>> trunk, image = Trunk("resnet18"), torch.rand(1, 1, 64, 64)
    >>> with drop_paths(trunk.train(), 0.9):
    ...     len({trunk(image).sum().item() for _ in range(8)}) > 1
    True
    """
    found = residuals(trunk)
    chosen = [(one, rate * (at + 1) / len(found)) for at, one in enumerate(found) if one.learns]
    if rate and not chosen:
        raise ValueError(
            f"drop_path={rate}: {trunk.name} has no residual block that learns"
            f"{'; unfreeze some' if found else ''}. Give drop_path=0, or another trunk."
        )
    with contextlib.ExitStack() as undo:
        for one, own in chosen:
            for name in one.places:
                undo.callback(setattr, one.block, name, getattr(one.block, name))
                setattr(one.block, name, StochasticDepth(own, "row"))
            if not one.places:
                norm: Any = one.block.bn3 if isinstance(one.block, Bottleneck) else one.block.bn2
                undo.callback(norm.register_forward_hook(partial(_dropped, one.block, own)).remove)
        yield


def _dropped(block: nn.Module, rate: float, norm: nn.Module, given: Any, out: Tensor) -> Tensor:
    # The block's mode, not the norm's, which may keep its statistics.
    kept: Tensor = stochastic_depth(out, rate, "row", block.training)
    return kept
