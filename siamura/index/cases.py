"""CaseIndex: which earlier cases look like this one."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import ArrayLike, NDArray

from siamura._database import Database
from siamura._fingerprints import Fingerprint, as_fingerprint
from siamura._validation import check_choice, check_whole

from .columns import REQUIRED, RESULT, conditions, frame, key_of, value_of
from .searching import Held, build, covered, load, postgres_by_study, postgres_views, sweep
from .tables import DamagedIndex, State, cases_table, read_state, write_rows, write_state
from .transfer import Content, read_folder, read_parquet, write_parquet

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CaseIndex", "Cases"]

log = logging.getLogger(__name__)
Model: TypeAlias = "nn.Module | Mapping[str, str] | None"
Place: TypeAlias = "str | os.PathLike[str]"
Where: TypeAlias = Mapping[str, Any] | None


class Cases(int):
    """How many cases an index holds after an addition: a whole number, with `added` and `updated` beside it."""

    added: int = 0
    updated: int = 0


class CaseIndex:
    """Embeddings with their study rows, kept in a database and searched there.

    The database is one SQLite file, or PostgreSQL with pgvector for a URL. A change is made whole or not at all,
    whatever ends the process; many processes read while one writes, and those that write wait for each other.
    Up to `exact_up_to` cases a search compares every case; beyond, an approximate index is asked, which is kept
    beside the file (an inverted file) or in PostgreSQL (HNSW), and whose `recall` is measured when it is built.

    Made by `create`, opened again by `open`. Threads may share one; it pickles, and opens itself again.

    Attributes
    ----------
    place : Path or str
        The file, as an absolute path, or the URL.

    Examples
    --------
    >>> import tempfile, numpy as np, pandas as pd
    >>> table = pd.DataFrame({
    ...     "path": ["a.png", "b.png", "c.png"], "part": "XR_HAND", "patient": ["1", "2", "2"],
    ...     "study": ["study1"] * 3, "label": [0, 1, 1], "age": [31, 50, 50]})
    >>> index = CaseIndex.create(tempfile.mkdtemp() + "/cases.db", dim=2)
    >>> index.add([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], table)
    3
    >>> index.search([0.9, 0.0], k=2)[["rank", "distance", "path", "label"]]
       rank  distance   path  label
    0     1       0.1  b.png      1
    1     2       0.9  a.png      0
    >>> index.search([0.9, 0.0], k=2, exclude_patient="2")["path"].tolist()
    ['a.png']
    >>> index.search([0.9, 0.0], where={"age": (40, 60), "label": 1})["path"].tolist()
    ['b.png', 'c.png']
    >>> index.add([[0.0, 0.5]], table[:1]).updated, index.delete(patient="2"), len(index)
    (1, 2, 1)
    """

    def __init__(self, place: Place, model: Model = None) -> None:
        self._database, self._lock = Database(place, DamagedIndex), threading.Lock()
        self._uid, self._proven = "", False
        self._held: Held | None = None
        with self._database.begin() as connection:
            self._uid = self._state(connection, model, proof=False).uid
        self._proven = model is not None

    # -- making and opening ----------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, place: Place, dim: int | None = None, *, model: Model = None, exact_up_to: int = 300_000
    ) -> Self:
        """Make an empty index.

        Parameters
        ----------
        place : path or str
            A file that does not exist, or ``postgresql://user@host/database``: one index a database (or schema).
        dim : int, optional
            Dimensions of the embeddings; by default the network's ``dim``.
        model : torch.nn.Module or fingerprint, optional
            What makes the embeddings. The index then answers only to embeddings of this network and
            preprocessing. Without it only the dimensions are compared.
        exact_up_to : int
            Cases up to which every case is compared.

        Raises
        ------
        FileExistsError
            If something is there.
        ValueError
            If `dim` is missing or impossible.
        """
        dim = getattr(model, "dim", None) if dim is None else dim
        if dim is None:
            raise ValueError(
                "dim=None; give the embeddings' dimensions, or model=, a network that knows its own."
            )
        empty = np.empty((0, check_whole("dim", dim, most=65_536)), np.float32)
        return cls._made(place, Content(dim, as_fingerprint(model), empty, pd.DataFrame()), exact_up_to)

    @classmethod
    def _made(cls, place: Place, content: Content, exact_up_to: int = 300_000) -> Self:
        # One transaction: a kill leaves a file without an index, in which one can be made, or all of it.
        check_whole("exact_up_to", exact_up_to, least=0)
        database = Database(place, DamagedIndex)
        database.make()
        with database.begin(write=True) as connection:
            state = State(uuid.uuid4().hex, content.dim, exact_up_to, content.fingerprint)
            write_state(database, connection, state, new=True)
            if len(content.table):
                state, _ = write_rows(
                    database, connection, state, content.table, content.vectors, content.digests
                )
        database.close()
        made = cls(place, content.fingerprint)
        made._proven = True
        made._freshen(state)
        return made

    @classmethod
    def open(cls, place: Place, *, model: Model = None) -> Self:
        """Open an index that exists.

        Parameters
        ----------
        place : path or str
            The file, or a URL of PostgreSQL.
        model : torch.nn.Module or fingerprint, optional
            What makes the embeddings that will be asked for or added. Needed, here or in `search` and `add`,
            wherever the index was created with a model.

        Raises
        ------
        FileNotFoundError
            If there is no index.
        DamagedIndex
            If the file is damaged or something else's.
        ValueError
            If the index belongs to another network or preprocessing, or is a folder of the earlier format.
        """
        if os.path.isfile(os.path.join(place, "manifest.json")):
            raise ValueError(
                f"{place} is of the earlier format; convert it once: siamura cases convert {place} {place}.db"
            )
        return cls(place, model)

    @classmethod
    def convert(cls, folder: Place, place: Place) -> Self:
        """Make an index at `place` of a folder of the earlier format, which stays as it is."""
        return cls._made(place, read_folder(Path(folder)))

    @classmethod
    def from_parquet(cls, file: Place, place: Place) -> Self:
        """Make an index at `place` of what `to_parquet` wrote."""
        return cls._made(place, read_parquet(Path(file)))

    @classmethod
    def recover(cls, place: Place, new: Place) -> Self:
        """Make an index at `new` of the cases that a damaged file still holds whole; the file stays as it is."""
        old, rows = cls(place), []
        state = old._now()
        for number in range(state.rows_ever):
            with contextlib.suppress(DamagedIndex), old._database.begin() as connection:
                rows += old._rows(connection, state, [number], whole=True)
        log.warning("%s: %d of %d cases can be read, and are kept in %s.", place, len(rows), state.rows, new)
        return cls._made(new, _content(state, rows), state.exact_up_to)

    def to_parquet(self, file: Place) -> None:
        """Write all cases to a Parquet file, with their embeddings and the fingerprint (extra ``tables``)."""
        with self._database.begin() as connection:
            state = self._state(connection, proof=False)
            write_parquet(Path(file), _content(state, self._rows(connection, state, whole=True)))

    def refresh(self) -> Self:
        """Return the index itself: every search sees what other processes have written."""
        return self

    def close(self) -> None:
        """Close the file, as Windows needs before it is moved or deleted; the next use opens it again."""
        self._database.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_held": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    # -- what it holds ---------------------------------------------------------------------------------------

    def _now(self) -> State:
        with self._database.begin() as connection:
            return self._state(connection, proof=False)

    def __len__(self) -> int:
        return self._now().rows

    def __repr__(self) -> str:
        how = "exact" if self.recall is None else f"approximate, recall {self.recall:.3f}"
        return f"CaseIndex({str(self._database)!r}, cases={len(self)}, dim={self.dim}, search={how})"

    @property
    def place(self) -> Path | str:
        """The file, as an absolute path, or the URL without its password."""
        return str(self._database) if self._database.postgres else Path(self._database.place)

    @property
    def dim(self) -> int:
        """Dimensions of the embeddings."""
        return self._now().dim

    @property
    def columns(self) -> dict[str, str]:
        """The table's columns, and the kind of each: str, int64, float64 or bool."""
        return dict(self._now().columns)

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Of the network and preprocessing that made the embeddings."""
        return self._now().fingerprint

    @property
    def recall(self) -> float | None:
        """Share of the 15 true nearest that the approximate index finds; None while the search is exact."""
        facts = covered(self._now())
        return None if facts is None else float(facts["recall"])

    @property
    def table(self) -> pd.DataFrame:
        """All rows, in the order added. Reads the whole table."""
        return self.select().drop(columns="case")

    def select(self, where: Where = None) -> pd.DataFrame:
        """Rows of the cases that `where` asks for (see `search`), with their numbers as ``case``."""
        with self._database.begin() as connection:
            state = self._state(connection, proof=False)
            rows = self._rows(connection, state, where=where)
        numbers = pd.DataFrame({"case": np.array([row[0] for row in rows], np.int64)})
        return pd.concat([numbers, frame([row[1:] for row in rows], state.columns)], axis=1)

    def embeddings(self, cases: ArrayLike | None = None) -> NDArray[np.float32]:
        """Vectors of the given cases (whole numbers, the result's ``case``), or of all: float32 (n, dim)."""
        with self._database.begin() as connection:
            state = self._state(connection, proof=False)
            wanted = None if cases is None else _numbers(cases)
            rows = self._rows(connection, state, wanted, whole=True)
        at = {row[0]: i for i, row in enumerate(rows)}
        if odd := [number for number in wanted or [] if number not in at]:
            raise ValueError(f"cases holds {odd[0]}, the number of no case in {self._database}.")
        vectors = _content(state, rows).vectors
        return vectors if wanted is None else vectors[[at[number] for number in wanted]]

    def verify(self) -> None:
        """Read all of it, and compare every embedding with the checksum that was written with it.

        Raises
        ------
        DamagedIndex
            Naming what differs.
        """
        if (said := self._database.pragma("integrity_check")) not in ([], [("ok",)]):
            raise DamagedIndex(self._database.place, "; ".join(str(line[0]) for line in said[:3]))
        with self._database.begin() as connection:
            state = self._state(connection, proof=False)
            whole = len(self._rows(connection, state, whole=True))
        if whole != state.rows:
            raise DamagedIndex(
                self._database.place, f"{state.rows - whole} embeddings differ from what was written"
            )

    def _rows(
        self, connection: sa.Connection, state: State, numbers: Sequence[int] | None = None, *,
        where: Where = None, whole: bool = False,
    ) -> list[Any]:  # fmt: skip
        """(number, columns ...) of cases by number; `whole`: (number, digest, bytes, columns ...) where sound."""
        if not state.columns:
            return []
        table = cases_table(self._database, state)
        found: list[Any] = []
        front = [table.c.number] + [table.c.digest, table.c.crc, table.c.vector] * whole
        asked = sa.select(*front, *(table.c[f"c{i}"] for i in range(len(state.columns)))).order_by(
            table.c.number
        )
        asked = asked.where(*conditions(table, state.columns, where))
        for low in range(0, 1 if numbers is None else len(numbers), 10_000):
            some = asked if numbers is None else asked.where(table.c.number.in_(numbers[low : low + 10_000]))
            found += connection.execute(some).fetchall()
        if not whole:
            return found
        vectors = [
            row[3] if isinstance(row[3], bytes) else np.asarray(row[3], "<f4").tobytes() for row in found
        ]
        sound = [
            len(v) == 4 * state.dim and zlib.crc32(v) == row[2] for v, row in zip(vectors, found, strict=True)
        ]
        return [(*row[:2], v, *row[4:]) for row, v, good in zip(found, vectors, sound, strict=True) if good]

    # -- changing --------------------------------------------------------------------------------------------

    def add(self, embeddings: ArrayLike, table: pd.DataFrame, *, model: Model = None) -> Cases:
        """Add cases; when this returns they are on the disk.

        A film that is there is updated: the same path, or the same content and file name where the file can be
        read, of the same part, patient and study.

        Parameters
        ----------
        embeddings : array (n, dim), float
        table : DataFrame, n rows
            Columns path, part, patient, study, label, and any others of text, numbers or truth values; every
            addition has the same columns.
        model : torch.nn.Module or fingerprint, optional
            What made them, if `open` was not told.

        Returns
        -------
        Cases
            Cases held now, an int; its `added` and `updated` count those of this addition.

        Raises
        ------
        ValueError
            If the embeddings are of another model or shape, or not finite, or the table does not fit.
        """
        with self._database.begin(write=True) as connection:
            state = self._state(connection, model)
            vectors = _vectors(embeddings, state.dim)
            if len(vectors) != len(table):
                raise ValueError(
                    f"embeddings has {len(vectors)} rows and table {len(table)}; one row a case is needed."
                )
            before, updated = state.rows, 0
            if len(table):
                state, updated = write_rows(self._database, connection, state, table, vectors)
        self._freshen(state)
        held = Cases(state.rows)
        held.added, held.updated = state.rows - before, updated
        return held

    def update(
        self, values: Mapping[str, Any], *, patient: str | None = None, cases: ArrayLike | None = None,
        where: Where = None,
    ) -> int:  # fmt: skip
        """Write other values (``{"label": 1}``) into the columns of cases; return of how many.

        Parameters
        ----------
        values : mapping of str to a value
        patient, cases, where
            Which cases, as in `delete`.
        """

        def change(connection: sa.Connection, state: State, table: sa.Table, chosen: list[Any]) -> int:
            new = {
                key_of(state.columns, name): None
                if value is None and name not in REQUIRED
                else value_of(value, state.columns[name], name)
                for name, value in values.items()
            }
            return connection.execute(table.update().where(*chosen).values(new)).rowcount

        moved = not {"part", "patient", "study"}.isdisjoint(values)  # of what is held in memory
        return self._change(change, patient, cases, where, removes=False, moves=moved)

    def delete(
        self, *, patient: str | None = None, cases: ArrayLike | None = None, where: Where = None
    ) -> int:
        """Delete cases, as when consent is withdrawn; return how many. SQLite overwrites what they held.

        Parameters
        ----------
        patient : str, optional
            All cases of this patient.
        cases : array of int, optional
            These numbers, the ``case`` of a search.
        where : mapping, optional
            See `search`. Where several are given, cases must answer to all of them; one is needed.
        """

        def change(connection: sa.Connection, state: State, table: sa.Table, chosen: list[Any]) -> int:
            return connection.execute(table.delete().where(*chosen)).rowcount

        return self._change(change, patient, cases, where, removes=True, moves=True)

    def _change(
        self, change: Any, patient: str | None, cases: Any, where: Where, *, removes: bool, moves: bool
    ) -> int:
        if patient is None and cases is None and where is None:
            raise ValueError("patient, cases and where are missing; say which cases are meant.")
        with self._database.begin(write=True) as connection:
            state = self._state(connection, proof=False)
            if not state.columns:
                return 0
            table, columns = cases_table(self._database, state), state.columns
            chosen = conditions(table, columns, where)
            chosen += conditions(table, columns, None if patient is None else {"patient": patient})
            numbers = (
                [None]
                if cases is None
                else np.array_split(_numbers(cases), len(_numbers(cases)) // 10_000 + 1)
            )
            count: int = sum(
                change(
                    connection, state, table, chosen + ([] if n is None else [table.c.number.in_(n.tolist())])
                )
                for n in numbers
            )
            revision = state.revision + bool(count and moves)
            state = replace(state, revision=revision, rows=state.rows - count * removes)
            state = replace(state, removed=revision) if removes and count else state
            write_state(self._database, connection, state)
        if not count:
            log.warning("%s holds no such case; nothing was changed.", self._database)
        elif removes and not self._database.postgres:
            sweep(self._database, state)
            self._database.pragma("wal_checkpoint(TRUNCATE)")
        return count

    def _freshen(self, state: State) -> None:
        """Build the approximate index anew where there are enough cases, and too few of them are in the present one."""
        facts = covered(state)
        missing = state.rows - (facts["rows"] if facts else 0)
        if state.rows <= state.exact_up_to or 4 * missing <= state.rows - missing:
            return
        try:
            facts = build(self._database, state)
            with self._database.begin(write=True) as connection:
                state = replace(self._state(connection, proof=False), nearest=facts)
                write_state(self._database, connection, state)
            if not self._database.postgres:
                sweep(self._database, state)
                self._held = None
        except OSError as error:
            log.warning(
                "The cases are kept, but no approximate index of them (%s): searches are exact.", error
            )

    # -- searching -------------------------------------------------------------------------------------------

    def search(
        self, embeddings: ArrayLike, k: int = 15, *, part: str | Sequence[str] | None = None, label: Any = None,
        where: Where = None, exclude_patient: str | Sequence[str] | None = None,
        studies: Literal["min", "mean"] | None = None, exact: bool = False, model: Model = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Find the nearest cases.

        Parameters
        ----------
        embeddings : array (dim,) or (m, dim), float
        k : int
            Cases wanted for each, or studies.
        part, label : optional
            The same as in `where`.
        where : mapping, optional
            What may be found, by column: ``{"part": "XR_HAND", "site": ["A", "B"], "age": (40, 60), "sex": None}``
            is one part, one of two sites, ages from 40 to 60 (None for no bound), and no sex known.
        exclude_patient : str or sequence of str, optional
            The query's own patient, one for all queries or one for each: their cases are not found.
        studies : {"min", "mean"}, optional
            The embeddings are the views of one study, and studies are found: by the least distance between a view
            of one and a view of the other, or the mean over all such pairs. Always exact.
        exact : bool
            Compare with every case, however many there are.
        model : torch.nn.Module or fingerprint, optional
            What made the embeddings, if `open` was not told.

        Returns
        -------
        DataFrame
            query (its row), rank (from 1), distance (Euclidean), case (its number here), and the table's
            columns; fewer than k rows for a query where there are no more cases. Of a study, the row of its
            nearest view, and how many views it has (``views``).

        Raises
        ------
        ValueError
            If the embeddings are of another model or shape, or not finite, or an argument makes no sense.
        """
        k = check_whole("k", k)
        if studies is not None:
            check_choice("studies", studies, ("min", "mean"))
        asked: list[Where] = [where, {n: v for n, v in (("part", part), ("label", label)) if v is not None}]
        with self._database.begin() as connection:
            with self._lock:
                state = self._state(connection, model)
                if not self._database.postgres and (
                    self._held is None or self._held.revision != state.revision
                ):
                    self._held = load(self._database, connection, state)
                held: Held | None = self._held
            queries = _vectors(embeddings, state.dim)
            own = _own_patients(exclude_patient, 1 if studies else len(queries))
            k = min(k, state.rows)
            found = self._found(connection, state, held, queries, k, own, asked, exact, studies)
            rows = {
                row[0]: row[1:] for row in self._rows(connection, state, sorted({int(n) for n in found[3]}))
            }
        front = pd.DataFrame(dict(zip(RESULT, found, strict=False)))
        return pd.concat([front, frame([rows[int(n)] for n in found[3]], state.columns)], axis=1)

    def _found(
        self, connection: sa.Connection, state: State, held: Held | None, queries: NDArray[np.float32], k: int,
        own: list[str], where: list[Where], exact: bool, studies: str | None,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Query, rank, distance and number of what is found; of studies their counts of views too."""
        if not state.rows or not len(queries):
            return (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
        table = cases_table(self._database, state)
        key = {name: table.c[f"c{i}"] for i, name in enumerate(state.columns)}
        given = [condition for some in where for condition in conditions(table, state.columns, some)]
        mask: NDArray[np.bool_] | None = None
        if held is not None and (given or exact or studies):
            chosen = connection.execute(sa.select(table.c.number).where(*given)).scalars() if given else None
            mask = held.mask(None if chosen is None else np.fromiter(chosen, np.int64))
        if studies:
            named = [key[name] for name in ("part", "patient", "study")]
            if held is None or mask is None:
                others = [key["patient"] != name for name in own[:1]]
                found = postgres_by_study(connection, table, named, queries, k, given + others, studies)
            else:
                found = held.by_study(queries, k, own[:1], mask, studies)
            distance, number, views = zip(*found, strict=True) if found else ((), (), ())
            order = np.arange(len(found))
            return (
                order * 0,
                order + 1,
                np.array(distance, float),
                np.array(number, np.int64),
                np.array(views, int),
            )
        if held is not None:
            distances, numbers = held.views(queries, k, own, mask)
        else:
            others = [key["patient"] != name for name in own]
            distances, numbers = postgres_views(connection, table, queries, k, others, given, exact)
        query, rank = np.nonzero(numbers >= 0)
        return query, rank + 1, distances[query, rank], numbers[query, rank]

    # -- checks ----------------------------------------------------------------------------------------------

    def _state(self, connection: sa.Connection, model: Model = None, *, proof: bool = True) -> State:
        """Read the state, and see that it is still the index that was opened, and the network the one that made it."""
        state = read_state(self._database, connection)
        if self._uid not in ("", state.uid):
            raise ValueError(
                f"{self._database} is another index now than the one that was opened; open it again."
            )
        given, own = as_fingerprint(model), state.fingerprint
        if own is not None and given is None and proof and not self._proven:
            raise ValueError(
                "model is missing: this index answers only to the network and preprocessing that made it. "
                "Pass model=network here, or to CaseIndex.open."
            )
        if own is not None and given is not None and given != own:
            what = " and ".join(name for name in ("model", "preprocessing") if given[name] != own[name])
            raise ValueError(
                f"another {what} made these embeddings than those in {self._database} (fingerprint {given} instead "
                f"of {own}); their distances mean nothing. Embed with the network that made the index, or make a "
                "new index."
            )
        return state


def _vectors(embeddings: ArrayLike, dim: int) -> NDArray[np.float32]:
    vectors = np.atleast_2d(np.ascontiguousarray(embeddings, dtype=np.float32))
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(
            f"embeddings has shape {np.shape(embeddings)}; this index holds {dim} dimensions a case."
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise ValueError(f"embeddings is not finite in {bad.size} rows, the first of them row {bad[0]}.")
    return vectors


def _own_patients(patient: str | Sequence[str] | None, queries: int) -> list[str]:
    """Give each query's patient; none where nobody is left out."""
    if patient is None:
        return []
    names: list[Any] = (
        [patient] * queries if isinstance(patient, str) else [*np.atleast_1d(np.asarray(patient))]
    )
    own = [str(value_of(name, "str", "exclude_patient")) for name in names]
    if len(own) != queries:
        raise ValueError(
            f"exclude_patient names {len(own)} patients for {queries} queries; give one for each."
        )
    return own


def _numbers(cases: ArrayLike) -> list[int]:
    numbers = np.asarray(cases).reshape(-1)
    if numbers.size and numbers.dtype.kind not in "iu":  # a mask would be taken for cases 0 and 1
        raise ValueError(f"cases holds {numbers.dtype}; give whole numbers, the result's 'case'.")
    return [int(number) for number in numbers]


def _content(state: State, rows: Sequence[Any]) -> Content:
    vectors = np.frombuffer(b"".join(row[2] for row in rows), "<f4").astype(np.float32).reshape(-1, state.dim)
    table = frame([row[3:] for row in rows], state.columns)
    return Content(state.dim, state.fingerprint, vectors, table, [row[1] for row in rows])
