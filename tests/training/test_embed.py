"""`embed`: rows in order, nothing changed."""

import numpy as np
import pytest
import torch

from siamura.training import embed
from siamura.training.data import ShuffledBatches, Stream
from siamura.training.neighbour_check import kappa

from .conftest import make_net


def test_rows_come_in_order_whatever_the_batch(data):
    net = make_net()
    with torch.inference_mode():
        expected = net.eval()(data.tensors[0]).numpy()
    for size in (1, 7, 48, 100):
        found = embed(net, data, size, precision="32")
        assert found.dtype == np.float32
        assert np.allclose(found, expected, atol=1e-5)
    assert np.allclose(embed(net, data.tensors[0][:, 0].numpy(), precision="32"), expected, atol=1e-5)
    assert np.allclose(embed(net, data), expected, atol=0.05)  # in bf16, where the machine computes in it


def test_modes_are_put_back(data):
    net = make_net().train()
    net.head.eval()
    modes = [m.training for m in net.modules()]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    embed(net, data)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_edges(data):
    net = make_net()
    assert embed(net, np.zeros((0, 32, 32), np.uint8)).shape == (0, 8)
    with pytest.raises(ValueError, match="batch_size=0"):
        embed(net, data, 0)
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 32\)"):
        embed(net, np.zeros((2, 3, 32, 32), np.uint8))


def test_embeddings_can_be_trained_on(data):
    from siamura.training.embedding import forward_rows

    rows, _ = forward_rows(make_net(), data)
    layer = torch.nn.Linear(8, 1)
    layer(rows).sum().backward()  # tensors of inference mode would refuse
    assert layer.weight.grad is not None


@pytest.mark.parametrize("start", range(11))
def test_a_stream_goes_on_anywhere(start):
    from siamura.samplers import PKBatchSampler

    labels = np.arange(24) % 2

    def sampler():
        return PKBatchSampler(labels, p=2, k=3, seed=1)

    whole = list(Stream(sampler(), total=11))
    assert len(whole) == 11
    assert whole[:4] != whole[4:8]
    assert list(Stream(sampler(), total=11, start=start)) == whole[start:]
    used = sampler()
    list(Stream(used, total=6))
    assert list(Stream(used, total=11, start=start)) == whole[start:]
    shares = [list(Stream(sampler(), 11, start, rank, 2)) for rank in (0, 1)]
    assert [
        [x for pair in zip(a, b, strict=True) for x in pair] for a, b in zip(*shares, strict=True)
    ] == whole[start:]


def test_a_batch_that_cannot_be_split():
    with pytest.raises(ValueError, match="3 cannot be split evenly over 2 processes"):
        list(Stream([[0, 1, 2]], 1, 0, 0, 2))


def test_shuffled_batches_take_every_row_once():
    batches = ShuffledBatches(50, 16, seed=2)
    first = list(batches)
    assert sorted(row for batch in first for row in batch) == list(range(50))
    assert {len(b) for b in first} == {12, 13}
    batches.set_epoch(1)
    assert sorted(row for batch in batches for row in batch) == list(range(50))
    assert list(batches) != first


def test_kappa_is_scikit_learns():
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    for kinds in (2, 4):
        a, b = rng.integers(0, kinds, (2, 60))
        assert kappa(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(cohen_kappa_score(a, b))
    same = torch.zeros(5, dtype=torch.int64)
    assert kappa(same, same) == 0.0
