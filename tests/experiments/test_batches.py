"""How the classes share a batch."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from siamura.losses import TripletLoss
from siamura.samplers import PKBatchSampler
from torch.utils.data import TensorDataset

from siamura.experiments import Experiment
from siamura.experiments.batches import draw_batches, drawn_classes, images_of_each
from siamura.experiments.running import start_run
from siamura.networks import EmbeddingNet
from siamura.report.checklist import _imbalance
from siamura.training import fit


def table_of(counts, part="XR_HAND"):
    label = np.repeat(np.arange(len(counts)), counts)
    return pd.DataFrame({"label": label, "patient": np.arange(len(label)).astype(str), "part": part})


@given(
    counts=st.lists(st.integers(60, 2000), min_size=2, max_size=5),
    balance=st.floats(0, 0.99),
    k=st.integers(2, 12),
)
def test_the_numbers_fill_the_batch_and_are_as_near_as_they_can_be(counts, balance, k):
    labels = np.repeat(np.arange(len(counts)), counts)
    settings = Experiment(p=len(counts), k=k, class_balance=balance)
    found = images_of_each(settings, labels)
    assert sum(found.values()) == k * len(counts)
    assert min(found.values()) >= 2
    wanted = k * len(counts) * (balance / len(counts) + (1 - balance) * np.array(counts) / sum(counts))
    if wanted.min() >= 2:
        assert np.abs(np.array(list(found.values())) - wanted).max() < 1


def test_by_default_classes_are_alike_from_scratch_and_a_quarter_so_with_weights(tmp_path):
    labels = np.repeat([0, 1], [820, 180])
    assert images_of_each(Experiment(), labels) == 16
    assert images_of_each(Experiment(weights="imagenet"), labels) == {0: 24, 1: 8}
    assert images_of_each(Experiment(weights="imagenet", class_balance=1.0), labels) == 16
    assert images_of_each(Experiment(weights="imagenet", class_balance=0.0), labels) == {0: 26, 1: 6}


def test_a_batch_of_some_classes_has_them_alike():
    labels = np.arange(90) % 3
    assert images_of_each(Experiment(weights="imagenet"), labels) == 16
    with pytest.raises(ValueError, match=r"class_balance=0.5: .* 3 classes and p=2. Give p=3"):
        images_of_each(Experiment(class_balance=0.5), labels)


def test_a_part_that_cannot_hold_the_shares_has_them_alike(caplog):
    # Each part has 16 views of a label, but the hands no 24 without a fracture.
    table = pd.concat([table_of([20, 60]), table_of([400, 40], "XR_WRIST")], ignore_index=True)
    settings = Experiment(weights="imagenet")
    assert drawn_classes(settings, table) == {0: 16, 1: 16}
    assert not caplog.messages  # said once, where they are drawn
    assert Counter(table["label"].iloc[next(iter(draw_batches(settings, table)))]) == {0: 16, 1: 16}
    assert caplog.text.count("each class has 16 images in a batch") == 1


def test_batches_that_mix_parts_say_so_once(caplog):
    table = pd.concat([table_of([40, 20]), table_of([30, 3], "XR_WRIST")], ignore_index=True)
    settings = Experiment(k=4)
    assert drawn_classes(settings, table) == {0: 4, 1: 4}
    batches = draw_batches(settings, table)
    assert [line for line in caplog.messages if "mix" in line] == [
        "batches mix the parts: XR_WRIST has fewer than 4 views of a label, too few for batches of its own"
    ]
    parts = table["part"].to_numpy()
    assert any(len(set(parts[batch])) == 2 for batch in batches)


def test_the_sampler_draws_what_is_said():
    table = table_of([300, 100])
    settings = Experiment(class_balance=0.0, k=8)
    assert drawn_classes(settings, table) == {0: 12, 1: 4}
    for batch in draw_batches(settings, table):
        assert Counter(table["label"].iloc[batch]) == {0: 12, 1: 4}


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "half", True])
def test_other_values_are_refused(value):
    with pytest.raises(ValueError, match="class_balance"):
        Experiment(class_balance=value)


def test_the_checklist_says_what_a_batch_holds():
    data = {"labels": {"train": {"normal": 300, "fracture": 100}}}
    config = {"experiment": {"p": 2, "k": 16}, "data": data, "batches": {"normal": 24, "fracture": 8}}
    record = SimpleNamespace(config=config)
    assert _imbalance(record).endswith("300 normal, 100 fracture; a batch holds 24 normal, 8 fracture")
    config["batches"] = {"normal": 16, "fracture": 16}
    assert _imbalance(record).endswith("batches hold as many images of each label (p 2, k 16)")


def test_a_run_of_an_earlier_default_is_not_gone_on_with(tmp_path):
    settings = Experiment(weights="imagenet")
    recipe = {name: value for name, value in settings.recipe().items() if name != "class_balance"}
    (tmp_path / "config.json").write_text(json.dumps({"experiment": settings.to_dict(), "recipe": recipe}))
    with pytest.raises(ValueError, match=r"whose class_balance was 1.0 by default; it is 0.25 now"):
        start_run(settings, tmp_path, resume=True)
    scratch = Experiment()
    (tmp_path / "config.json").write_text(json.dumps({"experiment": scratch.to_dict()}))
    assert start_run(scratch, tmp_path, resume=True) == tmp_path


@pytest.mark.parametrize(("k", "drawn"), [(4, {0: 4, 1: 4}), ({0: 6, 1: 2}, {0: 6, 1: 2})])
def test_a_training_says_what_its_own_batches_held(k, drawn):
    # Whoever draws batches by hand is not given the experiment's shares for the prior.
    images, labels = torch.randint(0, 255, (24, 1, 32, 32), dtype=torch.uint8), torch.arange(24) % 2
    batches = PKBatchSampler(labels, p=2, k=k)
    net = EmbeddingNet("squeezenet1_1", dim=4)
    history = fit(net, TensorDataset(images, labels), batches, TripletLoss(0.2), steps=1, progress=False)
    assert history.attrs["drawn"] == drawn
