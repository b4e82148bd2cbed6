"""k nearest neighbours on embeddings, by FAISS."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from siamura._arrays import load_npz
from siamura._files import atomic_path
from siamura._validation import check_choice, check_whole
from siamura.neighbours import Neighbours

from ._base import Head
from ._keys import as_keys, codes_of
from ._voting import by_distance, check_prior, plain_prior, shares

log = logging.getLogger(__name__)

# Numbers held (rows times dim) beyond which a search of them all takes over a tenth of a second a query.
SLOW = 2_000_000 * 128
_MOST_ANSWERS = 100_000_000  # distances and rows of one call of kneighbors, most of them of no row


class KNNHead(Head):
    """Probability of each class from the k nearest training embeddings.

    A query's own patient can be kept out of the vote: pass ``groups`` (one patient a row) to both ``fit``
    and ``predict_proba``. Predicting the training rows that way is leave-one-patient-out.

    Parameters
    ----------
    k : int
        Neighbours that vote. Where fewer are there (or are of other patients), those vote.
    metric : {"euclidean", "cosine"}
        On L2-normalised embeddings both give the same order.
    weights : {"uniform", "distance"}
        One vote each, or a vote of 1 / distance. A training row at distance 0 silences all others.
    prior : None, "uniform", mapping of class to float, or array of shape (n_classes,)
        Class frequencies to answer for. None: those of the training rows. Otherwise each vote is multiplied
        by ``prior / training frequency`` of its class, so a rare class is not outvoted by its rarity. A
        mapping names every class; an array has their order in `classes_`.
    index : {"auto", "exact", "ivf", "hnsw"} or str
        How neighbours are searched; any other string goes to ``faiss.index_factory``. "auto" is exact: 20,000
        queries among 20,000 rows of 128 numbers take half of scikit-learn's time, one query among 200,000
        some 10 ms on one core. All kinds but "auto" and "exact" are approximate: the share of the true
        neighbours that they find is measured when they are built, kept as `recall_` and logged.
    device : {"cpu", "cuda", "auto"}
        Where the search runs. "cuda" needs a faiss built for GPUs; "auto" takes a GPU if faiss has one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    n_rows_ : int
        Training rows held.
    index_ : str
        The kind of index in use ("exact", "ivf", "hnsw", or the factory string).
    recall_ : float or None
        Share of the 15 true nearest rows that an approximate index finds; None where the search is exact.

    Notes
    -----
    ``groups`` and scikit-learn: by default (metadata routing off) ``GridSearchCV(..., cv=GroupKFold()).fit(X,
    y, groups=g)`` hands ``groups`` to the splitter alone. A grouped splitter already parts the patients, so
    the head needs none. To hand them to the head as well, switch routing on
    (``sklearn.set_config(enable_metadata_routing=True)``) and ask for them with
    ``KNNHead().set_fit_request(groups=True).set_predict_proba_request(groups=True)``. In a ``Pipeline``
    without routing: ``pipe.fit(X, y, knn__groups=g)`` and ``pipe.predict_proba(X, groups=g)``.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [0.1], [0.2], [1.0], [1.1]])
    >>> y = np.array([0, 0, 0, 1, 1])
    >>> head = KNNHead(k=3).fit(X, y)
    >>> head.predict_proba([[0.95]]).round(2)
    array([[0.33, 0.67]])
    >>> own = KNNHead(k=1).fit(X, y, groups=["a", "b", "b", "c", "c"])
    >>> own.predict(X, groups=["a", "b", "b", "c", "c"])  # nobody votes for herself
    array([0, 0, 0, 0, 0])
    """

    _format = 2
    n_features_in_: int
    _held: Neighbours
    _codes: NDArray[np.int64]
    _centre: NDArray[np.float64]
    _patients: NDArray[Any] | None  # the patients by code

    def __init__(
        self,
        k: int = 15,
        *,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        weights: Literal["uniform", "distance"] = "uniform",
        prior: Literal["uniform"] | Mapping[Any, float] | ArrayLike | None = None,
        index: str = "auto",
        device: Literal["cpu", "cuda", "auto"] = "cpu",
    ) -> None:
        self.k = k
        self.metric = metric
        self.weights = weights
        self.prior = prior
        self.index = index
        self.device = device

    # ------------------------------------------------------------------ fitting

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Keep the training rows and index them.

        Parameters
        ----------
        X : array of shape (N, dim), float
        y : array of shape (N,)
        groups : array of shape (N,), optional
            The patient of each row (strings or integers).

        Returns
        -------
        KNNHead
            Itself.
        """
        self._check_settings()
        rows, labels = validate_data(self, X, y, dtype=(np.float64, np.float32))
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self._start(rows, codes, None if groups is None else as_keys(groups, len(rows), "groups"))
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Add rows to those already held.

        Parameters
        ----------
        X : array of shape (N, dim), float
        y : array of shape (N,)
        classes : array of shape (n_classes,), optional
            All classes that will ever come; read on the first call only. Default: those in `y`.
        groups : array of shape (N,), optional
            The patient of each row; on every call or on none.

        Returns
        -------
        KNNHead
            Itself.

        Raises
        ------
        ValueError
            Where a class is new after the first call, or groups are given on some calls only.
        """
        self._check_settings()
        first = not hasattr(self, "classes_")
        rows, labels = validate_data(self, X, y, dtype=(np.float64, np.float32), reset=first)
        check_classification_targets(labels)
        known = np.unique(labels if classes is None else np.asarray(classes)) if first else self.classes_
        new = np.setdiff1d(labels, known)
        if len(new):
            raise ValueError(
                f"y holds the class {new[0]!r}, which is not among the classes {known.tolist()}; "
                "name all classes on the first call: partial_fit(X, y, classes=[...])"
            )
        keys = None if groups is None else as_keys(groups, len(rows), "groups")
        codes = np.searchsorted(known, labels)
        if first:
            self.classes_ = known
            self._start(rows, codes, keys)
            return self
        if (keys is None) != (self._patients is None):
            raise ValueError(
                f"groups is {'missing' if keys is None else 'given'}, but earlier rows "
                f"{'had them' if keys is None else 'had none'}; pass groups on every call or on none"
            )
        patient = None
        if keys is not None and self._patients is not None:
            keys = as_keys(keys, len(rows), "groups", like=self._patients)
            unknown = np.unique(keys[codes_of(self._patients, keys) < 0])
            self._patients = np.concatenate([self._patients, unknown])
            patient = codes_of(self._patients, keys)
        self._held.add(self._project(rows), patient)
        self._codes = np.concatenate([self._codes, codes])
        return self

    def _start(self, rows: NDArray[Any], codes: NDArray[Any], keys: NDArray[Any] | None) -> None:
        check_prior(self.prior, np.full(len(self.classes_), 1 / len(self.classes_)), self.classes_)
        # float32 keeps 7 digits: taking the centre away first keeps them for what tells rows apart.
        self._centre = rows.mean(axis=0, dtype=np.float64)
        self._codes = codes.astype(np.int64)
        self._patients = None if keys is None else np.unique(keys)
        patient = None if self._patients is None or keys is None else codes_of(self._patients, keys)
        self._held = Neighbours(self._project(rows), patient, kind=self._kind(), device=self.device)
        if self.k > len(rows):
            log.warning(
                "k=%d is more than the %d training rows: all of them vote, and every query of no patient has the "
                "classes' frequencies; give a smaller k.",
                self.k,
                len(rows),
            )
        if self.index == "auto" and self._held.rows.size > SLOW:
            log.info(
                "%s rows of %d numbers are searched exactly; index='ivf' or 'hnsw' would answer sooner, and say how "
                "many of the true neighbours it finds.",
                f"{len(rows):,}",
                rows.shape[1],
            )

    def _check_settings(self) -> None:
        check_whole("k", self.k)
        check_choice("metric", self.metric, ("euclidean", "cosine"))
        check_choice("weights", self.weights, ("uniform", "distance"))
        check_choice("device", self.device, ("cpu", "cuda", "auto"))
        if not isinstance(self.index, str):
            raise ValueError(
                f"index={self.index!r} is unknown; choose auto, exact, ivf, hnsw or a faiss factory string."
            )

    # ------------------------------------------------------------------ the index

    def _project(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Rows as the index holds them: float32, centred (euclidean) or of length 1 (cosine)."""
        if self.metric == "cosine":
            length = np.linalg.norm(rows, axis=1, keepdims=True)
            return np.ascontiguousarray(rows / np.where(length == 0, 1, length), dtype=np.float32)
        return np.ascontiguousarray(rows - self._centre, dtype=np.float32)

    def _kind(self) -> str:
        return "exact" if self.index == "auto" else self.index

    @property
    def index_(self) -> str:
        """The kind of index in use."""
        check_is_fitted(self, "classes_")
        return self._held.kind

    @property
    def recall_(self) -> float | None:
        """Share of the true nearest rows that the index finds; None where the search is exact."""
        check_is_fitted(self, "classes_")
        return self._held.recall

    @property
    def n_rows_(self) -> int:
        """Training rows held."""
        check_is_fitted(self, "classes_")
        return len(self._held)

    # ------------------------------------------------------------------ answering

    def kneighbors(
        self, X: ArrayLike, k: int | None = None, groups: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Nearest training rows of each query, its own patient left out.

        Parameters
        ----------
        X : array of shape (N, dim), float
        k : int, optional
            How many; default the head's own.
        groups : array of shape (N,), optional
            The patient of each query.

        Returns
        -------
        distance : ndarray of shape (N, k), float64
            Ascending; euclidean, or 1 - cosine. Infinity where there is no such neighbour.
        row : ndarray of shape (N, k), int64
            Position of the training row; -1 where there is none.

        Raises
        ------
        ValueError
            Where `k` is no integer of at least 1, or groups are given to a head that was fitted without.
        """
        wanted = check_whole("k", self.k if k is None else k)
        points, own = self._queries(X, groups)
        if wanted > self.n_rows_ and wanted * len(points) > _MOST_ANSWERS:
            raise ValueError(
                f"k={wanted} of {len(points)} queries is more than memory is for; the head holds {self.n_rows_} rows, "
                "and what lies beyond them would be empty."
            )
        distance, row = self._held.search(points, wanted, groups=own)
        return (distance**2 / 2 if self.metric == "cosine" else distance), row

    def _queries(
        self, X: ArrayLike, groups: ArrayLike | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        """Check queries and their patients; the queries as the index wants them, the patients' codes."""
        check_is_fitted(self, "classes_")
        queries = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        if groups is None:
            return self._project(queries), None
        if self._patients is None:
            raise ValueError("groups is given, but the head was fitted without; pass fit(X, y, groups=...)")
        keys = as_keys(groups, len(queries), "groups", like=self._patients)
        return self._project(queries), codes_of(self._patients, keys)

    def predict_proba(self, X: ArrayLike, groups: ArrayLike | None = None) -> NDArray[np.float64]:
        """Share of each class among the neighbours' votes.

        Parameters
        ----------
        X : array of shape (N, dim), float
        groups : array of shape (N,), optional
            The patient of each query; rows of the same patient do not vote.

        Returns
        -------
        ndarray of shape (N, n_classes), float64
            Rows sum to 1. Where nobody may vote, the class frequencies answered for.
        """
        points, own = self._queries(X, groups)
        distance, row = self._held.search(points, min(check_whole("k", self.k), self.n_rows_), groups=own)
        there = row >= 0
        if self.weights == "uniform":
            vote = there.astype(np.float64)
        else:
            vote = by_distance(distance**2 / 2 if self.metric == "cosine" else distance, there)
        counts = np.bincount(self._codes, minlength=len(self.classes_))
        frequency = counts / counts.sum()
        prior = check_prior(self.prior, frequency, self.classes_)
        return shares(vote, self._codes[row], frequency, prior)

    # ------------------------------------------------------------------ keeping

    def _write(self, folder: Path) -> dict[str, Any]:
        arrays: dict[str, NDArray[Any]] = {
            "rows": self._held.rows,
            "codes": self._codes,
            "centre": self._centre,
            "classes": as_keys(self.classes_, len(self.classes_), "classes"),
        }
        if self._patients is not None and self._held.groups is not None:
            arrays["groups"] = self._patients[self._held.groups]
        if (index := self._held.to_bytes()) is not None:
            arrays["index"] = index
        with atomic_path(folder / "head.npz") as beside:
            np.savez(beside, **arrays)  # type: ignore[arg-type]
        settings = {**self.get_params(), "prior": plain_prior(self.prior), "k": int(self.k)}
        return {"index": self.index_, "recall": self.recall_, "settings": settings}

    def _read(self, folder: Path, header: dict[str, Any]) -> None:
        if isinstance(self.prior, list) and self.prior and isinstance(self.prior[0], list):
            self.prior = dict(self.prior)  # pairs, as JSON has no such mapping
        self._check_settings()
        shapes = {"rows": (None, None), "codes": (None,), "centre": (None,), "classes": (None,)}
        shapes |= {"groups": (None,), "index": (None,)}
        kinds = {"rows": "f", "codes": "i", "centre": "f", "index": "u"}
        path = folder / "head.npz"
        arrays = load_npz(path, shapes, optional=("groups", "index"), kinds=kinds)
        rows, codes, keys = arrays["rows"], arrays["codes"].astype(np.int64), arrays.get("groups")
        self.classes_, self._centre = arrays["classes"], arrays["centre"].astype(np.float64)
        if not np.isfinite(self._centre).all():
            raise ValueError(f"{path}: centre holds NaN or infinity; save the head anew")
        whole = len(rows) and len(codes) == len(rows) and len(self._centre) == rows.shape[1]
        if not whole or codes.min() < 0 or codes.max() >= len(self.classes_):
            raise ValueError(
                f"{path}: {len(rows)} rows and {len(codes)} codes of {len(self.classes_)} classes do not belong "
                "together; save the head anew"
            )
        self.n_features_in_, self._codes = rows.shape[1], codes
        check_prior(self.prior, np.full(len(self.classes_), 1 / len(self.classes_)), self.classes_)
        self._patients = None if keys is None else np.unique(as_keys(keys, len(rows), "groups"))
        self._held = Neighbours(
            rows,
            None if self._patients is None or keys is None else codes_of(self._patients, keys),
            kind=self._kind(),
            device=self.device,
            kept=arrays.get("index"),
            recall=header["recall"] if header["format"] > 1 else None,
        )
