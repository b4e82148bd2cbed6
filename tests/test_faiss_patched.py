"""pytorch-metric-learning imports faiss.contrib.torch_utils, which replaces FAISS's methods by stricter ones."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
import numpy as np, pandas as pd
import faiss.contrib.torch_utils
import siamura

rows = np.lib.format.open_memmap(sys.argv[1] + "/rows.npy", "w+", np.float32, (900, 8))
rows[:] = np.random.default_rng(0).normal(size=rows.shape)
label = np.arange(len(rows)) % 2
head = siamura.KNNHead(k=3).fit(rows, label)
assert (head.predict_proba(rows[:5]).sum(axis=1) == 1).all()
table = pd.DataFrame({"path": [f"{i}.png" for i in range(900)], "part": "XR_HAND", "study": "1", "label": label})
table["patient"] = np.arange(900).astype(str)
cases = siamura.CaseIndex.create(sys.argv[1] + "/cases", dim=8, exact_up_to=100)
cases.add(rows, table)
found = cases.search(rows[7], k=2, label=1)
assert found["patient"].iloc[0] == "7", found
print("both answer")

import joblib

joblib.dump(head, sys.argv[1] + "/head.joblib")
again = joblib.load(sys.argv[1] + "/head.joblib", mmap_mode="r")
assert (again.predict_proba(rows[:50]) == head.predict_proba(rows[:50])).all()
print("a mapped head answers")
"""


def test_heads_and_index_answer_beside_faiss_torch_utils(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n")[:2] == ["both answer", "a mapped head answers"], done.stderr
