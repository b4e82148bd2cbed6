"""Folders in which siamura kept similar cases before it had a database, read to be converted."""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ._database import DamagedIndex

__all__ = ["read_folder"]


def read_folder(place: str | os.PathLike[str]) -> tuple[dict[str, Any], pd.DataFrame]:
    """Read the cases of a folder; every file is compared with its size and its CRC-32.

    Returns
    -------
    facts : dict
        ``dim`` and ``fingerprint``.
    cases : DataFrame
        The rows, with ``case_vector``, a float32 array (dim,) each.

    Raises
    ------
    FileNotFoundError
        If it holds none.
    DamagedIndex
        If a file is damaged, or leads elsewhere.
    """
    folder = Path(place)
    path = folder / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no case index of the earlier format (no manifest.json).")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if (manifest["format"], manifest["version"]) != ("siamura.CaseIndex", 1):
            raise ValueError("another format")
        columns, tables = dict(manifest["columns"]), [pd.DataFrame()]
        missing = {name: ["", "nan"] for name, kind in columns.items() if kind == "float64"}
        options: dict[str, Any] = {"keep_default_na": False, "na_values": missing, "lineterminator": "\n"}
        for facts in manifest["segments"]:
            path = folder / facts["name"]
            if not re.fullmatch(r"segment-\d+", facts["name"]):  # no path that leads elsewhere
                raise ValueError(f"a segment named {facts['name']!r}")
            for name in ("vectors.npy", "keys.npy", "cases.csv"):
                said, file = facts["files"][name], path / name  # the size first: nothing larger is read
                if file.stat().st_size != said["bytes"] or zlib.crc32(file.read_bytes()) != said["crc32"]:
                    raise ValueError(f"{file} differs from what was written")
            vectors = np.load(path / "vectors.npy", allow_pickle=False)
            begin = int(np.load(path / "keys.npy", allow_pickle=False)[0, 3])
            # A blank line first: a byte order mark that begins a path would be taken for the file's own.
            text = io.StringIO("\n" + (path / "cases.csv").read_bytes()[begin:].decode(), newline="")
            rows = pd.read_csv(text, header=None, names=list(columns), dtype=columns, **options)
            if vectors.dtype != np.float32 or vectors.shape != (len(rows), manifest["dim"]):
                raise ValueError(f"{vectors.dtype} {vectors.shape} for {len(rows)} cases")
            tables.append(rows.assign(case_vector=list(vectors)))
        made = pd.concat(tables[1:] or tables, ignore_index=True)
        return {"dim": manifest["dim"], "fingerprint": manifest["fingerprint"]}, made
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DamagedIndex(path, f"cannot be converted ({error})") from error
