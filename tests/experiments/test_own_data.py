"""Radiographs of one's own in a run: other names, no split, several labels; settings from a file."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import siamura
from siamura._files import printable
from siamura.cli import app, settings_command
from siamura.experiments import Experiment, Run
from siamura.experiments.data import load
from siamura.experiments.settings import columns_of

NAMES = {"file": "path", "finding": "label", "region": "part", "person": "patient", "visit": "study"}
COLUMNS = ",".join(f"{own}={name}" for own, name in NAMES.items())


@pytest.fixture
def own(done: Run, tmp_path: Path) -> Path:
    """The phantoms as a person's table: other names, words for labels, no split."""
    table = siamura.read_mura(done.config["data"]["name"])
    table["label"] = table["label"].map({0: "clean", 1: "fracture"})
    table["part"], table["age"] = "finger", 50
    table = table.rename(columns={name: own for own, name in NAMES.items()}).drop(columns="split")
    table.to_csv(tmp_path / "films.csv", index=False)
    return tmp_path / "films.csv"


def test_a_table_of_ones_own_gives_both_splits_and_says_how(own: Path, cache: Path, tmp_path: Path) -> None:
    inputs = load(
        str(own), ("finger",), siamura.Preprocess(size=32), tmp_path, cache=cache, views=1, seed=0,
        columns=columns_of(COLUMNS), positive=["fracture"],
    )  # fmt: skip
    train, valid = inputs.splits["train"].table, inputs.splits["valid"].table
    assert not set(train["patient"]) & set(valid["patient"])
    assert set(train["part"]) == {"XR_FINGER"}
    assert inputs.facts["classes"] == ["clean", "fracture"]
    assert "one fifth of its patients" in inputs.facts["split"]
    positive = pd.read_csv(own).set_index("file")["finding"].eq("fracture")
    assert (train["label"] == positive[train["path"]].to_numpy()).all()


def test_three_labels_are_named_and_refused(own: Path, cache: Path, tmp_path: Path) -> None:
    table = pd.read_csv(own)
    table.loc[table["person"] == table["person"].iloc[0], "finding"] = "cyst"
    table.to_csv(own, index=False)
    with pytest.raises(ValueError, match=r"has 3 labels .* positive"):
        load(
            str(own), ("finger",), siamura.Preprocess(size=32), tmp_path, cache=cache, views=1, seed=0,
            columns=columns_of(COLUMNS),
        )  # fmt: skip


def test_columns_are_pairs() -> None:
    assert columns_of("file=path, finding = label") == {"file": "path", "finding": "label"}
    for wrong in ("file", "file=", "a=b=c", ","):
        with pytest.raises(ValueError, match="must be names and their meaning"):
            Experiment(data="films.csv", columns=wrong)
    with pytest.raises(ValueError, match="columns and positive are of data="):
        Experiment(positive="fracture")


def test_describe_counts_a_table_of_ones_own(own: Path) -> None:
    result = CliRunner().invoke(
        app, ["describe", str(own), "--columns", COLUMNS, "--positive", "fracture", "--format", "json"]
    )
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert sum(row["views"] for row in rows) == len(pd.read_csv(own))
    assert {row["part"] for row in rows} == {"XR_FINGER"}


def test_a_setting_becomes_a_keyword_of_fit_or_of_the_preprocessing() -> None:
    settings = Experiment(
        fit="crop", clip_limit=3.0, tiles=4, accumulate=2, ema=0.9, precision="32", device="cuda", workers=1
    )
    pre = settings.preprocess()
    assert (pre.fit, pre.clahe) == ("center_crop", siamura.CLAHE(3.0, (4, 4)))
    given = settings.training(valid="valid")
    assert "valid" not in given
    assert (given["accelerator"], given["accumulate"], given["ema"]) == ("gpu", 2, 0.9)
    assert replace(settings, patience=2).training(valid="valid")["valid"] == "valid"
    with pytest.raises(ValueError, match="tiles=4 does nothing with clahe=False"):
        Experiment(tiles=4, clahe=False)


@pytest.mark.parametrize("form", ["config.json", "run.toml", "plain.json"])
def test_settings_come_from_a_file_and_options_win(form: str, tmp_path: Path) -> None:
    file = tmp_path / form
    own = {"dim": 16, "trunk": "resnet18", "loss": "batch_hard"}
    if form == "run.toml":
        file.write_text('dim = 16\ntrunk = "resnet18"\nloss = "batch_hard"\n')
    else:
        whole = Experiment(**own).to_dict()
        file.write_text(json.dumps({"experiment": whole} if form == "config.json" else own))
    seen: list[Experiment] = []

    def keep(experiment: Experiment, out: Path, **options: bool) -> Run:
        """Keep the settings."""
        seen.append(experiment)
        raise ValueError("enough")

    program = typer.Typer()
    program.command()(settings_command(Experiment(), out=str(tmp_path / "run"))(keep))
    CliRunner().invoke(program, ["--config", str(file), "--dim", "8"])
    assert seen == [Experiment(**{**own, "dim": 8})]
    file.write_text("[")
    refused = CliRunner().invoke(program, ["--config", str(file)])
    assert refused.exit_code == 2
    assert f"{printable(file)} is damaged" in refused.stderr
