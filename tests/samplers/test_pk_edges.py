"""Labels with holes, numbers that are none, and states that lead nowhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from siamura.samplers import PKBatchSampler
from siamura.samplers._dealing import share

LABELS = [0] * 8 + [1] * 8


@pytest.mark.parametrize(
    "hole",
    [None, float("nan"), pd.NA],
    ids=["none", "nan", "na"],
)
def test_missing_values_are_told_with_their_places(hole):
    values = ["a"] * 15
    for place in (0, 3):
        holed = [*values[:place], hole, *values[place:]]
        with pytest.raises(ValueError, match=rf"groups has missing values .* at \[{place}\]"):
            PKBatchSampler(LABELS, 2, 2, groups=holed)
        with pytest.raises(ValueError, match="labels has missing values"):
            PKBatchSampler(pd.Series(holed), 1, 2)
    with pytest.raises(ValueError, match=r"missing values .* at \[1, 3\], 2 in all"):
        PKBatchSampler(LABELS[:4], 1, 2, groups=pd.Series(["a", hole, "b", hole]))


def test_values_without_an_order_are_told():
    with pytest.raises(ValueError, match="labels mixes kinds"):
        PKBatchSampler(pd.Series([0, 0, "a", "a"], dtype=object), 2, 2)
    with pytest.raises(ValueError, match="labels mixes str and int"):  # NumPy makes one string of both
        PKBatchSampler([1, "1", 1, "1", "2", "2"], 2, 2)


@pytest.mark.parametrize("value", ["two", None, 2.5, True, float("inf"), [2]])
@pytest.mark.parametrize("name", ["p", "k", "seed", "world_size"])
def test_what_is_no_whole_number_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name}=.* must be a whole number"):
        PKBatchSampler(LABELS, **{"p": 2, "k": 2, name: value})


@pytest.mark.parametrize("place", [-1, 4, 99])
def test_a_state_beyond_the_epoch_is_refused(place):
    sampler = PKBatchSampler(LABELS, 2, 2)
    state = sampler.state_dict()
    with pytest.raises(ValueError, match=f"position={place} must lie in an epoch of 4 batches"):
        sampler.load_state_dict({**state, "position": place})
    assert len(list(sampler)) == 4


def test_an_epoch_chosen_while_another_is_drawn_is_the_next():
    sampler = PKBatchSampler(LABELS, 2, 2, seed=3)
    epochs = [list(sampler) for _ in range(6)]
    sampler.set_epoch(0)
    drawn = []
    for batch in sampler:
        drawn.append(batch)
        if len(drawn) == 2:
            sampler.set_epoch(5)
    assert drawn == epochs[0]
    assert sampler.epoch == 5
    assert list(sampler) == epochs[5]
    assert sampler.epoch == 6


def test_a_sampler_says_what_it_draws():
    text = repr(
        PKBatchSampler(LABELS, 2, 2, within=[0] * 4 + [1] * 4 + [0] * 4 + [1] * 4, world_size=2, rank=1)
    )
    assert "4 batches of p=2 labels x k=2 items, 16 items in 2 domains, seed=0, rank 1 of 2" in text


@pytest.mark.parametrize("total", [3, 21])
def test_shares_that_cannot_be_are_refused(total):
    with pytest.raises(ValueError, match=f"no shares of {total} lie between"):
        share(np.ones(4), total, np.ones(4, dtype=np.int64), np.full(4, 5, dtype=np.int64))
