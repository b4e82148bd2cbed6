"""split_patients: properties that hold for any table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siamura import split_patients
from siamura.studies import check_disjoint

SHARES = {"train": 0.7, "valid": 0.2, "calibration": 0.1}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Patients with one to six views, of one or more parts and labels."""
    patients = draw(st.integers(3, 40))
    rows = []
    for patient in range(patients):
        for view in range(draw(st.integers(1, 6))):
            rows.append(
                {
                    "path": f"{patient}-{view}.png",
                    "part": draw(st.sampled_from(["XR_HAND", "XR_WRIST", "XR_ELBOW"])),
                    "patient": f"p{patient}",
                    "study": f"study{view}",
                    "label": draw(st.integers(0, 1)),
                    "split": "train",
                }
            )
    return pd.DataFrame(rows)


@pytest.mark.filterwarnings("ignore:After the split")
@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from([0.02, 0.2, 0.5, SHARES]), st.integers(0, 5))
def test_any_table(table: pd.DataFrame, valid: float | dict[str, float], seed: int) -> None:
    names = list(valid) if isinstance(valid, dict) else ["train", "valid"]
    result = split_patients(table, valid, seed)
    # every row once, in place, and no patient on two sides
    pd.testing.assert_frame_equal(result.drop(columns="split"), table.drop(columns="split"))
    assert (result.groupby("patient")["split"].nunique() == 1).all()
    check_disjoint(result)
    assert set(result["split"]) == set(names)  # none empty
    # the same seed gives the same split, whatever the order of the rows
    order = np.random.default_rng(seed).permutation(len(table))
    shuffled = split_patients(table.iloc[order], valid, seed)
    assert shuffled.set_index("path")["split"].to_dict() == result.set_index("path")["split"].to_dict()


@given(st.integers(0, 50), st.floats(0.1, 0.5))
@settings(max_examples=25, deadline=None)
def test_shares_are_met_in_every_stratum(seed: int, valid: float) -> None:
    random = np.random.default_rng(seed)
    views = random.integers(1, 5, 400)
    patient = np.repeat(np.arange(400), views)
    table = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(len(patient))],
            "part": np.repeat(random.choice(["XR_HAND", "XR_WRIST"], 400), views),
            "patient": [f"p{i}" for i in patient],
            "study": "study1",
            "label": np.repeat(random.integers(0, 2, 400), views),
            "split": "",
        }
    )
    result = split_patients(table, valid, seed)
    inside = result["split"] == "valid"
    for _, rows in result.groupby(["part", "label"]):
        assert abs((rows["split"] == "valid").mean() - valid) < 0.02
    assert abs(result[inside]["patient"].nunique() / 400 - valid) < 0.02


def simple(patients: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(patients)],
            "part": "XR_HAND",
            "patient": [f"p{i}" for i in range(patients)],
            "study": "study1",
            "label": [i % 2 for i in range(patients)],
            "split": "",
        }
    )


def test_seeds_differ_and_touch_no_global_state() -> None:
    table = simple(200)
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (split_patients(table, 0.3, seed)["split"].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_an_index_that_is_not_a_range_is_kept() -> None:
    table = simple(10).set_index(pd.Index([f"row{i}" for i in range(10)]))
    assert split_patients(table).index.tolist() == table.index.tolist()


def test_a_person_with_two_parts_stays_on_one_side() -> None:
    table = pd.concat([simple(50), simple(50).assign(part="XR_WRIST", path="w")], ignore_index=True)
    assert (split_patients(table, 0.4).groupby("patient")["split"].nunique() == 1).all()


def test_a_label_that_cannot_be_shared_out_warns() -> None:
    table = simple(6).assign(label=[1, 0, 0, 0, 0, 0])
    with pytest.warns(UserWarning, match="has no label 1: too few patients"):
        split_patients(table, 0.5)


@pytest.mark.parametrize(
    ("valid", "reason"),
    [
        (0, "valid=0 is no share"),
        (1.0, r"valid=1.0 is no share"),
        (float("nan"), "is no share"),
        ({"train": 0.5, "valid": 0.6}, "add up to 1.1, not 1"),
        ({"train": 1.0}, "at least two splits"),
        ({"train": 1.2, "valid": -0.2}, "a share above 0"),
    ],
)
def test_shares_that_are_none(valid: float | dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        split_patients(simple(10), valid)


def test_too_few_patients() -> None:
    with pytest.raises(
        ValueError, match=r"table has 2 patients, too few for 3 splits \(train, valid, calibration\)"
    ):
        split_patients(simple(2), SHARES)
    with pytest.raises(ValueError, match="table has 0 patients"):
        split_patients(simple(0))


def test_check_disjoint() -> None:
    table = simple(4)
    check_disjoint(table.assign(split=["a", "a", "b", "b"]))
    check_disjoint(table.head(2), table.tail(2))
    with pytest.raises(ValueError, match=r"1 patient on two sides: p1\. Split by patient"):
        check_disjoint(table.head(2), table.iloc[1:])
    with pytest.raises(ValueError, match=r"4 patients on two sides: p0, p1, p2, p3"):
        check_disjoint(pd.concat([table.assign(split="a"), table.assign(split="b")]))
    with pytest.raises(ValueError, match=r"1 file on two sides: same.png"):
        check_disjoint(table.assign(path="same.png", split=["a", "b", "b", "b"]))
    with pytest.raises(ValueError, match="9 patients on two sides: p0, p1, p2, p3, p4 and 4 more"):
        check_disjoint(simple(9), simple(9))
    with pytest.raises(ValueError, match="give check_disjoint one table"):
        check_disjoint()
    with pytest.raises(ValueError, match="no column 'split'"):
        check_disjoint(table.drop(columns="split"))
