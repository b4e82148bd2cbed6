"""What loading a network and embedding an image imports."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import numpy as np
from siamura import EmbeddingNet, embed
from siamura.training import predict_proba

for name in ("squeezenet1_1", "resnet18"):
    EmbeddingNet(name, dim=4).save_pretrained("net")
    embed(EmbeddingNet.from_pretrained("net"), np.zeros((1, 64, 64), np.uint8), progress=False)
assert callable(predict_proba)
print(*[n for n in ("lightning", "sklearn", "torch._dynamo", "pytorch_metric_learning") if n in sys.modules])
import torch
from torchvision.ops import roi_align  # works as ever, and asks the compiler itself

boxes = torch.tensor([[0.0, 0.0, 0.0, 2.0, 2.0]])
assert roi_align(torch.ones(1, 1, 4, 4), boxes, 1).tolist() == [[[[1.0]]]]
assert torch._dynamo.utils.is_compile_supported("cpu") in (True, False)
"""


@pytest.mark.slow
def test_embedding_imports_neither_lightning_nor_a_compiler(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == ""
