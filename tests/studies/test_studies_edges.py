"""Roots written in other ways, readings without a single row, shares that are no numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from siamura.studies import describe, read_mura, read_table, split_patients

OWN = pd.DataFrame({"path": ["a.png"], "label": [1], "patient": ["p1"]})


def test_a_root_with_dots_is_the_folder_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.png").write_bytes(b"...")
    monkeypatch.chdir(tmp_path / "inner")
    monkeypatch.setenv("HOME", str(tmp_path))
    for root in (tmp_path / "inner" / "..", "..", "../../" + tmp_path.name, "~"):
        assert read_table(OWN, root)["path"].tolist() == [str(tmp_path / "a.png")]
    with pytest.raises(ValueError, match="lies outside the root"):
        read_table(OWN.assign(path="../a.png"), "../inner")


def test_a_reading_without_a_row_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the DataFrame has no rows"):
        read_table(OWN.iloc[:0], tmp_path)
    study = tmp_path / "train" / "XR_HAND" / "patient1" / "study1_positive"
    study.mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no view in train or valid"):
        read_mura(tmp_path)
    (study / "image1.png").write_bytes(b"...")
    assert len(read_mura(tmp_path)) == 1
    with pytest.raises(ValueError, match="holds no view of XR_HAND in valid; leave split='valid' out"):
        read_mura(tmp_path, part="hand", split="valid")


@pytest.mark.parametrize("valid", ["a fifth", None, float("nan"), 1.0, 0])
def test_what_is_no_share_is_named(valid: object) -> None:
    with pytest.raises(ValueError, match=r"valid=.* is no share"):
        split_patients(OWN.assign(part="XR_HAND"), valid=valid)


def test_missing_values_neither_vanish_nor_become_one_person() -> None:
    table = pd.DataFrame({"path": list("abcd"), "part": "XR_HAND", "patient": ["p1", None, "p2", None]})
    table = table.assign(study="study1", label=[0, 0, 1, 1], split="train")
    for use in (split_patients, describe):
        with pytest.raises(ValueError, match=r"table\['patient'\] is missing in row 1, one of 2; fill it"):
            use(table)
    with pytest.raises(ValueError, match=r"table\['part'\] is missing in row 0"):
        describe(table.assign(patient="p1", part=[None, *["XR_HAND"] * 3]))


def test_names_of_columns_that_are_not_there_or_twice(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"...")
    with pytest.raises(
        ValueError, match=r"columns names 'subject', which the DataFrame does not have .*path, label"
    ):
        read_table(OWN, tmp_path, columns={"subject": "patient"})
    with pytest.raises(ValueError, match="the DataFrame has the column 'path' twice"):
        read_table(OWN.assign(file="b.png"), tmp_path, columns={"file": "path"})
    assert len(read_table(OWN.rename(columns={"path": "file"}), tmp_path, columns={"file": "path"})) == 1
