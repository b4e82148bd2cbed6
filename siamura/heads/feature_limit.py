"""When an image shows what no training image showed: a rule on the trunk's pooled features."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from siamura._arrays import load_npz
from siamura._files import atomic_path
from siamura._validation import check_number

from .distance_limit import SHARE

__all__ = ["FeatureLimit"]

#: Directions in which training features may vary; fewer where there are fewer views.
DIRECTIONS = 64


@dataclass(frozen=True)
class FeatureLimit:
    """How far pooled features may lie from the directions in which those of the training views vary.

    A trained embedding keeps what separates the classes and gives up the rest: a checkerboard can lie amid the
    radiographs there. The features before the embedding still show it.

    Parameters
    ----------
    mean : float64 (C,)
        Of the training features.
    directions : float64 (d, C)
        Their first principal components.
    limit : float
        The distance from them within which `share` of the validation views lie.
    share : float
        From 0 to 1.

    References
    ----------
    The residual of a principal component analysis, as in Jackson and Mudholkar, "Control procedures for residuals
    associated with principal component analysis", Technometrics 21, 1979.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> views = np.pad(rng.normal(size=(200, 2)), ((0, 0), (0, 6)))  # they vary in two directions of eight
    >>> views += 0.01 * rng.normal(size=views.shape)
    >>> limit = FeatureLimit.of(views[:100], views[100:])
    >>> limit.beyond([limit.mean, limit.mean + 9]).tolist()
    [False, True]
    """

    mean: npt.NDArray[np.float64]
    directions: npt.NDArray[np.float64]
    limit: float
    share: float

    @classmethod
    def of(cls, train: npt.ArrayLike, valid: npt.ArrayLike, *, share: float = SHARE) -> FeatureLimit:
        """Measure it on pooled features of training and validation views, float (N, C) and (M, C).

        Raises
        ------
        ValueError
            If there are fewer than 2 training views or no validation view.
        """
        check_number("share", share, above=0, most=1)
        rows, aside = np.asarray(train, np.float64), np.asarray(valid, np.float64)
        if len(rows) < 2 or not len(aside):
            raise ValueError(
                f"train has {len(rows)} rows and valid {len(aside)}; the limit needs 2 and 1 at least."
            )
        mean = rows.mean(axis=0)
        found = np.linalg.svd(rows - mean, full_matrices=False)[2]
        # Half of what there is at most: all directions together leave no residual.
        found = found[: max(1, min(DIRECTIONS, len(rows) // 2, rows.shape[1] // 2))]
        # As `save` keeps them, so that the rule is the same when it is read again.
        mean, found = mean.astype(np.float32).astype(np.float64), found.astype(np.float32).astype(np.float64)
        made = cls(mean, found, 0.0, share)
        # "higher" is a residual that was seen; rounding alone is none.
        limit = max(
            float(np.quantile(made.residual(aside), share, method="higher")), 1e-6 * float(np.abs(rows).max())
        )
        return cls(mean, found, limit, share)

    def beyond(self, features: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether pooled features, float (N, C), lie beyond the limit by more than rounding: bool (N,)."""
        return self.residual(features) > self.limit * (1 + 1e-6)

    def residual(self, features: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Distance of pooled features, float (N, C), from the directions of the training views: float64 (N,)."""
        away = np.asarray(features, np.float64) - self.mean
        return np.asarray(np.linalg.norm(away - away @ self.directions.T @ self.directions, axis=1))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it into a run folder, beside the k-NN head."""
        with atomic_path(Path(folder) / "knn" / "feature_limit.npz") as beside, open(beside, "wb") as file:
            np.savez(
                file,
                mean=self.mean.astype(np.float32),
                directions=self.directions.astype(np.float32),
                limits=np.array([self.limit, self.share]),
            )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> FeatureLimit | None:
        """Read it from a run folder; None of a run that is older than it.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        path = Path(folder) / "knn" / "feature_limit.npz"
        if not path.is_file():
            return None
        try:
            held = load_npz(
                path,
                {"mean": (None,), "directions": (None, None), "limits": (2,)},
                kinds=dict.fromkeys(("mean", "directions", "limits"), "f"),
            )
            mean, directions = held["mean"].astype(np.float64), held["directions"].astype(np.float64)
            limit, share = map(float, held["limits"])
            finite = all(np.isfinite(values).all() for values in held.values())
            if not finite or directions.shape[1] != len(mean) or limit < 0 or not 0 < share <= 1:
                raise ValueError("a value is out of its range")
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); delete it, and the rule is left out.") from error
        return cls(mean, directions, limit, share)
