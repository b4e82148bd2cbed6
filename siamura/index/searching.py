"""The two searches: of vectors read from SQLite into memory, and in SQL by pgvector."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects.postgresql import aggregate_order_by

from siamura._database import Database
from siamura.neighbours import Neighbours

from .tables import DamagedIndex, State, cases_table, read_state

log = logging.getLogger(__name__)
Found = tuple[NDArray[np.float64], NDArray[np.int64]]  # distances and numbers of cases, (m, k)


@dataclass(frozen=True)
class Held:
    """An SQLite index in memory at one revision; never changed, so that threads may share it."""

    revision: int
    numbers: NDArray[np.int64]  # ascending
    studies: NDArray[np.int64]  # a code for each
    patients: dict[str, int]
    near: Neighbours

    def mask(self, among: NDArray[np.int64] | None) -> NDArray[np.bool_]:
        """Mark these cases, all of them held; None for all."""
        mask = np.full(len(self.numbers), among is None)
        mask[np.searchsorted(self.numbers, among if among is not None else [])] = True
        return mask

    def views(self, queries: Any, k: int, own: Sequence[str], among: NDArray[np.bool_] | None) -> Found:
        """Search each query by itself; `own` holds none, or each one's patient."""
        groups = np.array([self.patients.get(name, -1) for name in own], np.int64) if own else None
        distance, place = self.near.search(queries, k, groups=groups, among=among)
        return distance, np.append(self.numbers, -1)[place]

    def by_study(self, views: Any, k: int, own: Sequence[str], among: NDArray[np.bool_], how: str) -> Any:
        """Search studies by all views of one: (distance, nearest case's number, views) of each, in order."""
        assert self.near.groups is not None
        at = np.flatnonzero(among & ~np.isin(self.near.groups, [self.patients.get(name, -1) for name in own]))
        far = np.empty((len(at), len(views)))
        for low in range(0, len(at), 16_384):
            rows = self.near.rows[at[low : low + 16_384]].astype(np.float64)
            for i, view in enumerate(views):
                far[low : low + len(rows), i] = np.sqrt(((rows - view) ** 2).sum(axis=1))
        _, study, count = np.unique(self.studies[at], return_inverse=True, return_counts=True)
        first = np.lexsort((far.min(axis=1), study))[np.cumsum(count) - count]  # the nearest view of each
        score = far.min(axis=1)[first] if how == "min" else np.bincount(study, far.mean(axis=1)) / count
        order = np.argsort(score, kind="stable")[:k]
        return list(zip(score[order], self.numbers[at[first[order]]], count[order], strict=True))


def load(database: Database, connection: sa.Connection, state: State) -> Held:
    """Read the vectors, and take the approximate index where it is kept and holds."""
    rows: Sequence[Any] = []
    if state.columns:
        table = cases_table(database, state)
        keys = [table.c[f"c{list(state.columns).index(name)}"] for name in ("patient", "part", "study")]
        asked = sa.select(table.c.number, table.c.vector, *keys).order_by(table.c.number)
        # By its length first: nothing larger than an embedding is read.
        rows = connection.execute(asked.where(sa.func.length(table.c.vector) == 4 * state.dim)).fetchall()
    if len(rows) != state.rows:
        raise DamagedIndex(database.place, f"{state.rows - len(rows)} of {state.rows} cases cannot be read")
    numbers = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    vectors = (
        np.frombuffer(b"".join([row[1] for row in rows]), "<f4").astype(np.float32).reshape(-1, state.dim)
    )
    patients: dict[str, int] = {}
    studies: dict[Any, int] = {}
    groups = np.fromiter((patients.setdefault(row[2], len(patients)) for row in rows), np.int64, len(rows))
    codes = np.fromiter((studies.setdefault(row[2:], len(studies)) for row in rows), np.int64, len(rows))
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
    return Held(state.revision, numbers, codes, patients, near or Neighbours(vectors, groups))


def beside(database: Database, revision: int) -> Path:
    """Where the approximate index of the cases at a revision is kept."""
    return Path(f"{database.place}.nearest-{revision}")


def covered(state: State) -> dict[str, Any] | None:
    """The facts of the approximate index, if none of its cases has gone or changed since."""
    return state.nearest if state.nearest and state.removed <= state.nearest["revision"] else None


def build(database: Database, state: State) -> dict[str, Any]:
    """Build the approximate index of all cases; return its facts, which count once the state tells them."""
    if database.postgres:
        return _build_in_postgres(database, state)
    with database.begin() as connection:
        state = read_state(database, connection)
        held = load(database, connection, replace(state, nearest=None))
    near = Neighbours(held.near.rows, held.near.groups, kind="ivf")
    path = beside(database, state.revision)
    near.save(path)
    return {
        "revision": state.revision,
        "rows": len(near),
        "bytes": path.stat().st_size,
        "recall": near.recall,
    }


def _build_in_postgres(database: Database, state: State) -> dict[str, Any]:
    with database.begin(write=True) as connection:
        table, state = cases_table(database, state), read_state(database, connection)
        name = "CREATE INDEX IF NOT EXISTS siamura_nearest ON siamura_cases"
        connection.exec_driver_sql(f"{name} USING hnsw (case_vector vector_l2_ops)")
        sample = sa.select(table.c.vector).where(table.c.number % max(1, state.rows // 50) == 0).limit(50)
        queries = np.array(connection.execute(sample).scalars().all(), np.float32)
        true, found = (
            postgres_views(connection, table, queries, 15, [], [], exact)[1] for exact in (True, False)
        )
    recall = float((true[:, :, None] == found[:, None, :]).any(axis=2).mean())
    return {"revision": state.revision, "rows": state.rows, "recall": recall}


def sweep(database: Database, state: State) -> None:
    """Remove approximate indexes that no longer hold: they keep vectors of cases that were deleted."""
    kept = covered(state)
    for path in Path(database.place).parent.iterdir():
        old = kept is None or path != beside(database, kept["revision"])
        if old and path.name.startswith(f"{Path(database.place).name}.nearest-"):
            path.unlink(missing_ok=True)


def postgres_views(
    connection: sa.Connection,
    table: sa.Table,
    queries: Any,
    k: int,
    own: Sequence[Any],
    given: list[Any],
    exact: bool,
) -> Found:
    """Search each query by pgvector; `own` and `given` are conditions, each query's and all queries'."""
    distance, number = np.full((len(queries), k), np.inf), np.full((len(queries), k), -1, np.int64)
    connection.exec_driver_sql("SET LOCAL hnsw.iterative_scan = strict_order")
    connection.exec_driver_sql(f"SET LOCAL hnsw.ef_search = {min(1000, max(100, 2 * k))}")
    for i, query in enumerate(queries):
        asked = sa.select(table.c.number, table.c.vector).where(*given, *own[i : i + 1]).limit(k)
        rows: Sequence[Any] = []
        # All cases are compared where that is asked, or where the graph's walk ended among unwanted ones.
        for scan in ("off",) if exact else ("on", "off"):
            connection.exec_driver_sql(f"SET LOCAL enable_indexscan = {scan}")
            if len(rows) < k:
                rows = connection.execute(asked.order_by(table.c.vector.l2_distance(query))).fetchall()
        vectors = np.array([row[1] for row in rows], np.float32).reshape(-1, len(query))
        far = np.sqrt(((vectors - query.astype(np.float64)) ** 2).sum(axis=1))  # again, in double precision
        numbers = np.array([row[0] for row in rows], np.int64)
        order = np.lexsort((numbers, far))
        distance[i, : len(rows)], number[i, : len(rows)] = far[order], numbers[order]
    return distance, number


def postgres_by_study(
    connection: sa.Connection,
    table: sa.Table,
    study: list[Any],
    views: Any,
    k: int,
    given: list[Any],
    how: str,
) -> Any:
    """`Held.by_study`, in SQL; `study` are the columns that name one."""
    far = [table.c.vector.l2_distance(view) for view in views]
    least = sa.func.least(*far)
    score = sa.func.min(least) if how == "min" else sa.func.avg(sum(far[1:], far[0]) / len(far))
    nearest = sa.func.array_agg(aggregate_order_by(table.c.number, least), type_=sa.ARRAY(sa.BigInteger))[1]
    asked = sa.select(score.label("score"), nearest, sa.func.count()).where(*given).group_by(*study)
    return connection.execute(asked.order_by(sa.text("score")).limit(k)).fetchall()
