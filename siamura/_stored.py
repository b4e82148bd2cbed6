"""Files of a run that may be damaged or not to be trusted: checked before they are read, and named if wrong."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["naming_damage", "read_json"]


@contextlib.contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Say of any error within that a file or folder of a run is damaged; whatever is stored there may cause it.

    A file that is missing or may not be read, and a package that is missing, keep their own error.
    """
    try:
        yield
    except (ImportError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        if str(path) in words:
            raise ValueError(words) from error
        said = words if isinstance(error, ValueError) else f"{type(error).__name__}: {words}"
        raise ValueError(
            f"{path} is damaged ({said}); run the experiment again, into another folder."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; `ValueError` names the file where it is none."""
    with naming_damage(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not an object")
    return content
