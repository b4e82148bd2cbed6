"""Weights files: good, prefixed, wrong, cut short, damaged, malicious."""

import hashlib
import os
import pickle

import pytest
import torch
from torchvision import models

from siamura.networks import EmbeddingNet, Trunk, load_weights, read_weights


@pytest.fixture(scope="module")
def published():
    """A torchvision state dict of three channels with its classifier, as a published file holds it."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return models.resnet18(weights=None).state_dict()


def same_as_published(trunk, published):
    own = trunk.model.state_dict()
    assert torch.allclose(own["conv1.weight"], published["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(own["layer4.1.conv2.weight"], published["layer4.1.conv2.weight"])


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net.trunk.model."])
@pytest.mark.parametrize("wrapped", [None, "state_dict", "model"])
def test_prefixes_and_wrappings_are_seen_through(tmp_path, published, prefix, wrapped):
    state = {prefix + name: value for name, value in published.items()}
    state["optimizer.step" if wrapped else prefix + "fc.weight"] = torch.zeros(1)
    torch.save({wrapped: state, "epoch": 3} if wrapped else state, tmp_path / "w.pth")
    same_as_published(Trunk("resnet18", tmp_path / "w.pth"), published)


def test_safetensors_and_the_published_hash(tmp_path, published):
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in published.items()}, tmp_path / "w.safetensors")
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()[:8]
    path = tmp_path / f"resnet18-{digest}.safetensors"
    (tmp_path / "w.safetensors").rename(path)
    same_as_published(Trunk("resnet18", path), published)
    wrong = path.rename(tmp_path / "resnet18-00000000.safetensors")
    with pytest.raises(ValueError, match=rf"damaged.*00000000.*{digest}"):
        Trunk("resnet18", wrong)


def test_old_densenet_names_are_translated(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        state = models.densenet121(weights=None).state_dict()
    old = {}
    for name, value in state.items():
        for part in ("norm", "conv"):
            for number in "12":
                if "denselayer" in name:
                    name = name.replace(f".{part}{number}.", f".{part}.{number}.")
        old[name] = value
    assert any(".norm.1." in name for name in old)
    torch.save(old, tmp_path / "densenet.pth")
    trunk = Trunk("densenet121", tmp_path / "densenet.pth")
    name = "features.denseblock2.denselayer3.conv2.weight"
    assert torch.equal(trunk.model.state_dict()[name], state[name])


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch " + self.path,))


def test_a_malicious_pickle_is_refused_and_does_nothing(tmp_path):
    bomb = Bomb()
    bomb.path = str(tmp_path / "exploded")
    for name, write in (
        ("torch.pth", lambda path: torch.save({"conv1.weight": bomb}, path)),
        ("plain.pth", lambda path: path.write_bytes(pickle.dumps(bomb, protocol=2))),
    ):
        write(tmp_path / name)
        with pytest.raises(ValueError, match="never run"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_a_file_cut_short(tmp_path, published):
    torch.save(published, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.pth.*cut short"):
        Trunk("resnet18", tmp_path / "cut.pth")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.safetensors"):
        read_weights(tmp_path / "empty.safetensors")
    torch.save({"note": "nothing here"}, tmp_path / "none.pth")
    with pytest.raises(ValueError, match="holds no weights"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="is no file"):
        read_weights(tmp_path / "absent.pth")


def test_mismatches_are_listed(tmp_path, published):
    torch.save(published, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"does not fit DenseNet.*missing: features"):
        Trunk("densenet121", tmp_path / "w.pth")
    changed = dict(published)
    del changed["layer1.0.bn1.weight"]
    changed["layer2.0.conv1.weight"] = torch.zeros(3, 3)
    changed["layer9.weight"] = torch.zeros(1)
    torch.save(changed, tmp_path / "changed.pth")
    with pytest.raises(ValueError) as error:
        Trunk("resnet18", tmp_path / "changed.pth")
    told = str(error.value)
    assert "1 missing: layer1.0.bn1.weight" in told
    assert "layer2.0.conv1.weight (3, 3) instead of (128, 64, 3, 3)" in told
    assert "layer9.weight" in told
    trunk = Trunk("resnet18")
    assert load_weights(trunk.model, tmp_path / "changed.pth", strict=False) == ["layer9.weight"]
    assert torch.equal(trunk.model.state_dict()["layer3.0.conv1.weight"], published["layer3.0.conv1.weight"])


def test_without_a_network_the_message_names_file_and_place(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(FileNotFoundError) as error:
        EmbeddingNet("squeezenet1_1", weights="imagenet")
    told = str(error.value)
    assert "squeezenet1_1-b8a52dc0.pth" in told
    assert str(tmp_path / "hub" / "checkpoints") in told
    assert "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth" in told


def test_imagenet_takes_the_file_that_lies_in_its_place(tmp_path, monkeypatch):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = models.squeezenet1_1(weights=None).state_dict()
    place = tmp_path / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.save(state, place / "squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="damaged"):  # its hash is not the published one
        EmbeddingNet("squeezenet1_1", weights="imagenet")


def test_a_saved_network_gives_its_trunk_to_another(tmp_path):
    net = EmbeddingNet("squeezenet1_1", dim=8, seed=3)
    net.save_pretrained(tmp_path)
    again = EmbeddingNet("squeezenet1_1", dim=4, weights=tmp_path / "model.safetensors")
    for name, value in net.trunk.state_dict().items():
        assert torch.equal(value, again.trunk.state_dict()[name]), name
