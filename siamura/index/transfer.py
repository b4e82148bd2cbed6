"""Cases out of and into files: Parquet, a folder of the earlier format, a damaged file."""

from __future__ import annotations

import io
import json
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from siamura._files import atomic_path

from .tables import DamagedIndex


class Content(NamedTuple):
    """All that an index holds."""

    dim: int
    fingerprint: dict[str, str] | None
    vectors: NDArray[np.float32]
    table: pd.DataFrame
    digests: list[str] | None = None


def write_parquet(path: Path, content: Content) -> None:
    """Write a table with the columns ``case_vector`` and ``case_digest``, and the fingerprint beside them."""
    parquet, arrow = _pyarrow()
    made = arrow.Table.from_pandas(content.table, preserve_index=False)
    flat = arrow.array(content.vectors.reshape(-1))
    made = made.append_column("case_vector", arrow.FixedSizeListArray.from_arrays(flat, content.dim))
    made = made.append_column("case_digest", arrow.array(content.digests, arrow.string()))
    facts = {"siamura": json.dumps({"dim": content.dim, "fingerprint": content.fingerprint})}
    with atomic_path(path) as beside:
        parquet.write_table(made.replace_schema_metadata({**(made.schema.metadata or {}), **facts}), beside)


def read_parquet(path: Path) -> Content:
    """Read what `write_parquet` wrote."""
    parquet, arrow = _pyarrow()
    try:
        made = parquet.read_table(path)
        facts = json.loads(made.schema.metadata[b"siamura"])
        vectors = made["case_vector"].combine_chunks().flatten().to_numpy().reshape(-1, int(facts["dim"]))
        digests = made["case_digest"].to_pylist()
        table = made.drop_columns(["case_vector", "case_digest"]).to_pandas()
    except (arrow.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file that CaseIndex.to_parquet wrote ({error}).") from error
    return Content(facts["dim"], facts["fingerprint"], vectors, table, digests)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # an optional extra
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError('Parquet needs PyArrow: pip install "siamura[tables]".') from error
    return pyarrow.parquet, pyarrow


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
        vectors, tables = [np.empty((0, dim), np.float32)], []
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
            mapped = np.load(path / "vectors.npy", mmap_mode="r", allow_pickle=False)
            begin = int(np.load(path / "keys.npy", mmap_mode="r", allow_pickle=False)[0, 3])
            # A blank line first: a byte order mark that begins a path would be taken for the file's own.
            text = io.StringIO("\n" + (path / "cases.csv").read_bytes()[begin:].decode(), newline="")
            tables.append(pd.read_csv(text, header=None, names=list(columns), dtype=columns, **options))
            if mapped.dtype != np.float32 or mapped.shape != (len(tables[-1]), dim):
                raise ValueError(
                    f"{mapped.dtype} {mapped.shape} for {len(tables[-1])} cases of {dim} numbers"
                )
            vectors.append(np.array(mapped))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DamagedIndex(path, f"cannot be converted ({error})") from error
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return Content(dim, manifest["fingerprint"], np.concatenate(vectors), table)
