"""A cross-entropy beside the metric loss, and the classifier that it leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from siamura.losses import BatchHardTripletLoss, TripletFocalLoss
from siamura.samplers import PKBatchSampler
from torch.utils.data import TensorDataset

import siamura
from siamura.heads import MLPHead
from siamura.networks import EmbeddingNet
from siamura.networks.embedding_head import Neck


def data_of(classes: int = 2, rows: int = 24) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (rows, 1, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(rows) % classes
    for label in range(classes):
        images[labels == label, :, 8 * label : 8 * label + 8] += 150
    return TensorDataset(images, labels)


def small(**options: object) -> EmbeddingNet:
    return EmbeddingNet("squeezenet1_1", dim=8, seed=1, **options)  # type: ignore[arg-type]


def trained(data: TensorDataset, net: EmbeddingNet, **options: object) -> object:
    labels = data.tensors[1].numpy()
    classes = len(np.unique(labels))
    batches = PKBatchSampler(labels, p=classes, k=4, seed=0)
    chosen: dict[str, object] = {"steps": 8, "lr": 1e-3, "classify": 1.0, "progress": False, **options}
    return siamura.fit(net, data, batches, TripletFocalLoss(), **chosen)  # type: ignore[arg-type]


def test_loss_is_the_sum_of_its_terms():
    data, net = data_of(), small()
    history = trained(data, net, classify=0.5)
    total = history["metric_loss"] + 0.5 * history["classification_loss"]
    assert np.allclose(history["loss"], total, atol=1e-6)


def test_the_first_step_has_the_losses_of_a_plain_computation():
    data, net = data_of(), small(classes=2)
    with torch.no_grad():
        images, labels = (values[[0, 2, 4, 6, 1, 3, 5, 7]] for values in data.tensors)
        net.train()
        emb = net(images)
        metric = BatchHardTripletLoss()(emb, labels)
        entropy = torch.nn.functional.cross_entropy(net.logits(emb), labels)
    net = small(classes=2)
    history = siamura.fit(
        net, data, [[0, 2, 4, 6, 1, 3, 5, 7]], BatchHardTripletLoss(), steps=1, classify=2.0, progress=False
    )
    row = history.iloc[0]
    assert row["metric_loss"] == pytest.approx(float(metric), abs=1e-5)
    assert row["classification_loss"] == pytest.approx(float(entropy), abs=1e-5)
    assert row["loss"] == pytest.approx(float(metric + 2.0 * entropy), abs=2e-5)


def test_a_hard_loss_trains_from_the_first_step():
    history = trained(data_of(), small())
    assert (history["share"] == 1.0).all()
    assert set(history["objective"]) == {"TripletFocalLoss"}


@pytest.mark.parametrize("classes", [2, 3])
def test_it_learns_classes_and_gives_a_head(classes):
    data, net = data_of(classes), small()
    trained(data, net, steps=40, lr=3e-3)
    labels = data.tensors[1].numpy()
    head = MLPHead.from_network(net, labels)
    emb = siamura.embed(net, data, progress=False)
    assert head.score(emb, labels) == 1.0
    assert head.predict_proba(emb).shape == (len(labels), classes)


def test_the_head_is_the_neck_with_the_prior_of_the_labels():
    net = small(classes=3)
    assert net.neck is not None
    with torch.no_grad():  # statistics as a training leaves them
        for values in (net.neck.norm.running_mean, net.neck.norm.weight, net.neck.norm.bias):
            values.uniform_(0.5, 1.5)
        net.neck.norm.running_var.uniform_(0.01, 0.2)
    net.eval()
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    with torch.no_grad():
        logits = net.logits(torch.from_numpy(x)).double().numpy()
    plain = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([0] * 6 + [1] * 3 + [2])
    even = MLPHead.from_network(net, labels, balanced=False).predict_proba(x)
    assert np.allclose(even, plain, atol=1e-5)
    odds = plain * np.array([0.6, 0.3, 0.1])
    assert np.allclose(
        MLPHead.from_network(net, labels).predict_proba(x), odds / odds.sum(1, keepdims=True), atol=1e-5
    )


def test_the_head_knows_how_many_of_each_class_a_batch_held():
    net, x = small(classes=3), np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    labels = [0] * 6 + [1] * 3 + [2]
    plain = MLPHead.from_network(net, labels, balanced=False).predict_proba(x)
    # The network saw 0.5, 0.25, 0.25; the labels are 0.6, 0.3, 0.1.
    odds = plain * np.array([0.6 / 0.5, 0.3 / 0.25, 0.1 / 0.25])
    head = MLPHead.from_network(net, labels, drawn={0: 16, 1: 8, 2: 8})
    assert np.allclose(head.predict_proba(x), odds / odds.sum(1, keepdims=True), atol=1e-5)
    alike = MLPHead.from_network(net, labels, drawn={0: 4, 1: 4, 2: 4})
    assert np.allclose(alike.predict_proba(x), MLPHead.from_network(net, labels).predict_proba(x), atol=1e-6)
    natural = MLPHead.from_network(net, labels, drawn={0: 12, 1: 6, 2: 2})
    assert np.allclose(natural.predict_proba(x), plain, atol=1e-5)
    for drawn, balanced, said in (({0: 4, 1: 4}, True, r"drawn\[2\]"), ({0: 4}, False, "balanced=False")):
        with pytest.raises(ValueError, match=said):
            MLPHead.from_network(net, labels, drawn=drawn, balanced=balanced)


def test_a_class_without_rows_is_no_class_of_the_head():
    head = MLPHead.from_network(small(classes=3), [0, 2, 2])
    assert head.classes_.tolist() == [0, 2]
    assert head.predict_proba(np.zeros((1, 8))).shape == (1, 2)


def test_network_and_head_come_back_from_a_folder(tmp_path: Path):
    data, net = data_of(), small()
    trained(data, net)
    net.save_pretrained(tmp_path / "model")
    again = EmbeddingNet.from_pretrained(tmp_path / "model")
    x = torch.randn(4, 8)
    assert torch.equal(net.logits(x), again.logits(x))
    head = MLPHead.from_network(net, data.tensors[1].numpy())
    head.save(tmp_path / "mlp")
    loaded = MLPHead.load(tmp_path / "mlp")
    assert loaded.source_ == "network"
    assert (loaded.predict_proba(x.numpy()) == head.predict_proba(x.numpy())).all()


def test_a_config_that_differs_from_its_weights_is_refused(tmp_path: Path):
    small(classes=2).save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    for other in ('"classes": 5', '"classes": 70000', '"classes": 1'):
        (tmp_path / "config.json").write_text(config.replace('"classes": 2', other))
        with pytest.raises(ValueError, match="classes"):
            EmbeddingNet.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(config.replace('"classes": 2,', ""))
    with pytest.raises(ValueError, match="classes=0"):
        EmbeddingNet.from_pretrained(tmp_path)


def test_resumed_it_ends_bit_identically(tmp_path: Path):
    data, whole, parts = data_of(), small(), small()
    trained(data, whole, steps=6, out=tmp_path / "whole", checkpoint_every=3)

    class Stop(siamura.training.engine.pl.Callback):  # type: ignore[name-defined, misc]
        def on_train_batch_end(self, trainer, module, *_):
            if module.step_done == 4:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        trained(data, parts, steps=6, out=tmp_path / "parts", checkpoint_every=3, callbacks=[Stop()])
    again = small()
    trained(data, again, steps=6, out=tmp_path / "parts", checkpoint_every=3, resume=True)
    states = whole.state_dict(), again.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_cannot_be_classified_is_refused():
    data = data_of()
    with pytest.raises(ValueError, match="classify"):
        trained(data, small(), classify=-1.0)
    odd = TensorDataset(data.tensors[0], data.tensors[1] - 1)
    with pytest.raises(ValueError, match="codes from 0 on"):
        siamura.fit(small(), odd, [[0, 1, 2, 3]], TripletFocalLoss(), steps=1, classify=1.0, progress=False)
    with pytest.raises(ValueError, match="2 classes, and data has labels up to 2"):
        trained(data_of(3), small(classes=2))
    with pytest.raises(ValueError, match="no classifier"):
        small().logits(torch.zeros(1, 8))
    with pytest.raises(ValueError, match="no classifier"):
        MLPHead.from_network(small(), [0, 1])
    with pytest.raises(ValueError, match="classes=1"):
        Neck(8, 1)
