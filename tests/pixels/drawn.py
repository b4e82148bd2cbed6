"""Files to build stores from."""

from pathlib import Path

import cv2
import numpy as np


def png_files(folder: Path, count: int, side: int = 40, seed: int = 0) -> list[str]:
    """Different small grey PNGs of uneven shapes; gives their paths."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        height, width = rng.integers(side // 2, side, 2)
        coarse = rng.integers(0, 256, (4, 4)).astype(np.uint8)
        path = str(folder / f"image{number}.png")
        cv2.imwrite(path, cv2.resize(coarse, (int(width), int(height)), interpolation=cv2.INTER_CUBIC))
        paths.append(path)
    return paths
