"""CaseIndex: which earlier cases look like this one."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from . import nearest
from .adding import grown, is_stale, sweep, with_inverted
from .columns import RESULT, checked_columns
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
)
from .fingerprints import Fingerprint, as_fingerprint
from .recovery import recovered
from .searching import Wanted, allowed_cases, own_patients, rows_of

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CaseIndex"]

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
        manifest = Manifest(int(dim), as_fingerprint(model), int(exact_up_to))
        folder.mkdir(parents=True, exist_ok=True)
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
            except (DamagedIndex, FileNotFoundError):
                # Another process may just have taken these segments into a larger one, and may remove them
                # between our look at a file and our opening it.
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
        """Vectors of the given cases (whole numbers, the result's ``case``), or of all: float32 (n, dim)."""
        numbers = np.arange(len(self)) if cases is None else np.asarray(cases).reshape(-1)
        if numbers.size and numbers.dtype.kind not in "iu":  # a mask would be taken for cases 0 and 1
            raise ValueError(f"cases holds {numbers.dtype}; give whole numbers, the result's 'case'.")
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
        columns = checked_columns(table)
        if not len(table):
            return len(self)
        lines = csv_lines(
            list(zip(*(_plain(table[name], kind) for name, kind in columns.items()), strict=True))
        )
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
            sweep(self.folder, manifest)
            self._load(grown(self.folder, manifest, self._segments, (vectors, keys, lines), columns))
            covered = 0 if self._inverted is None else self._inverted.ntotal
            if is_stale(self._manifest, covered):
                self._load(with_inverted(self.folder, self._manifest, self._segments))
            sweep(self.folder, self._manifest)
        return len(self)

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
        if label is not None and not isinstance(label, (int, np.integer)):
            raise ValueError(f"label={label!r} must be a whole number, 0 or 1.")
        patients = own_patients(exclude_patient, len(queries))
        allowed = allowed_cases(self._segments, part, label)
        wanted = Wanted(queries, min(int(k), len(self)), allowed, patients)
        if exact or self._inverted is None or wanted.within(len(self)) <= self._manifest.exact_up_to:
            distance, number = wanted.exactly(self._segments)
        else:
            assert self._manifest.nearest is not None
            distance, number = wanted.nearly(self._segments, self._inverted, self._manifest.nearest["nprobe"])
        query, rank = np.nonzero(number >= 0)
        found = number[query, rank]
        rows = rows_of(self._segments, found, self._manifest.columns)
        front = dict(zip(RESULT, (query, rank + 1, distance[query, rank], found), strict=True))
        return pd.concat([pd.DataFrame(front), rows], axis=1)

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


def _plain(column: pd.Series, kind: str) -> list[Any]:
    """Give a column's values as CSV can keep them: a missing float, of whatever type, is NaN."""
    values: list[Any] = (
        column.to_numpy(np.float64, na_value=np.nan) if kind == "float64" else column
    ).tolist()
    return values
