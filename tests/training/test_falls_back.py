"""`keep_best`: where training does not help, the trunk stays as given."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from siamura.losses import BatchHardTripletLoss
from torch import nn

from siamura.heads import MLPHead
from siamura.training import embed, fit
from siamura.training.callbacks import Validation

from .conftest import make_batches, make_net

QUIET = {"progress": False, "precision": "32", "keep_best": True, "on_collapse": None}


class Spoil(pl.Callback):
    """The network forgets everything with the first step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        for p in pl_module.parameters():
            p.data.zero_()


def given_net():
    net = make_net()
    net.trunk.weights_given = True
    return net


def trunk_of(net):
    return {name: value.clone() for name, value in net.trunk.state_dict().items()}


@pytest.mark.parametrize("options", [{}, {"head_first": 20}, {"classify": 1.0}, {"monitor": "valid_p1"}])
def test_the_trunk_as_given_stays_where_training_spoils_it(data, valid, caplog, options):
    net = given_net()
    before = trunk_of(net)
    with caplog.at_level("WARNING"):
        fit(net, data, make_batches(data), BatchHardTripletLoss(margin=0.2), steps=8, valid=valid, validate_every=4,
            callbacks=[Spoil()], lr=1e-3, **QUIET, **options)  # fmt: skip
    assert "training did not help" in caplog.text
    assert all(torch.equal(before[name], value) for name, value in net.trunk.state_dict().items())
    assert embed(net, valid, progress=False).std(axis=0).max() > 0.05  # with a head, and not the spoilt one
    if "classify" in options:  # the classifier was trained with the head, so that it can be taken
        labels = data.tensors[1].numpy()
        assert MLPHead.from_network(net, labels).score(embed(net, data, progress=False), labels) > 0.6


def test_of_a_loss_less_is_better(caplog):
    first, later = nn.Linear(1, 1), nn.Linear(1, 1)
    for net, loss in ((first, 0.3), (later, 0.4)):
        nn.init.constant_(net.weight, loss)

    def measure(net):
        return {"valid_loss": float(net.weight)}

    watch = Validation(measure, 1, 1, monitor="valid_loss", keep_best=True, frozen=first)
    watch.best = -0.4  # as measured of `later`
    ends = nn.Linear(1, 1)
    watch.finish(ends)
    assert float(ends.weight) == pytest.approx(0.3)
    assert (
        "valid_loss is 0.300 with the trunk as given and a head trained on it, and 0.400 at its best"
        in caplog.text
    )
    watch.best, watch.weights = -0.2, later.state_dict()
    watch.finish(ends)
    assert float(ends.weight) == pytest.approx(0.4)


def test_of_a_trunk_whose_first_layers_are_kept_as_features_too(data, valid, caplog):
    net = given_net()
    net.trunk.unfreeze("features.9")
    before = trunk_of(net)
    fit(net, data, make_batches(data), BatchHardTripletLoss(margin=0.2), steps=4, valid=valid, validate_every=2,
        callbacks=[Spoil()], cache_features=True, augment="none", **QUIET)  # fmt: skip
    assert "training did not help" in caplog.text
    assert all(torch.equal(before[name], value) for name, value in net.trunk.state_dict().items())


def test_training_that_helps_is_kept(data, valid, caplog):
    net = given_net()
    before = trunk_of(net)
    history = fit(net, data, make_batches(data), BatchHardTripletLoss(margin=0.2), steps=40, valid=valid,
                  validate_every=20, lr=1e-3, monitor="valid_kappa", **QUIET)  # fmt: skip
    assert history["valid_kappa"].max() > 0.8
    assert "did not help" not in caplog.text
    assert any(not torch.equal(before[name], value) for name, value in net.trunk.state_dict().items())


def test_a_trunk_from_scratch_has_nothing_to_fall_back_on(data, valid, caplog):
    net = make_net()
    fit(net, data, make_batches(data), BatchHardTripletLoss(margin=0.2), steps=2, valid=valid, validate_every=1,
        callbacks=[Spoil()], **QUIET)  # fmt: skip
    assert "did not help" not in caplog.text


def test_a_resumed_run_knows_what_it_has_to_beat(data, valid, tmp_path, caplog):
    net = given_net()
    before = trunk_of(net)
    how = {"valid": valid, "validate_every": 2, "steps": 6, "out": tmp_path, "checkpoint_every": 2, **QUIET}

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 3:
                raise KeyboardInterrupt

    with pytest.warns(RuntimeWarning, match="interrupted"):
        fit(net, data, make_batches(data), BatchHardTripletLoss(0.2), callbacks=[Spoil(), Stop()], **how)
    again = given_net()
    caplog.clear()
    fit(again, data, make_batches(data), BatchHardTripletLoss(0.2), callbacks=[Spoil()], resume=True, **how)
    assert "training did not help" in caplog.text
    assert all(torch.equal(before[name], value) for name, value in again.trunk.state_dict().items())
