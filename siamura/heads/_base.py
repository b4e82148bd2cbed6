"""What both heads share: the answer by the largest probability, and a folder to be kept in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from siamura._files import atomic_write

_MOST_BYTES = 16_000_000


class StoredHead(BaseEstimator):  # type: ignore[misc]
    """What a head is kept as: settings and arrays in a folder, without pickle."""

    _format = 1  # the newest form of head.json that is read, and the one that is written
    classes_: NDArray[Any]

    def _write(self, folder: Path) -> dict[str, Any]:
        """Write the arrays into a folder; return what the header holds of the rest."""
        raise NotImplementedError

    def _read(self, folder: Path, header: dict[str, Any]) -> None:
        """Take what `_write` wrote; the settings are there already."""
        raise NotImplementedError

    def save(self, folder: str | Path) -> Path:
        """Write ``head.json`` and the head's arrays into a folder; nothing is pickled.

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
        header = {"head": type(self).__name__, "format": self._format, **self._write(folder)}
        atomic_write(folder / "head.json", json.dumps(header, indent=1) + "\n")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        folder : str or Path

        Returns
        -------
        KNNHead, MLPHead or StudyAttention

        Raises
        ------
        FileNotFoundError
            Where the folder holds no head.
        ValueError
            Where it holds another head, one of a later format, or a damaged file.
        """
        folder = Path(folder)
        header = _read_header(folder / "head.json", cls.__name__, cls._format)
        settings, known = header.get("settings"), set(cls().get_params())
        if not isinstance(settings, dict) or set(settings) != known:
            odd = sorted(set(settings) ^ known) if isinstance(settings, dict) else ["settings"]
            raise ValueError(
                f"{folder / 'head.json'}: its settings are not those of {cls.__name__} ({', '.join(odd)} missing "
                "or unknown); save the head anew"
            )
        head = cls(**settings)
        try:
            head._read(folder, header)
        except (KeyError, TypeError, OverflowError, AttributeError) as error:  # a value of another kind
            raise ValueError(
                f"{folder / 'head.json'} is not what {cls.__name__}.save writes ({type(error).__name__}: {error}); "
                "save the head anew"
            ) from error
        return head


class Head(ClassifierMixin, StoredHead):  # type: ignore[misc]
    """A classifier of embeddings that knows patients; the heads are made of it."""

    def predict_proba(self, X: ArrayLike, groups: ArrayLike | None = None) -> NDArray[np.float64]:
        """Probability of each class, float64 (N, n_classes)."""
        raise NotImplementedError

    def predict(self, X: ArrayLike, groups: ArrayLike | None = None) -> NDArray[Any]:
        """Class with the largest probability; of equals, the first.

        Parameters
        ----------
        X : array of shape (N, dim), float
        groups : array of shape (N,), optional
            The patient of each row; as for `predict_proba`.

        Returns
        -------
        ndarray of shape (N,)
        """
        share = self.predict_proba(X, groups=groups)
        return np.asarray(self.classes_[share.argmax(axis=1)])


def plain(value: Any) -> Any:
    """Give NumPy's numbers, as a search over settings hands them out, as Python's: the former are no JSON."""
    return value.item() if isinstance(value, np.generic) else value


def _read_header(file: Path, head: str, newest: int) -> dict[str, Any]:
    """Read ``head.json``, checked to be of this class and of a known format."""
    if not file.is_file():
        raise FileNotFoundError(f"{file.parent} holds no head.json; give the folder that {head}.save wrote")
    if file.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f"{file} has {file.stat().st_size:,} bytes, too many for a header; save the head anew"
        )
    try:
        header: Any = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file} is no JSON ({error}); put it back from a copy, or save the head anew"
        ) from error
    if not isinstance(header, dict) or not isinstance(header.get("format"), int):
        raise ValueError(f"{file} is not what {head}.save writes; save the head anew")
    if header.get("head") != head:
        raise ValueError(f"{file} holds a {header.get('head')}, not a {head}; load it with that class")
    if header["format"] > newest:
        raise ValueError(
            f"{file} has format {header['format']}, this siamura reads up to {newest}; update siamura"
        )
    return header
