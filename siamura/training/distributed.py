"""Several processes that train as one: rows gathered with gradients."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .machine import processes

__all__ = ["gather_parts", "gather_rows", "join_group", "on_rank_zero", "rank_and_world"]

T = TypeVar("T")

#: Set while the first process works and the others wait for it: what it then embeds is not shared out.
_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


def rank_and_world() -> tuple[int, int]:
    """Give this process's number and the number of processes; within `on_rank_zero` it is the only one."""
    if _ALONE.get():
        return 0, 1
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
        # Here, as Lightning takes seconds to load, and embedding does without.
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        slurm = SLURMEnvironment()
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)
        dist.init_process_group(backend, rank=slurm.global_rank(), world_size=slurm.world_size())
    else:
        dist.init_process_group(backend)


def on_rank_zero(make: Callable[[], T]) -> T:
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
        alone = _ALONE.set(True)
        try:
            box[0] = make()
        except Exception as error:
            box[1] = error
        finally:
            _ALONE.reset(alone)
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
