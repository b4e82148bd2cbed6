"""What is asked of pgvector: nearest rows of a table in PostgreSQL, exact or by HNSW."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects.postgresql import aggregate_order_by

__all__ = ["build_hnsw", "make_extension", "nearest", "nearest_sets", "vector_type"]

_LOG = logging.getLogger(__name__)

_GRAPH_BYTES = 800  # of a case in the graph, beside its vector (measured: see docs/scaling.md)
_MOST_MEMORY = 2 << 30
_NO_ROOM = ("53100", "53200")  # disk_full, as shared memory is a file system, and out_of_memory


def vector_type(dim: int) -> Any:
    """Type of a column of vectors."""
    from pgvector.sqlalchemy import Vector  # an optional extra

    return Vector(dim)


def make_extension(connection: sa.Connection) -> None:
    """Make the extension where it is missing; of several that do so at once, the others wait for the transaction."""
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7305)")
    connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")


def nearest(
    connection: sa.Connection,
    number: sa.ColumnElement[Any],
    vector: Any,
    query: NDArray[np.float32],
    k: int,
    given: Sequence[Any] = (),
    *,
    exact: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find the k nearest rows that fulfil the conditions.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    number, vector : columns
        What names a row, and its vector.
    query : float32 (dim,)
    k : int
    given : sequence of conditions
    exact : bool
        Compare all rows, even where there is an HNSW index.

    Returns
    -------
    distances : float64 (k,)
        Measured again in double precision, ascending; infinity where there are fewer rows.
    numbers : int64 (k,)
        -1 where there are fewer.
    """
    connection.exec_driver_sql("SET LOCAL hnsw.iterative_scan = strict_order")
    connection.exec_driver_sql(f"SET LOCAL hnsw.ef_search = {min(1000, max(100, 2 * k))}")
    asked = sa.select(number, vector).where(*given).order_by(vector.l2_distance(query)).limit(k)
    rows: Sequence[Any] = []
    # All rows are compared where that is asked, or where the graph's walk ended among unwanted ones.
    for scan in ("off",) if exact else ("on", "off"):
        if len(rows) < k:
            connection.exec_driver_sql(f"SET LOCAL enable_indexscan = {scan}")
            rows = connection.execute(asked).fetchall()
    distances, numbers = np.full(k, np.inf), np.full(k, -1, np.int64)
    if rows:
        vectors = np.array([row[1] for row in rows], np.float32)
        far = np.sqrt(((vectors - np.asarray(query, np.float64)) ** 2).sum(axis=1))
        found = np.array([row[0] for row in rows], np.int64)
        order = np.lexsort((found, far))
        distances[: len(rows)], numbers[: len(rows)] = far[order], found[order]
    return distances, numbers


def nearest_sets(
    connection: sa.Connection,
    number: sa.ColumnElement[Any],
    vector: Any,
    sets: Sequence[Any],
    points: NDArray[np.float32],
    k: int,
    how: str,
    given: Sequence[Any] = (),
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the sets of rows (equal in the columns `sets`) nearest to a set of points, comparing every pair.

    Parameters are those of `nearest`, and `how`, "min" or "mean" over all pairs; results distance, number of the
    nearest row and number of rows of each set, as of `siamura._exact_search.nearest_sets`.
    """
    far = [vector.l2_distance(point) for point in points]
    least = sa.func.least(*far)
    score = sa.func.min(least) if how == "min" else sa.func.avg(sum(far[1:], far[0]) / len(far))
    first = sa.func.array_agg(aggregate_order_by(number, least), type_=sa.ARRAY(sa.BigInteger))[1]
    asked = sa.select(score.label("score"), first, sa.func.count()).where(*given).group_by(*sets)
    rows = connection.execute(asked.order_by(sa.text("score")).limit(k)).fetchall()
    found = np.array([tuple(row) for row in rows], np.float64).reshape(-1, 3)
    return found[:, 0], found[:, 1].astype(np.int64), found[:, 2].astype(np.int64)


def build_hnsw(
    connection: sa.Connection,
    number: sa.Column[Any],
    vector: Any,
    rows: int,
    *,
    k: int = 15,
    sample: int = 50,
) -> float:
    """Build an HNSW index of a column where there is none, and measure its recall.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    number, vector : columns
        Numbers that run from 0, and the vectors.
    rows : int
        How many there are.
    k, sample : int
        Of how many neighbours, and asked with about how many of the vectors themselves.

    Returns
    -------
    float
        Share of the true nearest that the index finds.
    """
    made = f"CREATE INDEX IF NOT EXISTS siamura_nearest ON {number.table} USING hnsw ({vector.name} vector_l2_ops)"
    _give_memory(connection, rows * (4 * vector.type.dim + _GRAPH_BYTES))
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(made)
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", "") not in _NO_ROOM:
            raise
        # Several processes share the memory, of which containers often have little; one takes its own.
        _LOG.info("HNSW is built by one process: %s", str(error.orig).strip())
        connection.exec_driver_sql("SET LOCAL max_parallel_maintenance_workers = 0")
        connection.exec_driver_sql(made)
    some = sa.select(vector).where(number % max(1, rows // sample) == 0).limit(sample)
    found = []
    for query in connection.execute(some).scalars().all():
        true, near = (
            nearest(connection, number, vector, query, k, exact=exact)[1] for exact in (True, False)
        )
        found.append(np.isin(true, near))
    return float(np.mean(found)) if found else 1.0


def _give_memory(connection: sa.Connection, needed: int) -> None:
    """Let this transaction build in memory what fits in 2 GiB: past `maintenance_work_mem` a build takes far longer."""
    setting = connection.exec_driver_sql(
        "SELECT setting::bigint * 1024 FROM pg_settings WHERE name = 'maintenance_work_mem'"
    ).scalar_one()
    wanted = min(needed, _MOST_MEMORY)
    if wanted > setting:
        connection.exec_driver_sql(f"SET LOCAL maintenance_work_mem = '{-(-wanted >> 20)}MB'")
    if needed > max(setting, wanted):
        _LOG.warning(
            "the HNSW graph takes about %.1f GiB, more than the %.1f that it is built in: this takes long. Set "
            "maintenance_work_mem of the server or the role higher.",
            needed / 2**30,
            max(setting, wanted) / 2**30,
        )
