"""The figures of a run folder, drawn from its embeddings, history and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .experiment import Experiment

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from siamura.pixels import RadiographDataset

__all__ = ["draw"]
