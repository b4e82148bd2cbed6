"""Whole experiments: configuration, run, published tables, report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "experiment": ["Experiment"],
        "running": ["Run", "load_run", "run"],
        "published": ["PUBLISHED", "Published", "published"],
        "command": ["app_for", "experiment_command", "one_sentence"],
        "report": ["write_report"],
    },
)
