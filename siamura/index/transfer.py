"""Cases out of and into files: Parquet, and a folder of the earlier format."""

from __future__ import annotations

import io
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from siamura._files import atomic_path

from .tables import Content, DamagedIndex

_MISSING = 'Parquet needs PyArrow: pip install "siamura[tables]".'


def write_parquet(path: Path, content: Content) -> None:
    """Write the table with ``case_vector`` and ``case_digest``; dimensions and fingerprint stand in its attributes."""
    table = content.table.assign(case_digest=content.digests, case_vector=list(content.vectors))
    table.attrs = {"siamura": {"dim": content.dim, "fingerprint": content.fingerprint}}
    try:
        with atomic_path(path) as beside:
            table.to_parquet(beside, engine="pyarrow", index=False)
    except ImportError as error:
        raise ImportError(_MISSING) from error


def read_parquet(path: Path) -> Content:
    """Read what `write_parquet` wrote."""
    try:
        table = pd.read_parquet(path, engine="pyarrow")
        facts, vectors, digests = table.attrs["siamura"], table.pop("case_vector"), table.pop("case_digest")
        floats = np.array(vectors.tolist(), np.float32).reshape(len(table), facts["dim"])
        return Content(facts["dim"], facts["fingerprint"], floats, table, digests.tolist())
    except ImportError as error:
        raise ImportError(_MISSING) from error
    except (KeyError, TypeError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise ValueError(f"{path} is no file that CaseIndex.to_parquet wrote ({error}).") from error


def read_folder(folder: Path) -> Content:
    """Read an index of the earlier format; every file is compared with its size and its CRC-32."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no case index of the earlier format (no manifest.json).")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if (manifest["format"], manifest["version"]) != ("siamura.CaseIndex", 1):
            raise ValueError("another format")
        dim, columns = int(manifest["dim"]), dict(manifest["columns"])
        vectors, tables = [np.empty((0, dim), np.float32)], [pd.DataFrame()]
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
            held = np.load(path / "vectors.npy", mmap_mode="r", allow_pickle=False)
            begin = int(np.load(path / "keys.npy", mmap_mode="r", allow_pickle=False)[0, 3])
            # A blank line first: a byte order mark that begins a path would be taken for the file's own.
            text = io.StringIO("\n" + (path / "cases.csv").read_bytes()[begin:].decode(), newline="")
            tables.append(pd.read_csv(text, header=None, names=list(columns), dtype=columns, **options))
            if held.dtype != np.float32 or held.shape != (len(tables[-1]), dim):
                raise ValueError(f"{held.dtype} {held.shape} for {len(tables[-1])} cases of {dim} numbers")
            vectors.append(np.array(held))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DamagedIndex(path, f"cannot be converted ({error})") from error
    table = pd.concat(tables[1:] or tables, ignore_index=True)
    return Content(dim, manifest["fingerprint"], np.concatenate(vectors), table)
