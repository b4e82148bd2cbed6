"""The finger experiment from phantoms to its folder, in a tiny setting, and every kind of bad input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import siamura
from siamura.cli import settings_command
from siamura.experiments import Experiment, Run, load_run, run
from siamura.training.module import MetricModule

TINY = Experiment(views=96, steps=3, size=64, k=4, trunk="resnet18", dim=16, neighbours=5)


@pytest.fixture(scope="module")
def phantoms(done: Run) -> Path:
    return Path(done.config["data"]["name"])


@pytest.fixture
def mura(phantoms: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(phantoms, tmp_path / "data")
    return tmp_path / "data"


def test_the_folder_is_complete(done: Run) -> None:
    names = {path.name for path in done.folder.iterdir()}
    assert names == {
        "config.json", "history.csv", "metrics.json", "embeddings.npz", "table.md", "report.html", "model", "knn",
        "mlp", "figures.json", "losses.png", "embedding.png", "neighbours.png", "confusion.png", "roc.png",
        "precision_recall.png", "reliability.png", "counts.png", "clahe.png", "augmentation.png",
        "decision_curve.png", "operating_point.json", "answers.npz", "attention",
    }  # fmt: skip
    assert {p.name for p in (done.folder / "model").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }


def test_the_model_card_says_what_was_measured_on_what(done: Run) -> None:
    card = (done.folder / "model" / "README.md").read_text()
    assert "PHANTOMS" in card
    assert "not for diagnosis" in card
    assert f"{done.metrics['valid']['study']['knn']['kappa']:.3f} [" in card
    assert "$" not in card


def test_metrics_hold_both_heads_levels_and_splits(done: Run) -> None:
    metrics = json.loads((done.folder / "metrics.json").read_text())
    for split in ("train", "valid"):
        for level in ("view", "study"):
            for head in ("knn", "mlp"):
                figures = metrics[split][level][head]
                assert figures["accuracy"] == pytest.approx(1 - figures["error"])
                assert -1 <= figures["kappa"] <= 1
                low, high = figures["interval"]["accuracy"]
                assert low <= figures["accuracy"] <= high
                assert figures["patients"] == done.config["data"]["counts"][split]["patients"]
    assert "trivial" in metrics["valid"]["study"]
    assert metrics["valid"]["view"]["embedding"]["loss"] > 0


def test_study_figures_are_the_mean_of_the_views(done: Run) -> None:
    vectors, table = done.embeddings()
    valid = (table["split"] == "valid").to_numpy()
    p = done.heads()["knn"].predict_proba(vectors[valid])[:, 1]
    studies = (
        table[valid]
        .assign(p=p)
        .groupby(["part", "patient", "study"])
        .agg(p=("p", "mean"), y=("label", "first"))
    )
    expected = float(((studies["p"] > 0.5) == (studies["y"] == 1)).mean())
    assert done.metrics["valid"]["study"]["knn"]["accuracy"] == pytest.approx(expected)


def test_embeddings_are_those_of_the_saved_network_in_the_order_of_the_table(done: Run) -> None:
    vectors, table = done.embeddings()
    net = done.network()
    rows = [0, len(table) // 2, len(table) - 1]
    images = np.stack([net.preprocess(siamura.read_image(table["path"][row])) for row in rows])
    again = siamura.embed(net, images, precision="32", progress=False)
    assert np.abs(again - vectors[rows]).max() < 0.02  # the run may have embedded in bf16
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(vectors)), abs=1e-4)
    assert table["label"].tolist() == [int("positive" in path) for path in table["path"]]


def test_history_and_config_say_what_was_run(done: Run) -> None:
    assert done.history["step"].tolist() == [1, 2, 3]
    assert Experiment.from_dict(done.config["experiment"]) == TINY
    assert done.config["status"] == "finished"
    assert done.config["data"]["phantoms"] is True
    assert {"siamura", "torch", "python"} <= set(done.config["versions"])
    assert "PHANTOMS" in done.table()


@pytest.mark.slow
def test_the_same_settings_give_the_same_figures(done: Run, cache: Path, tmp_path: Path) -> None:
    experiment = Experiment.from_dict(json.loads((done.folder / "config.json").read_text())["experiment"])
    again = run(experiment, tmp_path / "again", cache=cache)
    assert again.metrics == done.metrics
    pd.testing.assert_frame_equal(again.history, done.history)


def program(defaults: Experiment) -> typer.Typer:
    """What ``siamura train`` is, with other defaults."""
    app = typer.Typer()
    app.command()(settings_command(defaults, out="unused")(run))
    return app


def refused(*arguments: str, defaults: Experiment = TINY) -> str:
    """Run the script's command, expect status 2 and one sentence without a traceback."""
    result = CliRunner().invoke(program(defaults), list(arguments))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert result.stdout == ""
    return last


def test_no_mura_tree(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused(
        "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "run")
    )
    assert "nowhere" in refused("--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_unknown_part_lists_those_found(phantoms: Path, tmp_path: Path) -> None:
    said = refused("--data", str(phantoms), "--part", "XR_TOE", "--out", str(tmp_path / "run"))
    assert "XR_TOE" in said
    assert "XR_FINGER" in said


def test_one_label_only(mura: Path, tmp_path: Path) -> None:
    for path in mura.rglob("*_positive"):
        shutil.rmtree(path)
    for path in mura.glob("*.csv"):
        path.unlink()
    assert "only the label 'normal'" in refused("--data", str(mura), "--out", str(tmp_path / "run"))


def test_fewer_patients_than_k(phantoms: Path, tmp_path: Path) -> None:
    said = refused("--data", str(phantoms), "--k", "60", "--out", str(tmp_path / "run"))
    assert "fewer than k=60" in said
    assert "--k" in said


def test_run_folder_in_use(done: Run) -> None:
    before = {p: p.stat().st_mtime_ns for p in done.folder.rglob("*")}
    assert "--overwrite" in refused("--out", str(done.folder))
    assert before == {p: p.stat().st_mtime_ns for p in done.folder.rglob("*")}


def test_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in refused("--out", str(tmp_path / "file" / "run"))


@pytest.mark.parametrize(
    ("option", "value"), [("--trunk", "densenet1690"), ("--augment", "spin"), ("--p", "3")]
)
def test_unknown_values_are_named(option: str, value: str, phantoms: Path, tmp_path: Path) -> None:
    said = refused("--data", str(phantoms), option, value, "--out", str(tmp_path / "run"))
    assert value in said
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.slow
def test_an_unreadable_image_is_left_out_counted_and_listed(mura: Path, cache: Path, tmp_path: Path) -> None:
    bad = sorted(mura.rglob("train/**/*.png"))[0]
    bad.write_bytes(bad.read_bytes()[:200])
    done = run(replace(TINY, data=str(mura), steps=1), tmp_path / "run", cache=cache)
    listed = pd.read_csv(done.folder / "unreadable.csv")
    assert listed["path"].tolist() == [str(bad.resolve())]
    assert done.config["data"]["unreadable"] == 1
    assert str(bad.resolve()) not in set(done.embeddings()[1]["path"])


@pytest.mark.slow
def test_a_stopped_run_is_gone_on_with(done: Run, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(replace(TINY, steps=1), folder, cache=cache)
    with pytest.raises(ValueError, match=r"steps=1, not 3.*--overwrite"):
        run(TINY, folder, resume=True, cache=cache)
    finished = run(replace(TINY, steps=1), folder, resume=True, cache=cache)
    assert finished.history["step"].tolist() == [1]


@pytest.mark.slow
def test_ctrl_c_leaves_a_complete_run_folder(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "examples" / "finger_tfl.py"
    small = [
        "--views",
        "96",
        "--steps",
        "2000",
        "--size",
        "64",
        "--k",
        "4",
        "--trunk",
        "resnet18",
        "--dim",
        "16",
    ]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(script), *small, "--out", str(tmp_path / "run")],
            stdout=log, stderr=log, env={**os.environ, "SIAMURA_CACHE": str(tmp_path / "cache")},
        )  # fmt: skip
        while process.poll() is None and not re.search(
            r" ([5-9]|\d\d+)/2000", (tmp_path / "log").read_text()
        ):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130, (tmp_path / "log").read_text()[-2000:]
    assert re.search(
        r"^The run is partial: interrupted after step \d+;", (tmp_path / "log").read_text(), re.M
    )
    stopped = load_run(tmp_path / "run")
    assert stopped.config["status"] == "interrupted"
    assert 5 <= len(stopped.history) < 2000
    assert "kappa" in stopped.metrics["valid"]["study"]["knn"]


@pytest.mark.slow
def test_ctrl_c_in_training_ends_with_130_and_one_line(
    done: Run, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    step = MetricModule.training_step

    def interrupted_step(self: MetricModule, *given: object) -> object:
        steps.append(1)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)  # the step at hand is still done
        return step(self, *given)

    monkeypatch.setattr(MetricModule, "training_step", interrupted_step)
    monkeypatch.setenv("SIAMURA_CACHE", str(cache))
    with pytest.warns(RuntimeWarning, match="interrupted after step"):
        result = CliRunner().invoke(program(TINY), ["--out", str(tmp_path / "run")])
    assert result.exit_code == 130, result.output
    assert result.stdout.splitlines()[-1].startswith("The run is partial: interrupted after step 2; ")
    assert load_run(tmp_path / "run").config["status"] == "interrupted"


def test_ctrl_c_before_training_ends_with_130_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "siamura.experiments.running.read_inputs", lambda *_, **__: signal.raise_signal(signal.SIGINT)
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a process of its own
    try:
        result = CliRunner().invoke(program(TINY), ["--out", str(tmp_path / "run")])
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert result.stdout.splitlines() == [
        f"The run in {tmp_path / 'run'} is partial: interrupted before it was measured."
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--loss", "selectively_contrastive", "--margin", "0.2"], "margin=0.2 does nothing with loss="),
        (["--loss", "batch_hard", "--sigma", "1.0"], "sigma=1.0 does nothing with loss='batch_hard'"),
        (["--data", "MURA", "--views", "800"], "--views 800 is the number of phantoms"),
        (["--overwrite", "--resume"], "exclude each other"),
    ],
)
def test_options_that_do_nothing_are_refused(options: list[str], says: str, tmp_path: Path) -> None:
    assert says in refused(*options, "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("room", [2_000, 400_000])
def test_a_full_disk_is_said_in_a_sentence(
    done: Run, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """A limit on the size of a file stands for the disk: it fails on the settings, or on the weights."""
    resource = pytest.importorskip("resource")
    monkeypatch.setenv("SIAMURA_CACHE", str(cache))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        said = refused("--out", str(tmp_path / "run"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the disk or the quota is full" in said


def test_no_finished_run_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no finished run"):
        load_run(tmp_path)
