"""`torch.compile` while training: the same numbers, and a network that nobody can tell from another afterwards."""

import shutil

import numpy as np
import pytest
import torch
from siamura.losses import TripletLoss

from siamura.networks import EmbeddingNet
from siamura.training import fit

from .conftest import make_batches, make_net


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++, which is not here")
def test_a_compiled_trunk_trains_alike_and_leaves_no_trace(data, tmp_path):
    from torch._dynamo.utils import counters

    counters.clear()
    losses, nets = {}, {}
    for compiled in (False, True):
        torch.manual_seed(0)
        nets[compiled] = net = make_net()
        names = list(net.state_dict())
        history = fit(net, data, make_batches(data), TripletLoss(margin=0.2), steps=3, lr=1e-4, compile=compiled,
                      precision="32", progress=False, accelerator="cpu")  # fmt: skip
        assert list(net.state_dict()) == names
        assert net.trunk._compiled_call_impl is None
        assert (counters["stats"]["unique_graphs"] > 0) == compiled
        losses[compiled] = history["loss"].to_numpy()
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-3, atol=1e-5)
    for a, b in zip(nets[True].parameters(), nets[False].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)  # AdamW moves no weight by more than 1e-4 a step
    nets[True].save_pretrained(tmp_path / "net")
    assert isinstance(EmbeddingNet.from_pretrained(tmp_path / "net"), EmbeddingNet)
