"""Ensembles: several trained networks whose probabilities are averaged."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from torch import nn

from siamura._validation import check_whole
from siamura.networks import Classifier

from .embedding import embed
from .prediction import predict_proba

__all__ = ["Ensemble", "train_ensemble"]

Member = nn.Module | tuple[nn.Module, Any]


class Ensemble:
    """Networks that answer together: the mean of their probabilities.

    Parameters
    ----------
    members : sequence
        Each a `Classifier`, or an `EmbeddingNet` with its fitted head, ``(net, head)``.

    Raises
    ------
    ValueError
        If there is none.

    References
    ----------
    The MURA paper (arXiv 1712.06957) averages the five networks of lowest validation loss.

    Examples
    --------
    >>> ensemble = Ensemble([Classifier("squeezenet1_1", seed=seed) for seed in range(2)])
    >>> ensemble.predict_proba(np.zeros((3, 64, 64), np.uint8)).shape
    (3, 2)
    """

    def __init__(self, members: Sequence[Member]) -> None:
        if not members:
            raise ValueError("members is empty; an ensemble needs at least one network.")
        self.members = list(members)

    def predict_proba(self, data: Any, groups: Any | None = None, **options: Any) -> npt.NDArray[np.float32]:
        """Mean probabilities of normal and abnormal, float32 (N, 2).

        Parameters
        ----------
        data : Dataset or uint8 (N, S, S)
            Images.
        groups : optional
            Passed on to the heads.
        **options
            See `embed`.
        """
        answers = []
        for member in self.members:
            if isinstance(member, tuple):
                net, head = member
                rows = embed(net, data, **options)
                answer = head.predict_proba(rows) if groups is None else head.predict_proba(rows, groups)
            else:
                abnormal = predict_proba(member, data, **options)
                answer = np.stack([1.0 - abnormal, abnormal], axis=1)
            answers.append(np.asarray(answer, dtype=np.float32))
        return np.mean(answers, axis=0, dtype=np.float32)  # type: ignore[no-any-return]

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write each classifier into a folder of its own, member0, member1, ..."""
        folder = Path(folder)
        if more := [path.name for path in _members(folder)[len(self.members) :]]:
            raise ValueError(
                f"{folder} holds {', '.join(more)} of a larger ensemble, which would be read with this one; "
                "choose another folder, or remove them."
            )
        for number, member in enumerate(self.members):
            if not isinstance(member, Classifier):
                raise ValueError(
                    "only ensembles of classifiers can be saved; save a net and its head by themselves."
                )
            member.save_pretrained(folder / f"member{number}")
        return folder

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Read what `save_pretrained` wrote."""
        found = _members(Path(folder))
        if not found:
            raise FileNotFoundError(
                f"{folder} holds no member0, member1, ... as save_pretrained writes them."
            )
        return cls([Classifier.from_pretrained(path) for path in found])


def _members(folder: Path) -> list[Path]:
    """Find the folders of members, in order."""
    found = [path for path in folder.glob("member*") if path.name.removeprefix("member").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("member")))


def train_ensemble(
    train: Callable[[int], tuple[Member, float]], seeds: Iterable[int], keep: int | None = None
) -> Ensemble:
    """Train one member a seed, and keep the best.

    Parameters
    ----------
    train : callable
        Of a seed; gives the trained member and its validation loss (lower is better).
    seeds : iterable of int
        One member each.
    keep : int, optional
        How many of the lowest loss stay; all by default.

    Returns
    -------
    Ensemble
        Best first.

    Examples
    --------
    >>> def train(seed):
    ...     return Classifier("squeezenet1_1", seed=seed), 1.0 / (1 + seed)
    >>> len(train_ensemble(train, range(3), keep=2).members)
    2
    """
    if keep is not None:
        check_whole("keep", keep)
    trained = sorted(
        (train(seed) for seed in seeds), key=lambda pair: math.inf if math.isnan(pair[1]) else pair[1]
    )
    return Ensemble([member for member, _ in trained[:keep]])
