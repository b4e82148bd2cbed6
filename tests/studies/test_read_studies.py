"""read_studies and train_valid: one function for what people have, whatever its form."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import siamura
from siamura.studies import classes_of, problems
from siamura.studies.checks import identifier
from siamura.studies.labels import choose_classes, label_key

SCHEMA = ["path", "part", "patient", "study", "label", "split"]


def films(folder: Path, number: int = 12) -> list[str]:
    (folder / "films").mkdir(parents=True, exist_ok=True)
    names = [f"films/{i}.png" for i in range(number)]
    for name in names:
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    return names


def people(folder: Path, label: list[Any], **more: Any) -> pd.DataFrame:
    names = films(folder, len(label))
    return pd.DataFrame(
        {"path": names, "label": label, "patient": [f"p{i // 2}" for i in range(len(label))], **more}
    )


# Labels of any kind


def test_seven_classes(tmp_path: Path) -> None:
    kinds = ["normal", "cyst", "Fracture", "tumour", "rickets", "osteomyelitis", "hardware"]
    own = people(tmp_path, [kinds[i // 2] for i in range(14)], age=range(14))
    table = siamura.read_studies(own, root=tmp_path)
    names = ("normal", "cyst", "Fracture", "hardware", "osteomyelitis", "rickets", "tumour")
    assert classes_of(table) == table.attrs["classes"] == names
    assert table["label"].dtype == np.int64
    assert [names[code] for code in table["label"]] == table["finding"].tolist() == own["label"].tolist()
    assert not table.attrs["ordered"]
    assert table["age"].tolist() == list(range(14))
    # The names outlive the loss of attrs, and a subset without some class.
    table.attrs = {}
    assert classes_of(table) == names
    assert classes_of(table[table["label"] != 3].reset_index(drop=True))[4:] == names[4:]


@pytest.mark.parametrize("form", [int, float, str, lambda g: f"{g}.0", lambda g: f" {g} "])
def test_ordered_grades_keep_their_order(tmp_path: Path, form: Callable[[int], Any]) -> None:
    own = people(tmp_path, [form(i % 5) for i in range(20)][::-1])
    table = siamura.read_studies(own, root=tmp_path)
    assert classes_of(table) == ("0", "1", "2", "3", "4")
    assert table["label"].tolist() == [i % 5 for i in range(20)][::-1]
    assert table.attrs["ordered"] is True
    assert siamura.read_studies(own, root=tmp_path, ordered=False).attrs["ordered"] is False


def test_ordered_categories_and_named_order(tmp_path: Path) -> None:
    own = people(tmp_path, ["mild", "severe", "none", "mild", "moderate", "severe"])
    order = ["none", "mild", "moderate", "severe"]
    named = siamura.read_studies(own, root=tmp_path, classes=iter(order), ordered=True)
    assert classes_of(named) == tuple(order)
    assert named.attrs["ordered"]
    own["label"] = pd.Categorical(own["label"], order, ordered=True)
    pd.testing.assert_frame_equal(siamura.read_studies(own, root=tmp_path), named)
    with pytest.raises(ValueError, match=r"leaves out moderate, which 1 rows .* have"):
        siamura.read_studies(own, root=tmp_path, classes=["none", "mild", "severe"])


def test_two_classes_have_a_positive_one(tmp_path: Path) -> None:
    own = people(tmp_path, ["benign", "malignant", "benign", "malignant"])
    with pytest.raises(ValueError, match=r"which of the labels benign, malignant .* say so with positive="):
        siamura.read_studies(own, root=tmp_path)
    table = siamura.read_studies(own, root=tmp_path, positive="Malignant ")
    assert (classes_of(table), table["label"].tolist()) == (("benign", "malignant"), [0, 1, 0, 1])
    table = siamura.read_studies(own, root=tmp_path, positive="benign")
    assert (classes_of(table), table["label"].tolist()) == (("malignant", "benign"), [1, 0, 1, 0])
    own["label"] = ["fracture", "Normal", "fracture", "Normal"]
    table = siamura.read_studies(own, root=tmp_path)
    assert (classes_of(table), table["label"].tolist()) == (("Normal", "fracture"), [1, 0, 1, 0])
    own["label"] = [True, False, True, True]
    assert classes_of(siamura.read_studies(own, root=tmp_path)) == ("normal", "abnormal")


def test_several_labels_as_one_class_keep_what_was_given(tmp_path: Path) -> None:
    own = people(tmp_path, ["cyst", "fracture", "normal", "cyst"])
    table = siamura.read_studies(own, root=tmp_path, positive={"cyst", "fracture"})
    assert classes_of(table) == ("normal", "cyst or fracture")
    assert table["label"].tolist() == [1, 1, 0, 1]
    assert table["label_given"].tolist() == ["cyst", "fracture", "normal", "cyst"]


def test_a_column_that_is_no_label(tmp_path: Path) -> None:
    own = people(tmp_path, [f"report {i}" for i in range(60)])
    with pytest.raises(
        ValueError, match=r"have 60 different values in 60 rows .* is another column the label"
    ):
        siamura.read_studies(own, root=tmp_path)
    with pytest.raises(ValueError, match="one class alone"):
        siamura.read_studies(people(tmp_path, ["cyst", "cyst"]), root=tmp_path)


def test_missing_labels_are_counted_and_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = people(tmp_path, ["cyst", None, "normal", "NA", "tumour", " "])
    with pytest.raises(ValueError, match=r"3 problems .*(?s:.)*label nan is neither a class .* it is empty"):
        siamura.read_studies(own, root=tmp_path)
    table = siamura.read_studies(own, root=tmp_path, on_error="report")
    assert classes_of(table) == ("normal", "cyst", "tumour")
    assert problems(table)["path"].tolist() == [str(tmp_path / f"films/{i}.png") for i in (1, 3, 5)]
    assert "3 of 6 labels are empty" in caplog.text


def test_names_and_labels_that_contradict_each_other() -> None:
    table = pd.DataFrame({"label": [0, 1], "finding": ["normal", "cyst"]})
    table.attrs["classes"] = ("normal", "fracture")
    with pytest.raises(ValueError, match=r"'cyst' where .* names label 1 'fracture'"):
        classes_of(table)
    with pytest.raises(ValueError, match="codes from 0 are wanted"):
        classes_of(pd.DataFrame({"label": ["a", "b"]}))
    assert classes_of(pd.DataFrame({"label": [0, 3]})) == ("0", "1", "2", "3")
    assert classes_of(pd.DataFrame({"label": [-1, -1]})) == ("normal", "abnormal")


# What is asked for and in no row

ASKED: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "generator": iter,
    "Series": pd.Series,
    "array": np.array,
    "Index": pd.Index,
    "keys": lambda v: dict.fromkeys(v).keys(),
}


@pytest.mark.parametrize("how", ASKED)
def test_a_wanted_label_that_no_row_has(tmp_path: Path, how: str) -> None:
    own = people(tmp_path, ["fracture", "cysts", "none", "none"])
    for read in (siamura.read_table, siamura.read_studies):
        with pytest.raises(
            ValueError, match=r"positive='cyst' is in no row .*; it holds cysts, fracture, none\. Did"
        ):
            read(own, root=tmp_path, positive=ASKED[how](["fracture", "cyst"]))
        found = read(own, root=tmp_path, positive=ASKED[how](["Fracture", " CYSTS"]))
        assert found["label"].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    "wanted", [1, True, "1", "1.0", 1.0, "TRUE", " 1 ", np.int64(1), np.float32(1), np.array(1)]
)
@pytest.mark.parametrize(
    "given", [[1, 0], [True, False], ["1", "0"], ["1.0", "0.0"], [1.0, 0.0], ["True", "False"]]
)
def test_one_and_true_are_one_label(tmp_path: Path, wanted: object, given: list[object]) -> None:
    own = people(tmp_path, given)
    for read in (siamura.read_table, siamura.read_studies):
        assert read(own, root=tmp_path, positive=wanted)["label"].tolist() == [1, 0]


def test_other_things_asked_for_that_are_not_there(tmp_path: Path) -> None:
    own = people(
        tmp_path,
        [0, 1, 0, 1],
        part=["hand", "Hand", "XR_LEG", "hand+leg"],
        split=["train", "train", "val", "val"],
    )
    with pytest.raises(
        ValueError, match=r"part='foot' is in no row .*XR_HAND, XR_LEG, XR_HAND\+LEG.*--part all"
    ):
        siamura.read_studies(own, root=tmp_path, part=["hand", "foot"])
    with pytest.raises(ValueError, match=r"split='test' is in no row .*train, valid"):
        siamura.read_studies(own, root=tmp_path, split="test")
    with pytest.raises(ValueError, match=r"part=.* names no part"):
        siamura.read_studies(own, root=tmp_path, part=[])
    with pytest.raises(ValueError, match="names every label"):
        siamura.read_studies(own, root=tmp_path, positive=[0, 1])
    with pytest.raises(ValueError, match="the other way round"):
        siamura.read_studies(own.rename(columns={"path": "file"}), root=tmp_path, columns={"path": "file"})
    with pytest.raises(ValueError, match="labels= is of use for a folder of DICOM files only"):
        siamura.read_studies(own, root=tmp_path, labels={"a": 1})


def test_parts_as_people_write_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = people(tmp_path, [0, 1, 0, 1, 1], part=["hand", " Hand", "xr_hand", "XR HAND", "hand + leg"])
    for part in ("hand", "XR_HAND", ["Hand"], (p for p in ["xr-hand"])):
        caplog.clear()
        assert set(siamura.read_studies(own, root=tmp_path, part=part)["part"]) == {"XR_HAND"}
        assert "1 views of several parts (XR_HAND+LEG) are not taken for XR_HAND" in caplog.text
    both = siamura.read_studies(own, root=tmp_path, part=["hand", "hand+leg"])
    assert len(both) == 5


# Splits


SPELLED = {
    "train": ["Train", "training", "TRAIN", "train set"],
    "valid": ["Valid", "val", "Validation", "dev"],
}


@pytest.mark.parametrize("train", SPELLED["train"])
@pytest.mark.parametrize("valid", SPELLED["valid"])
def test_a_patient_in_two_splits_stays_in_the_held_out_one(tmp_path: Path, train: str, valid: str) -> None:
    own = people(tmp_path, [0, 1] * 4, split=[train, train, train, valid, valid, valid, "Testing", "test"])
    for read in (siamura.read_table, siamura.read_studies):
        with pytest.raises(ValueError, match="patient p1 is in train and valid: a leak"):
            read(own, root=tmp_path)
        table = read(own, root=tmp_path, on_error="report")
        assert table["split"].tolist() == ["train"] * 2 + ["valid"] * 3 + ["test"] * 2
        assert table.groupby("patient")["split"].nunique().max() == 1
        siamura.studies.check_disjoint(table)
        assert len(problems(table)) == 1


@pytest.mark.parametrize(
    ("first", "second", "kept"), [("valid", "test", "test"), ("a", "train", "a"), ("b", "a", "a")]
)
def test_of_two_splits_the_more_held_out_stays_whole(
    tmp_path: Path, first: str, second: str, kept: str
) -> None:
    split = [first, second, first, first, first, first, second, second]
    table = siamura.read_studies(people(tmp_path, [0, 1] * 4, split=split), root=tmp_path, on_error="report")
    assert set(table.loc[table["patient"] == "p0", "split"]) == {kept}
    siamura.studies.check_disjoint(table)


def test_the_splits_of_a_table(tmp_path: Path) -> None:
    own = people(tmp_path, [0, 1] * 10, split=["TRAIN"] * 12 + ["Val"] * 4 + ["test"] * 4)
    train, valid = siamura.train_valid(siamura.read_studies(own, root=tmp_path))
    assert (len(train), len(valid), list(valid.index)) == (12, 4, [0, 1, 2, 3])
    assert train.attrs["split"]["made"] is False
    assert classes_of(train) == ("normal", "abnormal")
    # Made by hand, never read: the names are brought to one form all the same.
    raw = siamura.read_studies(own, root=tmp_path).assign(split=own["split"])
    assert len(siamura.train_valid(raw)[1]) == 4


def test_a_split_is_made_by_patient_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = people(tmp_path, [i // 2 % 2 for i in range(40)])
    table = siamura.read_studies(own, root=tmp_path)
    caplog.set_level(logging.INFO)
    train, valid = siamura.train_valid(table, seed=3)
    assert not set(train["patient"]) & set(valid["patient"])
    assert len(train) + len(valid) == 40
    said = valid.attrs["split"]
    assert (said["made"], said["seed"], said["valid"]) == (True, 3, 0.2)
    assert said["sentence"] in caplog.text
    pd.testing.assert_frame_equal(siamura.train_valid(table, seed=3)[0], train)
    assert set(siamura.train_valid(table, seed=4)[1]["patient"]) != set(valid["patient"])
    held = table.assign(split=["test"] * 8 + ["train"] * 32)
    train, valid = siamura.train_valid(held)
    assert not (set(train["path"]) | set(valid["path"])) & set(table["path"][:8])
    with pytest.raises(ValueError, match="has the splits test but no train"):
        siamura.train_valid(table.assign(split="test"))
    leaky = table.assign(split=["train", "valid"] * 20)
    with pytest.raises(ValueError, match="on two sides"):
        siamura.train_valid(leaky)


# Identifiers


@pytest.mark.parametrize("value", [7, 7.0, "7", "7.0", " 7 ", np.float64(7)])
def test_one_person_in_any_form(tmp_path: Path, value: object) -> None:
    assert identifier(value) == "7"
    own = people(tmp_path, [0, 1]).assign(patient=pd.Series([value, "008"], dtype=object))
    own.to_csv(tmp_path / "own.csv", index=False)
    for source, root in ((own, tmp_path), (tmp_path / "own.csv", None)):
        assert siamura.read_studies(source, root=root)["patient"].tolist() == ["7", "008"]
        assert siamura.read_table(source, root)["patient"].tolist() == ["7", "008"]


@pytest.mark.parametrize("value", ["NA", "nan", "#N/A", "NULL", "None", "", " ", "null", "<NA>", None])
def test_nobody_in_any_form(tmp_path: Path, value: object) -> None:
    own = people(tmp_path, [0, 1, 1]).assign(patient=["p", value, "q"])
    own.to_csv(tmp_path / "own.csv", index=False)
    for source, root in ((own, tmp_path), (tmp_path / "own.csv", None)):
        with pytest.raises(ValueError, match="patient empty"):
            siamura.read_studies(source, root=root)
        assert len(siamura.read_studies(source, root=root, on_error="report")) == 2


@pytest.mark.parametrize("value", ["1.23457E+11", 1.23456789012345e17])
def test_identifiers_that_lost_digits(tmp_path: Path, value: object) -> None:
    own = people(tmp_path, [0, 1]).assign(patient=[value, value])
    with pytest.raises(ValueError, match="lost digits in a spreadsheet"):
        siamura.read_studies(own, root=tmp_path)


# What a source is taken for


def test_a_folder_with_tables_is_no_source(tmp_path: Path) -> None:
    people(tmp_path, [0, 1]).to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(ValueError, match=r"is a folder with the tables own\.csv: give the one that lists"):
        siamura.read_studies(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not there"):
        siamura.read_studies(tmp_path / "absent")
    with pytest.raises(ValueError, match="is one PNG image"):
        siamura.read_studies(tmp_path / "films/0.png")
    with pytest.raises(ValueError, match="source is a list"):
        siamura.read_studies([1])  # type: ignore[arg-type]


def test_mura_by_its_root_or_parent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split, label, patient in (
        ("train", "positive", 1),
        ("train", "negative", 2),
        ("valid", "positive", 3),
    ):
        study = tmp_path / "MURA-v1.1" / split / "XR_HAND" / f"patient{patient}" / f"study1_{label}"
        study.mkdir(parents=True)
        (study / "image1.png").write_bytes(b"...")
    caplog.set_level(logging.INFO)
    table = siamura.read_studies(tmp_path, part=iter(["hand"]))
    assert "taken for MURA's layout, because" in caplog.text
    assert table.attrs["source"]["kind"] == "mura"
    pd.testing.assert_frame_equal(table, siamura.read_mura(tmp_path), check_flags=False)
    assert (list(table.columns), classes_of(table)) == (SCHEMA, ("normal", "abnormal"))
    assert len(siamura.read_studies(tmp_path / "MURA-v1.1", split="Validation")) == 1
    with pytest.raises(ValueError, match="the folders say which studies are positive"):
        siamura.read_studies(tmp_path, positive="fracture")


def test_a_table_reads_itself(tmp_path: Path) -> None:
    own = people(
        tmp_path, ["cyst", "normal", "tumour", "cyst"], age=["1,5", "2", "", "3"], site=["a", "", "b", "a"]
    )
    table = siamura.read_studies(own, root=tmp_path)
    assert table["age"].tolist()[:2] == [1.5, 2.0]
    pd.testing.assert_frame_equal(siamura.read_studies(table), table)
    table.to_csv(tmp_path / "again.csv", index=False)
    pd.testing.assert_frame_equal(siamura.read_studies(tmp_path / "again.csv"), table)
    table.to_parquet(tmp_path / "again.parquet")
    pd.testing.assert_frame_equal(siamura.read_studies(tmp_path / "again.parquet"), table)
    table.attrs = {}
    again = siamura.read_studies(table)
    assert classes_of(again) == ("normal", "cyst", "tumour")
    assert siamura.read_studies(table, positive="cyst")["label"].tolist() == [1, 0, 0, 1]


def test_no_split_and_no_study_column(tmp_path: Path) -> None:
    table = siamura.read_studies(people(tmp_path, [0, 1] * 10), root=tmp_path)
    assert set(table["split"]) == {"train"}
    assert table["study"].tolist() == ["study1", "study2"] * 10
    assert len(siamura.train_valid(table)[1]) == 4


def test_names_of_files_are_escaped_in_messages(tmp_path: Path) -> None:
    own = people(tmp_path, [0, 1]).assign(path=["films/0.png", "gone\x1b[2J\u202e.png"])
    with pytest.raises(ValueError, match=r"gone\\x1b\[2J\\u202e\.png: there is no such file") as caught:
        siamura.read_studies(own, root=tmp_path)
    assert "\x1b" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no bytes as names")
def test_a_name_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    for name in (b"normal/a.png", b"cyst/caf\xe9.png", b"cyst/patient2.png"):
        file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with (
        pytest.warns(UserWarning, match="unknown"),
        pytest.raises(ValueError, match=r"caf\\udce9.* no UTF-8 text"),
    ):
        siamura.read_folders(tmp_path)
    with pytest.warns(UserWarning, match="unknown"):
        table = siamura.read_folders(tmp_path, on_error="report")
    assert len(table) == 2
    assert len(problems(table)) == 1


def test_keys_and_choices() -> None:
    assert label_key("2,50") == label_key(2.5) == label_key("2.5") == "2.5"
    assert label_key(np.bool_(True)) == "1"
    assert choose_classes(["grade 10", "grade 2", "grade 1"], "it").names == (
        "grade 1",
        "grade 2",
        "grade 10",
    )
    with pytest.raises(ValueError, match="name at least two classes, each once"):
        choose_classes([1, 2], "it", classes=["1", 1.0])
