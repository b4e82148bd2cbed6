"""Similar cases: embeddings with their study rows, kept in a database."""

from siamura._fingerprints import Fingerprint, fingerprint

from .cases import CaseIndex, Cases
from .tables import DamagedIndex

__all__ = ["CaseIndex", "Cases", "DamagedIndex", "Fingerprint", "fingerprint"]
