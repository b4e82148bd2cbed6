"""Gradients of the first order alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Let a second derivative through `backward` fail: what it returns was computed on the way forward.

    torch's own decorator sees no second derivative where the incoming gradient is a constant, as it is under a
    loss, and the second derivative would be a silent 0.
    """
    refused: Callable[..., Any] = once_differentiable(backward)

    def run(ctx: Any, *grads: torch.Tensor) -> Any:
        if torch.is_grad_enabled():  # create_graph=True
            grads = tuple(grad.detach().requires_grad_() for grad in grads)
        return refused(ctx, *grads)

    return run
