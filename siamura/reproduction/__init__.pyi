from .classifiers import classifier_tables, part_grid, system_c, system_e, trunk_grid
from .grids import finger_grid, finger_tables, run_grid
from .losses import compared, loss_grid, loss_table

__all__ = [
    "classifier_tables",
    "compared",
    "finger_grid",
    "finger_tables",
    "loss_grid",
    "loss_table",
    "part_grid",
    "run_grid",
    "system_c",
    "system_e",
    "trunk_grid",
]
