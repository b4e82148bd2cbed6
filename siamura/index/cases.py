"""CaseIndex: which earlier cases look like this one."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import uuid
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

from . import tables
from .columns import REQUIRED, RESULT, conditions, value_of
from .searching import InMemory, InPostgres, build, covered, load, sweep
from .tables import Content, DamagedIndex, State, cases_table, column
from .transfer import read_folder, read_parquet, write_parquet

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CaseIndex", "Cases"]

log = logging.getLogger(__name__)
Model: TypeAlias = "nn.Module | Mapping[str, str] | None"
Place: TypeAlias = "str | os.PathLike[str]"
Where: TypeAlias = Mapping[str, Any] | None


class Cases(int):
    """How many cases an index holds after an addition: a whole number, with `added` and `updated` beside it.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> table = pd.DataFrame({"path": ["a.png"], "part": "XR_HAND", "patient": "p1", "study": "study1", "label": 0})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = CaseIndex.create(f"{folder}/cases.db", dim=2)
    ...     held = index.add([[0.0, 1.0]], table)
    ...     held, held.added, index.add([[1.0, 0.0]], table).updated
    (1, 1, 1)
    """

    added: int = 0
    updated: int = 0


class CaseIndex:
    """Embeddings with their study rows, kept in a database and searched there.

    The database is one SQLite file, or PostgreSQL with pgvector for a URL. A change is made whole or not at all,
    whatever ends the process; many processes read while one writes, and those that write wait for each other.
    Up to `exact_up_to` cases a search compares every case; beyond, an approximate index is asked, which is kept
    beside the file (an inverted file) or in PostgreSQL (HNSW), and whose `recall` is measured when it is built.
    Made by `create`, opened again by `open`. Threads may share one; it pickles, and opens itself again.

    Parameters of the methods
    -------------------------
    place : path or str
        A file, or ``postgresql://user@host/database``: one index a database (or schema).
    embeddings : array (dim,) or (n, dim), float
        Finite. A `ValueError` says where another network, preprocessing or number of dimensions made them.
    model : torch.nn.Module or fingerprint, optional
        What makes the embeddings. An index created with it answers only to embeddings of this network and
        preprocessing, and has to be told of it by `open`, `add` or `search`.
    where : mapping, optional
        What is meant, by column: ``{"part": "XR_HAND", "site": ["A", "B"], "age": (40, 60), "sex": None}`` is one
        part, one of two sites, ages from 40 to 60 (None for no bound), and no sex known.
    patient, cases : str, array of int
        All cases of this patient; these numbers, the ``case`` of a search.

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
    >>> index.search([0.9, 0.0], where={"age": (40, 60)}, exclude_patient="1")["path"].tolist()
    ['b.png', 'c.png']
    >>> index.add([[0.0, 0.5]], table[:1]).updated, index.delete(patient="2"), len(index)
    (1, 2, 1)
    """

    def __init__(self, place: Place, model: Model = None) -> None:
        self._database, self._lock = Database(place, DamagedIndex), threading.Lock()
        self._uid, self._proven = "", False
        self._held: InMemory | None = None
        with self._database.begin() as connection:
            self._uid = self._state(connection, model, proof=False).uid
        self._proven = model is not None

    @classmethod
    def create(
        cls, place: Place, dim: int | None = None, *, model: Model = None, exact_up_to: int = 300_000
    ) -> Self:
        """Make an empty index where none is (`FileExistsError`), of `dim` dimensions or the model's ``dim``."""
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
            tables.write_state(database, connection, state, new=True)
            if len(content.table):
                state, _ = tables.write_rows(
                    database, connection, state, content.table, content.vectors, content.digests
                )
        database.close()
        made = cls(place, content.fingerprint)
        made._proven = True
        made._freshen(state)
        return made

    @classmethod
    def open(cls, place: Place, *, model: Model = None) -> Self:
        """Open an index that exists (`FileNotFoundError`) and is whole (`DamagedIndex`)."""
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
        old, frames, vectors = cls(place), [pd.DataFrame()], []
        digests: list[str] = []
        state = old._now()
        for number in range(state.rows_ever):
            with contextlib.suppress(DamagedIndex):
                content = old._read(vectors=True, numbers=[number])
                frames.append(content.table)
                vectors.append(content.vectors)
                digests += content.digests or []
        log.warning(
            "%s: %d of %d cases can be read, and are kept in %s.", place, len(digests), state.rows, new
        )
        whole = pd.concat(frames[1:] or frames, ignore_index=True)
        floats = np.concatenate([np.empty((0, state.dim), np.float32), *vectors])
        return cls._made(
            new, Content(state.dim, state.fingerprint, floats, whole, digests), state.exact_up_to
        )

    def to_parquet(self, file: Place) -> None:
        """Write all cases to a Parquet file, with their embeddings and the fingerprint (extra ``tables``)."""
        write_parquet(Path(file), self._read(vectors=True))

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

    def _read(self, where: Where = None, *, vectors: bool, numbers: Sequence[int] | None = None) -> Content:
        with self._database.begin() as connection:
            state = self._state(connection, proof=False)
            chosen = self._chosen(state, None, numbers, where)
            return tables.read(self._database, connection, state, *chosen, vectors=vectors)

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
        return self._read(vectors=False).table

    def select(self, where: Where = None) -> pd.DataFrame:
        """Rows of the cases that `where` asks for, with their numbers as ``case``."""
        content = self._read(where, vectors=False)
        content.table.insert(0, "case", content.numbers)
        return content.table

    def embeddings(self, cases: ArrayLike | None = None) -> NDArray[np.float32]:
        """Vectors of the given cases (whole numbers, the result's ``case``), or of all: float32 (n, dim)."""
        wanted = None if cases is None else _numbers(cases)
        content = self._read(vectors=True, numbers=wanted)
        at = pd.Index(content.numbers).get_indexer(pd.Index(wanted or []))
        if (at < 0).any():
            odd = np.take(wanted or [], (at < 0).argmax())
            raise ValueError(f"cases holds {odd}, the number of no case in {self._database}.")
        return content.vectors if wanted is None else content.vectors[at]

    def verify(self) -> None:
        """Read all of it, and raise `DamagedIndex` where an embedding differs from the checksum written with it."""
        if (said := self._database.pragma("integrity_check")) not in ([], [("ok",)]):
            raise DamagedIndex(self._database.place, "; ".join(str(line[0]) for line in said[:3]))
        with self._database.begin() as connection:
            state = self._state(connection, proof=False)
            lost = state.rows - len(tables.read(self._database, connection, state).table)
        if lost:
            raise DamagedIndex(self._database.place, f"{lost} embeddings differ from what was written")

    # -- changing --------------------------------------------------------------------------------------------

    def add(self, embeddings: ArrayLike, table: pd.DataFrame, *, model: Model = None) -> Cases:
        """Add cases; when this returns they are on the disk.

        A film that is there is updated: the same path, or the same content and file name where the file can be
        read, of the same part, patient and study.

        Parameters
        ----------
        embeddings, model
            See the class.
        table : DataFrame, n rows
            Columns path, part, patient, study, label, and any others of text, numbers or truth values. Where an
            addition has a column more or less than those before, the others' values are missing; the log says so.

        Returns
        -------
        Cases
            Cases held now, an int; its `added` and `updated` count those of this addition.
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
                state, updated = tables.write_rows(self._database, connection, state, table, vectors)
        self._freshen(state)
        held = Cases(state.rows)
        held.added, held.updated = state.rows - before, updated
        return held

    def update(
        self, values: Mapping[str, Any], *, patient: str | None = None, cases: ArrayLike | None = None,
        where: Where = None,
    ) -> int:  # fmt: skip
        """Write other values (``{"label": 1}``) into the columns of cases; return of how many."""
        return self._change(values, patient, cases, where)

    def delete(
        self, *, patient: str | None = None, cases: ArrayLike | None = None, where: Where = None
    ) -> int:
        """Delete cases, as when consent is withdrawn; return how many. SQLite overwrites what they held.

        One of `patient`, `cases`, `where` is needed; cases must answer to all that are given.
        """
        return self._change(None, patient, cases, where)

    def _chosen(self, state: State, patient: str | None, cases: ArrayLike | None, where: Where) -> list[Any]:
        table = cases_table(self._database, state)
        asked = [*(where or {}).items(), *([] if patient is None else [("patient", patient)])]
        chosen = conditions(lambda name: column(table, state, name), state.columns, asked)
        return chosen if cases is None else [*chosen, tables.numbered(table, _numbers(cases))]

    def _change(
        self, values: Mapping[str, Any] | None, patient: str | None, cases: ArrayLike | None, where: Where
    ) -> int:
        if patient is None and cases is None and where is None:
            raise ValueError("patient, cases and where are missing; say which cases are meant.")
        with self._database.begin(write=True) as connection:
            state = self._state(connection, proof=False)
            table = cases_table(self._database, state)
            command: Any = table.delete()
            if values is not None:
                conditions(
                    lambda name: column(table, state, name), state.columns, [(n, None) for n in values]
                )
                command = table.update().values({
                    column(table, state, name): None if value is None and name not in REQUIRED
                    else value_of(value, state.columns[name], name) for name, value in values.items()
                })  # fmt: skip
            chosen = self._chosen(state, patient, cases, where) if state.columns else []
            count = connection.execute(command.where(*chosen)).rowcount if state.columns else 0
            if count:
                now = state.revision + 1
                state = replace(state, revision=now, changed=now)
                if values is None:
                    state = replace(state, rows=state.rows - count, removed=now)
                tables.write_state(self._database, connection, state)
        if not count:
            log.warning("%s holds no such case; nothing was changed.", self._database)
        elif values is None and not self._database.postgres:
            sweep(self._database, state)
            self._database.pragma("wal_checkpoint(TRUNCATE)")
        return int(count)

    def _freshen(self, state: State) -> None:
        """Build the approximate index where there are enough cases, and too few of them are in the present one."""
        facts = covered(state)
        missing = state.rows - (facts["rows"] if facts else 0)
        if state.rows <= state.exact_up_to or 4 * missing <= state.rows - missing:
            return
        try:
            facts = build(self._database)
            with self._database.begin(write=True) as connection:
                state = replace(self._state(connection, proof=False), nearest=facts)
                tables.write_state(self._database, connection, state)
            if not self._database.postgres:
                sweep(self._database, state)
                self._held = None
        except OSError as error:
            log.warning("The cases are kept, but no approximate index (%s): searches are exact.", error)

    # -- searching -------------------------------------------------------------------------------------------

    def search(
        self, embeddings: ArrayLike, k: int = 15, *, part: str | Sequence[str] | None = None, label: Any = None,
        where: Where = None, exclude_patient: str | Sequence[str] | None = None,
        studies: Literal["min", "mean"] | None = None, exact: bool = False, model: Model = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Find the nearest cases.

        Parameters
        ----------
        embeddings, where, model
            See the class.
        k : int
            Cases wanted for each, or studies.
        part, label : optional
            The same as in `where`.
        exclude_patient : str or sequence of str, optional
            The query's own patient, one for all queries or one for each: their cases are not found.
        studies : {"min", "mean"}, optional
            The embeddings are the views of one study, and studies are found: by the least distance between a view
            of one and a view of the other, or the mean over all such pairs. Always exact.
        exact : bool
            Compare with every case, however many there are.

        Returns
        -------
        DataFrame
            query (its row), rank (from 1), distance (Euclidean), case (its number here), and the table's
            columns; fewer than k rows for a query where there are no more cases. Of a study, the row of its
            nearest view, and how many views it has (``views``).
        """
        k = check_whole("k", k)
        if studies is not None:
            check_choice("studies", studies, ("min", "mean"))
        asked = [
            *(where or {}).items(),
            *((n, v) for n, v in (("part", part), ("label", label)) if v is not None),
        ]
        with self._database.begin() as connection:
            state = self._state(connection, model)
            queries = _vectors(embeddings, state.dim)
            own = _own_patients(exclude_patient, 1 if studies else len(queries))
            here: InMemory | InPostgres = InPostgres(self._database, connection, state)
            if not self._database.postgres:
                with self._lock:
                    if self._held is None or self._held.state.revision != state.revision:
                        self._held = load(self._database, connection, state, self._held)
                    here = self._held
            if not state.rows or not len(queries):
                front: tuple[Any, ...] = tuple(np.empty((4, 0)))
            elif studies:
                found = np.array(here.studies(queries, min(k, state.rows), own, asked, studies)).reshape(
                    -1, 3
                )
                order = np.arange(len(found))
                front = (order * 0, order + 1, found[:, 0], *found[:, 1:].T)
            else:
                distances, numbers = here.views(queries, min(k, state.rows), own, asked, exact)
                query, rank = np.nonzero(numbers >= 0)
                front = (query, rank + 1, distances[query, rank], numbers[query, rank])
            kinds = (np.int64, np.int64, np.float64, np.int64, np.int64)
            made = {name: f.astype(kind) for name, f, kind in zip(RESULT, front, kinds, strict=False)}
            rows = here.rows(made["case"])
            return pd.DataFrame(made | {name: rows[name].array for name in rows})

    def _state(self, connection: sa.Connection, model: Model = None, *, proof: bool = True) -> State:
        """Read the state; see that it is the index that was opened, and the network the one that made it."""
        state = tables.read_state(self._database, connection)
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
    names = [patient] * queries if isinstance(patient, str) else np.atleast_1d(np.asarray(patient)).tolist()
    if len(names) != queries:
        raise ValueError(
            f"exclude_patient names {len(names)} patients for {queries} queries; give one for each."
        )
    return [value_of(name, "str", "exclude_patient") for name in names]


def _numbers(cases: ArrayLike) -> list[int]:
    numbers = np.asarray(cases).reshape(-1)
    if numbers.size and numbers.dtype.kind not in "iu":  # a mask would be taken for cases 0 and 1
        raise ValueError(f"cases holds {numbers.dtype}; give whole numbers, the result's 'case'.")
    return [int(number) for number in numbers]
