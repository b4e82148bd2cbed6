"""One test of what an image file is: by content, the same for tables, reading, prediction and the page."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siamura._image_files import find_images, image_kind, natural_order, summarize_passed_over
from siamura.inference import list_views
from siamura.pixels import read_image
from siamura.studies import read_dicom_folder, read_folders, read_mura, skipped

GREY = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (16, 1))
PILLOW = {"PNG": "PNG", "JPEG": "JPEG", "TIFF": "TIFF", "BMP": "BMP", "WebP": "WEBP"}


def encoded(kind: str) -> bytes:
    """Bytes of a small film in each format."""
    file = io.BytesIO()
    image = Image.fromarray(GREY)
    (image.convert("RGB") if kind == "WebP" else image).save(file, PILLOW[kind])
    return file.getvalue()


def dicom(*, preamble: bool = True, implicit: bool = False, modality: str = "DX") -> bytes:
    """Bytes of a DICOM film, with and without the preamble and the header that most files have."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3.4"
    data.Modality, data.PatientID, data.StudyInstanceUID = modality, "17", "1.2.3"
    data.Rows, data.Columns, data.SamplesPerPixel = *GREY.shape, 1
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation, data.PhotometricInterpretation = 7, 0, "MONOCHROME2"
    data.PixelData = GREY.tobytes()
    file = io.BytesIO()
    if not preamble:
        data.save_as(file, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    else:
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.save_as(file, enforce_file_format=True)
    return file.getvalue()


DICOMS = {
    "preamble": {},
    "preamble, implicit": {"implicit": True},
    "bare, explicit": {"preamble": False},
    "bare, implicit": {"preamble": False, "implicit": True},
}


@pytest.mark.parametrize("kind", PILLOW)
def test_pictures_are_told_by_content_whatever_their_name(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "film"
    file.write_bytes(encoded(kind))
    assert image_kind(file) == image_kind(str(file)) == image_kind(file.read_bytes()) == kind
    assert read_image(file).shape == GREY.shape


@pytest.mark.parametrize("form", DICOMS)
@pytest.mark.parametrize("name", ["IM0001", "film.IMA", "film.dic", "film.dcm", "film.17", "film.png"])
def test_dicom_is_told_by_content_and_listed_by_all_who_read_it(form: str, name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(dicom(**DICOMS[form]))
    assert image_kind(file) == "DICOM"
    assert find_images(tmp_path).images == [file]
    assert list_views([tmp_path])["path"].tolist() == [str(file)]
    table = read_dicom_folder(tmp_path, hash_identifiers=False)
    assert table["path"].tolist() == [str(file)]
    assert np.array_equal(read_image(file), GREY)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"BMI,patient,label\n17,3,1\n",
        b"path,label\na.png,1\n",
        b"\x08\x00" + bytes(200),
        b"\x08\x00\x05\x00" + b"\xff" * 200,
        b"<html>not found</html>",
        b"GIF89a" + bytes(100),
        np.random.default_rng(0).bytes(5000),
        bytes(5000),
    ],
)
def test_other_content_is_no_image(data: bytes) -> None:
    assert image_kind(data) is None


def test_random_bytes_are_no_dicom() -> None:
    rng = np.random.default_rng(1)
    for group in (2, 8, 0x10, 0x28):
        for _ in range(300):
            assert image_kind(group.to_bytes(2, "little") + rng.bytes(400)) is None


def test_a_dicomdir_holds_no_image(tmp_path: Path) -> None:
    file = tmp_path / "DICOMDIR"
    file.write_bytes(dicom().replace(b"1.2.840.10008.5.1.4.1.1.1.1\0", b"1.2.840.10008.1.3.10", 1))
    data = bytearray(file.read_bytes())
    at = data.index(b"\x02\x00\x02\x00UI") + 6
    data[at] = 20
    file.write_bytes(bytes(data))
    assert image_kind(file) is None
    assert "DICOMDIR" in find_images(tmp_path).passed_over[0][1]


def test_a_folder_is_listed_in_natural_order_with_what_was_passed_over(tmp_path: Path) -> None:
    for name in ("film10.png", "film2.png", "sub/film1.jpg", "film1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded("PNG"))
    (tmp_path / "notes.txt").write_text("left hand, after the fall")
    (tmp_path / "._film2.png").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "film.png").write_bytes(encoded("PNG"))
    (tmp_path / "damaged.png").write_bytes(b"")  # named as an image: reading it says what is wrong
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    images, passed_over = find_images(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in images] == [
        "damaged.png",
        "film1",
        "film2.png",
        "film10.png",
        "sub/film1.jpg",
    ]
    reasons = {os.path.basename(path): reason for path, reason in passed_over}
    assert reasons.pop("pipe", "it is no regular file") == "it is no regular file"
    assert reasons == {
        "._film2.png": "it is hidden",
        ".git": "it is hidden",
        "notes.txt": "it is no PNG, JPEG, TIFF, BMP, WebP or DICOM file",
    }
    assert "notes.txt" in summarize_passed_over(passed_over)
    assert summarize_passed_over(passed_over).endswith("2 hidden ones")


def test_natural_order_never_compares_a_number_with_a_word() -> None:
    names = ["a", "1", "a1", "1a", "a01", "", "/", "10", "2", "b/1", "b/a", "B/2", "²"]
    assert len(sorted(names, key=natural_order)) == len(names)


def test_predict_says_what_it_passes_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "film.IMA").write_bytes(dicom())
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7 ........")
    with caplog.at_level(logging.WARNING, logger="siamura"):
        assert len(list_views([tmp_path])) == 1
    assert "report.pdf: it is a PDF document" in caplog.text


def test_folders_and_mura_list_what_is_an_image_by_content(tmp_path: Path) -> None:
    for name in ("normal/patient1/IM1", "fracture/patient2/IM2.IMA"):
        file = tmp_path / "classes" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(dicom())
    (tmp_path / "classes/normal/patient1/notes").write_text("nothing of note here")
    table = read_folders(tmp_path / "classes")
    assert [Path(path).name for path in table["path"]] == ["IM2.IMA", "IM1"]
    assert skipped(table) == {"hidden": 0, "other": 1}
    for study in ("train/XR_HAND/patient1/study1_positive", "valid/XR_HAND/patient2/study1_negative"):
        folder = tmp_path / "MURA" / study
        folder.mkdir(parents=True)
        (folder / "image1").write_bytes(encoded("PNG"))
        (folder / "notes.txt").write_text("nothing of note here")
    table = read_mura(tmp_path / "MURA")
    assert [Path(path).name for path in table["path"]] == ["image1", "image1"]
    assert skipped(table) == {"hidden": 0, "other": 2}
