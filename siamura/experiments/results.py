"""What both kinds of run write in the end: metrics, table, settings and page, each as its file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamura._files import atomic_write
from siamura.report import Record, write_page

from .folder import Settings, write_config, write_json

if TYPE_CHECKING:
    import pandas as pd

    from siamura.report import Sheet

    from .data import Inputs

__all__ = ["write_results"]


def write_results(
    folder: Path,
    experiment: Settings,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any],
    history: pd.DataFrame,
    sheet: Sheet,
    captions: Mapping[str, Mapping[str, Any]],
    inputs: Inputs,
    *,
    status: str,
) -> dict[str, Any]:
    """Write ``metrics.json``, ``table.md``, ``config.json`` and ``report.html``; give what is in ``config.json``.

    Parameters
    ----------
    folder : Path
    experiment : Experiment or ClassifierExperiment
    facts : mapping
        What ``config.json`` holds beside the settings.
    metrics, history, sheet, captions
        Of `siamura.report.Record`.
    inputs : Inputs
        The data, which also know when the run began.
    status : {"finished", "interrupted"}
    """
    write_json(folder / "metrics.json", metrics)
    atomic_write(folder / "table.md", sheet.markdown())
    seconds = round(time.time() - inputs.started, 1)
    config = write_config(folder, experiment, status=status, seconds=seconds, **facts)
    write_page(folder, Record(config, metrics, history, sheet, inputs.unreadable, captions))
    if status == "finished":
        (folder / "checkpoint.ckpt").unlink(missing_ok=True)
    return config
