"""Processor seconds from the start of Python: the command line beside the imports that scripts begin with."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.harness import Row, markdown
from siamura import EmbeddingNet, KNNHead, MLPHead, Preprocess, embed
from siamura.heads.distance_limit import DistanceLimit

PREDICT = """
import sys
from siamura.inference import Predictor, list_views
assert len(Predictor(sys.argv[1]).views(list_views([sys.argv[2]])).dropna(subset="probability")) == 1
"""
PEER = 'python -c "import torch, timm"'


def rows(runs: int = 3) -> Iterator[Row]:
    """The help of a command, and a whole prediction of one image, weights read from the disk."""
    peer = cpu_seconds("-c", "import torch, timm", runs=runs)
    ours = cpu_seconds("-m", "siamura.cli", "predict", "--help", runs=runs)
    yield Row("CPU, siamura predict --help", ours, PEER, peer, 1.0, "CPU seconds of a process")
    with tempfile.TemporaryDirectory() as place:
        folder, image = Path(place), Path(place) / "hand.png"
        cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (300, 200), dtype=np.uint8))
        _finished(folder)
        ours = cpu_seconds("-c", PREDICT, str(folder), str(image), runs=runs)
    yield Row("CPU, one image predicted, all imports", ours, PEER, peer, None, "CPU seconds of a process")


def _finished(folder: Path) -> None:
    """Write what a prediction reads of a run folder."""
    net = EmbeddingNet("resnet18", dim=32, preprocess=Preprocess(size=96), seed=0)
    net.save_pretrained(folder / "model")
    images = np.random.default_rng(0).integers(0, 256, (24, 96, 96), dtype=np.uint8)
    vectors = embed(net, images, progress=False)
    knn = KNNHead(k=3).fit(vectors, np.arange(24) % 2)
    knn.save(folder / "knn")
    MLPHead(epochs=1).fit(vectors, np.arange(24) % 2).save(folder / "mlp")
    DistanceLimit.of(knn, vectors).save(folder)


def cpu_seconds(*arguments: str, runs: int) -> float:
    """User and system seconds of a Python process, the least of the runs."""
    kept = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        kept.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(kept)


if __name__ == "__main__":
    print(markdown(rows()))
