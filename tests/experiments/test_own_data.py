"""Radiographs of one's own in a run: other names, no split, several labels; settings from a file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import siamura
from siamura._files import printable
from siamura._names import PARTS
from siamura.cli import app, settings_command
from siamura.cli.arguments import class_code
from siamura.experiments import Experiment, Run
from siamura.experiments.batches import batch_domains
from siamura.experiments.data import read_inputs
from siamura.experiments.metrics import by_group, measure
from siamura.experiments.settings import columns_of
from siamura.inference import answers_of, studies_of
from siamura.report.sections import groups_section, scores_section

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
    inputs = read_inputs(
        str(own), ("finger",), siamura.Preprocess(size=32), tmp_path, cache=cache, views=1, seed=0,
        reading={"columns": columns_of(COLUMNS), "positive": ["fracture"]},
    )  # fmt: skip
    train, valid = inputs.splits["train"].table, inputs.splits["valid"].table
    assert not set(train["patient"]) & set(valid["patient"])
    assert set(train["part"]) == {"XR_FINGER"}
    assert inputs.facts["classes"] == ["clean", "fracture"]
    assert "one fifth of its patients" in inputs.facts["split"]
    positive = pd.read_csv(own).set_index("file")["finding"].eq("fracture")
    assert (train["label"] == positive[train["path"]].to_numpy()).all()


def test_three_labels_keep_their_names_and_a_classifier_refuses_them(
    own: Path, cache: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(own)
    table.loc[table["person"].isin(table["person"].unique()[::3]), "finding"] = "cyst"
    table.to_csv(own, index=False)
    given = {"cache": cache, "views": 1, "seed": 0, "reading": {"columns": columns_of(COLUMNS)}}
    found = read_inputs(str(own), ("finger",), siamura.Preprocess(size=32), tmp_path, labels=3, **given)
    names = found.facts["classes"]
    assert sorted(names) == ["clean", "cyst", "fracture"]
    truth = pd.read_csv(own).set_index("file")["finding"]
    for split, data in found.splits.items():
        rows = data.table
        assert [names[code] for code in rows["label"]] == truth[rows["path"]].tolist()
        assert found.facts["labels"][split] == {name: (rows["finding"] == name).sum() for name in names}
    with pytest.raises(ValueError, match=r"has 3 labels .* tells two apart"):
        read_inputs(str(own), ("finger",), siamura.Preprocess(size=32), tmp_path, two=True, **given)
    with pytest.raises(ValueError, match=r"p=4: .* has 3 labels .*at most 3"):
        read_inputs(str(own), ("finger",), siamura.Preprocess(size=32), tmp_path, labels=4, **given)


def test_a_study_with_several_labels_that_have_no_order_is_refused_before_training(
    own: Path, cache: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(own)
    table["finding"] = [("clean", "cyst", "fracture")[i % 3] for i in range(len(table))]
    table.to_csv(own, index=False)
    with pytest.raises(
        ValueError, match=r"studies have views of several labels, the first is .*leave the column"
    ):
        read_inputs(
            str(own), ("finger",), siamura.Preprocess(size=32), tmp_path, cache=cache, views=1, seed=0,
            reading={"columns": columns_of(COLUMNS)},
        )  # fmt: skip


def test_batches_stay_within_a_part_that_has_the_labels() -> None:
    rows = [(part, label) for part in ("XR_HAND", "XR_KNEE") for label in (0, 1) for _ in range(4)]
    table = pd.DataFrame(rows, columns=["part", "label"])
    within = batch_domains(table, p=2, k=4)
    assert within is not None
    for batch in siamura.samplers.PKBatchSampler(table["label"], p=2, k=4, within=within):
        assert table["part"].iloc[batch].nunique() == 1
    assert batch_domains(table, p=2, k=5) is None  # too few films of a label
    assert batch_domains(table.assign(label=(table["part"] == "XR_HAND").astype(int)), p=2, k=4) is None
    assert batch_domains(table.assign(part="XR_HAND"), p=2, k=4) is None


def test_seven_parts_as_classes_are_scored_by_name() -> None:
    rng = np.random.default_rng(0)
    code = np.arange(140) % 7
    table = pd.DataFrame({
        "part": "XR_HAND", "patient": [f"p{i // 2}" for i in range(140)], "study": [f"s{i}" for i in range(140)],
        "label": code, "hardware": [float(i % 2) for i in range(140)], "sex": None,
    })  # fmt: skip
    share = rng.dirichlet(np.ones(7), 140) + 0.4 * np.eye(7)[code]
    share /= share.sum(axis=1, keepdims=True)
    found = measure(table, {"knn": share}, classes=PARTS, ordered=False, seed=0)["study"]["knn"]
    assert found["accuracy"] == pytest.approx((share.argmax(axis=1) == code).mean())
    hand = code == PARTS.index("XR_HAND")
    assert found["recall[XR_HAND]"] == pytest.approx((share.argmax(axis=1)[hand] == 3).mean())
    groups = by_group(table, {"knn": share}, classes=PARTS, ordered=False, seed=0)
    assert list(groups) == ["hardware"]  # a column without values is none
    odd = np.arange(140) % 2 == 1
    of_one = groups["hardware"]["heads"]["knn"]["1"]
    assert of_one["accuracy"] == pytest.approx((share.argmax(axis=1) == code)[odd].mean())
    assert of_one["interval"]["accuracy"][0] < of_one["accuracy"] < of_one["interval"]["accuracy"][1]
    shown = " ".join(map(str, [*scores_section({"valid": {"study": {"knn": found}}}, PARTS),
                               *groups_section({"groups": groups})]))  # fmt: skip
    assert "Recall, XR_WRIST" in shown
    assert "patients" in shown


def test_an_answer_has_the_persons_own_name() -> None:
    two = answers_of(np.array([0.2, 0.7, np.nan]), ("clean", "fracture"))
    assert two["answer"].tolist()[:2] == ["clean", "fracture"]
    assert two["answer"].isna().tolist() == [False, False, True]
    share = np.array([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2]])
    three = answers_of(share, ("none", "mild", "severe"))
    assert three["answer"].tolist() == ["mild", "none"]
    views = three.assign(study="one")
    study = studies_of(views, classes=("none", "mild", "severe")).loc[0]
    assert (study["answer"], study["probability"], study["probability[severe]"]) == ("none", 0.4, 0.25)
    assert class_code(("none", "mild"), "Mild") == 1
    with pytest.raises(ValueError, match="no class of this run; it has none, mild"):
        class_code(("none", "mild"), "2")


@pytest.mark.slow
def test_grades_of_two_parts_run_end_to_end(done: Run, cache: Path, tmp_path: Path) -> None:
    siamura.make_phantoms(tmp_path / "drawn", parts=("XR_FINGER", "XR_HAND"), views=96, seed=3)
    table = siamura.read_mura(tmp_path / "drawn")
    names = ("none", "mild", "severe")
    patient = table.groupby("patient", sort=False).ngroup()
    table["label"], table["sex"] = (patient % 3).map(dict(enumerate(names))), ["FM"[p % 2] for p in patient]
    table.to_csv(tmp_path / "films.csv", index=False)
    settings = Experiment(
        data=str(tmp_path / "films.csv"), classes=",".join(names), ordered=True, part="all", trunk="resnet18",
        size=32, steps=2, p=3, k=2, dim=8, neighbours=5, logger="csv",
    )  # fmt: skip
    run = siamura.run(settings, tmp_path / "run", cache=cache)
    scores = run.metrics["valid"]["study"]["knn"]
    assert {"kappa_quadratic", "recall[severe]", "auroc_macro", "parts"} <= set(scores)
    assert sorted(scores["parts"]) == ["XR_FINGER", "XR_HAND"]
    assert sorted(run.metrics["groups"]["sex"]["heads"]["knn"]) == ["F", "M"]
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    card = (run.folder / "model" / "README.md").read_text(encoding="utf-8")
    for text in (page, card, run.table()):
        assert "severe" in text
        assert "abnormal" not in text
    assert (run.folder / "csv" / "metrics.csv").is_file()

    def call(*words: object) -> pd.DataFrame:
        result = CliRunner().invoke(app, [*map(str, words), "--format", "json"])
        assert result.exit_code == 0, result.output
        return pd.DataFrame(json.loads(result.stdout))

    film = table["path"].iloc[0]
    assert call("predict", run.folder, film)["answer"].isin(names).all()
    measured = call("evaluate", run.folder, "--plain").set_index(["level", "metric"])["value"]
    assert measured["study", "kappa"] == pytest.approx(scores["kappa"])
    CliRunner().invoke(app, ["index", str(run.folder), str(tmp_path / "cases.db")])
    found = call("search", run.folder, tmp_path / "cases.db", film, "--label", "severe")
    assert found["finding"].eq("severe").all()
    assert len(found)


def test_columns_are_pairs() -> None:
    assert columns_of("file=path, finding = label") == {"file": "path", "finding": "label"}
    for wrong in ("file", "file=", "a=b=c", ","):
        with pytest.raises(ValueError, match="must be names and their meaning"):
            Experiment(data="films.csv", columns=wrong)
    with pytest.raises(ValueError, match="columns, positive, classes, ordered and lesions are of data="):
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
    assert Experiment(part="hand, leg", logger="csv").training()["loggers"] == ("csv",)
    with pytest.raises(ValueError, match="logger='paper'"):
        Experiment(logger="paper")
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
