"""A run that reads studies: probability, heat maps and similar cases, as plain values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from siamura.experiments.folder import load_run
from siamura.explanation import HeadLogit, explain
from siamura.explanation.inputs import shrunk
from siamura.heads import KNNHead
from siamura.index import CaseIndex
from siamura.inference import Predictor
from siamura.pixels import UnreadableImage, check_radiograph, read_image
from siamura.plots.style import part_name
from siamura.report.tables import data_sentence, with_interval

from .reading import THRESHOLD, Reading, View, calibrated, called, class_name, shown

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MAX_VIEWS", "Reader"]

MAX_VIEWS = 12
IMAGE_SIDE = 1400  # pixels of the longest side that is sent to the browser
HEAT_SIDE = 400
CASE_SIDE = 400
UNLIKE = "unlike the training views"


class Reader:
    """A finished run, loaded once, that reads studies.

    Parameters
    ----------
    run : path
        The run folder.
    cases : int
        How many similar cases are shown.
    index : path or URL, optional
        A case index of this run's network, as `siamura.CaseIndex` keeps it; without it the similar cases are
        the run's training views.

    Examples
    --------
    .. code-block:: python

        reader = Reader("runs/first", cases=3)
        reading = reader.read_sample(next(iter(reader.samples)))  # a validation study
        len(reading.views) >= 1, len(reading.cases)
        # (True, 3)
        reading.cases["split"].unique().tolist()  # the similar cases are training views
        # ['train']
    """

    def __init__(
        self,
        run: str | os.PathLike[str],
        *,
        cases: int = 6,
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        self.run = load_run(run)
        self.predictor = Predictor(self.run, head="knn")
        self.points = self.predictor.points
        self.classes: tuple[str, ...] = tuple(
            map(str, self.run.config["data"].get("classes") or ("normal", "abnormal"))
        )
        vectors, table = self.run.embeddings()
        train = (table["split"] == "train").to_numpy()
        self._table = table[train].reset_index(drop=True)
        self.index = None if index is None else CaseIndex.open(index, model=self.predictor.net)
        self._near = KNNHead(k=cases, index="exact").fit(vectors[train], self._table["label"].to_numpy())
        self.samples: dict[str, list[str]] = {}
        self._patients: dict[str, str] = {}
        self._find_samples(table[~train])
        self.k = cases
        self.part = part_name(self.run.config["data"].get("part") or self.run.experiment.part)
        self.phantoms = bool(self.run.config["data"]["phantoms"])

    def _find_samples(self, valid: pd.DataFrame, most: int = 12) -> None:
        """Some validation studies whose files are still there, by a name that does not tell the label."""
        for (patient, study), rows in valid.groupby(["patient", "study"], sort=True):
            paths = [p for p in rows["path"] if Path(p).is_file()]
            if len(paths) == len(rows) and len(self.samples) < most:
                views = "1 view" if len(paths) == 1 else f"{len(paths)} views"
                name = f"{patient}, {str(study).split('_')[0]} ({views})"
                self.samples[name] = paths
                self._patients[name] = str(patient)

    def read_sample(self, name: str) -> Reading:
        """Read one of the validation studies in `samples`."""
        return self.read(self.samples[name], study=name.rpartition(" (")[0], patient=self._patients[name])

    def read(
        self,
        paths: Sequence[str | os.PathLike[str]],
        names: Sequence[str] | None = None,
        *,
        study: str | None = None,
        patient: str | None = None,
    ) -> Reading:
        """Score the views of one study.

        Parameters
        ----------
        paths : sequence of path
            Its image files.
        names : sequence of str, optional
            What to call them; their file names if not given.
        study : str, optional
            What to call the study; the files' names if not given.
        patient : str, optional
            Whose study it is: cases of a case index that are this patient's are not shown.

        Returns
        -------
        Reading
            With a clear word for each file that cannot be read; never an exception for a bad file.
        """
        names = list(names) if names is not None else [Path(p).name for p in paths]
        if not paths:
            return Reading("Choose the views of a study first.")
        if len(paths) > MAX_VIEWS:
            return Reading(f"{len(paths)} files are more than the {MAX_VIEWS} views a study may have here.")
        study = study or _named(names)
        squares, parts, problems = [], [], []
        for path, name in zip(paths, names, strict=True):
            try:
                image = read_image(path)
            except (UnreadableImage, OSError) as error:
                gone = not Path(path).is_file()  # as in a page left open
                reason = getattr(error, "reason", str(error))
                problems.append(
                    f"{name} is deleted by now; upload it again"
                    if gone
                    else f"{name} could not be read: {reason}"
                )
                continue
            if reason := check_radiograph(image):
                problems.append(f"{name} is no radiograph: {reason}")
                continue
            square, small, heat, boxes = self._explained(image)
            del image  # up to 80 megabytes: only the small pictures of it are kept
            squares.append(square)
            parts.append((name, small, heat, boxes))
        if not squares:
            return Reading(f"{study}: no readable view", problems=problems)
        embeddings, features = self.predictor.embed_with_features(squares)
        each = self.probabilities(embeddings)
        unlike = self.predictor.unlike(embeddings, features)
        views = [
            View(name, row, bool(far), small, heat, boxes, self.classes, self.points.get("view"))
            for (name, small, heat, boxes), row, far in zip(parts, each, unlike, strict=True)
        ]
        cases = self._cases(embeddings, patient)
        return Reading(
            self._heading(study, views, len(paths)),
            self._notes(views),
            [*self._warnings(views), *problems],
            views,
            cases,
            self._pictures(cases),
            self.classes,
        )

    def probabilities(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Probability of each class, float64 (N, C)."""
        return np.asarray(self.predictor.head.predict_proba(embeddings), dtype=np.float64)

    def _explained(
        self, image: npt.NDArray[np.uint8]
    ) -> tuple[
        npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.float64]
    ]:
        code = 1  # of more than two classes, the heat is that of the answer
        if len(self.classes) > 2:
            code = called(self.probabilities(self.predictor.embed([image]))[0])
        found = explain(self.predictor.net, image, HeadLogit(self.predictor.heads["mlp"], code))
        height, width = image.shape
        scale = min(1.0, HEAT_SIDE / max(height, width))
        heat = found.map_at(max(1, round(height * scale)), max(1, round(width * scale)))
        return found.square, shrunk(image, IMAGE_SIDE), heat, found.boxes / np.array([width, height] * 2)

    def _heading(self, study: str, views: list[View], given: int) -> str:
        read = f" ({len(views)} of {given} views read)" if len(views) < given else ""
        if all(view.unlike for view in views):
            return f"{study}: {UNLIKE}, so the score means little{read}"
        if self.chance:
            return f"{study}: no better than chance on validation{read}"
        mean = np.mean([view.each for view in views], axis=0)
        of = shown(mean)
        point = self.points.get("study")
        answer = self.classes[called(mean, point)]
        value = calibrated(mean, point)[of]
        return f"{study}: {answer}, probability of {self.classes[of]} {value:.2f}{read}"

    @property
    def chance(self) -> bool:
        """Whether the 95 % interval of kappa on the validation studies holds 0, or there is none."""
        interval = self.run.metrics["valid"]["study"]["knn"].get("interval", {}).get("kappa")
        if interval is None or None in interval or not np.isfinite(interval).all():
            return True  # nothing shows that it is better than chance
        return bool(interval[0] <= 0)

    def _warnings(self, views: list[View]) -> list[str]:
        said = []
        far = [view.name for view in views if view.unlike]
        if far:
            share = f"{self.predictor.limit.share:.0%}".replace("%", " %")
            said.append(
                f"{', '.join(far)}: {UNLIKE}, farther from them than {share} of the validation views; the score "
                "means little."
            )
        if len(self.classes) > 2:
            if len({view.answer for view in views}) > 1:
                named = ", ".join(f"{view.name} {view.answer}" for view in views)
                said.append(f"The views differ: {named}.")
            return said
        called = [view.name for view in views if view.marked]
        if 0 < len(called) < len(views):
            verb = "is" if len(called) == 1 else "are"
            said.append(
                f"{len(called)} of {len(views)} views {verb} called {self.classes[1]}: {', '.join(called)}."
            )
        return said

    def _notes(self, views: list[View]) -> list[str]:
        mean = np.mean([view.each for view in views], axis=0)
        of = self.classes[shown(mean)]
        point = self.points.get("study")
        each = ", ".join(f"{view.each[shown(view.each)]:.2f}" for view in views)
        rests = "of one view"
        if len(views) > 1:
            rests = f"the mean of {len(views)} views"
            rests += f" ({each})" if len(self.classes) == 2 else ""
        rule = f"above {THRESHOLD:g} is called {of}"
        if point is not None and point.threshold is not None:
            rule = (
                f"calibrated {calibrated(mean, point)[1]:.2f}, and above {point.threshold:.2f} is called {of}: for a "
                f"sensitivity of {point.sensitivity:.2f}, chosen on {point.patients} training patients apart"
            )
        if len(self.classes) > 2:
            rule = "the most probable class is the answer: " + ", ".join(
                f"{name} {value:.2f}" for name, value in zip(self.classes, mean, strict=True)
            )
        figures = self.run.metrics["valid"]["study"]["knn"]
        data = data_sentence({**self.run.config["data"], "part": self.part.lower()})
        return [
            f"Probability of {of} {mean[shown(mean)]:.2f}, {rests}: the share of {of} among the "
            f"{self.run.experiment.neighbours} nearest training views; {rule}.",
            f"On the validation studies this score, at {THRESHOLD:g} and without calibration, reached kappa "
            f"{with_interval(figures, 'kappa')} (95 % interval over {figures.get('patients', 'the')} patients; "
            f"0 is chance). {data}",
        ]

    def _cases(self, embeddings: npt.NDArray[np.float32], patient: str | None) -> pd.DataFrame:
        if self.index is not None:
            found = self.index.search(embeddings, k=self.k, exclude_patient=patient)
        else:
            distance, row = self._near.kneighbors(embeddings, k=min(self.k, len(self._table)))
            found = self._table.iloc[row.ravel()].assign(distance=distance.ravel())
        found = found.sort_values("distance", kind="stable").drop_duplicates("path")
        return found.head(self.k).reset_index(drop=True)

    def _pictures(self, cases: pd.DataFrame) -> list[tuple[npt.NDArray[np.uint8], str]]:
        pictures = []
        for row in cases.to_dict("records"):
            try:
                image = shrunk(read_image(row["path"]), CASE_SIDE)
            except (UnreadableImage, FileNotFoundError):
                continue  # the case stays in the table; only its file is gone
            pictures.append(
                (image, f"{class_name(row['label'], self.classes)}, distance {row['distance']:.2g}")
            )
        return pictures


def _named(names: Sequence[str]) -> str:
    """What to call a study of these files."""
    return names[0] if len(names) == 1 else f"{len(names)} files, {names[0]} to {names[-1]}"
