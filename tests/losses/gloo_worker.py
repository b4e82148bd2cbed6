"""One of two processes: the gradient that data-parallel training finds, beside that of the joined batch."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from pytorch_metric_learning.losses import TripletMarginLoss
from siamura.losses import CrossBatchMemory, DistributedLossWrapper
from test_memory import LOSSES
from triplet_oracles import batch


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def main(rank: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    torch.manual_seed(0)
    alone = torch.nn.Linear(6, 4)
    net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(6, 4))
    net.module.load_state_dict(alone.state_dict())
    batches = [
        tuple(t.detach() for t in batch(seed, 16, 3, dim=6, dtype=torch.float32)[:2]) for seed in (0, 1)
    ]
    mine = slice(8 * rank, 8 * rank + 8)

    def shared(loss: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        net.zero_grad()
        loss(net(x[mine]), y[mine]).backward()
        return flat(net)

    found = {}
    for name, make in LOSSES.items():
        for kind in ("plain", "memory"):
            one, both = make(), make()
            if kind == "memory":
                one, both = (CrossBatchMemory(loss, 4, memory_size=32) for loss in (one, both))
            wrapped = DistributedLossWrapper(both)
            for x, y in batches[: 2 if kind == "memory" else 1]:
                got = shared(wrapped, x, y)
                alone.zero_grad()
                one(alone(x), y).backward()
            found[f"{name}-{kind}"] = (got, flat(alone))
    # PML's "efficient" form lets no gradient pass through the references: its own loss is the measure there.
    efficient = [
        DistributedLossWrapper(loss, efficient=True) for loss in (LOSSES["all"](), TripletMarginLoss(0.2))
    ]
    found["all-efficient"] = tuple(shared(loss, *batches[0]) for loss in efficient)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
