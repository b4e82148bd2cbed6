"""Uses of `fit` beside the common ones: memories, early stops that are resumed, one-argument augmentation."""

from __future__ import annotations

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.reducers import MeanReducer
from siamura.losses import (
    BatchHardTripletLoss,
    CrossBatchMemory,
    SelectivelyContrastiveLoss,
    TripletLoss,
)
from torch.utils.data import TensorDataset

import siamura
from siamura.networks import Classifier
from siamura.training import Ensemble, embed, fit, fit_classifier, train_ensemble

from .conftest import make_batches, make_net
from .test_fit import assert_same, weights_of


def with_memory(data, valid=None, **options):
    memory = CrossBatchMemory(TripletLoss(0.2), 8, memory_size=64)
    net = make_net()
    history = fit(net, data, make_batches(data), memory, valid=valid, progress=False,
                  **{"steps": 3, **options})  # fmt: skip
    return memory, history, weights_of(net)


def test_a_memory_holds_what_was_trained_on_and_nothing_else(data, valid):
    memory, history, _ = with_memory(data, valid, validate_every=1)
    assert memory.queue_idx == 24  # 3 batches of 8; no validation image among them
    assert history["valid_loss"].notna().all()
    assert history["active_fraction"].between(0, 1).all()
    memory, _, _ = with_memory(data, warmup_loss=TripletLoss(0.2))
    assert memory.queue_idx == 24  # nor a collapsed batch, of which the curriculum asks the loss


def test_a_memory_goes_on_where_it_stood(tmp_path, data):
    whole, wanted, weights = with_memory(data, out=tmp_path / "a", steps=4)
    with_memory(data, out=tmp_path / "b", steps=4, checkpoint_every=2, callbacks=[Stop(2)])
    memory, history, found = with_memory(data, out=tmp_path / "b", steps=4, resume=True)
    pd.testing.assert_frame_equal(history, wanted)
    assert_same(found, weights)
    assert torch.equal(memory.embedding_memory, whole.embedding_memory)
    assert (memory.queue_idx, memory.has_been_filled) == (whole.queue_idx, whole.has_been_filled)


class Stop(pl.Callback):
    """Stop after some step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, *_):
        trainer.should_stop = pl_module.step_done + 1 == self.step


def test_plateau_without_validation_is_refused(data):
    with pytest.raises(ValueError, match=r"plateau.*valid="):
        fit(make_net(), data, make_batches(data), TripletLoss(), steps=1, schedule="plateau")


def test_an_average_follows_the_last_step_of_an_uneven_run(data):
    found = []
    for options in ({}, {"ema": 1e-9}):
        net = make_net()
        fit(net, data, make_batches(data), TripletLoss(), steps=3, accumulate=2, progress=False, **options)
        found.append(weights_of(net))
    for name, weight in found[0].items():
        assert torch.allclose(weight, found[1][name], atol=1e-6), name


def stopping_early(data, valid, out, resume=False, patience=2, **options):
    net = make_net()
    # A rate of nearly nothing: no measurement is better than the first.
    history = fit(net, data, make_batches(data), TripletLoss(), steps=9, lr=1e-12, weight_decay=0.0,
                  valid=valid, validate_every=1, monitor="valid_p1", patience=patience, out=out,
                  resume=resume, progress=False, **options)  # fmt: skip
    return history, weights_of(net)


def test_resuming_a_run_that_stopped_early_leaves_it_stopped(tmp_path, data, valid):
    history, weights = stopping_early(data, valid, tmp_path)
    assert len(history) == 3
    again, same = stopping_early(data, valid, tmp_path, resume=True)
    pd.testing.assert_frame_equal(again, history)
    assert_same(same, weights)
    longer, _ = stopping_early(data, valid, tmp_path, resume=True, patience=4)
    assert len(longer) == 5


class Darker:
    """A data set's own augmentation, of images alone, that draws from torch's generator."""

    def __call__(self, images):
        return (images * torch.rand(len(images), 1, 1, 1)).to(torch.uint8)


def test_augmentation_of_a_data_set_takes_images_alone(data):
    found = []
    for seed in (0, 0, 1):
        own = TensorDataset(*data.tensors)
        own.augment = Darker()
        torch.manual_seed(len(found))  # of no effect
        before = torch.random.get_rng_state()
        history = fit(make_net(), own, make_batches(data), TripletLoss(), steps=2, seed=seed, progress=False)
        assert torch.equal(torch.random.get_rng_state(), before)
        found.append(history["loss"].tolist())
    assert found[0] == found[1]
    assert found[0] != found[2]


class Parts(TensorDataset):
    """Images with a table."""

    def __init__(self, data, labels=None):
        labels = data.tensors[1] if labels is None else labels
        super().__init__(data.tensors[0], labels)
        self.table = pd.DataFrame({"part": "XR_HAND", "label": labels.numpy()})


def test_weights_by_part_go_with_kept_features(data):
    few = Parts(data, (torch.arange(48) % 4 == 0).long())
    found = []
    for cached in (True, False):
        net = Classifier("squeezenet1_1")
        net.trunk.freeze()
        history = fit_classifier(net, few, steps=2, batch_size=16, weights="part", precision="32",
                                 cache_features=cached, progress=False)  # fmt: skip
        found.append(torch.tensor(history["loss"].tolist()))
    assert torch.allclose(*found, atol=1e-5)


def test_unknown_labels_cannot_be_validated_on(data):
    unknown = Parts(data, torch.full((48,), -1))
    with pytest.raises(ValueError, match=r"valid.*-1"):
        fit(make_net(), data, make_batches(data), TripletLoss(), steps=1, valid=unknown)
    with pytest.raises(ValueError, match=r"valid.*-1"):
        fit_classifier(Classifier("squeezenet1_1"), data, steps=1, valid=unknown)


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        ({"patience": 0}, "patience=0"),
        ({"validate_every": 0}, "validate_every=0"),
        ({"checkpoint_every": 0}, "checkpoint_every=0"),
        ({"clip": 0.0}, "clip=0.0"),
        ({"lr_warmup": 30.0}, "lr_warmup=30.0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"trunk_lr": 0.0}, "trunk_lr=0.0.*freeze"),
        ({"warmup_steps": 200.0}, "warmup_steps=200.0"),
    ],
)
def test_numbers_out_of_their_range_are_named(data, valid, options, needle):
    with pytest.raises(ValueError, match=needle):
        fit(make_net(), data, make_batches(data), TripletLoss(), steps=1, valid=valid, **options)


def test_a_wrapper_that_gathers_is_refused(data):
    from siamura.losses import DistributedLossWrapper

    with pytest.raises(ValueError, match="DistributedLossWrapper"):
        fit(make_net(), data, make_batches(data), DistributedLossWrapper(TripletLoss()), steps=1)


def test_images_made_otherwise_are_noticed(data, valid):
    first, second = Parts(data), Parts(valid)
    first.pre, second.pre = siamura.Preprocess(size=32), siamura.Preprocess(size=32, clahe=None)
    net = make_net()
    with pytest.raises(ValueError, match="valid was preprocessed by"):
        fit(net, first, make_batches(data), TripletLoss(), steps=1, valid=second)
    net.preprocess = first.pre
    with pytest.warns(UserWarning, match="images were preprocessed by"):
        embed(net, second, progress=False)


def test_patients_on_both_sides_are_noticed(data, valid):
    first, second = Parts(data), Parts(valid)
    first.table["patient"] = [f"p{row}" for row in range(48)]
    second.table["patient"] = [f"p{row + 46}" for row in range(48)]
    with pytest.warns(UserWarning, match=r"2 patients are in data and valid \(p46, p47\)"):
        fit(make_net(), first, make_batches(data), TripletLoss(), steps=1, valid=second, progress=False)


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_refused(tmp_path, data):
    options = {"steps": 2, "out": tmp_path, "progress": False}
    fit(make_net(), data, make_batches(data), TripletLoss(), **options)
    for other, needle in (
        ({"steps": 4}, "steps 2, now 4"),
        ({"seed": 1}, "seed 0, now 1"),
        ({"schedule": "constant"}, "schedule 'onecycle', now 'constant'"),
        ({"optimizer": "adam"}, "optimizer 'adamw', now 'adam'"),
    ):
        with pytest.raises(ValueError, match=needle):
            fit(make_net(), data, make_batches(data), TripletLoss(), resume=True, **{**options, **other})
    # Where no schedule is laid out over the run, it can be made longer.
    options = {**options, "out": tmp_path / "constant", "schedule": "constant"}
    fit(make_net(), data, make_batches(data), TripletLoss(), **options)
    net, whole = make_net(), make_net()
    history = fit(net, data, make_batches(data), TripletLoss(), resume=True, **{**options, "steps": 4})
    fit(whole, data, make_batches(data), TripletLoss(), steps=4, schedule="constant", progress=False)
    assert history["step"].tolist() == [1, 2, 3, 4]
    assert_same(weights_of(net), weights_of(whole))


@pytest.mark.parametrize(
    "loss",
    [
        lambda: BatchHardTripletLoss("soft"),
        lambda: BatchHardTripletLoss(0.2, distance=LpDistance(normalize_embeddings=False)),
        lambda: BatchHardTripletLoss(0.2, distance=CosineSimilarity()),
    ],
    ids=["soft", "raw distances", "similarities"],
)
def test_the_start_on_all_triplets_suits_the_loss(data, loss):
    net, final = make_net(), loss()
    history = fit(net, data, make_batches(data), final, steps=2, warmup_steps=1, blend=0.0, progress=False)
    assert history["objective"].tolist() == ["TripletLoss", type(final).__name__]
    rows = next(iter(make_batches(data)))
    with torch.no_grad():
        emb = make_net().train()(data.tensors[0][rows])
    distance = LpDistance() if final.distance.is_inverted else final.distance
    first = TripletLoss(0.2, distance=distance, reducer=MeanReducer())(emb, data.tensors[1][rows])
    assert history["loss"].iloc[0] == pytest.approx(float(first), rel=0.02)  # in bf16, where there is that


def test_the_selectively_contrastive_loss_learns_from_the_first_step(data, valid):
    net = make_net()
    history = fit(net, data, make_batches(data), SelectivelyContrastiveLoss(), steps=30, lr=1e-3, valid=valid,
                  validate_every=30, precision="32", progress=False)  # fmt: skip
    assert set(history["objective"]) == {"SelectivelyContrastiveLoss"}
    assert history["valid_kappa"].iloc[-1] > 0.8
    assert history["mean_distance"].iloc[-1] < 0.5  # similarities: 1 were one point


def test_a_smaller_ensemble_is_not_mixed_with_a_larger_one(tmp_path):
    three = Ensemble([Classifier("squeezenet1_1", seed=seed) for seed in range(3)])
    three.save_pretrained(tmp_path)
    (tmp_path / "members.txt").write_text("notes")
    assert len(Ensemble.from_pretrained(tmp_path).members) == 3
    three.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds member2 of a larger ensemble"):
        Ensemble(three.members[:2]).save_pretrained(tmp_path)


def test_a_member_without_a_loss_comes_last():
    losses = [float("nan"), 0.3, 0.1]
    nets = [torch.nn.Linear(1, 1) for _ in losses]
    kept = train_ensemble(lambda seed: (nets[seed], losses[seed]), range(3), keep=2)
    assert kept.members == [nets[2], nets[1]]


def test_images_between_0_and_1_are_refused():
    with pytest.raises(ValueError, match="0 to 255"):
        embed(make_net(), torch.rand(2, 1, 32, 32), progress=False)
