from siamura.report import PUBLISHED, Published, published, write_report
from siamura.reproduction import (
    classifier_tables,
    compared,
    finger_grid,
    finger_tables,
    loss_grid,
    loss_table,
    part_grid,
    run_grid,
    system_c,
    system_e,
    trunk_grid,
)

from .batches import draw_batches
from .building import build_network
from .classifier_settings import ClassifierExperiment
from .classifying import run_classifier
from .folder import ClassifierRun, Run, load_classifier, load_run
from .heatmap_quality import explanation_figures, explanation_table
from .predicting import EnsemblePredictor, load_predictor
from .running import finish_run, load_data, run, start_run
from .seeds import SeedRuns, load_seeds, run_seeds
from .settings import Experiment

__all__ = [
    "PUBLISHED",
    "ClassifierExperiment",
    "ClassifierRun",
    "EnsemblePredictor",
    "Experiment",
    "Published",
    "Run",
    "SeedRuns",
    "build_network",
    "classifier_tables",
    "compared",
    "draw_batches",
    "explanation_figures",
    "explanation_table",
    "finger_grid",
    "finger_tables",
    "finish_run",
    "load_classifier",
    "load_data",
    "load_predictor",
    "load_run",
    "load_seeds",
    "loss_grid",
    "loss_table",
    "part_grid",
    "published",
    "run",
    "run_classifier",
    "run_grid",
    "run_seeds",
    "start_run",
    "system_c",
    "system_e",
    "trunk_grid",
    "write_report",
]
