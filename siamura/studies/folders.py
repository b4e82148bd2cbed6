"""One folder a class, as image classification sets often come."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from siamura._image_files import HIDDEN, IMAGE_KINDS, find_images

from .table import ABNORMAL, NORMAL, UNKNOWN_PART, check_choice, finish, warn_unknown

log = logging.getLogger(__name__)

SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
PERSON = re.compile(r"(?:patient|person|subject|pat|subj)[-_ ]?\d+", re.IGNORECASE)


def read_folders(
    root: str | os.PathLike[str],
    *,
    positive: str | Sequence[str] | None = None,
    patient: str | Callable[[str], str | None] | None = None,
    part: str = UNKNOWN_PART,
    on_error: str = "raise",
) -> pd.DataFrame:
    """Read images sorted into one folder a class, as a table.

    Parameters
    ----------
    root : path
        Holds the class folders, as in ``root/normal`` and ``root/fracture``; or folders named train, valid
        (val, validation) and test that hold them.
    positive : str or list of str, optional
        The classes that mean abnormal. Default: positive, abnormal, 1, true or yes; or, beside a folder
        called negative, normal, 0, false or no, the one other class.
    patient : str or callable, optional
        Where the patient stands: a regular expression looked for in the path below the class folder, whose
        first group (or whole match) is the patient, or a function of that path. Default: the name of a
        folder between the class and the image, else ``patient12``, ``person_12`` or ``subject-12`` in the
        file's name. Images without count as a person each, with a warning.
    part : str
        The body part of all images.
    on_error : {"raise", "report"}
        Raise a ValueError for a patient in two splits, or leave those rows out and keep them for
        :func:`siamura.studies.problems`.

    Returns
    -------
    DataFrame
        One row a view, columns ``path, part, patient, study, label, split``; a view is a study of its own.

    Raises
    ------
    FileNotFoundError
        No such root.
    ValueError
        No class folders, no images, or it is not clear which class means abnormal.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("normal/patient1.png", "normal/patient2.png", "fracture/patient3.png"):
    ...     (root / name).parent.mkdir(exist_ok=True)
    ...     _ = (root / name).write_bytes(b"...")
    >>> read_folders(root)[["patient", "label"]]
        patient  label
    0  patient3      1
    1  patient1      0
    2  patient2      0
    """
    check_choice("on_error", on_error, ("raise", "report"))
    base = Path(root).expanduser().absolute()
    if not base.is_dir():
        raise FileNotFoundError(
            f"root={str(root)!r} is no folder: give the folder that holds one folder a class."
        )
    left_out = {"hidden": 0, "other": 0}
    top = _subfolders(base, left_out)
    splits = [name for name in top if name.lower() in SPLITS]
    if splits and len(splits) < len(top):
        raise ValueError(
            f"root={str(root)!r} holds splits ({', '.join(splits)}) beside other folders "
            f"({', '.join(n for n in top if n not in splits)}): move one kind elsewhere."
        )
    places = {SPLITS[name.lower()]: base / name for name in splits} or {"train": base}
    if splits and len(places) < len(splits):
        raise ValueError(
            f"root={str(root)!r} holds one split under two names ({', '.join(splits)}): join them."
        )
    classes = {split: _subfolders(place, left_out) for split, place in places.items()}
    names = sorted({name for found in classes.values() for name in found})
    abnormal = _abnormal(names, positive, base)
    who = _finder(patient)
    rows: list[tuple[str, str, str, str | None, int, str]] = []
    unknown = 0
    for split, place in places.items():
        for name in classes[split]:
            for below in _walk(place / name, left_out):
                person = who(below)
                if person is None:
                    unknown += 1
                    person = f"{split}/{name}/{below}"
                rows.append((str(place / name / below), part, person, None, int(name in abnormal), split))
    if not rows:
        raise ValueError(
            f"root={str(root)!r} holds no images in its class folders ({', '.join(names)}); siamura reads "
            f"{', '.join(IMAGE_KINDS)}."
        )
    if unknown:
        warn_unknown(
            unknown, len(rows), str(base), "say where the patient stands in the path, with patient=..."
        )
    if any(left_out.values()):
        log.info("%s: passed over %d hidden files and %d that are no images", base, *left_out.values())
    return finish(rows, [], left_out, str(base), on_error)


def _abnormal(names: list[str], positive: str | Sequence[str] | None, base: Path) -> set[str]:
    """Say which classes mean abnormal, and refuse to guess."""
    if len(names) < 2:
        raise ValueError(
            f"root={str(base)!r} holds {len(names)} class folder{'s' if len(names) != 1 else ''}"
            f"{' (' + names[0] + ')' if names else ''}: one folder a class is needed, as in normal/ and "
            "fracture/."
        )
    if positive is not None:
        asked = {positive} if isinstance(positive, str) else set(positive)
        absent = sorted(asked - set(names))
        if absent or not asked:
            raise ValueError(f"positive={positive!r} is no class of {base}; it holds {', '.join(names)}.")
        if asked == set(names):
            raise ValueError(f"positive={positive!r} names every class of {base}: none is left to be normal.")
        return asked
    yes = {n for n in names if n.lower() in ABNORMAL}
    no = {n for n in names if n.lower() in NORMAL}
    rest = set(names) - yes - no
    if no and yes and not rest:
        return yes
    if no and len(rest) == 1 and not yes:
        return rest
    raise ValueError(
        f"which of the classes {', '.join(names)} in {base} mean abnormal is not clear: say so with "
        f"positive={names[0]!r}, or a list."
    )


def _finder(patient: str | Callable[[str], str | None] | None) -> Callable[[str], str | None]:
    """Give the function that finds the patient in a path below the class folder."""
    if callable(patient):
        return patient
    if patient is not None:
        try:
            pattern = re.compile(patient)
        except re.error as error:
            raise ValueError(f"patient={patient!r} is no regular expression ({error}).") from error

        def search(below: str) -> str | None:
            match = pattern.search(below)
            return None if match is None else (match.group(1) if pattern.groups else match.group())

        return search

    def usual(below: str) -> str | None:
        folder, _, name = below.rpartition("/")
        if folder:
            return folder.split("/")[0]
        match = PERSON.search(name)
        return None if match is None else match.group()

    return usual


def _subfolders(folder: Path, left_out: dict[str, int]) -> list[str]:
    entries = list(os.scandir(folder))
    left_out["hidden"] += sum(e.name.startswith(".") for e in entries)
    return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _walk(folder: Path, left_out: dict[str, int]) -> Iterator[str]:
    """Yield the images below a folder, as relative paths in order."""
    images, passed_over = find_images(folder)
    hidden = sum(reason == HIDDEN for _, reason in passed_over)
    left_out["hidden"] += hidden
    left_out["other"] += len(passed_over) - hidden
    for path in images:
        yield path.relative_to(folder).as_posix()
