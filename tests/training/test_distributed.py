"""Two CPU processes under torchrun follow one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from siamura.training import distributed
from siamura.training.synced_batch_norm import SyncedBatchNorm

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import numpy as np
from safetensors.torch import save_file
from siamura.losses import BatchHardTripletLoss
from siamura.networks import Classifier, EmbeddingNet
from siamura.samplers import PKBatchSampler
from siamura.training import embed, fit, fit_classifier
from siamura.training.distributed import rank_and_world
from tests.training.conftest import make_data

data, valid = make_data(64), make_data(33, seed=1)
net = EmbeddingNet("resnet18", 16, hidden=(32,), batch_norm=True)
batches = PKBatchSampler(data.tensors[1], p=2, k=8, seed=0)
out = {out!r}
before = embed(net, valid, 4, precision="32")  # torchrun's processes share this work too
assert rank_and_world()[1] == {world}
history = fit(net, data, batches, BatchHardTripletLoss(margin=0.2), steps=20, valid=valid, validate_every=10, lr=1e-5,
              augment="mura", precision="32", progress=False, out=out)
rank, world = rank_and_world()
assert world == {world}
once = EmbeddingNet("resnet18", 16, hidden=(32,), batch_norm=True)
fit(once, data, batches, BatchHardTripletLoss(margin=0.2), steps=1, lr=0.5, optimizer="sgd", schedule="constant",
    precision="32", progress=False)
if rank == 0:
    save_file(once.state_dict(), out + "/step.safetensors")
np.save(out + f"/before{{rank}}.npy", before)
np.save(out + f"/embeddings{{rank}}.npy", embed(net, valid, 4, precision="32"))
history.to_csv(out + f"/history{{rank}}.csv", index=False)
net = Classifier("resnet18", "b_densenet169", hidden=(8,), dropout=0.0)
history = fit_classifier(net, data, epochs=2, batch_size=16, lr=1e-5, valid=valid, precision="32", progress=False)
history.to_csv(out + f"/classifier{{rank}}.csv", index=False)
"""


def launch(tmp_path, world):
    out = tmp_path / str(world)
    out.mkdir()
    script = tmp_path / f"train{world}.py"
    script.write_text(SCRIPT.format(root=str(ROOT), out=str(out), world=world))
    command = [sys.executable, str(script)]
    if world > 1:
        command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.slow
def test_two_processes_follow_one(tmp_path):
    one, two = launch(tmp_path, 1), launch(tmp_path, 2)
    for kind in ("history", "classifier"):
        alone, first, second = (
            pd.read_csv(folder / f"{kind}{rank}.csv") for folder, rank in ((one, 0), (two, 0), (two, 1))
        )
        pd.testing.assert_frame_equal(first, second)  # every process knows the same history
        assert len(alone) == len(first)
        assert np.abs(alone["loss"] - first["loss"]).max() <= 1e-4
        assert alone["loss"].std() > 1e-2  # it moves: agreement is no accident
    # At rates where one process forgets a change of 1e-7 in its weights: at 1e-4 it makes 1e-2 of it in ten steps.
    steps = [load_file(folder / "step.safetensors") for folder in (one, two)]
    for name, value in steps[0].items():  # one large step of SGD: gradients and running statistics
        assert torch.allclose(value, steps[1][name], rtol=1e-4, atol=1e-5), name
    rows = [np.load(folder / f"embeddings{rank}.npy") for folder, rank in ((one, 0), (two, 0), (two, 1))]
    assert rows[0].shape == (33, 16)
    assert np.array_equal(rows[1], rows[2])
    assert np.abs(rows[0] - rows[1]).max() < 1e-2
    untrained = [np.load(folder / f"before{rank}.npy") for folder, rank in ((one, 0), (two, 0), (two, 1))]
    assert np.allclose(untrained[0], untrained[1], atol=1e-6)
    assert np.array_equal(untrained[1], untrained[2])
    assert pd.read_csv(two / "history.csv").shape == pd.read_csv(one / "history.csv").shape


def test_the_plugin_puts_batch_norms_back():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm1d(4 * 36))
    x = torch.randn(6, 1, 8, 8)
    plugin = SyncedBatchNorm()
    with torch.no_grad():
        expected = model(x)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        assert plugin.apply(model) is model
        assert type(model[1]) is not nn.BatchNorm2d
        assert torch.equal(model(x), expected)  # one process: as ever
        plugin.revert(model)
    assert type(model[1]) is nn.BatchNorm2d
    assert type(model[3]) is nn.BatchNorm1d
    assert before.keys() == model.state_dict().keys()


def test_the_first_process_works_alone_while_the_others_wait(monkeypatch):
    """What it embeds within `on_rank_zero` is not shared out: the others are not there to do their share."""
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "broadcast_object_list", lambda box, src: None)
    assert distributed.rank_and_world() == (0, 2)
    assert distributed.on_rank_zero(distributed.rank_and_world) == (0, 1)
    assert distributed.on_rank_zero(lambda: distributed.gather_parts("mine")) == ["mine"]
    with pytest.raises(ValueError, match="wrong"):
        distributed.on_rank_zero(lambda: int("wrong"))
    assert distributed.rank_and_world() == (0, 2)
