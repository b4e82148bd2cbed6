"""Similar cases: embeddings with their study rows, kept on disk."""

from .cases import CaseIndex
from .files import DamagedIndex
from .fingerprints import Fingerprint, fingerprint

__all__ = ["CaseIndex", "DamagedIndex", "Fingerprint", "fingerprint"]
