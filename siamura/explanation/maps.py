"""The class activation maps: Grad-CAM, Smooth Grad-CAM, Grad-CAM++, LayerCAM and CAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .hooks import capture_layer, frozen_eval
from .targets import Target

__all__ = ["METHODS", "activation_map", "agreement", "smooth_map"]


def _gradcam(a: Tensor, g: Tensor) -> Tensor:
    return (g.mean((2, 3), keepdim=True) * a).sum(1).relu()


def _gradcam_pp(a: Tensor, g: Tensor) -> Tensor:
    # Eq. 19 for a score exp(S): its second and third derivatives are g^2 and g^3 times exp(S), which cancels.
    below = 2 * g**2 + a.sum((2, 3), keepdim=True) * g**3
    alpha = torch.where(below != 0, g**2 / torch.where(below != 0, below, 1.0), 0.0)
    return ((alpha * g.relu()).sum((2, 3), keepdim=True) * a).sum(1).relu()


def _layercam(a: Tensor, g: Tensor) -> Tensor:
    return (g.relu() * a).sum(1).relu()


def _cam(a: Tensor, g: Tensor) -> Tensor:
    # What follows averages the map, so each cell's gradient is w_k / (h w), or 0 where a ReLU closed it.
    top = g.abs().amax((2, 3), keepdim=True)
    if ((g.abs() < top * 0.999) & (g != 0)).any():
        raise ValueError(
            "method='cam' needs a layer that only global average pooling (after a ReLU at most) follows, and this "
            "layer's gradient changes from place to place; give the last feature map as layer=, or use gradcam."
        )
    return (g * a).sum(1).relu() * (a.shape[2] * a.shape[3])


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": _gradcam,
    "gradcam++": _gradcam_pp,
    "layercam": _layercam,
    "cam": _cam,
}
"""How activations (B, K, h, w) and the score's gradients become a map (B, h, w)."""


def activation_map(
    model: nn.Module, x: Tensor, target: Target, layer: str | nn.Module, method: str = "gradcam"
) -> tuple[Tensor, Tensor]:
    """Map which places of a layer raise a score.

    Parameters
    ----------
    model : Module
        Anything with a convolutional layer, or a transformer. Its modes, flags and hooks come back as they were.
    x : Tensor (B, C, H, W)
        Inputs, as the model takes them.
    target : callable, outputs (B, ...) to scores (B,)
    layer : str or Module
        Gives a feature map (B, K, h, w), one with the channels last, or tokens (B, n, K), of which those of the patches
        are mapped.
    method : {"gradcam", "gradcam++", "layercam", "cam"}

    Returns
    -------
    maps : Tensor, float (B, h, w)
        At least 0, not scaled.
    scores : Tensor (B,)

    References
    ----------
    Selvaraju et al., "Grad-CAM", ICCV 2017, eq. 1 and 2. Chattopadhay et al., "Grad-CAM++", WACV 2018, eq. 19. Jiang
    et al., "LayerCAM", TIP 2021, eq. 5 to 7. Zhou et al., "Learning deep features for discriminative localization",
    CVPR 2016, eq. 2 (with Grad-CAM's ReLU).

    Examples
    --------
    >>> from siamura.explanation import Logit
    >>> net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(4, 1, bias=False))
    >>> with torch.no_grad():
    ...     _ = [net[0].weight.fill_(2.0), net[2].weight.fill_(1.0)]
    >>> maps, scores = activation_map(net, torch.tensor([[[[1.0, 0.0], [0.0, -1.0]]]]), Logit(0), layer="0")
    >>> maps.tolist(), scores.tolist()
    ([[[2.0, 0.0], [0.0, 0.0]]], [0.0])
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}.")
    with frozen_eval(model), capture_layer(model, layer) as seen:
        scores = target(model(x))
        if scores.shape != (len(x),):
            raise ValueError(
                f"target gives {tuple(scores.shape)} for {len(x)} inputs; one score each is needed."
            )
        kept = seen.activation
        if not scores.requires_grad:
            raise ValueError(f"target does not depend on layer={seen.name!r}; nothing can be mapped there.")
        (gradient,) = torch.autograd.grad(scores.sum(), kept)
        places, slope = seen.as_map(kept.detach().float()), seen.as_map(gradient.float())
        assert places is not None
        assert slope is not None
        if kept.ndim == 3 and gradient.any() and not slope.any():
            raise ValueError(
                f"target depends on no patch of layer={seen.name!r}, only on its class token; choose an earlier layer."
            )
        return METHODS[method](places, slope), scores.detach()


def smooth_map(
    model: nn.Module,
    x: Tensor,
    target: Target,
    layer: str | nn.Module,
    method: str = "gradcam",
    *,
    samples: int = 16,
    noise: float = 0.1,
    seed: int = 0,
    batch_size: int = 16,
) -> Tensor:
    """Average the maps of noisy copies of one input: Smooth Grad-CAM.

    Parameters
    ----------
    model, target, layer, method
        See `activation_map`.
    x : Tensor (1, C, H, W)
        One input.
    samples : int
        Noisy copies.
    noise : float
        Standard deviation of the noise, as a share of the input's range. 0 gives the map itself.
    seed : int
        Of the noise. The global random state is left alone, and `batch_size` changes nothing.
    batch_size : int
        Copies a pass.

    Returns
    -------
    Tensor, float (h, w)

    References
    ----------
    Smilkov et al., "SmoothGrad", arXiv 1706.03825, eq. 2, with Grad-CAM as the map.

    Examples
    --------
    >>> from siamura import EmbeddingNet
    >>> from siamura.explanation import Logit
    >>> net, x = EmbeddingNet("squeezenet1_1", dim=8), 255 * torch.eye(64)[None, None]
    >>> smooth_map(net, x, Logit(0), "trunk", samples=4).shape
    torch.Size([3, 3])
    >>> plain = activation_map(net, x, Logit(0), "trunk")[0][0]
    >>> torch.allclose(smooth_map(net, x, Logit(0), "trunk", noise=0), plain)
    True
    """
    if len(x) != 1:
        raise ValueError(f"x has {len(x)} inputs; smooth one at a time.")
    if samples < 1 or not 0 <= noise < float("inf") or batch_size < 1:
        raise ValueError(
            f"samples={samples}, noise={noise}, batch_size={batch_size}: at least 1, 0 and 1 are needed."
        )
    x = x.detach().float()
    if noise == 0:
        return activation_map(model, x, target, layer, method)[0][0]
    generator = torch.Generator().manual_seed(seed)
    deviation = noise * float(x.max() - x.min())
    total: Tensor | None = None
    for low in range(0, samples, batch_size):
        count = min(batch_size, samples - low)
        # One draw a copy, on the CPU: the same noise whatever the batches and the device.
        drawn = torch.cat([torch.randn(x.shape, generator=generator) for _ in range(count)]).to(x.device)
        maps = activation_map(model, x + deviation * drawn, target, layer, method)[0].sum(0)
        total = maps if total is None else total + maps
    assert total is not None
    return total / samples


def agreement(maps: Sequence[Tensor]) -> Tensor:
    """Multiply the maps of several layers: what all of them point at.

    A shallow layer's map is fine but warm at every edge; a deep layer's is coarse but warm where the score comes
    from. Their product is warm where both are.

    Parameters
    ----------
    maps : sequence of Tensor, float (h, w) each
        At least 0, over the same image.

    Returns
    -------
    Tensor, float (H, W)
        From 0 to 1, of the finest map's size: each map is divided by its maximum and enlarged bilinearly. A single
        map comes back as it is.

    Examples
    --------
    >>> agreement([torch.tensor([[4.0, 2.0]]), torch.tensor([[0.0, 3.0]])]).tolist()
    [[0.0, 0.5]]
    """
    if not maps:
        raise ValueError("maps is empty; at least one map is needed.")
    if len(maps) == 1:
        return maps[0]
    size = tuple(max(maps, key=Tensor.numel).shape)
    product = torch.ones(size, device=maps[0].device)
    for one in maps:
        scaled = one / one.max().clamp_min(torch.finfo(one.dtype).tiny)
        product = (
            product * F.interpolate(scaled[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        )
    return product
