"""Stanford's MURA, and any data set laid out like it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from siamura._files import printable
from siamura._image_files import image_kind, is_named_as_image
from siamura._validation import check_choice

from .checks import Row, make_table
from .names import asked_for, part_name, split_name

log = logging.getLogger(__name__)

SPLITS = ("train", "valid")
SUFFIX = {"positive": 1, "negative": 0}


def read_mura(
    root: str | os.PathLike[str],
    part: str | Iterable[str] | None = None,
    split: str | None = None,
    on_error: str = "raise",
) -> pd.DataFrame:
    """Read MURA, or any data set in its layout, as a table.

    The views are those of ``{train,valid}_image_paths.csv``; where such a CSV is missing, those of the tree
    ``{train,valid}/XR_*/patient*/study*_{positive,negative}/*`` itself. The labels are those of the folders'
    names, and must agree with ``{train,valid}_labeled_studies.csv`` where that is there. Hidden files, such
    as macOS's ``._image2.png``, are passed over and counted (:func:`siamura.studies.skipped`).

    Parameters
    ----------
    root : path
        The folder that holds the CSVs and the splits, or its parent, whatever they are called.
    part : str or iterable of str, optional
        ``"XR_FINGER"``, or several; ``"finger"`` will do. Default: all.
    split : {"train", "valid"}, optional
        Default: both; "val" and "training" will do. A patient who is in both splits is noticed either way.
    on_error : {"raise", "report"}
        What to do about files that are missing, labels that contradict the folder's name, paths outside the
        root, duplicates, and patients in both splits: raise one ValueError that lists them, or leave those
        rows out (of a patient in both splits the training rows) and keep them for
        :func:`siamura.studies.problems`.

    Returns
    -------
    DataFrame
        One row a view, columns ``path, part, patient, study, label, split``, in the CSVs' order.

    Raises
    ------
    FileNotFoundError
        No such root.
    ValueError
        The root holds no MURA tree or no view, ``part`` is not in it, or a row is wrong and
        ``on_error="raise"``.

    References
    ----------
    Rajpurkar et al., MURA: Large Dataset for Abnormality Detection in Musculoskeletal Radiographs,
    arXiv 1712.06957.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> study = root / "train" / "XR_HAND" / "patient00001" / "study1_positive"
    >>> study.mkdir(parents=True)
    >>> _ = (study / "image1.png").write_bytes(b"...")
    >>> read_mura(root, part="hand").drop(columns="path")
          part       patient   study  label  split
    0  XR_HAND  patient00001  study1      1  train
    """
    check_choice("on_error", on_error, ("raise", "report"))
    if split is not None:
        split = check_choice("split", split_name(split), SPLITS)
    base = _find(Path(root))
    walk = _Walk(str(base))
    sides = {side: list(_views(base, side, walk)) for side in SPLITS}
    found = sorted({view.part for views in sides.values() for view in views})
    wanted = _parts(part, found, base)
    labels = {side: _labels(base, side, walk) for side in SPLITS}
    rows: list[Row] = []
    for side in (split,) if split else SPLITS:
        rows += _rows(base, side, [v for v in sides[side] if v.part in wanted], labels[side], walk)
    if split is not None:
        rows = _leaking(rows, split, sides, wanted, walk)
    if not rows and not walk.bad:
        where = f" of {' and '.join(sorted(wanted))}" if wanted else ""
        raise ValueError(
            f"{base} holds no view{where} in {split or 'train or valid'}"
            + (f"; leave split={split!r} out, or choose the other one." if split else ".")
        )
    bad = [(where, why) for where, why, about in walk.bad if about is None or about in wanted]
    table = make_table(rows, bad, {"hidden": len(walk.hidden), "other": walk.other}, str(base), on_error)
    if walk.hidden or walk.other:
        log.info(
            "%s: passed over %d hidden files and %d that are no images", base, len(walk.hidden), walk.other
        )
    return table


@dataclass(frozen=True, slots=True)
class _View:
    part: str
    patient: str
    study: str  # the folder's name, label and all
    image: str


@dataclass
class _Walk:
    """What a reading meets besides views."""

    base: str
    bad: list[tuple[str, str, str | None]] = field(default_factory=list)  # path, reason, the part it is about
    hidden: set[str] = field(default_factory=set)
    other: int = 0

    def report(self, path: str, reason: str, part: str | None = None) -> None:
        self.bad.append((path, reason, part))


def _find(root: Path) -> Path:
    """Find the folder that holds the splits: the root itself or one of its children."""
    root = root.expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(
            f"root={str(root)!r} is no folder: give the folder of MURA (as in 'MURA-v1.1') or its parent."
        )
    if _is_mura(root):
        return root
    children = sorted(
        Path(e.path)
        for e in os.scandir(root)
        if e.is_dir() and not e.name.startswith(".") and _is_mura(Path(e))
    )
    if len(children) == 1:
        return children[0]
    if children:
        raise ValueError(
            f"root={str(root)!r} holds several MURA trees ({_names(children)}): name one of them."
        )
    if root.name in SPLITS and _is_mura(root.parent):
        raise ValueError(
            f"root={str(root)!r} is one split of a MURA tree: give its parent {str(root.parent)!r}, "
            f"with split={root.name!r}."
        )
    raise ValueError(
        f"root={str(root)!r} is no MURA tree: neither it nor a folder in it holds train_image_paths.csv, "
        "valid_image_paths.csv, or train/XR_* and valid/XR_* folders; for another layout use "
        "siamura.read_folders or siamura.read_table."
    )


def find_mura(root: Path) -> str | None:
    """Say why a folder is taken for MURA's layout; None where it is not.

    Raises
    ------
    ValueError
        If it holds several such data sets, or is one split of one.
    """
    root = root.expanduser().absolute()
    children = (Path(e.path) for e in os.scandir(root) if e.is_dir() and not e.name.startswith("."))
    part_of_one = root.name in SPLITS and _is_mura(root.parent)
    if not (_is_mura(root) or part_of_one or any(map(_is_mura, children))):
        return None
    base = _find(root)
    lists = [f"{side}_image_paths.csv" for side in SPLITS if (base / f"{side}_image_paths.csv").is_file()]
    return f"{printable(base)} holds {lists[0] if lists else 'folders such as train/XR_HAND'}"


def _is_mura(folder: Path) -> bool:
    for side in SPLITS:
        if (folder / f"{side}_image_paths.csv").is_file():
            return True
        try:
            if any(name.startswith("XR_") for name in os.listdir(folder / side)):
                return True
        except OSError:
            continue
    return False


def _views(base: Path, side: str, walk: _Walk) -> Iterator[_View]:
    """Yield the views of one split, from its CSV or from the tree."""
    csv = base / f"{side}_image_paths.csv"
    if not csv.is_file():
        yield from _tree(side, walk)
        return
    name = csv.name
    seen: dict[tuple[str, ...], int] = {}
    for number, line in _lines(csv):
        parts = _relative(line, walk.base)
        if parts is None:
            walk.report(line, f"lies outside the root {base} ({name}, line {number})")
        elif len(parts) < 5 or parts[-5] not in SPLITS:
            walk.report(
                line,
                "is no path like train/XR_HAND/patient00001/study1_positive/image1.png "
                f"({name}, line {number})",
            )
        elif parts[-1].startswith("."):
            walk.hidden.add(os.path.join(walk.base, *parts[-5:]))
        elif parts[-5] != side:
            walk.report(
                line, f"is of the split {parts[-5]!r} but stands in {csv.name} (line {number})", parts[-4]
            )
        else:
            key = tuple(parts[-4:])
            if key in seen:
                walk.report(line, f"stands twice in {csv.name} (lines {seen[key]} and {number})", parts[-4])
            else:
                seen[key] = number
                yield _View(*key)


def _lines(csv: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a CSV without header, numbered from 1, without blank ones."""
    try:
        content = csv.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{csv} is no UTF-8 text ({error.reason} at byte {error.start}).") from error
    for number, line in enumerate(content.splitlines(), 1):
        line = line.strip().strip('"').replace("\\", "/")
        if line:
            yield number, line


def _relative(line: str, base: str) -> list[str] | None:
    """Split a CSV's path into its components; None where it leads out of the root."""
    if (line.startswith("/") or line[1:3] == ":/") and not line.startswith(base.rstrip("/") + "/"):
        return None
    parts = line.split("/")
    if ".." in parts:
        return None
    if "" in parts or "." in parts:
        parts = [p for p in parts if p not in ("", ".")]
    return parts


def _tree(side: str, walk: _Walk) -> Iterator[_View]:
    """Yield the views of one split as the folders hold them."""
    top = os.path.join(walk.base, side)
    for part in _folders(top, walk):
        if not part.startswith("XR_"):
            continue
        for patient in _folders(os.path.join(top, part), walk):
            for study in _folders(os.path.join(top, part, patient), walk):
                for image in sorted(_images(os.path.join(top, part, patient, study), walk)):
                    yield _View(part, patient, study, image)


def _folders(folder: str, walk: _Walk) -> list[str]:
    """List the folders in a folder, sorted; hidden entries are counted."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    walk.hidden.update(e.path for e in entries if e.name.startswith("."))
    return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())


def _images(folder: str, walk: _Walk) -> set[str]:
    """List the images in a study's folder; hidden files and others are counted."""
    try:
        names = os.listdir(folder)
    except OSError:
        return set()
    images = set()
    for name in names:
        if name[0] == ".":
            walk.hidden.add(os.path.join(folder, name))
        elif is_named_as_image(name) or image_kind(os.path.join(folder, name)) is not None:
            images.add(name)
        else:
            walk.other += 1
    return images


def _parts(part: str | Iterable[str] | None, found: list[str], base: Path) -> set[str]:
    """Find the parts that are asked for, by the names they have on disk."""
    if part is None:
        return set(found)
    by_name = {part_name(name): name for name in found}
    wanted = set()
    for one in asked_for("part", part):
        match = by_name.get(part_name(one))
        if match is None:
            raise ValueError(
                f"part={one!r} is not in {base}; it holds {', '.join(found) or 'no part at all'}."
            )
        wanted.add(match)
    return wanted


def _labels(base: Path, side: str, walk: _Walk) -> dict[tuple[str, ...], tuple[int, int]]:
    """Read ``*_labeled_studies.csv`` as (label, line) by (part, patient, study's folder)."""
    csv = base / f"{side}_labeled_studies.csv"
    labels: dict[tuple[str, ...], tuple[int, int]] = {}
    if not csv.is_file():
        return labels
    for number, line in _lines(csv):
        path, _, value = line.rpartition(",")
        parts = _relative(path.strip().strip('"'), walk.base)
        where = f"{csv.name}, line {number}"
        if parts is None:
            walk.report(path, f"lies outside the root {base} ({where})")
        elif len(parts) < 4 or parts[-4] not in SPLITS or value.strip() not in ("0", "1", "0.0", "1.0"):
            walk.report(line, f"is no line like train/XR_HAND/patient00001/study1_positive/,1 ({where})")
        elif (key := tuple(parts[-3:])) in labels:
            walk.report(path, f"stands twice in {csv.name} (lines {labels[key][1]} and {number})", key[0])
        else:
            labels[key] = (int(float(value)), number)
    return labels


def _rows(
    base: Path, side: str, views: list[_View], labels: dict[tuple[str, ...], tuple[int, int]], walk: _Walk
) -> list[Row]:
    """Look the views up on disk and give each its label."""
    rows: list[Row] = []
    from_csv = (base / f"{side}_image_paths.csv").is_file()
    top = os.path.join(walk.base, side)
    folders: dict[tuple[str, str, str], tuple[str, set[str] | None, str, int | None]] = {}
    for view in views:
        key = (view.part, view.patient, view.study)
        if key not in folders:
            folder = os.path.join(top, *key)
            # One listing a study answers for all its views, and finds the hidden files.
            there = _images(folder, walk) if from_csv else None
            name, label = _label(key, folder, labels.get(key), side, walk)
            folders[key] = (folder, there, name, label)
        folder, there, name, label = folders[key]
        path = f"{folder}/{view.image}"
        if there is not None and view.image not in there and not os.path.isfile(path):
            walk.report(path, f"there is no such file, but {side}_image_paths.csv names it", view.part)
        elif label is not None:
            rows.append((path, view.part, view.patient, name, label, side))
    return rows


def _label(
    key: tuple[str, str, str], folder: str, listed: tuple[int, int] | None, side: str, walk: _Walk
) -> tuple[str, int | None]:
    """Give the study's name and label; the folder's name and the CSV must agree where both say one."""
    name, _, word = key[2].rpartition("_")
    said = SUFFIX.get(word.lower()) if name else None
    if said is None:
        name = key[2]
        if listed is None:
            walk.report(
                folder,
                "has no label: its name ends neither in _positive nor in _negative, and "
                f"{side}_labeled_studies.csv does not list it",
                key[0],
            )
            return name, None
        return name, listed[0]
    if listed is not None and listed[0] != said:
        walk.report(
            folder,
            f"is {word} by its name but has label {listed[0]} in {side}_labeled_studies.csv, "
            f"line {listed[1]}",
            key[0],
        )
        return name, None
    return name, said


def _leaking(
    rows: list[Row], split: str, sides: dict[str, list[_View]], wanted: set[str], walk: _Walk
) -> list[Row]:
    """Find patients of this split in the other one, though only this one is read."""
    other = "valid" if split == "train" else "train"
    there = {view.patient for view in sides[other] if view.part in wanted}
    kept: list[Row] = []
    told: set[str] = set()
    for row in rows:
        if row[2] in there and row[2] not in told:
            told.add(row[2])
            walk.report(row[0], f"patient {row[2]} is in train and valid: a leak", row[1])
        if row[2] not in there or split == "valid":
            kept.append(row)
    return kept


def _names(paths: list[Path]) -> str:
    shown = ", ".join(p.name for p in paths[:5])
    return shown + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
