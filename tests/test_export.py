"""ONNX files against PyTorch."""

import json

import numpy as np
import pytest
import torch

from siamura import CLAHE, EmbeddingNet, KNNHead, MLPHead, Preprocess
from siamura.export import to_onnx
from siamura.index import fingerprint

onnxruntime = pytest.importorskip("onnxruntime", reason='needs pip install "siamura[onnx]"')
pytest.importorskip("onnxscript", reason='needs pip install "siamura[onnx]"')


@pytest.fixture(scope="module")
def head() -> MLPHead:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 8)).astype(np.float32)
    return MLPHead(hidden=(4,), epochs=3).fit(x, (x[:, 0] > 0).astype(int))


def run(path, images):
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


@pytest.mark.parametrize(
    ("trunk", "size", "pool"),
    [
        ("squeezenet1_1", 64, "avg"),
        ("resnet18", 96, "avg"),
        ("resnet18", 64, "located"),
        pytest.param("densenet169", 96, "avg", marks=pytest.mark.slow),
        pytest.param("resnet50", 224, "avg", marks=pytest.mark.slow),
    ],
)
def test_network_and_head_equal_pytorch(tmp_path, head, trunk, size, pool):
    pre = Preprocess(size=size, clahe=CLAHE(3.0, (4, 4)), fit="squash")
    net = EmbeddingNet(trunk, dim=8, preprocess=pre, pool=pool).train()
    if pool == "located":
        torch.nn.init.normal_(net.head.pool.finer.weight, std=0.1)
    with torch.no_grad():
        for _ in range(3):  # batch norm's statistics must be the exported ones
            net(torch.randint(0, 256, (4, 1, size, size), dtype=torch.uint8))
    written = to_onnx(net, tmp_path / "deep" / "net.onnx", head)
    assert net.training
    assert all(weight.requires_grad for weight in net.parameters())
    assert sorted(p.name for p in written.parent.iterdir()) == ["net.json", "net.onnx"]
    about = json.loads(written.with_suffix(".json").read_text())
    assert Preprocess.from_dict(about["preprocessing"]) == pre
    assert about["fingerprint"] == fingerprint(net)
    assert about["classes"] == [0, 1]
    net.eval()
    for n in (1, 2, 5):
        images = np.random.default_rng(n).integers(0, 256, (n, 1, size, size), dtype=np.uint8)
        found = run(written, images)
        with torch.no_grad():
            embedding = net(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(found["embedding"], embedding, atol=1e-4)
        np.testing.assert_allclose(found["probability"], head.predict_proba(embedding), atol=1e-4)


def test_network_alone(tmp_path):
    net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=Preprocess(size=64))
    found = run(to_onnx(net, tmp_path / "a.onnx"), np.zeros((2, 1, 64, 64), np.uint8))
    assert list(found) == ["embedding"]
    assert "classes" not in json.loads((tmp_path / "a.json").read_text())


@pytest.mark.slow
def test_a_difference_is_not_written(tmp_path, monkeypatch):
    import siamura.export as export

    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="differs from PyTorch"):
        to_onnx(EmbeddingNet("squeezenet1_1", dim=8), tmp_path / "a.onnx", size=64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.pt", {"size": 64}, r"must end in \.onnx"),
        ("a.onnx", {}, "size is missing"),
        ("a.onnx", {"size": 64, "dim": 5}, "head takes 8 dimensions, and the network gives 5"),
        ("a.onnx", {"size": 64, "pre": 96}, "size=64 differs from the 96"),
    ],
)
def test_refuses(tmp_path, head, name, options, message):
    pre = Preprocess(size=options.pop("pre")) if "pre" in options else None
    net = EmbeddingNet("squeezenet1_1", dim=options.pop("dim", 8), preprocess=pre)
    with pytest.raises(ValueError, match=message):
        to_onnx(net, tmp_path / name, head, **options)
    assert not list(tmp_path.iterdir())


def test_refuses_what_is_no_embedding_network(tmp_path):
    with pytest.raises(TypeError, match="net is a Linear; give an EmbeddingNet"):
        to_onnx(torch.nn.Linear(2, 2), tmp_path / "a.onnx", size=8)


@pytest.mark.slow
def test_tokens_with_a_class_token_too(tmp_path):
    net = EmbeddingNet("vit_b_32", dim=8, image_size=32).eval()
    written = to_onnx(net, tmp_path / "net.onnx", size=32)
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)
    for n in (1, 3):
        with torch.no_grad():
            wanted = net(torch.from_numpy(images[:n])).numpy()
        np.testing.assert_allclose(run(written, images[:n])["embedding"], wanted, atol=1e-4)


def test_heads_that_cannot_be_exported(tmp_path):
    net = EmbeddingNet("squeezenet1_1", dim=8)
    for head, needle in (
        (MLPHead(), "is not fitted; call head.fit"),
        (KNNHead(), "is no network; give an MLPHead"),
    ):
        with pytest.raises(ValueError, match=needle):
            to_onnx(net, tmp_path / "net.onnx", head, size=64)


def test_what_onnx_cannot_express_is_a_sentence(tmp_path):
    class Odd(EmbeddingNet):
        def forward(self, x):
            return super().forward(x) if float(x.sum()) > 3 else super().forward(x) * 2.0

    with pytest.raises(RuntimeError, match=r"squeezenet1_1 cannot be exported to ONNX .*Nothing was written"):
        to_onnx(Odd("squeezenet1_1", dim=8), tmp_path / "net.onnx", size=64)
    assert list(tmp_path.iterdir()) == []
