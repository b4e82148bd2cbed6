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
from siamura._names import PARTS
from siamura.pixels import RadiographDataset
from siamura.studies import classes_of, is_phantom, make_phantoms, read_studies, train_valid
from siamura.studies.names import part_name
from siamura.studies.phantoms import VERSION
from siamura.training.distributed import on_rank_zero

from .calibrating import hold_back

if TYPE_CHECKING:
    from siamura.pixels import Preprocess

__all__ = ["Inputs", "cache_folder", "phantoms_for", "read_inputs"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Data sets by split, and what is said of them wherever a figure is shown.

    Parameters
    ----------
    splits : dict of str to RadiographDataset
        ``train``, on which the network trains; ``calibration``, training patients held back from it, where there are
        any; ``valid``.
    all_training : RadiographDataset
        All training views: those of ``train``, then those of ``calibration``.
    facts : dict
        ``data`` of ``config.json``: name, phantoms or not, parts, counts by split (all training views under
        ``train``), what was held back for calibration, unreadable files.
    unreadable : DataFrame
        Files that could not be read and are left out: ``path`` and ``reason``.
    started : float
        When they were read, in seconds of `time.time`: the beginning of the run.
    boxes : DataFrame or None
        Boxes of lesions of the views in ``train``, from which the network learns where findings are.
    """

    splits: dict[str, RadiographDataset]
    all_training: RadiographDataset
    facts: dict[str, Any]
    unreadable: pd.DataFrame
    started: float
    boxes: pd.DataFrame | None = None

    @property
    def table(self) -> pd.DataFrame:
        """All rows: those of `all_training`, then the validation views."""
        return pd.concat([self.all_training.table, self.splits["valid"].table], ignore_index=True)

    def watched(self, chooses: str) -> RadiographDataset:
        """Give the views on which a training is watched, and say in `facts` what these choose, if anything.

        They are of the patients held back from the network; where there are none, the validation views, whose figures
        are then too good.
        """
        apart = "calibration" in self.splits
        if chooses:
            said = (
                f"The patients held back chose {chooses}."
                if apart
                else f"No patients were held back, so the validation views chose {chooses}: the figures on these are "
                "too good."
            )
            if not apart:
                _log.warning(said)
            if said not in self.facts["calibration"]:
                self.facts["calibration"] += f" {said}"
        return self.splits["calibration" if apart else "valid"]


def read_inputs(
    data: str | None,
    parts: Sequence[str] | None,
    pre: Preprocess,
    folder: Path,
    *,
    cache: Path,
    views: int,
    seed: int,
    patients: int = 1,
    labels: int = 2,
    reading: Mapping[str, Any] | None = None,
    two: bool = False,
    calibration_share: float = 0.0,
) -> Inputs:
    """Read the studies, refuse what would make the figures meaningless, and prepare the images.

    Parameters
    ----------
    data : str or None
        What `siamura.read_studies` reads; None draws phantoms.
    parts : sequence of str, or None
        Body parts; None for all.
    pre : Preprocess
    folder : Path
        The run folder, in which unreadable images are listed.
    cache : Path
        Where phantoms and preprocessed images are kept.
    views, seed : int
        Of the phantoms, views a part.
    patients : int
        The fewest patients that each label must have in train.
    labels : int
        The fewest labels that there must be: those of a batch.
    reading : mapping, optional
        Further keywords of `siamura.read_studies`: columns, positive, classes, ordered.
    two : bool
        Whether more than two labels are refused.
    calibration_share : float
        Share of the training patients that is held back from the network, for calibration.

    Raises
    ------
    FileNotFoundError
        If `data` is no MURA tree.
    ValueError
        If a part, a split or a label is missing, or a label has too few patients.
    """
    started = time.time()
    asked = None if parts is None else list(parts)
    if data is None:
        root = on_rank_zero(lambda: phantoms_for(asked or PARTS, views, seed, cache))
        table = read_studies(root, part=asked, kind="mura")
    else:
        root = Path(data)
        table = read_studies(root, part=asked, **(reading or {}))
    if (unknown := int((table["label"] < 0).sum())) and unknown < len(table):
        _log.warning("%d views without a label are left out", unknown)
        attrs = table.attrs
        table = table[table["label"] >= 0].reset_index(drop=True)
        table.attrs = attrs
    classes = classes_of(table)
    if two and len(classes) > 2:
        raise ValueError(
            f"{root} has {len(classes)} labels ({', '.join(classes)}); this run tells two apart: name the "
            "abnormal ones with positive."
        )
    if len(classes) < labels:
        raise ValueError(
            f"p={labels}: {root} has {len(classes)} labels ({', '.join(classes)}); lower --p to at most "
            f"{len(classes)}."
        )
    _check_studies(table)
    sides = {}
    held: pd.DataFrame | None = None
    for split, rows in zip(("train", "valid"), train_valid(table, seed=seed), strict=True):
        if rows.empty:
            raise ValueError(
                f"{root} has no {split} views of {', '.join(asked or ['any part'])}; both train and valid are needed."
            )
        said = rows.attrs["split"]["sentence"]
        _check(rows, split, patients if split == "train" else 1, classes)
        if split == "train":
            rows, held, calibration = hold_back(rows, calibration_share, patients=patients, seed=seed)
        both = rows if held is None or split == "valid" else pd.concat([rows, held], ignore_index=True)
        sides[split] = RadiographDataset(both, pre, cache=cache / "images", on_error="skip")
        sides[split].table.attrs.update(rows.attrs)
        _check(sides[split].table, split, patients if split == "train" else 1, classes)
    training = sides["train"]
    splits = {"train": training, "valid": sides["valid"]}
    if held is not None:
        back = int(training.table["patient"].isin(held["patient"]).sum())
        parted = (
            training.between(0, len(training) - back),
            training.between(len(training) - back, len(training)),
        )
        splits = {"train": parted[0], "calibration": parted[1], "valid": sides["valid"]}
        _check(parted[0].table, "train", patients, classes)
    unreadable = pd.concat([data.unreadable for data in sides.values()], ignore_index=True)
    if len(unreadable):
        on_rank_zero(lambda: write_csv(unreadable, folder / "unreadable.csv"))
        _log.warning(
            "%d unreadable images are left out; %s lists them", len(unreadable), folder / "unreadable.csv"
        )
    facts = {
        "name": str(root),
        "kind": table.attrs.get("source", {}).get("kind", ""),
        "phantoms": is_phantom(root),
        "part": ", ".join(sorted(table["part"].unique())),
        "classes": list(classes),
        "ordered": bool(table.attrs.get("ordered", False)),
        "labels": {split: _by_class(data.table, classes) for split, data in sides.items()},
        "split": said,
        "calibration": calibration,
        "counts": {split: _counts(data.table) for split, data in sides.items()},
        "unreadable": len(unreadable),
    }
    return Inputs(splits, training, facts, unreadable, started)


def cache_folder() -> Path:
    """Where phantoms and preprocessed images are kept: ``SIAMURA_CACHE``, or the user's cache folder."""
    if chosen := os.environ.get("SIAMURA_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siamura"


def phantoms_for(parts: Sequence[str], views: int, seed: int, cache: Path) -> Path:
    """Draw phantoms of some parts, once: the same settings find them in the cache."""
    parts = [part_name(part) for part in parts]
    root = cache / "phantoms" / f"v{VERSION}-{'+'.join(parts)}-{views}-seed{seed}"
    if not is_phantom(root):
        make_phantoms(root, parts=tuple(parts), views=views * len(parts), seed=seed)
    return root


def _check(table: pd.DataFrame, split: str, wanted: int, classes: Sequence[str]) -> None:
    patients = table.groupby("label")["patient"].nunique()
    if len(patients) < 2:
        there = classes[int(patients.index[0])]
        raise ValueError(
            f"the {split} views have only the label {there!r}; studies of {_listed(classes)} are needed."
        )
    lacking = [name for code, name in enumerate(classes) if code not in patients.index]
    if lacking and split == "train":
        raise ValueError(
            f"the train views have no label {lacking[0]!r}, which others have; add studies of it, or leave it out."
        )
    if lacking:
        _log.warning(
            "the %s views have no label %s: its scores are undefined", split, ", ".join(map(repr, lacking))
        )
    if (fewest := int(patients.min())) < wanted:
        least = classes[int(patients.index[int(patients.argmin())])]
        raise ValueError(
            f"label {least!r} has {fewest} patients in train, fewer than k={wanted}; lower "
            f"--k to at most {fewest}, or add studies."
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:-1])) + f" and {names[-1]!r}"


def _check_studies(table: pd.DataFrame) -> None:
    """Refuse studies with several labels that have no order: per study they could not be scored."""
    if table["label"].nunique() < 3 or table.attrs.get("ordered"):
        return
    labels = table.groupby(["part", "patient", "study"])["label"].nunique()
    if (labels > 1).any():
        part, patient, study = labels.index[int((labels > 1).argmax())]
        number = int((labels > 1).sum())
        raise ValueError(
            f"{number} studies have views of several labels, the first is {study} of {patient} ({part}); give "
            " every view its study's label, or leave the column study out: each view is then a study."
        )


def _by_class(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, int]:
    counts = table["label"].value_counts()
    return {name: int(counts.get(code, 0)) for code, name in enumerate(classes)}


def _counts(table: pd.DataFrame) -> dict[str, int]:
    return {
        "views": len(table),
        "studies": len(table[["part", "patient", "study"]].drop_duplicates()),
        "patients": int(table["patient"].nunique()),
        "abnormal_views": int((table["label"] > 0).sum()),
    }
