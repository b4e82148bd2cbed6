"""PKBatchSampler with a number of items for each label."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from siamura.samplers import PKBatchSampler


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    labels = draw(st.integers(1, 4))
    k = {label: draw(st.integers(1, 7)) for label in range(labels)}
    sizes = [rng.integers(k[label], k[label] + 30) for label in range(labels)]
    y = rng.permutation(np.repeat(np.arange(labels), sizes))
    groups = rng.integers(0, draw(st.integers(1, 60)), len(y)) if draw(st.booleans()) else None
    length = draw(st.one_of(st.none(), st.integers(1, 40)))
    return {
        "labels": y,
        "p": labels,
        "k": k,
        "groups": groups,
        "length": length,
        "seed": draw(st.integers(0, 9)),
    }


@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=cases())
def test_every_batch_has_its_number_of_each_label_and_all_items_come_in_turn(case):
    sampler = PKBatchSampler(**case)
    assert sampler.batch_size == sum(case["k"].values())
    drawn = Counter()
    batches = list(sampler)
    assert len(batches) == len(sampler) == (case["length"] or len(batches))
    for batch in batches:
        assert Counter(case["labels"][batch].tolist()) == case["k"]
        assert len(set(batch)) == len(batch)
        drawn.update(batch)
        for label in case["k"]:
            times = [drawn[i] for i in np.flatnonzero(case["labels"] == label).tolist()]
            assert max(times) - min(times) <= 1
    if case["length"] is None:
        assert len(drawn) == len(case["labels"])


def test_equal_numbers_draw_what_one_number_draws():
    y = np.arange(60) % 3
    assert list(PKBatchSampler(y, 3, {0: 4, 1: 4, 2: 4}, seed=5)) == list(PKBatchSampler(y, 3, 4, seed=5))


def test_groups_come_from_different_patients():
    y, patient = np.repeat([0, 1], [60, 20]), np.arange(80) // 2
    for batch in PKBatchSampler(y, 2, {0: 12, 1: 4}, groups=patient):
        assert len(set(patient[batch])) == 16


def test_ranks_split_a_batch_and_domains_keep_it():
    y, part = np.tile(np.repeat([0, 1], [30, 10]), 2), np.repeat(["hand", "leg"], 40)
    whole = list(PKBatchSampler(y, 2, {0: 6, 1: 2}, within=part))
    ranks = [list(PKBatchSampler(y, 2, {0: 6, 1: 2}, within=part, rank=r, world_size=2)) for r in (0, 1)]
    for batch, first, second in zip(whole, *ranks, strict=True):
        assert len(set(part[batch])) == 1
        assert sorted(first + second) == sorted(batch)
        assert Counter(y[first]) == Counter(y[second]) == {0: 3, 1: 1}


def test_a_state_passes_through_json_and_goes_on():
    y = np.repeat(["no", "yes"], [30, 10])
    whole = list(PKBatchSampler(y, 2, {"no": 6, "yes": 2}, seed=3))
    stopped = PKBatchSampler(y, 2, {"no": 6, "yes": 2}, seed=3)
    first = [batch for _, batch in zip(range(2), stopped, strict=False)]
    again = PKBatchSampler(y, 2, {"no": 6, "yes": 2}, seed=3)
    again.load_state_dict(json.loads(json.dumps(stopped.state_dict(2))))
    assert first + list(again) == whole
    with pytest.raises(ValueError, match="another k"):
        PKBatchSampler(y, 2, {"no": 5, "yes": 3}, seed=3, length=len(whole)).load_state_dict(
            stopped.state_dict()
        )


@pytest.mark.parametrize(
    ("p", "k", "said"),
    [
        (2, {0: 3}, "lacks the label 1"),
        (2, {0: 3, 1: 2, 7: 1}, "the data lack, 7"),
        (1, {0: 3, 1: 2}, "p=1 must be 2"),
        (2, {0: 3, 1: 0}, r"k\[1\]=0"),
        (2, {0: 3, 1: 5}, "label 1 has 4; use fewer of it"),
        (2, {}, "lacks the label 0"),
    ],
)
def test_wrong_numbers_are_refused(p, k, said):
    with pytest.raises(ValueError, match=said):
        PKBatchSampler([0] * 8 + [1] * 4, p, k)


def test_an_odd_batch_cannot_be_split():
    with pytest.raises(ValueError, match="= 5 items cannot be split evenly"):
        PKBatchSampler([0] * 8 + [1] * 4, 2, {0: 3, 1: 2}, world_size=2)


def test_short_labels_repeat_or_leave_too_few():
    assert len(next(iter(PKBatchSampler([0] * 8 + [1], 2, {0: 3, 1: 2}, short="repeat")))) == 5
    with pytest.raises(ValueError, match="the data has 1 with at least"):
        PKBatchSampler([0] * 8 + [1], 2, {0: 3, 1: 2}, short="drop")
