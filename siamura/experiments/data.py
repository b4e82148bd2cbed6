"""What an experiment starts from: a study table, refused early where it is wrong, as data sets of each split."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from siamura._files import write_csv

if TYPE_CHECKING:
    from siamura.pixels import Preprocess, RadiographDataset

__all__ = ["Inputs", "cache_folder", "load", "phantoms_for"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Data sets by split, and what is said of them wherever a figure is shown.

    Parameters
    ----------
    splits : dict of str to RadiographDataset
        ``train`` and ``valid``.
    facts : dict
        ``data`` of ``config.json``: name, phantoms or not, parts, counts by split, unreadable files.
    unreadable : DataFrame
        Files that could not be read and are left out: ``path`` and ``reason``.
    started : float
        When they were read, in seconds of `time.time`: the beginning of the run.
    """

    splits: dict[str, RadiographDataset]
    facts: dict[str, Any]
    unreadable: pd.DataFrame
    started: float

    @property
    def table(self) -> pd.DataFrame:
        """The rows of both splits, train first."""
        return pd.concat([data.table for data in self.splits.values()], ignore_index=True)


def load(
    data: str | None,
    parts: Sequence[str],
    pre: Preprocess,
    folder: Path,
    *,
    cache: Path,
    views: int,
    seed: int,
    patients: int = 1,
    columns: Mapping[str, str] | None = None,
    positive: Sequence[str] | None = None,
) -> Inputs:
    """Read the studies, refuse what would make the figures meaningless, and prepare the images.

    Parameters
    ----------
    data : str or None
        What `siamura.read_studies` reads; None draws phantoms.
    parts : sequence of str
        Body parts.
    pre : Preprocess
    folder : Path
        The run folder, in which unreadable images are listed.
    cache : Path
        Where phantoms and preprocessed images are kept.
    views, seed : int
        Of the phantoms, views a part.
    patients : int
        The fewest patients that each label must have in train.
    columns, positive
        Of `siamura.read_studies`.

    Raises
    ------
    FileNotFoundError
        If `data` is no MURA tree.
    ValueError
        If a part, a split or a label is missing, or a label has too few patients.
    """
    from siamura.pixels import RadiographDataset
    from siamura.studies import classes_of, is_phantom, read_studies, train_valid
    from siamura.training.distributed import on_rank_zero

    started = time.time()
    if data is None:
        root = on_rank_zero(lambda: phantoms_for(parts, views, seed, cache))
        table = read_studies(root, part=list(parts), kind="mura")
    else:
        root = Path(data)
        table = read_studies(root, part=list(parts), columns=columns, positive=positive)
    classes = classes_of(table)
    if len(classes) > 2:
        raise ValueError(
            f"{root} has {len(classes)} labels ({', '.join(map(str, classes))}); a run tells two apart: name the "
            "abnormal ones with positive."
        )
    splits = {}
    for split, rows in zip(("train", "valid"), train_valid(table, seed=seed), strict=True):
        if rows.empty:
            raise ValueError(
                f"{root} has no {split} views of {', '.join(parts)}; both train and valid are needed."
            )
        said = rows.attrs["split"]["sentence"]
        _check(rows, split, patients if split == "train" else 1)
        splits[split] = RadiographDataset(rows, pre, cache=cache / "images", on_error="skip")
        _check(splits[split].table, split, patients if split == "train" else 1)
    unreadable = pd.concat([data.unreadable for data in splits.values()], ignore_index=True)
    if len(unreadable):
        on_rank_zero(lambda: write_csv(unreadable, folder / "unreadable.csv"))
        _log.warning(
            "%d unreadable images are left out; %s lists them", len(unreadable), folder / "unreadable.csv"
        )
    facts = {
        "name": str(root),
        "phantoms": is_phantom(root),
        "part": ", ".join(sorted(table["part"].unique())),
        "classes": [str(name) for name in classes],
        "split": said,
        "counts": {split: _counts(data.table) for split, data in splits.items()},
        "unreadable": len(unreadable),
    }
    return Inputs(splits, facts, unreadable, started)


def cache_folder() -> Path:
    """Where phantoms and preprocessed images are kept: ``SIAMURA_CACHE``, or the user's cache folder."""
    if chosen := os.environ.get("SIAMURA_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siamura"


def phantoms_for(parts: Sequence[str], views: int, seed: int, cache: Path) -> Path:
    """Draw phantoms of some parts, once: the same settings find them in the cache."""
    from siamura.studies import is_phantom, make_phantoms
    from siamura.studies.names import part_name
    from siamura.studies.phantoms import VERSION

    parts = [part_name(part) for part in parts]
    root = cache / "phantoms" / f"v{VERSION}-{'+'.join(parts)}-{views}-seed{seed}"
    if not is_phantom(root):
        make_phantoms(root, parts=tuple(parts), views=views * len(parts), seed=seed)
    return root


def _check(table: pd.DataFrame, split: str, wanted: int) -> None:
    patients = table.groupby("label")["patient"].nunique()
    if len(patients) < 2:
        raise ValueError(
            f"the {split} views have only the label {patients.index[0]}; normal (0) and abnormal (1) studies are "
            "both needed."
        )
    if (fewest := int(patients.min())) < wanted:
        raise ValueError(
            f"label {patients.idxmin()} has {fewest} patients in train, fewer than k={wanted}; lower --k to at most "
            f"{fewest}, or add studies."
        )


def _counts(table: pd.DataFrame) -> dict[str, int]:
    return {
        "views": len(table),
        "studies": len(table[["part", "patient", "study"]].drop_duplicates()),
        "patients": int(table["patient"].nunique()),
        "abnormal_views": int(table["label"].sum()),
    }
