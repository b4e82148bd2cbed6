"""What is whole of a damaged index."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from .files import FILES, DamagedIndex, Manifest, Segment, crc32

__all__ = ["recovered"]

log = logging.getLogger(__name__)


def recovered(folder: Path) -> Manifest:
    """Write a manifest of every whole segment; set the others aside by renaming them.

    The caller holds the index's lock.
    """
    try:
        manifest: Manifest | None = Manifest.read(folder)
    except (FileNotFoundError, DamagedIndex):
        manifest = None
    whole: list[tuple[Path, dict[str, Any]]] = []
    damaged: list[Path] = []
    # Later segments contain the earlier ones that they took in: of two that overlap the later one counts.
    for path in sorted(folder.glob("segment-*"), reverse=True):
        if path.is_dir() and not path.name.endswith(".part"):
            if (facts := _whole(path)) is None:
                damaged.append(path)
            else:
                whole.append((path, facts))
    if manifest is None and not whole and not damaged:
        raise FileNotFoundError(f"{folder} holds neither a manifest nor a segment of a case index.")
    kept: list[dict[str, Any]] = []
    for _, facts in whole:
        span = range(facts["first"], facts["first"] + facts["rows"])
        if all(span.stop <= k["first"] or span.start >= k["first"] + k["rows"] for k in kept):
            kept.append(facts)
    if manifest is None and not kept:
        raise ValueError(f"{folder}: the manifest is lost and no segment is whole; nothing can be opened.")
    about = {json.dumps(facts["about"], sort_keys=True) for facts in kept}
    if len(about) > 1:
        raise ValueError(f"{folder}: the manifest is lost and its segments are of different indexes.")
    if manifest is None:
        manifest = Manifest(**kept[0]["about"])
    manifest.segments = [
        {name: value for name, value in facts.items() if name != "about"}
        for facts in sorted(kept, key=lambda facts: facts["first"])
    ]
    manifest.nearest = None
    manifest.serial = max([manifest.serial, *(f["first"] + f["rows"] for f in manifest.segments)])
    names = [path.name.removeprefix("segment-") for path in [*damaged, *(path for path, _ in whole)]]
    numbers = [int(name) for name in names if name.isdigit()]
    manifest.number = max([manifest.number, *(number + 1 for number in numbers)])
    for path in damaged:
        aside = path.with_name(f"damaged-{path.name}")
        path.rename(aside)
        log.warning("%s is damaged; kept as %s and left out.", path, aside)
    if (folder / "manifest.json").exists():
        (folder / "manifest.json").rename(folder / "damaged-manifest.json")
    manifest.write(folder)
    return manifest


def _whole(path: Path) -> dict[str, Any] | None:
    """Take the segment's facts if every file is what was written."""
    try:
        facts: dict[str, Any] = json.loads((path / "segment.json").read_text(encoding="utf-8"))
        if any(crc32(path / name) != facts["files"][name]["crc32"] for name in FILES):
            return None
        Segment.open(path, facts, facts["about"]["dim"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts
