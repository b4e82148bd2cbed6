"""Losses compared: every cell once, and a table that says which run collapsed."""

import pandas as pd

from siamura.experiments import (
    ClassifierExperiment,
    ClassifierRun,
    Experiment,
    Run,
    compared,
    loss_grid,
    loss_table,
)

COUNTS = {"views": 40, "studies": 20, "patients": 18, "abnormal_views": 20}
DATA = {"name": "x", "phantoms": True, "part": "XR_FINGER", "counts": {"train": COUNTS, "valid": COUNTS}}


def stored(experiment, tmp_path, *, kappa, apart):
    figures = {"kappa": kappa, "interval": {"kappa": [kappa - 0.1, kappa + 0.1]}}
    metric = isinstance(experiment, Experiment)
    view = {"knn": figures, "embedding": {"positive_distance": 0.01, "negative_distance": apart}}
    trivial = {"kappa": 0.1, "interval": {"kappa": [0.0, 0.2]}}
    return (Run if metric else ClassifierRun)(
        folder=tmp_path,
        config={"data": DATA},
        metrics={"valid": {"view": {"trivial": trivial, **(view if metric else {"classifier": figures})}}},
        history=pd.DataFrame(
            {"share": [0.0, 0.5] if getattr(experiment, "loss", "") == "batch_hard" else [1.0]}
        ),
        experiment=experiment,
    )


def test_every_loss_trunk_width_and_seed_comes_once():
    cells = loss_grid(Experiment(size=64, k=8), seeds=(0, 1))
    metric = [cell for cell in cells.values() if isinstance(cell, Experiment)]
    assert len({(c.loss, c.trunk, c.dim, c.seed) for c in metric}) == len(metric) == 5 * 2 * 2 * 2
    others = [cell for cell in cells.values() if isinstance(cell, ClassifierExperiment)]
    assert {(c.trunk, c.seed) for c in others} == {
        (t, s) for t in ("densenet169", "resnet50") for s in (0, 1)
    }
    assert {c.size for c in cells.values()} == {64}
    assert {c.batch for c in others} == {16}


def test_the_table_marks_what_collapsed(tmp_path):
    cells = loss_grid(Experiment(k=8), trunks=("resnet50",), dims=(128,), seeds=(0, 1))
    runs = {
        name: stored(cell, tmp_path, kappa=0.5, apart=0.01 if name == "semi_hard-resnet50-128-seed1" else 0.9)
        for name, cell in cells.items()
    }
    frame = compared(runs)
    assert frame[frame["collapsed"] == True][["loss", "seed"]].to_numpy().tolist() == [["semi_hard", 1]]  # noqa: E712
    text = loss_table(runs)
    assert "Collapsed embeddings: 1 of 10." in text
    assert "| semi_hard | resnet50 | 128 | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] collapsed |" in text
    assert "| binary cross-entropy | resnet50 | – | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] |" in text
    assert "| trivial baseline | – | – | 0.100 [0.000, 0.200] | 0.100 [0.000, 0.200] |" in text
    assert "triplet 100%, batch_hard 25%," in text
    assert "PHANTOMS" in text
    assert "18 patients" in text
