"""read_dicom_folder: a study table from headers, without names."""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

import siamura
from siamura.studies import COLUMNS, problems, read_dicom_folder, skipped

SALT = "a salt for tests"


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder of the test's own."""
    folder = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder


def write(file: Path, **header: Any) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    elements: dict[str, Any] = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": "1.2.3",
        "Modality": "DX",
        "PatientID": "4711",
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19700101",
        "StudyInstanceUID": "1.2.3.4",
        "BodyPartExamined": "HAND",
        "Rows": 2,
        "Columns": 2,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PixelData": b"\0\1\2\3",
    }
    for key, value in (elements | header).items():
        if value is not None:
            setattr(data, key, value)
    file.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(file, enforce_file_format=True)
    return file


def hashed(identifier: str, salt: str = SALT) -> str:
    return hmac.new(salt.encode(), identifier.encode(), hashlib.sha256).hexdigest()[:16]


def test_the_table(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.dcm")
    write(tmp_path / "a" / "2.dcm", BodyPartExamined="l-Wrist ")
    write(
        tmp_path / "b" / "NONAME",
        PatientID="4712",
        StudyInstanceUID="1.2.3.5",
        BodyPartExamined=None,
        Modality="CR",
    )
    table = read_dicom_folder(tmp_path, {"1.2.3.4": 1, "1.2.3.5": "normal"}, salt=SALT)
    assert tuple(table.columns) == COLUMNS
    assert table["path"].tolist() == [str(tmp_path / n) for n in ("a/1.dcm", "a/2.dcm", "b/NONAME")]
    assert table["part"].tolist() == ["XR_HAND", "XR_L_WRIST", "XR_UNKNOWN"]
    assert table["patient"].tolist() == [hashed("4711"), hashed("4711"), hashed("4712")]
    assert table["study"].tolist() == [hashed("1.2.3.4"), hashed("1.2.3.4"), hashed("1.2.3.5")]
    assert table["label"].tolist() == [1, 1, 0]
    assert siamura.read_image(table["path"][0]).tolist() == [[0, 1], [2, 3]]


def test_nothing_else_of_the_header_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "1.dcm")
    everything = str(read_dicom_folder(tmp_path, salt=SALT).drop(columns="path").to_dict())
    for secret in ("Doe", "Jane", "4711", "1970", "1.2.3"):
        assert secret not in everything


def test_identifiers_can_be_kept(tmp_path: Path) -> None:
    write(tmp_path / "1.dcm")
    table = read_dicom_folder(tmp_path, hash_identifiers=False)
    assert table[["patient", "study"]].values.tolist() == [["4711", "1.2.3.4"]]


def test_the_salt_is_made_once_and_kept_to_the_user(tmp_path: Path, home: Path) -> None:
    write(tmp_path / "1.dcm")
    first, again = (read_dicom_folder(tmp_path)["patient"][0] for _ in range(2))
    kept = home / "siamura" / "salt"
    assert first == again == hashed("4711", kept.read_text())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [p.name for p in kept.parent.iterdir()] == ["salt"]
    kept.unlink()
    assert read_dicom_folder(tmp_path)["patient"][0] != first
    kept.write_text("short")
    with pytest.raises(ValueError, match="too short to keep a secret"):
        read_dicom_folder(tmp_path)


def test_a_salt_that_cannot_be_kept(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "1.dcm")
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "file"))
    with pytest.raises(ValueError, match="pass salt="):
        read_dicom_folder(tmp_path)
    with pytest.raises(ValueError, match="salt has 3 characters"):
        read_dicom_folder(tmp_path, salt="abc")


def test_labels_by_path_by_name_and_by_function(tmp_path: Path) -> None:
    write(tmp_path / "pos" / "1.dcm")
    write(tmp_path / "neg" / "2.dcm", StudyInstanceUID="1.2.3.5")
    for labels in ({"pos/1.dcm": 1, "2.dcm": 0}, lambda below: below.startswith("pos")):
        table = read_dicom_folder(tmp_path, labels)
        assert dict(zip([Path(p).name for p in table["path"]], table["label"], strict=True)) == {
            "1.dcm": 1,
            "2.dcm": 0,
        }
    assert read_dicom_folder(tmp_path)["label"].tolist() == [-1, -1]
    with pytest.raises(ValueError, match="labels has no 0 or 1 for its study"):
        read_dicom_folder(tmp_path, {"1.2.3.4": 1})
    with pytest.raises(ValueError, match="labels is a int"):
        read_dicom_folder(tmp_path, 1)  # type: ignore[arg-type]


def test_views_of_a_study_must_agree(tmp_path: Path) -> None:
    write(tmp_path / "1.dcm")
    write(tmp_path / "2.dcm")
    with pytest.raises(ValueError, match="has views with label 0 and 1"):
        read_dicom_folder(tmp_path, {"1.dcm": 1, "2.dcm": 0})


def test_what_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "1.dcm")
    write(tmp_path / "ct.dcm", Modality="CT")
    write(tmp_path / "DICOMDIR", SOPClassUID="1.2.840.10008.1.3.10", Modality=None)
    write(tmp_path / "._2.dcm")
    (tmp_path / "notes.txt").write_text("no DICOM file, whatever its length may be")
    (tmp_path / "fake.dcm").write_text("no DICOM file either, in spite of its name")
    table = read_dicom_folder(tmp_path)
    assert len(table) == 1
    assert skipped(table) == {"hidden": 1, "other": 4}


def test_studies_without_a_patient_warn(tmp_path: Path) -> None:
    write(tmp_path / "1.dcm", PatientID=None)
    write(tmp_path / "2.dcm", PatientID="", StudyInstanceUID="1.2.3.5")
    with pytest.warns(UserWarning, match="2 of 2 files .* have no PatientID"):
        table = read_dicom_folder(tmp_path)
    assert table["patient"].nunique() == 2


def test_what_is_wrong_is_an_error_or_a_row_of_the_report(tmp_path: Path) -> None:
    write(tmp_path / "1.dcm")
    write(tmp_path / "2.dcm", StudyInstanceUID=None)
    with pytest.raises(ValueError, match="has no StudyInstanceUID"):
        read_dicom_folder(tmp_path)
    table = read_dicom_folder(tmp_path, on_error="report")
    assert len(table) == 1
    assert problems(table)["path"].tolist() == [str(tmp_path / "2.dcm")]


def test_folders_without_radiographs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder"):
        read_dicom_folder(tmp_path / "absent")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match="of its 1 files none is a DICOM file of the modality CR or DX"):
        read_dicom_folder(tmp_path)


def test_mutated_headers_raise_nothing_else(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.dcm").read_bytes()
    random = np.random.default_rng(2)
    for number in range(150):
        body = bytearray(whole)
        for _ in range(3):
            body[int(random.integers(132, len(body)))] = int(random.integers(0, 256))
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "a.dcm").write_bytes(bytes(body[: int(random.integers(140, len(body)))]))
        (folder / "b.dcm").write_bytes(whole)
        assert len(read_dicom_folder(folder, on_error="report", salt=SALT)) >= 1


def test_real_files(shared: Path) -> None:
    table = read_dicom_folder(shared / "dicom", salt=SALT)
    assert table["part"].tolist() == ["XR_EXTREMITY", "XR_CHEST"]
    assert table["patient"].nunique() == 2
    assert (table["patient"].str.len() == 16).all()


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "colour image (RGB, 3 samples a pixel)"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour image (PALETTE COLOR, 1 samples a pixel)"),
        ({"NumberOfFrames": 5}, "holds 5 frames"),
    ],
)
def test_what_read_image_refuses_is_not_listed(tmp_path: Path, header: dict[str, Any], reason: str) -> None:
    good, bad = write(tmp_path / "1.dcm"), write(tmp_path / "2.dcm", **header)
    with pytest.raises(siamura.pixels.UnreadableImage, match=re.escape(reason)):
        siamura.read_image(bad)
    with pytest.raises(ValueError, match=re.escape(reason)):
        read_dicom_folder(tmp_path)
    table = read_dicom_folder(tmp_path, on_error="report")
    assert table["path"].tolist() == [str(good)]
    assert reason in problems(table).to_string(max_colwidth=None)
