"""The folded grey channel beside the repeated one, and saving and loading beside torch's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.harness import Row, markdown, paired
from siamura.networks import EmbeddingNet, Trunk


def rows(side: int = 96, count: int = 8) -> Iterator[Row]:
    """One row a trunk, and one for the folder."""
    x = torch.randn(count, 1, side, side)
    for name in ("densenet169", "resnet50", "squeezenet1_1"):
        grey, wide = Trunk(name).eval(), Trunk(name, grey=False).eval()
        with torch.inference_mode():
            ours, peer = paired(lambda t=grey: t(x), lambda t=wide: t(x), runs=7)  # type: ignore[misc]
        yield Row(
            f"forward, {name}, {count} x {side} px, grey folded",
            ours,
            "the image repeated in 3 channels",
            peer,
        )
    net = EmbeddingNet("densenet169")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)

        def ours_() -> None:
            net.save_pretrained(path)
            EmbeddingNet.from_pretrained(path)

        def peer_() -> None:
            torch.save(net.state_dict(), path / "net.pt")
            EmbeddingNet("densenet169").load_state_dict(torch.load(path / "net.pt", weights_only=True))

        yield Row("save and load densenet169", *_swap(paired(ours_, peer_, runs=5)))


def _swap(times: tuple[float, float]) -> tuple[float, str, float]:
    return times[0], "torch.save and load, same network", times[1]


if __name__ == "__main__":
    print(markdown(rows()))
