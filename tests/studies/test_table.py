"""read_table, read_folders, describe: people's own files."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import siamura
from siamura.studies import COLUMNS, describe, problems, skipped


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"...")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    touch(tmp_path, "a.png", "b.png", "sub/c.png")
    lines = ("path,label,patient,study,part,split,age", "a.png,1,007,s1,XR_HAND,train,3")
    more = ("b.png,0,008,s1,XR_HAND,valid,4", "sub/c.png,1,007,s1,XR_HAND,train,3")
    (tmp_path / "own.csv").write_text("\n".join((*lines, *more)) + "\n")
    return tmp_path


def test_a_csv_with_every_column(own: Path) -> None:
    table = siamura.read_table(own / "own.csv")
    assert tuple(table.columns) == COLUMNS
    assert table["patient"].tolist() == ["007", "008", "007"]  # leading zeros stay
    assert table["path"].tolist() == [str(own / n) for n in ("a.png", "b.png", "sub/c.png")]
    assert table["label"].tolist() == [1, 0, 1]
    assert table["label"].dtype == "int64"
    assert table["split"].tolist() == ["train", "valid", "train"]


def test_without_patients_it_warns_of_the_leak(own: Path) -> None:
    frame = pd.DataFrame({"path": ["a.png", "b.png", "sub/c.png"], "label": [1, 0, 1]})
    with pytest.warns(UserWarning, match=r"patients of all 3 images .* views of one person on both sides"):
        table = siamura.read_table(frame, own)
    assert table["patient"].nunique() == 3
    assert table.groupby(["part", "patient", "study"]).ngroups == 3
    assert set(table["part"]) == {"XR_UNKNOWN"}
    assert set(table["split"]) == {"train"}


def test_views_without_study_are_studies_of_their_own(own: Path) -> None:
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": [1, 0], "patient": ["p", "p"]})
    assert siamura.read_table(frame, own)["study"].tolist() == ["study1", "study2"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 0], [1, 0]),
        ([True, False], [1, 0]),
        ([1.0, 0.0], [1, 0]),
        (["Abnormal", "normal "], [1, 0]),
        (["negative", "POSITIVE"], [0, 1]),
        ([np.int8(0), np.int8(1)], [0, 1]),
    ],
)
def test_labels(own: Path, labels: list[object], expected: list[int]) -> None:
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": labels, "patient": [1, 2]})
    assert siamura.read_table(frame, own)["label"].tolist() == expected


def test_other_labels_with_positive(own: Path) -> None:
    frame = pd.DataFrame({"path": ["a.png", "b.png", "sub/c.png"], "label": [2, 0, 1], "patient": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"label 2 is neither 0/1 nor a word .*positive="):
        siamura.read_table(frame, own)
    assert siamura.read_table(frame, own, positive=[1, 2])["label"].tolist() == [1, 0, 1]
    frame["label"] = ["fracture", "none", "cyst"]
    assert siamura.read_table(frame, own, positive="fracture")["label"].tolist() == [1, 0, 0]


def test_patients_that_pandas_made_floats(own: Path) -> None:
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": [1, 0], "patient": [12.0, 13.0]})
    assert siamura.read_table(frame, own)["patient"].tolist() == ["12", "13"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"path": ["a.png", "absent.png"]}, "there is no such file"),
        ({"path": ["a.png", None]}, "the path is empty"),
        ({"path": ["a.png", "../x.png"]}, "lies outside the root"),
        ({"path": ["a.png", "/etc/hostname"]}, "lies outside the root"),
        ({"path": ["a.png", "sub/../a.png"]}, "stands in rows 1 and 2"),
        ({"label": [1, None]}, "label None is neither|label nan is neither"),
        ({"patient": ["p", None]}, "patient empty"),
        ({"patient": ["p", " "]}, "patient empty"),
        ({"study": ["s", "s"], "patient": ["p", "p"]}, "has views with label 0 and 1"),
        ({"split": ["train", "valid"], "patient": ["p", "p"]}, "patient p is in train and valid: a leak"),
    ],
)
def test_what_is_wrong(own: Path, change: dict[str, list[object]], reason: str) -> None:
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": [1, 0], "patient": ["p", "q"]} | change)
    with pytest.raises(ValueError, match=reason):
        siamura.read_table(frame, own)
    table = siamura.read_table(frame, own, on_error="report")
    assert len(problems(table)) == 1
    assert len(table) < 2


def test_paths_may_lead_anywhere_without_a_root(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own / "sub")
    frame = pd.DataFrame({"path": ["../a.png", str(own / "b.png")], "label": [1, 0], "patient": [1, 2]})
    assert siamura.read_table(frame)["path"].tolist() == [str(own / "a.png"), str(own / "b.png")]


def test_arguments(own: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no file: give the path of a CSV"):
        siamura.read_table(own / "absent.csv")
    with pytest.raises(FileNotFoundError, match=r"root=.* is no folder"):
        siamura.read_table(own / "own.csv", own / "absent")
    with pytest.raises(ValueError, match=r"has no column 'label' .*columns=\{'its name': 'label'\}"):
        siamura.read_table(pd.DataFrame({"path": ["a.png"], "y": [1]}), own)
    frame = pd.DataFrame({"path": ["a.png"], "y": [1], "patient": [1]})
    assert siamura.read_table(frame, own, columns={"y": "label"})["label"].tolist() == [1]
    (own / "broken.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ValueError, match="is no CSV"):
        siamura.read_table(own / "broken.csv")


def test_a_table_reads_itself(own: Path) -> None:
    table = siamura.read_table(own / "own.csv")
    pd.testing.assert_frame_equal(siamura.read_table(table), table)


# One folder a class


def test_two_classes(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "NORMAL/person1_a.png",
        "NORMAL/person2.png",
        "PNEUMONIA/person3_virus.jpeg",
        "PNEUMONIA/.x.png",
    )
    touch(tmp_path, "PNEUMONIA/notes.txt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = siamura.read_folders(tmp_path)
    assert table["label"].tolist() == [0, 0, 1]
    assert table["patient"].tolist() == ["person1", "person2", "person3"]
    assert skipped(table) == {"hidden": 1, "other": 1}


def test_splits_above_the_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/normal/patient1.png", "val/normal/patient2.png", "test/abnormal/patient3.png")
    table = siamura.read_folders(tmp_path)
    assert dict(zip(table["patient"], table["split"], strict=True)) == {
        "patient1": "train",
        "patient2": "valid",
        "patient3": "test",
    }


def test_patients_as_folders(tmp_path: Path) -> None:
    touch(tmp_path, "normal/anna/1.png", "normal/anna/2.png", "cyst/ben/deep/1.png")
    assert siamura.read_folders(tmp_path)["patient"].tolist() == ["ben", "anna", "anna"]


def test_patients_by_expression_and_by_function(tmp_path: Path) -> None:
    touch(tmp_path, "normal/x_17_a.png", "normal/x_17_b.png", "cyst/y_18.png")
    by_expression = siamura.read_folders(tmp_path, patient=r"_(\d+)")
    assert by_expression["patient"].tolist() == ["18", "17", "17"]
    by_function = siamura.read_folders(tmp_path, patient=lambda below: below.split("_")[0])
    assert by_function["patient"].tolist() == ["y", "x", "x"]
    with pytest.raises(ValueError, match="is no regular expression"):
        siamura.read_folders(tmp_path, patient="(")


def test_unknown_patients_warn(tmp_path: Path) -> None:
    touch(tmp_path, "normal/1.png", "normal/2.png", "cyst/1.png", "cyst/patient9.png")
    with pytest.warns(UserWarning, match=r"patients of 3 of the 4 images .* both sides.*patient="):
        table = siamura.read_folders(tmp_path)
    assert table["patient"].nunique() == 4


def test_which_class_is_abnormal(tmp_path: Path) -> None:
    touch(tmp_path, "cyst/patient1.png", "fracture/patient2.png", "fine/patient3.png")
    with pytest.raises(
        ValueError, match=r"which of the classes cyst, fine, fracture .* say so with positive="
    ):
        siamura.read_folders(tmp_path)
    table = siamura.read_folders(tmp_path, positive=["cyst", "fracture"])
    assert table["label"].tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="positive='tumour' is no class"):
        siamura.read_folders(tmp_path, positive="tumour")
    with pytest.raises(ValueError, match="names every class"):
        siamura.read_folders(tmp_path, positive=["cyst", "fracture", "fine"])


def test_folders_that_hold_no_classes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder"):
        siamura.read_folders(tmp_path / "absent")
    with pytest.raises(ValueError, match="holds 0 class folders"):
        siamura.read_folders(tmp_path)
    touch(tmp_path, "normal/a.png")
    with pytest.raises(ValueError, match=r"holds 1 class folder \(normal\)"):
        siamura.read_folders(tmp_path)
    (tmp_path / "cyst").mkdir()
    (tmp_path / "normal" / "a.png").unlink()
    with pytest.raises(ValueError, match="holds no images in its class folders"):
        siamura.read_folders(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match=r"holds splits \(train\) beside other folders \(cyst, normal\)"):
        siamura.read_folders(tmp_path)


def test_a_split_under_two_names(tmp_path: Path) -> None:
    touch(tmp_path, "valid/normal/patient1.png", "val/cyst/patient2.png", "train/cyst/patient3.png")
    with pytest.raises(ValueError, match=r"holds one split under two names \(train, val, valid\): join them"):
        siamura.read_folders(tmp_path)


def test_a_patient_in_two_splits_of_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/normal/patient1.png", "train/cyst/patient2.png", "val/cyst/patient1.png")
    with pytest.raises(ValueError, match="patient patient1 is in train and valid: a leak"):
        siamura.read_folders(tmp_path)
    assert len(siamura.read_folders(tmp_path, on_error="report")) == 2


# Counts


def test_describe_against_a_loop() -> None:
    random = np.random.default_rng(3)
    rows = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(300)],
            "part": random.choice(["XR_HAND", "XR_WRIST"], 300),
            "patient": random.choice([f"p{i}" for i in range(40)], 300),
            "study": random.choice(["study1", "study2"], 300),
            "label": random.integers(0, 2, 300),
            "split": random.choice(["train", "valid"], 300),
        }
    )
    counts = describe(rows)
    assert len(counts) == 8
    for row in counts.itertuples():
        group = [
            r for r in rows.itertuples() if (r.part, r.split, r.label) == (row.part, row.split, row.label)
        ]
        assert row.views == len(group)
        assert row.patients == len({r.patient for r in group})
        assert row.studies == len({(r.part, r.patient, r.study) for r in group})


def test_describe_counts_a_person_once_in_the_totals() -> None:
    rows = pd.DataFrame(
        {
            "path": ["1", "2", "3"],
            "part": ["XR_HAND", "XR_WRIST", "XR_WRIST"],
            "patient": ["p", "p", "q"],
            "study": ["s1", "s1", "s1"],
            "label": [0, 1, 0],
            "split": "train",
        }
    )
    counts = describe(rows, totals=True)
    whole = counts[(counts["part"] == "All") & (counts["label"] == -1)].iloc[0]
    assert (whole["patients"], whole["studies"], whole["views"]) == (2, 3, 3)
    assert counts["part"].tolist()[-3:] == ["All"] * 3
    assert len(describe(rows.head(0))) == 0


def test_describe_refuses_what_is_no_table() -> None:
    with pytest.raises(ValueError, match="table is a list"):
        describe([1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="table has no column 'part'"):
        describe(pd.DataFrame({"path": ["a"]}))
