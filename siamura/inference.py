"""From image files to embeddings and probabilities, by a finished run: the one way that every command takes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from tqdm import tqdm

from siamura import pixels
from siamura._files import printable
from siamura._run_files import (
    align_classes,
    load_classes,
    load_embeddings,
    load_heads,
    load_network,
    refuse_several,
)
from siamura._stored import naming_damage, read_json
from siamura._validation import check_choice
from siamura.heads.distance_limit import DistanceLimit
from siamura.heads.feature_limit import FeatureLimit
from siamura.pixels.checks import check_radiograph
from siamura.studies.listing import list_views

if TYPE_CHECKING:
    import numpy.typing as npt

    from siamura.evaluation import OperatingPoint
    from siamura.networks import EmbeddingNet

__all__ = [
    "Predictor",
    "align_classes",
    "list_views",
    "load_classes",
    "load_embeddings",
    "load_heads",
    "load_network",
    "studies_of",
]

_LOG = logging.getLogger(__name__)


class _Run(Protocol):
    """What is needed of a run: its folder, network, heads and embeddings."""

    @property
    def folder(self) -> Path: ...

    def network(self) -> EmbeddingNet: ...

    def heads(self) -> dict[str, Any]: ...

    def embeddings(self) -> tuple[npt.NDArray[np.float32], pd.DataFrame]: ...


@dataclass(frozen=True)
class _Folder:
    """A run folder that is read without its settings and figures."""

    folder: Path

    def network(self) -> EmbeddingNet:
        return load_network(self.folder)

    def heads(self) -> dict[str, Any]:
        return load_heads(self.folder)

    def embeddings(self) -> tuple[npt.NDArray[np.float32], pd.DataFrame]:
        return load_embeddings(self.folder)


class Predictor:
    """A run's network and heads, loaded once, for as many images as come.

    Parameters
    ----------
    run : path or Run
        A finished run, or its folder.
    head : {"knn", "mlp"}
        Which head gives the probability.

    Attributes
    ----------
    net : EmbeddingNet
        The network, in evaluation mode.
    preprocess : Preprocess
        The run's, from a greyscale image to the network's square.
    heads : dict of str to head
        All heads of the run.
    head : KNNHead or MLPHead
        The one that gives the probability.
    classes : tuple of str
        Names of the classes, as the person gave them; of two the second is the positive one.
    points : dict of str to OperatingPoint
        Calibration and threshold for ``"view"`` and ``"study"``, fitted on training patients apart; empty where the
        run has none.

    Raises
    ------
    FileNotFoundError
        If the folder holds no network or no heads.
    ValueError
        If the run has no such head, or its network was saved without the preprocessing.

    Examples
    --------
    .. code-block:: python

        import siamura
        predictor = siamura.Predictor("runs/first")
        views = predictor.views(list_views(["phantoms/valid/XR_FINGER"]).head(2))
        views.columns.tolist()
        # ['path', 'study', 'answer', 'probability', 'calibrated', 'distance', 'unlike', 'problem']
        predictor.studies(views).columns.tolist()
        # ['study', 'views', 'unreadable', 'unlike', 'answer', 'probability', 'calibrated', 'abnormal']
    """

    def __init__(self, run: str | os.PathLike[str] | _Run, *, head: str = "knn") -> None:
        if isinstance(run, (str, os.PathLike)):
            refuse_several(run)
        self.run: _Run = _Folder(Path(run)) if isinstance(run, (str, os.PathLike)) else run
        self.net, self.heads = self.run.network().eval(), self.run.heads()
        self.name = check_choice("head", head, tuple(sorted(self.heads)))
        self.head = self.heads[head]
        if self.net.preprocess is None:
            raise ValueError(
                f"the model in {self.run.folder} was saved without its preprocessing; train it again."
            )
        self.classes = load_classes(self.run.folder, self.heads)
        self.points = load_points(self.run.folder, head)
        for point in self.points.values():
            if point.calls_all:
                _LOG.warning("%s of %s: %s", head, self.run.folder, point.warning)
        self.preprocess = self.net.preprocess
        self._limit: DistanceLimit | None = None
        self._feature_limit = FeatureLimit.load(self.run.folder)

    def embed(self, images: Iterable[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Embed greyscale images, uint8 (H, W) each, through the run's preprocessing: float32 (N, dim).

        The same image gives the same vector, to the bit, as `siamura.embed` of a data set that holds it.
        """
        return self.embed_squares([self.preprocess(image) for image in images])

    def embed_squares(self, squares: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Embed images that went through the run's preprocessing, uint8 (S, S) each: float32 (N, dim)."""
        # Here, as it loads torch, which the lists of files and results do without.
        from siamura.training import embed

        if not squares:
            return np.empty((0, self.net.dim), np.float32)
        return embed(self.net, np.stack(squares), progress=False)

    def probability(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Probability that a view is abnormal, float64 (N,); of more than two classes that of each, (N, C)."""
        found = np.asarray(self.head.predict_proba(embeddings), dtype=np.float64)
        return found[:, 1] if len(self.classes) == 2 else found

    def answers(self, probability: npt.NDArray[np.float64]) -> pd.DataFrame:
        """What probabilities say, by name.

        Parameters
        ----------
        probability : float64 (N,) or (N, C)
            Of `probability`.

        Returns
        -------
        pandas.DataFrame
            ``answer``, the name of a class, missing where the probability is, by the run's operating point for views,
            without one at 0.5; ``probability`` as the head gives it: of two classes that of the positive one, of more
            that of the answer, each class's own in ``probability[NAME]``; and ``calibrated``, the same calibrated,
            missing where the run has no operating point.
        """
        return answers_of(probability, self.classes, point=self.points.get("view"))

    def studies(self, views: pd.DataFrame) -> pd.DataFrame:
        """Aggregate what `views` gave to studies, by the run's operating point for studies: see `studies_of`."""
        return studies_of(views, classes=self.classes, point=self.points.get("study"))

    @property
    def limit(self) -> DistanceLimit:
        """The distance beyond which a view is unlike the training views; measured here where the run lacks it."""
        if self._limit is None:
            self._limit = DistanceLimit.load(self.run.folder)
            rows = self.heads["knn"].n_rows_
            if self._limit is not None and self._limit.k > rows:
                raise ValueError(
                    f"{self.run.folder}/knn/distance_limit.json asks for k={self._limit.k} of {rows} training views; "
                    "delete it, and it is measured again."
                )
        if self._limit is None:
            vectors, table = self.run.embeddings()
            self._limit = DistanceLimit.of(self.heads["knn"], vectors[(table["split"] == "valid").to_numpy()])
        return self._limit

    def distance(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Distance of each embedding to its k-th nearest training view, float64 (N,); above `limit` is unlike."""
        if not len(embeddings):
            return np.empty(0)
        return np.asarray(self.heads["knn"].kneighbors(embeddings, k=self.limit.k)[0][:, -1])

    def embed_with_features(
        self, squares: Sequence[npt.NDArray[np.uint8]]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """`embed_squares`, and the trunk's pooled features of the same pass, float32 (N, C), for `unlike`."""
        # Here, as it loads torch.
        from siamura.training.pooled import embed_with_features

        return embed_with_features(self.net, np.stack(squares), progress=False)

    def unlike(
        self, embeddings: npt.NDArray[np.float32], features: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.bool_]:
        """Whether views are unlike the training views, bool (N,), by what `embed_with_features` gives.

        By either of two rules, each of which 99 % of the validation views pass: the distance to the k-th nearest
        training view, and the distance of the pooled features from what the training views span. A trained embedding
        can place a checkerboard amid radiographs; a run from before the second rule goes by the first alone.
        """
        far = self.distance(embeddings) > self.limit.limit
        if self._feature_limit is not None:
            far |= self._feature_limit.beyond(features)
        return far

    def views(self, table: pd.DataFrame) -> pd.DataFrame:
        """Score the views of a table with a ``path`` column.

        Returns
        -------
        pandas.DataFrame
            Every row, with ``answer``, ``probability`` and ``calibrated`` as `answers` gives them, ``distance``
            (to the k-th nearest training view) and ``unlike`` (see `unlike`); for one that could not be read they are
            missing, and ``problem`` has the reason.
        """
        rows: list[int] = []
        squares: list[npt.NDArray[np.uint8]] = []
        embeddings: list[npt.NDArray[np.float32]] = [np.empty((0, self.net.dim), np.float32)]
        odd: list[npt.NDArray[np.bool_]] = []
        problems: list[str] = []
        for row, path in enumerate(tqdm(table["path"], desc="scoring", unit="view", disable=None)):
            square, problem = self._square(path)
            problems.append(problem)
            if square is not None:
                squares.append(square)
                rows.append(row)
            if squares and (len(squares) == _AT_ONCE or row == len(table) - 1):
                vectors, features = self.embed_with_features(squares)
                embeddings.append(vectors)
                odd.append(self.unlike(vectors, features))
                squares = []
        vectors = np.concatenate(embeddings)
        shape = (len(table),) if len(self.classes) == 2 else (len(table), len(self.classes))
        probability, distance = np.full(shape, np.nan), np.full(len(table), np.nan)
        if rows:
            probability[rows], distance[rows] = self.probability(vectors), self.distance(vectors)
        unlike = pd.array([pd.NA] * len(table), dtype="boolean")
        if rows:
            unlike[np.array(rows)] = np.concatenate(odd)
        said = np.array(problems, dtype=str)
        answers = {str(name): values.to_numpy() for name, values in self.answers(probability).items()}
        return table.assign(**answers, distance=distance, unlike=unlike, problem=said)

    def _square(self, path: str | os.PathLike[str]) -> tuple[npt.NDArray[np.uint8] | None, str]:
        """The network's square of a file, or why there is none; the full image is given up at once."""
        try:
            image = pixels.read_image(path)
        except pixels.UnreadableImage as error:
            return None, " ".join(str(error).split())
        if reason := check_radiograph(image):
            return None, f"{printable(path)} cannot be read as a radiograph: {reason}."
        return self.preprocess(image), ""


_AT_ONCE = 32  # squares embedded together


def load_points(folder: str | os.PathLike[str], head: str) -> dict[str, OperatingPoint]:
    """Read the operating points of one head of a run folder, by level; empty where the run has none."""
    path = Path(folder) / "operating_point.json"
    if not path.is_file():
        return {}
    # Here, as the scores load SciPy, which the command line's help does without.
    from siamura.evaluation.operating_point import OperatingPoint

    kept = read_json(path)
    with naming_damage(path):
        each = kept.get("heads", {}).get(head, {})
        points = {str(level): OperatingPoint.from_dict(point) for level, point in each.items()}
        if any(point.level != level for level, point in points.items()):
            raise ValueError("an operating point is of another level than its name")
    return points


def answers_of(
    probability: npt.NDArray[np.float64],
    classes: Sequence[str],
    threshold: float = 0.5,
    point: OperatingPoint | None = None,
) -> pd.DataFrame:
    """Say what probabilities (N,) or (N, C) mean, by name: see `Predictor.answers`."""
    names = np.array(classes, dtype=object)
    known = ~np.isnan(probability if probability.ndim == 1 else probability[:, 0])
    calibrated = np.full_like(probability, np.nan)
    if point is not None and known.any():
        calibrated[known] = point.calibrate(probability[known])
    code = np.zeros(len(probability), dtype=np.int64)
    if known.any():
        if point is not None:
            code[known] = point.decide(probability[known])
        elif probability.ndim == 1:
            code[known] = probability[known] > threshold
        else:
            code[known] = probability[known].argmax(axis=1)
    answer = names[code]
    answer[~known] = None
    if probability.ndim == 1:
        return pd.DataFrame({"answer": answer, "probability": probability, "calibrated": calibrated})
    at = (np.arange(len(code)), code)
    each = {f"probability[{name}]": probability[:, c] for c, name in enumerate(classes)}
    return pd.DataFrame(
        {"answer": answer, "probability": probability[at], "calibrated": calibrated[at], **each}
    )


def studies_of(
    views: pd.DataFrame,
    *,
    threshold: float = 0.5,
    classes: Sequence[str] = ("normal", "abnormal"),
    point: OperatingPoint | None = None,
) -> pd.DataFrame:
    """Aggregate scored views to studies: the mean of the views' probabilities, above `threshold` is abnormal.

    Parameters
    ----------
    views : pandas.DataFrame
        Of `Predictor.views`.
    threshold : float
        Between 0 and 1; of two classes.
    classes : sequence of str
        Of the run; of more than two, the answer is the most probable one.
    point : OperatingPoint, optional
        Of studies: it calibrates the mean, and its own threshold is taken in place of `threshold`.

    Returns
    -------
    pandas.DataFrame
        One row a study with ``study``, ``views``, ``unreadable``, ``unlike`` (views unlike the training views), and
        ``answer``, ``probability``, ``calibrated`` as `Predictor.answers` gives them, missing where all views are
        unreadable; of two classes also ``abnormal``.

    Examples
    --------
    >>> views = pd.DataFrame({"study": ["a", "a"], "probability": [0.9, 0.3], "unlike": [False, True]})
    >>> studies_of(views)[["study", "views", "unlike", "answer", "probability"]].to_dict("records")
    [{'study': 'a', 'views': 2, 'unlike': 1, 'answer': 'abnormal', 'probability': 0.6}]
    """
    if "unlike" not in views:
        views = views.assign(unlike=False)
    grouped = views.assign(unlike=views["unlike"].fillna(False).astype(bool)).groupby("study", sort=True)
    out = grouped.agg(
        views=("probability", "count"),
        unreadable=("probability", lambda p: int(p.isna().sum())),
        unlike=("unlike", "sum"),
    ).reset_index()
    columns = ["probability"] if len(classes) == 2 else [f"probability[{name}]" for name in classes]
    mean = grouped[columns].mean().to_numpy(dtype=np.float64)
    found = answers_of(mean[:, 0] if len(classes) == 2 else mean, classes, threshold, point)
    out = pd.concat([out, found], axis=1)
    if len(classes) > 2:
        return out
    out["abnormal"] = (out["answer"] == classes[1]).astype("boolean").mask(out["probability"].isna())
    return out
