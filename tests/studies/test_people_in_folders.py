"""read_folders: who the patient is, checked against the files; splits above or below the classes."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import siamura

PATHS: dict[str, tuple[list[str], list[str]]] = {
    "in the name, below a view": (
        ["normal/AP/patient1_1.png", "normal/LAT/patient1_2.png", "cyst/AP/patient2_1.png"],
        ["patient2", "patient1", "patient1"],
    ),
    "in a folder below a view": (
        ["normal/AP/patient1/1.png", "cyst/AP/Patient-2/1.png", "cyst/LAT/patient2/1.png"],
        ["Patient-2", "Patient-2", "patient1"],
    ),
    "a folder without a word": (
        ["normal/AP/0011/1.png", "normal/AP/0012/1.png", "cyst/AP/0013/1.png", "cyst/AP/0014/1.png"],
        ["0013", "0014", "0011", "0012"],
    ),
    "below a split": (
        ["normal/train/patient1/1.png", "normal/val/patient2/1.png", "cyst/Training/patient3.png"],
        ["patient3", "patient1", "patient2"],
    ),
}


def lay_out(root: Path, names: list[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"...")


@pytest.mark.parametrize("case", PATHS)
def test_the_patient_is_looked_for_in_the_whole_path(tmp_path: Path, case: str) -> None:
    names, people = PATHS[case]
    lay_out(tmp_path, names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert siamura.read_folders(tmp_path)["patient"].tolist() == people
        assert siamura.read_studies(tmp_path)["patient"].tolist() == people


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["normal/AP/1.png", "normal/LAT/2.png", "cyst/AP/3.png"], "'AP' has views of several classes"),
        ([*(f"normal/ward/{i}.png" for i in range(5)), "cyst/other/1.png"], "'ward' has 5 of the 6 views"),
        (
            ["normal/patient1.png", "cyst/patient1.png", "cyst/patient2.png"],
            "'patient1' has views of several",
        ),
    ],
)
def test_one_that_may_be_no_patient_is_named(tmp_path: Path, names: list[str], reason: str) -> None:
    lay_out(tmp_path, names)
    with pytest.warns(
        UserWarning, match=rf"What was taken for patients .* {reason}.* with patient="
    ) as caught:
        siamura.read_folders(tmp_path)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        siamura.read_folders(tmp_path, patient=lambda below: below)


def test_splits_in_any_spelling(tmp_path: Path) -> None:
    lay_out(tmp_path, ["Training/Normal/patient1.png", "VAL/normal/patient2.png", "Test/cyst/patient3.png"])
    table = siamura.read_folders(tmp_path)
    assert table.set_index("patient")["split"].to_dict() == {
        "patient1": "train",
        "patient2": "valid",
        "patient3": "test",
    }
    assert table["label"].tolist() == [1, 0, 0]
    below = siamura.read_folders(make_below(tmp_path / "below"))
    assert below["split"].tolist() == ["train", "train", "valid"]


def make_below(root: Path) -> Path:
    lay_out(root, PATHS["below a split"][0])
    return root


def test_more_than_two_folders(tmp_path: Path) -> None:
    lay_out(tmp_path, ["cyst/patient1.png", "fracture/patient2.png", "Normal/patient3.png"])
    table = siamura.read_studies(tmp_path, part="Hand")
    assert siamura.studies.classes_of(table) == ("Normal", "cyst", "fracture")
    assert dict(zip(table["finding"], table["label"], strict=True)) == {"cyst": 1, "fracture": 2, "Normal": 0}
    assert set(table["part"]) == {"XR_HAND"}
    for asked in (["fracture", "tumour"], iter(["tumour"])):
        with pytest.raises(ValueError, match="positive='tumour' is"):
            siamura.read_folders(tmp_path, positive=asked)
    assert siamura.read_folders(tmp_path, positive=iter(["FRACTURE", "cyst"]))["label"].tolist() == [0, 1, 1]
