"""`fit_classifier`: the systems that siamura is compared with, and ensembles of them."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import TensorDataset

from siamura.networks import Classifier
from siamura.training import Ensemble, fit_classifier, predict_proba, study_weights, train_ensemble

from .conftest import make_data
from .test_fit import assert_same, weights_of

QUIET = {"progress": False, "precision": "32"}


def make_classifier(top="mura", **options):
    return Classifier("squeezenet1_1", top, **options)


def test_it_learns(tmp_path, data, valid):
    net = make_classifier()
    history = fit_classifier(net, data, epochs=12, batch_size=16, valid=valid, out=tmp_path, lr=1e-3, **QUIET)
    assert list(history) == [
        "step", "epoch", "loss", "lr", "accuracy", "valid_loss", "valid_accuracy", "valid_kappa",
    ]  # fmt: skip
    assert len(history) == 36
    assert history["valid_accuracy"].notna().sum() == 12
    assert history["valid_kappa"].max() > 0.8
    p = predict_proba(net, valid, precision="32")
    assert p.shape == (len(valid),)
    accuracy = ((p > 0.5) == valid.tensors[1].numpy()).mean()
    assert accuracy == pytest.approx(history["valid_accuracy"].max())  # the best weights were kept
    again = Classifier.from_pretrained(tmp_path / "model")
    assert np.array_equal(predict_proba(again, valid, precision="32"), p)


def test_weights_by_study_type_are_the_papers():
    table = pd.DataFrame({"part": ["A"] * 5 + ["B"] * 4, "label": [1, 1, 0, 0, 0, 1, 0, 0, 0]})
    expected = [3 / 5, 3 / 5, 2 / 5, 2 / 5, 2 / 5, 3 / 4, 1 / 4, 1 / 4, 1 / 4]
    assert np.allclose(study_weights(table), expected)
    for part in ("A", "B"):
        w, y = study_weights(table)[table["part"] == part], table["label"][table["part"] == part]
        assert w[y == 1].sum() == pytest.approx(w[y == 0].sum())


def test_the_loss_is_weighted_cross_entropy_and_the_penalty():
    data = make_data(count=8)
    data.table = pd.DataFrame({"part": ["A"] * 4 + ["B"] * 4, "label": data.tensors[1].numpy()})
    net = make_classifier("b_vgg19", image_size=32)
    peer = make_classifier("b_vgg19", image_size=32).train()
    with torch.random.fork_rng():
        logits = peer(data.tensors[0])
    y, w = data.tensors[1].double(), torch.from_numpy(study_weights(data.table)).double()
    p = logits.double().sigmoid()
    expected = -(w * (y * p.log() + (1 - y) * (1 - p).log())).mean() + peer.head.penalty()
    history = fit_classifier(net, data, steps=1, batch_size=8, weights="part", **QUIET)
    # SqueezeNet itself drops nothing before its classifier, which is cut off.
    assert history["loss"].iloc[0] == pytest.approx(expected.item(), rel=1e-5)


def test_a_frozen_trunk_stays_and_kept_features_change_nothing(data, valid):
    runs = []
    for cached in (True, False):
        net = Classifier("resnet18", "b_densenet169", hidden=(16, 8))
        net.trunk.freeze()
        trunk = weights_of(net.trunk)
        history = fit_classifier(
            net, data, epochs=3, batch_size=16, valid=valid, cache_features=cached, clip=1.0, **QUIET
        )
        assert_same(weights_of(net.trunk), trunk)
        runs.append((history, weights_of(net)))
    pd.testing.assert_frame_equal(runs[0][0], runs[1][0], rtol=1e-4)
    for name, value in runs[0][1].items():
        assert torch.allclose(value, runs[1][1][name], atol=1e-5), name


def test_features_are_kept_by_themselves_where_that_is_right(data, monkeypatch):
    from siamura.training import classifier

    calls = []
    original = classifier._features
    monkeypatch.setattr(classifier, "_features", lambda *a: calls.append(1) or original(*a))
    net = make_classifier("d")
    net.trunk.freeze()
    fit_classifier(net, data, steps=1, **QUIET)
    assert len(calls) == 1
    fit_classifier(net, data, steps=1, augment="flip", **QUIET)
    assert len(calls) == 1
    with pytest.raises(ValueError, match="cache_features=True needs a frozen trunk"):
        fit_classifier(net, data, steps=1, augment="flip", cache_features=True, **QUIET)


def test_unfreezing_from_a_layer_trains_that_much(data):
    net = make_classifier()
    learning = set(net.trunk.unfreeze("features.12"))
    before = weights_of(net.trunk.model)
    fit_classifier(net, data, steps=2, trunk_lr=1e-2, **QUIET)
    for name, value in net.trunk.model.state_dict().items():
        layer = name.rsplit(".", 1)[0]
        assert torch.equal(value, before[name]) == (layer not in learning), name


@pytest.mark.slow
def test_plateau_and_patience(data, valid):
    net = make_classifier()
    history = fit_classifier(
        net, data, epochs=30, batch_size=48, valid=valid, schedule="plateau", monitor="valid_loss", patience=8,
        lr=1e-12, **QUIET,
    )  # fmt: skip
    # Nothing learns at this rate: measurements differ in the last digits at most.
    assert history["lr"].iloc[0] == pytest.approx(1e-12)
    best = int(history["valid_loss"].to_numpy().argmin())
    assert len(history) == best + 1 + 8
    assert history["lr"].iloc[-1] == pytest.approx(1e-12 * 0.1 ** ((len(history) - 2 - best) // 3), rel=1e-6)


def test_ensembles_average_probabilities(tmp_path, valid):
    nets = [make_classifier(seed=seed) for seed in range(3)]
    ensemble = train_ensemble(lambda seed: (nets[seed], [0.3, 0.1, 0.2][seed]), range(3), keep=2)
    assert ensemble.members == [nets[1], nets[2]]
    p = ensemble.predict_proba(valid, precision="32")
    expected = np.mean([predict_proba(nets[i], valid, precision="32") for i in (1, 2)], axis=0)
    assert np.allclose(p[:, 1], expected)
    assert np.allclose(p.sum(1), 1)
    ensemble.save_pretrained(tmp_path)
    assert np.allclose(Ensemble.from_pretrained(tmp_path).predict_proba(valid, precision="32"), p)
    with pytest.raises(ValueError, match="at least one"):
        Ensemble([])
    with pytest.raises(FileNotFoundError, match="member0"):
        Ensemble.from_pretrained(tmp_path / "member0")


@pytest.mark.slow
def test_metric_networks_and_heads_may_be_members(data, valid):
    from sklearn.neighbors import KNeighborsClassifier

    from siamura.training import embed

    from .conftest import make_net

    net = make_net()
    head = KNeighborsClassifier(3).fit(embed(net, data), data.tensors[1].numpy())
    both = Ensemble([(net, head), make_classifier()]).predict_proba(valid)
    alone = [Ensemble([(net, head)]).predict_proba(valid), Ensemble([make_classifier()]).predict_proba(valid)]
    assert np.allclose(both, np.mean(alone, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        ({"batch_size": 0, "steps": 1}, "batch_size=0"),
        ({"steps": 1, "weights": "study"}, "weights='study'"),
        ({"steps": 1, "weights": [1.0]}, r"weights has shape \(1,\)"),
        ({"steps": 1, "patience": 1}, "valid="),
        ({"steps": 1, "schedule": "plateau"}, "valid="),
        ({"steps": 1, "resume": True}, "out="),
        ({}, "epochs and steps"),
    ],
)
def test_arguments_are_checked(data, options, needle):
    with pytest.raises(ValueError, match=needle):
        fit_classifier(make_classifier(), data, progress=False, **options)


def test_other_labels_are_refused():
    three = TensorDataset(torch.zeros(6, 1, 32, 32, dtype=torch.uint8), torch.arange(6) % 3)
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        fit_classifier(make_classifier(), three, steps=1, progress=False)
