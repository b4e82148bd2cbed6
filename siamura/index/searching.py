"""Which cases may be found, which of them are nearest, and their rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import nearest
from .columns import REQUIRED
from .files import LABEL, PART, PATIENT, Segment, digest64, read_lines


def allowed_cases(
    segments: Sequence[Segment], part: str | Sequence[str] | None, label: int | None
) -> NDArray[np.bool_] | None:
    """Return which cases are of these parts and this label; None for all."""
    if part is None and label is None:
        return None
    wanted = digest64(_names(part, "part") if part is not None else ())
    allowed = np.ones(sum(map(len, segments)), dtype=bool)
    first = 0
    for segment in segments:
        here = allowed[first : first + len(segment)]
        if part is not None:
            here &= np.isin(segment.keys[:, PART], wanted)
        if label is not None:
            here &= segment.keys[:, LABEL] == label
        first += len(segment)
    return allowed


def own_patients(patient: str | Sequence[str] | None, queries: int) -> NDArray[np.int64] | None:
    """Return the key of each query's patient; None where no patient is left out."""
    if patient is None:
        return None
    names = [patient] * queries if isinstance(patient, str) else _names(patient, "exclude_patient")
    if len(names) != queries:
        raise ValueError(
            f"exclude_patient names {len(names)} patients for {queries} queries; give one for each."
        )
    return digest64(names)


def _names(given: str | Sequence[str], name: str) -> list[str]:
    """Give texts as a list; what is none (a missing patient, a number) would silently be no one's."""
    names = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    odd = [value for value in names if not isinstance(value, str)]
    if odd:
        raise ValueError(f"{name} holds {odd[0]!r}; give text, as it stands in the table.")
    return names


def rows_of(
    segments: Sequence[Segment], numbers: NDArray[np.int64], columns: Mapping[str, str]
) -> pd.DataFrame:
    """Read the table's rows of these cases."""
    edges = np.cumsum([0, *map(len, segments)])
    where = np.searchsorted(edges, numbers, side="right") - 1
    lines = [segments[s].line(n - edges[s]) for s, n in zip(where, numbers, strict=True)]
    return read_lines(lines, dict(columns) or dict.fromkeys(REQUIRED[:-1], "str") | {"label": "int64"})


@dataclass(frozen=True)
class Wanted:
    """What a search asks for.

    Parameters
    ----------
    queries : float32 (m, dim)
    k : int
        Cases wanted for each.
    allowed : bool (cases,) or None
        Which cases may be found; None for all.
    patients : int64 (m,) or None
        The key of each query's patient, whose cases are not found.
    """

    queries: NDArray[np.float32]
    k: int
    allowed: NDArray[np.bool_] | None
    patients: NDArray[np.int64] | None

    def within(self, cases: int) -> int:
        """How many of so many cases may be found; 0 where nothing is asked."""
        if not len(self.queries):
            return 0
        return cases if self.allowed is None else int(np.count_nonzero(self.allowed))

    def exactly(self, segments: Sequence[Segment]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Compare with every case; distances and numbers of the nearest, -1 where there are no more."""
        return nearest.exact_search(self.queries, self.k, segments, self.allowed, self.patients)

    def nearly(
        self, segments: Sequence[Segment], inverted: Any, nprobe: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Ask the inverted file, and compare with every case that it does not hold."""
        covered, cases = inverted.ntotal, sum(map(len, segments))
        # Where only a share of the cases may be found, as many more lists hold the same number of candidates.
        nprobe = int(nprobe * cases / self.within(cases))
        near = np.full((len(self.queries), self.k), -1, np.int64)
        keys = np.concatenate([s.keys[:, PATIENT] for s in segments])[:covered]
        for own in [None] if self.patients is None else np.unique(self.patients):
            mine = slice(None) if own is None else np.flatnonzero(self.patients == own)
            mask = None if self.allowed is None else self.allowed[:covered]
            if own is not None:
                others = keys != own
                mask = others if mask is None else mask & others
            near[mine] = nearest.inverted_search(inverted, self.queries[mine], self.k, nprobe, mask)
        # What was added since the inverted file was made is compared one by one.
        added = nearest.exact_search(self.queries, self.k, segments, self.allowed, self.patients, covered)[1]
        distance, number = nearest.rescore(self.queries, np.hstack([near, added]), self.k, segments)
        short = np.flatnonzero((number < 0).any(axis=1))  # the lists asked held too few that may be found
        if short.size:
            own_short = None if self.patients is None else self.patients[short]
            again = replace(self, queries=self.queries[short], patients=own_short)
            distance[short], number[short] = again.exactly(segments)
        return distance, number
