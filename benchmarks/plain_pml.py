"""What a plain script does, by pytorch-metric-learning or a cross-entropy: the peer of `benchmarks/real_bones.py`.

A torch loop as the library's own examples have it: a sampler of 16 images of each label (shuffled epochs for the
cross-entropy), AdamW, one-cycle, the trunk in training mode, flips. Nothing of siamura's training is used, but its
reading of files and its heads, so that both are given the same pixels and are asked in the same way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import timm
import torch
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.samplers import MPerClassSampler
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

DIM = 128


class PlainNet(nn.Module):
    """A timm trunk of three channels, and one dense layer: an embedding, or the logits of two classes."""

    def __init__(self, trunk: str, weights: str, *, classes: int = 0) -> None:
        super().__init__()
        self.trunk = timm.create_model(trunk, num_classes=0)
        held = load_file(weights)
        self.trunk.load_state_dict({k: v for k, v in held.items() if not k.startswith("classifier.")})
        self.classes = classes
        self.embedding = nn.Linear(self.trunk.num_features, classes or DIM)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed or classify images, uint8 (B, 1, S, S)."""
        x = (images.float() / 127.5 - 1.0).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        out: torch.Tensor = self.embedding(self.trunk(x))
        return out if self.classes else functional.normalize(out)


def train_plain(
    images: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    *,
    trunk: str,
    weights: str,
    mining: str,
    steps: int,
    seed: int,
    device: str,
    half: bool,
) -> PlainNet:
    """Train by ``mining="hard"`` or ``"all"`` triplets, with a margin of 0.2, or by ``"none"``, a cross-entropy.

    Parameters
    ----------
    images : uint8 (N, S, S)
    labels : int (N,)
    half : bool
        bf16 autocast.
    """
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what MPerClassSampler draws from
    net = PlainNet(trunk, weights, classes=2 if mining == "none" else 0)
    net = net.to(device, memory_format=torch.channels_last)  # 1.4 times as fast on a CPU
    loss, miner = TripletMarginLoss(margin=0.2), BatchHardMiner() if mining == "hard" else None
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-4, total_steps=steps, cycle_momentum=False)
    if mining == "none":
        epochs = -(-32 * steps // len(labels))
        order = np.concatenate([np.random.permutation(len(labels)) for _ in range(epochs)])  # noqa: NPY002
    else:
        order = np.array(list(MPerClassSampler(labels, 16, batch_size=32, length_before_new_iter=steps * 32)))
    for step in range(steps):
        rows = order[32 * step : 32 * (step + 1)]
        x, y = torch.from_numpy(images[rows])[:, None].to(device), torch.from_numpy(labels[rows]).to(device)
        flip = torch.rand(len(x), device=device) < 0.5
        x = torch.where(flip[:, None, None, None], x.flip(3), x)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            out = net(x).float()
        if mining == "none":
            value = functional.cross_entropy(out, y)
        else:
            value = loss(out, y, miner(out, y) if miner is not None else None)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.inference_mode()
def embed_plain(net: PlainNet, images: np.ndarray[Any, Any], device: str) -> np.ndarray[Any, Any]:
    """Embed uint8 (N, S, S) as float32 (N, 128), or give the logits (N, 2)."""
    parts = [net(torch.from_numpy(images[i : i + 64])[:, None].to(device)) for i in range(0, len(images), 64)]
    return torch.cat(parts).float().cpu().numpy()
