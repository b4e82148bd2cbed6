"""What one gets without looking: brightness, contrast, shape and size of the image alone.

A model that does not clearly beat these has learned how the films were taken, not what they show.
"""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ._checks import as_label, as_units, need_columns
from .scores import evaluate

FEATURES = ("mean", "deviation", "aspect", "size")
logger = logging.getLogger(__name__)


def trivial_features(table: pd.DataFrame, *, progress: bool = True) -> pd.DataFrame:
    """Measure mean, deviation, aspect and size of every image file.

    Parameters
    ----------
    table : DataFrame
        Column ``path``.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        The table's index; ``mean`` and ``deviation`` (grey levels, 0 to 255), ``aspect`` (width / height) and
        ``size`` (logarithm of the pixel count).

    Raises
    ------
    siamura.pixels.UnreadableImage
        Where a file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> file = f"{tempfile.mkdtemp()}/grey.png"
    >>> Image.new("L", (60, 40), color=128).save(file)
    >>> trivial_features(pd.DataFrame({"path": [file]}), progress=False)
        mean  deviation  aspect      size
    0  128.0        0.0     1.5  7.783224
    """
    from tqdm.auto import tqdm

    from ..pixels import read_image

    need_columns(table, ("path",))
    found = np.empty((len(table), len(FEATURES)))
    for row, path in enumerate(tqdm(table["path"], desc="trivial features", disable=not progress)):
        image = read_image(path)
        height, width = image.shape
        found[row] = image.mean(), image.std(), width / height, np.log(image.size)
    return pd.DataFrame(found, columns=list(FEATURES), index=table.index)


def trivial_baselines(
    table: pd.DataFrame,
    features: pd.DataFrame | None = None,
    *,
    train: str = "train",
    valid: str = "valid",
    folds: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Logistic regressions on trivial features, trained on one split, answering for another.

    Parameters
    ----------
    table : DataFrame
        ``label``, ``patient``, ``split`` (and ``path`` where `features` is to be measured).
    features : DataFrame, optional
        One row a row of `table`, in its order; any numeric columns. Default: `trivial_features`.
    train, valid : str
        The splits.
    folds : int
        Parts of the training patients by which the strength of the penalty is chosen.
    seed : int
        Of the parting.
    progress : bool
        Show a progress bar where files are read.

    Returns
    -------
    DataFrame
        Index: the valid rows' index in `table`. One column a feature, ``all together``, and ``prevalence``
        (the training share of abnormal, for everybody): probabilities of the abnormal class.

    Notes
    -----
    Each feature enters with its square, and together with their products: too dark and too bright can both be
    a sign.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"label": rng.integers(0, 2, 200), "patient": np.arange(200) // 2})
    >>> table["split"] = np.where(table["patient"] < 70, "train", "valid")
    >>> leak = pd.DataFrame({"aspect": table["label"] + rng.normal(size=200), "mean": rng.normal(size=200)})
    >>> trivial_baselines(table, leak).shape
    (60, 4)
    """
    need_columns(table, ("label", "patient", "split"))
    if features is None:
        features = trivial_features(table, progress=progress)
    if len(features) != len(table):
        raise ValueError(f"features has {len(features)} rows, table has {len(table)}; give one row a row")
    values = features.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"features is {values[row, column]} at row {row}, {features.columns[column]!r}")
    split = np.asarray(table["split"])
    y = as_label(table["label"], "table['label']")
    patient = as_units(table["patient"], len(table), "table['patient']")
    learn, answer = split == train, split == valid
    for name, rows in ((train, learn), (valid, answer)):
        if not rows.any():
            raise ValueError(f"table has no row of split {name!r}; it has {sorted(set(split.tolist()))}")
    if len(np.unique(y[learn])) < 2:
        raise ValueError(f"the split {train!r} holds the label {y[learn][0]} alone; both are needed to learn")
    both = len(np.intersect1d(patient[learn], patient[answer]))
    if both:
        logger.warning("%d patients are in both %s and %s: every figure is too good", both, train, valid)
    columns: dict[str, list[int]] = {str(name): [at] for at, name in enumerate(features.columns)}
    if len(columns) > 1:
        columns["all together"] = list(range(len(columns)))
    found = {
        name: _answers(values[:, at], y, patient, learn, answer, folds, seed) for name, at in columns.items()
    }
    found["prevalence"] = np.full(int(answer.sum()), y[learn].mean())
    return pd.DataFrame(found, index=table.index[answer])


def _answers(
    values: NDArray[np.float64],
    y: NDArray[np.int64],
    patient: NDArray[np.int64],
    learn: NDArray[np.bool_],
    answer: NDArray[np.bool_],
    folds: int,
    seed: int,
) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    model = make_pipeline(
        StandardScaler(),
        PolynomialFeatures(2, include_bias=False),
        StandardScaler(),
        LogisticRegression(max_iter=1000),
    )
    # A fold without both labels has no likelihood: as many folds as the rarer label's patients allow.
    fewest = min(len(np.unique(patient[learn & (y == label)])) for label in (0, 1))
    if min(folds, fewest) >= 2:
        parts = StratifiedGroupKFold(min(folds, fewest), shuffle=True, random_state=seed)
        model = GridSearchCV(
            model, {"logisticregression__C": [0.01, 0.1, 1.0, 10.0]}, cv=parts, scoring="neg_brier_score"
        )
        model.fit(values[learn], y[learn], groups=patient[learn])
    else:
        model.fit(values[learn], y[learn])
    return np.asarray(model.predict_proba(values[answer])[:, 1])


def baseline_scores(
    table: pd.DataFrame,
    features: pd.DataFrame | None = None,
    level: Literal["view", "study"] = "view",
    threshold: float = 0.5,
    *,
    train: str = "train",
    valid: str = "valid",
    draws: int = 2000,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Scores of every trivial baseline on the valid split, to stand beside a model's.

    Parameters
    ----------
    table, features, train, valid, progress
        As for `trivial_baselines`.
    level, threshold, draws, seed
        As for `siamura.evaluate`.

    Returns
    -------
    DataFrame
        Index (``baseline``, ``metric``), columns ``value, low, high``; ``.attrs`` as for `siamura.evaluate`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"label": rng.integers(0, 2, 200), "patient": np.arange(200) // 2})
    >>> table["split"] = np.where(table["patient"] < 70, "train", "valid")
    >>> bright = pd.DataFrame({"mean": table["label"] + rng.normal(scale=0.5, size=200)})
    >>> scores = baseline_scores(table, bright, draws=200)
    >>> bool(scores["low"]["mean", "auroc"] > 0.5)  # brightness alone tells abnormal films, as drawn above
    True
    """
    answers = trivial_baselines(table, features, train=train, valid=valid, seed=seed, progress=progress)
    rows = table.loc[np.asarray(table["split"]) == valid]
    frames = {
        name: evaluate(rows, answers[name], level, threshold, draws=draws, seed=seed)
        for name in answers.columns
    }
    attrs = dict(frames["prevalence"].attrs)
    for frame in frames.values():
        frame.attrs.clear()
    joined = pd.concat(frames, names=["baseline", "metric"])
    joined.attrs.update(attrs)
    return joined
