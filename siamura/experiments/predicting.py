"""Answers to new images by a run, or by the ensemble of several seeds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from siamura._run_files import load_classes, seed_folders
from siamura.inference import Predictor, answers_of, load_points, studies_of

from .folder import load_run

__all__ = ["EnsemblePredictor", "load_predictor"]


class EnsemblePredictor:
    """The runs of several seeds, which answer with the mean of their probabilities.

    Parameters
    ----------
    folder : path
        What `siamura.run_seeds` wrote.
    head : {"knn", "mlp"}
        Which head gives the probability.

    Attributes
    ----------
    members : list of Predictor
        One a seed.
    classes : tuple of str
        Names of the classes; of two the second is the positive one.
    points : dict of str to OperatingPoint
        The ensemble's own, for ``"view"`` and ``"study"``; empty where it has none.

    Raises
    ------
    FileNotFoundError
        If the folder holds no several seeds, or one of them is not finished.

    Examples
    --------
    .. code-block:: python

        from siamura.inference import list_views
        predictor = EnsemblePredictor("runs/seeds", head="mlp")
        views = predictor.views(list_views(["phantoms/valid/XR_FINGER"]).head(2))
        predictor.studies(views).columns.tolist()
        # ['study', 'views', 'unreadable', 'unlike', 'answer', 'probability', 'calibrated', 'abnormal']
    """

    def __init__(self, folder: str | os.PathLike[str], *, head: str = "knn") -> None:
        found = seed_folders(folder)
        if not found:
            raise FileNotFoundError(f"{folder} holds no runs of several seeds; give what run_seeds wrote.")
        self.members = [Predictor(load_run(member), head=head) for member in found]
        self.classes = load_classes(folder, self.members[0].heads)
        self.points = load_points(folder, head)

    def views(self, table: pd.DataFrame) -> pd.DataFrame:
        """Score the views of a table with a ``path`` column, as `Predictor.views` does.

        Returns
        -------
        pandas.DataFrame
            ``answer``, ``probability`` and ``calibrated`` are those of the mean probability; ``distance`` is the mean
            over the members, and ``unlike`` holds where most members say so.
        """
        each = [member.views(table) for member in self.members]
        columns = (
            ["probability"] if len(self.classes) == 2 else [f"probability[{name}]" for name in self.classes]
        )
        mean = np.mean([frame[columns].to_numpy(dtype=np.float64) for frame in each], axis=0)
        answers = answers_of(
            mean[:, 0] if len(columns) == 1 else mean, self.classes, point=self.points.get("view")
        )
        votes = np.sum([frame["unlike"].fillna(False).to_numpy(dtype=np.int64) for frame in each], axis=0)
        unlike = pd.Series(2 * votes > len(each), index=table.index).astype("boolean")
        distance = np.mean([frame["distance"].to_numpy() for frame in each], axis=0)
        named = {str(name): values.to_numpy() for name, values in answers.items()}
        return each[0].assign(**named, distance=distance, unlike=unlike.mask(each[0]["unlike"].isna()))

    def studies(self, views: pd.DataFrame) -> pd.DataFrame:
        """Aggregate what `views` gave to studies, by the ensemble's operating point: see `Predictor.studies`."""
        return studies_of(views, classes=self.classes, point=self.points.get("study"))


def load_predictor(folder: str | os.PathLike[str], *, head: str = "knn") -> Predictor | EnsemblePredictor:
    """Load what answers to new images: a run, or the ensemble where the folder holds several seeds.

    Examples
    --------
    .. code-block:: python

        type(load_predictor("runs/first", head="mlp")).__name__
        # 'Predictor'
    """
    if seed_folders(folder):
        return EnsemblePredictor(folder, head=head)
    return Predictor(load_run(Path(folder)), head=head)
