"""What a run answered for its validation views, and for the patients apart: kept, so that runs can be averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from siamura._arrays import load_npz
from siamura._files import atomic_path
from siamura._names import HEADS
from siamura._stored import naming_damage

if TYPE_CHECKING:
    import numpy.typing as npt

    Probabilities = Mapping[str, npt.NDArray[np.float64]]

__all__ = ["Answers", "load_answers", "write_answers"]

_NAME = "answers.npz"


@dataclass(frozen=True)
class Answers:
    """Probabilities of a run, float64 (N,), or (N, C) of more than two classes.

    Attributes
    ----------
    valid : mapping of str to array
        Of the validation views in the order of the run's embeddings, by head and baseline.
    apart : mapping of str to array
        By head, of the training views on which the operating point was fitted, by heads that had not seen them;
        empty where there were too few patients.
    rows : int64 (M,)
        Which training views those are, counted in the order of the run's embeddings.
    """

    valid: Probabilities
    apart: Probabilities = field(default_factory=dict)
    rows: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


def write_answers(folder: Path, answers: Answers) -> None:
    """Write ``answers.npz`` into a run folder, without pickle.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_answers(folder, Answers({"knn": np.array([0.2, 0.7])}))
    >>> load_answers(folder, classes=2).valid["knn"].tolist()
    [0.2, 0.7]
    """
    arrays: dict[str, Any] = {f"valid_{name}": p for name, p in answers.valid.items()}
    arrays |= {f"apart_{name}": p for name, p in answers.apart.items()}
    with atomic_path(folder / _NAME) as beside:
        np.savez_compressed(beside, apart_row=answers.rows, **arrays)


def load_answers(folder: Path, classes: int) -> Answers:
    """Read what `write_answers` wrote, of a run of so many classes.

    Raises
    ------
    FileNotFoundError
        If the run has none, as one that an earlier siamura wrote.
    ValueError
        If the file is damaged.
    """
    path = folder / _NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: an earlier siamura wrote that run; train it again with --overwrite."
        )
    shape = (None,) if classes == 2 else (None, classes)
    named = [f"{kind}_{name}" for kind in ("valid", "apart") for name in HEADS]
    with naming_damage(path):
        found = load_npz(
            path, {"apart_row": (None,), **dict.fromkeys(named, shape)}, optional=named,
            kinds={"apart_row": "i", **dict.fromkeys(named, "f")},
        )  # fmt: skip
        rows = found.pop("apart_row")
        sides: dict[str, dict[str, npt.NDArray[np.float64]]] = {"valid": {}, "apart": {}}
        for name, p in found.items():
            kind, _, head = name.partition("_")
            sides[kind][head] = p
        for kind, side in sides.items():
            if (
                len({len(p) for p in side.values()} | ({len(rows)} if kind == "apart" and side else set()))
                > 1
            ):
                raise ValueError(f"the arrays of {kind} have different lengths")
    return Answers(sides["valid"], sides["apart"], rows)
