"""One folder a class, as image classification sets often come."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from siamura._files import printable
from siamura._image_files import HIDDEN, IMAGE_KINDS, find_images
from siamura._validation import check_choice

from .checks import Row, doubtful_patients, make_table, warn_unknown
from .labels import Classes, choose_classes, label_key, two_classes
from .names import UNKNOWN_PART, asked_for, listed, split_name

log = logging.getLogger(__name__)

PERSON = re.compile(r"(?<![A-Za-z])(?:patient|person|subject|subj|pat|pid)[-_ ]?\d+", re.IGNORECASE)
_SPLITS = ("train", "valid", "test")
_REMEDY = "Say where the patient stands in the path with patient=..., a regular expression or a function."


def read_folders(
    root: str | os.PathLike[str],
    *,
    positive: object = None,
    patient: str | Callable[[str], str | None] | None = None,
    part: str = UNKNOWN_PART,
    on_error: str = "raise",
) -> pd.DataFrame:
    """Read images sorted into one folder a class, as a table.

    Parameters
    ----------
    root : path
        Holds the class folders, as in ``root/normal`` and ``root/fracture``; or folders of splits (train,
        training, valid, val, validation, test, in any case) above or below them.
    positive : str or iterable of str, optional
        The classes that mean abnormal. Default: positive, abnormal, 1, true or yes; or, beside a folder
        called negative, normal, 0, false or no, the one other class.
    patient : str or callable, optional
        Where the patient stands: a regular expression looked for in the path below the class folder, whose
        first group (or whole match) is the patient, or a function of that path. Default: ``patient12``,
        ``person_12`` or ``subject-12`` anywhere in the path below the class folder; else the name of the first
        folder below the class whose names could be people (they are not shared by the classes, and none holds
        most images). Images without count as a person each. A warning says what is doubtful.
    part : str
        The body part of all images.
    on_error : {"raise", "report"}
        Raise a ValueError for a patient in two splits, or leave the rows of all but the most held-out split
        out and keep them for :func:`siamura.studies.problems`.

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
    found = scan(root, patient)
    classes = _binary(found.classes, positive, found.base)
    return found.table(classes, part, on_error)


@dataclass(frozen=True)
class Image:
    """An image of a folder: its file, its class folder, its split, its path below both."""

    path: str
    label: str
    split: str
    below: str


@dataclass(frozen=True)
class Scan:
    """What a folder of classes holds.

    Parameters
    ----------
    base : Path
    classes : list of str
        The class folders.
    images : list of Image
    people : list of str or None
        The patient of each image.
    guessed : bool
        Whether the patients are a guess.
    left_out : dict
    """

    base: Path
    classes: list[str]
    images: list[Image]
    people: list[str | None]
    guessed: bool
    left_out: dict[str, int]

    def table(
        self,
        classes: Classes,
        part: str,
        on_error: str,
        extra: pd.DataFrame | None = None,
        by_view: bool = False,
    ) -> pd.DataFrame:
        """Build the table, and warn of patients who are unknown or may be none."""
        base = printable(self.base)
        rows: list[Row] = []
        for image, person in zip(self.images, self.people, strict=True):
            who = f"{image.split}/{image.label}/{image.below}" if person is None else person
            rows.append((image.path, part, who, None, classes.code(image.label) or 0, image.split))
        unknown = sum(person is None for person in self.people)
        if unknown:
            remedy = "say where the patient stands in the path, with patient=..."
            warn_unknown(unknown, len(rows), base, remedy)
        if any(self.left_out.values()):
            log.info(
                "%s: passed over %d hidden files and %d that are no images", base, *self.left_out.values()
            )
        options = {"classes": classes.names, "extra": extra, "by_view": by_view}
        table = make_table(rows, [], self.left_out, base, on_error, **options)  # type: ignore[arg-type]
        if self.guessed and unknown < len(rows) and len(table):
            doubtful_patients(table, base, _REMEDY)
        return table


def scan(root: str | os.PathLike[str], patient: str | Callable[[str], str | None] | None = None) -> Scan:
    """List the images of a folder of classes, with their class, split and patient."""
    base = Path(root).expanduser().absolute()
    if not base.is_dir():
        raise FileNotFoundError(
            f"root={str(root)!r} is no folder: give the folder that holds one folder a class."
        )
    left_out = {"hidden": 0, "other": 0}
    top = _subfolders(base, left_out)
    splits = [name for name in top if split_name(name) in _SPLITS]
    if splits and len(splits) < len(top):
        raise ValueError(
            f"root={str(root)!r} holds splits ({listed(splits)}) beside other folders "
            f"({listed(n for n in top if n not in splits)}): move one kind elsewhere."
        )
    places = {split_name(name): base / name for name in splits} or {"train": base}
    if splits and len(places) < len(splits):
        raise ValueError(f"root={str(root)!r} holds one split under two names ({listed(splits)}): join them.")
    images: list[Image] = []
    held = {split: _subfolders(place, left_out) for split, place in places.items()}
    for split, place in places.items():
        for name in held[split]:
            images += [
                Image(str(place / name / below), name, split, below)
                for below in _walk(place / name, left_out)
            ]
    names = sorted({name for found in held.values() for name in found})
    if len(names) < 2:
        raise ValueError(
            f"root={str(base)!r} holds {len(names)} class folder{'s' if len(names) != 1 else ''}"
            f"{' (' + printable(names[0]) + ')' if names else ''}: one folder a class is needed, as in normal/ "
            "and fracture/."
        )
    if not images:
        raise ValueError(
            f"root={str(root)!r} holds no images in its class folders ({listed(names)}); siamura reads "
            f"{', '.join(IMAGE_KINDS)}."
        )
    if not splits:
        images = _inner_splits(images)
    people = (
        _people(images, base) if patient is None else list(map(_finder(patient), (f.below for f in images)))
    )
    return Scan(base, names, images, people, patient is None, left_out)


def _inner_splits(images: list[Image]) -> list[Image]:
    """Take folders below the classes as splits where all of them are named so."""
    first = {PurePosixPath(image.below).parts[0] if "/" in image.below else "" for image in images}
    if not all(split_name(name) in _SPLITS for name in first):
        return images
    cut = [image.below.partition("/") for image in images]
    return [
        Image(f.path, f.label, split_name(name), rest) for f, (name, _, rest) in zip(images, cut, strict=True)
    ]


def _people(images: list[Image], base: Path) -> list[str | None]:
    """Find the patients: by their usual names, else by a folder whose names could be people."""
    spelled: dict[str, str] = {}
    people: list[str | None] = []
    for image in images:
        match = PERSON.search(image.below)
        own = None if match is None else match.group()
        people.append(None if own is None else spelled.setdefault(re.sub(r"[-_ ]", "", own.casefold()), own))
    rest = [i for i, person in enumerate(people) if person is None and "/" in images[i].below]
    if not rest:
        return people
    folders = {i: images[i].below.split("/")[:-1] for i in rest}
    deepest = max(map(len, folders.values()))
    level = next((n for n in range(deepest) if _like_people(images, folders, n)), 0)
    log.info(
        "%s: the patients of %d images are taken from folder %d below the class", base, len(rest), level + 1
    )
    for i, names in folders.items():
        people[i] = names[min(level, len(names) - 1)]
    return people


def _like_people(images: list[Image], folders: dict[int, list[str]], level: int) -> bool:
    """Return whether the folders of a level could be people: of one class each, none with most images."""
    files: Counter[str] = Counter()
    classes: dict[str, set[str]] = {}
    for i, names in folders.items():
        if len(names) > level:
            files[names[level]] += 1
            classes.setdefault(names[level], set()).add(images[i].label)
    shared = sum(len(found) > 1 for found in classes.values())
    most = files.most_common(1)[0][1]
    return 2 * shared < len(classes) and (len(folders) < 4 or 2 * most <= len(folders))


def _binary(names: list[str], positive: object, base: Path) -> Classes:
    """Say which classes mean abnormal, and refuse to guess."""
    where = printable(base)
    if positive is not None:
        asked = asked_for("positive", positive)
        known = {label_key(name) for name in names}
        absent = [one for one in asked if label_key(one) not in known]
        if absent:
            raise ValueError(f"positive={absent[0]!r} is no class of {where}; it holds {listed(names)}.")
        if known == {label_key(one) for one in asked}:
            raise ValueError(f"positive={asked!r} names every class of {where}: none is left to be normal.")
        return two_classes(names, asked, where)
    try:
        classes = choose_classes(names, where)
    except ValueError:
        classes = None
    if classes is None or len(classes.names) != 2:
        raise ValueError(
            f"which of the classes {listed(names)} in {where} mean abnormal is not clear: say so with "
            f"positive={names[0]!r}, or a list."
        )
    return classes


def _finder(patient: str | Callable[[str], str | None]) -> Callable[[str], str | None]:
    """Give the function that finds the patient in a path below the class folder."""
    if callable(patient):
        return patient
    try:
        pattern = re.compile(patient)
    except re.error as error:
        raise ValueError(f"patient={patient!r} is no regular expression ({error}).") from error

    def search(below: str) -> str | None:
        match = pattern.search(below)
        return None if match is None else (match.group(1) if pattern.groups else match.group())

    return search


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
