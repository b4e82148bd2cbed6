"""One wording of argument errors, and what counts as a number."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from siamura._validation import check_choice, check_columns, check_filled, check_number, check_whole


@pytest.mark.parametrize("value", [1, np.int32(1), np.uint8(1)])
def test_whole_numbers(value: object) -> None:
    found = check_whole("k", value)
    assert found == 1
    assert type(found) is int


@pytest.mark.parametrize("value", [0, -3, True, np.True_, 1.0, "1", None, float("nan"), 11])
def test_no_whole_numbers_or_out_of_bounds(value: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"k={value!r} must be a whole number from 1 to 10.")):
        check_whole("k", value, most=10)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), 1])
def test_numbers(value: object) -> None:
    assert check_number("x", value, above=0, most=1) == float(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 1.5, True, np.True_, float("inf"), float("nan"), "0.5", None])
def test_no_numbers_or_out_of_bounds(value: object) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"x={value!r} must be a finite number above 0 and of at most 1.")
    ):
        check_number("x", value, above=0, most=1)


def test_choices_and_columns() -> None:
    assert check_choice("level", "view", ("view", "study")) == "view"
    with pytest.raises(ValueError, match="choose one of view, study"):
        check_choice("level", ["view"], ("view", "study"))
    table = pd.DataFrame({"path": ["a"], "label": [1]})
    assert check_columns(table, ["path"]) is table
    with pytest.raises(ValueError, match="table has no column 'part', 'study'; its columns are path, label"):
        check_columns(table, ["path", "part", "study"])
    with pytest.raises(ValueError, match="data is a list"):
        check_columns([1], ["path"], "data")


def test_missing_values_are_counted() -> None:
    table = pd.DataFrame({"patient": ["a", None, None]})
    with pytest.raises(ValueError, match="missing in row 1, one of 2"):
        check_filled(table, ["patient"])
