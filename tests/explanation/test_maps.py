"""The maps against hand computation and captum, and networks left as they were."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from siamura.explanation import (
    METHODS,
    Logit,
    activation_map,
    capture_layer,
    choose_layer,
    choose_layers,
    frozen_eval,
    smooth_map,
)
from siamura.explanation.hooks import find_layer


class TwoLayers(nn.Module):
    """A convolution with two 1 x 1 filters, ReLU in place, global average pooling, one linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.relu = nn.ReLU(inplace=True)
        self.top = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([2.0, -1.0]).view(2, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor([-1.0, 1.0]))
            self.top.weight.copy_(torch.tensor([[0.0, 0.0], [3.0, -5.0]]))

    def forward(self, x):
        return self.top(self.relu(self.conv(x)).mean((2, 3)))


IMAGE = torch.tensor([[[[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]]]])
# By hand. conv: A1 = 2x - 1 = [-1 1 3 / 5 -3 0], A2 = 1 - x = [1 0 -1 / -2 2 .5].
A1 = np.array([[-1.0, 1.0, 3.0], [5.0, -3.0, 0.0]])
A2 = np.array([[1.0, 0.0, -1.0], [-2.0, 2.0, 0.5]])
# d score / d A1 = 3/6 where A1 > 0, d score / d A2 = -5/6 where A2 > 0: 3 cells of 6 each.
G1, G2 = 0.5 * (A1 > 0), -5 / 6 * (A2 > 0)


def by_hand(method):
    if method == "gradcam":  # weights 3 * 0.5 / 6 = 1/4 and -3 * 5/6 / 6 = -5/12
        return np.maximum(A1 / 4 - A2 * 5 / 12, 0)
    if method == "gradcam++":
        alpha = np.where(G1 != 0, G1**2 / np.where(G1 != 0, 2 * G1**2 + A1.sum() * G1**3, 1), 0)
        return np.maximum((alpha * G1).sum() * A1, 0)  # the second channel's gradients are all below 0
    if method == "layercam":
        return np.maximum(G1 * A1, 0)
    return np.maximum(3 * np.maximum(A1, 0) - 5 * np.maximum(A2, 0), 0)  # cam: the linear layer's own weights


@pytest.mark.parametrize("method", METHODS)
def test_by_hand(method):
    maps, scores = activation_map(TwoLayers(), IMAGE, Logit(1), "conv", method)
    np.testing.assert_allclose(maps[0].numpy(), by_hand(method), atol=1e-6)
    np.testing.assert_allclose(scores, [3 * 9 / 6 - 5 * 3.5 / 6], atol=1e-6)


def test_gradcam_weights_written_out():
    """The same once more with every number written down."""
    maps, _ = activation_map(TwoLayers(), IMAGE, Logit(1), "conv", "gradcam")
    expected = [[0.0, 0.25, 0.75 + 5 / 12], [1.25 + 5 / 6, 0.0, 0.0]]
    np.testing.assert_allclose(maps[0].numpy(), expected, atol=1e-6)


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6, 3),
    ).eval()


@pytest.mark.parametrize("layer", ["0", "1", "3"])
def test_gradcam_equals_captum(layer):
    from captum.attr import LayerGradCam

    net = small()
    x = torch.rand(3, 1, 12, 10)
    maps, _ = activation_map(net, x, Logit(2), layer)
    # A fresh network whose ReLUs are not in place: captum keeps what they would overwrite.
    plain = small()
    for module in plain.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    expected = LayerGradCam(plain, dict(plain.named_modules())[layer]).attribute(x, 2, relu_attributions=True)
    torch.testing.assert_close(maps, expected[:, 0].detach(), atol=1e-6, rtol=1e-5)


def test_smooth_with_zero_noise_is_the_map_itself():
    net, x = small(), torch.rand(1, 1, 12, 12)
    maps, _ = activation_map(net, x, Logit(0), "3")
    torch.testing.assert_close(smooth_map(net, x, Logit(0), "3", noise=0), maps[0], atol=0, rtol=0)
    tiny = smooth_map(net, x, Logit(0), "3", noise=1e-9, samples=5)
    torch.testing.assert_close(tiny, maps[0], atol=1e-6, rtol=1e-5)


def test_smooth_is_the_mean_over_noisy_copies_by_hand():
    net, x = small(), torch.rand(1, 1, 12, 12)
    generator = torch.Generator().manual_seed(3)
    deviation = 0.2 * float(x.max() - x.min())
    copies = [x + deviation * torch.randn(x.shape, generator=generator) for _ in range(7)]
    expected = torch.stack([activation_map(net, c, Logit(1), "3")[0][0] for c in copies]).mean(0)
    for batch_size in (1, 3, 16):
        found = smooth_map(net, x, Logit(1), "3", samples=7, noise=0.2, seed=3, batch_size=batch_size)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    other = smooth_map(net, x, Logit(1), "3", samples=7, noise=0.2, seed=4)
    assert not torch.allclose(other, expected)


def test_smooth_leaves_the_global_random_state():
    net, x = small(), torch.rand(1, 1, 12, 12)
    state = torch.get_rng_state()
    smooth_map(net, x, Logit(1), "3", samples=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_inplace_relu_of_densenet_does_not_reach_what_was_kept():
    from torchvision.models import densenet121

    net = densenet121(weights=None).eval()
    x = torch.rand(1, 3, 64, 64)
    kept = []
    handle = net.features.register_forward_hook(lambda _, __, out: kept.append(out))
    overwritten = net.features.register_forward_hook(lambda _, __, out: out.clone())
    net(x)
    handle.remove()
    overwritten.remove()
    with frozen_eval(net), capture_layer(net, "features") as seen:
        net(x)
        assert (seen.activation < 0).any()
        torch.testing.assert_close(seen.activation, kept[0])
    # A plain hook keeps what F.relu(inplace=True) overwrites: without the copy this test could not fail.
    handle = net.features.register_forward_hook(lambda _, __, out: kept.append(out))
    with torch.no_grad():
        net(x)
    handle.remove()
    assert not (kept[-1] < 0).any()


class TestNothingLeaks:
    @staticmethod
    def state(net):
        return (
            [m.training for m in net.modules()],
            [p.requires_grad for p in net.parameters()],
            [p.grad is None for p in net.parameters()],
            [
                len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks)
                for m in net.modules()
            ],
            {k: v.clone() for k, v in net.state_dict().items()},
        )

    @pytest.fixture
    def mixed(self):
        net = small().train()
        net[1].eval()
        net[0].weight.requires_grad_(False)
        net[3].register_forward_hook(lambda *_: None)
        return net

    def same(self, before, after):
        assert before[:4] == after[:4]
        for name, value in before[4].items():
            assert torch.equal(value, after[4][name]), name

    @pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam", "cam"])
    def test_after_success(self, mixed, method):
        before = self.state(mixed)
        activation_map(mixed, torch.rand(2, 1, 9, 9), Logit(0), "3", method)
        smooth_map(mixed, torch.rand(1, 1, 9, 9), Logit(0), "3", samples=2)
        choose_layer(mixed, torch.rand(1, 1, 9, 9))
        self.same(before, self.state(mixed))

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
    def test_after_failure(self, mixed, error):
        before = self.state(mixed)

        def target(_: object) -> None:
            raise error("stop")

        with pytest.raises(error):
            activation_map(mixed, torch.rand(1, 1, 9, 9), target, "3")
        failing = mixed[8].register_forward_hook(lambda *_: target(None))
        with pytest.raises(error):
            choose_layer(mixed, torch.rand(1, 1, 9, 9))
        failing.remove()
        self.same(before, self.state(mixed))

    def test_under_no_grad_and_inference_mode(self, mixed):
        x = torch.rand(1, 1, 9, 9)
        expected = activation_map(mixed, x, Logit(0), "3")[0]
        with torch.no_grad():
            assert torch.equal(activation_map(mixed, x, Logit(0), "3")[0], expected)
            assert not torch.is_grad_enabled()
        with torch.inference_mode():
            assert torch.equal(activation_map(mixed, x, Logit(0), "3")[0], expected)
            assert torch.equal(activation_map(mixed, x.clone(), Logit(0), "3")[0], expected)
            assert torch.is_inference_mode_enabled()


def test_cam_refuses_what_pooling_does_not_follow():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 49, 2))
    with pytest.raises(ValueError, match="global average pooling"):
        activation_map(net, torch.rand(1, 1, 9, 9), Logit(0), "0", "cam")


@pytest.mark.parametrize(
    ("layer", "method", "target", "message"),
    [
        ("nope", "gradcam", Logit(0), "layer='nope' is no module"),
        ("8", "gradcam", Logit(0), r"gives \(1, 3\); a feature map"),
        ("3", "grad", Logit(0), "method='grad' is unknown"),
        ("3", "gradcam", lambda out: out, "one score each"),
        ("3", "gradcam", lambda out: torch.zeros(1), "does not depend on layer='3'"),
        (nn.ReLU(), "gradcam", Logit(0), "is no part of Sequential"),
    ],
)
def test_refuses(layer, method, target, message):
    with pytest.raises(ValueError, match=message):
        activation_map(small(), torch.rand(1, 1, 9, 9), target, layer, method)


def test_refuses_a_layer_that_runs_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            return self.conv(self.conv(x)).mean((2, 3))

    with pytest.raises(ValueError, match="ran 2 times"):
        activation_map(Twice(), torch.rand(1, 1, 9, 9), Logit(0), "conv")


def test_choose_layer_takes_the_deepest_with_enough_cells():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(2, 2, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    x = torch.rand(1, 1, 16, 16)
    assert [choose_layer(net, x, cells) for cells in (2, 4, 5, 8, 9, 16, 99)] == [
        "3",
        "3",
        "2",
        "2",
        "0",
        "0",
        "0",
    ]
    with pytest.raises(ValueError, match="no layer with a feature map"):
        choose_layer(nn.Sequential(nn.Flatten(), nn.Linear(256, 2)), x)


def test_choose_layers_takes_the_end_of_every_stage():
    net = nn.Sequential(
        nn.Conv2d(1, 9, 3, padding=1),  # 16 x 16: finer than a quarter, left out
        nn.MaxPool2d(4),
        nn.Conv2d(9, 6, 3, padding=1),  # 4 x 4, fewer channels than before it
        nn.Conv2d(6, 12, 3, padding=1),
        nn.ReLU(),  # 4 x 4, the most channels, the last of them
        nn.Conv2d(12, 5, 3, padding=1),
        nn.AvgPool2d(2),
        nn.Flatten(),
    )
    assert choose_layers(net, torch.rand(1, 1, 16, 16)) == ["4", "6"]
    fine = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten())
    assert choose_layers(fine, torch.rand(1, 1, 16, 16)) == ["0"]
    with pytest.raises(ValueError, match="no layer with a feature map"):
        choose_layers(nn.Sequential(nn.Flatten(), nn.Linear(256, 2)), torch.rand(1, 1, 16, 16))


def test_find_layer_takes_names_and_modules():
    net = small()
    assert find_layer(net, net[3])[0] == "3"
    assert find_layer(net, "3")[1] is net[3]


def side(net, x, layer):
    with capture_layer(net, layer) as seen, torch.no_grad():
        net.eval()(x)
    return seen.activation.shape[-1]


@pytest.mark.parametrize("trunk", ["densenet121", "resnet18", "efficientnet_b0", "vgg16", "convnext_tiny"])
def test_every_kind_of_trunk(trunk):
    from siamura.networks import EmbeddingNet

    net = EmbeddingNet(trunk, dim=4)
    x = 255 * torch.rand(1, 1, 64, 64)
    assert [side(net, x, layer) for layer in choose_layers(net, x)] == [16, 8, 4, 2]
    for layer in (choose_layer(net, x), "trunk"):
        maps, scores = activation_map(net, x, lambda e: e[:, 0], layer)
        assert maps.isfinite().all()
        assert maps.min() >= 0
        torch.testing.assert_close(scores, net.eval()(x)[:, 0].detach(), atol=1e-5, rtol=1e-4)
    assert (
        activation_map(net, x, lambda e: F.cosine_similarity(e, torch.ones(1, 4)), "trunk")[0].shape[1] == 2
    )
