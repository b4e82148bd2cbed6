"""Real films as a CSV, as a folder of classes and as DICOM: the same table, but for what the form cannot hold."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian

import siamura
from siamura.studies import classes_of, read_boxes

NAMES = {"file": "path", "finding": "label", "region": "part"}
SHARED = ["stem", "part", "patient", "study", "label", "split", "finding"]


@pytest.fixture(scope="module")
def source(shared: Path) -> Path:
    file = (shared / "fracatlas" / "films.csv").resolve()
    if not file.is_file():
        pytest.skip("needs the films of FracAtlas beside the checkout")
    return file


@pytest.fixture(scope="module")
def hand(source: Path) -> pd.DataFrame:
    return siamura.read_studies(source, columns=NAMES, positive="fracture", part="hand")


def dicom(row: pd.Series, file: Path) -> None:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    number = row.name + 1
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", f"1.2.{number}"
    data.Modality, data.PatientID, data.StudyInstanceUID = (
        "DX",
        row["patient"],
        f"1.2.3.{int(row['study'][1:])}",
    )
    data.BodyPartExamined = row["part"].removeprefix("XR_")
    data.PatientName, data.PatientBirthDate, data.PatientAddress = "Doe^Jane", "19600102", "Elm Street"
    data.InstitutionName, data.StudyDate, data.ReferringPhysicianName = "St. Mary", "20200102", "House^G"
    data.PatientAge, data.PatientSex, data.ViewPosition = "061Y", "F", "AP"
    data.Manufacturer, data.ManufacturerModelName, data.Laterality = "Maker", "X-1", "L"
    data.set_pixel_data(np.zeros((8, 8), np.uint8), "MONOCHROME2", 8)
    data.save_as(file, enforce_file_format=True)


def stems(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(stem=[Path(p).stem for p in table["path"]]).sort_values("stem", ignore_index=True)


def test_the_table_of_the_csv(hand: pd.DataFrame, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = pd.read_csv(source)
    own = own[own["region"] == "hand"].reset_index(drop=True)
    assert hand["path"].tolist() == [str(source.parent / file) for file in own["file"]]
    assert hand["finding"].tolist() == own["finding"].tolist()
    assert hand["label"].tolist() == [int(f == "fracture") for f in own["finding"]]
    assert classes_of(hand) == ("normal", "fracture")
    assert hand["hardware"].tolist() == own["hardware"].tolist()
    assert hand["view"].tolist() == own["view"].tolist()
    siamura.read_studies(source, columns=NAMES, positive="fracture", part="hand")
    assert "views of several parts (XR_HAND+SHOULDER" in caplog.text
    assert "each view keeps its own" in caplog.text
    train, valid = siamura.train_valid(hand)
    assert (len(train), len(valid)) == tuple((own["split"] == s).sum() for s in ("train", "valid"))


def test_regions_as_classes(source: Path) -> None:
    names = {"file": "path", "region": "label"}
    own = pd.read_csv(source)
    own = own[~own["region"].str.contains("+", regex=False)]
    table = siamura.read_studies(own, columns=names, root=source.parent)
    assert classes_of(table) == ("hand", "hip", "leg", "shoulder")
    assert table["finding"].tolist() == own["region"].tolist()


def test_a_folder_of_classes(hand: pd.DataFrame, tmp_path: Path) -> None:
    few = hand.iloc[:60]
    for row in few.itertuples():
        place = tmp_path / row.split.upper() / row.finding / f"patient{row.patient[1:]}" / Path(row.path).name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(row.path)
    with pytest.warns(
        UserWarning, match="have views of several classes"
    ):  # the same person, normal and broken
        table = siamura.read_studies(tmp_path, positive="fracture", part="hand")
    same = ["stem", "part", "label", "split", "finding"]
    pd.testing.assert_frame_equal(stems(table)[same], stems(few)[same])
    assert (stems(table)["patient"].str.removeprefix("patient") == stems(few)["patient"].str[1:]).all()
    assert classes_of(table) == classes_of(hand)
    assert table.attrs["source"]["kind"] == "folders"


def test_dicom(hand: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    few = hand.iloc[:60]
    for _, row in few.iterrows():
        (tmp_path / row["patient"]).mkdir(exist_ok=True)
        dicom(row, tmp_path / row["patient"] / f"{Path(row['path']).stem}.dcm")
    labels = {f"{Path(p).stem}.dcm": f for p, f in zip(few["path"], few["finding"], strict=True)} | {
        "gone.dcm": "x"
    }
    caplog.set_level(logging.INFO)
    table = siamura.read_studies(
        tmp_path, labels=labels, positive="fracture", part="Hand", hash_identifiers=False
    )
    assert "taken for a folder of DICOM files, because its files are DICOM" in caplog.text
    assert "1 of 61 labels are of no radiograph there: gone.dcm" in caplog.text
    same = ["stem", "part", "patient", "label", "split", "finding"]
    few = few.assign(split="train").astype({"split": "str"})
    pd.testing.assert_frame_equal(stems(table)[same], stems(few)[same])
    by_study = (
        stems(table).groupby("study", sort=False).ngroup() == stems(few).groupby("study", sort=False).ngroup()
    )
    assert by_study.all()
    first = table.iloc[0]
    kept = ["age", "sex", "laterality", "view", "manufacturer", "scanner", "modality"]
    assert list(table.columns[7:]) == kept
    assert first[kept].tolist() == [61.0, "F", "L", "AP", "Maker", "X-1", "DX"]
    everything = table.drop(columns="path").to_csv() + str(table.attrs)
    for secret in ("Doe", "Jane", "1960", "Elm", "Mary", "2020", "House"):
        assert secret not in everything
    hashed = siamura.read_studies(tmp_path, salt="a salt for tests", part="hand")
    assert set(hashed["label"]) == {-1}
    assert not set(hashed["patient"]) & set(table["patient"])
    assert "no labels= given, so every label is -1" in caplog.text


def test_one_patient_for_all_is_named(tmp_path: Path, hand: pd.DataFrame) -> None:
    for _, row in hand.iloc[:5].iterrows():
        dicom(row.replace({row["patient"]: "ANON"}), tmp_path / f"{row.name}.dcm")
    with pytest.warns(UserWarning, match="'ANON' has 5 of the 5 views.*Was the PatientID made anonymous"):
        siamura.read_studies(tmp_path, hash_identifiers=False)


def test_boxes(source: Path, hand: pd.DataFrame) -> None:
    boxes = read_boxes(source.parent / "lesions.csv", hand)
    assert len(boxes) > 200
    assert set(boxes["path"]) == set(hand.loc[hand["label"] == 1, "path"]) - set(boxes.attrs["without"])
    with Image.open(boxes["path"][0]) as film:
        assert boxes["x1"][0] <= film.width
