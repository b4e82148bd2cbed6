"""One experiment with several seeds: the same patients, each seed kept, mean, spread and ensemble beside loops."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import siamura
from siamura.cli import app
from siamura.evaluation import compare, compare_seeds
from siamura.experiments import Experiment, Run, load_data, load_predictor, load_run, load_seeds, run_seeds
from siamura.experiments.answers import Answers, load_answers, write_answers
from siamura.experiments.folder import write_embeddings
from siamura.experiments.seeds import SeedRuns, _summarise
from siamura.inference import Predictor, list_views
from siamura.report import write_report

TINY = Experiment(views=96, steps=3, size=64, k=4, trunk="resnet18", dim=16, neighbours=5)


@pytest.fixture
def several(seeded: Path) -> SeedRuns:
    """Two seeds that are there already; nobody may change their folder."""
    return load_seeds(seeded)


@pytest.mark.slow
def test_the_seeds_share_patients_and_baselines_and_nothing_else(tmp_path: Path, cache: Path) -> None:
    tiny = replace(TINY, steps=1, size=32, trunk="squeezenet1_1")
    found = run_seeds(tiny, tmp_path / "out", seeds=(0, 4), cache=cache)
    first, second = found.runs.values()
    tables = [one.embeddings() for one in (first, second)]
    pd.testing.assert_frame_equal(tables[0][1], tables[1][1])
    assert not np.allclose(tables[0][0], tables[1][0])
    assert first.config["data"] == second.config["data"]
    answers = [load_answers(one.folder, 2) for one in (first, second)]
    assert np.array_equal(answers[0].valid["trivial"], answers[1].valid["trivial"])
    assert second.experiment == replace(tiny, seed=4, data_seed=0)


def test_the_split_and_the_patients_held_back_are_those_of_the_data_seed(
    done: Run, cache: Path, tmp_path: Path
) -> None:
    table = siamura.read_mura(done.config["data"]["name"]).drop(columns="split")
    table.to_csv(tmp_path / "films.csv", index=False)
    own = replace(TINY, data=str(tmp_path / "films.csv"), size=32)
    found = []
    for seed, data_seed in ((0, None), (4, 0), (4, None)):
        given = replace(own, seed=seed, data_seed=data_seed)
        inputs = load_data(given, given.preprocess(), tmp_path, cache=cache)
        found.append({split: set(data.patients) for split, data in inputs.splits.items()})
    assert found[0] == found[1]
    assert found[0]["valid"] != found[2]["valid"]


def test_the_summary_is_the_mean_of_the_runs_and_of_their_probabilities(several: SeedRuns) -> None:
    found = json.loads((several.folder / "metrics.json").read_text())
    assert found == several.metrics == load_seeds(several.folder).metrics
    valid = several.runs[0].embeddings()[1].query("split == 'valid'").reset_index(drop=True)
    for head in ("knn", "mlp"):
        each = [load_answers(one.folder, 2).valid[head] for one in several.runs.values()]
        values = [siamura.evaluate(valid, p, "study", draws=0).loc["auroc", "value"] for p in each]
        assert values[0] == pytest.approx(several.runs[0].metrics["valid"]["study"][head]["auroc"])
        spread = found["seeds"]["scores"]["study"][head]["auroc"]
        assert spread["values"] == pytest.approx(values)
        assert spread["mean"] == pytest.approx(np.mean(values))
        assert spread["sd"] == pytest.approx(np.std(values, ddof=1))
        ensemble = siamura.evaluate(valid, (each[0] + each[1]) / 2, "study")
        assert found["valid"]["study"][head]["auroc"] == pytest.approx(ensemble.loc["auroc", "value"])
        low_high = ensemble.loc["auroc", ["low", "high"]].tolist()
        assert found["valid"]["study"][head]["interval"]["auroc"] == pytest.approx(low_high)
        trivial = load_answers(several.runs[0].folder, 2).valid["trivial"]
        paired = compare(valid, (each[0] + each[1]) / 2, trivial, "study").loc["auroc"]
        own = found["seeds"]["differences"]["study"][head]
        assert own["ensemble"]["trivial"]["auroc"]["low"] == pytest.approx(paired["low"])
        paired = compare_seeds(valid, dict(enumerate(each)), trivial, "study").loc["auroc"]
        assert own["mean"]["trivial"]["auroc"]["difference"] == pytest.approx(paired["difference"])


def test_the_files_say_on_whom_and_that_these_are_phantoms(several: SeedRuns) -> None:
    names = {path.name for path in several.folder.iterdir()}
    assert names >= {"config.json", "metrics.json", "seeds.csv", "seeds.md", "report.html", "seed0", "seed4"}
    rows = pd.read_csv(several.folder / "seeds.csv")
    assert {"seed 0", "seed 4", "mean", "ensemble", "baseline", "mean less trivial"} <= set(rows["of"])
    exact = rows.query("level == 'study' and head == 'knn' and of == 'mean' and metric == 'kappa'")
    assert exact["value"].item() == pytest.approx(
        several.metrics["seeds"]["scores"]["study"]["knn"]["kappa"]["mean"], abs=1e-12
    )
    patients = several.runs[0].config["data"]["counts"]["valid"]["patients"]
    for name in ("seeds.md", "report.html"):
        text = (several.folder / name).read_text(encoding="utf-8")
        assert f"{patients} patients" in text
        assert "PHANTOMS" in text
        assert "drawn with seed 0 for all of them" in text
    assert (
        len(several.table().query("level == 'study'")) >= 9
    )  # three answer, each with kappa, AUROC, and more
    (several.folder / "report.html").unlink()
    assert write_report(several.folder).is_file()


def test_finished_seeds_are_kept_and_another_is_added(
    several: SeedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(several.folder, out)

    def refuse(*given: object, **named: object) -> None:
        raise AssertionError("a finished seed was trained again")

    monkeypatch.setattr("siamura.experiments.seeds.run", refuse)
    monkeypatch.setattr("siamura.experiments.seeds._summarise", lambda base, folder, runs: runs)
    assert list(run_seeds(TINY, out, seeds=[4, 0])) == [4, 0]
    with pytest.raises(AssertionError, match="trained again"):
        run_seeds(TINY, out, seeds=(0, 5))
    with pytest.raises(AssertionError, match="trained again"):
        run_seeds(TINY, out, seeds=(0, 4), overwrite=True)
    with pytest.raises(FileNotFoundError, match="holds no finished runs of several seeds"):
        load_seeds(out)


def test_predict_answers_with_the_mean_of_the_seeds(several: SeedRuns) -> None:
    views = list_views([Path(several.config["data"]["name"]) / "valid"]).head(3)
    found = load_predictor(several.folder, head="mlp").views(views)
    each = [Predictor(one.folder, head="mlp").views(views)["probability"] for one in several.runs.values()]
    np.testing.assert_allclose(found["probability"], (each[0] + each[1]) / 2)
    said = CliRunner().invoke(
        app, ["predict", str(several.folder), *map(str, views["path"]), "--views", "--head", "mlp"]
    )
    assert said.exit_code == 0, said.output
    np.testing.assert_allclose(pd.read_csv(io.StringIO(said.stdout))["probability"], found["probability"])


def test_one_run_is_asked_for_by_the_commands_that_need_one(several: SeedRuns) -> None:
    for wanted in (load_run, Predictor):
        with pytest.raises(ValueError, match=r"holds 2 runs of one experiment.*seed0, .*seed4\."):
            wanted(several.folder)
    with pytest.raises(FileExistsError, match="something else than a run"):
        siamura.run(TINY, several.folder, overwrite=True)
    with pytest.raises(FileExistsError, match="something else than runs of several seeds"):
        run_seeds(TINY, several.runs[0].folder)


@pytest.mark.parametrize(
    ("seeds", "wrong"),
    [((0, 0), "holds 0 twice"), ((0, 1.5), "seeds=1.5 must be a whole"), ((0, True), "whole"), ((3,), "two seeds"),
     ((0, -1), "whole number from 0"), ((), "two seeds")],
)  # fmt: skip
def test_seeds_that_are_none_are_refused_before_anything_is_written(
    seeds: tuple[object, ...], wrong: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=wrong):
        run_seeds(TINY, tmp_path / "out", seeds=seeds)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (("--seeds", "0,1", "--seed", "3"), "--seeds and --seed exclude each other"),
        (("--seeds", "0,x"), "--seeds 0,x must be whole numbers"),
        (("--seeds", "0,0"), "seeds holds 0 twice"),
        (("--format", "csv"), "--format csv is of the table of --seeds"),
        (("--seeds", "0,1", "--data", "no/such/folder"), "no/such/folder"),
    ],
)
def test_the_command_says_what_is_wrong_and_leaves_nothing(
    options: tuple[str, ...], wrong: str, tmp_path: Path
) -> None:
    said = CliRunner().invoke(app, ["train", "--out", str(tmp_path / "out"), *options])
    assert said.exit_code == 2
    assert wrong in said.output
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_seeds_side_by_side(
    several: SeedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def kept(experiment: Experiment, out: Path, seeds: tuple[int, ...], *, overwrite: bool) -> SeedRuns:
        asked.update(seeds=seeds, steps=experiment.steps, overwrite=overwrite)
        return several

    monkeypatch.setattr(siamura, "run_seeds", kept)
    said = CliRunner().invoke(app, ["train", "--seeds", "0,4", "--steps", "1", "--out", str(several.folder)])
    assert said.exit_code == 0, said.output
    assert asked == {"seeds": (0, 4), "steps": 1, "overwrite": False}
    table = pd.read_csv(io.StringIO(said.stdout))
    assert list(table)[:6] == ["level", "head", "metric", "seed 0", "seed 4", "mean"]
    assert "PHANTOMS" in said.stderr
    assert "Against the trivial baseline" in said.stderr


def written(folder: Path, seed: int, classes: int, *, apart: bool = True) -> Run:
    """A run folder with answers drawn at random, as far as a summary reads it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)  # the patients are those of every seed
    label = np.repeat(np.arange(60) % classes, 2)
    table = pd.DataFrame({
        "path": [f"{i}.png" for i in range(120)], "part": np.where(label.repeat(1) > 5, "XR_HAND", "XR_HAND"),
        "patient": np.repeat([f"p{i}" for i in range(60)], 2), "study": "study1", "label": label,
        "split": np.repeat(["train", "valid"], 60),
    })  # fmt: skip
    write_embeddings(folder, np.zeros((120, 2), np.float32), table)
    own = np.random.default_rng(seed)

    def shares(rows: slice, draw: np.random.Generator) -> np.ndarray:
        found = draw.dirichlet(np.ones(classes), 60) + 0.5 * np.eye(classes)[label[rows]]
        found /= found.sum(axis=1, keepdims=True)
        return found[:, 1] if classes == 2 else found

    valid = {"knn": shares(slice(60, 120), own), "mlp": shares(slice(60, 120), own)}
    valid |= {"trivial": shares(slice(60, 120), rng), "frozen_logistic": shares(slice(60, 120), rng)}
    kept = {"knn": shares(slice(0, 60), own), "mlp": shares(slice(0, 60), own)} if apart else {}
    write_answers(folder, Answers(valid, kept, np.arange(60 if apart else 0)))
    names = ["none", "mild", "severe"] if classes == 3 else ["normal", "abnormal"]
    counts = {"views": 60, "studies": 30, "patients": 30}
    data = {
        "name": "films", "phantoms": False, "part": "XR_HAND", "classes": names, "ordered": classes == 3,
        "counts": {"train": counts, "valid": counts}, "kind": "table",
    }  # fmt: skip
    config = {"data": data, "preprocessing": {}, "recipe": {}, "status": "finished"}
    metrics = {"operating": {"how": "Fitted on patients apart."}}
    return Run(folder, config, metrics, pd.DataFrame(), replace(TINY, seed=seed, data_seed=0))


@pytest.mark.parametrize("classes", [2, 3])
def test_two_labels_or_more_are_averaged_as_a_loop_does(classes: int, tmp_path: Path) -> None:
    runs = {seed: written(tmp_path / f"seed{seed}", seed, classes) for seed in (1, 2, 7)}
    found = _summarise(replace(TINY, data_seed=0), tmp_path, runs)
    table = runs[1].embeddings()[1]
    valid = table[table["split"] == "valid"].reset_index(drop=True)
    total = 0.0
    for one in runs.values():
        total = total + load_answers(one.folder, classes).valid["knn"]
    named = {"classes": found.config["data"]["classes"], "ordered": classes == 3}
    expected = siamura.evaluate(valid, total / 3, "study", draws=0, **named)["value"]
    for metric in ("kappa", "accuracy", "brier", "auroc" if classes == 2 else "kappa_quadratic"):
        assert found.metrics["valid"]["study"]["knn"][metric] == pytest.approx(expected[metric])
    assert {"trivial", "frozen_logistic"} == set(found.metrics["comparison"]["mlp"])
    point = json.loads((tmp_path / "operating_point.json").read_text())["heads"]["knn"]["study"]
    assert point["patients"] == 30
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Against logistic regression on the frozen trunk" in page
    assert "The ensemble&#39;s probability is the mean of its members&#39;" in page


def test_without_patients_apart_the_ensemble_answers_at_one_half(tmp_path: Path) -> None:
    runs = {seed: written(tmp_path / f"seed{seed}", seed, 2, apart=seed == 0) for seed in (0, 1)}
    found = _summarise(replace(TINY, data_seed=0), tmp_path, runs)
    assert "operating" not in found.metrics
    assert not (tmp_path / "operating_point.json").exists()


def test_runs_of_other_data_are_not_averaged(tmp_path: Path) -> None:
    runs = {seed: written(tmp_path / f"seed{seed}", seed, 2) for seed in (0, 1)}
    vectors, table = runs[1].embeddings()
    write_embeddings(runs[1].folder, vectors, table.assign(label=1 - table["label"]))
    with pytest.raises(ValueError, match="seeds 0 and 1 have other views or labels"):
        _summarise(replace(TINY, data_seed=0), tmp_path, runs)
    (runs[0].folder / "answers.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"answers\.npz is missing: an earlier siamura"):
        _summarise(replace(TINY, data_seed=0), tmp_path, runs)


def test_the_data_have_a_seed_of_their_own() -> None:
    assert Experiment(seed=3).seed_of_data == 3
    assert Experiment(seed=3, data_seed=0).seed_of_data == 0
    assert Experiment.from_dict({"seed": 3}).data_seed is None  # a run of earlier
    with pytest.raises(ValueError, match="data_seed=-1 must be a whole number"):
        Experiment(data_seed=-1)
