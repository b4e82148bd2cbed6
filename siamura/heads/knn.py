"""k nearest neighbours on embeddings, by FAISS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ._keys import as_keys, check_count, read_header
from ._searching import build, measure, nearest, to_device
from ._voting import by_distance, check_prior, shares

# Up to here a full scan answers within a second or so; beyond, a graph; beyond that its memory hurts.
EXACT_UP_TO = 20_000
HNSW_UP_TO = 1_000_000
RELEARN_AT = 4  # times the rows that the lists were learned from: new rows may lie elsewhere
FORMAT = 1


class KNNHead(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
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
    prior : None, "uniform", or array of shape (n_classes,)
        Class frequencies to answer for. None: those of the training rows. Otherwise each vote is multiplied
        by ``prior / training frequency`` of its class, so a rare class is not outvoted by its rarity.
    index : {"auto", "exact", "ivf", "hnsw"} or str
        How neighbours are searched; any other string goes to ``faiss.index_factory``. "auto" is exact up to
        20,000 rows, HNSW up to a million, IVF beyond. Both approximate kinds found over 99 % of the true
        neighbours of embedding-like rows (10 intrinsic dimensions), and about 40 % among rows without any
        structure, where nearness means nothing either.
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

    classes_: NDArray[Any]
    n_features_in_: int
    n_rows_: int
    index_: str
    _rows: NDArray[np.float32]
    _codes: NDArray[np.int64]
    _centre: NDArray[np.float64]
    _groups: NDArray[Any] | None
    _faiss: Any
    _learned_from: int

    def __init__(
        self,
        k: int = 15,
        *,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        weights: Literal["uniform", "distance"] = "uniform",
        prior: Literal["uniform"] | ArrayLike | None = None,
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
        if (keys is None) != (self._groups is None):
            raise ValueError(
                f"groups is {'missing' if keys is None else 'given'}, but earlier rows "
                f"{'had them' if keys is None else 'had none'}; pass groups on every call or on none"
            )
        added = self._project(rows)
        self._rows = np.concatenate([self._rows, added])
        self._codes = np.concatenate([self._codes, codes])
        if keys is not None and self._groups is not None:
            keys = as_keys(keys, len(rows), "groups", like=self._groups)
            self._groups = np.concatenate([self._groups, keys])
        self.n_rows_ = len(self._rows)
        learned = self.index_ not in ("exact", "hnsw")
        if self._kind() == self.index_ and not (learned and self.n_rows_ >= RELEARN_AT * self._learned_from):
            self._faiss.add(added)
        else:
            self._build()
        return self

    def _start(self, rows: NDArray[Any], codes: NDArray[Any], keys: NDArray[Any] | None) -> None:
        # float32 keeps 7 digits: taking the centre away first keeps them for what tells rows apart.
        self._centre = rows.mean(axis=0, dtype=np.float64)
        self._rows = self._project(rows)
        self._codes = codes.astype(np.int64)
        self._groups = keys
        self.n_rows_ = len(rows)
        self._build()

    def _check_settings(self) -> None:
        check_count(self.k, "k")
        for name, allowed in (
            ("metric", ("euclidean", "cosine")),
            ("weights", ("uniform", "distance")),
            ("device", ("cpu", "cuda", "auto")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}")
        if not isinstance(self.index, str):
            raise ValueError(
                f"index is {self.index!r}; it must be auto, exact, ivf, hnsw or a faiss factory string"
            )

    # ------------------------------------------------------------------ the index

    def _project(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Rows as the index holds them: float32, centred (euclidean) or of length 1 (cosine)."""
        if self.metric == "cosine":
            length = np.linalg.norm(rows, axis=1, keepdims=True)
            return np.ascontiguousarray(rows / np.where(length == 0, 1, length), dtype=np.float32)
        return np.ascontiguousarray(rows - self._centre, dtype=np.float32)

    def _kind(self) -> str:
        if self.index != "auto":
            return self.index
        if self.n_rows_ <= EXACT_UP_TO:
            return "exact"
        return "hnsw" if self.n_rows_ <= HNSW_UP_TO else "ivf"

    def _build(self) -> None:
        self.index_ = self._kind()
        self._learned_from = self.n_rows_
        self._place(build(self._rows, self.index_, int(self.k)))

    def _place(self, built: Any) -> None:
        self._faiss, gpu = to_device(built, self.device, self.index_)
        if gpu is not None:
            self._gpu = gpu

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
        wanted = self.k if k is None else k
        check_count(wanted, "k")
        points, own = self._queries(X, groups)
        row = nearest(self._faiss, points, int(wanted), self._groups, own)
        distance = measure(self._rows, points, row, cosine=self.metric == "cosine")
        order = np.argsort(distance, axis=1, kind="stable")
        return np.take_along_axis(distance, order, 1), np.take_along_axis(row, order, 1)

    def _queries(
        self, X: ArrayLike, groups: ArrayLike | None
    ) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
        """Check queries and their patients; the queries as the index wants them."""
        check_is_fitted(self, "classes_")
        queries = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        if groups is None:
            return self._project(queries), None
        if self._groups is None:
            raise ValueError("groups is given, but the head was fitted without; pass fit(X, y, groups=...)")
        return self._project(queries), as_keys(groups, len(queries), "groups", like=self._groups)

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
        row = nearest(self._faiss, points, min(int(self.k), self.n_rows_), self._groups, own)
        there = row >= 0
        if self.weights == "uniform":
            vote = there.astype(np.float64)
        else:
            distance = measure(self._rows, points, row, cosine=self.metric == "cosine")
            vote = by_distance(distance, there)
        counts = np.bincount(self._codes, minlength=len(self.classes_))
        frequency = counts / counts.sum()
        prior = check_prior(self.prior, frequency, self.classes_)
        return shares(vote, self._codes[row], frequency, prior)

    def predict(self, X: ArrayLike, groups: ArrayLike | None = None) -> NDArray[Any]:
        """Class with the largest share; of equals, the first.

        Parameters
        ----------
        X : array of shape (N, dim), float
        groups : array of shape (N,), optional
            The patient of each query; rows of the same patient do not vote.

        Returns
        -------
        ndarray of shape (N,)
        """
        share = self.predict_proba(X, groups=groups)
        return np.asarray(self.classes_[share.argmax(axis=1)])

    # ------------------------------------------------------------------ keeping

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_gpu", None)
        if "_faiss" in state:
            state["_faiss"] = self._serialised()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_faiss" in state:
            self._deserialise(state["_faiss"])

    def _serialised(self) -> NDArray[np.uint8] | None:
        """Return the index as bytes; None where it is rebuilt from the rows at no cost."""
        import faiss

        if self.index_ == "exact":
            return None
        index = self._faiss
        return np.asarray(
            faiss.serialize_index(faiss.index_gpu_to_cpu(index) if hasattr(self, "_gpu") else index)
        )

    def _deserialise(self, kept: NDArray[np.uint8] | None) -> None:
        import faiss

        if kept is None:
            self._build()
        else:
            self._place(faiss.deserialize_index(kept))

    def save(self, folder: str | Path) -> Path:
        """Write ``head.json`` and ``head.npz`` into a folder; nothing is pickled.

        Parameters
        ----------
        folder : str or Path
            Made where missing.

        Returns
        -------
        Path
            The folder.
        """
        check_is_fitted(self, "classes_")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, NDArray[Any]] = {
            "rows": self._rows,
            "codes": self._codes,
            "centre": self._centre,
            "classes": as_keys(self.classes_, len(self.classes_), "classes"),
        }
        if self._groups is not None:
            arrays["groups"] = self._groups
        index = self._serialised()
        if index is not None:
            arrays["index"] = index
        settings = self.get_params()
        if settings["prior"] is not None and not isinstance(settings["prior"], str):
            settings["prior"] = np.asarray(settings["prior"], dtype=float).tolist()
        settings["k"] = int(settings["k"])
        np.savez(folder / "head.npz", **arrays)  # type: ignore[arg-type]
        header = {
            "head": "KNNHead",
            "format": FORMAT,
            "index": self.index_,
            "learned_from": self._learned_from,
            "settings": settings,
        }
        text = json.dumps(header, indent=1)
        (folder / "head.json").write_text(text + "\n")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        folder : str or Path

        Returns
        -------
        KNNHead

        Raises
        ------
        FileNotFoundError
            Where the folder holds no head.
        ValueError
            Where it holds another head, or one of a later format.
        """
        folder = Path(folder)
        header = read_header(folder, "KNNHead", FORMAT)
        head = cls(**header["settings"])
        with np.load(folder / "head.npz", allow_pickle=False) as arrays:
            head.classes_ = arrays["classes"]
            head._rows, head._codes, head._centre = arrays["rows"], arrays["codes"], arrays["centre"]
            head._groups = arrays.get("groups")
            kept = arrays.get("index")
        head.n_rows_, head.n_features_in_ = head._rows.shape
        head.index_ = header["index"]
        head._deserialise(kept)
        head._learned_from = header["learned_from"]
        return head
