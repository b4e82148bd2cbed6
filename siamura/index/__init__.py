"""Similar cases: embeddings with their study rows, kept in a database."""

from siamura._database import DamagedIndex
from siamura._fingerprints import Fingerprint, fingerprint

from .cases import CaseIndex, Cases

__all__ = ["CaseIndex", "Cases", "DamagedIndex", "Fingerprint", "fingerprint"]
