"""The tables of a case index, in an SQLite file or in PostgreSQL."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray

from siamura._database import Database

from .columns import checked

FORMAT = "siamura.CaseIndex 2"
KINDS: dict[str, Any] = {"str": sa.Text, "int64": sa.BigInteger, "float64": sa.Double, "bool": sa.Boolean}
STATE = sa.Table("siamura_index", sa.MetaData(), sa.Column("value", sa.Text, nullable=False))


class DamagedIndex(ValueError):
    """A case index whose file is damaged, or is something else's.

    Parameters
    ----------
    path : path
        The file.
    reason : str
        What is wrong with it.

    Examples
    --------
    >>> import tempfile
    >>> from siamura import CaseIndex
    >>> notes = Path(tempfile.mkdtemp()) / "notes.db"
    >>> _ = notes.write_text("a text of many words, and no database" * 9)
    >>> try:
    ...     CaseIndex.open(notes)
    ... except DamagedIndex as error:
    ...     print(error.reason)
    file is not a database
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        self.path, self.reason = Path(path), reason
        super().__init__(
            f"{path}: {reason}. Nothing was changed. Put back a copy, or keep the cases that can still be read "
            "by CaseIndex.recover(path, new_path)."
        )


@dataclass(frozen=True)
class State:
    """What an index says of itself: one row of JSON, read in every transaction.

    `uid` is drawn when it is made; a case's number is never used again, `rows_ever` is the next; at revision `removed`
    a case last went or had another embedding; `nearest` tells of the approximate index.
    """

    uid: str
    dim: int
    exact_up_to: int
    fingerprint: dict[str, str] | None = None
    columns: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    revision: int = 0
    removed: int = 0
    rows_ever: int = 0
    nearest: dict[str, Any] | None = None
    format: str = FORMAT


def read_state(database: Database, connection: sa.Connection) -> State:
    """Read what the index says of itself, and lock it where the transaction writes."""
    write = connection.get_execution_options().get("write")
    query = sa.select(STATE.c.value).with_for_update() if write else sa.select(STATE.c.value)
    value = connection.execute(query).scalar()
    if value is None:
        raise FileNotFoundError(f"{database} holds no case index; make one by CaseIndex.create.")
    try:
        made = State(**json.loads(value))
        if made.format != FORMAT:
            raise ValueError(f"format {made.format!r} instead of {FORMAT!r}")
        if not 1 <= made.dim <= 65_536 or not set(made.columns.values()) <= set(KINDS):
            raise ValueError("impossible values")
    except (TypeError, ValueError) as error:
        raise DamagedIndex(database.place, f"is no case index that this siamura reads ({error})") from error
    return made


def write_state(database: Database, connection: sa.Connection, state: State, *, new: bool = False) -> None:
    """Write what the index says of itself; `new` makes it first."""
    if new:
        if database.postgres:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7305)")  # two that make one at once
            connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")
        if sa.inspect(connection).has_table(STATE.name):
            raise FileExistsError(f"{database} exists and holds a case index; open it by CaseIndex.open.")
        STATE.create(connection)
    command: Any = STATE.insert() if new else STATE.update()
    connection.execute(command.values(value=json.dumps(asdict(state))))


def cases_table(database: Database, state: State) -> sa.Table:
    """The table of cases: the person's columns by their names, under the keys c0, c1, ..."""
    return _cases_table(database.postgres, state.dim, tuple(state.columns.items()))


@functools.lru_cache(32)  # SQLAlchemy compiles its statements once for each such object
def _cases_table(postgres: bool, dim: int, columns: tuple[tuple[str, str], ...]) -> sa.Table:
    vector: Any = sa.LargeBinary
    if postgres:
        from pgvector.sqlalchemy import Vector  # an optional extra

        vector = Vector(dim)
    own = (
        sa.Column("case_number", sa.BigInteger, primary_key=True, autoincrement=False, key="number"),
        sa.Column("case_digest", sa.Text, nullable=False, key="digest"),
        sa.Column("case_crc32", sa.BigInteger, nullable=False, key="crc"),
        sa.Column("case_vector", vector, nullable=False, key="vector"),
    )
    given = (
        sa.Column(name, KINDS[kind], key=f"c{i}", quote=True, index=name == "patient")
        for i, (name, kind) in enumerate(columns)
    )
    return sa.Table("siamura_cases", sa.MetaData(), *own, *given)


def write_rows(
    database: Database, connection: sa.Connection, state: State, table: pd.DataFrame, vectors: NDArray[np.float32],
    digests: Sequence[str] | None = None,
) -> tuple[State, int]:  # fmt: skip
    """Add cases, or update those of the same film; return the new state, and how many were updated.

    The same film is the same path, or the same content under the same file name, of one part, patient and study.
    """
    columns, values = checked(table)
    if state.columns and state.columns != columns:
        raise ValueError(f"table has columns {columns}; this index holds {state.columns}. Make them agree.")
    state = replace(state, columns=state.columns or columns)
    cases = cases_table(database, state)
    cases.create(connection, checkfirst=True)
    key = {name: f"c{i}" for i, name in enumerate(state.columns)}
    place = [cases.c[key[name]] for name in ("part", "patient", "study", "path")]
    known: dict[Any, int] = {}
    crcs: dict[int, int] = {}
    patients = sorted(set(table["patient"])) if state.rows else []
    for low in range(0, len(patients), 10_000):
        asked = sa.select(cases.c.number, cases.c.crc, cases.c.digest, *place)
        for number, crc, digest, *at in connection.execute(
            asked.where(place[1].in_(patients[low : low + 10_000]))
        ):
            known.update(dict.fromkeys(_films(at, digest), number))
            crcs[number] = crc
    new: dict[int, dict[str, Any]] = {}
    again: dict[int, dict[str, Any]] = {}
    digests = digests or [_digest(path) for path in table["path"]]
    places = zip(*(table[name].tolist() for name in ("part", "patient", "study", "path")), strict=True)
    updated, changed = 0, False
    for film, digest, vector, row in zip(places, digests, vectors, zip(*values, strict=True), strict=True):
        films = _films(film, digest)
        number = next((known[name] for name in films if name in known), state.rows_ever + len(new))
        content = vector.astype("<f4").tobytes()
        made = {
            "digest": digest,
            "crc": zlib.crc32(content),
            "vector": vector if database.postgres else content,
        }
        made.update(zip((key[name] for name in columns), row, strict=True))
        updated += number in new or number in crcs
        changed |= number in crcs and crcs[number] != made["crc"]
        (again if number in crcs else new)[number] = made
        known.update(dict.fromkeys(films, number))
    if new:
        connection.execute(cases.insert(), [{"number": number, **row} for number, row in new.items()])
    if again:
        command = cases.update().where(cases.c.number == sa.bindparam("which"))
        connection.execute(command, [{"which": number, **row} for number, row in again.items()])
    revision, rows = state.revision + 1, state.rows + len(new)
    ever, removed = state.rows_ever + len(new), revision if changed else state.removed
    state = replace(state, revision=revision, rows=rows, rows_ever=ever, removed=removed)
    write_state(database, connection, state)
    return state, updated


def _films(at: Sequence[str], digest: str) -> list[Any]:
    """By what a film is known again."""
    return [tuple(at)] + [(*at[:3], Path(at[3]).name, digest)] * bool(digest)


def _digest(path: str) -> str:
    """Digest of a film's bytes; empty where there is no such file now."""
    if not os.path.isfile(path):
        return ""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError:
        return ""
