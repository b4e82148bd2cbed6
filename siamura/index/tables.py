"""The tables of a case index in an SQLite file or in PostgreSQL: written, and read."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray

from siamura._database import Database

from .columns import REQUIRED, checked, value_of

log = logging.getLogger(__name__)
FORMAT = "siamura.CaseIndex 2"
KINDS: dict[str, Any] = {"str": sa.Text, "int64": sa.BigInteger, "float64": sa.Double, "bool": sa.Boolean}
STATE = sa.Table("siamura_index", sa.MetaData(), sa.Column("value", sa.Text, nullable=False))
_TEXT = "str" if pd.__version__ >= "3" else object


class DamagedIndex(ValueError):
    """A case index whose file is damaged, or is something else's; `path` and `reason` say which and what.

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


class Content(NamedTuple):
    """Cases as they are kept; `numbers` are those of the index, never used again, and empty outside of one."""

    dim: int
    fingerprint: dict[str, str] | None
    vectors: NDArray[np.float32]
    table: pd.DataFrame
    digests: list[str] | None = None
    numbers: NDArray[np.int64] = np.empty(0, np.int64)


@dataclass(frozen=True)
class State:
    """What an index says of itself: one row of JSON, read in every transaction.

    `uid` is drawn when it is made; `rows_ever` is the next case's number; at revision `changed` a case last went or
    had other values, at `removed` it went or had another embedding; `nearest` tells of the approximate index.
    """

    uid: str
    dim: int
    exact_up_to: int
    fingerprint: dict[str, str] | None = None
    columns: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    revision: int = 0
    changed: int = 0
    removed: int = 0
    rows_ever: int = 0
    nearest: dict[str, Any] | None = None
    format: str = FORMAT


def read_state(database: Database, connection: sa.Connection) -> State:
    """Read what the index says of itself, and lock it where the transaction writes."""
    write = connection.get_execution_options().get("write")
    value = connection.execute(_READ.with_for_update() if write else _READ).scalar()
    if value is None:
        raise FileNotFoundError(f"{database} holds no case index; make one by CaseIndex.create.")
    try:
        made = State(**json.loads(value))
        if (
            made.format != FORMAT
            or not 1 <= made.dim <= 65_536
            or not set(made.columns.values()) <= set(KINDS)
        ):
            raise ValueError(f"format {made.format!r}, {made.dim} dimensions")
    except (TypeError, ValueError) as error:
        raise DamagedIndex(database.place, f"is no case index that this siamura reads ({error})") from error
    return made


_READ = sa.select(STATE.c.value)


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


def column(table: sa.Table, state: State, name: str) -> Any:
    """The column of a person's name."""
    return table.c[f"c{list(state.columns).index(name)}"]


def numbered(table: sa.Table, numbers: Iterable[int]) -> Any:
    """Condition on cases by number, however many: whole numbers can stand in the statement itself."""
    return table.c.number.in_(sa.bindparam("numbers", list(numbers), expanding=True, literal_execute=True))


def read(
    database: Database, connection: sa.Connection, state: State, *given: Any, vectors: bool = True
) -> Content:
    """Read the cases under these conditions; with their embeddings, only those whose checksum is right."""
    rows: Any = []
    table = cases_table(database, state)
    if state.columns:
        kept = [table.c.digest, table.c.crc, table.c.vector] if vectors else [table.c.digest]
        own = [column(table, state, name) for name in state.columns]
        if vectors and not database.postgres:  # by its length: nothing larger than an embedding is read
            given = (*given, sa.func.length(table.c.vector) == 4 * state.dim)
        asked = sa.select(table.c.number, *kept, *own).where(*given).order_by(table.c.number)
        rows = connection.execute(asked).fetchall()
    floats = np.empty((0, state.dim), np.float32)
    if vectors:
        packed = [v if isinstance(v := row[3], bytes) else np.asarray(v, "<f4").tobytes() for row in rows]
        sound = [zlib.crc32(v) == row[2] for v, row in zip(packed, rows, strict=True)]
        rows = [row for row, good in zip(rows, sound, strict=True) if good]
        joined = b"".join(v for v, good in zip(packed, sound, strict=True) if good)
        floats = np.frombuffer(joined, "<f4").astype(np.float32).reshape(-1, state.dim)
    made: dict[str, Any] = {}
    kinds = state.columns or dict.fromkeys(REQUIRED[:-1], "str") | {"label": "int64"}
    for i, (name, kind) in enumerate(kinds.items(), 4 if vectors else 2):
        values = [row[i] for row in rows]
        if None in values:
            kind = {"int64": "Int64", "bool": "boolean"}.get(kind, kind)
        made[name] = pd.Series(values, dtype=_TEXT if kind == "str" else kind)
    numbers = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    return Content(
        state.dim, state.fingerprint, floats, pd.DataFrame(made), [row[1] for row in rows], numbers
    )


def write_rows(
    database: Database, connection: sa.Connection, state: State, table: pd.DataFrame, vectors: NDArray[np.float32],
    digests: Sequence[str] | None = None,
) -> tuple[State, int]:  # fmt: skip
    """Add cases, or update those of the same film; return the new state, and how many were updated.

    The same film is the same path, or the same content under the same file name, of one part, patient and study.
    """
    state, values = _fit(database, connection, state, table)
    cases = cases_table(database, state)
    place = [column(cases, state, name) for name in ("part", "patient", "study", "path")]
    asked, patients = sa.select(cases.c.number, cases.c.crc, cases.c.digest, *place), set(table["patient"])
    if len(patients) <= 10_000:
        asked = asked.where(place[1].in_(patients))
    known: dict[Any, int] = {}
    crcs: dict[int, int] = {}
    for number, crc, digest, *at in connection.execute(asked) if state.rows else ():
        known.update(dict.fromkeys(_films(at, digest), number))
        crcs[number] = crc
    new: dict[int, dict[str, Any]] = {}
    again: dict[int, dict[str, Any]] = {}
    updated, moved = 0, False
    digests = digests or [_digest(path) for path in table["path"]]
    films = zip(*(table[name] for name in ("part", "patient", "study", "path")), strict=True)
    for film, digest, vector, *row in zip(films, digests, vectors, *values.values(), strict=True):
        names, content = _films(film, digest), vector.astype("<f4").tobytes()
        number = next((known[name] for name in names if name in known), state.rows_ever + len(new))
        made = dict(zip(values, row, strict=True), digest=digest, crc=zlib.crc32(content))
        made["vector"] = vector if database.postgres else content
        updated += number in new or number in crcs
        moved |= crcs.get(number, made["crc"]) != made["crc"]
        (again if number in crcs else new)[number] = made
        known.update(dict.fromkeys(names, number))
    if new:
        connection.execute(cases.insert(), [{"number": number, **row} for number, row in new.items()])
    if again:
        command = cases.update().where(cases.c.number == sa.bindparam("which"))
        connection.execute(command, [{"which": number, **row} for number, row in again.items()])
    now, ever = state.revision + 1, state.rows_ever + len(new)
    state = replace(state, revision=now, changed=now if again else state.changed, rows=state.rows + len(new))
    state = replace(state, rows_ever=ever, removed=now if moved else state.removed)
    write_state(database, connection, state)
    return state, updated


def _fit(
    database: Database, connection: sa.Connection, state: State, table: pd.DataFrame
) -> tuple[State, dict[str, list[Any]]]:
    """Give the table's values by key, as the kinds of the index's columns; columns that are new are added to it."""
    kinds, values = checked(table)
    further = {name: kind for name, kind in kinds.items() if name not in state.columns}
    for name in further:
        if name.lower() in map(str.lower, state.columns):
            raise ValueError(
                f"table has a column {name!r} that differs from the index's by case alone; rename it."
            )
    before, state = state, replace(state, columns=state.columns | further)
    for name, kind in state.columns.items():
        values.setdefault(name, [None] * len(table))
        if (
            kinds.get(name, kind) != kind
        ):  # whole numbers fit among others, and others that are whole among them
            whole = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values[name]]
            values[name] = [None if v is None else value_of(v, kind, f"table[{name!r}]") for v in whole]
    cases = cases_table(database, state)
    if not before.columns:
        cases.create(connection)
    elif further or set(kinds) < set(state.columns):
        for name in further:
            made = sa.schema.CreateColumn(column(cases, state, name)).compile(connection)
            connection.exec_driver_sql(f"ALTER TABLE siamura_cases ADD COLUMN {made}")
        absent = [name for name in state.columns if name not in kinds]
        log.warning("%s: missing values for %s", database, "; ".join(
            f"{', '.join(names)} of the {whose} cases" for names, whose in ((further, "earlier"), (absent, "new"))
            if names))  # fmt: skip
    return state, {f"c{i}": values[name] for i, name in enumerate(state.columns)}


def _films(at: Sequence[str], digest: str) -> list[Any]:
    """By what a film is known again."""
    return [tuple(at)] + [(*at[:3], Path(at[3]).name, digest)] * bool(digest)


def _digest(path: str) -> str:
    """Digest of a film's bytes; empty where there is no such file now."""
    with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    return ""
