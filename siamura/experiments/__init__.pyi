from .command import app_for, experiment_command, one_sentence, tell
from .experiment import Experiment
from .folder import Run, load_run
from .grids import finger_grid, finger_tables, run_grid
from .published import PUBLISHED, Published, published
from .report import write_report
from .running import run

__all__ = [
    "PUBLISHED",
    "Experiment",
    "Published",
    "Run",
    "app_for",
    "experiment_command",
    "finger_grid",
    "finger_tables",
    "load_run",
    "one_sentence",
    "published",
    "run",
    "run_grid",
    "tell",
    "write_report",
]
