"""One of two processes: the gradient that data-parallel training finds, beside that of the joined batch."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from siamura.losses import CrossBatchMemory, DistributedLossWrapper
from test_memory import LOSSES
from triplet_oracles import batch


def main(rank: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    batches = [batch(seed, 16, 3, dim=6, dtype=torch.float32)[:2] for seed in range(2)]
    found = {}
    for name, make in LOSSES.items():
        for kind in ("plain", "efficient", "memory"):
            torch.manual_seed(0)
            net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(6, 4))
            alone = torch.nn.Linear(6, 4)
            alone.load_state_dict(net.module.state_dict())
            one = make()
            if kind == "memory":
                loss = DistributedLossWrapper(CrossBatchMemory(make(), 4, memory_size=32))
                one = CrossBatchMemory(one, 4, memory_size=32)
            else:
                loss = DistributedLossWrapper(make(), efficient=kind == "efficient")
            # "efficient" has each process care for its own anchors: with a mean over the anchors, and as many
            # of them everywhere, the mean over the processes is that over the batch.
            for x, y in batches[: 2 if kind == "memory" else 1]:
                x = x.detach()
                net.zero_grad()
                alone.zero_grad()
                # A gathered batch has the other process's part second: the memory sees the parts in that order.
                order = torch.arange(16) if rank == 0 else torch.arange(16).roll(8)
                loss(net(x[order][:8]), y[order][:8]).backward()
                one(alone(x), y).backward()
            grads = [torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (net, alone)]
            found[f"{name}-{kind}"] = tuple(grads)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
