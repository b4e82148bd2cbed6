"""What frozen first layers give, kept: the same training, without computing them in every step."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from siamura.losses import TripletLoss
from siamura.samplers import PKBatchSampler
from torch.utils.data import TensorDataset

import siamura
from siamura.networks import EmbeddingNet, Trunk
from siamura.training.early_features import LateNet, keep_early_features
from siamura.training.seeds import step_generator

CUTS = {
    "resnet18": "layer3",
    "densenet121": "features.denseblock3",
    "mobilenet_v3_small": "features.6",
    "squeezenet1_1": "features.6",
    "timm:convnext_atto": "stages.2",
    "timm:resnet18": "layer3",
}


def data_of(rows: int = 12, side: int = 64) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (rows, 1, side, side), dtype=torch.uint8, generator=generator)
    return TensorDataset(images, torch.arange(rows) % 2)


@pytest.mark.parametrize(("trunk", "start"), CUTS.items())
def test_both_parts_give_what_the_whole_does(trunk, start):
    net = EmbeddingNet(trunk, dim=4).eval()
    net.trunk.unfreeze(start)
    cut, images = LateNet(net), data_of(3).tensors[0]
    assert cut.start == start
    with torch.inference_mode():
        assert torch.equal(cut(cut.early(images)), net(images))


def test_weights_are_shared_and_counted_once():
    net = EmbeddingNet("squeezenet1_1", dim=4)
    net.trunk.unfreeze("features.6")
    cut = LateNet(net)
    assert {id(w) for w in cut.parameters()} == {id(w) for w in net.parameters()}
    assert cut.trunk is net.trunk


def test_mirror_images_are_drawn_as_the_augmentation_draws():
    data, net = data_of(), EmbeddingNet("squeezenet1_1", dim=4).eval()
    net.trunk.unfreeze("features.6")
    flips = siamura.pixels.Augmentation.preset("flip")
    kept = keep_early_features(net, data, flips, True, accelerator="cpu")
    assert kept is not None
    cut, positions, features = kept
    rows = torch.tensor([3, 1, 4, 1, 5, 9])
    flips.generator.set_state(step_generator(0, 2, 7).get_state())
    with torch.inference_mode():
        wanted = cut.early(flips(data.tensors[0][rows]))
    found = features(rows, step_generator(0, 2, 7))
    assert torch.allclose(found, wanted, rtol=2e-3, atol=2e-3)
    assert features.features.dtype == torch.float16
    assert len(positions) == len(data)


def history_of(cache: bool | None, augment: str | None) -> tuple[np.ndarray, EmbeddingNet]:
    data, net = data_of(), EmbeddingNet("squeezenet1_1", dim=4, seed=1)
    net.trunk.unfreeze("features.9")
    batches = PKBatchSampler(data.tensors[1].numpy(), p=2, k=3, seed=0)
    history = siamura.fit(
        net, data, batches, TripletLoss(), steps=4, lr=1e-4, augment=augment, cache_features=cache,
        freeze_batchnorm=True, ema=0.5, valid=data, progress=False,
    )  # fmt: skip
    return history["loss"].to_numpy(), net


@pytest.mark.parametrize("augment", [None, "flip"])
def test_training_on_kept_features_is_the_same_but_for_half_precision(augment):
    (plain, one), (kept, two), (default, three) = (
        history_of(cache, augment) for cache in (False, True, None)
    )
    assert np.allclose(plain, kept, atol=5e-3)
    assert (kept == default).all()
    assert not two.training
    frozen = [name for name, weight in one.named_parameters() if not weight.requires_grad]
    fresh = EmbeddingNet("squeezenet1_1", dim=4, seed=1).state_dict()
    assert frozen
    assert all(torch.equal(two.state_dict()[name], fresh[name]) for name in frozen)
    assert all(torch.equal(two.state_dict()[name], three.state_dict()[name]) for name in fresh)


def test_what_cannot_be_kept_is_refused_where_asked_for_and_computed_otherwise(caplog):
    with pytest.raises(ValueError, match="no first layers of the trunk are frozen"):
        siamura.fit(
            EmbeddingNet("squeezenet1_1", dim=4), data_of(), [[0, 1, 2, 3]], TripletLoss(), steps=1,
            cache_features=True, progress=False,
        )  # fmt: skip
    with pytest.raises(ValueError, match="changes more than the side"):
        history_of(True, "mura")
    with caplog.at_level(logging.INFO, "siamura"):
        history_of(None, "mura")
    assert "computed in every step" in caplog.text


def test_a_model_that_is_no_chain_is_found_out():
    net = EmbeddingNet("timm:test_vit", dim=4, image_size=64)
    net.trunk.unfreeze("blocks.3")
    with pytest.raises(ValueError, match="cannot be cut"):
        keep_early_features(net, data_of(4), None, True, accelerator="cpu")
    assert keep_early_features(net, data_of(4), None, None, accelerator="cpu") is None


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("resnet18", "layer3"),
        ("vit_b_16", "encoder.layers.encoder_layer_6"),
        ("inception_v3", "Mixed_6d"),
        ("mobilenet_v3_small", "features.7"),
        ("timm:resnet18", "layer3"),
    ],
)
def test_half_of_a_trunk_is_whole_blocks(name, block):
    trunk = Trunk(name)
    assert trunk.block_at(0.5) == block
    assert trunk.block_at(0.0) == trunk.layers()[0].split(".")[0] or trunk.block_at(0.0) in trunk.layers()[0]
    learning = trunk.unfreeze(trunk.block_at(0.5))
    assert 0.35 < len(learning) / len(trunk.layers()) < 0.65
    with pytest.raises(ValueError, match="share"):
        trunk.block_at(1.0)
