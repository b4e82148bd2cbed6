"""Tables as three other people have them, through the whole run and every command on it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import siamura
from siamura._names import PARTS
from siamura.cli import app
from siamura.experiments import Experiment, Run

TINY = {"trunk": "squeezenet1_1", "size": 32, "steps": 2, "k": 2, "dim": 8, "neighbours": 5}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Phantoms of all seven parts; what a person calls them is each test's."""
    root = tmp_path_factory.mktemp("films") / "drawn"
    siamura.make_phantoms(root, parts=PARTS, views=252, seed=4)
    return siamura.read_mura(root)


def call(*words: object) -> pd.DataFrame:
    result = CliRunner().invoke(app, [*map(str, words), "--format", "json"])
    assert result.exit_code == 0, result.output
    return pd.DataFrame(json.loads(result.stdout))


def every_command_works(run: Run, classes: list[str], film: str, folder: Path) -> None:
    """What a person does with a run: predict, evaluate, index, search, explain; all by their own class names."""
    assert call("predict", run.folder, film)["answer"].isin(classes).all()
    measured = call("evaluate", run.folder, "--plain").set_index(["level", "metric"])["value"]
    assert measured["study", "kappa"] == pytest.approx(run.metrics["valid"]["study"]["knn"]["kappa"])
    assert CliRunner().invoke(app, ["index", str(run.folder), str(folder / "cases.db")]).exit_code == 0
    found = call("search", run.folder, folder / "cases.db", film, "-k", 3)
    assert found["finding"].isin(classes).all()
    explained = CliRunner().invoke(
        app, ["explain", str(run.folder), film, "--label", classes[-1], "--out", str(folder / "heat.png")]
    )
    assert explained.exit_code == 0, explained.output
    assert json.loads(explained.stdout)["class"] == classes[-1]
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    for name in classes:
        assert name in page
        assert name in run.table() or len(classes) == 2
    assert "abnormal" not in page


@pytest.mark.slow
def test_seven_parts_as_classes(films: pd.DataFrame, cache: Path, tmp_path: Path) -> None:
    names = [part.removeprefix("XR_").capitalize() for part in PARTS]
    table = pd.DataFrame({
        "image": films["path"], "what": films["part"].map(dict(zip(PARTS, names, strict=True))),
        "who": films["patient"], "visit": films["part"] + films["study"], "set": films["split"],
    })  # fmt: skip
    table.to_csv(tmp_path / "films.csv", index=False)
    settings = Experiment(
        data=str(tmp_path / "films.csv"), columns="image=path,what=label,who=patient,visit=study,set=split",
        part="all", p=7, **TINY,
    )  # fmt: skip
    run = siamura.run(settings, tmp_path / "run", cache=cache)
    assert sorted(run.config["data"]["classes"]) == sorted(names)
    assert "table's own" in run.config["data"]["split"]
    scores = run.metrics["valid"]["study"]["knn"]
    assert {f"recall[{name}]" for name in names} <= set(scores)
    assert run.metrics["comparison"]["knn"]["trivial"]["metric"] == "auroc_macro"
    every_command_works(run, run.config["data"]["classes"], films["path"].iloc[0], tmp_path)


@pytest.mark.slow
def test_grades_from_0_to_4_in_order(films: pd.DataFrame, cache: Path, tmp_path: Path) -> None:
    who = films.groupby("patient", sort=False).ngroup()
    table = pd.DataFrame({
        "file": films["path"], "KL grade": who % 5, "person": films["patient"], "sex": np.where(who % 2, "F", "M"),
        "part": "knee", "study": films["part"] + films["study"], "split": films["split"],
    })  # fmt: skip
    table.to_csv(tmp_path / "grades.csv", index=False, sep=";")
    settings = Experiment(
        data=str(tmp_path / "grades.csv"), columns="file=path,KL grade=label,person=patient", part="knee", p=5,
        lesions=str(Path(films["path"].iloc[0]).parents[4] / "lesions.csv"), **TINY,
    )  # fmt: skip
    run = siamura.run(settings, tmp_path / "run", cache=cache)
    assert run.config["data"]["classes"] == ["0", "1", "2", "3", "4"]
    assert run.config["data"]["ordered"]
    assert "kappa_quadratic" in run.metrics["valid"]["study"]["mlp"]
    assert "grades in order" in run.table()
    lesions = run.metrics[
        "lesions"
    ]  # of each grade the map of its own score, where the film is answered right
    assert lesions["views"] >= lesions["found"] >= 0
    assert "Are the heat maps right?" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert sorted(run.metrics["groups"]["sex"]["heads"]["knn"]) == ["F", "M"]
    every_command_works(run, run.config["data"]["classes"], films["path"].iloc[0], tmp_path)


def test_a_table_without_split_and_study_has_both_made_and_said(
    films: pd.DataFrame, cache: Path, tmp_path: Path
) -> None:
    kinds = films["label"].map({0: "unremarkable", 1: "broken"})
    table = pd.DataFrame({"file": films["path"], "finding": kinds, "patient": films["patient"]})
    table.to_csv(tmp_path / "films.csv", index=False)
    settings = Experiment(
        data=str(tmp_path / "films.csv"),
        columns="file=path,finding=label",
        positive="broken",
        part="all",
        **TINY,
    )
    run = siamura.run(settings, tmp_path / "run", cache=cache)
    data = run.config["data"]
    assert data["classes"] == ["unremarkable", "broken"]
    assert "one fifth of its patients" in data["split"]
    assert data["split"] in (run.folder / "report.html").read_text(encoding="utf-8")
    assert data["counts"]["valid"]["studies"] == data["counts"]["valid"]["views"]
    vectors, rows = run.embeddings()
    assert len(vectors) == len(table)
    assert not set(rows["patient"][rows["split"] == "train"]) & set(rows["patient"][rows["split"] == "valid"])
    every_command_works(run, ["unremarkable", "broken"], films["path"].iloc[0], tmp_path)


@pytest.mark.slow
def test_the_regions_of_real_films_as_four_classes(shared: Path, cache: Path, tmp_path: Path) -> None:
    source = (shared / "fracatlas" / "films.csv").resolve()
    if not source.is_file():
        pytest.skip("needs the films of FracAtlas beside the checkout")
    regions = ["hand", "hip", "leg", "shoulder"]
    table = pd.read_csv(source)
    table = table[table["region"].isin(regions)].groupby(["split", "region"]).head(40)
    table["file"] = [str(source.parent / name) for name in table["file"]]
    table.to_csv(tmp_path / "films.csv", index=False)
    settings = Experiment(
        data=str(tmp_path / "films.csv"), columns="file=path,region=label", part="all", p=4,
        **{**TINY, "k": 4, "steps": 30, "size": 64, "dim": 16},
    )  # fmt: skip
    run = siamura.run(settings, tmp_path / "run", cache=cache)
    assert run.config["data"]["classes"] == regions
    scores = run.metrics["valid"]["study"]["knn"]
    assert {f"auroc[{name}]" for name in regions} <= set(scores)
    assert scores["interval"]["kappa"][0] > 0  # a hand is told from a leg
    every_command_works(run, regions, table["file"].iloc[0], tmp_path)
