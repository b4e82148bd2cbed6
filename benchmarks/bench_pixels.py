"""Images on their way to the network: contrast, the store's building, an epoch, and what training waits for."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Row, markdown, paired
from siamura._files import cpu_count

FILES, SIZE, BATCH = 300, 224, 32


def film(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a stand-in as hard to decode as a radiograph of MURA: soft shapes, edges, and grain."""
    y, x = np.mgrid[:height, :width] / height
    shape = 40 + 90 * np.exp(-(((x - 0.4) / 0.15) ** 2))
    for _ in range(4):
        at, wide, value = rng.uniform(0.1, 0.7), rng.uniform(0.02, 0.06), rng.uniform(20, 60)
        shape += value * (np.abs(x + 0.1 * np.sin(3 * y) - at) < wide)
    return np.clip(cv2.GaussianBlur(shape, (0, 0), 1) + rng.normal(0, 3, shape.shape), 0, 255).astype(
        np.uint8
    )


def films(folder: Path, count: int = FILES) -> pd.DataFrame:
    """Write stand-in PNGs whose long side is 512 pixels, as MURA's is."""
    rng = np.random.default_rng(0)
    paths = [str(folder / f"image{i}.png") for i in range(count)]
    for path in paths:
        short = int(rng.integers(280, 512))
        cv2.imwrite(path, film(512, short, rng) if rng.random() < 0.7 else film(short, 512, rng))
    return pd.DataFrame(
        {"path": paths, "label": np.arange(count) % 2, "patient": [f"p{i // 3}" for i in range(count)]}
    )


def through_lab(image: np.ndarray) -> np.ndarray:
    """Do what system A does with a colour image as cv2.imread gives it."""
    lightness, a, b = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2LAB))
    lightness = cv2.createCLAHE(2.0, (8, 8)).apply(lightness)
    return cv2.cvtColor(cv2.merge([lightness, a, b]), cv2.COLOR_LAB2BGR)


def contrast() -> Row:
    """Time CLAHE on the lightness by tables against OpenCV's colour conversions."""
    from siamura.pixels import CLAHE

    grey = film(512, 512, np.random.default_rng(0))
    colour, clahe = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), CLAHE(2.0, (8, 8))
    np.testing.assert_array_equal(clahe(grey), through_lab(colour)[..., 1])
    ours, peer = paired(lambda: clahe(grey), lambda: through_lab(colour), runs=101, warmup=10)
    return Row("CLAHE on lightness, 512 x 512", ours, "OpenCV through LAB", peer, 3, "bit-identical")


class Each:
    """What most code does: read and preprocess an image whenever it is asked for."""

    def __init__(self, table: pd.DataFrame, make: Callable[[str], np.ndarray]) -> None:
        self.paths, self.labels, self.make = table["path"].tolist(), table["label"].tolist(), make

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.make(self.paths[index])[None], self.labels[index]


def epoch_and_build(folder: Path) -> Iterator[Row]:
    """Time the store's building, and an epoch from it."""
    from torch.utils.data import DataLoader

    from siamura.pixels import Preprocess, RadiographDataset, read_image

    table, pre = films(folder), Preprocess(size=SIZE)
    cores = cpu_count()

    def build() -> RadiographDataset:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        return RadiographDataset(table, pre, cache=folder / "cache", progress=False)

    def loop() -> np.ndarray:
        return np.stack([pre(read_image(path)) for path in table["path"]])

    np.testing.assert_array_equal(build().images, loop())
    ours, peer = paired(build, loop, runs=7, settle=True)
    yield Row(
        f"build a store of {FILES} PNGs of 512 px", ours, "one loop, kept in memory", peer, 1.7,
        f"{cores} cores; hashing and checksums included",
    )  # fmt: skip

    data = build()
    order = np.random.default_rng(0).permutation(FILES)
    plan = [order[i : i + BATCH].tolist() for i in range(0, FILES, BATCH)]
    stored = DataLoader(data, batch_sampler=plan)
    each = Each(table, lambda path: pre(read_image(path)))
    read = DataLoader(each, batch_sampler=plan, num_workers=cores)  # type: ignore[arg-type, var-annotated]
    ours, peer = paired(lambda: list(stored), lambda: list(read), runs=3)
    yield Row(
        f"epoch of {FILES}, batches of {BATCH} at {SIZE} px", ours,
        f"read and preprocess each time, {cores} worker processes", peer, 20,
    )  # fmt: skip
    ours, peer = paired(
        lambda: RadiographDataset(table, pre, cache=folder / "cache", progress=False), loop, runs=3
    )
    yield Row(f"open that store, all {FILES} checksums verified", ours, "one loop", peer)


class Timed:
    """A data set that adds up the seconds its batches take."""

    def __init__(self, data: object, table: pd.DataFrame) -> None:
        self.data, self.table, self.seconds = data, table, 0.0

    def __len__(self) -> int:
        return len(self.table)

    def __getitems__(self, positions: Sequence[int]) -> object:
        start = time.perf_counter()
        try:
            return self.data.batch(positions)  # type: ignore[attr-defined]
        finally:
            self.seconds += time.perf_counter() - start


def waiting(folder: Path) -> Row:
    """Time what `siamura.fit` spends on getting its batches from the store."""
    import siamura

    table = pd.DataFrame(films(folder, 64))
    size, steps = 96, 5
    data = siamura.RadiographDataset(
        table, siamura.Preprocess(size=size), cache=folder / "wait", progress=False
    )
    timed = Timed(data, data.table)
    batches = siamura.samplers.PKBatchSampler(data.labels, p=2, k=BATCH // 2, seed=0, length=steps)
    net = siamura.EmbeddingNet("densenet169", dim=128)
    loss = siamura.losses.BatchHardTripletLoss(margin=0.2)
    start = time.perf_counter()
    siamura.fit(net, timed, batches, loss, steps=steps, warmup_loss=None, progress=False)  # type: ignore[arg-type]
    whole = time.perf_counter() - start
    share = 100 * timed.seconds / whole
    return Row(
        f"{steps} steps of DenseNet-169, {BATCH} images at {size} px: getting the batches", timed.seconds,
        "the whole training", whole, 50, f"{share:.2f} % of the time waits for data; at most 2 % promised",
    )  # fmt: skip


def rows() -> Iterator[Row]:
    """Measure each row."""
    yield contrast()
    with tempfile.TemporaryDirectory() as folder:
        yield from epoch_and_build(Path(folder))
        yield waiting(Path(folder))


if __name__ == "__main__":
    print(markdown(rows()))
