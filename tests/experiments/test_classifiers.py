"""Supervised experiments: a tiny run to its folder, and the grids of the reports."""

import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siamura._names import PARTS
from siamura.evaluation import trivial_baselines
from siamura.experiments import (
    ClassifierExperiment,
    Experiment,
    Published,
    classifier_tables,
    finger_grid,
    load_classifier,
    load_run,
    part_grid,
    published,
    run_grid,
    system_c,
    system_e,
    trunk_grid,
)
from siamura.experiments.baselines import trivial_answers
from siamura.report.tables import classifier_sheet
from siamura.training.classifier import ClassifierModule

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


@pytest.mark.slow
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
        rows = valid[valid["part"] == part]
        assert per_part[part]["views"] == len(rows) < len(valid)  # its own films, not those of all parts
        assert per_part[part]["patients"] == rows["patient"].nunique()
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


@pytest.mark.slow
def test_the_trivial_baseline_stands_beside_by_default(grid: Path) -> None:
    (done,) = run_grid({"cell": TINY}, grid).values()
    table = done.predictions()
    answers = trivial_baselines(table.drop(columns="probability"), seed=TINY.seed)["all together"]
    valid = table[table["split"] == "valid"]
    expected = (answers.to_numpy() > 0.5) == (valid["label"] == 1)
    trivial = done.metrics["valid"]["view"]["trivial"]
    assert trivial["accuracy"] == pytest.approx(expected.mean())
    assert trivial["parts"]["XR_FINGER"]["accuracy"] == pytest.approx(
        expected[valid["part"] == "XR_FINGER"].mean()
    )
    assert "trivial" not in done.metrics["train"]["view"]
    text = (done.folder / "report.html").read_text()
    assert "Trivial baseline: kappa" in text
    shown = re.findall(
        r"trivial baseline, per view \| – \| (\d\.\d{3})", (done.folder / "table.md").read_text()
    )
    assert shown[0] == f"{trivial['accuracy']:.3f}"


@pytest.mark.slow
def test_features_of_a_file_are_measured_once(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (done,) = run_grid({"cell": TINY}, grid).values()
    table = done.predictions()
    first = trivial_answers(table, seed=0)
    monkeypatch.setattr(
        "siamura.evaluation.baselines.read_image", lambda path: pytest.fail(f"{path} is read again")
    )
    np.testing.assert_array_equal(trivial_answers(table, seed=0), first)
    os.utime(table["path"][0])  # drawn anew
    with pytest.raises(pytest.fail.Exception, match="read again"):
        trivial_answers(table, seed=0)


@pytest.mark.parametrize(
    ("experiment", "rows"),
    [
        (
            system_c(ClassifierExperiment()),
            [
                "| accuracy | published (epoch 5, best) | – | 0.7986 |",
                "| accuracy | published (epoch 30) | – | 0.75 |",
            ],
        ),
        (
            trunk_grid(ClassifierExperiment())["B-densenet169"],
            ["| accuracy | published (best epoch) | 0.748939 | 0.733418 |"],
        ),
        (
            trunk_grid(ClassifierExperiment())["B-densenet169-tuned"],
            ["| accuracy | published (epoch 20) | 0.8117 | 0.7851 |"],
        ),
        (
            part_grid(ClassifierExperiment(), nasnet=False)["D-XR_HUMERUS-vgg16"],
            [
                "| weighted F1 | published | – | 0.67 |",
                "| recall of normal | published (negative) | – | 0.55 |",
                "| recall | published (positive) | – | 0.73 |",
            ],
        ),
        (system_e(ClassifierExperiment()), ["| accuracy | published (about) | – | 0.79 |"]),
    ],
)
def test_a_run_stands_beside_its_own_report(experiment: ClassifierExperiment, rows: list[str]) -> None:
    names = {figure.metric for figure in published()}
    scores = {name + end: 0.5 for name in [*names, "auroc"] for end in ("", "_weighted", "_normal")}
    scores["interval"] = {name: [0.4, 0.6] for name in scores}
    metrics = {
        "train": {level: {"classifier": scores} for level in ("view", "study")},
        "valid": {level: {"classifier": scores, "trivial": scores} for level in ("view", "study")},
    }
    data = {"phantoms": True, "name": "x", "part": "XR_HUMERUS", "counts": {}}
    lines = classifier_sheet(experiment, metrics, data).markdown().splitlines()
    assert [line for line in lines if "| published" in line and line in rows] == rows
    count = sum("| published" in line for line in lines)
    assert count == len({(f.table, f.metric, f.note) for f in published() if _same(f, experiment)})
    assert "| accuracy | **measured**, per view | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] |" in lines
    assert "| accuracy | **measured**, trivial baseline, per study | – | 0.500 [0.400, 0.600] |" in lines
    assert f"Published: system {_letter(experiment)}'s report" in "\n".join(lines)
    other = classifier_sheet(replace(experiment, trunk="resnet18"), metrics, data).markdown()
    assert "published (" not in other
    assert "No report published" in other


def _letter(experiment: ClassifierExperiment) -> str:
    return experiment.top[0].upper()


def _same(figure: Published, experiment: ClassifierExperiment) -> bool:
    parts = ("all",) if len(experiment.parts) == 7 else experiment.parts
    tuned = (figure.table == "fine-tuned") == bool(experiment.tune_epochs)
    return (figure.system, figure.trunk, figure.part, tuned) == (
        _letter(experiment),
        experiment.trunk,
        parts[0],
        True,
    )


@pytest.mark.slow
def test_a_run_with_other_settings_is_run_anew(grid: Path) -> None:
    run_grid({"cell": TINY}, grid)
    (again,) = run_grid({"cell": replace(TINY, tune_epochs=0)}, grid).values()
    assert again.history["epoch"].max() == 1
    assert np.isfinite(again.history["loss"]).all()


@pytest.mark.parametrize(("after", "tuned"), [(1, False), pytest.param(3, True, marks=pytest.mark.slow)])
def test_ctrl_c_ends_a_grid_and_marks_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, tuned: bool
) -> None:
    """Two steps an epoch: in the middle of the first training, or of the fine-tuning."""
    short = replace(TINY, parts=("XR_FINGER",), batch=18)
    cells = {"first": short, "second": replace(short, seed=1)}
    steps = []
    step = ClassifierModule.training_step

    def interrupted_step(self: ClassifierModule, *given: object) -> object:
        steps.append(1)
        if len(steps) == after:
            signal.raise_signal(signal.SIGINT)  # the step at hand is still done
        return step(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierModule, "training_step", interrupted_step)
        with (
            pytest.raises(KeyboardInterrupt, match="stopped in first; the same call goes on"),
            pytest.warns(RuntimeWarning, match="interrupted after step"),
        ):
            run_grid(cells, tmp_path)
    stopped = load_classifier(tmp_path / "first")
    assert stopped.config["status"] == "interrupted"
    assert len(stopped.history) == after
    assert "INTERRUPTED" in (tmp_path / "first" / "report.html").read_text()
    assert (stopped.history["epoch"].max() == 2) == tuned
    assert not (tmp_path / "second").exists()
    runs = run_grid(cells, tmp_path)
    assert [run.config["status"] for run in runs.values()] == ["finished"] * 2
    assert all(len(run.history) == 4 for run in runs.values())


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
    assert ClassifierExperiment.from_json(TINY.to_json()) == TINY
    with pytest.raises(ValueError, match="no setting 'loss'; it has trunk"):
        ClassifierExperiment.from_dict({**TINY.to_dict(), "loss": "triplet"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("parts", "XR_HAND", "must be a tuple of at least one part"),
        ("parts", (), "must be a tuple of at least one part"),
        ("views", 0, "views=0 must be a whole number of at least 1"),
        ("epochs", 0, "epochs=0 must be a whole number of at least 1"),
        ("patience", 0, "patience=0 must be a whole number of at least 1"),
        ("tune_epochs", -1, "tune_epochs=-1 must not be negative"),
        ("lr", 0.0, "lr=0.0 must be a finite number above 0"),
        ("size", 31, "size must be at least 32"),
        ("seed", -1, "seed=-1 must be a whole number, not negative"),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **{name: value})
