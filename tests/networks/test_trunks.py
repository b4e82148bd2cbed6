"""Every trunk that is named: forward, backward, and one grey channel instead of three."""

import pytest
import torch

from siamura.networks import TRUNKS, EmbeddingNet, Trunk, fold_grey

SIZES = {"inception_v3": 80}
OTHERS = (
    "alexnet",
    "googlenet",
    "mnasnet0_5",
    "mobilenet_v2",
    "regnet_x_400mf",
    "shufflenet_v2_x0_5",
    "swin_t",
)


def images(side: int, count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, side, side), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )


@pytest.mark.parametrize("name", [*TRUNKS, *OTHERS])
def test_every_trunk_gives_a_map_gradients_and_the_grey_output_of_three_channels(name):
    side = SIZES.get(name, 64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wide = Trunk(name, grey=False)
    x = (images(side).float() / 255 - 0.449) / 0.226
    wide.eval()
    with torch.no_grad():
        expected = wide(x)
    assert expected.shape[1] == wide.channels
    fold_grey(wide.model)
    wide.grey = True
    folded = wide(x)
    scale = expected.abs().max()
    assert (folded - expected).abs().max() <= 1e-5 * max(1.0, float(scale))
    folded.square().mean().backward()
    first = next(m for m in wide.modules() if isinstance(m, torch.nn.Conv2d))
    assert first.weight.shape[1] == 1
    assert torch.isfinite(first.weight.grad).all()
    assert first.weight.grad.abs().max() > 0


def test_a_mean_for_each_channel_cannot_be_folded():
    # Why there is one grey mean: padding with zeros stands for another grey in each channel.
    conv = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False)
    grey = torch.rand(1, 1, 8, 8)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    wide = conv(grey - mean)
    fold_grey(model := torch.nn.Sequential(conv))
    folded = model(grey)
    offset = wide - folded
    assert offset[..., 1:-1, 1:-1].std((-2, -1)).max() < 1e-5  # inside, a constant a bias could make good
    assert offset.std((-2, -1)).max() > 1e-3  # at the border, none can


@pytest.mark.parametrize(
    ("name", "needle"),
    [("densnet169", "densenet169"), ("timm:no_such_net", "unknown to timm"), ("fcos", "trunk=")],
)
def test_an_unknown_trunk_is_named_with_what_is_near(name, needle):
    with pytest.raises(ValueError, match=needle):
        Trunk(name)


def test_timm_trunks_work_like_the_others():
    net = EmbeddingNet("timm:resnet10t", dim=8)
    out = net(images(64))
    out.sum().backward()
    assert out.shape == (2, 8)
    assert net.features(images(64)).shape[1] == net.trunk.channels == 512


def test_a_transformer_takes_the_size_it_was_made_for():
    net = EmbeddingNet("vit_b_32", dim=8, image_size=64)
    assert net.features(images(64)).shape == (2, 768, 2, 2)
    with pytest.raises(ValueError, match="at least 64"):
        net(images(32))


def test_small_images_are_refused_in_words():
    with pytest.raises(ValueError, match=r"inception_v3 needs images of at least 75 px.*size=299"):
        EmbeddingNet("inception_v3", dim=8)(images(64))


def test_unfreezing_by_name_number_and_share():
    trunk = Trunk("resnet18")
    names = trunk.layers()
    assert trunk.unfreeze("layer4") == [n for n in names if n.startswith("layer4")]
    learning = {n for n, p in trunk.model.named_parameters() if p.requires_grad}
    assert learning
    assert all(n.startswith("layer4") for n in learning)
    assert trunk.unfreeze(-2) == names[-2:]
    assert len(trunk.unfreeze(0.5)) == len(names) - round(0.5 * len(names))
    assert trunk.unfreeze(0) == names
    trunk.freeze()
    assert not any(p.requires_grad for p in trunk.parameters())
    with pytest.raises(ValueError, match="no layer of resnet18; it has"):
        trunk.unfreeze("layer9")
    with pytest.raises(ValueError, match="beyond"):
        trunk.unfreeze(1000)


def test_frozen_layers_keep_their_batch_statistics():
    trunk = Trunk("resnet18")
    trunk.unfreeze("layer4")
    trunk.train()
    before = {n: b.clone() for n, b in trunk.named_buffers()}
    trunk(torch.randn(4, 1, 32, 32))
    for name, buffer in trunk.named_buffers():
        if "running" in name:
            assert torch.equal(before[name], buffer) == ("layer4" not in name), name
    trunk.freeze()
    trunk.train()
    assert not any(m.training for m in trunk.modules())
