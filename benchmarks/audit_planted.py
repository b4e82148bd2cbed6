"""Planted errors in real images, and how many of them an audit by neighbours finds at a given effort.

    python -m benchmarks.audit_planted FOLDER WEIGHTS

FOLDER holds ``films.csv`` (file, finding, patient, region, ...) and its images; WEIGHTS those of EfficientNet-Lite0,
which stays frozen. In each of three seeds 200 labels are exchanged, and 60 images are saved again under another
patient: JPEG of quality 40 to 70, 2 to 8 % cropped from each axis. Intervals are of a bootstrap over patients.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

FLIPPED, COPIES, EFFORTS, DRAWS = 200, 60, (100, 200, 400), 1000


def features(images: list[np.ndarray], weights: str) -> np.ndarray:
    """Pooled features of the frozen trunk, float32 (N, 1280)."""
    from siamura.networks import EmbeddingNet
    from siamura.pixels import Preprocess
    from siamura.training.embedding import forward_rows
    from siamura.training.head_first import FrozenTrunk

    pre = Preprocess(size=224)
    net = EmbeddingNet("timm:tf_efficientnet_lite0", weights=weights, preprocess=pre)
    squares = np.stack([pre(image) for image in images])
    return forward_rows(FrozenTrunk(net).eval(), squares, progress=False)[0].flatten(1).numpy()


def copy_of(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Crop 2 to 8 % of each axis, and compress again."""
    sizes = [round(side * (1 - rng.uniform(0.02, 0.08))) for side in image.shape]
    top, left = (int(rng.integers(0, side - size + 1)) for side, size in zip(image.shape, sizes, strict=True))
    cropped = image[top : top + sizes[0], left : left + sizes[1]]
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 71))]
    return cv2.imdecode(cv2.imencode(".jpg", cropped, quality)[1], cv2.IMREAD_GRAYSCALE)


def over_patients(hit: np.ndarray, patient: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Share of hits, and its 95 % interval by a bootstrap over patients."""
    code = pd.factorize(patient)[0]
    hits, counts = np.bincount(code, hit), np.bincount(code)
    drawn = np.random.default_rng(seed).integers(0, len(counts), (DRAWS, len(counts)))
    shares = hits[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return float(hit.mean()), *map(float, np.quantile(shares, (0.025, 0.975)))


def planted(
    images: list[np.ndarray], table: pd.DataFrame, vectors: np.ndarray, weights: str, seed: int
) -> list[dict[str, Any]]:
    """Plant errors, audit, and count what was found."""
    from siamura.evaluation import audit

    rng = np.random.default_rng(seed)
    flipped = rng.choice(len(table), FLIPPED, replace=False)
    copied = rng.choice(len(table), COPIES, replace=False)
    copies = [copy_of(images[i], rng) for i in copied]
    new = table.iloc[copied].assign(patient=[f"copy{i}" for i in range(COPIES)])
    whole = pd.concat([table, new], ignore_index=True)
    whole.loc[flipped, "label"] = 1 - whole.loc[flipped, "label"]
    both = images + copies
    found = audit(np.vstack([vectors, features(copies, weights)]), whole, both.__getitem__, seed=seed)
    rows: list[dict[str, Any]] = []

    def row(what: str, effort: str, hit: np.ndarray, patient: np.ndarray, chance: float) -> None:
        share, low, high = over_patients(hit.astype(float), patient, seed)
        rows.append({"seed": seed, "what": what, "effort": effort, "found": int(hit.sum()), "of": len(hit),
                     "share": share, "low": low, "high": high, "chance": chance})  # fmt: skip

    who = table["patient"].to_numpy()[flipped]
    ranked, share = found.labels, whole["label"].value_counts(normalize=True)
    odds = [p / share[g] / (p / share[g] + (1 - p) / share[1 - g]) for p, g in zip(ranked["probability"],
            ranked["label"], strict=True)]  # fmt: skip
    orders = {
        "labels": ranked["row"], "labels, classes taken for equally frequent": ranked["row"].iloc[np.argsort(odds)],
        # What the classes' shares tell without a look at the images: the rarer label is wrong more often.
        "labels, the rarer class first": whole["label"].map(share).sample(frac=1, random_state=seed).sort_values(
            kind="stable").index.to_series(),
    }  # fmt: skip
    for what, order in orders.items():
        place = np.empty(len(whole), int)
        place[order] = np.arange(len(whole))
        for effort in EFFORTS:
            row(what, f"first {effort}", place[flipped] < effort, who, effort / len(whole))
    pairs = found.duplicates
    key = {(int(a), int(b)): i for i, (a, b) in enumerate(zip(pairs["row"], pairs["other"], strict=True))}
    at = np.array([key.get((int(i), len(table) + j), len(pairs)) for j, i in enumerate(copied)])
    who, listed = table["patient"].to_numpy()[copied], int(pairs["duplicate"].sum())
    for effort in EFFORTS:
        row("copies", f"first {effort} pairs", at < effort, who, effort / max(1, len(pairs)))
    row("copies", f"above the threshold ({listed} pairs)", at < listed, who, listed / max(1, len(pairs)))
    real = pairs.head(listed)
    odd = real[(real["other"] < len(table))]
    print(json.dumps({"seed": seed, **found.facts, "pairs above the threshold without a planted copy": [
        [str(table["file"][a]), str(table["file"][b]), round(d, 3)]
        for a, b, d in zip(odd["row"], odd["other"], odd["detail"], strict=True)]}), flush=True)  # fmt: skip
    return rows


def main(folder: str, weights: str, seeds: tuple[int, ...] = (0, 1, 2)) -> pd.DataFrame:
    """Measure, and print a row for each list and effort."""
    from siamura.pixels import read_image

    table = pd.read_csv(Path(folder) / "films.csv", dtype=str)
    table = table.assign(label=(table["finding"] == "fracture").astype(int), part=table["region"])
    images = [read_image(Path(folder) / file) for file in table["file"]]
    vectors = features(images, weights)
    print(f"{len(table)} images of {table['patient'].nunique()} patients (guessed)", flush=True)
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        rows += planted(images, table, vectors, weights, seed)
        print(pd.DataFrame(rows).to_csv(index=False), flush=True)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main(*sys.argv[1:3])
