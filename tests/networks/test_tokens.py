"""Trunks of tokens: one small model of each family, from a map to a file of ONNX."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from siamura import EmbeddingNet, Preprocess, explain
from siamura.explanation import Logit
from siamura.explanation.maps import activation_map
from siamura.networks import Classifier, Top, Trunk, load_weights
from siamura.networks.tokens import grid_of, map_of
from siamura.training.optimisers import OptimiserSettings

timm = pytest.importorskip("timm", reason='needs pip install "siamura[timm]"')
from timm.models import beit as beits  # noqa: E402
from timm.models import eva, register_model, swin_transformer, vision_transformer  # noqa: E402

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2}


def double(name, make, arguments):
    """Register a small model of a family, so that a trunk is made of it by name."""

    def entry(pretrained=False, **options):
        del pretrained
        for held in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
            options.pop(held, None)
        model = make(**{**arguments, **options})
        model.pretrained_cfg = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.25,) * 3,
                                "fixed_input_size": "dynamic_img_size" not in options}  # fmt: skip
        return model

    entry.__name__, entry.__module__ = name, __name__
    register_model(entry)


__all__ = []  # timm's register writes here
double("small_vit", vision_transformer.VisionTransformer, {"img_size": 32, "patch_size": 8, **SMALL})
double("small_gap", vision_transformer.VisionTransformer,
       {"img_size": 32, "patch_size": 8, "class_token": False, "global_pool": "avg", "reg_tokens": 1,
        **SMALL})  # fmt: skip
double("small_dinov2", vision_transformer.VisionTransformer,
       {"img_size": 42, "patch_size": 14, "init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True,
        **SMALL})  # fmt: skip
double("small_dinov3", eva.Eva,
       {"img_size": 32, "patch_size": 8, "use_rot_pos_emb": True, "use_abs_pos_emb": False, "rope_type": "dinov3",
        "num_reg_tokens": 4, "dynamic_img_size": True, **SMALL})  # fmt: skip
double("small_eva", eva.Eva,
       {"img_size": 32, "patch_size": 8, "use_rot_pos_emb": True, "swiglu_mlp": True, **SMALL})  # fmt: skip
double("small_beit", beits.Beit, {"img_size": 32, "patch_size": 8, "use_rel_pos_bias": True, **SMALL})
double("small_swin", swin_transformer.SwinTransformer,
       {"img_size": 32, "patch_size": 4, "window_size": 4, "embed_dim": 16, "depths": (2, 2),
        "num_heads": (2, 2)})  # fmt: skip
# Name, side of the images, cells of the map, tokens before the patches, whether there is a class token.
FAMILIES = [
    ("small_vit", 32, 4, 1, True),
    ("small_gap", 32, 4, 1, False),
    ("small_dinov2", 42, 3, 5, True),
    ("small_dinov3", 32, 4, 5, True),
    ("small_eva", 32, 4, 1, True),
    ("small_beit", 32, 4, 1, True),
    ("small_swin", 32, 4, None, False),
]
HYBRID = pytest.param("vit_tiny_r_s16_p8_224", 64, 2, 1, True, marks=pytest.mark.slow)


def images(side, count=2):
    return torch.randint(
        0, 256, (count, 1, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


@pytest.mark.parametrize(("name", "side", "cells", "prefix", "has_token"), [*FAMILIES, HYBRID])
def test_a_family_forward_backward_explain_save_and_load(tmp_path, name, side, cells, prefix, has_token):
    film = np.random.default_rng(0).integers(0, 256, (70, 50), dtype=np.uint8)
    for pool in ("avg", "max", "gem", "cls"):
        if pool == "cls" and not has_token:
            with pytest.raises(
                ValueError, match=f'pool="cls" needs a trunk with a class token, and timm:{name} has'
            ):
                EmbeddingNet(f"timm:{name}", dim=4, pool=pool, image_size=side)
            continue
        net = EmbeddingNet(f"timm:{name}", dim=4, pool=pool, preprocess=Preprocess(size=side))
        assert net.trunk.prefix_tokens == prefix
        if pool != "cls":
            found = net.features(images(side))
            assert found.shape == (2, net.trunk.channels, cells, cells)
        net(images(side))[:, 0].sum().backward()
        grads = [weight.grad for weight in net.parameters() if weight.grad is not None]
        assert all(torch.isfinite(grad).all() for grad in grads)
        assert sum(float(grad.abs().sum()) for grad in grads) > 0
        if pool in ("avg", "cls"):
            for method in ("layercam", "gradcam"):
                seen = explain(net, film, Logit(0), method=method)
                assert min(seen.raw.shape) > 1
                assert np.isfinite(seen.heat).all()
            net.save_pretrained(tmp_path / pool)
            again = EmbeddingNet.from_pretrained(tmp_path / pool)
            net.eval()
            assert torch.equal(again(images(side)), net(images(side)))


@pytest.mark.parametrize("name", ["small_vit", "small_dinov3", "small_swin"])
def test_the_map_is_the_tokens_row_by_row(name):
    trunk = Trunk(f"timm:{name}", image_size=32, grey=False).eval()
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out, tokens = trunk(x), trunk.model.forward_features(x.expand(-1, 3, -1, -1))
        if name == "small_dinov3":
            tokens = trunk.model.fc_norm(tokens)  # its top normalises after the average
    for row in range(4):
        for column in range(4):
            if tokens.ndim == 4:
                wanted = tokens[:, row, column]
            else:
                wanted = tokens[:, trunk.prefix_tokens + 4 * row + column]
            assert torch.equal(out[:, :, row, column], wanted)


def test_one_grey_channel_gives_what_three_give():
    for name in ("small_vit", "small_beit", "small_dinov3", "small_swin"):
        grey, wide = (EmbeddingNet(f"timm:{name}", image_size=32, seed=3).trunk for _ in range(2))
        with torch.random.fork_rng():
            torch.manual_seed(5)
            wide = Trunk(f"timm:{name}", image_size=32, grey=False).eval()
            torch.manual_seed(5)
            grey = Trunk(f"timm:{name}", image_size=32).eval()
        assert grey.grey
        x = torch.randn(2, 1, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(grey(x), wide(x), rtol=1e-4, atol=1e-5)


def naive_maps(net, x, block):
    """LayerCAM and Grad-CAM of output 0 at a block's input, by hand: token by token."""
    model = net.trunk.model
    tokens = model.patch_embed((x - net.mean) / net.std)
    tokens = model._pos_embed(tokens)
    for one in model.blocks[:block]:
        tokens = one(tokens)
    tokens = tokens.detach().requires_grad_(True)
    out = tokens
    for one in model.blocks[block:]:
        out = one(out)
    out = model.norm(out)
    pooled = out[:, 0] if net.trunk.output == "class_token" else out[:, 1:].mean(1)
    score = F.normalize(net.head.layers(pooled))[:, 0].sum()
    (gradient,) = torch.autograd.grad(score, tokens)
    layercam, gradcam = torch.zeros(4, 4), torch.zeros(4, 4)
    weights = gradient[0, 1:].mean(0)
    for place in range(16):
        value, slope = tokens[0, 1 + place].detach(), gradient[0, 1 + place]
        layercam[place // 4, place % 4] = (slope.clamp(min=0) * value).sum().clamp(min=0)
        gradcam[place // 4, place % 4] = (weights * value).sum().clamp(min=0)
    return {"layercam": layercam, "gradcam": gradcam}


@pytest.mark.parametrize("pool", ["avg", "cls"])
def test_heat_maps_of_a_transformer_by_hand(pool):
    net = EmbeddingNet("timm:small_vit", dim=4, pool=pool, image_size=32, seed=1).eval()
    x = images(32, 1).float()
    for block, layer in ((1, "trunk.model.blocks.0"),):
        for method, wanted in naive_maps(net, x, block).items():
            found, _ = activation_map(net, x, Logit(0), layer, method)
            assert float(wanted.max()) > 0
            torch.testing.assert_close(found[0], wanted, rtol=1e-3, atol=1e-7)


def test_a_class_token_sees_no_patch_of_the_last_block():
    net = EmbeddingNet("timm:small_vit", dim=4, pool="cls", image_size=32)
    with pytest.raises(ValueError, match=r"depends on no patch of layer='trunk.model.blocks.1'"):
        activation_map(net, images(32, 1).float(), Logit(0), "trunk.model.blocks.1")
    film = np.zeros((40, 40), np.uint8)
    with pytest.raises(ValueError, match="takes the class token"):
        explain(net, film, Logit(0), method="cam", preprocess=Preprocess(size=32))


def test_sizes_that_patches_do_not_fill_are_refused_with_those_that_do():
    net = EmbeddingNet("timm:small_vit", dim=4, image_size=32)
    assert net.features(images(48)).shape[-2:] == (6, 6)  # positions resampled as it runs
    with pytest.raises(ValueError, match=r"patches of 8 px.*size=40\) or size=48"):
        net(images(44))
    fixed = EmbeddingNet("timm:small_beit", dim=4, image_size=32)
    with pytest.raises(ValueError, match=r"made for images of 32 x 32, and got 48 x 48; .* image_size=48"):
        fixed(images(48))


def test_positions_of_a_file_for_another_size_are_resampled_as_timm_does(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = timm.create_model("test_vit", num_classes=0, img_size=160)
    with torch.no_grad():
        model.pos_embed.normal_()
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    trunk = Trunk("timm:test_vit", tmp_path / "vit.pth", image_size=64)
    wanted = timm.layers.resample_abs_pos_embed(model.pos_embed, [4, 4], num_prefix_tokens=1)
    torch.testing.assert_close(trunk.model.pos_embed, wanted)
    assert torch.equal(trunk.model.blocks[3].attn.qkv.weight, model.blocks[3].attn.qkv.weight)
    assert load_weights(trunk, tmp_path / "vit.pth") == []  # into the folded trunk too


def test_freezing_and_rates_by_block():
    net = EmbeddingNet("timm:small_vit", dim=4, image_size=32)
    learning = net.trunk.unfreeze("blocks.1")
    assert learning
    assert all(name.startswith(("blocks.1", "norm")) for name in learning)
    assert not net.trunk.model.pos_embed.requires_grad
    assert net.trunk.layers()[:2] == ["cls_token", "pos_embed"]
    assert net.trunk.unfreeze(0) == net.trunk.layers()
    assert net.trunk.model.cls_token.requires_grad
    groups = OptimiserSettings(lr=1.0, total=4, layer_decay=0.5, weight_decay=0.1).groups(net)
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    model = net.trunk.model
    assert rate[id(net.head.layers[0].weight)] == (1.0, 0.1)
    assert rate[id(model.blocks[1].attn.qkv.weight)] == (1.0, 0.1)
    assert rate[id(model.blocks[0].attn.qkv.weight)] == (0.5, 0.1)
    assert rate[id(model.patch_embed.proj.weight)] == (0.25, 0.1)
    assert rate[id(model.pos_embed)] == rate[id(model.cls_token)] == (0.25, 0.0)


def test_a_classifier_on_the_class_token():
    net = Classifier("timm:small_vit", Top(pool="cls"), image_size=32)
    net(images(32)).sum().backward()
    assert net.trunk.model.cls_token.grad.abs().sum() > 0


def test_names_of_transformers_dinov2(tmp_path):
    trunk = Trunk("timm:small_dinov2", image_size=42)
    held = {}
    for name, value in trunk.model.state_dict().items():
        value = value + torch.randn(value.shape)
        if name == "reg_token":
            continue
        if ".qkv." in name:
            block, kind = name.split(".")[1], name.rpartition(".")[2]
            for third, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                held[f"encoder.layer.{block}.attention.attention.{third}.{kind}"] = part
            continue
        for old, new in (("blocks.", "encoder.layer."), ("attn.proj", "attention.output.dense"),
                         ("ls1.gamma", "layer_scale1.lambda1"), ("ls2.gamma", "layer_scale2.lambda1"),
                         ("patch_embed.proj", "embeddings.patch_embeddings.projection")):  # fmt: skip
            name = name.replace(old, new)
        name = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings",
                "norm.weight": "layernorm.weight", "norm.bias": "layernorm.bias"}.get(name, name)  # fmt: skip
        held[name] = value
    held["embeddings.mask_token"] = torch.zeros(1, 24)
    # Registers: theirs stand apart, and positions hold one for the class token.
    held["embeddings.register_tokens"] = torch.randn(1, 4, 24)
    positions = held["embeddings.position_embeddings"]
    held["embeddings.position_embeddings"] = torch.cat([torch.ones(1, 1, 24), positions], 1)
    torch.save(held, tmp_path / "model.pth")
    filled = Trunk("timm:small_dinov2", tmp_path / "model.pth", image_size=42).model
    block = "encoder.layer.1.attention.attention"
    assert torch.equal(filled.blocks[1].attn.qkv.weight[24:48], held[f"{block}.key.weight"])
    assert torch.equal(filled.reg_token, held["embeddings.register_tokens"])
    torch.testing.assert_close(filled.cls_token, held["embeddings.cls_token"] + 1)
    torch.testing.assert_close(filled.pos_embed, positions)


def test_names_of_radimagenet(tmp_path):
    trunk = Trunk("resnet18")
    parts = [name for name, _ in trunk.model.named_children()]
    held = {}
    for name, value in trunk.model.state_dict().items():
        first, _, rest = name.partition(".")
        held[f"backbone.{parts.index(first)}.{rest}"] = value + 1
    torch.save(held, tmp_path / "ResNet18.pt")
    again = Trunk("resnet18", tmp_path / "ResNet18.pt").model
    assert torch.equal(again.layer3[1].conv2.weight, trunk.model.layer3[1].conv2.weight + 1)


def test_a_pickled_whole_model_is_refused_with_the_recipe(tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3)), tmp_path / "whole.pt")
    with pytest.raises(ValueError, match=r"Sequential\), which is never run.*state_dict\(\), 'weights.pt'"):
        Trunk("resnet18", tmp_path / "whole.pt")


@pytest.fixture
def on_the_hub(tmp_path, monkeypatch):
    """The Hub's cache with one model in it, and no network."""
    hub = pytest.importorskip("huggingface_hub", reason='needs pip install "siamura[hub]"')
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    place = tmp_path / "models--me--tiny" / "snapshots" / ("0" * 40)
    place.mkdir(parents=True)
    (tmp_path / "models--me--tiny" / "refs").mkdir()
    (tmp_path / "models--me--tiny" / "refs" / "main").write_text("0" * 40)
    about = {"architecture": "test_vit", "num_features": 64,
             "pretrained_cfg": {"input_size": [3, 160, 160], "mean": [0.3] * 3, "std": [0.2] * 3,
                                "fixed_input_size": True, "first_conv": "patch_embed.proj",
                                "classifier": "head"}}  # fmt: skip
    (place / "config.json").write_text(json.dumps(about))
    return place


def test_a_timm_model_of_the_hub_is_saved_by_its_architecture(on_the_hub, tmp_path):
    net = EmbeddingNet("timm:hf-hub:me/tiny", dim=4, image_size=64)
    assert net.config["trunk"] == "timm:test_vit"  # no address in a config.json
    assert net.trunk.mean == pytest.approx(0.3)
    net.save_pretrained(tmp_path / "net")
    again = EmbeddingNet.from_pretrained(tmp_path / "net")
    assert torch.equal(again(images(64)), net.eval()(images(64)))


def test_the_hub_is_asked_by_name_alone(on_the_hub):
    with pytest.raises(FileNotFoundError, match='Only weights="imagenet" fetches it'):
        Trunk("timm:hf-hub:me/other")
    with pytest.raises(FileNotFoundError, match="could not be fetched"):  # there are no weights in the cache
        Trunk("timm:hf-hub:me/tiny", "imagenet")
    about = json.loads((on_the_hub / "config.json").read_text()) | {"model_args": {"depth": 3}}
    (on_the_hub / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"a test_vit with other arguments \(depth\)"):
        Trunk("timm:hf-hub:me/tiny")


@pytest.mark.parametrize("name", ["small_vit", *(
    pytest.param(name, marks=pytest.mark.slow) for name in ("small_dinov3", "small_eva", "small_beit", "small_swin")
)])  # fmt: skip
def test_onnx(tmp_path, name):
    onnxruntime = pytest.importorskip("onnxruntime", reason='needs pip install "siamura[onnx]"')
    pytest.importorskip("onnxscript", reason='needs pip install "siamura[onnx]"')
    from siamura.export import to_onnx

    net = EmbeddingNet(
        f"timm:{name}", dim=4, pool="cls" if name != "small_swin" else "avg", image_size=32
    ).eval()
    session = onnxruntime.InferenceSession(str(to_onnx(net, tmp_path / "net.onnx", size=32)))
    with torch.no_grad():
        wanted = net(images(32, 3)).numpy()
    np.testing.assert_allclose(session.run(None, {"image": images(32, 3).numpy()})[0], wanted, atol=1e-4)


def test_grids():
    assert grid_of(9, 30, 30) == (3, 3)
    assert grid_of(0, 8, 8) is None
    tokens = torch.arange(10.0).view(1, 10, 1)
    assert map_of(tokens, (30, 30)).flatten().tolist() == [float(i) for i in range(1, 10)]
    assert map_of(torch.zeros(1, 7), (30, 30)) is None
    last = torch.zeros(1, 4, 4, 4)
    last[0, 1, 2, 3] = 1
    assert map_of(last, (8, 8), channels_last=True)[0, 3, 1, 2] == 1
    assert map_of(last, (8, 8)) is last
