"""Drawn radiographs in MURA's layout, to try a pipeline where no patient's film may be distributed."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from .anatomy import SCENES
from .lesions import Lesion
from .people import Person, Pose
from .rendering import Exposure, Film, render

__all__ = ["MARKER", "PARTS", "VERSION", "is_phantom", "make_phantoms"]

PARTS: tuple[str, ...] = tuple(SCENES)
"""The parts that can be drawn: MURA's seven."""

MARKER = "phantoms.json"
"""File in the root of a drawn data set that says so."""

VERSION = 2
"""Raised whenever the same seed would draw other pixels."""

_log = logging.getLogger(__name__)
_VIEWS_OF_A_STUDY = (0.18, 0.3, 0.42, 0.1)
_LOOKS_NORMAL = 0.03
_LESION_COLUMNS = ("path", "part", "patient", "study", "kind", "x0", "y0", "x1", "y1")


@dataclass(frozen=True)
class View:
    """One film to draw."""

    seed: int
    split: str
    part: str
    patient: int
    study: int
    view: int
    label: int

    @property
    def folder(self) -> str:
        """Folder of the study, relative to the root."""
        sign = "positive" if self.label else "negative"
        return f"{self.split}/{self.part}/patient{self.patient:05d}/study{self.study}_{sign}"

    @property
    def path(self) -> str:
        """File, relative to the root."""
        return f"{self.folder}/image{self.view}.png"

    def stream(self, purpose: int, *key: int) -> np.random.SeedSequence:
        """Seed for one purpose; depends on nothing but the data set's seed and `key`."""
        return np.random.SeedSequence([self.seed, purpose, *key])


def draw_view(view: View) -> tuple[Film, str, bool]:
    """Draw one film.

    Returns
    -------
    film : Film
    kind : str
        Kind of the lesion; empty where there is none, or none to be seen in this view of a positive study.
    colour : bool
        Whether the file is to be RGB.
    """
    part = PARTS.index(view.part)
    study = (part, view.patient, view.study)
    person = Person.draw(view.stream(1, view.patient))
    of_study = np.random.default_rng(view.stream(2, *study))
    digit = int(of_study.choice(5, p=(0.16, 0.24, 0.24, 0.18, 0.18)))
    pick = float(of_study.random())
    rng = np.random.default_rng(view.stream(3, *study, view.view))
    angle = float(((0, 40, 82, 20)[view.view - 1] + rng.normal(0, 6)) % 180)
    pose = Pose(
        angle=angle,
        bend=float(rng.uniform(2, 22)),
        digit=digit if view.part == "XR_FINGER" else -1,
        rng_seed=int(rng.integers(2**31)),
    )
    scene = SCENES[view.part](person, pose)
    how = Exposure.draw(view.stream(4, *study, view.view), view.part)
    hidden = view.view > 1 and rng.random() < _LOOKS_NORMAL
    if not view.label or hidden:
        return render(scene, how), "", how.colour
    share = np.cumsum([site.weight for site in scene.core])
    site = scene.core[int(np.searchsorted(share, pick * share[-1], side="right"))]
    lesion = Lesion.draw(view.stream(5, *study), scene.lesion_scale).within(site.low, site.high)
    film = render(scene, how, lesion, site.bone, angle)
    return film, lesion.kind if film.box else "", how.colour


def _plan(parts: Sequence[str], views: int, valid: float, seed: int) -> list[View]:
    """Which films there will be: patients, studies, labels."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    plan: list[View] = []
    patient = 0
    held = round(views * valid)
    for split, count in (("train", views - held), ("valid", held)):
        seen: dict[str, set[int]] = {part: set() for part in parts}
        for i, part in enumerate(parts):
            left = count // len(parts) + (i < count % len(parts))
            studies: list[tuple[int, int, int]] = []
            while left > 0:
                others = sorted(set().union(*seen.values()) - seen[part])
                if others and rng.random() < 0.25:
                    number = int(rng.choice(others))
                else:
                    patient += 1
                    number = patient
                seen[part].add(number)
                for study in range(1, 1 + int(rng.choice((1, 2, 3), p=(0.84, 0.13, 0.03)))):
                    films = min(int(rng.choice((1, 2, 3, 4), p=_VIEWS_OF_A_STUDY)), left)
                    if films:
                        studies.append((number, study, films))
                        left -= films
            labels = rng.permutation(np.arange(len(studies)) % 2)
            for (number, study, films), label in zip(studies, labels.tolist(), strict=True):
                plan += [View(seed, split, part, number, study, v, label) for v in range(1, films + 1)]
    return plan


def _write(root: Path, view: View) -> tuple[object, ...] | None:
    """Draw and write one film; the row for lesions.csv, or None."""
    film, kind, colour = draw_view(view)
    image = cv2.cvtColor(film.image, cv2.COLOR_GRAY2BGR) if colour else film.image
    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise OSError(f"OpenCV could not encode {view.path} as PNG")
    (root / view.path).write_bytes(data.tobytes())
    if not film.box or not kind:
        return None
    return (view.path, view.part, f"patient{view.patient:05d}", f"study{view.study}", kind, *film.box)


def _check(parts: Sequence[str] | str, views: int, valid: float, seed: int) -> tuple[str, ...]:
    names = (parts,) if isinstance(parts, str) else tuple(parts)
    unknown = [name for name in names if name not in PARTS]
    if unknown or not names:
        raise ValueError(f"parts={parts!r}: the parts that can be drawn are {', '.join(PARTS)}")
    if len(set(names)) != len(names):
        raise ValueError(f"parts={parts!r} names a part twice")
    if not 0 < valid < 1:
        raise ValueError(f"valid={valid!r} must be a share between 0 and 1, e.g. 0.25")
    if seed < 0:
        raise ValueError(f"seed={seed!r} must be 0 or more")
    least = math.ceil(8 * len(names) / min(valid, 1 - valid))
    if views < least:
        raise ValueError(
            f"views={views!r} with valid={valid!r} leaves fewer than 8 views for a part in a split: "
            f"ask for more views (at least {least}) or fewer parts"
        )
    return names


def _csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def make_phantoms(
    root: str | os.PathLike[str],
    parts: Sequence[str] | str = ("XR_FINGER",),
    views: int = 800,
    valid: float = 0.25,
    seed: int = 0,
    progress: bool = True,
    workers: int | None = None,
) -> Path:
    """Draw a data set of radiographs of nobody, laid out as MURA is.

    Parameters
    ----------
    root
        Folder to make. It must not exist, or be empty; its name becomes the prefix in the CSV files. It
        appears complete or not at all: the files are written beside it, and the folder renamed.
    parts
        MURA's names of the parts to draw, e.g. ``("XR_FINGER", "XR_HAND")``; a patient can have several.
    views
        Number of films, all parts and both splits together.
    valid
        Share of the films in the validation split. The splits share no patient.
    seed
        Same seed, same files, whatever the number of workers.
    progress
        Whether to show a progress bar.
    workers
        Threads to draw with; by default one a processor.

    Returns
    -------
    pathlib.Path
        The root. It holds ``{train,valid}/XR_*/patient*/study*_{positive,negative}/image*.png``, MURA's four
        CSV files, ``lesions.csv`` (path, part, patient, study, kind and the box x0, y0, x1, y1 in pixels,
        x1 and y1 exclusive; one row for each view that shows a lesion) and ``phantoms.json``.

    Raises
    ------
    ValueError
        For an unknown part, too few views, or a share outside 0..1.
    FileExistsError
        If `root` exists and is not an empty folder.

    See Also
    --------
    is_phantom : Whether a file or folder is a drawn one.

    Examples
    --------
    >>> import tempfile
    >>> from siamura.studies import make_phantoms
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root = make_phantoms(f"{folder}/drawn", views=16, valid=0.5, progress=False)
    ...     sorted(p.name for p in root.iterdir())
    ['lesions.csv', 'phantoms.json', 'train', 'train_image_paths.csv', 'train_labeled_studies.csv',
     'valid', 'valid_image_paths.csv', 'valid_labeled_studies.csv']
    """
    names = _check(parts, views, valid, seed)
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers!r} must be at least 1")
    target = Path(root).expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f"root={str(root)!r} exists and is not an empty folder: remove it, or name another"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    plan = _plan(names, views, valid, seed)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        mask = os.umask(0)
        os.umask(mask)
        scratch.chmod(0o777 & ~mask)
        _fill(scratch, target.name, plan, progress, workers)
        about = {
            "phantoms": "Drawn radiographs of nobody. Figures measured on them say nothing about patients.",
            "version": VERSION, "seed": seed, "parts": names, "views": views, "valid": valid,
        }  # fmt: skip
        (scratch / MARKER).write_text(json.dumps(about, indent=2) + "\n")
        scratch.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(scratch)
        raise
    _log.info("drew %d phantoms into %s", len(plan), target)
    return target


def _fill(root: Path, prefix: str, plan: list[View], progress: bool, workers: int | None) -> None:
    """Write the films and the CSV files."""
    for folder in sorted({view.folder for view in plan}):
        (root / folder).mkdir(parents=True)
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        drawn = tqdm(
            pool.map(lambda view: _write(root, view), plan),
            total=len(plan),
            desc="drawing phantoms",
            unit="view",
            disable=not progress,
        )
        rows = [row for row in drawn if row is not None]
    finally:
        pool.shutdown(cancel_futures=True)
    for split in ("train", "valid"):
        views = [view for view in plan if view.split == split]
        _csv(root / f"{split}_image_paths.csv", ([f"{prefix}/{view.path}"] for view in views))
        studies = {view.folder: view.label for view in views}
        _csv(
            root / f"{split}_labeled_studies.csv",
            ((f"{prefix}/{folder}/", label) for folder, label in studies.items()),
        )
    _csv(root / "lesions.csv", [_LESION_COLUMNS, *rows])


def is_phantom(path: str | os.PathLike[str]) -> bool:
    """Whether a file or folder lies in a data set drawn by `make_phantoms`.

    Parameters
    ----------
    path
        The root of a data set, or any file or folder in it.

    Examples
    --------
    >>> is_phantom("/")
    False
    """
    place = Path(path).expanduser().absolute()
    return any((folder / MARKER).is_file() for folder in (place, *list(place.parents)[:6]))
