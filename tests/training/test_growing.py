"""Progressive resizing, and activations that are computed again."""

import numpy as np
import pytest
import torch
from siamura.losses import TripletLoss
from torch import nn

from siamura.networks import Classifier, EmbeddingNet
from siamura.training import fit, fit_classifier
from siamura.training.growing import check_start_size, side_at
from siamura.training.recomputing import _blocks, recomputed

from .conftest import make_batches, make_data, make_net


class Sides:
    """An augmentation's place to look at what the network gets."""

    def __init__(self, net):
        self.seen = []
        net.trunk.register_forward_pre_hook(self)

    def __call__(self, module, given):
        if module.training:
            self.seen.append(given[0].shape[-1])


@pytest.fixture(scope="module")
def larger():
    return make_data(count=16, side=96)


@pytest.mark.parametrize("train", [fit, fit_classifier])
def test_images_grow_over_the_run(larger, train):
    metric = train is fit
    net = make_net() if metric else Classifier("squeezenet1_1")
    sides = Sides(net)
    given = (make_batches(larger), TripletLoss()) if metric else ()
    train(net, larger, *given, steps=9, start_size=32, augment=None, progress=False)
    assert sides.seen == [32, 32, 64, 64, 96, 96, 96, 96, 96]


def test_sides_go_from_the_first_to_the_full_one():
    for total in (1, 2, 5, 50):
        for start, full in ((32, 96), (64, 224), (100, 224), (96, 100)):
            sides = [side_at(step, total, start, full) for step in range(total)]
            assert sides[0] == start
            assert sides == sorted(sides)
            assert max(sides) <= full
            assert total < 50 or sides[2 * total // 3 + 1] == full


def test_a_run_is_resumed_with_its_own_sizes(tmp_path, larger):
    def train(start, resume):
        fit(make_net(), larger, make_batches(larger), TripletLoss(), steps=2, start_size=start, out=tmp_path,
            schedule="constant", precision="32", progress=False, resume=resume)  # fmt: skip

    train(32, False)
    train(32, True)
    with pytest.raises(ValueError, match="start_size 32, now 64"):
        train(64, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_size": 96}, "start_size=96 must be smaller than the images, which have 96 x 96"),
        ({"start_size": 16}, "start_size=16"),
        ({"start_size": 64, "cache_features": True}, "start_size and cache_features=True exclude each other"),
    ],
)
def test_refused_sizes(larger, options, message):
    with pytest.raises(ValueError, match=message):
        fit(make_net(), larger, make_batches(larger), TripletLoss(), steps=1, **options)


class Fixed(nn.Module):
    """As torchvision's transformers: of one image size."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        torch._assert(x.shape[-1] == 96, "Wrong image height!")
        return x * self.weight


def test_a_network_of_one_size_refuses_others():
    with pytest.raises(
        ValueError, match=r"start_size=64: the network does not take .* \(Wrong image height!\)"
    ):
        check_start_size(Fixed(), 64, torch.zeros(1, 1, 96, 96))


def kept_bytes(net, images):
    """Bytes that a forward pass keeps for the backward pass."""
    total = 0

    def pack(tensor):
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = net(images)
    return out, total


@pytest.mark.parametrize("trunk", ["resnet18", "timm:test_efficientnet", "timm:test_vit"])
def test_recomputing_keeps_less_and_gives_the_same(trunk):
    images = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    found = []
    for again in (False, True):
        net = EmbeddingNet(trunk, dim=8, image_size=64, dropout=0.5, seed=0).train()
        torch.manual_seed(0)
        if again:
            with recomputed(net):
                assert len(_blocks(net.trunk)) > 1
                out, kept = kept_bytes(net, images)
                out.square().sum().backward()
        else:
            out, kept = kept_bytes(net, images)
            out.square().sum().backward()
        weights = {name: weight.grad for name, weight in net.named_parameters() if weight.grad is not None}
        found.append((kept, weights, dict(net.named_buffers())))
    (kept, gradients, buffers), (less, same_gradients, same_buffers) = found
    assert less < 0.7 * kept
    assert gradients.keys() == same_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(same_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    for name, value in buffers.items():
        torch.testing.assert_close(same_buffers[name], value, msg=name)
    assert all("forward" not in vars(module) for module in net.modules())


def test_a_run_that_recomputes_ends_where_one_that_keeps_does(larger):
    ends = []
    for again in (False, True):
        net = EmbeddingNet("resnet18", dim=8)
        net.trunk.unfreeze(0.5)
        fit(net, larger, make_batches(larger), TripletLoss(), steps=2, ema=0.5, recompute=again, precision="32",
            augment=None, progress=False)  # fmt: skip
        ends.append(np.concatenate([weight.detach().numpy().ravel() for weight in net.parameters()]))
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-4)


def test_recomputing_needs_a_trunk():
    with (
        pytest.raises(ValueError, match="recompute needs a network with a trunk; a Linear has none"),
        recomputed(nn.Linear(2, 2)),
    ):
        pass
