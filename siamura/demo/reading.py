"""One study answered: how probable, with what interval, from where, and like which earlier cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from siamura._validation import check_whole
from siamura.evaluation.intervals import interval, patient_draws
from siamura.explanation import Explanation, HeadLogit, explain
from siamura.pixels import read_image

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from .loading import Demo

__all__ = ["Answer", "read", "vote_interval"]


@dataclass(frozen=True, eq=False)
class Answer:
    """What the demo says of one study.

    Parameters
    ----------
    study : str
        Its name.
    known : str
        The class it was drawn as.
    answer : str
        The class it is called.
    probability, low, high : float
        Of the positive class, the mean over the views, and its 95 % interval (`vote_interval`).
    each : float64 (V,)
        The views' probabilities.
    views : list of V Explanation
        Where each view's score comes from.
    unlike : bool
        Whether every view is farther from the training films than 99 % of the validation views
        (`siamura.Predictor.unlike`).
    cases : pandas.DataFrame
        The nearest earlier cases, one a study: rank, distance, finding, path, patient, study, ...
    classes : tuple of str
        Names of the classes; the second is the positive one.

    Examples
    --------
    .. code-block:: python

        import siamura
        answer = siamura.load_demo().read()
        print(answer.sentence)  # PHANTOMS: ...
    """

    study: str
    known: str
    answer: str
    probability: float
    low: float
    high: float
    each: npt.NDArray[np.float64]
    views: list[Explanation]
    unlike: bool
    cases: pd.DataFrame
    classes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The answer in one line."""
        return (
            f"PHANTOMS: {self.study} is called {self.answer}, probability of {self.classes[1]} "
            f"{self.probability:.2f} [{self.low:.2f}, {self.high:.2f}]; drawn as {self.known}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; figures as they are, not rounded."""
        return {
            "data": "PHANTOMS",
            "study": self.study,
            "answer": self.answer,
            "probability": self.probability,
            "interval": [self.low, self.high],
            "drawn_as": self.known,
            "views": self.each.tolist(),
            "unlike": self.unlike,
            "cases": self.cases[["rank", "distance", "finding", "patient", "study", "path"]].to_dict(
                "records"
            ),
        }


def read(demo: Demo, views: pd.DataFrame, *, cases: int) -> Answer:
    """Answer for the views of one study."""
    predictor = demo.predictor
    images = [read_image(path) for path in views["path"]]
    vectors, features = predictor.embed_with_features([predictor.preprocess(image) for image in images])
    each = predictor.probability(vectors)
    mean = float(each.mean())
    held, table = demo.run.embeddings()
    train = (table["split"] == "train").to_numpy()
    low, high = vote_interval(
        vectors,
        held[train],
        table["label"].to_numpy()[train],
        table["patient"].to_numpy(dtype=str)[train],
        k=demo.run.experiment.neighbours,
    )
    patient = str(views["patient"][0])
    found = demo.cases.search(vectors, k=cases, studies="mean", exclude_patient=patient)
    found.insert(3, "finding", found["label"].map(dict(enumerate(predictor.classes))))
    target = HeadLogit(predictor.heads["mlp"], 1)
    return Answer(
        study=f"{patient}/{str(views['study'][0]).split('_')[0]}",
        known=predictor.classes[int(views["label"][0])],
        answer=str(predictor.answers(np.array([mean]))["answer"][0]),
        probability=mean,
        low=low,
        high=high,
        each=each,
        views=[explain(predictor.net, image, target) for image in images],
        unlike=bool(predictor.unlike(vectors, features).all()),
        cases=found,
        classes=predictor.classes,
    )


def vote_interval(
    queries: npt.NDArray[np.float32],
    rows: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    patients: Sequence[str] | npt.NDArray[np.str_],
    *,
    k: int = 15,
    draws: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Interval of a study's k-NN probability: how much it depends on which training patients were collected.

    The training patients are drawn again with replacement, each with all rows; in every draw the k nearest rows
    vote, a row as often as its patient was drawn. It is no interval of being right.

    Parameters
    ----------
    queries : float32 (V, dim)
        The views of one study; their probabilities are averaged.
    rows : float32 (N, dim)
        Training embeddings.
    labels : int (N,)
        0 or 1.
    patients : sequence of N str
    k : int
        Neighbours that vote.
    draws, seed : int
        Of the bootstrap.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    low, high : float

    Examples
    --------
    >>> rows = np.array([[0.0], [0.1], [0.2], [0.3]], np.float32)
    >>> vote_interval(rows[:1], rows, np.array([1, 1, 1, 1]), list("abcd"), k=2)
    (1.0, 1.0)
    >>> vote_interval(rows[:1], rows, np.array([0, 1, 0, 1]), list("abcd"), k=2)
    (0.0, 1.0)
    """
    k = check_whole("k", k)
    queries, rows = np.asarray(queries, np.float64), np.asarray(rows, np.float64)
    names, codes = np.unique(np.asarray(patients), return_inverse=True)
    drawn = patient_draws(len(names), draws, seed)
    share = np.zeros(draws)
    for query in queries:
        order = np.argsort(((rows - query) ** 2).sum(axis=1), kind="stable")
        times = drawn[:, codes[order]]
        before = np.cumsum(times, axis=1) - times
        votes = np.clip(k - before, 0, times)
        share += votes @ np.asarray(labels, np.float64)[order] / votes.sum(axis=1)
    return interval(share / len(queries), confidence)
