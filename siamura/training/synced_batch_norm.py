"""Batch norm over all processes that train as one."""

from __future__ import annotations

import torch
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn
from torch.distributed.nn import functional as dist_nn

from .distributed import rank_and_world

__all__ = ["SyncedBatchNorm"]


class _Synced(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose statistics are those of all processes' images, on any backend that reduces."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or rank_and_world()[1] == 1:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        wide = x.float()
        own = wide.new_tensor([x.numel() / x.shape[1]])
        sums = dist_nn.all_reduce(torch.cat([wide.sum(axes), own]))  # type: ignore[no-untyped-call]
        total, count = sums[:-1], sums[-1].detach()
        mean = total / count
        centred = wide - mean.view(shape)
        var = dist_nn.all_reduce(centred.square().sum(axes)) / count  # type: ignore[no-untyped-call]
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                rate = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean.detach(), rate)
                self.running_var.lerp_((var * count / (count - 1)).detach(), rate)
        out = centred * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)  # type: ignore[no-any-return]

    def _check_input_dim(self, input: Tensor) -> None:
        """Any shape (B, C, ...) will do."""


class SyncedBatchNorm(LayerSync):
    """Lightning plugin: batch norm over all processes on a CPU, where torch's SyncBatchNorm refuses."""

    def __init__(self) -> None:
        self._classes: dict[nn.Module, type] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Let every batch norm of the model see all processes."""
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, _Synced):
                self._classes[module] = type(module)
                module.__class__ = _Synced
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Make them ordinary again."""
        for module, kind in self._classes.items():
            module.__class__ = kind
        self._classes.clear()
        return model
