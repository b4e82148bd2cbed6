"""Stochastic depth as an option of both trainings."""

import numpy as np
import pandas as pd
import pytest
import torch
from siamura.losses import TripletLoss

from siamura.networks import Classifier, EmbeddingNet
from siamura.networks.drop_path import residuals
from siamura.training import fit, fit_classifier

from .conftest import make_batches, make_data, make_net
from .test_fit import assert_same, weights_of
from .test_starts import Crash

QUIET = {"progress": False, "augment": None, "precision": "32"}


@pytest.fixture(scope="module")
def few():
    return make_data(count=16, side=32)


def resnet(trained=True, start="layer3", **options):
    net = EmbeddingNet("resnet18", dim=8, **options)
    net.trunk.weights_given = trained
    net.trunk.unfreeze(start)
    return net


@pytest.mark.parametrize(
    ("trunk", "trained", "start", "option", "used"),
    [
        ("resnet18", True, "layer4", None, 0.2),
        ("resnet18", True, "layer4", 0.0, 0.0),
        ("resnet18", False, "layer4", None, None),
        ("resnet18", False, "layer4", 0.5, 0.5),
        ("resnet18", True, None, None, None),  # no block learns
        ("efficientnet_b0", True, "features.8", None, None),  # has a rate of its own
        ("squeezenet1_1", True, 0, None, None),  # has no residual block
    ],
)
def test_what_is_used(few, trunk, trained, start, option, used):
    net = EmbeddingNet(trunk, dim=8)
    net.trunk.weights_given = trained
    net.trunk.unfreeze(start)
    before = [one.rate for one in residuals(net.trunk)]
    history = fit(net, few, make_batches(few), TripletLoss(), steps=1, drop_path=option, **QUIET)
    assert history.attrs["drop_path"] == used
    assert [one.rate for one in residuals(net.trunk)] == before
    assert all(not module._forward_hooks for module in net.modules())


def test_it_makes_a_difference_and_the_seed_decides_which(few):
    ends = [
        fit(resnet(), few, make_batches(few), TripletLoss(), steps=3, drop_path=rate, seed=seed, **QUIET)[
            "loss"
        ]
        for rate, seed in ((0.0, 0), (0.0, 1), (0.5, 0), (0.5, 0), (0.5, 1))
    ]
    assert (ends[0] == ends[1]).all()
    assert (ends[2] == ends[3]).all()
    assert (ends[0] != ends[2]).all()
    assert (ends[2] != ends[4]).all()


def test_on_kept_features_the_same_blocks_are_passed_over(few):
    found = [
        fit(resnet(), few, make_batches(few), TripletLoss(), steps=3, lr=1e-4, drop_path=0.5, cache_features=kept,
            **QUIET)["loss"].to_numpy()
        for kept in (False, True)
    ]  # fmt: skip
    np.testing.assert_allclose(found[0], found[1], atol=5e-3)
    assert np.ptp(found[0]) > 0.02


def test_a_resumed_run_goes_on_as_it_would_have(few, tmp_path):
    def run(out, trained, **options):
        net = resnet(trained)
        history = fit(net, few, make_batches(few), TripletLoss(), steps=5, out=out, checkpoint_every=2, **QUIET,
                      **options)  # fmt: skip
        return history, weights_of(net)

    history, weights = run(tmp_path / "whole", True)
    with pytest.raises(SystemError):
        run(tmp_path / "parts", True, callbacks=[Crash(3)])
    again, same = run(tmp_path / "parts", False, resume=True, freeze_batchnorm=True)
    assert again.attrs["drop_path"] == 0.2
    pd.testing.assert_frame_equal(again, history)
    assert_same(same, weights)


def test_a_classifier_takes_it_where_it_is_asked_for(few):
    net = Classifier("resnet18")
    net.trunk.weights_given = True
    assert fit_classifier(net, few, steps=1, batch_size=8, **QUIET).attrs["drop_path"] is None
    losses = [
        fit_classifier(Classifier("resnet18"), few, steps=2, batch_size=8, drop_path=rate, **QUIET)["loss"]
        for rate in (0.0, 0.5)
    ]
    assert (losses[0] != losses[1]).all()


def test_networks_that_have_nothing_to_pass_over_are_refused(few):
    with pytest.raises(ValueError, match=r"drop_path=0\.2: squeezenet1_1 has no residual block that learns"):
        fit(make_net(), few, make_batches(few), TripletLoss(), steps=1, drop_path=0.2, **QUIET)
    frozen = Classifier("resnet18")
    frozen.trunk.freeze()
    with pytest.raises(ValueError, match=r"drop_path=0\.3: no residual block of a trunk learns"):
        fit_classifier(frozen, few, steps=1, batch_size=8, drop_path=0.3, **QUIET)
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 32, 4))
    with pytest.raises(ValueError, match="no residual block of a trunk learns"):
        fit(plain, few, make_batches(few), TripletLoss(), steps=1, drop_path=0.1, **QUIET)
    with pytest.raises(ValueError, match=r"drop_path=1\.0"):
        fit(make_net(), few, make_batches(few), TripletLoss(), steps=1, drop_path=1.0, **QUIET)
