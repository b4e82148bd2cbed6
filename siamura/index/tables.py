"""One transaction on a case index: its state, and what is written to it."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray

from siamura._arrays import pack
from siamura._database import DamagedIndex, Database, Note
from siamura._files import digest_of
from siamura._pgvector import make_extension
from siamura._sql_tables import VectorTable, one_of

FORMAT = "siamura.CaseIndex 3"
IMAGE = ("part", "patient", "study", "path")
REQUIRED = {**dict.fromkeys(IMAGE, ("str",)), "label": ("int64", "str", "bool")}
#: Columns of a search's result that are not the table's.
RESULT = ("query", "rank", "distance", "case", "views")
NOTE = Note("siamura_index")


@dataclass(frozen=True)
class State:
    """What an index says of itself, read in every transaction.

    `uid` is drawn when it is made, `revision` by each change: counted ones would be equal after an older copy was
    put back. `since`: after these revisions cases were only added, after those with a "-" also deleted.
    """

    uid: str
    dim: int
    exact_up_to: int
    fingerprint: dict[str, str] | None = None
    columns: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    rows_ever: int = 0  # the next case's number
    revision: str = ""
    since: list[str] = field(default_factory=list)
    nearest: dict[str, Any] | None = None  # of the approximate index
    format: str = FORMAT


class Session(VectorTable):
    """One transaction on an index, or on a new one of this `state`."""

    required, reserved = REQUIRED, RESULT

    def __init__(self, database: Database, connection: sa.Connection, state: State | None = None) -> None:
        self.database = database
        if state is not None:
            if database.postgres:
                make_extension(connection)
            if not NOTE.make(connection, asdict(state)):
                raise FileExistsError(f"{database} exists and holds a case index; open it by CaseIndex.open.")
        try:
            self.state = State(**NOTE.read(connection))
            if self.state.format != FORMAT or not 1 <= self.state.dim <= 65_536:
                raise ValueError(f"format {self.state.format!r}, {self.state.dim} dimensions")
        except (TypeError, ValueError) as error:
            said = f"is no case index that this siamura reads ({error})"
            raise DamagedIndex(database.place, said) from error
        super().__init__(connection, database.postgres, self.state.dim, self.state.columns)
        if state is not None:
            self.table.create(connection)

    def save(self, **values: Any) -> None:
        """Write what the index says of itself, of which these values are new."""
        self.state = replace(self.state, columns=self.columns, **values)
        NOTE.write(self.connection, asdict(self.state))

    def beside(self, revision: str | None = None) -> Path:
        """Where the approximate index of the cases at a revision is kept; by default of the one that holds."""
        holds = (self.state.nearest or {}).get("revision", "")
        return Path(f"{self.database.place}.nearest-{revision or holds}")

    def add(self, table: pd.DataFrame, vectors: NDArray[Any], digests: Iterable[str] | None = None) -> int:
        """Add cases, or update those of the same image; return how many were updated.

        The same image is the same path, or the same content and file name, of one part, patient and study.
        """
        values, patients = self.fit(table), set(table["patient"])
        some = [self.column("patient").in_(patients)] if len(patients) <= 10_000 else []
        known, crcs, made = dict[Any, int](), dict[int, int](), dict[int, dict[str, Any]]()
        c = self.table.c
        there = self.select([c.number, c.crc, c.digest, *map(self.column, IMAGE)], *some).fetchall()
        for number, crc, digest, *image in there:
            known.update(dict.fromkeys(_names(image, digest), number))
            crcs[number] = crc
        updated, moved, ever = 0, False, self.state.rows_ever
        digests = map(digest_of, table["path"]) if digests is None else digests
        images = zip(*(table[name] for name in IMAGE), strict=True)
        for image, digest, vector, *row in zip(images, digests, vectors, *values, strict=True):
            names, packed = _names(image, digest), pack(vector)
            number = next((known[name] for name in names if name in known), ever)
            crc = zlib.crc32(packed)
            updated, ever = updated + (number < ever), max(ever, number + 1)
            moved |= crcs.get(number, crc) != crc
            made[number] = {"number": number, "digest": digest, "crc": crc}
            made[number] |= {f"c{i}": value for i, value in enumerate(row)}
            made[number]["vector"] = vector if self.postgres else packed
            known.update(dict.fromkeys(names, number))
        again = [number for number in made if number in crcs]
        if again:
            self.connection.execute(self.table.delete().where(one_of(c.number, again)))
        self.connection.execute(self.table.insert(), list(made.values()))
        how = "moved" if moved else "" if again else "added"
        self._changed(len(made) - len(again), how, rows_ever=ever)
        return updated

    def change(self, values: Mapping[str, Any] | None, given: Sequence[Any]) -> int:
        """Write other values into the cases under these conditions, or (None) delete them; return how many."""
        if count := super().change(values, given):
            how = "deleted" if values is None else ""
            self._changed(-count if how else 0, how)
        return count

    def _changed(self, rows: int, how: str = "", **more: Any) -> None:
        """Write the state after a change by so many rows: "added", "deleted", or "moved": of another embedding."""
        state = self.state
        since = [*state.since[-99:], state.revision] if how in ("added", "deleted") else []
        since = [f"-{revision.lstrip('-')}" for revision in since] if how == "deleted" else since
        nearest = None if how in ("moved", "deleted") and not self.postgres else state.nearest
        revision = uuid.uuid4().hex
        self.save(rows=state.rows + rows, revision=revision, since=since, nearest=nearest, **more)


def _names(image: Sequence[str], digest: str) -> list[Any]:
    """By what an image is known again."""
    return [tuple(image)] + [(*image[:3], Path(image[3]).name, digest)] * bool(digest)
