"""A stranger's config.json: no file is opened, nothing fetched, no memory taken, and each fault is a ValueError."""

import json
import resource
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file

import siamura
from siamura.networks import Classifier, EmbeddingNet


@pytest.fixture
def folder(tmp_path):
    EmbeddingNet("squeezenet1_1", dim=8, hidden=(6,), preprocess=siamura.Preprocess(size=64)).save_pretrained(
        tmp_path
    )
    return tmp_path


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("it went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def change(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize(
    ("entries", "needle"),
    [
        ({"weights": "imagenet"}, "'weights' is no entry"),
        ({"weights": "/etc/passwd"}, "'weights' is no entry"),
        ({"seed": 3}, "'seed' is no entry"),
        ({"trunk": "timm:hf-hub:someone/else"}, "must be the name"),
        ({"trunk": "timm:local-dir:/etc"}, "must be the name"),
        ({"trunk": "../../x"}, "must be the name"),
        ({"trunk": "nonesuch"}, "trunk='nonesuch' is unknown"),
        ({"trunk": "timm:nonesuch"}, "unknown to timm"),
        ({"trunk": None}, "must be the name"),
        ({"trunk": "vit_h_14"}, "has 63[0-9]{7} weights"),
        ({"trunk": "timm:vit_giant_patch14_224"}, "has [0-9]{10} weights"),
        ({"dim": 10**9}, "dim=1000000000 must be"),
        ({"dim": 60000}, r"dense layers have \[6, 60000\]"),
        ({"dim": "8"}, "dim='8'"),
        ({"dim": True}, "dim=True"),
        ({"dim": 1e400}, "dim=inf"),
        ({"hidden": [10**12]}, "hidden=1000000000000"),
        ({"hidden": [1] * 1000}, "at most 32 widths"),
        ({"hidden": {"a": 1}}, "hidden="),
        ({"dropout": float("nan")}, "dropout=nan"),
        ({"pool": "exec"}, "pool='exec'"),
        ({"normalize": "no"}, "normalize='no'"),
        ({"image_size": 10**7}, "image_size=10000000"),
        ({"preprocess": {"size": 10**9}}, "preprocess cannot be read"),
        ({"preprocess": [1]}, r"preprocess=\[1\]"),
        ({"preprocess": {"size": 64, "path": "/etc/passwd"}}, "preprocess cannot be read"),
        ({"class": "Popen"}, "class='Popen' is unknown"),
        ({"class": ["EmbeddingNet"]}, "is unknown"),
    ],
)
def test_what_a_config_may_not_say(folder, entries, needle):
    change(folder, **entries)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=needle):
        EmbeddingNet.from_pretrained(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{", "[]", "3", "null", '{"class": 1}', "\x00", '{"a":' * 5000, '"x"', " " * 2_000_000],
)
def test_what_is_no_description(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is no network's description"):
        EmbeddingNet.from_pretrained(folder)


def test_bytes_that_are_no_text(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="is no network's description"):
        EmbeddingNet.from_pretrained(folder)


@pytest.mark.parametrize("cut", [0, 4, 100, 10_000])
def test_weights_that_are_cut(folder, cut):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="cannot be read as weights"):
        EmbeddingNet.from_pretrained(folder)


@pytest.mark.parametrize(
    ("top", "needle"),
    [
        ({"hidden": [10**10]}, "hidden=10000000000"),
        ({"classes": 10**10}, "classes=10000000000"),
        ({"classes": 50_000}, r"dense layers have \[50000"),
        ({"weights": "x"}, "'weights' is no entry"),
        ("mura", "must be an object"),
        ({"pool": "flatten"}, "image_size=2048 does not fit"),
    ],
)
def test_a_classifiers_top(tmp_path, top, needle):
    Classifier("squeezenet1_1").save_pretrained(tmp_path)
    held = json.loads((tmp_path / "config.json").read_text())["top"]
    change(tmp_path, top={**held, **top} if isinstance(top, dict) else top, image_size=2048)
    with pytest.raises(ValueError, match=needle):
        Classifier.from_pretrained(tmp_path)


def test_positions_that_do_not_fit_the_size(tmp_path):
    EmbeddingNet("squeezenet1_1", dim=8).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["trunk.model.encoder.pos_embedding"] = torch.zeros(1, 5, 768)
    save_file(state, tmp_path / "model.safetensors")
    change(tmp_path, trunk="vit_b_32", image_size=2048)
    with pytest.raises(ValueError, match="image_size=2048 does not fit the 4 positions"):
        EmbeddingNet.from_pretrained(tmp_path)


@pytest.mark.slow
def test_all_kinds_still_come_back(tmp_path):
    x = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)
    nets = [
        EmbeddingNet("squeezenet1_1", dim=8, hidden=(16, 4), batch_norm=True, pool="gem"),
        EmbeddingNet("timm:mobilenetv3_small_050", dim=8),
        EmbeddingNet("vit_b_32", dim=8, image_size=64),
        Classifier("squeezenet1_1", "b_vgg19", image_size=64, hidden=(8, 4)),
        Classifier("resnet18", "d"),
    ]
    for number, net in enumerate(nets):
        again = type(net).from_pretrained(net.eval().save_pretrained(tmp_path / str(number)))
        assert torch.equal(again(x), net(x))
        assert again.trunk.weights_given


def test_a_full_disk_is_a_sentence(tmp_path):
    net = EmbeddingNet("squeezenet1_1", dim=8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"model\.safetensors could not be written .*free some space"):
            net.save_pretrained(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
