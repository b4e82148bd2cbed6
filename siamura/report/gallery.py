"""Figures on their way into a run folder, each with the sentence that says what it rests on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamura._files import atomic_write
from siamura._stored import read_json
from siamura.plots.style import count, part_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CAPTIONS", "Gallery", "classes_named", "read_captions"]

_log = logging.getLogger(__name__)

#: The file beside the figures: captions, and where images lie in a figure.
CAPTIONS = "figures.json"

_DPI = 160


class Gallery:
    """The figures of one run: saves them as PNG files, and says the same of the data under each.

    Parameters
    ----------
    folder : Path
        The run folder.
    data : mapping
        ``data`` of ``config.json``.
    network : str
        What was trained, for the foot of each figure.

    Attributes
    ----------
    kind : str
        ``"phantoms"`` or ``"radiographs"``.
    classes : tuple of str
        The person's own names of the classes, in the order of the codes; of two the second is the positive one.
    captions : dict
        What was said of each figure so far, as `read_captions` gives it.
    """

    def __init__(self, folder: Path, data: Mapping[str, Any], network: str) -> None:
        self.folder = folder
        self.kind = "phantoms" if data["phantoms"] else "radiographs"
        self._counts = data["counts"]
        self._name = "Phantoms" if data["phantoms"] else Path(data["name"]).name
        self._part = parts_in_words(data["part"])
        self._network = network
        self.classes = classes_named(data)
        self.captions: dict[str, dict[str, Any]] = {}
        _log.info("drawing figures into %s, and the page: a minute, or more", folder)

    def rests_on(self, split: str, level: str = "view") -> str:
        """How much a split holds: ``"200 views of 46 patients"``."""
        counts = self._counts[split]
        rows = counts["views" if level == "view" else "studies"]
        return f"{count(rows, level)} of {count(counts['patients'], 'patient')}"

    def note(self, *splits: str, level: str = "view") -> str:
        """For the foot of a figure: which data, how many patients, which network."""
        counts = "; ".join(f"{split} {self.rests_on(split, level)}" for split in splits or self._counts)
        return f"{self._name}, {self._part}: {counts}. {self._network}."

    def add(self, name: str, figure: Figure, caption: str) -> None:
        """Save a figure as ``name.png``; `caption` says in one sentence what it shows and what it rests on."""
        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=_DPI)
        self.captions[name] = {"caption": caption, "images": _image_boxes(figure)}

    def close(self) -> None:
        """Write the captions beside the figures."""
        atomic_write(self.folder / CAPTIONS, json.dumps(self.captions, indent=2, ensure_ascii=False) + "\n")


def classes_named(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a run's classes, from ``data`` of ``config.json``; an older run has normal and abnormal.

    Examples
    --------
    >>> classes_named({"classes": ["clean", "fracture"]}), classes_named({})
    (('clean', 'fracture'), ('normal', 'abnormal'))
    """
    return tuple(map(str, data.get("classes") or ("normal", "abnormal")))


def parts_in_words(parts: str) -> str:
    """Write the parts of ``config.json`` as a caption does; more than three are counted.

    Examples
    --------
    >>> parts_in_words("XR_FINGER, XR_HAND")
    'finger, hand'
    """
    names = [part_name(part).lower() for part in parts.split(", ")]
    return ", ".join(names) if len(names) < 4 else f"{len(names)} body parts"


def read_captions(folder: Path) -> dict[str, dict[str, Any]]:
    """Read what `Gallery.close` wrote: ``{figure: {"caption": str, "images": boxes}}``; empty where it is missing.

    A box is ``[left, top, right, bottom]`` in pixels of the PNG file.
    """
    path = folder / CAPTIONS
    return read_json(path) if path.is_file() else {}


def _image_boxes(figure: Figure) -> list[list[int]]:
    """Where pictures lie in a saved figure, in pixels; a matrix drawn as a picture has words on it and is none."""
    width, height = figure.get_size_inches() * _DPI
    drawn = int(height)  # whole pixels, counted from the bottom
    boxes = []
    for axes in figure.axes:
        if axes.get_images() and not axes.texts:
            box = axes.get_position()
            boxes.append([
                round(box.x0 * width), round(drawn - box.y1 * height),
                round(box.x1 * width), round(drawn - box.y0 * height),
            ])  # fmt: skip
    return boxes
