"""Stochastic depth beside what a block gives by hand."""

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from siamura.networks import Trunk
from siamura.networks.drop_path import drop_paths, residuals

# What makes a block's output of its branch and its shortcut.
LAST = {
    "resnet18": ("layer4.1", "bn2", torch.relu),
    "timm:tf_efficientnet_lite0": ("blocks.5.3", "bn3", lambda x: x),
}


@pytest.fixture(autouse=True)
def same_draws():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def seen(module):
    """What goes in and comes out, filled by the next pass."""
    found = {}
    module.register_forward_hook(
        lambda _, given, out: found.update(given=given[0].detach(), out=out.detach())
    )
    return found


@pytest.mark.parametrize("name", LAST)
def test_an_image_takes_the_shortcut_or_the_branch_scaled(name):
    block, last, end = LAST[name]
    trunk = Trunk(name).train()
    trunk.unfreeze(block)
    whole = seen(trunk.model.get_submodule(block))
    branch = seen(trunk.model.get_submodule(f"{block}.{last}"))
    norm = trunk.model.get_submodule(f"{block}.{last}").eval()  # as freeze_batchnorm leaves it
    assert not norm.training
    kept = 0
    with drop_paths(trunk, 0.25):
        for _ in range(8):
            trunk(torch.rand(8, 1, 64, 64))
            # `branch` was hooked first: it holds what the norm gives, before a later hook drops it in a ResNet.
            scaled = end(whole["given"] + branch["out"] / 0.75)
            for given, out, expected in zip(whole["given"], whole["out"], scaled, strict=True):
                if torch.allclose(out, end(given), atol=1e-6):
                    continue
                torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
                kept += 1
    assert 36 <= kept <= 60  # of 64, three deviations around 48


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "efficientnet_b0", "timm:tf_efficientnet_lite0",
                                  "timm:test_resnet", "timm:test_convnext", "timm:test_vit"])  # fmt: skip
def test_it_rises_to_the_rate_changes_nothing_in_evaluation_and_is_undone(name):
    trunk, image = Trunk(name, image_size=64 if "vit" in name else None), torch.rand(2, 1, 64, 64)
    names, before = list(trunk.state_dict()), [one.rate for one in residuals(trunk)]
    norms = [module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.ones_(norm.weight)  # timm begins with branches that give nothing
    plain = trunk.eval()(image)
    with drop_paths(trunk, 0.4):
        assert list(trunk.state_dict()) == names
        torch.testing.assert_close(trunk.eval()(image), plain, rtol=0, atol=0)
        held = residuals(trunk)
        if held[0].places:
            assert [one.rate for one in held] == pytest.approx(
                [0.4 * (i + 1) / len(held) for i in range(len(held))]
            )
        trunk.train()
        for norm in norms:
            norm.eval()
        different = {trunk(image).sum().item() for _ in range(6)}
    assert len(different) > 1
    assert [one.rate for one in residuals(trunk)] == before
    torch.testing.assert_close(trunk.eval()(image), plain, rtol=0, atol=0)
    assert all(not module._forward_hooks for module in trunk.modules())


def test_blocks_that_are_frozen_are_never_passed_over():
    trunk = Trunk("timm:tf_efficientnet_lite0")
    trunk.unfreeze("blocks.4")
    with drop_paths(trunk, 0.9):
        rates = [one.rate for one in residuals(trunk)]
        assert [rate > 0 for rate in rates] == [one.learns for one in residuals(trunk)]
        assert rates[-1] == pytest.approx(0.9)
        assert not all(one.learns for one in residuals(trunk))


def test_0_turns_off_what_the_model_came_with():
    trunk = Trunk("efficientnet_b0")
    assert max(one.rate for one in residuals(trunk)) > 0.1
    with drop_paths(trunk, 0.0):
        assert all(one.rate == 0 for one in residuals(trunk))
    assert any(isinstance(module, StochasticDepth) and module.p > 0.1 for module in trunk.modules())


def test_a_trunk_without_residual_blocks_that_learn_is_refused():
    frozen = Trunk("resnet18")
    frozen.freeze()
    for trunk, told in ((Trunk("squeezenet1_1"), "has no residual block that learns. Give"),
                        (frozen, "resnet18 has no residual block that learns; unfreeze some")):  # fmt: skip
        with pytest.raises(ValueError, match=f"drop_path=0.2: .*{told}"), drop_paths(trunk, 0.2):
            pass
        with drop_paths(trunk, 0.0):
            pass


def test_what_is_frozen_drops_nothing_whatever_rate_it_came_with():
    trunk = Trunk("efficientnet_b0")
    trunk.unfreeze("features.6")
    for module in trunk.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.5
    found = {"frozen": seen(trunk.model.features[5]), "learning": seen(trunk.model.features[6])}
    outs = {name: set() for name in found}
    image = torch.rand(1, 1, 64, 64)
    for _ in range(6):
        trunk.train()(image)
        for name, kept in found.items():
            outs[name].add(kept["out"].abs().sum().item())
    assert len(outs["frozen"]) == 1
    assert len(outs["learning"]) > 1
    assert trunk.train().training
    assert not trunk.eval().training
