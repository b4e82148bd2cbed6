"""What a report is made of: the record of a run, as its writer has it at hand or as a folder holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from siamura._stored import read_json

from .gallery import read_captions
from .tables import Sheet, classifier_sheet, finger_sheet

__all__ = ["Record", "read_record"]


@dataclass(frozen=True)
class Record:
    """Everything that a page shows beside the figures.

    Parameters
    ----------
    config, metrics : mapping
        As ``config.json`` and ``metrics.json`` hold them.
    history : DataFrame or None
        The training, one row a step.
    sheet : Sheet or None
        Measured figures beside published ones.
    unreadable : DataFrame or None
        Columns ``path`` and ``reason``.
    captions : mapping
        Of the figures: ``{name: {"caption": str, "images": boxes}}``.

    Examples
    --------
    >>> Record({"experiment": {"trunk": "resnet18"}}, metrics={}).history is None
    True
    """

    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    history: pd.DataFrame | None = None
    sheet: Sheet | None = None
    unreadable: pd.DataFrame | None = None
    captions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_record(folder: Path) -> Record:
    """Read the record of a run that was written earlier.

    Raises
    ------
    FileNotFoundError
        If the folder holds no measured run.

    Examples
    --------
    .. code-block:: python

        read_record(Path("runs/first")).config["status"]
        # 'finished'
    """
    for name in ("config.json", "metrics.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no measured run: {name} is missing; run an experiment into it."
            )
    config, metrics = (read_json(folder / name) for name in ("config.json", "metrics.json"))
    history = csv_or_none(folder / "history.csv")
    return Record(
        config, metrics, history, _sheet(config, metrics, history), csv_or_none(folder / "unreadable.csv", dtype=str),
        read_captions(folder),
    )  # fmt: skip


def csv_or_none(path: Path, **options: Any) -> pd.DataFrame | None:
    """Read a table, or None where the file is missing, empty or without rows."""
    if not path.is_file() or not path.stat().st_size:
        return None
    table = pd.read_csv(path, **options)
    return table if len(table) else None


def _sheet(
    config: Mapping[str, Any], metrics: Mapping[str, Any], history: pd.DataFrame | None
) -> Sheet | None:
    """Make the sheet again; older runs may lack a setting."""
    if history is None or not {"train", "valid"} <= set(metrics) or "counts" not in config.get("data", {}):
        return None
    plain = {"part": "", "trunk": "", "dim": 0, "loss": "", "clahe": False, "top": "", "tune_epochs": 0}
    given = {n: tuple(v) if isinstance(v, list) else v for n, v in config["experiment"].items()}
    experiment: Any = SimpleNamespace(**{**plain, "parts": (), **given})
    if config.get("kind") == "classifier":
        return classifier_sheet(experiment, metrics, config["data"])
    return finger_sheet(experiment, metrics, config["data"], history)
