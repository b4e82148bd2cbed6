"""The losses beside pytorch-metric-learning's, forward and backward: ``python benchmarks/bench_losses.py [--gpu]``."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from siamura.losses import BatchHardTripletLoss, TripletFocalLoss, TripletLoss

from benchmarks.harness import Row, markdown, paired, seconds

DIM = 128
SIGMA = 1.0
PROMISED = {64: 3.0, 128: 10.0, 256: 40.0}


class Exponential(LpDistance):  # type: ignore[misc]
    """exp(D / sigma): PML's triplet loss over it is the triplet focal loss."""

    def compute_mat(self, query_emb: torch.Tensor, ref_emb: torch.Tensor) -> torch.Tensor:
        """Return the exponentials of the distances."""
        return torch.exp(super().compute_mat(query_emb, ref_emb) / SIGMA)


def step(
    loss: Callable[..., torch.Tensor],
    size: int,
    labels: int,
    device: str,
    miner: BatchHardMiner | None = None,
) -> Callable[[], None]:
    """Return one forward and backward pass on random embeddings."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(size, DIM, generator=rng).to(device).requires_grad_()
    y = (torch.arange(size) % labels).to(device)

    def call() -> None:
        x.grad = None
        value = loss(x, y) if miner is None else loss(x, y, miner(x, y))
        torch.autograd.backward(value)
        if device == "cuda":
            torch.cuda.synchronize()

    return call


def high_water() -> int:
    """Return this process's peak memory in KiB (``ru_maxrss`` would be inherited from the parent)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def peak(size: int) -> tuple[float, float]:
    """Return the seconds of one TripletLoss and the memory it adds, in MiB, in a process of its own."""
    code = (
        "import sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})\n"
        "from benchmarks.bench_losses import TripletLoss, high_water, step\n"
        "import torch\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        "step(TripletLoss(0.2), 64, 2, 'cpu')()\n"
        "before = high_water()\n"
        f"call = step(TripletLoss(0.2), {size}, 2, 'cpu')\n"
        "call()\n"
        "start = time.perf_counter(); call(); end = time.perf_counter()\n"
        "print(end - start, (high_water() - before) / 1024)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    time, memory = map(float, out.split())
    return time, memory


def growth(times: dict[int, float]) -> float:
    """Return the exponent e of time ~ size**e, by least squares on logarithms."""
    xs, ys = [math.log(b) for b in times], [math.log(t) for t in times.values()]
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / sum((x - mx) ** 2 for x in xs)


def rows(gpu: bool = False) -> Iterator[Row]:
    """Yield one row a size and number of labels."""
    device = "cuda" if gpu else "cpu"
    for labels in (2, 16):
        for size in (64, 128, 256):
            runs = 61 if size < 128 else 9
            ours, peer = paired(
                step(TripletLoss(0.2), size, labels, device),
                step(pml.TripletMarginLoss(0.2), size, labels, device),
                runs=runs,
                settle=True,
            )
            target = PROMISED[size] if labels == 2 else None
            yield Row(f"TripletLoss, B={size}, {labels} labels", ours, "PML TripletMarginLoss", peer, target)
        for size in (32, 64, 128, 256, 512, 1024, 2048):
            runs = 31 if size <= 256 else 5
            ours, peer = paired(
                step(BatchHardTripletLoss(0.2), size, labels, device),
                step(
                    pml.TripletMarginLoss(0.2, reducer=MeanReducer()), size, labels, device, BatchHardMiner()
                ),
                runs=runs,
                warmup=3,
                settle=True,
            )
            yield Row(
                f"BatchHardTripletLoss, B={size}, {labels} labels", ours, "PML BatchHardMiner", peer, 1.0
            )
            bent = Exponential()
            ours, peer = paired(
                step(TripletFocalLoss(0.2, SIGMA), size, labels, device),
                step(
                    pml.TripletMarginLoss(0.2, distance=bent, reducer=MeanReducer()),
                    size,
                    labels,
                    device,
                    BatchHardMiner(distance=bent),
                ),
                runs=runs,
                warmup=3,
                settle=True,
            )
            yield Row(f"TripletFocalLoss, B={size}, {labels} labels", ours, "PML, exp distance", peer, 1.0)
    times: dict[int, float] = {}
    for size in (512, 1024, 2048, 4096, 8192):
        note = ""
        if gpu:
            torch.cuda.reset_peak_memory_stats()
            times[size] = seconds(step(TripletLoss(0.2), size, 2, device))
            note = f"peak {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB"
        else:
            times[size], memory = peak(size)
            note = f"adds {memory:.0f} MiB at its peak"
        if len(times) > 2:
            note += f"; time grows as B^{growth(times):.2f}"
        yield Row(f"TripletLoss, B={size}, 2 labels", times[size], "alone", times[size], None, note)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="measure on a CUDA device")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(markdown(rows(parser.parse_args().gpu)), flush=True)
