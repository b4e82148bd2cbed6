"""Supervised experiments: a tiny run to its folder, and the grids of the reports."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siamura.experiments import (
    ClassifierExperiment,
    Experiment,
    classifier_tables,
    finger_grid,
    load_run,
    part_grid,
    published,
    run_grid,
    system_c,
    system_e,
    trunk_grid,
)
from siamura.experiments.classifying import PARTS

TINY = ClassifierExperiment(
    trunk="squeezenet1_1",
    parts=("XR_HUMERUS", "XR_FINGER"),
    views=48,
    size=64,
    epochs=1,
    tune_epochs=1,
    frozen=True,
)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grid")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIAMURA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_a_classifier_is_trained_measured_by_part_and_kept(grid: Path) -> None:
    (done,) = run_grid({"cell": TINY}, grid).values()
    figures = done.metrics["valid"]["study"]["classifier"]
    assert set(figures["parts"]) == set(TINY.parts)
    table = done.predictions()
    valid = table[table["split"] == "valid"]
    right = (valid["probability"] > 0.5) == (valid["label"] == 1)
    assert done.metrics["valid"]["view"]["classifier"]["accuracy"] == pytest.approx(right.mean())
    per_part = done.metrics["valid"]["view"]["classifier"]["parts"]
    for part in TINY.parts:
        assert per_part[part]["accuracy"] == pytest.approx(right[valid["part"] == part].mean())
    assert done.history["epoch"].is_monotonic_increasing
    assert done.history["epoch"].max() == 2
    before = (grid / "cell" / "metrics.json").stat().st_mtime_ns
    run_grid({"cell": TINY}, grid)
    assert (grid / "cell" / "metrics.json").stat().st_mtime_ns == before  # finished, so kept
    text = classifier_tables({"cell": done}, "C", "System C")
    assert "PHANTOMS" in text
    assert "0.7986" in text
    with pytest.raises(ValueError, match="supervised classifier"):
        load_run(grid / "cell")


def test_a_run_with_other_settings_is_run_anew(grid: Path) -> None:
    run_grid({"cell": TINY}, grid)
    (again,) = run_grid({"cell": replace(TINY, tune_epochs=0)}, grid).values()
    assert again.history["epoch"].max() == 1
    assert np.isfinite(again.history["loss"]).all()


def test_the_grids_hold_every_published_configuration() -> None:
    cells = finger_grid(Experiment())
    held = {(c.trunk, c.clahe, c.loss, c.dim) for c in cells.values()}
    assert {(f.trunk, bool(f.clahe), f.loss, f.dim) for f in published(system="A")} == held
    base = ClassifierExperiment()
    b = trunk_grid(base)
    assert {f.trunk for f in published(system="B")} == {c.trunk for c in b.values()}
    assert b["B-densenet169-tuned"].tune_epochs == base.epochs
    d = part_grid(base, nasnet=True)
    assert {(f.part, f.trunk) for f in published(system="D", table="per part")} == {
        (c.parts[0], c.trunk) for c in d.values()
    }
    assert len(part_grid(base, nasnet=False)) == 28
    assert {c.parts for c in d.values()} == {(part,) for part in PARTS}
    assert system_c(replace(base, size=64)).size == 75
    assert system_e(base).trunk == "densenet121"


def test_nothing_untaught_is_frozen() -> None:
    assert not any(c.frozen for c in trunk_grid(ClassifierExperiment()).values())
    taught = trunk_grid(ClassifierExperiment(weights="imagenet"))
    assert all(c.frozen for c in taught.values())
    assert not system_c(ClassifierExperiment()).frozen


def test_settings_go_both_ways() -> None:
    assert ClassifierExperiment.from_dict(TINY.to_dict()) == TINY
