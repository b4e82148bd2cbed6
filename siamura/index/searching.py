"""The two searches: of cases read from SQLite into memory, and in SQL by pgvector."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd

from siamura import _kept_neighbours, _pgvector
from siamura._database import DamagedIndex
from siamura._exact_search import nearest_sets
from siamura.neighbours import Neighbours

from .tables import Session

Where = list[tuple[str, Any]]
Found = tuple[
    Any, Any, Any
]  # distances and numbers of cases (m, k), -1 for none; of studies the number of views
_STUDY = ("part", "patient", "study")


class InMemory:
    """Numbers, embeddings and patients of an SQLite index at one revision; of `old` it takes what still holds."""

    def __init__(self, session: Session, old: Any = None) -> None:
        state, self._kept = session.state, dict[bytes, Any]()  # what was read of other columns
        self.revision = state.revision
        since = set(state.since) & {old.revision, f"-{old.revision}"} if old is not None else set()
        given = [session.table.c.number > int(old.numbers.max(initial=-1))] if since else []
        self.numbers, rows = session.embeddings(*given)
        self.names = np.array(session.select([session.column("patient")], *given).scalars().all(), object)
        if since:
            stay = np.isin(old.numbers, old.numbers if old.revision in since else session.numbers())
            self.numbers = np.append(old.numbers[stay], self.numbers)
            self.names = np.append(old.names[stay], self.names)
            rows = np.vstack([old.near.rows[stay], rows]) if len(rows) else old.near.rows[stay]
        if lost := state.rows - len(self.numbers):
            raise DamagedIndex(session.database.place, f"{lost} of {state.rows} cases cannot be read")
        groups, patients = pd.factorize(self.names)
        self.patients = pd.Index(patients)
        if state.nearest and state.rows > state.exact_up_to:
            self.near = _kept_neighbours.reopen(rows, groups, session.beside(), state.nearest)
        else:
            self.near = Neighbours(rows, groups)

    def _mask(self, session: Session, where: Where) -> Any:
        key = pickle.dumps(where)
        if (mask := self._kept.get(key)) is None:
            mask = np.isin(self.numbers, session.numbers(*session.conditions(where)))
            if len(self._kept) > 20:
                self._kept.clear()
            self._kept[key] = mask
        return mask

    def views(self, at: Session, queries: Any, k: int, own: list[str], where: Where, exact: bool) -> Found:
        """Search each query by itself; `own` holds none, or each one's patient."""
        groups = self.patients.get_indexer(pd.Index(own)) if own else None
        mask = self._mask(at, where) if where or exact else None
        distance, place = self.near.search(queries, k, groups=groups, among=mask)
        return distance, np.where(place < 0, -1, self.numbers[place]), None

    def studies(self, at: Session, views: Any, k: int, own: list[str], where: Where, how: str) -> Found:
        """Search studies by all views of one."""
        if (codes := self._kept.get(b"studies")) is None:
            rows = at.select([at.column(name) for name in _STUDY]).fetchall()
            codes = self._kept[b"studies"] = pd.factorize(pd.MultiIndex.from_tuples(rows))[0]
        some = np.flatnonzero(self._mask(at, where) & ~np.isin(self.names, own))
        distance, place, count = nearest_sets(self.near.rows[some], codes[some], views, k, how)
        return distance[None], self.numbers[some[place]][None], count[None]


class InPostgres:
    """The searches of `InMemory`, in SQL."""

    def views(self, at: Session, queries: Any, k: int, own: list[str], where: Where, exact: bool) -> Found:
        """Search each query by pgvector."""
        given, patient, c = at.conditions(where), at.column("patient"), at.table.c
        found = []
        for i, query in enumerate(queries):
            others = [*given, *(patient != name for name in own[i : i + 1])]
            found.append(_pgvector.nearest(at.connection, c.number, c.vector, query, k, others, exact=exact))
        return *map(np.array, zip(*found, strict=True)), None  # type: ignore[return-value]

    def studies(self, at: Session, views: Any, k: int, own: list[str], where: Where, how: str) -> Found:
        """Search studies by all views of one."""
        given = [*at.conditions(where), *(at.column("patient") != name for name in own)]
        sets, c = [at.column(name) for name in _STUDY], at.table.c
        found = _pgvector.nearest_sets(at.connection, c.number, c.vector, sets, views, k, how, given)
        return found[0][None], found[1][None], found[2][None]


def build(session: Session) -> dict[str, Any]:
    """Build the approximate index of all cases; return its facts, which count once the state tells them."""
    state, c = session.state, session.table.c
    facts = {"revision": state.revision, "rows": state.rows}
    if session.database.postgres:
        return facts | {"recall": _pgvector.build_hnsw(session.connection, c.number, c.vector, state.rows)}
    held = InMemory(session).near
    return facts | _kept_neighbours.keep(held.rows, held.groups, session.beside(state.revision))
