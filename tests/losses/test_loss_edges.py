"""Inputs at the edge: nothing to compare with, other sizes, second derivatives."""

from __future__ import annotations

import pytest
import torch
from every_loss import makers
from pytorch_metric_learning import losses
from siamura.losses import (
    CrossBatchMemory,
    TripletLoss,
)
from triplet_oracles import batch

LOSSES = makers(0.2, 0.5, without=("quantile", "weighted"))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_nothing_to_compare_with_is_a_zero_with_a_gradient(name, dtype):
    x, y, _, _ = batch(1, 8, 2, dtype=dtype)
    none, labels = torch.zeros(0, 5, dtype=dtype), torch.zeros(0, dtype=torch.int64)
    loss = LOSSES[name]()
    value = loss(x, y, ref_emb=none, ref_labels=labels)
    value.backward()
    assert value.item() == 0
    assert torch.equal(x.grad, torch.zeros_like(x))
    empty = none.clone().requires_grad_()
    value = loss(empty, labels)
    value.backward()
    assert value.item() == 0
    assert loss.statistics["anchors"] == 0


@pytest.mark.parametrize("name", LOSSES)
def test_sizes_that_do_not_go_together_are_named(name):
    x, y, _, _ = batch(1, 8, 2)
    with pytest.raises(ValueError, match="ref_emb has 3 dimensions, embeddings have 5"):
        LOSSES[name]()(x, y, ref_emb=torch.zeros(4, 3), ref_labels=y[:4])
    with pytest.raises(ValueError, match="indices_tuple has 2 tensors"):
        LOSSES[name]()(x, y, (y, y))


@pytest.mark.parametrize("options", [{}, {"swap": True}, {"smooth_loss": True}])
def test_references_without_labels_have_those_of_the_batch_as_in_pml(options):
    x, y, _, _ = batch(1, 12, 3)
    other = x.detach() + 0.1 * torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    mine = TripletLoss(0.2, **options)(x, y, ref_emb=other)
    theirs = losses.TripletMarginLoss(0.2, **options)(x, y, ref_emb=other)
    if not options.get("swap"):  # PML looks up rows of the wrong matrix there
        assert float(mine) == pytest.approx(float(theirs), rel=1e-9)
    with pytest.raises(ValueError, match="ref_labels"):
        TripletLoss(0.2, **options)(x, y, ref_emb=other[:5])


def test_a_memory_tells_the_figures_of_its_loss():
    x, y, _, _ = batch(1, 12, 3)
    memory = CrossBatchMemory(TripletLoss(0.2), 5, memory_size=24)
    assert memory.statistics == {}
    memory(x, y)
    assert memory.statistics == memory.loss.statistics
    assert memory.statistics["anchors"] > 0
    assert not hasattr(CrossBatchMemory(losses.ContrastiveLoss(), 5), "statistics")
