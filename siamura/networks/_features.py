"""How a trunk's model is asked for its feature map and its class token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["Built", "Features"]

Features = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor | None]]
"""Model and images to the map (B, C, h, w), and the class token (B, C) where there is one."""


@dataclass
class Built:
    """A model without its top, and what must be known to use it.

    Parameters
    ----------
    model : Module
    name : str
        By which the same model is made again.
    features : Features
    input_size : int
        Side that the published weights were trained on.
    mean, std : float
        Of the input, in 0..1.
    min_size : int
        Smallest side.
    image_size : int, optional
        Side that the positions were made for; None where there are none.
    fixed : bool
        Whether it takes images of that side alone.
    multiple : int
        Of what a side must be a multiple.
    """

    model: nn.Module
    name: str
    features: Features
    input_size: int
    mean: float = 0.449  # the mean over ImageNet's channels of their means and deviations
    std: float = 0.226
    min_size: int = 32
    image_size: int | None = None
    fixed: bool = False
    multiple: int = 1
