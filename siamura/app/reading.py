"""What was read of a study, as plain values, with the names of the run's classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import numpy.typing as npt

    from siamura.evaluation import OperatingPoint

__all__ = ["THRESHOLD", "Reading", "View", "calibrated", "called", "class_name", "shown"]

THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class View:
    """One view that was read.

    Parameters
    ----------
    name : str
        Its file's name.
    each : float64 (C,)
        Probability of each class.
    unlike : bool
        Whether it lies farther from the training views than 99 % of the validation views.
    image : uint8 (H, W)
        The image, its longest side at most 1,400 pixels.
    heat : float32 (h, w)
        Where the score comes from, 0 to 1 by the maximum within this image; it covers the whole image.
    boxes : float64 (n, 4)
        x0, y0, x1, y1 as shares of the image's width and height.
    classes : tuple of C str
        The classes' names; of two, the second is the positive one.
    point : OperatingPoint, optional
        Of views: it calibrates the probabilities, and its threshold decides.

    Examples
    --------
    .. code-block:: python

        from siamura.app import Reader
        reader = Reader("runs/first")
        view = reader.read_sample(next(iter(reader.samples))).views[0]
        view.image.dtype, float(view.heat.max()) <= 1
        # (dtype('uint8'), True)
    """

    name: str
    each: npt.NDArray[np.float64]
    unlike: bool
    image: npt.NDArray[np.uint8]
    heat: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float64]
    classes: tuple[str, ...] = ("normal", "abnormal")
    point: OperatingPoint | None = None

    @property
    def code(self) -> int:
        """Code of the class that it is called."""
        return called(self.each, self.point)

    @property
    def answer(self) -> str:
        """Name of the class that it is called."""
        return self.classes[self.code]

    @property
    def probability(self) -> float:
        """Of two classes the probability of the positive one, of more that of the answer; calibrated by the point."""
        return float(calibrated(self.each, self.point)[shown(self.each)])

    @property
    def of(self) -> str:
        """Name of the class that `probability` is of."""
        return self.classes[shown(self.each)]

    @property
    def marked(self) -> bool:
        """Whether it is called the positive one of two classes."""
        return len(self.classes) == 2 and self.code == 1


@dataclass(frozen=True)
class Reading:
    """What the page shows for one study, as plain text and arrays.

    Parameters
    ----------
    heading : str
        The study's name and its verdict, or what is wrong.
    notes : list of str
        What the verdict rests on.
    problems : list of str
        What must not be overlooked: unreadable files, views unlike the training views.
    views : list of View
        Each readable view.
    cases : pandas.DataFrame or None
        The nearest earlier cases.
    pictures : list of (ndarray, str)
        Those of them whose files are still there, uint8 (H, W), with captions.
    classes : tuple of str
        The classes' names, by the codes in the column ``label`` of `cases`.

    Examples
    --------
    .. code-block:: python

        from siamura.app import Reader
        reading = Reader("runs/first").read([])
        reading.heading, reading.views, reading.cases
        # ('Choose the views of a study first.', [], None)
    """

    heading: str
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    cases: pd.DataFrame | None = None
    pictures: list[tuple[npt.NDArray[np.uint8], str]] = field(default_factory=list)
    classes: tuple[str, ...] = ("normal", "abnormal")

    @property
    def verdict(self) -> str:
        """Heading, problems and notes in one text."""
        return "\n\n".join([self.heading, *self.problems, *self.notes])


def called(each: npt.NDArray[np.float64], point: OperatingPoint | None = None) -> int:
    """Code of the class that probabilities (C,) speak for, by an operating point where there is one."""
    if len(each) != 2:
        return int(each.argmax())
    if point is not None:
        return int(point.decide(each[1:])[0])
    return int(each[1] > THRESHOLD)


def calibrated(each: npt.NDArray[np.float64], point: OperatingPoint | None = None) -> npt.NDArray[np.float64]:
    """Calibrate probabilities (C,) by an operating point, where there is one."""
    if point is None:
        return each
    if len(each) != 2:
        return np.asarray(point.calibrate(each[None])[0])
    positive = float(point.calibrate(each[1:])[0])
    return np.array([1 - positive, positive])


def shown(each: npt.NDArray[np.float64]) -> int:
    """Code of the class whose probability is shown: the positive one of two, the answer of more."""
    return 1 if len(each) == 2 else called(each)


def class_name(label: object, classes: Sequence[str] = ("normal", "abnormal")) -> str:
    """The name of a class by its code; a label that is no code, of a case index say, as it is."""
    known = isinstance(label, (int, np.integer)) and 0 <= label < len(classes)
    return classes[int(label)] if known else str(label)  # type: ignore[call-overload]
