"""Gradient checkpointing: activations of a trunk's blocks, computed again in the backward pass instead of kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from siamura.networks import Trunk

__all__ = ["recomputed"]


@contextlib.contextmanager
def recomputed(net: nn.Module) -> Iterator[None]:
    """Let every block of a network's trunk that learns recompute its activations, as long as the context lasts.

    The gradients are the same. Batch norms count a batch once, though it passes twice.

    Parameters
    ----------
    net : Module
        With a `Trunk` as ``trunk``.

    Raises
    ------
    ValueError
        If it has no trunk.

    References
    ----------
    T. Chen, B. Xu, C. Zhang, C. Guestrin, Training deep nets with sublinear memory cost, arXiv 1604.06174 (2016).

    Examples
    --------
    >>> from siamura.networks import EmbeddingNet
    >>> net = EmbeddingNet("resnet18", dim=8)
    >>> with recomputed(net):
    ...     net(torch.zeros(2, 1, 32, 32)).sum().backward()
    """
    trunk = getattr(net, "trunk", None)
    if not isinstance(trunk, Trunk):
        raise ValueError(f"recompute needs a network with a trunk; a {type(net).__name__} has none.")
    blocks = _blocks(trunk)
    for block in blocks:
        block.forward = partial(_forward, block, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _blocks(trunk: Trunk) -> list[nn.Module]:
    """Give the modules that hold the weights of one block of `Trunk.blocks` each."""
    names: dict[int, list[list[str]]] = {}
    for name, number in trunk.blocks().items():
        names.setdefault(number, []).append(name.split(".")[:-1])
    found = []
    for paths in names.values():
        same = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
        module = trunk.get_submodule(".".join(same))
        if module is not trunk.model and any(weight.requires_grad for weight in module.parameters()):
            found.append(module)
    return [one for one in found if not any(one is not other and one in other.modules() for other in found)]


def _forward(block: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    contexts = partial(_contexts, block)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _contexts(block: nn.Module) -> tuple[Any, Any]:
    """What the first pass and the second run in."""
    return contextlib.nullcontext(), _same_statistics(block)


@contextlib.contextmanager
def _same_statistics(block: nn.Module) -> Iterator[None]:
    """Put back what batch norms count: the second pass sees the same batch again."""
    names = ("running_mean", "running_var", "num_batches_tracked")
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    held = [(norm, name, value.clone()) for norm in norms for name in names
            if (value := getattr(norm, name)) is not None]  # fmt: skip
    try:
        yield
    finally:
        for norm, name, value in held:
            getattr(norm, name).data.copy_(value)  # .data: the backward pass has kept the tensor itself
