"""What happens beside a step: checkpoints, progress, averaging, the watch against collapse, validation."""

from .averaging import Averaging
from .checkpoints import Checkpoints, SafeCheckpointIO, write_history
from .collapse import CollapseWarning, CollapseWatch
from .progress import Progress
from .validation import Validation

__all__ = [
    "Averaging",
    "Checkpoints",
    "CollapseWarning",
    "CollapseWatch",
    "Progress",
    "SafeCheckpointIO",
    "Validation",
    "write_history",
]
