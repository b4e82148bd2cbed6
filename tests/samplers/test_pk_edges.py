"""Labels with holes, numbers that are none, and states that lead nowhere."""

from __future__ import annotations

import pandas as pd
import pytest
from siamura.samplers import PKBatchSampler

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
