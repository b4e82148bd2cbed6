"""`read_studies`: radiographs as people have them, as one table."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from siamura._files import printable
from siamura._validation import check_choice

from . import dicom, folders
from .checks import COLUMNS, make_table
from .kinds import WORDS, Source, kind_of, refuse_idle
from .labels import ABNORMAL, NORMAL, Classes, Seen, choose_classes, classes_of, label_key, missing
from .mura import read_mura
from .names import UNKNOWN_PART, asked_for, listed, part_name, pick, split_name
from .table import Sheet, check_rows, open_sheet

log = logging.getLogger(__name__)


def read_studies(
    source: Source,
    *,
    columns: Mapping[str, str] | None = None,
    positive: object = None,
    classes: Iterable[object] | None = None,
    ordered: bool | None = None,
    part: str | Iterable[str] | None = None,
    split: str | Iterable[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    labels: dicom.Labels | None = None,
    patient: str | Callable[[str], str | None] | None = None,
    hash_identifiers: bool = True,
    salt: str | None = None,
    kind: str | None = None,
    on_error: str = "raise",
) -> pd.DataFrame:
    r"""Read radiographs as people have them, as a table with one row a view.

    Parameters
    ----------
    source : path or DataFrame
        MURA or a data set in its layout (the folder or its parent); a CSV (comma, semicolon, tab or pipe),
        Excel or Parquet file with one line an image, or a DataFrame; a folder that holds one folder a class; a
        folder of DICOM files. What it was taken for, and why, is logged and kept in
        ``table.attrs["source"]``.
    columns : mapping, optional
        Of a table, its names to siamura's, as in ``{"file": "path", "finding": "label", "region": "part"}``.
        ``path`` and ``label`` are needed; ``patient``, ``study``, ``part`` and ``split`` are used where there.
    positive : object or iterable of objects, optional
        The labels that are the positive class; all others are the negative one. Needed where there are two
        labels and neither is a usual word such as normal, negative, abnormal, 0 or 1.
    classes : iterable, optional
        All labels in the order of their codes; of two the second is the positive one.
    ordered : bool, optional
        Whether three or more classes are grades in order. Default: numbers and ordered categories are.
    part : str or iterable of str, optional
        The body parts to read, as ``"hand"`` or ``"XR_HAND"``; an image of several ("hand+shoulder") is a part
        of its own. Where the source names no part, the part of all its images.
    split : str or iterable of str, optional
        The splits to read. "val", "Validation" and "valid" are one, as are "train" and "Training".
    root : path, optional
        Of a table, the folder that relative paths start from, and that no path may leave. Default: the
        table's own folder (of a DataFrame the working directory).
    labels : mapping or callable, optional
        Of DICOM files, which hold no label: from StudyInstanceUID, path below the folder, or file name to a
        label of any kind. Without it every label is -1, unknown.
    patient : str or callable, optional
        Of a folder of classes, where the patient stands in the path, see :func:`read_folders`.
    hash_identifiers, salt
        Of DICOM files, see :func:`siamura.studies.read_dicom_folder`.
    kind : {"mura", "table", "folders", "dicom"}, optional
        What the source is, where it is taken for something else.
    on_error : {"raise", "report"}
        What to do about missing files, empty labels, a patient in two splits and the like: raise one ValueError
        that lists them, or leave those rows out and keep them for :func:`siamura.studies.problems`. Of a
        patient in several splits the most held-out one's rows stay (test, valid, others, train).

    Returns
    -------
    DataFrame
        One row a view. ``path`` (str, absolute), ``part`` (str, as ``"XR_HAND"``), ``patient`` (str), ``study``
        (str), ``label`` (int64, codes from 0; -1 unknown), ``split`` (str). But for MURA also ``finding`` (str),
        the row's class by name, and every further column of the source, with the type its cells have;
        ``label_given`` where several labels became one class; of DICOM ``age`` (years), ``sex``,
        ``laterality``, ``view``, ``manufacturer``, ``scanner`` and ``modality``, and nothing that names a
        person. ``table.attrs`` holds ``classes`` (names in the order of the codes, see
        :func:`siamura.studies.classes_of`), ``ordered``, and ``source``.

    Raises
    ------
    FileNotFoundError
        No such source or root.
    ModuleNotFoundError
        An optional part is not installed; the message names it.
    ValueError
        It is not clear what the source is or which label is positive; something asked for is in no row; or
        rows are wrong and ``on_error="raise"``.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("a.png", "b.png", "c.png"):
    ...     _ = (folder / name).write_bytes(b"...")
    >>> _ = (folder / "films.csv").write_text("file;grade;person;age\na.png;2;p1;63\nb.png;0;p2;8\nc.png;1;p3;41\n")
    >>> table = read_studies(folder / "films.csv", columns={"file": "path", "grade": "label", "person": "patient"})
    >>> table[["patient", "label", "finding", "age"]]
      patient  label finding  age
    0      p1      2       2   63
    1      p2      0       0    8
    2      p3      1       1   41
    >>> table.attrs["classes"], table.attrs["ordered"]
    (('0', '1', '2'), True)
    """
    check_choice("on_error", on_error, ("raise", "report"))
    given = _Given(
        None if positive is None else asked_for("positive", positive),
        None if classes is None else asked_for("classes", classes),
        ordered,
    )
    splits = None if split is None else list(dict.fromkeys(split_name(s) for s in asked_for("split", split)))
    asked = None if part is None else asked_for("part", part)
    named = {label_key(v) for v in (given.classes or given.positive or [])}
    kind, why = kind_of(source, kind, labels is not None, named)
    name = "the DataFrame" if isinstance(source, pd.DataFrame) else printable(source)
    log.info("%s: taken for %s, because %s", name, WORDS[kind], why)
    refuse_idle(kind, columns=columns, root=root, labels=labels, patient=patient)
    table: pd.DataFrame
    if kind == "table":
        table = _from_table(open_sheet(source, root, columns), given, asked, splits, on_error)
    elif kind == "mura":
        table = _from_mura(source, given, asked, splits, on_error)  # type: ignore[arg-type]
    elif kind == "folders":
        table = _from_folders(source, given, asked, patient, on_error)  # type: ignore[arg-type]
    else:
        table = _from_dicom(source, given, asked, labels, hash_identifiers, salt, on_error)  # type: ignore[arg-type]
    if splits is not None:
        there = {s.casefold(): s for s in dict.fromkeys(table["split"])}
        wanted = [there[key] for key in pick("split", splits, there, str.casefold, name)]
        table = table[table["split"].isin(wanted)].reset_index(drop=True)
    table.attrs["source"] = {"kind": kind, "name": name, "why": why}
    return table


@dataclass(frozen=True)
class _Given:
    """What a person says of the labels."""

    positive: list[Any] | None
    classes: list[Any] | None
    ordered: bool | None

    def choose(self, values: list[object], where: str) -> Classes:
        found = choose_classes(values, where, self.positive, self.classes, self.ordered)
        log.info(
            "%s: classes %s; %s", where, listed(f"{i} = {n}" for i, n in enumerate(found.names)), found.why
        )
        return found


def _from_table(
    sheet: Sheet, given: _Given, asked: list[Any] | None, splits: list[str] | None, on_error: str
) -> pd.DataFrame:
    """Read a table of one's own."""
    sheet, given = _labels_of(sheet, given)
    parts = sheet.parts(part_name)
    chosen = None
    if asked is not None and parts is None:
        parts = [_only_part(asked, sheet.name)] * len(sheet.frame)
    elif asked is not None and parts is not None:
        wanted = _chosen_parts(asked, [p for p in parts if p is not None], sheet.name)
        chosen = np.array([p is None or p in wanted for p in parts])
    values = list(sheet.frame["label"] if chosen is None else sheet.frame["label"][chosen])
    classes = given.choose(values, sheet.name)
    rows, places, bad = check_rows(sheet, classes, parts, chosen, splits)
    extra = sheet.extra().iloc[places].reset_index(drop=True)
    label = [sheet.frame["label"].iloc[i] for i in places]
    extra = _findings(extra, [row[4] for row in rows], label, classes, sheet.name)
    table = make_table(rows, bad, {}, sheet.name, on_error, classes=classes.names, extra=extra, by_view=True)
    table.attrs["ordered"] = classes.ordered
    empty = sum("it is empty" in reason for _, reason in bad)
    if empty:
        log.warning("%s: %d of %d labels are empty; those rows are left out", sheet.name, empty, len(values))
    return table


def _labels_of(sheet: Sheet, given: _Given) -> tuple[Sheet, _Given]:
    """Take the names of the classes from a table that siamura made, and the order of ordered categories."""
    frame, label = sheet.frame, sheet.frame["label"]
    if isinstance(label.dtype, pd.CategoricalDtype) and given.classes is None and given.positive is None:
        order = [c for c in label.cat.categories if (label == c).any()]
        grades = bool(label.cat.ordered) if given.ordered is None else given.ordered
        return sheet, _Given(None, order, grades) if label.cat.ordered and len(order) > 1 else given
    codes = [label_key(v) for v in label]
    made = "classes" in frame.attrs or "finding" in frame
    if not made or not all(c is None or c.isdecimal() or c == "-1" for c in codes):
        return sheet, given
    coded = pd.DataFrame({"label": [-1 if c is None else int(c) for c in codes]})
    coded.attrs = {"classes": frame.attrs["classes"]} if "classes" in frame.attrs else {}
    if "finding" in frame:
        coded["finding"] = [None if missing(v) else str(v).strip() for v in frame["finding"]]
        pairs = coded.drop_duplicates()
        whole = ((pairs["label"] >= 0) == pairs["finding"].notna()).all()
        if not (whole and pairs["label"].is_unique and pairs["finding"].is_unique):
            return sheet, given
    names = classes_of(coded)
    text = pd.Series([names[c] if c >= 0 else None for c in coded["label"]], index=frame.index, dtype=object)
    if given.positive is None and given.classes is None:
        ordered = frame.attrs.get("ordered") if given.ordered is None else given.ordered
        given = _Given(None, list(names), bool(ordered))
    frame = frame.drop(columns="finding", errors="ignore").assign(label=text)
    return Sheet(frame, sheet.name, sheet.base, sheet.inside), given


def _findings(
    extra: pd.DataFrame, codes: list[int], label: list[object], classes: Classes, name: str
) -> pd.DataFrame:
    """Set the column of class names before the further columns, and the labels as given where they say more."""
    if "finding" in extra:
        log.warning("%s: its column 'finding' is not the label; it is kept as 'finding_given'", name)
        extra = extra.rename(columns={"finding": "finding_given"})
    names = [classes.names[code] if code >= 0 else None for code in codes]
    first = pd.DataFrame({"finding": pd.Series(names, dtype="str")})
    seen = Seen.of(label)
    if len(seen.count) > len(set(codes)):
        own = [None if (key := label_key(v)) is None else seen.name(key) for v in label]
        first["label_given"] = pd.Series(own, dtype="str")
        extra = extra.drop(columns="label_given", errors="ignore")
    return pd.concat([first, extra], axis=1)


def _chosen_parts(asked: list[Any], parts: list[str], name: str) -> set[str]:
    """Find the parts that are asked for; say which joined ones hold them and are not taken."""
    there = {p: p for p in dict.fromkeys(parts)}
    wanted = set(pick("part", asked, there, part_name, name))
    single = {p.removeprefix("XR_") for p in wanted}
    joined = [p for p in there if p not in wanted and single & set(p.removeprefix("XR_").split("+"))]
    if joined:
        log.warning(
            "%s: %d views of several parts (%s) are not taken for %s; name them in part= too if they are wanted",
            name,
            sum(p in joined for p in parts),
            listed(joined),
            listed(sorted(wanted)),
        )
    return wanted


def _only_part(asked: list[Any], name: str) -> str:
    """Take the part of all images, where the source names none."""
    if len(asked) > 1:
        raise ValueError(f"part={asked!r}, but {name} names no parts: give the one part of all its images.")
    only = part_name(asked[0])
    log.info("%s: names no part; all its images are taken for %s, as part= says", name, only)
    return only


def _from_mura(
    source: Path, given: _Given, asked: list[Any] | None, splits: list[str] | None, on_error: str
) -> pd.DataFrame:
    """Read MURA's layout, whose labels are its own."""
    for option, value in (("positive", given.positive), ("classes", given.classes)):
        known = [label_key(v) for v in value or [1]]
        if known[-1] not in ABNORMAL or not set(known[:-1]) <= NORMAL:
            raise ValueError(
                f"{option}={value!r}, but in MURA's layout the folders say which studies are positive; leave it "
                "out."
            )
    one = splits[0] if splits is not None and len(splits) == 1 else None
    table = read_mura(source, part=asked, split=one, on_error=on_error)
    table.attrs["ordered"] = False
    return table


def _from_folders(
    source: Path, given: _Given, asked: list[Any] | None, patient: Any, on_error: str
) -> pd.DataFrame:
    """Read one folder a class."""
    found = folders.scan(source, patient)
    classes = given.choose(list(found.classes), printable(found.base))
    part = UNKNOWN_PART if asked is None else _only_part(asked, printable(found.base))
    label: list[object] = [image.label for image in found.images]
    codes = [classes.code(v) or 0 for v in label]
    extra = _findings(pd.DataFrame(index=range(len(codes))), codes, label, classes, printable(found.base))
    table = found.table(classes, part, on_error, extra, by_view=True)
    table.attrs["ordered"] = classes.ordered
    return table


def _from_dicom(
    source: Path,
    given: _Given,
    asked: list[Any] | None,
    labels: dicom.Labels | None,
    hashed: bool,
    salt: str | None,
    on_error: str,
) -> pd.DataFrame:
    """Read a folder of DICOM files."""
    found = dicom.scan(source, labels, hashed, salt)
    parts = [image.part for image in found.images]
    wanted = None if asked is None or not parts else _chosen_parts(asked, parts, found.name)
    values = [image.label for image in found.images if wanted is None or image.part in wanted]
    if labels is None:
        if given.positive is not None or given.classes is not None:
            raise ValueError(
                f"positive= or classes= without labels=: the headers in {found.name} hold no label."
            )
        log.warning("%s: no labels= given, so every label is -1, unknown", found.name)
        classes = Classes(("normal", "abnormal"), {})
    else:
        classes = given.choose(values, found.name)
    table = found.table(classes, on_error, wanted, keep=True)
    names = [classes.names[code] if code >= 0 else None for code in table["label"]]
    table.insert(len(COLUMNS), "finding", pd.Series(names, dtype="str"))
    table.attrs["ordered"] = classes.ordered
    return table
