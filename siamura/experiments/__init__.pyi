from .classifier_grids import classifier_tables, part_grid, system_c, system_e, trunk_grid
from .classifying import ClassifierRun, load_classifier, run_classifier
from .command import app_for, experiment_command, one_sentence, script, tell
from .comparing import compared, loss_grid, loss_table
from .experiment import ClassifierExperiment, Experiment
from .explained import explanation_figures, explanation_table
from .folder import Run, load_run
from .grids import finger_grid, finger_tables, run_grid
from .published import PUBLISHED, Published, published
from .report import write_report
from .running import run

__all__ = [
    "PUBLISHED",
    "ClassifierExperiment",
    "ClassifierRun",
    "Experiment",
    "Published",
    "Run",
    "app_for",
    "classifier_tables",
    "compared",
    "experiment_command",
    "explanation_figures",
    "explanation_table",
    "finger_grid",
    "finger_tables",
    "load_classifier",
    "load_run",
    "loss_grid",
    "loss_table",
    "one_sentence",
    "part_grid",
    "published",
    "run",
    "run_classifier",
    "run_grid",
    "script",
    "system_c",
    "system_e",
    "tell",
    "trunk_grid",
    "write_report",
]
