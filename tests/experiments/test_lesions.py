"""A run with boxes of lesions: the training views' teach the network, the validation views' measure its heat maps."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from siamura._run_files import load_network
from siamura.cli import app
from siamura.experiments import Experiment, run
from siamura.studies import read_boxes, read_mura


@pytest.fixture(scope="module")
def drawn(started: Path) -> tuple[Path, Experiment]:
    root = (started / "phantoms").resolve()
    settings = Experiment(
        data=str(root), lesions=str(root / "lesions.csv"), trunk="resnet18", size=64, steps=2, k=4, dim=8,
        neighbours=5, calibration_share=0.0,
    )  # fmt: skip
    return root, settings


@pytest.fixture(scope="module")
def taught(drawn: tuple[Path, Experiment], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(drawn[1], tmp_path_factory.mktemp("taught") / "run", cache=cache).folder


def test_the_boxes_of_training_views_teach(taught: Path, drawn: tuple[Path, Experiment]) -> None:
    root, _ = drawn
    table = read_mura(root)
    train = table[table["split"] == "train"]
    boxes = read_boxes(root / "lesions.csv", train)
    config = json.loads((taught / "config.json").read_text())
    assert config["recipe"]["locate"] == 6.0
    assert config["data"]["boxes"] == {
        "train": boxes["path"].nunique(), "of": int((train["label"] > 0).sum()), "label": "normal",
    }  # fmt: skip
    assert pd.read_csv(taught / "history.csv")["location_loss"].notna().all()
    net = load_network(taught)
    assert net.config["pool"] == "located"
    assert net.head.pool.finer.weight.any()
    page = (taught / "report.html").read_text(encoding="utf-8")
    assert "training views with a finding taught the network where to look" in page
    assert "Are the heat maps right?" in page


@pytest.mark.slow
def test_every_later_use_takes_such_a_network(
    taught: Path, drawn: tuple[Path, Experiment], tmp_path: Path
) -> None:
    film = str(next((drawn[0] / "valid").rglob("*.png")))
    for words in (
        ["predict", taught, film],
        ["explain", taught, film, "--out", tmp_path / "heat.png"],
        ["index", taught, tmp_path / "cases.db"],
        ["search", taught, tmp_path / "cases.db", film],
    ):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_without_weight_or_boxes_of_training_views_it_is_the_plain_network(
    drawn: tuple[Path, Experiment], cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, settings = drawn
    done = run(replace(settings, locate=0.0), tmp_path / "off", cache=cache)
    assert load_network(done.folder).config["pool"] == "avg"
    assert "location_loss" not in done.history
    assert "boxes" not in done.config["data"]
    table = read_mura(root)
    boxes = read_boxes(root / "lesions.csv", table[table["split"] == "valid"])
    boxes.to_csv(tmp_path / "valid.csv", index=False)
    other = run(replace(settings, lesions=str(tmp_path / "valid.csv")), tmp_path / "valid", cache=cache)
    assert f"{tmp_path / 'valid.csv'} has no box of a training view" in caplog.text
    assert load_network(other.folder).config["pool"] == "avg"
    assert other.config["data"]["boxes"]["train"] == 0
    assert "taught the network" not in (other.folder / "report.html").read_text(encoding="utf-8")
    pd.testing.assert_frame_equal(other.history, done.history)


def test_a_run_of_an_earlier_siamura_is_not_gone_on_with(
    taught: Path, drawn: tuple[Path, Experiment], tmp_path: Path
) -> None:
    config = json.loads((taught / "config.json").read_text())
    del config["recipe"]["locate"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"locate was 0\.0 by default; it is 6\.0 now"):
        run(drawn[1], tmp_path, resume=True)


def test_settings_that_do_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"locate=1\.0 does nothing without lesions"):
        Experiment(locate=1.0)
    with pytest.raises(ValueError, match="locate=-1"):
        Experiment(data="films", lesions="lesions.csv", locate=-1)
