"""A folder of DICOM files, as a table."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import re
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from siamura._image_files import image_kind

from .table import LEAK, UNKNOWN_PART, check_choice, finish, label_reader, missing

log = logging.getLogger(__name__)

MODALITIES: Final = frozenset({"CR", "DX"})
NEEDED: Final = ["Modality", "PatientID", "StudyInstanceUID", "BodyPartExamined", "SOPClassUID"]
DIRECTORY: Final = "1.2.840.10008.1.3.10"
UNLABELLED: Final = -1

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
    ``"XR_HAND"``); nothing else of the header is kept. Modalities other than CR and DX, and files that are
    no DICOM, are passed over and counted (:func:`siamura.studies.skipped`).

    Parameters
    ----------
    root : path
        Searched with all its folders; DICOM files are told by content.
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
    >>> film, folder = pydicom.Dataset(), tempfile.mkdtemp()
    >>> film.Modality, film.BodyPartExamined, film.PatientID, film.StudyInstanceUID = "DX", "HAND", "17", "1.2.3"
    >>> film.save_as(f"{folder}/film.dcm", implicit_vr=True, little_endian=True)
    >>> read_dicom_folder(folder, labels={"1.2.3": 1}, hash_identifiers=False)[["part", "patient", "study", "label"]]
          part patient  study  label
    0  XR_HAND      17  1.2.3      1
    """
    check_choice("on_error", on_error, ("raise", "report"))
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise ModuleNotFoundError(
            'reading DICOM files needs pydicom: pip install "siamura[dicom]"'
        ) from error
    base = Path(root).expanduser().absolute()
    if not base.is_dir():
        raise FileNotFoundError(f"root={str(root)!r} is no folder: give one that holds DICOM files.")
    name = _namer(salt) if hash_identifiers else str
    find = _label_finder(labels)
    left_out = {"hidden": 0, "other": 0}
    rows: list[tuple[str, str, str, str | None, int, str]] = []
    bad: list[tuple[str, str]] = []
    nameless = 0
    for path in _files(base, left_out):
        if image_kind(path) != "DICOM":
            left_out["other"] += 1
            continue
        try:
            header = dcmread(path, force=True, specific_tags=NEEDED, stop_before_pixels=True)
            patient, study, part, modality, kind = (
                str(header.get(key) or "").strip()
                for key in ("PatientID", "StudyInstanceUID", "BodyPartExamined", "Modality", "SOPClassUID")
            )
        except Exception as error:
            # pydicom raises what it likes on damaged bytes.
            bad.append((path, f"its DICOM header is damaged ({' '.join(str(error).split())[:200]})"))
            continue
        stored_as = getattr(header, "file_meta", {}).get("MediaStorageSOPClassUID")
        if modality not in MODALITIES or DIRECTORY in (kind, stored_as):
            left_out["other"] += 1
            continue
        if not study:
            bad.append((path, "its DICOM header has no StudyInstanceUID, so its study is unknown"))
            continue
        label = find(study, os.path.relpath(path, base).replace(os.sep, "/"))
        if label is None:
            bad.append((path, "labels has no 0 or 1 for its study, its path or its name"))
            continue
        if not patient:
            nameless += 1
            patient = study
        rows.append((path, _part(part), name(patient), name(study), label, "train"))
    if not rows and not bad:
        raise ValueError(
            f"root={str(root)!r} holds no radiograph: of its {left_out['other']} files none is a DICOM "
            "file of the modality CR or DX."
        )
    if nameless:
        warnings.warn(
            f"{nameless} of {len(rows)} files below {base} have no PatientID, so each of their studies "
            f"counts as a person; {LEAK}. Put the PatientID back, or keep these files out.",
            UserWarning,
            stacklevel=2,
        )
    if any(left_out.values()):
        log.info("%s: passed over %d hidden files and %d that are no radiographs", base, *left_out.values())
    return finish(rows, bad, left_out, str(base), on_error)


def _files(base: Path, left_out: dict[str, int]) -> Iterator[str]:
    """Yield the files below a folder in order; hidden ones are counted."""
    for here, folders, files in os.walk(base):
        left_out["hidden"] += sum(n.startswith(".") for n in (*folders, *files))
        folders[:] = sorted(n for n in folders if not n.startswith("."))
        yield from (os.path.join(here, n) for n in sorted(files) if not n.startswith("."))


def _part(examined: str) -> str:
    """Turn BodyPartExamined into a part's name."""
    words = re.sub(r"[^A-Z0-9]+", "_", examined.upper()).strip("_")
    return f"XR_{words}" if words else UNKNOWN_PART


def _label_finder(labels: Labels | None) -> Callable[[str, str], int | None]:
    """Give the function that finds the label of a study and a path below the root."""
    if labels is None:
        return lambda study, below: UNLABELLED
    if not callable(labels) and not isinstance(labels, Mapping):
        raise ValueError(
            f"labels is a {type(labels).__name__}; give a mapping from StudyInstanceUID, path or file name "
            "to 0 or 1, or a function of the path."
        )
    read = label_reader(None)

    def find(study: str, below: str) -> int | None:
        if callable(labels):
            value = labels(below)
        else:
            keys = (study, below, below.rpartition("/")[2])
            value = next((labels[key] for key in keys if key in labels), None)
        found: int | None = None if missing(value) else read(value)
        return found

    return find


def _namer(salt: str | None) -> Callable[[str], str]:
    """Give the function that replaces an identifier by its salted hash."""
    if salt is not None and len(salt) < 8:
        raise ValueError(
            f"salt has {len(salt)} characters: give a secret of 8 or more, or leave it to siamura."
        )
    key = _kept_salt() if salt is None else salt.encode()
    return lambda identifier: hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()[:16]


def _kept_salt() -> bytes:
    """Read this user's salt; make it where there is none yet."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "siamura"
    file = folder / "salt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Written beside and linked: of two processes that start at once, both go on with the same salt.
        draft = folder / f".salt-{secrets.token_hex(8)}"
        if not file.exists():
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as handle:
                handle.write(secrets.token_hex(32))
            with contextlib.suppress(FileExistsError):
                os.link(draft, file)
            draft.unlink()
        kept = file.read_bytes().strip()
    except OSError as error:
        raise ValueError(
            f"the salt for hashing identifiers cannot be kept in {file} ({error.strerror}): pass salt='a "
            "secret of yours'."
        ) from error
    if len(kept) < 16:
        raise ValueError(
            f"the salt in {file} is too short to keep a secret: remove the file to get a new one."
        )
    return kept
