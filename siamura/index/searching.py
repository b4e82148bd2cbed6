"""The two searches: of cases read from SQLite into memory, and in SQL by pgvector."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects.postgresql import aggregate_order_by

from siamura._database import Database
from siamura.neighbours import Neighbours

from .columns import conditions
from .tables import DamagedIndex, State, cases_table, column, numbered, read, read_state

log = logging.getLogger(__name__)
Where = list[tuple[str, Any]]
Found = tuple[NDArray[np.float64], NDArray[np.int64]]  # distances and numbers of cases, (m, k)
_STUDY = ["part", "patient", "study"]


@dataclass(frozen=True)
class InMemory:
    """An SQLite index in memory at one revision; never changed, so that threads may share it."""

    state: State
    numbers: NDArray[np.int64]  # ascending
    table: pd.DataFrame
    patients: pd.Index
    near: Neighbours

    def rows(self, numbers: NDArray[np.int64]) -> pd.DataFrame:
        """Rows of these cases."""
        return self.table.take(np.searchsorted(self.numbers, numbers))

    def _mask(self, where: Where) -> NDArray[np.bool_]:
        mask = np.ones(len(self.numbers), bool)
        for condition in conditions(self.table.__getitem__, self.state.columns, where):
            mask &= condition.to_numpy(bool, na_value=False)
        return mask

    def views(self, queries: Any, k: int, own: Sequence[str], where: Where, exact: bool) -> Found:
        """Search each query by itself; `own` holds none, or each one's patient."""
        groups = self.patients.get_indexer(pd.Index(own)) if own else None
        mask = self._mask(where) if where or exact else None
        distance, place = self.near.search(queries, k, groups=groups, among=mask)
        return distance, np.append(self.numbers, -1)[place]

    def studies(self, views: Any, k: int, own: Sequence[str], where: Where, how: str) -> Any:
        """Search studies by all views of one: (distance, nearest case's number, views) of each, in order."""
        groups, mask = self.near.groups, self._mask(where)
        assert groups is not None  # `load` gives the patients
        at = np.flatnonzero(mask & ~np.isin(groups, self.patients.get_indexer(pd.Index(own))))
        far = np.empty((len(at), len(views)))
        for low in range(0, len(at), 16_384):
            rows = self.near.rows[at[low : low + 16_384]].astype(np.float64)
            for i, view in enumerate(views):
                far[low : low + len(rows), i] = np.sqrt(((rows - view) ** 2).sum(axis=1))
        study = self.table.iloc[at].groupby(_STUDY).ngroup().to_numpy()
        count, least = np.bincount(study), far.min(axis=1)
        first = np.lexsort((least, study))[np.cumsum(count) - count]  # the nearest view of each
        score = least[first] if how == "min" else np.bincount(study, far.mean(axis=1)) / count
        order = np.argsort(score, kind="stable")[:k]
        return list(zip(score[order], self.numbers[at[first[order]]], count[order], strict=True))


def load(
    database: Database, connection: sa.Connection, state: State, old: InMemory | None = None
) -> InMemory:
    """Read all cases, or those added since `old`; and take the approximate index where it is kept and holds."""
    table = cases_table(database, state)
    only = old is not None and len(old.numbers) and state.changed <= old.state.revision <= state.revision
    if old is not None and only and old.state.columns == state.columns:
        _, _, vectors, rows, _, numbers = read(
            database, connection, state, table.c.number > int(old.numbers[-1])
        )
        vectors, numbers = np.concatenate([old.near.rows, vectors]), np.append(old.numbers, numbers)
        rows = pd.concat([old.table, rows], ignore_index=True)
    else:
        _, _, vectors, rows, _, numbers = read(database, connection, state)
    if len(rows) != state.rows:
        raise DamagedIndex(database.place, f"{state.rows - len(rows)} of {state.rows} cases cannot be read")
    groups, patients = pd.factorize(rows["patient"])
    near: Neighbours | None = None
    if (facts := covered(state)) is not None and state.rows > state.exact_up_to:
        path, n = beside(database, facts["revision"]), facts["rows"]
        try:
            if not path.is_file() or path.stat().st_size != facts["bytes"]:
                raise ValueError(f"{path} is missing or has another size than was written")
            near = Neighbours(vectors[:n], groups[:n], kind="ivf", kept=path, recall=facts["recall"])
            if n < len(rows):
                near.add(vectors[n:], groups[n:])
        except ValueError as error:
            # It can be made again from the cases, which are whole: slower until then, and no worse.
            log.warning("%s; searching every case until the next addition makes it again.", error)
    return InMemory(state, numbers, rows, pd.Index(patients), near or Neighbours(vectors, groups))


def beside(database: Database, revision: int) -> Path:
    """Where the approximate index of the cases at a revision is kept."""
    return Path(f"{database.place}.nearest-{revision}")


def covered(state: State) -> dict[str, Any] | None:
    """The facts of the approximate index, if none of its cases has gone or changed since."""
    return state.nearest if state.nearest and state.removed <= state.nearest["revision"] else None


def build(database: Database) -> dict[str, Any]:
    """Build the approximate index of all cases; return its facts, which count once the state tells them."""
    with database.begin(write=database.postgres) as connection:
        state = read_state(database, connection)
        facts = {"revision": state.revision, "rows": state.rows}
        if database.postgres:
            name = "CREATE INDEX IF NOT EXISTS siamura_nearest ON siamura_cases"
            connection.exec_driver_sql(f"{name} USING hnsw (case_vector vector_l2_ops)")
            table, here = cases_table(database, state), InPostgres(database, connection, state)
            some = sa.select(table.c.vector).where(table.c.number % max(1, state.rows // 50) == 0).limit(50)
            queries = np.array(connection.execute(some).scalars().all(), np.float32)
            true, found = (here.views(queries, 15, [], [], exact)[1] for exact in (True, False))
            return {**facts, "recall": float((true[:, :, None] == found[:, None]).any(axis=2).mean())}
        held = load(database, connection, replace(state, nearest=None))
    near = Neighbours(held.near.rows, held.near.groups, kind="ivf")
    path = beside(database, state.revision)
    near.save(path)
    return {**facts, "bytes": path.stat().st_size, "recall": near.recall}


def sweep(database: Database, state: State) -> None:
    """Remove approximate indexes that no longer hold: they keep vectors of cases that were deleted."""
    kept = covered(state)
    for path in Path(database.place).parent.iterdir():
        old = kept is None or path != beside(database, kept["revision"])
        if old and path.name.startswith(f"{Path(database.place).name}.nearest-"):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class InPostgres:
    """The searches of `InMemory`, in SQL."""

    database: Database
    connection: sa.Connection
    state: State

    def rows(self, numbers: NDArray[np.int64]) -> pd.DataFrame:
        """Rows of these cases."""
        table = cases_table(self.database, self.state)
        wanted = numbered(table, {int(number) for number in numbers})
        found = read(self.database, self.connection, self.state, wanted, vectors=False)
        return found.table.take(np.searchsorted(found.numbers, numbers))

    def _table(self, where: Where) -> tuple[sa.Table, list[Any]]:
        table = cases_table(self.database, self.state)
        return table, conditions(lambda name: column(table, self.state, name), self.state.columns, where)

    def views(self, queries: Any, k: int, own: Sequence[str], where: Where, exact: bool) -> Found:
        """Search each query by pgvector."""
        table, given = self._table(where)
        distance, number = np.full((len(queries), k), np.inf), np.full((len(queries), k), -1, np.int64)
        self.connection.exec_driver_sql("SET LOCAL hnsw.iterative_scan = strict_order")
        self.connection.exec_driver_sql(f"SET LOCAL hnsw.ef_search = {min(1000, max(100, 2 * k))}")
        for i, query in enumerate(queries):
            others = [column(table, self.state, "patient") != name for name in own[i : i + 1]]
            asked = sa.select(table.c.number, table.c.vector).where(*given, *others).limit(k)
            rows: Sequence[Any] = []
            # All cases are compared where that is asked, or where the graph's walk ended among unwanted ones.
            for scan in ("off",) if exact else ("on", "off"):
                self.connection.exec_driver_sql(f"SET LOCAL enable_indexscan = {scan}")
                if len(rows) < k:
                    rows = self.connection.execute(
                        asked.order_by(table.c.vector.l2_distance(query))
                    ).fetchall()
            vectors = np.array([row[1] for row in rows], np.float32).reshape(-1, len(query))
            far = np.sqrt(
                ((vectors - query.astype(np.float64)) ** 2).sum(axis=1)
            )  # again, in double precision
            numbers = np.array([row[0] for row in rows], np.int64)
            order = np.lexsort((numbers, far))
            distance[i, : len(rows)], number[i, : len(rows)] = far[order], numbers[order]
        return distance, number

    def studies(self, views: Any, k: int, own: Sequence[str], where: Where, how: str) -> Any:
        """Search studies by all views of one."""
        table, given = self._table(where)
        given += [column(table, self.state, "patient") != name for name in own]
        far = [table.c.vector.l2_distance(view) for view in views]
        least = sa.func.least(*far)
        score = sa.func.min(least) if how == "min" else sa.func.avg(sum(far[1:], far[0]) / len(far))
        nearest = sa.func.array_agg(aggregate_order_by(table.c.number, least), type_=sa.ARRAY(sa.BigInteger))
        asked = sa.select(score.label("score"), nearest[1], sa.func.count()).where(*given)
        asked = asked.group_by(*(column(table, self.state, name) for name in _STUDY))
        return self.connection.execute(asked.order_by(sa.text("score")).limit(k)).fetchall()
