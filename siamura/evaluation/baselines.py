"""What one gets without looking: part, brightness, contrast, shape and size of the image alone.

A model that does not clearly beat these has learned how the images were taken, not what they show.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from siamura._validation import check_columns

from ..pixels import read_image
from ._checks import as_codes, as_units
from ._folds import patient_folds, spread_classes
from .multiclass import class_names
from .scores import evaluate

FEATURES = ("mean", "deviation", "aspect", "size", "dark", "middle", "bright", "entropy")
logger = logging.getLogger(__name__)


def trivial_features(table: pd.DataFrame, *, progress: bool = True) -> pd.DataFrame:
    """Measure the grey levels, the aspect and the size of every image file; never its name, order or date.

    Parameters
    ----------
    table : DataFrame
        Column ``path``.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        The table's index; ``mean`` and ``deviation`` (grey levels, 0 to 255), ``aspect`` (width / height),
        ``size`` (logarithm of the pixel count), ``dark``, ``middle``, ``bright`` (the grey levels below which
        5, 50 and 95 % of the pixels are) and ``entropy`` (of the histogram, in bits).

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
    >>> trivial_features(pd.DataFrame({"path": [file]}), progress=False).round(2).loc[0].to_dict()
    {'mean': 128.0, 'deviation': 0.0, 'aspect': 1.5, 'size': 7.78, 'dark': 128.0, 'middle': 128.0, 'bright': 128.0, \
'entropy': 0.0}
    """
    check_columns(table, ("path",))
    found = np.empty((len(table), len(FEATURES)))
    for row, path in enumerate(tqdm(table["path"], desc="trivial features", disable=not progress)):
        image = read_image(path)
        height, width = image.shape
        count = np.bincount(image.ravel(), minlength=256)
        share = count[count > 0] / image.size
        levels = np.searchsorted(count.cumsum(), np.array([0.05, 0.5, 0.95]) * image.size)
        entropy = -(share * np.log2(share)).sum() + 0.0
        found[row] = image.mean(), image.std(), width / height, np.log(image.size), *levels, entropy
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
    """Simple models of trivial features, trained on one split, answering for another.

    Parameters
    ----------
    table : DataFrame
        ``label``, ``patient``, ``split`` (and ``path`` where `features` is to be measured); ``part`` is a
        feature too where it has several values. Two classes or more, named as for `siamura.evaluate`.
    features : DataFrame, optional
        One row a row of `table`, in its order; any numeric columns. Default: `trivial_features`.
    train, valid : str
        The splits.
    folds : int
        Parts of the training patients by which the model and its penalty are chosen.
    seed : int
        Of the parting.
    progress : bool
        Show a progress bar where files are read.

    Returns
    -------
    DataFrame
        Index: the valid rows' index in `table`. One column a feature, ``all together``, and ``prevalence``
        (the training share of abnormal, for everybody): probabilities of the abnormal class. With three
        classes or more the columns are pairs (feature, class), probabilities of each class. ``.attrs``:
        ``model``, what answers in ``all together``, and ``inner_auroc``, by model, on training patients apart.

    Notes
    -----
    In the logistic regression each feature enters with its square, and together with their products: too dark
    and too bright can both be a sign. All together are also given to gradient-boosted trees; the model with the
    larger AUROC (with more classes the mean of each against the rest) on training patients set apart answers.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"label": rng.integers(0, 2, 200), "patient": np.arange(200) // 2})
    >>> table["split"] = np.where(table["patient"] < 70, "train", "valid")
    >>> leak = pd.DataFrame({"aspect": table["label"] + rng.normal(size=200), "mean": rng.normal(size=200)})
    >>> trivial_baselines(table, leak).shape
    (60, 4)
    """
    check_columns(table, ("label", "patient", "split"))
    if features is None:
        features = trivial_features(table, progress=progress)
    if len(features) != len(table):
        raise ValueError(f"features has {len(features)} rows, table has {len(table)}; give one row a row")
    values = features.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"features is {values[row, column]} at row {row}, {features.columns[column]!r}")
    split = np.asarray(table["split"])
    number = number_of_classes(table)
    y = as_codes(table["label"], number, "table['label']")
    patient = as_units(table["patient"], len(table), "table['patient']")
    learn, answer = split == train, split == valid
    for name, rows in ((train, learn), (valid, answer)):
        if not rows.any():
            raise ValueError(f"table has no row of split {name!r}; it has {sorted(set(split.tolist()))}")
    if len(np.unique(y[learn])) < 2:
        raise ValueError(f"the split {train!r} holds the label {y[learn][0]} alone; two are needed to learn")
    both = len(np.intersect1d(patient[learn], patient[answer]))
    if both:
        logger.warning("%d patients are in both %s and %s: every figure is too good", both, train, valid)
    columns: dict[str, list[int]] = {str(name): [at] for at, name in enumerate(features.columns)}
    if "part" in table and table["part"].nunique() > 1:  # "hand+leg" is both
        flags = table["part"].astype(str).str.get_dummies("+").to_numpy(dtype=np.float64)
        columns["part"] = list(range(values.shape[1], values.shape[1] + flags.shape[1]))
        values = np.hstack([values, flags])
    found: dict[str, NDArray[np.float64]] = {}
    scores: dict[str, float] = {}
    for name, at in columns.items():
        found[name], _ = _answers(values[:, at], y, number, patient, learn, answer, folds, seed)
    if len(columns) > 1:
        found["all together"], scores = _answers(
            values, y, number, patient, learn, answer, folds, seed, trees=True
        )
    shares = np.bincount(y[learn], minlength=number) / learn.sum()
    found["prevalence"] = np.tile(shares, (int(answer.sum()), 1))
    frame = answer_frame(found, table.loc[answer])
    frame.attrs.update(
        {"model": max(scores, key=scores.__getitem__, default="logistic"), "inner_auroc": scores}
    )
    return frame


def number_of_classes(*tables: pd.DataFrame) -> int:
    """Count the classes that the tables name or hold, at least two."""
    named = [len(table.attrs.get("classes", ())) for table in tables]
    held = [
        int(table["label"].max()) + 1 for table in tables if table["label"].dtype.kind in "iu" and len(table)
    ]
    return max(2, *named, *held)


def answer_frame(answers: dict[str, NDArray[np.float64]], table: pd.DataFrame) -> pd.DataFrame:
    """Make a frame of probabilities (N, C): of two classes the second's, of more one column a class."""
    number = next(iter(answers.values())).shape[1]
    if number == 2:
        return pd.DataFrame({name: share[:, 1] for name, share in answers.items()}, index=table.index)
    columns = pd.MultiIndex.from_product(
        [list(answers), class_names(table, number)], names=["baseline", "class"]
    )
    return pd.DataFrame(np.hstack(list(answers.values())), index=table.index, columns=columns)


def _answers(
    values: NDArray[np.float64],
    y: NDArray[np.int64],
    number: int,
    patient: NDArray[np.int64],
    learn: NDArray[np.bool_],
    answer: NDArray[np.bool_],
    folds: int,
    seed: int,
    *,
    trees: bool = False,
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Probabilities (M, C) of the model that is better on training patients set apart; the AUROC of each there."""
    # Here, as scikit-learn takes a second to load.
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GridSearchCV, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    logistic = make_pipeline(
        StandardScaler(),
        PolynomialFeatures(2, include_bias=False),
        StandardScaler(),
        LogisticRegression(max_iter=1000),
    )
    parts = patient_folds(y[learn], patient[learn], folds, seed)
    if parts is None:
        logistic.fit(values[learn], y[learn])
        return spread_classes(logistic.predict_proba(values[answer]), logistic.classes_, number), {}
    strengths = {"logisticregression__C": [0.001, 0.01, 0.1, 1.0, 10.0] if trees else [0.01, 1.0]}
    two = len(np.unique(y[learn])) == 2
    search = GridSearchCV(logistic, strengths, cv=parts, scoring="neg_brier_score" if two else "neg_log_loss")
    search.fit(values[learn], y[learn], groups=patient[learn])
    models, scores = {"logistic": search.best_estimator_}, {}
    if trees:
        models["boosted trees"] = HistGradientBoostingClassifier(
            max_iter=100, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=20, random_state=seed
        )
        for name, model in models.items():
            apart = cross_val_predict(
                model, values[learn], y[learn], groups=patient[learn], cv=parts, method="predict_proba"
            )
            scores[name] = float(roc_auc_score(y[learn], apart[:, 1] if two else apart, multi_class="ovr"))
        models["boosted trees"].fit(values[learn], y[learn])
    chosen = models[max(scores, key=scores.__getitem__, default="logistic")]
    return spread_classes(chosen.predict_proba(values[answer]), chosen.classes_, number), scores


def baseline_scores(
    table: pd.DataFrame, features: pd.DataFrame | None = None, level: Literal["view", "study"] = "view",
    threshold: float = 0.5, *, train: str = "train", valid: str = "valid", draws: int = 2000, seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
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
    >>> bool(scores["low"]["mean", "auroc"] > 0.5)  # brightness alone finds abnormal images, as drawn above
    True
    """
    answers = trivial_baselines(table, features, train=train, valid=valid, seed=seed, progress=progress)
    rows = table.loc[np.asarray(table["split"]) == valid]
    frames = {
        name: evaluate(rows, answers[name], level, threshold, draws=draws, seed=seed)
        for name in answers.columns.get_level_values(0).unique()
    }
    joined = join_baselines(frames)
    joined.attrs.update(answers.attrs)
    return joined


def join_baselines(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put frames of scores one below the other, index (``baseline``, ``metric``); attributes of the first."""
    attrs = dict(next(iter(frames.values())).attrs)
    for frame in frames.values():
        frame.attrs.clear()  # pandas compares them while it joins
    joined = pd.concat(frames, names=["baseline", "metric"])
    joined.attrs.update(attrs)
    return joined
