"""An HNSW graph is built in memory, whatever the server's setting for it."""

import contextlib
import logging

import numpy as np
import pytest
import sqlalchemy as sa

from siamura import _pgvector
from siamura._pgvector import build_hnsw


@contextlib.contextmanager
def vectors_in(url, count):
    """A connection whose maintenance_work_mem is 1 MB, a table of vectors, and what the server says."""
    said = []
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    sa.event.listen(
        engine, "connect", lambda made, _: made.add_notice_handler(lambda n: said.append(n.message_primary))
    )
    with engine.connect() as connection:
        _pgvector.make_extension(connection)
        number = sa.Column("number", sa.BigInteger)
        vector = sa.Column("vector", _pgvector.vector_type(16))
        table = sa.Table("vectors", sa.MetaData(), number, vector)
        table.create(connection)
        rows = np.random.default_rng(0).normal(size=(count, 16)).astype(np.float32)
        connection.execute(table.insert(), [{"number": i, "vector": row} for i, row in enumerate(rows)])
        connection.exec_driver_sql("SET maintenance_work_mem = '1MB'")
        connection.commit()
        yield connection, table.c, said


def test_the_graph_fits_and_the_setting_stays(database):
    with vectors_in(database, 4000) as (connection, c, said):
        assert build_hnsw(connection, c.number, c.vector, 4000) > 0.9
        connection.commit()
        assert connection.exec_driver_sql("SHOW maintenance_work_mem").scalar_one() == "1MB"
    assert not [line for line in said if "no longer fits" in line]


def test_more_than_is_taken_is_told(database, monkeypatch, caplog):
    monkeypatch.setattr(_pgvector, "_MOST_MEMORY", 1 << 20)
    with vectors_in(database, 4000) as (connection, c, said), caplog.at_level(logging.WARNING):
        build_hnsw(connection, c.number, c.vector, 4000)
    assert "Set maintenance_work_mem of the server or the role higher" in caplog.text
    assert [line for line in said if "no longer fits" in line]


@pytest.mark.parametrize("state", ["53100", "53200", "42501"])
def test_one_process_builds_where_several_find_no_memory(database, state):
    refused = []
    with vectors_in(database, 50) as (connection, c, _):

        @sa.event.listens_for(connection, "before_cursor_execute")
        def refuse(connection, cursor, statement, *_):
            # As a server answers whose shared memory is too small for several processes.
            if "CREATE INDEX" in statement and not refused:
                refused.append(statement)
                cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '{state}'; END $$")

        if state == "42501":  # another fault is told as it is
            with pytest.raises(sa.exc.DBAPIError, match="no room"):
                build_hnsw(connection, c.number, c.vector, 50)
            return
        build_hnsw(connection, c.number, c.vector, 50)
        assert connection.exec_driver_sql("SHOW max_parallel_maintenance_workers").scalar_one() == "0"
        assert connection.exec_driver_sql("SELECT to_regclass('siamura_nearest')").scalar_one() is not None
