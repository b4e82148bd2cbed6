"""What several rooms' tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real radiographs and DICOM files that stay outside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"the real radiographs are not on this machine ({SHARED})")
    return SHARED
