"""CaseIndex: which earlier cases look like this one."""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from siamura import _kept_neighbours
from siamura._database import DamagedIndex, Database
from siamura._earlier_cases import read_folder
from siamura._exact_search import as_rows
from siamura._files import read_parquet, write_parquet
from siamura._fingerprints import Fingerprint, Model, as_fingerprint, check_fingerprint
from siamura._validation import check_choice, check_names, check_positions, check_whole

from .searching import InMemory, InPostgres, build
from .tables import RESULT, Session, State

log = logging.getLogger(__name__)
Place: TypeAlias = "str | os.PathLike[str]"
Where: TypeAlias = Mapping[str, Any] | None


class Cases(int):
    """How many cases an index holds after an addition, with `added` and `updated` beside it.

    >>> Cases(3).added
    0
    """

    added = updated = 0


class CaseIndex:
    """Embeddings with their study rows, kept in a database and searched there.

    One SQLite file, or PostgreSQL with pgvector for a URL. A change is made whole or not at all. Up to `exact_up_to`
    cases a search compares every case; beyond, an approximate index is built and asked, whose `recall` is measured.
    Made by `create`, opened again by `open`. Threads may share one; it pickles, and opens itself again.

    Parameters of the methods
    -------------------------
    place : path or str
        A file, or ``postgresql://user@host/database``: one index a database (or schema).
    embeddings : array (dim,) or (n, dim), float
    model : torch.nn.Module or fingerprint, optional
        What makes the embeddings. An index created with it refuses those of another, and has to be told of it by
        `open`, `add` or `search`.
    where : mapping, optional
        What is meant, by column: ``{"part": "XR_HAND", "site": ["A", "B"], "age": (40, 60), "sex": None}`` is one
        part, one of two sites, ages from 40 to 60 (None for no bound), and no sex known.
    patient, cases : str, array of int
        All cases of this patient; these numbers, the ``case`` of a search.

    Examples
    --------
    >>> import tempfile, pandas as pd
    >>> table = pd.DataFrame({"path": ["a.png", "b.png"], "part": "XR_HAND", "patient": ["1", "2"],
    ...                       "study": "study1", "label": [0, 1], "age": [31, 50]})
    >>> index = CaseIndex.create(tempfile.mkdtemp() + "/cases.db", dim=2)
    >>> index.add([[0.0, 0.0], [1.0, 0.0]], table)
    2
    >>> index.search([0.9, 0.0])["path"].tolist(), index.search([0.9, 0.0], where={"age": (0, 40)})["label"].tolist()
    (['b.png', 'a.png'], [0])
    >>> index.add([[0.0, 0.5]], table[:1]).updated, index.delete(patient="2"), len(index)
    (1, 1, 1)
    """

    def __init__(self, place: Place, model: Model = None) -> None:
        self._database = Database(place)
        self._uid, self._proven = "", False
        self._held: InMemory | None = None
        with self._begin(model=model) as session:
            self._uid, self._proven = session.state.uid, model is not None

    @classmethod
    def create(
        cls, place: Place, dim: int | None = None, *, model: Model = None, exact_up_to: int = 300_000
    ) -> Self:
        """Make an empty index where none is (`FileExistsError`), of `dim` dimensions or the model's ``dim``."""
        dim = getattr(model, "dim", None) if dim is None else dim
        if dim is None:
            raise ValueError("dim=None; give the embeddings' dimensions, or model=, a network with its own.")
        return cls._made(place, {"dim": dim, "fingerprint": as_fingerprint(model)}, exact_up_to=exact_up_to)

    @classmethod
    def _made(cls, place: Place, facts: Any, cases: Any = (), exact_up_to: int = 300_000) -> Self:
        # One transaction: a kill leaves a file without an index, in which one can be made, or all of it.
        dim = check_whole("dim", facts["dim"], most=65_536)
        exact_up_to = check_whole("exact_up_to", exact_up_to, least=0)
        state = State(uuid.uuid4().hex, dim, exact_up_to, facts["fingerprint"])
        database = Database(place)
        database.make()
        with database.begin(write=True) as connection:
            session = Session(database, connection, state)
            if len(cases):
                rows = cases.drop(columns=["case_vector", "case_digest"], errors="ignore")
                vectors = as_rows(cases["case_vector"].tolist(), "case_vector", dim)
                session.add(rows, vectors, cases.get("case_digest"))
        database.close()
        made = cls(place, state.fingerprint)
        made._freshen(session.state)
        return made

    @classmethod
    def open(cls, place: Place, *, model: Model = None) -> Self:
        """Open an index that exists (`FileNotFoundError`) and is whole (`DamagedIndex`)."""
        if os.path.isfile(os.path.join(place, "manifest.json")):
            how = f"siamura cases convert {place} {place}.db"
            raise ValueError(f"{place} is of the earlier format; convert it once: {how}")
        return cls(place, model)

    @classmethod
    def convert(cls, folder: Place, place: Place) -> Self:
        """Make an index at `place` of a folder of the earlier format, which stays as it is."""
        return cls._made(place, *read_folder(folder))

    @classmethod
    def from_parquet(cls, file: Place, place: Place) -> Self:
        """Make an index at `place` of what `to_parquet` wrote."""
        cases = read_parquet(file)
        if "siamura" not in cases.attrs or "case_vector" not in cases:
            raise ValueError(f"{file} is no file that CaseIndex.to_parquet wrote.")
        return cls._made(place, cases.attrs["siamura"], cases)

    def to_parquet(self, file: Place) -> None:
        """Write all cases to a Parquet file, with their embeddings and the fingerprint (extra ``tables``)."""
        with self._begin() as session:
            cases = session.frame()
        cases.attrs["siamura"] = {"dim": session.state.dim, "fingerprint": session.state.fingerprint}
        write_parquet(cases, file)

    @classmethod
    def recover(cls, place: Place, new: Place) -> Self:
        """Make an index at `new` of the cases that a damaged file still holds whole; the file stays as it is."""
        old, whole = cls(place), []
        state = old._now()
        for number in range(state.rows_ever):
            with contextlib.suppress(DamagedIndex), old._begin() as session:
                found = session.frame(*session.conditions((), [number]))
                whole += [found] if len(found) else []
        log.warning("%s: %d of %d cases can be read, and are kept in %s.", place, len(whole), state.rows, new)
        return cls._made(new, vars(state), pd.concat(whole) if whole else (), state.exact_up_to)

    def refresh(self) -> Self:
        """Return the index itself: every search sees what other processes have written."""
        return self

    def close(self) -> None:
        """Close the file, as Windows needs before it is moved or deleted; the next use opens it again."""
        self._database.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None}

    @contextlib.contextmanager
    def _begin(self, write: bool = False, *, model: Model = None, proof: bool = False) -> Iterator[Session]:
        """A transaction on the index that was opened, for the network that made it (`proof`: which is needed)."""
        with self._database.begin(write=write) as connection:
            session = Session(self._database, connection)
            if self._uid not in ("", session.state.uid):
                raise ValueError(f"{self._database} is another index now than was opened; open it again.")
            given, own = as_fingerprint(model), session.state.fingerprint
            if own is not None and given is None and proof and not self._proven:
                raise ValueError("model is missing: this index answers only to the network and preprocessing that "
                                 "made it. Pass model=network here, or to CaseIndex.open.")  # fmt: skip
            check_fingerprint(given, own, self._database)
            yield session

    def _now(self) -> State:
        with self._begin() as session:
            return session.state

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
        return self._now().columns

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Of the network and preprocessing that made the embeddings."""
        return self._now().fingerprint

    @property
    def recall(self) -> float | None:
        """Share of the 15 true nearest that the approximate index finds; None while the search is exact."""
        return (self._now().nearest or {}).get("recall")

    @property
    def table(self) -> pd.DataFrame:
        """All rows, in the order added. Reads the whole table."""
        return self.select().drop(columns="case")

    def select(self, where: Where = None) -> pd.DataFrame:
        """Rows of the cases that `where` asks for, with their numbers as ``case``."""
        with self._begin() as session:
            rows = session.rows(*session.conditions((where or {}).items()))
        rows.insert(0, "case", rows.index)
        return rows.reset_index(drop=True)

    def embeddings(self, cases: ArrayLike | None = None) -> NDArray[np.float32]:
        """Vectors of the given cases (whole numbers, the result's ``case``), or of all: float32 (n, dim)."""
        wanted = None if cases is None else check_positions("cases", cases)
        with self._begin() as session:
            numbers, vectors = session.embeddings(*session.conditions((), wanted))
        at = np.arange(len(numbers)) if wanted is None else pd.Index(numbers).get_indexer(pd.Index(wanted))
        if wanted and (at < 0).any():
            raise ValueError(f"cases holds {wanted[(at < 0).argmax()]}, the number of no case.")
        return vectors[at]

    def verify(self) -> None:
        """Read all of it, and raise `DamagedIndex` where an embedding differs from the checksum written with it."""
        self._database.verify()
        with self._begin() as session:
            if lost := session.state.rows - len(session.embeddings()[0]):
                raise DamagedIndex(self._database.place, f"{lost} embeddings differ from what was written")

    def add(self, embeddings: ArrayLike, table: pd.DataFrame, *, model: Model = None) -> Cases:
        """Add cases; return how many are held when they are on the disk, with those `added` and `updated`.

        `table` has a row a case: path, part, patient, study, label, and any other columns of text, numbers or truth
        values. A column more or less than those before is filled with missing values, and the log says so. An image
        that is there is updated: the same path, or the same content and file name where the file can be read, of
        the same part, patient and study.
        """
        with self._begin(write=True, model=model, proof=True) as session:
            before = session.state
            vectors = as_rows(np.atleast_2d(np.asarray(embeddings)), "embeddings", before.dim)
            if len(vectors) != len(table):
                raise ValueError(f"embeddings has {len(vectors)} rows and table {len(table)}; give one each.")
            updated = session.add(table, vectors) if len(table) else 0
        self._freshen(session.state)
        held = Cases(session.state.rows)
        held.added, held.updated = held - before.rows, updated
        return held

    def update(self, values: Mapping[str, Any], *, patient: str | None = None, cases: ArrayLike | None = None,
               where: Where = None) -> int:  # fmt: skip
        """Write other values (``{"label": 1}``) into the columns of cases; return of how many."""
        return self._change(values, patient, cases, where)

    def delete(self, *, patient: str | None = None, cases: ArrayLike | None = None,
               where: Where = None) -> int:  # fmt: skip
        """Delete cases, as when consent is withdrawn; return how many. SQLite overwrites what they held.

        One of `patient`, `cases`, `where` is needed; cases must answer to all that are given.
        """
        return self._change(None, patient, cases, where)

    def _change(self, values: Any, patient: str | None, cases: ArrayLike | None, where: Where) -> int:
        if patient is None and cases is None and where is None:
            raise ValueError("patient, cases and where are missing; say which cases are meant.")
        asked = [*(where or {}).items(), *([] if patient is None else [("patient", patient)])]
        with self._begin(write=True) as session:
            count = session.change(values, session.conditions(asked, cases))
        if not count:
            log.warning("%s holds no such case; nothing was changed.", self._database)
        elif values is None and not self._database.postgres:
            _kept_neighbours.sweep(session.beside())
            self._database.pragma("wal_checkpoint(TRUNCATE)")
        return count

    def _freshen(self, state: State) -> None:
        """Build the approximate index where there are enough cases, and too few of them are in the present one."""
        inside = state.nearest["rows"] if state.nearest else 0
        if state.rows <= state.exact_up_to or 4 * (state.rows - inside) <= inside:
            return
        try:
            with self._begin(write=self._database.postgres) as session:
                facts = build(session)
            with self._begin(write=True) as session:
                if facts["revision"] in (session.state.revision, *session.state.since):
                    session.save(nearest=facts)
            if not self._database.postgres:
                _kept_neighbours.sweep(session.beside())
                self._held = None
        except OSError as error:
            log.warning("The cases are kept, but no approximate index (%s): searches are exact.", error)

    def search(
        self, embeddings: ArrayLike, k: int = 15, *, part: str | Sequence[str] | None = None, label: Any = None,
        where: Where = None, exclude_patient: str | Sequence[str] | None = None,
        studies: Literal["min", "mean"] | None = None, exact: bool = False, model: Model = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Find the nearest cases.

        Parameters
        ----------
        embeddings, where, model
            See the class; `part` and `label` are the same as in `where`.
        k : int
            Cases wanted for each, or studies.
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
            query (its row), rank (from 1), distance (Euclidean), case (its number here), and the table's columns;
            fewer than k rows where there are no more. Of a study, the row of its nearest view, and ``views``.
        """
        k, how = check_whole("k", k), check_choice("studies", studies or "min", ("min", "mean"))
        also = [(name, value) for name, value in (("part", part), ("label", label)) if value is not None]
        asked = [*(where or {}).items(), *also]
        with self._begin(model=model, proof=True) as session:
            queries = as_rows(np.atleast_2d(np.asarray(embeddings)), "embeddings", session.state.dim)
            own = check_names("exclude_patient", exclude_patient, 1 if studies else len(queries))
            k, found = min(k, session.state.rows), (np.empty((0, 0)), np.empty((0, 0), np.int64), None)
            if k and len(queries):
                with self._database.lock:
                    here: InMemory | InPostgres = InPostgres()
                    if not self._database.postgres:
                        if self._held is None or self._held.revision != session.state.revision:
                            self._held = InMemory(session, self._held)
                        here = self._held
                given = (session, queries, k, own, asked)
                found = here.studies(*given, how) if studies else here.views(*given, exact)
            distances, numbers, views = found
            at = query, rank = np.nonzero(numbers >= 0)
            front = (query, rank + 1, distances[at], numbers[at], *([] if views is None else [views[at]]))
            return session.rows_of(numbers[at], dict(zip(RESULT, front, strict=False)))
