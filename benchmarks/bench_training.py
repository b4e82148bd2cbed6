"""Training and embedding beside the loops a person would write. `--gpu` adds what needs a GPU."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from siamura.losses import BatchHardTripletLoss
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.harness import Row, markdown, paired
from siamura.networks import Classifier, EmbeddingNet
from siamura.training import embed, fit, fit_classifier
from siamura.training.machine import autocast, resolve_channels_last, resolve_device, resolve_precision

STEPS = 2


def images(count: int, side: int) -> TensorDataset:
    """Noise, which costs a network as much as a radiograph."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, side, side), generator=generator, dtype=torch.uint8)
    return TensorDataset(pixels, torch.arange(count) % 2)


class Bare(nn.Module):
    """torchvision's trunk on three channels, pooled and projected: what a person writes."""

    def __init__(self, name: str, dim: int = 128) -> None:
        super().__init__()
        from torchvision import models

        self.model = models.get_model(name, weights=None, num_classes=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed grey images."""
        x = (x.float() / 255.0 - 0.449) / 0.226
        return nn.functional.normalize(self.model(x.expand(-1, 3, -1, -1)).float())


def plain_loop(net: nn.Module, data: TensorDataset, batch: int, steps: int, device: torch.device) -> None:
    """Forward, backward, AdamW, in float32."""
    loop(net, data, batch, steps, device, "32")


def loop(
    net: nn.Module, data: TensorDataset, batch: int, steps: int, device: torch.device, precision: str
) -> None:
    """The same in any precision, with the memory layout that it likes."""
    net.to(device).train()
    last = resolve_channels_last(None, precision, device)
    if last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=precision != "32")
    loss = BatchHardTripletLoss(margin=0.2)
    pixels, labels = data.tensors
    for step in range(steps):
        rows = slice(step * batch % len(labels), step * batch % len(labels) + batch)
        x = pixels[rows].to(device)
        if last:
            x = x.contiguous(memory_format=torch.channels_last)
        with autocast(precision, device):
            emb = net(x)
        value = loss(emb.float(), labels[rows].to(device))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()


def ours(net: nn.Module, data: TensorDataset, batch: int, steps: int, **options: Any) -> None:
    """`fit` over the same batches."""
    count = len(data)
    batches = [list(range(at, at + batch)) for at in range(0, count, batch)]
    loss = BatchHardTripletLoss(margin=0.2)
    fit(net, data, batches, loss, steps=steps, lr=1e-4, warmup_loss=None, progress=False, **options)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def step_times(
    first: Callable[[int], None], second: Callable[[int], None], steps: int, runs: int
) -> tuple[float, float]:
    """Seconds a step of two loops, run in turn; a run of one step is taken off, each the least of the runs."""
    calls, counts = (first, second), (1, 1 + steps)
    for call in calls:
        call(1)
    least = {(call, count): math.inf for call in calls for count in counts}
    for _ in range(runs):
        for call, count in least:
            start = time.perf_counter()
            call(count)
            least[call, count] = min(least[call, count], time.perf_counter() - start)
    one, other = ((least[call, 1 + steps] - least[call, 1]) / steps for call in calls)
    return one, other


def rows(trunk: str = "densenet169", side: int = 224, batch: int = 32, runs: int = 2) -> Iterator[Row]:
    """What the CPU can show."""
    device = resolve_device("cpu")
    precision = resolve_precision("auto", device)
    data = images(2 * batch, side)
    net, bare = EmbeddingNet(trunk), Bare(trunk)
    cpu: dict[str, Any] = {"accelerator": "cpu"}
    fast = precision != "32"
    one, other = step_times(
        lambda n: ours(net, data, batch, n, **cpu),
        lambda n: plain_loop(bare, data, batch, n, device),
        STEPS,
        runs,
    )
    name = f"training step, {trunk}, {batch} x {side} px"
    yield Row(name, one, "plain fp32 loop", other, 2.0 if fast else None, precision)
    one, other = step_times(
        lambda n: ours(net, data, batch, n, **cpu),
        lambda n: loop(net, data, batch, n, device, precision),
        STEPS,
        runs,
    )
    yield Row(
        name, one, f"bare loop on the same network, {precision}", other, 0.97, "Lightning, history, watch"
    )

    def forward() -> None:
        net.eval()
        with torch.inference_mode():  # in float32, as embed
            for pixels in data.tensors[0].split(batch):
                net(pixels).float()

    one, other = paired(lambda: embed(net, data, batch, **cpu, progress=False), forward, runs=2 * runs + 1)
    yield Row(f"embed, {trunk}, {2 * batch} x {side} px", one, "bare forward, fp32", other, 0.97, "32")
    yield from frozen_rows(trunk)
    yield from depthwise_rows(runs=runs)


def depthwise_rows(
    trunk: str = "efficientnet_b0", side: int = 160, batch: int = 16, runs: int = 2
) -> Iterator[Row]:
    """A step of a trunk of depthwise convolutions: what "auto" chooses beside channels first and beside bf16."""
    data = images(2 * batch, side)
    net = EmbeddingNet(trunk)
    others: dict[str, dict[str, Any]] = {
        "fit, fp32, channels first": {"precision": "32", "channels_last": False},
        "fit, bf16, channels last": {"precision": "bf16", "channels_last": True},
    }
    for peer, options in others.items():
        one, other = step_times(
            lambda n: ours(net, data, batch, n, accelerator="cpu"),
            lambda n, o=options: ours(net, data, batch, n, accelerator="cpu", **o),  # type: ignore[misc]
            STEPS,
            runs,
        )
        yield Row(f"training step, {trunk}, {batch} x {side} px, auto", one, peer, other, None, "depthwise")


def frozen_rows(
    trunk: str, side: int = 128, count: int = 192, epochs: int = 10, runs: int = 1
) -> Iterator[Row]:
    """Ten epochs of a top on a frozen trunk, features kept or not."""
    data = images(count, side)

    def made() -> Classifier:
        net = Classifier(trunk, "b_densenet169")
        net.trunk.freeze()
        return net

    def train(cached: bool) -> None:
        fit_classifier(made(), data, epochs=epochs, cache_features=cached, accelerator="cpu", progress=False)

    def plain() -> None:
        net = made().train()
        optimizer = torch.optim.Adam(net.head.parameters(), lr=1e-3)
        for _ in range(epochs):
            order = torch.randperm(count)
            for chosen in order.split(32):
                value = nn.functional.binary_cross_entropy_with_logits(
                    net(data.tensors[0][chosen]), data.tensors[1][chosen].float()
                )
                optimizer.zero_grad()
                value.backward()
                optimizer.step()

    name = f"{epochs} epochs of a top on frozen {trunk}, {count} x {side} px, features kept"
    one, other = paired(lambda: train(True), plain, runs=runs, warmup=0)
    yield Row(name, one, "plain fp32 loop, frozen trunk", other, 10.0)
    one, other = paired(lambda: train(True), lambda: train(False), runs=runs, warmup=0)
    yield Row(name, one, "fit_classifier, features anew each epoch", other, None, "the limit is 10")


def gpu_rows(batch: int = 64, steps: int = 20) -> Iterator[Row]:
    """Images a second and peak memory, compiled and not, beside the bare loop in fp32 and in the same precision."""
    device = torch.device("cuda", 0)
    precision = resolve_precision("auto", device)

    def measured(call: Callable[[int], None], warm: int) -> tuple[float, float]:
        call(warm)
        torch.cuda.reset_peak_memory_stats()
        times = []
        for count in (1, 1 + steps):
            start = time.perf_counter()
            call(count)
            times.append(time.perf_counter() - start)
        return (times[1] - times[0]) / steps, torch.cuda.max_memory_allocated() / 2**30

    for trunk in ("densenet169", "resnet50"):
        for side in (224, 320):
            data = images(2 * batch, side)
            bare, net = Bare(trunk), EmbeddingNet(trunk)
            peers = {
                "bare fp32 loop": measured(lambda n, m=bare, d=data: plain_loop(m, d, batch, n, device), 3),  # type: ignore[misc]
                f"bare {precision} loop": measured(
                    lambda n, m=net, d=data: loop(m, d, batch, n, device, precision),
                    3,  # type: ignore[misc]
                ),
            }
            for compiled in (False, True):
                took, memory = measured(
                    lambda n, m=net, d=data, c=compiled: ours(m, d, batch, n, accelerator="cuda", compile=c),
                    3,  # type: ignore[misc]
                )
                note = f"{batch / took:.0f} images/s, {memory:.1f} GiB"
                for peer, (other, peak) in peers.items():
                    yield Row(
                        f"GPU step, {trunk}, {batch} x {side} px" + (", compiled" if compiled else ""),
                        took,
                        peer,
                        other,
                        0.97 if peer != "bare fp32 loop" and not compiled else None,
                        f"{note}; peer {batch / other:.0f} images/s, {peak:.1f} GiB",
                    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="measure on a GPU instead")
    parser.add_argument("--trunk", default="densenet169")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--runs", type=int, default=2)
    args = parser.parse_args()
    found = gpu_rows() if args.gpu else rows(args.trunk, args.side, runs=args.runs)
    print(markdown(found))


if __name__ == "__main__":
    main()
