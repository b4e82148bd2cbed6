"""What an addition writes: a segment, now and then an inverted file, and the manifest that names them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import nearest
from .files import Manifest, Segment, sync, write_segment

#: The inverted file is made anew when this share of the cases is not in it.
_STALE = 0.25


def grown(
    folder: Path,
    manifest: Manifest,
    segments: Sequence[Segment],
    added: tuple[NDArray[np.float32], NDArray[np.int64], list[bytes]],
    columns: dict[str, str],
) -> Manifest:
    """Write a segment of the vectors, keys and lines `added`, and the manifest that names it; return that."""
    # Segments no larger than what is added are taken into it: there are ever about log(n) of them,
    # and each case is copied about log(n) times.
    kept, parts = list(manifest.segments), [added]
    number = len(added[0])
    taken, first = number, manifest.serial
    while kept and kept[-1]["rows"] <= taken and kept[-1]["first"] + kept[-1]["rows"] == first:
        old = segments[len(kept) - 1]
        parts.insert(0, (old.vectors, old.keys, old.lines()))
        taken, first = taken + len(old), kept.pop()["first"]
    about = {
        "dim": manifest.dim,
        "fingerprint": manifest.fingerprint,
        "exact_up_to": manifest.exact_up_to,
        "columns": columns,
    }
    facts = write_segment(folder, f"segment-{manifest.number:06d}", first, parts, about)
    changed = Manifest(
        **{
            **manifest.__dict__,
            "columns": columns,
            "segments": [*kept, facts],
            "serial": manifest.serial + number,
            "number": manifest.number + 1,
        }
    )
    changed.write(folder)
    return changed


def is_stale(manifest: Manifest, covered: int) -> bool:
    """Whether there are enough cases for an inverted file, and too few of them are in the present one."""
    return manifest.rows > manifest.exact_up_to and manifest.rows - covered > _STALE * covered


def with_inverted(folder: Path, manifest: Manifest, segments: Sequence[Segment]) -> Manifest:
    """Make the inverted file of all cases, and write and return the manifest that names it."""
    name = f"nearest-{manifest.number:06d}.faiss"
    beside = folder / f"{name}.part"
    nearest.build_inverted(segments, beside)
    sync(beside)
    made = nearest.open_inverted(beside, manifest.rows, manifest.dim)
    nprobe, recall = nearest.measure_recall(made, segments)
    beside.rename(folder / name)
    facts = {"name": name, "rows": manifest.rows, "nprobe": nprobe, "recall": recall}
    facts["bytes"] = (folder / name).stat().st_size
    changed = Manifest(**{**manifest.__dict__, "nearest": facts, "number": manifest.number + 1})
    changed.write(folder)
    return changed


def sweep(folder: Path, manifest: Manifest) -> None:
    """Remove what no manifest names: additions that were cut off, segments taken into larger ones."""
    named = {facts["name"] for facts in manifest.segments}
    if manifest.nearest is not None:
        named.add(manifest.nearest["name"])
    for path in [*folder.glob("segment-*"), *folder.glob("nearest-*")]:
        if path.name in named:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
