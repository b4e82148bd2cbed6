"""A folder of DICOM files, as a table."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

from siamura._files import printable
from siamura._image_files import image_kind, not_one_grey_image
from siamura._validation import check_choice

from .checks import LEAK, Row, callers_level, doubtful_patients, make_table
from .identifiers import namer
from .labels import Classes, missing, two_classes
from .names import listed, part_name

log = logging.getLogger(__name__)

MODALITIES: Final = frozenset({"CR", "DX"})
NEEDED: Final = [
    "Modality", "PatientID", "StudyInstanceUID", "BodyPartExamined", "SOPClassUID",
    "PhotometricInterpretation", "SamplesPerPixel", "NumberOfFrames",
]  # fmt: skip
DIRECTORY: Final = "1.2.840.10008.1.3.10"
UNLABELLED: Final = -1

KEPT: Final = {
    "PatientAge": "age",
    "PatientSex": "sex",
    "Laterality": "laterality",
    "ImageLaterality": "laterality",
    "ViewPosition": "view",
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "scanner",
    "Modality": "modality",
}
"""What `siamura.read_studies` keeps of a header, and the name of its column: nothing that names a person, a
place, a date or a device."""

Labels = Mapping[str, Any] | Callable[[str], Any]


def read_dicom_folder(
    root: str | os.PathLike[str],
    labels: Labels | None = None,
    *,
    hash_identifiers: bool = True,
    salt: str | None = None,
    on_error: str = "raise",
) -> pd.DataFrame:
    """Read the radiographs below a folder of DICOM files as a table.

    PatientID becomes ``patient``, StudyInstanceUID ``study``, BodyPartExamined ``part`` (HAND becomes
    ``"XR_HAND"``); nothing else of the header is kept (:func:`siamura.read_studies`
    keeps age, sex and the like). Modalities other than CR and DX, and files that are
    no DICOM, are passed over and counted (:func:`siamura.studies.skipped`).

    Parameters
    ----------
    root : path
        Searched with all its folders; DICOM files are recognised by content.
    labels : mapping or callable, optional
        The header holds no label. A mapping from StudyInstanceUID, from the path below ``root``, or from the
        file's name, to 0/1 (or normal/abnormal, negative/positive); or a function of the path below
        ``root``. Default: every label is -1, unknown, which is enough to predict but not to train or score.
    hash_identifiers : bool
        Replace PatientID and StudyInstanceUID by the first 16 digits of their HMAC-SHA-256 under ``salt``.
        The paths stay as they are: folders named after patients still name them.
    salt : str, optional
        The secret that keeps hashes from being undone by trying all patient numbers, of which there are few.
        The same salt gives a patient the same name in every run and on every machine; keep it as secret as
        the identifiers. Default: a random one, made on first use and kept in ``siamura/salt`` in the user's
        configuration folder (``$XDG_CONFIG_HOME`` or ``~/.config``), readable by the user alone.
    on_error : {"raise", "report"}
        What to do about damaged files, files without StudyInstanceUID and files without a label: raise one
        ValueError that lists them, or leave them out and keep them for :func:`siamura.studies.problems`.

    Returns
    -------
    DataFrame
        One row a file, columns ``path, part, patient, study, label, split``; the split is ``"train"``
        throughout (see :func:`split_patients`).

    Raises
    ------
    FileNotFoundError
        No such root.
    ModuleNotFoundError
        pydicom is not installed.
    ValueError
        No radiograph below the root, or a file is wrong and ``on_error="raise"``.

    References
    ----------
    DICOM PS3.3 C.7.1.1 (patient), C.7.2.1 (study); PS3.15 annex E (what identifies a person).

    Examples
    --------
    >>> import tempfile, pydicom
    >>> image, folder = pydicom.Dataset(), tempfile.mkdtemp()
    >>> image.Modality, image.BodyPartExamined, image.PatientID, image.StudyInstanceUID = "DX", "HAND", "17", "1.2.3"
    >>> image.save_as(f"{folder}/film.dcm", implicit_vr=True, little_endian=True)
    >>> read_dicom_folder(folder, labels={"1.2.3": 1}, hash_identifiers=False)[["part", "patient", "study", "label"]]
          part patient  study  label
    0  XR_HAND      17  1.2.3      1
    """
    check_choice("on_error", on_error, ("raise", "report"))
    found = scan(root, labels, hash_identifiers, salt)
    return found.table(two_classes((), None, found.name), on_error)


@dataclass(frozen=True)
class Image:
    """A radiograph: its file, what its header says, and its label as it was given."""

    path: str
    part: str
    patient: str
    study: str
    label: Any
    kept: dict[str, Any]


@dataclass
class Archive:
    """What a folder of DICOM files holds.

    Parameters
    ----------
    name : str
        The folder, for messages.
    images : list of Image
    bad : list of (path, reason)
    left_out : dict
    nameless : int
        Files without PatientID.
    labelled : bool
        Whether labels were given.
    """

    name: str
    images: list[Image] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=lambda: {"hidden": 0, "other": 0})
    nameless: int = 0
    labelled: bool = False

    def table(
        self, classes: Classes, on_error: str, parts: set[str] | None = None, keep: bool = False
    ) -> pd.DataFrame:
        """Build the table, and warn of patients who are unknown or may be none."""
        if self.nameless:
            warnings.warn(
                f"{self.nameless} of {len(self.images)} files below {self.name} have no PatientID, so each of their "
                f"studies counts as a person; {LEAK}. Put the PatientID back, or keep these files out.",
                UserWarning,
                stacklevel=callers_level(),
            )
        rows: list[Row] = []
        kept: list[dict[str, Any]] = []
        bad = list(self.bad)
        for image in self.images:
            if parts is not None and image.part not in parts:
                continue
            code = classes.code(image.label) if self.labelled else UNLABELLED
            if code is None:
                what = "label" if keep else "0 or 1"
                bad.append((image.path, f"labels has no {what} for its study, its path or its name"))
                continue
            rows.append((image.path, image.part, image.patient, image.study, code, "train"))
            kept.append(image.kept)
        extra = _columns(kept) if keep else None
        options = {"classes": classes.names, "extra": extra, "by_view": keep}
        table = make_table(rows, bad, self.left_out, self.name, on_error, **options)  # type: ignore[arg-type]
        if any(self.left_out.values()):
            log.info(
                "%s: passed over %d hidden files and %d that are no radiographs",
                self.name,
                *self.left_out.values(),
            )
        if len(table):
            remedy = "Was the PatientID made anonymous, one for all? Put one for each person back."
            doubtful_patients(table.assign(label=0), self.name, remedy)
        return table


def scan(
    root: str | os.PathLike[str],
    labels: Labels | None,
    hash_identifiers: bool = True,
    salt: str | None = None,
) -> Archive:
    """Read the headers of all radiographs below a folder."""
    try:
        from pydicom import dcmread  # an optional extra
    except ImportError as error:
        raise ModuleNotFoundError(
            'reading DICOM files needs pydicom: pip install "siamura[dicom]"'
        ) from error
    base = Path(root).expanduser().absolute()
    if not base.is_dir():
        raise FileNotFoundError(f"root={str(root)!r} is no folder: give one that holds DICOM files.")
    name = namer(salt) if hash_identifiers else str
    find = _LabelFinder(labels)
    found = Archive(printable(base), labelled=labels is not None)
    for path in _files(base, found.left_out):
        if image_kind(path) != "DICOM":
            found.left_out["other"] += 1
            continue
        try:
            header = dcmread(path, force=True, specific_tags=[*NEEDED, *KEPT], stop_before_pixels=True)
            patient, study, part, modality, kind = (str(header.get(key) or "").strip() for key in _READ)
            kept, other = _kept(header), not_one_grey_image(header)
        except Exception as error:
            # pydicom raises what it likes on damaged bytes.
            found.bad.append((path, f"its DICOM header is damaged ({' '.join(str(error).split())[:200]})"))
            continue
        stored_as = getattr(header, "file_meta", {}).get("MediaStorageSOPClassUID")
        if modality not in MODALITIES or DIRECTORY in (kind, stored_as):
            found.left_out["other"] += 1
            continue
        if other:
            found.bad.append((path, other))
            continue
        if not study:
            found.bad.append((path, "its DICOM header has no StudyInstanceUID, so its study is unknown"))
            continue
        label = find(study, os.path.relpath(path, base).replace(os.sep, "/"))
        found.nameless += not patient
        image = Image(path, part_of(part), name(patient or study), name(study), label, kept)
        found.images.append(image)
    if not found.images and not found.bad:
        raise ValueError(
            f"root={str(root)!r} holds no radiograph: of its {found.left_out['other']} files none is a DICOM "
            "file of the modality CR or DX."
        )
    find.tell_unused(found.name)
    return found


_READ: Final = ("PatientID", "StudyInstanceUID", "BodyPartExamined", "Modality", "SOPClassUID")


def _kept(header: Any) -> dict[str, Any]:
    """Read what is kept of a header, each value only in the form that its element has."""
    found: dict[str, Any] = {}
    for tag, column in KEPT.items():
        value = str(header.get(tag) or "").strip()
        if tag == "PatientAge":
            found[column] = age_in_years(value)
        elif value and column not in found:
            form = {
                "sex": r"[MFO]",
                "laterality": r"[LRBU]",
                "view": r"[A-Z0-9 _]{1,16}",
                "modality": r"[A-Z]{2}",
            }
            if re.fullmatch(form.get(column, r"[^\^]{1,64}"), value):
                found[column] = value
    return found


def age_in_years(value: str) -> float | None:
    """Read a DICOM age, as in 063Y, 018M, 003W, 011D; above 89 it is 90, as few are so old.

    References
    ----------
    DICOM PS3.5 6.2 (AS); 45 CFR 164.514(b)(2)(i)(C).

    Examples
    --------
    >>> [age_in_years(age) for age in ("063Y", "018M", "101Y", "young")]
    [63.0, 1.5, 90.0, None]
    """
    match = re.fullmatch(r"(\d{1,3})([DWMY])", value)
    if match is None:
        return None
    years = int(match.group(1)) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[match.group(2)]
    return min(round(years, 2), 90.0)


def _columns(kept: list[dict[str, Any]]) -> pd.DataFrame:
    """Put what was kept into columns; those that no file has are left out."""
    frame = pd.DataFrame(index=range(len(kept)))
    for column in dict.fromkeys(KEPT.values()):
        values = [one.get(column) for one in kept]
        if any(v is not None for v in values):
            frame[column] = pd.Series(values, dtype="float64" if column == "age" else "str")
    return frame


def _files(base: Path, left_out: dict[str, int]) -> Iterator[str]:
    """Yield the files below a folder in order; hidden ones are counted."""
    for here, folders, files in os.walk(base):
        left_out["hidden"] += sum(n.startswith(".") for n in (*folders, *files))
        folders[:] = sorted(n for n in folders if not n.startswith("."))
        yield from (os.path.join(here, n) for n in sorted(files) if not n.startswith("."))


def part_of(examined: str) -> str:
    """Turn BodyPartExamined into a part's name."""
    return part_name(examined.replace("+", " "))


class _LabelFinder:
    """Find the label of a study and a path below the root; keep in mind which labels were of use."""

    def __init__(self, labels: Labels | None) -> None:
        if labels is not None and not callable(labels) and not isinstance(labels, Mapping):
            raise ValueError(
                f"labels is a {type(labels).__name__}; give a mapping from StudyInstanceUID, path or file name "
                "to a label, as in 0 or 1, or a function of the path."
            )
        self.labels = labels
        self.used: set[str] = set()

    def __call__(self, study: str, below: str) -> Any:
        if self.labels is None:
            return None
        if callable(self.labels):
            return self.labels(below)
        keys = [key for key in (study, below, below.rpartition("/")[2]) if key in self.labels]
        self.used.update(keys)
        return next((self.labels[key] for key in keys if not missing(self.labels[key])), None)

    def tell_unused(self, name: str) -> None:
        """Say which labels are of no file."""
        if isinstance(self.labels, Mapping):
            rest = [key for key in self.labels if key not in self.used]
            if rest:
                log.warning(
                    "%s: %d of %d labels are of no radiograph there: %s",
                    name,
                    len(rest),
                    len(self.labels),
                    listed(rest, 5),
                )
