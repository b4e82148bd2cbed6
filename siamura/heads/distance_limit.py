"""How far from the training views a view may lie: beyond, a head's answer rests on nothing like it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from siamura._files import atomic_write
from siamura._stored import read_json
from siamura._validation import check_number

if TYPE_CHECKING:
    import numpy.typing as npt

    from .knn import KNNHead

__all__ = ["DistanceLimit"]

#: The share of validation views within the limit.
SHARE = 0.99


@dataclass(frozen=True)
class DistanceLimit:
    """How far from its k-th nearest training view a view may lie before it is called unlike the training views.

    Parameters
    ----------
    k : int
        Which neighbour, that of the run's k-NN head.
    limit : float
        The distance within which `share` of the validation views lie.
    share : float
        From 0 to 1.
    views : int
        Validation views it was taken from.

    Examples
    --------
    >>> from siamura.heads import KNNHead
    >>> head = KNNHead(k=1).fit([[0.0], [1.0], [2.0]], [0, 0, 1])
    >>> DistanceLimit.of(head, np.array([[0.25], [2.5]], np.float32))
    DistanceLimit(k=1, limit=0.5, share=0.99, views=2)
    """

    k: int
    limit: float
    share: float
    views: int

    @classmethod
    def of(cls, head: KNNHead, valid: npt.NDArray[np.float32], *, share: float = SHARE) -> DistanceLimit:
        """Measure it for a fitted k-NN head and the embeddings of validation views, float32 (N, dim).

        Raises
        ------
        ValueError
            If there is no validation view.
        """
        check_number("share", share, above=0, most=1)
        if not len(valid):
            raise ValueError("valid has no row; the distance limit is taken from validation views.")
        k = min(int(head.k), head.n_rows_)
        distance = head.kneighbors(valid, k=k)[0][:, -1]
        # "higher" is a distance that was seen: of fewer than 100 views, the largest.
        limit = float(np.quantile(distance, share, method="higher"))
        return cls(k, limit, share, len(valid))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it into a run folder, beside the k-NN head."""
        content = {"k": self.k, "limit": self.limit, "share": self.share, "views": self.views}
        atomic_write(Path(folder) / "knn" / "distance_limit.json", json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> DistanceLimit | None:
        """Read it from a run folder; None of a run that is older than it.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        path = Path(folder) / "knn" / "distance_limit.json"
        try:
            held = read_json(path)
            made = cls(int(held["k"]), float(held["limit"]), float(held["share"]), int(held["views"]))
            if not (made.k >= 1 and 0 <= made.limit < float("inf") and 0 < made.share <= 1):
                raise ValueError("a value is out of its range")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); delete it, and it is measured again.") from error
        return made
