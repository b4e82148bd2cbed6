"""Several processes that train as one: rows gathered with gradients, and batch norm over all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn
from torch.distributed.nn import functional as dist_nn

from .machine import processes

__all__ = ["SyncedBatchNorm", "by_first", "gather_parts", "gather_rows", "join_group", "rank_and_world"]

T = TypeVar("T")


def rank_and_world() -> tuple[int, int]:
    """Give this process's number and the number of processes."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def join_group() -> None:
    """Let processes that torchrun or Slurm started know of each other, where Lightning has not done so yet."""
    local, nodes = processes()
    if local * nodes == 1 or not dist.is_available() or dist.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        slurm = SLURMEnvironment()
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)
        dist.init_process_group(backend, rank=slurm.global_rank(), world_size=slurm.world_size())
    else:
        dist.init_process_group(backend)


def by_first(make: Callable[[], T]) -> T:
    """Let the first process do something while the others wait; each gets its result, or its error.

    Parameters
    ----------
    make : callable
        Its result and its errors must be picklable.
    """
    join_group()
    rank, world = rank_and_world()
    if world == 1:
        return make()
    box: list[Any] = [None, None]
    if rank == 0:
        try:
            box[0] = make()
        except Exception as error:
            box[1] = error
    dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise box[1]
    result: T = box[0]
    return result


class _Gather(torch.autograd.Function):
    """All rows, in the order of the batch before it was split; the gradient goes to the own rows.

    Every process computes the whole loss, so the own rows' gradient is complete already; DDP's mean over the
    processes divides it by their number, which the factor makes good.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rank, ctx.world = rank_and_world()
        parts = [torch.empty_like(rows) for _ in range(ctx.world)]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0][ctx.rank :: ctx.world] * ctx.world  # type: ignore[no-any-return]


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all processes, as if one process had computed the batch; itself where there is one.

    Parameters
    ----------
    rows : Tensor (B / world, ...)
        This process's share, every `world`-th row of the batch.

    Returns
    -------
    Tensor (B, ...)
        With gradients into this process's rows, scaled for DDP's averaging.
    """
    if rank_and_world()[1] == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)
    return gathered


def gather_parts(part: Any) -> list[Any]:
    """One object of each process, in order of rank."""
    world = rank_and_world()[1]
    if world == 1:
        return [part]
    parts: list[Any] = [None] * world
    dist.all_gather_object(parts, part)
    return parts


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
