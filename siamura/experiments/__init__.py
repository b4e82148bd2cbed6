"""Whole experiments: settings, data, run, folder, figures; and the names of the five systems and the report."""

from __future__ import annotations

import importlib
from typing import Any

#: Where each public name lies. Those of other packages stay importable from here; they are imported by name when they
#: are used, since `siamura.reproduction` builds on this package.
_WHERE = {
    "siamura.experiments.batches": ("draw_batches",),
    "siamura.experiments.building": ("build_network",),
    "siamura.experiments.classifier_settings": ("ClassifierExperiment",),
    "siamura.experiments.classifying": ("run_classifier",),
    "siamura.experiments.folder": ("ClassifierRun", "Run", "load_classifier", "load_run"),
    "siamura.experiments.heatmap_quality": ("explanation_figures", "explanation_table"),
    "siamura.experiments.predicting": ("EnsemblePredictor", "load_predictor"),
    "siamura.experiments.running": ("finish_run", "load_data", "run", "start_run"),
    "siamura.experiments.seeds": ("SeedRuns", "load_seeds", "run_seeds"),
    "siamura.experiments.settings": ("Experiment",),
    "siamura.report": ("PUBLISHED", "Published", "published", "write_report"),
    "siamura.reproduction": (
        "classifier_tables", "compared", "finger_grid", "finger_tables", "loss_grid", "loss_table", "part_grid",
        "run_grid", "system_c", "system_e", "trunk_grid",
    ),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_MODULE_OF[name])
    # An AttributeError of a damaged library, which `from ... import` would take for a name that is not there.
    except AttributeError as error:
        raise ImportError(f"{_MODULE_OF[name]} cannot be imported: {error}") from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return list(__all__)
