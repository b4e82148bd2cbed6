"""Trunks whose first convolution is no plain one, and names of files that look like hashes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from siamura.networks.folding import fold_grey
from siamura.networks.trunks import Trunk
from siamura.networks.weights import read_weights


def test_a_convolution_that_rescales_its_weights_is_not_folded():
    layers = pytest.importorskip("timm.layers")
    model = nn.Sequential(layers.StdConv2d(3, 4, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="StdConv2d"):
        fold_grey(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[0].in_channels == 3


@pytest.mark.parametrize("name", ["timm:nf_regnet_b0", "timm:test_resnet"])
def test_timm_trunks_answer_as_with_three_channels(name):
    timm = pytest.importorskip("timm")
    if not timm.is_model(name.removeprefix("timm:")):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    found = []
    for grey in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            trunk = Trunk(name, grey=grey).eval()
        with torch.no_grad():
            found.append(trunk(torch.linspace(-1, 1, 2 * 64 * 64).reshape(2, 1, 64, 64)))
    assert torch.allclose(*found, atol=1e-5)


def test_a_date_in_a_files_name_is_no_hash(tmp_path):
    state = {"weight": torch.ones(2)}
    for name in ("trunk-20261121.pth", "trunk-20260101.pt"):
        torch.save(state, tmp_path / name)
        assert torch.equal(read_weights(tmp_path / name)["weight"], state["weight"])
    torch.save(state, tmp_path / "trunk-99999999.pth")
    with pytest.raises(ValueError, match="SHA-256 99999999"):
        read_weights(tmp_path / "trunk-99999999.pth")
