"""Cases for the tests, drawn by seed; the subprocesses import this file alone."""

import numpy as np
import pandas as pd


def cases(n: int, dim: int = 8, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, max(2, n // 4), n)
    table = pd.DataFrame(
        {
            "path": [f"/data, with comma/{seed}/{i}.png" for i in range(n)],
            "part": rng.choice(["XR_HAND", "XR_FINGER", "XR_WRIST"], n),
            "patient": [f'pat"ient\n{p:05d}' for p in patient],
            "study": [f"study{i % 3}" for i in range(n)],
            "label": rng.integers(0, 2, n),
            "age": rng.choice([31.5, 47.0, np.nan], n),
        }
    )
    return rng.standard_normal((n, dim)).astype(np.float32), table
