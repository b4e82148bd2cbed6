"""A pooling that looks for places, and the maps that it looks at."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from siamura.networks import EmbeddingNet, Trunk
from siamura.networks.locator import LocatedPool, halving_block, joined, watched


def test_it_begins_as_the_mean_and_then_looks_where_the_logits_are():
    pool, x = LocatedPool(2), torch.rand(3, 2, 4, 5)
    mean = x.mean((-2, -1))
    torch.testing.assert_close(pool(x), torch.cat([mean, mean], dim=1))
    with torch.no_grad():
        pool.layer.weight[0, 0] = 1e5  # the place of the first channel's maximum
    at = x[:, 0].flatten(1).argmax(dim=1)
    wanted = x.flatten(2)[torch.arange(3), :, at]
    torch.testing.assert_close(pool(x)[:, 2:], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("densenet121", ("features.transition3", 1024)),
        ("resnet18", ("layer4", 256)),
        ("efficientnet_b0", ("features.6", 112)),
        ("mobilenet_v3_small", ("features.9.block", 48)),
        ("vgg11", None),  # it ends with a pooling
        ("swin_t", None),  # channels last
        ("timm:test_vit", None),  # tokens
        ("timm:test_resnet", ("layer4.0", 192)),
    ],
)
def test_the_block_that_halves_the_map(name, wanted):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    trunk = Trunk(name)
    trunk.unfreeze(-1)
    modes = [module.training for module in trunk.modules()]
    found = halving_block(trunk)
    assert found == wanted
    assert [module.training for module in trunk.modules()] == modes
    assert not any(module._forward_hooks for module in trunk.modules())
    if found is not None:
        net = EmbeddingNet(name, dim=8, pool="located").eval()
        with watched(net) as logits:
            net(torch.zeros(1, 1, 64, 64))
        last, finer = logits
        assert net.head.pool.finer.in_channels == wanted[1]
        assert finer.shape[-1] == 2 * last.shape[-1]
        assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "timm:test_vit"])
def test_a_saved_network_says_the_same(name, tmp_path):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    net = EmbeddingNet(name, dim=8, pool="located", image_size=64).eval()
    with torch.no_grad():
        for layer in filter(None, (net.head.pool.layer, net.head.pool.finer)):
            layer.weight.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    again = EmbeddingNet.from_pretrained(net.save_pretrained(tmp_path))
    with torch.inference_mode():
        assert net(x).shape == (2, 8)
        torch.testing.assert_close(again(x), net(x))
        torch.testing.assert_close(again.located(x), net.located(x))
        assert net.located(x).ndim == 3


def test_the_finer_map_is_pooled_where_its_logits_are():
    net = EmbeddingNet("resnet18", dim=8, pool="located").eval()
    x = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    finer = []
    handle = net.trunk.model.layer4.register_forward_pre_hook(lambda _, given: finer.append(given[0]))
    with torch.inference_mode():
        last = net.features(x)
        pooled = net.head.pool(last)
        assert pooled.shape == (2, 512 + 512 + 256)
        torch.testing.assert_close(pooled[:, 1024:], finer[0].mean((-2, -1)))
        net.head.pool.finer.weight[0, 7] = 1e4
        net.features(x)
        at = finer[0][:, 7].flatten(1).argmax(dim=1)
        wanted = finer[0].flatten(2)[torch.arange(2), :, at]
        torch.testing.assert_close(net.head.pool(last)[:, 1024:], wanted, rtol=1e-3, atol=1e-3)
    handle.remove()


def test_threads_and_copies_do_not_mix():
    net = EmbeddingNet("resnet18", dim=8, pool="located").eval()
    images = [torch.randint(0, 256, (1, 1, side, side), dtype=torch.uint8) for side in (64, 96, 128, 160) * 4]
    with torch.inference_mode(), ThreadPoolExecutor(4) as pool:
        alone = [net(x) for x in images]
        for one, other in zip(alone, pool.map(torch.inference_mode()(net), images), strict=True):
            torch.testing.assert_close(one, other)
    net.features(images[0])  # leaves a map with a gradient behind
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.head.pool.kept is not net.head.pool.kept
        with torch.inference_mode():
            torch.testing.assert_close(other(images[1]), alone[1])


def test_a_head_alone_says_what_it_needs():
    net = EmbeddingNet("resnet18", dim=8, pool="located")
    with pytest.raises(RuntimeError, match="call the network, or its features right before"):
        net.head(torch.zeros(1, 512, 2, 2))


def test_maps_are_joined_at_the_finest():
    small, large = torch.tensor([[[1.0]]]), torch.tensor([[[1.0, 3.0], [5.0, 7.0]]])
    assert joined([small, large]).tolist() == [[[1.0, 2.0], [3.0, 4.0]]]


def test_another_pooling_says_what_is_wrong():
    net = EmbeddingNet("squeezenet1_1", dim=8)
    with pytest.raises(ValueError, match='a network with pool="avg" does not say where'):
        net.located(torch.zeros(1, 1, 64, 64))
