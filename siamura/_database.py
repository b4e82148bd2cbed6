"""An SQLite file or a PostgreSQL database: opened, shared by threads and processes, its errors said in a sentence."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

__all__ = ["DamagedIndex", "Database", "Note"]

WAIT = 60  # seconds that a writer waits for another


class DamagedIndex(ValueError):
    """A case index whose file is damaged, or is something else's.

    Attributes
    ----------
    path : Path
    reason : str

    Examples
    --------
    >>> DamagedIndex("cases.db", "file is not a database").reason
    'file is not a database'
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        self.path, self.reason = Path(path), reason
        super().__init__(
            f"{path}: {reason}. Nothing was changed. Put back a copy, or keep the cases that can still be read "
            "by CaseIndex.recover(path, new_path)."
        )


class Database:
    """A file of SQLite, or PostgreSQL by URL. Threads may share one; it pickles, and survives a fork.

    Parameters
    ----------
    place : path or str
        A file, which is made by `make`, or a URL.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        name = os.fspath(place)
        self.postgres = name.startswith(("postgres://", "postgresql://", "postgresql+psycopg://"))
        # The path as it is now: a later os.chdir must not lead to another file.
        self.place = name if self.postgres else os.path.abspath(name)

    def __str__(self) -> str:
        return self._url.render_as_string(hide_password=True) if self.postgres else self.place

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_opened", "lock")}

    @cached_property
    def lock(self) -> threading.Lock:
        """A lock between threads, for what is read from the database and kept."""
        return threading.Lock()

    @property
    def _url(self) -> sa.URL:
        return sa.make_url(self.place.replace("postgres://", "postgresql://")).set(
            drivername="postgresql+psycopg"
        )

    @cached_property
    def _opened(self) -> tuple[sa.Engine, Any]:
        """The engine, and for which process and which file it was made."""
        if self.postgres:
            try:
                import pgvector.sqlalchemy  # noqa: F401 - an optional extra, asked for here once

                return sa.create_engine(self._url, max_overflow=-1), self._identity()
            except ImportError as error:
                raise ImportError(
                    'an index in PostgreSQL needs psycopg and pgvector: pip install "siamura[postgres]".'
                ) from error
        engine = sa.create_engine("sqlite://", creator=self._connect, poolclass=QueuePool, max_overflow=-1)

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            write = connection.get_execution_options().get("write")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

        return engine, self._identity()

    def _identity(self) -> tuple[Any, ...]:
        file = None if self.postgres else os.stat(self.place)
        return os.getpid(), file and (file.st_dev, file.st_ino)

    def _connect(self) -> sqlite3.Connection:
        for mode in ("mode=rw", "mode=ro&immutable=1"):
            uri = f"{Path(self.place).as_uri()}?{mode}"
            made = sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)
            try:
                made.execute("SELECT count(*) FROM sqlite_master").fetchone()
                break
            except sqlite3.OperationalError as error:
                made.close()
                # Where the folder cannot be written no journal can be made; with none there, none is needed.
                known = error.sqlite_errorname.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
                if not known or mode != "mode=rw" or os.path.exists(f"{self.place}-wal"):
                    raise
        # What is deleted is overwritten, what is told as written is on the disk, and no code of a file runs.
        for pragma in ("secure_delete=ON", "synchronous=FULL", "trusted_schema=OFF", "cell_size_check=ON"):
            made.execute(f"PRAGMA {pragma}")
        return made

    def make(self) -> None:
        """Make the file where there is none, with a journal that lets others read while one writes (WAL).

        Of PostgreSQL nothing is made.

        Raises
        ------
        FileExistsError
            If something else is there.
        """
        if self.postgres:
            return
        file = Path(self.place)
        if file.is_dir() or (file.exists() and file.read_bytes()[:15] not in (b"", b"SQLite format 3")):
            raise FileExistsError(f"{file} exists and is no database; choose the name of a new file.")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        self.pragma("journal_mode=WAL")

    def pragma(self, words: str) -> list[Any]:
        """Ask SQLite something about the file, outside a transaction; nothing of PostgreSQL."""
        if self.postgres:
            return []
        try:
            connection = self._connect()
            try:
                return connection.execute(f"PRAGMA {words}").fetchall()
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self._said(error) or error from error

    def verify(self) -> None:
        """Read all of an SQLite file, and raise `DamagedIndex` where its structure is damaged."""
        if (said := self.pragma("integrity_check")) not in ([], [("ok",)]):
            raise DamagedIndex(self.place, "; ".join(str(line[0]) for line in said[:3]))

    def close(self, *, keep: bool = False) -> None:
        """Close all connections (`keep`: leave them to the process they belong to); the next use opens them."""
        if (opened := self.__dict__.pop("_opened", None)) is not None:
            opened[0].dispose(close=not keep)

    @contextmanager
    def begin(self, *, write: bool = False) -> Iterator[sa.Connection]:
        """A transaction: all of it or nothing. What a database's error means is said in a sentence."""
        try:
            if "_opened" in self.__dict__ and (now := self._identity()) != self._opened[1]:
                self.close(keep=now[0] != self._opened[1][0])
            options: dict[str, Any] = {"write": write}
            if self.postgres and not write:  # all statements see one state, as they do in SQLite
                options["isolation_level"] = "REPEATABLE READ"
            with self._opened[0].connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self} holds no case index; make one by CaseIndex.create.") from error
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            said = self._said(getattr(error, "orig", error))
            if said is None:
                raise
            raise said from error

    def _said(self, error: Any) -> Exception | None:
        code = getattr(error, "sqlite_errorname", None) or getattr(error, "sqlstate", None) or ""
        text = " ".join(str(error).split())
        if code in ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "53100"):
            return OSError(
                errno.ENOSPC, f"no space is left for {self}. Nothing was changed; free some, and try again"
            )
        if "no such table" in text or code == "42P01":
            return FileNotFoundError(f"{self} holds no case index; make one by CaseIndex.create.")
        if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")) or code in (
            "25006",
            "42501",
        ):
            return PermissionError(f"{self} cannot be written by this user, or cannot be opened ({text}).")
        if code.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_IOERR")):
            return DamagedIndex(self.place, text)
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return TimeoutError(f"{self}: another process has been writing for {WAIT} s; try again later.")
        if type(error).__name__ == "OperationalError" and self.postgres:
            return ConnectionError(f"{self} cannot be reached: {text}")
        return ValueError(f"{self} cannot keep this: {text}") if type(error).__name__ == "DataError" else None


class Note:
    """One row of JSON in a table of its own, in which a database says what it is.

    Parameters
    ----------
    name : str
        Of the table.
    """

    def __init__(self, name: str) -> None:
        self._table = sa.Table(name, sa.MetaData(), sa.Column("value", sa.Text, nullable=False))

    def make(self, connection: sa.Connection, facts: dict[str, Any]) -> bool:
        """Make the table with its row; False, and nothing made, where it is there."""
        if sa.inspect(connection).has_table(self._table.name):
            return False
        self._table.create(connection)
        connection.execute(self._table.insert().values(value=json.dumps(facts)))
        return True

    def read(self, connection: sa.Connection) -> Any:
        """Read the row; a transaction that writes locks it, so that writers of PostgreSQL wait for each other."""
        asked = sa.select(self._table.c.value)
        write = connection.get_execution_options().get("write")
        return json.loads(connection.execute(asked.with_for_update() if write else asked).scalar() or "null")

    def write(self, connection: sa.Connection, facts: dict[str, Any]) -> None:
        """Write other facts into the row."""
        connection.execute(self._table.update().values(value=json.dumps(facts)))
