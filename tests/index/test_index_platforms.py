"""Windows and macOS lack parts of Linux: without them the index is imported, written and searched."""

import subprocess
import sys

CODE = """
import os, sys
for name in ("fcntl", "resource"):
    sys.modules[name] = None
for name in ("pread", "pwrite", "posix_fallocate", "sched_getaffinity", "geteuid", "getuid"):
    if hasattr(os, name):
        delattr(os, name)
import siamura, pandas as pd
table = pd.DataFrame({"path": ["a", "b"], "part": "XR_HAND", "patient": ["1", "2"], "study": "s", "label": [0, 1]})
index = siamura.CaseIndex.create(sys.argv[1], dim=2, exact_up_to=1)
assert index.add([[0.0, 0.0], [1.0, 0.0]], table) == 2
assert index.search([0.1, 0.0], 2, exclude_patient="1")["path"].tolist() == ["b"]
assert index.delete(patient="2") == 1
index.verify()
index.close()
print("whole")
"""


def test_the_index_needs_nothing_of_one_platform(tmp_path):
    command = [sys.executable, "-c", CODE, str(tmp_path / "cases.db")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "whole\n", done.stderr
