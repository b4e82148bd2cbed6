"""What a source is: MURA's layout, a table, one folder a class, or DICOM files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pandas as pd

from siamura._image_files import image_kind, is_named_as_image
from siamura._validation import check_choice

from .labels import ABNORMAL, NORMAL, label_key
from .mura import find_mura
from .names import listed, split_name
from .sheets import SUFFIXES

KINDS: Final = ("mura", "table", "folders", "dicom")
"""What a source can be taken for."""

Source = str | os.PathLike[str] | pd.DataFrame

WORDS: Final = {
    "mura": "MURA's layout",
    "table": "a table of one line an image",
    "folders": "one folder a class",
    "dicom": "a folder of DICOM files",
}


def kind_of(source: Source, kind: str | None, labelled: bool, named: set[str | None]) -> tuple[str, str]:
    """Return what a source is, and why it is taken for that."""
    if isinstance(source, pd.DataFrame):
        if kind not in (None, "table"):
            raise ValueError(f"kind={kind!r} beside a DataFrame, which is a table; leave kind out.")
        return "table", "it is a DataFrame"
    if not isinstance(source, str | os.PathLike):
        raise ValueError(f"source is a {type(source).__name__}; give a file, a folder or a DataFrame.")
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"source={str(source)!r} is not there: give a file, a folder or a DataFrame.")
    if kind is not None:
        return check_choice("kind", kind, KINDS), "kind= says so"
    if path.is_file():
        image = image_kind(path)
        if image is not None and path.suffix.casefold() not in SUFFIXES:
            raise ValueError(
                f"source={str(source)!r} is one {image} image: give the folder that holds it, or a CSV."
            )
        return "table", "it is a file"
    mura = find_mura(path)
    if mura is not None:
        return "mura", mura
    return _kind_of_folder(path, labelled, named)


def _kind_of_folder(path: Path, labelled: bool, named: set[str | None]) -> tuple[str, str]:
    """Return which it is, a folder of classes or of DICOM files."""
    top = sorted(e.name for e in os.scandir(path) if e.is_dir() and not e.name.startswith("."))
    images = list(itertools.islice(_images(path), 40))
    count = sum(image_kind(file) == "DICOM" for file in images)
    splits = [name for name in top if split_name(name) in ("train", "valid", "test")]
    inner = sorted({e.name for s in splits for e in os.scandir(path / s) if e.is_dir()}) if splits else top
    keys = {label_key(name) for name in inner}
    classes = len(inner) > 1 and bool(keys & (NORMAL | ABNORMAL) or (named and named <= keys))
    if images and 2 * count > len(images) and (labelled or not classes):
        which = (
            "its files are DICOM"
            if count == len(images)
            else f"{count} of {len(images)} files seen are DICOM"
        )
        return "dicom", f"{which} and {'labels= is given' if labelled else 'no folder is named as a class'}"
    if images and len(inner) > 1:
        return "folders", f"it holds images in the folders {listed(inner, 5)}"
    tables = sorted(p.name for p in path.iterdir() if p.is_file() and p.suffix.casefold() in SUFFIXES)
    if tables:
        raise ValueError(
            f"source={str(path)!r} is a folder with the tables {listed(tables)}: give the one that lists the "
            f"images, as in {str(path / tables[0])!r}."
        )
    raise ValueError(
        f"source={str(path)!r} is a folder, but neither MURA's layout (train/XR_HAND/patient1/study1_positive), nor "
        f"one folder a class, nor one of DICOM files: it holds {'images but no' if images else 'no images in its'} "
        "folders of classes. Give a CSV that lists the images, or say kind=."
    )


def _images(path: Path) -> Iterable[str]:
    """Yield the images below a folder, of every folder in turn."""
    for here, inside, files in os.walk(path):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        kept = (os.path.join(here, n) for n in sorted(files) if not n.startswith("."))
        yield from itertools.islice((f for f in kept if is_named_as_image(f) or image_kind(f)), 5)


def refuse_idle(kind: str, **options: object) -> None:
    """Refuse an option that does nothing for what the source was taken for."""
    use = {"columns": "table", "root": "table", "labels": "dicom", "patient": "folders"}
    for option, value in options.items():
        if value is not None and use[option] != kind:
            raise ValueError(
                f"{option}= is of use for {WORDS[use[option]]} only, but the source was taken for {WORDS[kind]}; "
                f"leave it out, or say kind={use[option]!r}."
            )
