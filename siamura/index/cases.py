"""CaseIndex: which earlier cases look like this one."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from . import nearest
from .files import (
    FILES,
    LABEL,
    PART,
    PATIENT,
    DamagedIndex,
    Manifest,
    Segment,
    crc32,
    csv_lines,
    digest64,
    locked,
    read_lines,
    sync,
    write_segment,
)
from .fingerprints import Fingerprint, as_fingerprint
from .recovery import recovered

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CaseIndex"]

_REQUIRED = ("path", "part", "patient", "study", "label")
#: Columns of a search's result that are not the table's.
_RESULT = ("query", "rank", "distance", "case")
#: The inverted file is made anew when this share of the cases is not in it.
_STALE = 0.25

log = logging.getLogger(__name__)


class CaseIndex:
    """Embeddings with their study rows, kept in a folder and searched there.

    Opening maps the files and reads none of them whole. Up to `exact_up_to` cases the search compares with
    every one; beyond, it asks a memory-mapped FAISS inverted file, whose `recall` is measured as it is made.
    Cases are only ever added: each addition is a new segment, written beside and renamed, and counts once the
    manifest names it. A kill at any moment leaves either the old index or the new one. Several processes may
    read while one adds; two that add wait for each other.

    Made by `create`, opened again by `open`.

    Attributes
    ----------
    folder : Path
    dim : int
    fingerprint : dict or None
        Of the network and preprocessing that made the embeddings (see `siamura.index.fingerprint`).
    recall : float or None
        Share of the 15 true nearest that the inverted file finds; None while the search is exact.

    Examples
    --------
    >>> import tempfile, numpy as np, pandas as pd
    >>> table = pd.DataFrame({
    ...     "path": ["a.png", "b.png", "c.png"], "part": "XR_HAND", "patient": ["1", "2", "2"],
    ...     "study": ["study1"] * 3, "label": [0, 1, 1]})
    >>> index = CaseIndex.create(tempfile.mkdtemp() + "/cases", dim=2)
    >>> index.add([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], table)
    3
    >>> index.search([0.9, 0.0], k=2)[["rank", "distance", "path", "label"]]
       rank  distance   path  label
    0     1       0.1  b.png      1
    1     2       0.9  a.png      0
    >>> index.search([0.9, 0.0], k=2, exclude_patient="2")["path"].tolist()
    ['a.png']
    """

    def __init__(self, folder: Path, manifest: Manifest, proven: bool) -> None:
        self.folder = folder
        self._proven = proven
        self._load(manifest)

    # -- making and opening ----------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        dim: int | None = None,
        *,
        model: nn.Module | Mapping[str, str] | None = None,
        exact_up_to: int = 50_000,
    ) -> Self:
        """Make an empty index.

        Parameters
        ----------
        folder : path
            Must not exist, or be empty.
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
            If the folder holds anything.
        ValueError
            If `dim` is missing or impossible.
        """
        folder = Path(folder)
        dim = getattr(model, "dim", None) if dim is None else dim
        if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool) or dim < 1:
            raise ValueError(
                f"dim={dim!r}; give the embeddings' dimensions, or model=, a network that knows its own."
            )
        if exact_up_to < 0:
            raise ValueError(f"exact_up_to={exact_up_to} must be at least 0.")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(
                f"{folder} exists and is not empty; open it by CaseIndex.open, or choose another."
            )
        folder.mkdir(parents=True, exist_ok=True)
        manifest = Manifest(int(dim), as_fingerprint(model), int(exact_up_to))
        manifest.write(folder)
        return cls(folder, manifest, proven=True)

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], *, model: nn.Module | Mapping[str, str] | None = None
    ) -> Self:
        """Open an index that exists.

        Parameters
        ----------
        folder : path
        model : torch.nn.Module or fingerprint, optional
            What makes the embeddings that will be asked for or added. Needed, here or in `search` and `add`,
            wherever the index was created with a model.

        Raises
        ------
        FileNotFoundError
            If the folder holds no index.
        DamagedIndex
            If a file is missing, cut short or something else's.
        ValueError
            If the index belongs to another network or preprocessing.
        """
        folder = Path(folder)
        index = cls(folder, Manifest.read(folder), proven=False)
        if model is not None:
            index._check_model(model)
            index._proven = True
        return index

    @classmethod
    def recover(cls, folder: str | os.PathLike[str]) -> Self:
        """Open a damaged index with every segment that is whole, all files read and compared.

        Damaged segments are renamed ``damaged-...`` and kept; nothing is deleted.

        Parameters
        ----------
        folder : path

        Raises
        ------
        FileNotFoundError
            If the folder holds neither a manifest nor a segment.
        ValueError
            If whole segments are left but the manifest is lost and they disagree with each other.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder.")
        with locked(folder):
            manifest = recovered(folder)
        return cls(folder, manifest, proven=False)

    def refresh(self) -> Self:
        """See what other processes have added since."""
        self._load(Manifest.read(self.folder))
        return self

    def _load(self, manifest: Manifest) -> None:
        while True:
            try:
                segments = [
                    Segment.open(self.folder / facts["name"], facts, manifest.dim)
                    for facts in manifest.segments
                ]
                break
            except DamagedIndex:
                # Another process may just have taken these segments into a larger one.
                newer = Manifest.read(self.folder)
                if newer == manifest:
                    raise
                manifest = newer
        self._manifest, self._segments = manifest, segments
        self._inverted: Any = None
        if (facts := manifest.nearest) is not None:
            path = self.folder / facts["name"]
            try:
                if not path.is_file() or path.stat().st_size != facts["bytes"]:
                    raise ValueError(f"{path} is missing or has another size than was written")
                self._inverted = nearest.open_inverted(path, facts["rows"], manifest.dim)
            except ValueError as error:
                # It can be made again from the cases, which are whole: slower until then, and no worse.
                log.warning("%s; searching every case until the next addition makes it again.", error)

    # -- what it holds ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._manifest.rows

    def __repr__(self) -> str:
        how = "exact" if self._inverted is None else f"inverted file, recall {self.recall:.3f}"
        return f"CaseIndex({str(self.folder)!r}, cases={len(self)}, dim={self.dim}, search={how})"

    @property
    def dim(self) -> int:
        """Dimensions of the embeddings."""
        return self._manifest.dim

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Of the network and preprocessing that made the embeddings."""
        return self._manifest.fingerprint

    @property
    def recall(self) -> float | None:
        """Share of the true nearest that the inverted file finds; None while the search is exact."""
        facts = self._manifest.nearest
        return None if self._inverted is None or facts is None else float(facts["recall"])

    @property
    def table(self) -> pd.DataFrame:
        """All rows, in the order added. Reads the whole table."""
        return read_lines([line for s in self._segments for line in s.lines()], self._manifest.columns)

    def embeddings(self, cases: ArrayLike | None = None) -> NDArray[np.float32]:
        """Vectors of the given cases (the result's ``case``), or of all: float32 (n, dim)."""
        numbers = np.arange(len(self)) if cases is None else np.asarray(cases, dtype=np.int64).reshape(-1)
        if ((numbers < 0) | (numbers >= len(self))).any():
            raise ValueError(f"cases has numbers outside 0 to {len(self) - 1}.")
        if not numbers.size:
            return np.empty((0, self.dim), np.float32)
        return nearest.gather(self._segments, numbers)

    def verify(self) -> None:
        """Read every file whole and compare it with what was written.

        Raises
        ------
        DamagedIndex
            Naming the first file that differs.
        """
        for facts in self._manifest.segments:
            for name in FILES:
                path = self.folder / facts["name"] / name
                if crc32(path) != facts["files"][name]["crc32"]:
                    raise DamagedIndex(path, "differs from what was written")

    # -- adding ----------------------------------------------------------------------------------------------

    def add(
        self,
        embeddings: ArrayLike,
        table: pd.DataFrame,
        *,
        model: nn.Module | Mapping[str, str] | None = None,
    ) -> int:
        """Add cases; when this returns they are on the disk.

        Parameters
        ----------
        embeddings : array (n, dim), float
        table : DataFrame, n rows
            Columns path, part, patient, study, label (0 or 1), and any others of text, numbers or truth
            values; every addition has the same columns.
        model : torch.nn.Module or fingerprint, optional
            What made them, if `open` was not told.

        Returns
        -------
        int
            Cases held now.

        Raises
        ------
        ValueError
            If the embeddings are of another model or shape, or not finite, or the table does not fit.
        """
        vectors = self._vectors(embeddings, "embeddings")
        if len(vectors) != len(table):
            raise ValueError(
                f"embeddings has {len(vectors)} rows and table {len(table)}; one row a case is needed."
            )
        self._require_proof(model)
        columns = _columns(table)
        if not len(table):
            return len(self)
        values = [table[name].tolist() for name in columns]
        lines = csv_lines(list(zip(*values, strict=True)))
        keys = np.empty((len(table), 3), np.int64)
        keys[:, PART], keys[:, PATIENT] = digest64(table["part"]), digest64(table["patient"])
        keys[:, LABEL] = table["label"].to_numpy(np.int64)
        with locked(self.folder):
            self.refresh()
            manifest = self._manifest
            if manifest.columns and manifest.columns != columns:
                raise ValueError(
                    f"table has columns {columns}; this index holds {manifest.columns}. Make them agree."
                )
            # Segments no larger than what is added are taken into it: there are ever about log(n) of them,
            # and each case is copied about log(n) times.
            kept, parts = list(manifest.segments), [(vectors, keys, lines)]
            taken, first = len(vectors), manifest.serial
            while kept and kept[-1]["rows"] <= taken and kept[-1]["first"] + kept[-1]["rows"] == first:
                old = self._segments[len(kept) - 1]
                parts.insert(0, (old.vectors, old.keys, old.lines()))
                taken, first = taken + len(old), kept.pop()["first"]
            name = f"segment-{manifest.number:06d}"
            self._sweep()
            about = {
                "dim": manifest.dim,
                "fingerprint": manifest.fingerprint,
                "exact_up_to": manifest.exact_up_to,
                "columns": columns,
            }
            facts = write_segment(self.folder, name, first, parts, about)
            changed = Manifest(
                **{
                    **manifest.__dict__,
                    "columns": columns,
                    "segments": [*kept, facts],
                    "serial": manifest.serial + len(vectors),
                    "number": manifest.number + 1,
                }
            )
            changed.write(self.folder)
            self._load(changed)
            self._renew_inverted()
            self._sweep()
        return len(self)

    def _renew_inverted(self) -> None:
        """Make the inverted file where there are enough cases and too few of them are in it."""
        manifest = self._manifest
        covered = 0 if self._inverted is None else self._inverted.ntotal
        if len(self) <= manifest.exact_up_to or len(self) - covered <= _STALE * covered:
            return
        name = f"nearest-{manifest.number:06d}.faiss"
        beside = self.folder / f"{name}.part"
        nearest.build_inverted(self._segments, beside)
        sync(beside)
        made = nearest.open_inverted(beside, len(self), self.dim)
        nprobe, recall = nearest.measure_recall(made, self._segments)
        beside.rename(self.folder / name)
        facts = {"name": name, "rows": len(self), "nprobe": nprobe, "recall": recall}
        facts["bytes"] = (self.folder / name).stat().st_size
        changed = Manifest(**{**manifest.__dict__, "nearest": facts, "number": manifest.number + 1})
        changed.write(self.folder)
        self._load(changed)

    def _sweep(self) -> None:
        """Remove what no manifest names: additions that were cut off, segments taken into larger ones."""
        named = {facts["name"] for facts in self._manifest.segments}
        if self._manifest.nearest is not None:
            named.add(self._manifest.nearest["name"])
        for path in [*self.folder.glob("segment-*"), *self.folder.glob("nearest-*")]:
            if path.name in named:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    # -- searching -------------------------------------------------------------------------------------------

    def search(
        self,
        embeddings: ArrayLike,
        k: int = 15,
        *,
        part: str | Sequence[str] | None = None,
        label: int | None = None,
        exclude_patient: str | Sequence[str] | None = None,
        exact: bool = False,
        model: nn.Module | Mapping[str, str] | None = None,
    ) -> pd.DataFrame:
        """Find the nearest cases.

        Parameters
        ----------
        embeddings : array (dim,) or (m, dim), float
        k : int
            Cases wanted for each.
        part : str or sequence of str, optional
            Body parts that may be found.
        label : int, optional
            Label that may be found.
        exclude_patient : str or sequence of str, optional
            The query's own patient, one for all queries or one for each: their cases are not found.
        exact : bool
            Compare with every case, however many there are.
        model : torch.nn.Module or fingerprint, optional
            What made the embeddings, if `open` was not told.

        Returns
        -------
        DataFrame
            query (its row), rank (from 1), distance (Euclidean), case (its number here), and the table's
            columns; fewer than k rows for a query where there are no more cases.

        Raises
        ------
        ValueError
            If the embeddings are of another model or shape, or not finite, or an argument makes no sense.
        """
        queries = self._vectors(embeddings, "embeddings")
        self._require_proof(model)
        if not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"k={k!r} must be a whole number of at least 1.")
        patients = self._excluded(exclude_patient, len(queries))
        distance, number = self._search(
            queries, min(int(k), len(self)), self._allowed(part, label), patients, exact
        )
        query, rank = np.nonzero(number >= 0)
        found = number[query, rank]
        rows = self._rows(found)
        front = dict(zip(_RESULT, (query, rank + 1, distance[query, rank], found), strict=True))
        return pd.concat([pd.DataFrame(front), rows], axis=1)

    def _search(
        self,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.bool_] | None,
        patients: NDArray[np.int64] | None,
        exact: bool,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        within = len(self) if allowed is None else int(np.count_nonzero(allowed))
        if exact or self._inverted is None or within <= self._manifest.exact_up_to or not len(queries):
            return nearest.exact_search(queries, k, self._segments, allowed, patients)
        covered = self._inverted.ntotal
        assert self._manifest.nearest is not None
        # Where only a share of the cases may be found, as many more lists hold the same number of candidates.
        nprobe = int(self._manifest.nearest["nprobe"] * len(self) / within)
        near = np.full((len(queries), k), -1, np.int64)
        keys = np.concatenate([s.keys[:, PATIENT] for s in self._segments])[:covered]
        for own in [None] if patients is None else np.unique(patients):
            mine = slice(None) if own is None else np.flatnonzero(patients == own)
            mask = None if allowed is None else allowed[:covered]
            if own is not None:
                others = keys != own
                mask = others if mask is None else mask & others
            near[mine] = nearest.inverted_search(self._inverted, queries[mine], k, nprobe, mask)
        # What was added since the inverted file was made is compared one by one.
        number = np.hstack(
            [near, nearest.exact_search(queries, k, self._segments, allowed, patients, covered)[1]]
        )
        distance, number = nearest.rescore(queries, number, k, self._segments)
        short = np.flatnonzero((number < 0).any(axis=1))  # the lists asked held too few that may be found
        if short.size:
            own_short = None if patients is None else patients[short]
            distance[short], number[short] = nearest.exact_search(
                queries[short], k, self._segments, allowed, own_short
            )
        return distance, number

    def _allowed(self, part: str | Sequence[str] | None, label: int | None) -> NDArray[np.bool_] | None:
        if part is None and label is None:
            return None
        allowed = np.ones(len(self), dtype=bool)
        first = 0
        for segment in self._segments:
            here = allowed[first : first + len(segment)]
            if part is not None:
                here &= np.isin(segment.keys[:, PART], digest64([part] if isinstance(part, str) else part))
            if label is not None:
                here &= segment.keys[:, LABEL] == label
            first += len(segment)
        return allowed

    @staticmethod
    def _excluded(patient: str | Sequence[str] | None, queries: int) -> NDArray[np.int64] | None:
        if patient is None:
            return None
        names = [patient] * queries if isinstance(patient, str) else list(patient)
        if len(names) != queries:
            raise ValueError(
                f"exclude_patient names {len(names)} patients for {queries} queries; give one for each."
            )
        return digest64(names) if names else np.empty(0, np.int64)

    def _rows(self, numbers: NDArray[np.int64]) -> pd.DataFrame:
        edges = np.cumsum([0, *map(len, self._segments)])
        where = np.searchsorted(edges, numbers, side="right") - 1
        lines = [self._segments[s].line(n - edges[s]) for s, n in zip(where, numbers, strict=True)]
        columns = self._manifest.columns or dict.fromkeys(_REQUIRED[:-1], "str") | {"label": "int64"}
        return read_lines(lines, columns)

    # -- checks ----------------------------------------------------------------------------------------------

    def _vectors(self, embeddings: ArrayLike, name: str) -> NDArray[np.float32]:
        vectors = np.ascontiguousarray(embeddings, dtype=np.float32)
        if vectors.ndim == 1:
            vectors = vectors[None]
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ValueError(
                f"{name} has shape {np.shape(embeddings)}; this index holds {self.dim} dimensions a case."
            )
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if bad.size:
            raise ValueError(f"{name} is not finite in {bad.size} rows, the first of them row {bad[0]}.")
        return vectors

    def _require_proof(self, model: nn.Module | Mapping[str, str] | None) -> None:
        if model is not None:
            self._check_model(model)
        elif self.fingerprint is not None and not self._proven:
            raise ValueError(
                "model is missing: this index answers only to the network and preprocessing that made it. "
                "Pass model=network here, or to CaseIndex.open."
            )

    def _check_model(self, model: nn.Module | Mapping[str, str]) -> None:
        given, own = as_fingerprint(model), self.fingerprint
        if own is None or given is None or given == own:
            return
        what = [name for name in ("model", "preprocessing") if given[name] != own[name]]
        raise ValueError(
            f"another {' and '.join(what)} made these embeddings than those in {self.folder} (fingerprint "
            f"{given} instead of {own}); their distances mean nothing. Embed with the network that made "
            "the index, or make a new index."
        )


def _columns(table: pd.DataFrame) -> dict[str, str]:
    """Columns and their kinds, checked."""
    missing = [name for name in _REQUIRED if name not in table]
    if missing:
        raise ValueError(f"table lacks the column {missing[0]!r}; it needs {', '.join(_REQUIRED)}.")
    columns: dict[str, str] = {}
    for name in table.columns:
        if not isinstance(name, str) or name in _RESULT:
            raise ValueError(f"table has a column {name!r}, a name that results use themselves; rename it.")
        kind = table[name].dtype.kind
        columns[name] = {"b": "bool", "i": "int64", "u": "int64", "f": "float64"}.get(kind, "str")
        if columns[name] == "str" and not table[name].map(lambda value: isinstance(value, str)).all():
            raise ValueError(f"column {name!r} of table holds something else than text; fill or convert it.")
    if columns["label"] != "int64":
        raise ValueError(f"column 'label' of table is {table['label'].dtype}; whole numbers are needed.")
    for name in _REQUIRED[:-1]:
        if columns[name] != "str":
            raise ValueError(f"column {name!r} of table is {table[name].dtype}; text is needed.")
    return columns
