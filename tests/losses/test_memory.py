"""Memory over batches, and many processes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from every_loss import makers
from pytorch_metric_learning import losses as pml
from siamura.losses import (
    CrossBatchMemory,
    TripletLoss,
)
from triplet_oracles import batch, close

LOSSES = makers(0.2, 0.5, "all", "hard", "semi", "focal", "focal-all", "selective")


def stream(steps: int, dtype=torch.float64):
    for seed in range(steps):
        x, y, _, _ = batch(seed, 10, 3, dim=6, dtype=dtype)
        yield x, y


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_triplet_loss_in_a_memory_is_pmls(dtype):
    mine = CrossBatchMemory(TripletLoss(0.2), 6, memory_size=24)
    theirs = pml.CrossBatchMemory(pml.TripletMarginLoss(0.2), 6, memory_size=24)
    rel = 1e-9 if dtype == torch.float64 else 2e-5
    for x, y in stream(6, dtype):  # the queue wraps around within a batch
        a, b = mine(x, y), theirs(x, y)
        assert float(a) == pytest.approx(float(b), rel=rel)
        assert close(torch.autograd.grad(a, x)[0], torch.autograd.grad(b, x)[0], 10 * rel)


@pytest.mark.parametrize("name", LOSSES)
def test_an_item_meets_the_others_of_the_memory_but_not_itself(name):
    memory = CrossBatchMemory(LOSSES[name](), 6, memory_size=100)
    seen, labels = [], []
    for x, y in stream(3):
        value = memory(x, y)
        seen.append(x.detach())
        labels.append(y)
        ref, ry = torch.cat(seen), torch.cat(labels)
        same = y[:, None] == ry
        other = ~same
        same[torch.arange(10), torch.arange(len(ref) - 10, len(ref))] = False
        pairs = same.nonzero(as_tuple=True) + other.nonzero(as_tuple=True)
        wanted = LOSSES[name]()(x, y, pairs, ref, ry)
        assert float(value) == pytest.approx(float(wanted), rel=1e-9)
        value.backward()
        assert torch.isfinite(x.grad).all()
        assert x.grad.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_queue_survives_a_checkpoint(dtype):
    memory = CrossBatchMemory(TripletLoss(0.2), 6, memory_size=24)
    batches = list(stream(7, dtype))
    for x, y in batches[:4]:
        memory(x, y)
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    file.seek(0)
    again = CrossBatchMemory(TripletLoss(0.2), 6, memory_size=24)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert again.queue_idx == memory.queue_idx
    assert again.has_been_filled
    for x, y in batches[4:]:
        assert float(again(x, y)) == float(memory(x, y))


def test_a_checkpoint_of_another_size_is_refused():
    memory = CrossBatchMemory(TripletLoss(0.2), 6, memory_size=24)
    with pytest.raises(RuntimeError, match="size mismatch"):
        CrossBatchMemory(TripletLoss(0.2), 6, memory_size=30).load_state_dict(memory.state_dict())
    with pytest.raises(ValueError, match="memory_size=24"):
        memory.set_extra_state({"queue_idx": 24, "has_been_filled": True})


def test_pmls_own_losses_are_still_served():
    memory = CrossBatchMemory(pml.ContrastiveLoss(), 6, memory_size=24)
    for x, y in stream(2):
        assert torch.isfinite(memory(x, y))
    with pytest.raises(Exception, match="not supported"):
        CrossBatchMemory(pml.ArcFaceLoss(3, 6), 6)


WORKER = Path(__file__).with_name("gloo_worker.py")


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path):
    """Every loss, plain and in a memory: within 1e-6 of one process on the joined batch."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(tmp_path)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [worker.communicate(timeout=600)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(outputs)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert set(results[0]) == {
        "all-efficient",
        *(f"{name}-{kind}" for name in LOSSES for kind in ("plain", "memory")),
    }
    for name, (found, wanted) in results[0].items():
        assert wanted.abs().max() > 1e-6, name
        assert (found - wanted).abs().max() <= 1e-6 * wanted.abs().max().clamp(min=1), name
        assert torch.equal(found, results[1][name][0]), name
