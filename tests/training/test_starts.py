"""How a run with trained weights starts: statistics kept, the head first; and what a run tells of itself."""

import os
import resource
import signal

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from siamura.losses import BatchHardTripletLoss, TripletLoss
from torch import nn

from siamura.networks import Classifier, EmbeddingNet, PairLoss, PairNet
from siamura.training import embed, fit, fit_classifier
from siamura.training import machine as machines
from siamura.training.head_first import head_steps
from siamura.training.machine import prefers_channels_last, resolve_channels_last, resolve_precision

from .conftest import make_batches, make_net
from .test_fit import assert_same, weights_of

QUIET = {"progress": False, "precision": "32"}
CPU = torch.device("cpu")


class Small(nn.Module):
    """A trunk of two convolutions with batch norm."""

    channels, weights_given = 4, False

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 5, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, 2))

    def forward(self, x):
        return self.body(x)


def small_net(trained=False, **options):
    net = EmbeddingNet("squeezenet1_1", dim=4, **options)
    torch.manual_seed(0)
    net.trunk = Small()
    net.trunk.weights_given = trained
    net.head = type(net.head)(4, 4, hidden=(6,), batch_norm=True)
    return net


def statistics(net):
    return {k: v.clone() for k, v in net.state_dict().items() if "running" in k}


@pytest.mark.parametrize(
    ("trained", "option", "frozen"),
    [(False, None, False), (True, None, True), (True, False, False), (False, True, True)],
)
def test_batch_norm_keeps_its_statistics(data, trained, option, frozen):
    net = small_net(trained)
    before, weights = statistics(net), weights_of(net)
    history = fit(net, data, make_batches(data), TripletLoss(), steps=2, freeze_batchnorm=option, **QUIET)
    for name, value in statistics(net).items():
        assert torch.equal(value, before[name]) == (frozen and name.startswith("trunk")), name
    assert not torch.equal(net.trunk.body[1].weight, weights["trunk.body.1.weight"])  # which still learns
    assert history.attrs["freeze_batchnorm"] is frozen


def test_batch_norm_of_a_classifier_too(data, valid):
    net = Classifier("resnet18")
    before = statistics(net)
    fit_classifier(net, data, steps=2, batch_size=8, valid=valid, validate_every=1, keep_best=False,
                   freeze_batchnorm=True, **QUIET)  # fmt: skip
    assert_same(statistics(net), before)


def test_weights_loaded_later_count(tmp_path):
    from siamura.networks import load_weights

    net = make_net()
    assert not net.trunk.weights_given
    net.save_pretrained(tmp_path)
    load_weights(net.trunk, tmp_path / "model.safetensors")
    assert net.trunk.weights_given
    assert make_net(weights=tmp_path / "model.safetensors").trunk.weights_given


def test_the_head_alone_is_a_plain_loop_on_standardised_features(data):
    net, peer = make_net(), make_net()
    trunk = weights_of(net.trunk)
    history = fit(net, data, make_batches(data), TripletLoss(0.2), steps=1, head_first=5, lr=1e-2, trunk_lr=1e-30,
                  weight_decay=0.0, optimizer="sgd", warmup_loss=None, schedule="constant", **QUIET)  # fmt: skip
    peer.eval()
    with torch.no_grad():
        rows = peer.trunk((data.tensors[0].float() - peer.mean) / peer.std).mean((2, 3))
        rows = (rows - rows.mean(0)) / rows.std(0, correction=0).clamp(min=1e-12)
    batches = make_batches(data)
    positions = [p for epoch in (0,) for p in list(batches)][:5]
    optimizer = torch.optim.SGD(peer.head.parameters(), lr=1e-2, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, 5, cycle_momentum=False)
    losses = []
    for chosen in positions:
        loss = TripletLoss(0.2)(peer.head.after_pool(rows[chosen]), data.tensors[1][chosen])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert history.attrs["head_loss"] == pytest.approx(losses, rel=1e-3)
    for name, value in weights_of(net.trunk).items():
        assert torch.allclose(value, trunk[name]), name
    assert len(history) == 1


def test_it_learns_from_features_alone(data, valid):
    net = make_net()
    history = fit(net, data, make_batches(data), BatchHardTripletLoss(0.2), steps=1, head_first=150, lr=1e-2,
                  trunk_lr=1e-30, valid=valid, **QUIET)  # fmt: skip
    loss = history.attrs["head_loss"]
    assert np.mean(loss[-20:]) < 0.6 * np.mean(loss[:5])


class Crash(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, *_):
        if pl_module.step_done == self.step:
            raise SystemError("crash")


def run(kind, out, data, **options):
    options = {"out": out, "steps": 4, "head_first": 6, "checkpoint_every": 2, "trunk_lr": 1e-4,
               "layer_decay": 0.8, "augment": "flip", **QUIET, **options}  # fmt: skip
    if kind == "metric":
        net = make_net(dropout=0.2)
        return fit(net, data, make_batches(data), TripletLoss(0.2), **options), weights_of(net)
    net = Classifier("squeezenet1_1", "b_densenet169", hidden=(8,), dropout=0.3)
    return fit_classifier(net, data, batch_size=16, **options), weights_of(net)


@pytest.mark.parametrize("kind", ["metric", "classifier"])
def test_a_start_by_the_head_is_resumed_exactly(tmp_path, data, kind):
    whole, weights = run(kind, tmp_path / "whole", data)
    assert len(whole.attrs["head_loss"]) == 6
    for step in (0, 3):
        out = tmp_path / str(step)
        with pytest.raises(SystemError):
            run(kind, out, data, callbacks=[Crash(step)])
        again, same = run(kind, out, data, resume=True)
        pd.testing.assert_frame_equal(again, whole)
        assert_same(same, weights)
    with pytest.raises(ValueError, match="head_first 6, now 3"):
        run(kind, tmp_path / "whole", data, resume=True, head_first=3)


def test_a_resumed_run_keeps_what_was_chosen(tmp_path, data):
    options = {"steps": 4, "out": tmp_path, "progress": False, "checkpoint_every": 2}
    with pytest.raises(SystemError):
        fit(small_net(True), data, make_batches(data), TripletLoss(), channels_last=True, callbacks=[Crash(3)],
            **options)  # fmt: skip
    history = fit(small_net(False), data, make_batches(data), TripletLoss(), resume=True, **options)
    assert history.attrs["channels_last"] is True
    assert history.attrs["freeze_batchnorm"] is True


def test_pairs_start_by_the_head_too(data):
    net = PairNet("squeezenet1_1", dim=8)
    before = net.distance.log_scale.item()
    fit(net, data, make_batches(data), PairLoss("bce", head=net.distance), steps=1, head_first=5, **QUIET)
    assert net.distance.log_scale.item() != before


def test_steps_of_the_head():
    assert head_steps(0, 10) == 0
    assert head_steps(7, 10) == 7
    assert head_steps(0.5, 10) == 5
    for wrong in (-1, 1.5, True, float("nan")):
        with pytest.raises(ValueError, match="head_first="):
            head_steps(wrong, 10)


def test_a_network_without_a_head_is_told(data):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1024, 4)

        def forward(self, x):
            return self.layer(x.float().flatten(1))

    with pytest.raises(ValueError, match="head_first needs a network with a trunk and a head"):
        fit(Bare(), data, make_batches(data), TripletLoss(), steps=1, head_first=2, **QUIET)


@pytest.mark.parametrize(
    ("trunk", "depthwise"),
    [("mobilenet_v3_small", True), ("timm:tf_efficientnet_lite0", True), ("convnext_tiny", True),
     ("resnet18", False), ("densenet121", False), ("squeezenet1_1", False)],
)  # fmt: skip
def test_depthwise_trunks_train_in_float32_with_channels_last(monkeypatch, trunk, depthwise):
    monkeypatch.setattr(machines, "_cpu_has_bf16", lambda: True)
    net = EmbeddingNet(trunk, dim=4)
    assert prefers_channels_last(net) is depthwise
    precision = resolve_precision("auto", CPU, net)
    assert precision == ("32" if depthwise else "bf16")
    assert resolve_channels_last(None, precision, CPU, net) is True
    assert resolve_channels_last(None, "32", CPU, net) is depthwise
    assert resolve_channels_last(False, "bf16", CPU, net) is False
    assert resolve_precision("bf16", CPU, net) == "bf16"


def test_a_run_tells_how_it_computed_and_whether_it_ended(data):
    class Ask(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, *_):
            if pl_module.step_done == 1:
                os.kill(os.getpid(), signal.SIGINT)

    history = fit(make_net(), data, make_batches(data), TripletLoss(), steps=2, **QUIET)
    assert history.attrs == {"precision": "32", "channels_last": False, "freeze_batchnorm": False, "drop_path": None,
                             "head_loss": [], "interrupted": False, "steps": 2, "drawn": {0: 4, 1: 4}}  # fmt: skip
    with pytest.warns(RuntimeWarning, match="interrupted after step 2 of 9"):
        history = fit(
            make_net(), data, make_batches(data), TripletLoss(), steps=9, callbacks=[Ask()], **QUIET
        )
    assert history.attrs["interrupted"] is True
    assert (len(history), history.attrs["steps"]) == (2, 9)


def test_a_full_disk_ends_a_run_in_a_sentence(tmp_path, data):
    net = make_net()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(OSError, match=r"checkpoint\.ckpt could not be written .*free some space"):
            fit(
                net,
                data,
                make_batches(data),
                TripletLoss(),
                steps=4,
                out=tmp_path,
                checkpoint_every=2,
                **QUIET,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.rglob("*") if p.suffix == ".ckpt" or "part" in p.name] == []
    assert np.isfinite(embed(net, data, progress=False)).all()  # usable as it is
