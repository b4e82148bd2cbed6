"""The command line on a finished run: results on standard output, one sentence and status 2 for bad input."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import siamura
from siamura.cli import app
from siamura.experiments import Run


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def table(result: Result) -> pd.DataFrame:
    assert result.exit_code == 0, result.output
    return pd.read_csv(io.StringIO(result.stdout))


def refused(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def root(done: Run) -> Path:
    return Path(done.config["data"]["name"])


@pytest.fixture(scope="module")
def film(done: Run) -> Path:
    _, rows = done.embeddings()
    return Path(rows.loc[rows["split"] == "valid", "path"].iloc[0])


def test_every_command_has_help_with_an_example() -> None:
    listed = call("--help").stdout
    for name in (
        "phantoms",
        "describe",
        "train",
        "evaluate",
        "predict",
        "explain",
        "index",
        "search",
        "audit",
        "serve",
        "compare",
        "export",
        "report",
        "info",
    ):
        assert name in listed
        assert f"siamura {name}" in call(name, "--help").stdout


def test_version() -> None:
    assert call("--version").stdout.strip() == siamura.__version__


def test_phantoms_and_describe(tmp_path: Path) -> None:
    result = call("phantoms", tmp_path / "drawn", "--part", "XR_HAND", "--views", 40, "--seed", 3)
    assert result.stdout.strip() == str(tmp_path / "drawn")
    counted = table(call("describe", tmp_path / "drawn"))
    whole = siamura.read_mura(tmp_path / "drawn")
    assert len(whole) == 40
    assert set(whole["part"]) == {"XR_HAND"}
    assert "views" in counted.columns
    assert json.loads(call("describe", tmp_path / "drawn", "--format", "json").stdout)


def test_evaluate_repeats_the_runs_own_figures(done: Run) -> None:
    operating = done.metrics["operating"]["heads"]["knn"]["study"]["valid"]
    for more, wanted in (((), operating), (("--plain",), done.metrics["valid"]["study"]["knn"])):
        figures = table(call("evaluate", done.folder, *more))
        mine = figures[figures["level"] == "study"].set_index("metric")["value"]
        for metric in ("kappa", "recall", "brier"):
            assert mine[metric] == pytest.approx(wanted[metric])
    assert "PHANTOMS" in call("evaluate", done.folder).stderr


def test_evaluate_on_other_radiographs(done: Run, root: Path) -> None:
    result = call("evaluate", done.folder, "--data", root, "--head", "mlp")
    assert f"\nPHANTOMS, {root}" in f"\n{result.stderr}"
    assert "a calibrated probability above" in result.stderr
    figures = table(result)
    assert figures.loc[figures["metric"] == "accuracy", "value"].between(0, 1).all()


def test_predict_agrees_with_the_run(done: Run, root: Path) -> None:
    study = next(root.glob("valid/*/*/study*"))
    scored = table(call("predict", done.folder, study))
    vectors, rows = done.embeddings()
    mine = rows["path"].map(lambda p: Path(p).parent == study.resolve()).to_numpy()
    expected = done.heads()["knn"].predict_proba(vectors[mine])[:, 1].mean()
    assert scored["views"].item() == mine.sum()
    assert scored["probability"].item() == pytest.approx(expected, abs=0.21)  # one vote of five, by bf16


def test_predict_lists_what_it_cannot_read(done: Run, film: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a film")
    result = call("predict", done.folder, film, bad, "--views", "--format", "json")
    rows = {Path(row["path"]).name: row for row in json.loads(result.stdout)}
    assert rows["bad.png"]["probability"] is None
    assert rows["bad.png"]["problem"]
    assert 0 <= rows[film.name]["probability"] <= 1
    assert "bad.png" in result.stderr
    assert "none of the files" in refused("predict", done.folder, bad)


def test_explain_writes_a_figure_and_boxes_within_the_film(done: Run, film: Path, tmp_path: Path) -> None:
    result = call("explain", done.folder, film, "--out", tmp_path / "heat.png", "--method", "gradcam")
    said = json.loads(result.stdout)
    assert (tmp_path / "heat.png").read_bytes().startswith(b"\x89PNG")
    assert said["target"] == "log-odds of abnormal"
    height, width = siamura.read_image(film).shape
    for x0, y0, x1, y1 in said["boxes"]:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height


def test_explain_what_makes_a_film_like_itself(done: Run, film: Path, tmp_path: Path) -> None:
    said = json.loads(call("explain", done.folder, film, "--like", film, "--out", tmp_path / "a.svg").stdout)
    assert said["target"] == f"similarity to {film.name}"
    assert said["score"] == pytest.approx(1, abs=1e-4)
    assert f"phantom {film.name}" in (tmp_path / "a.svg").read_text(encoding="utf-8")  # matplotlib's comment


def test_index_and_search_find_the_film_itself(done: Run, tmp_path: Path) -> None:
    assert "cases in" in call("index", done.folder, tmp_path / "cases").stdout
    _, rows = done.embeddings()
    mine = rows[rows["split"] == "train"].iloc[5]
    found = table(call("search", done.folder, tmp_path / "cases", mine["path"], "-k", 3))
    assert found["path"].iloc[0] == mine["path"]
    assert np.all(np.diff(found["distance"]) >= 0)
    only = table(call("search", done.folder, tmp_path / "cases", mine["path"], "-k", 3, "--label", 1))
    assert set(only["label"]) == {1}
    others = call(
        "search",
        done.folder,
        tmp_path / "cases",
        mine["path"],
        "--exclude-patient",
        mine["patient"],
        "-k",
        400,
    )
    train = rows[rows["split"] == "train"]
    assert set(table(others)["patient"]) == set(train["patient"]) - {mine["patient"]}
    nothing = call("search", done.folder, tmp_path / "cases", mine["path"], "--part", "XR_HAND")
    assert table(nothing).empty
    assert "no case in the index" in nothing.stderr


def test_index_adds_where_it_is_told_to(done: Run, root: Path, tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    assert "no case index" in refused("index", done.folder, tmp_path / "none", "--add")
    call("index", done.folder, cases)
    before = len(siamura.CaseIndex.open(cases))
    assert "--add" in refused("index", done.folder, cases)
    assert len(siamura.CaseIndex.open(cases)) == before
    added = call("index", done.folder, cases, "--data", root, "--add")
    whole = len(siamura.read_mura(root))
    # The run's training views are among them: those are updated, not doubled.
    assert before < whole
    assert added.stdout.strip() == f"{whole} cases in {cases}"
    assert len(siamura.CaseIndex.open(cases)) == whole


def test_cases_are_told_filtered_deleted_and_converted(done: Run, tmp_path: Path) -> None:
    cases = tmp_path / "cases.db"
    call("index", done.folder, cases)
    again = call("index", done.folder, cases, "--add")
    held = siamura.CaseIndex.open(cases)
    assert again.stderr.splitlines()[-1] == f"0 added, {len(held)} updated."
    rows = held.table
    counted = table(call("cases", "info", cases))
    assert counted["cases"].sum() == len(rows)
    patient, film = rows["patient"][0], rows["path"][0]
    found = table(call("search", done.folder, cases, film, "-k", 400, "--where", f"patient={patient}"))
    assert set(found["patient"]) == {patient}
    found = table(call("search", done.folder, cases, film, "-k", 400, "--where", "label=1..", "--label", "1"))
    assert set(found["label"]) == {1}
    assert "give COLUMN=VALUE" in refused("search", done.folder, cases, film, "--where", "sex=F")
    assert "int64" in refused("search", done.folder, cases, film, "--where", "label=high")
    own = int((rows["patient"] == patient).sum())
    assert call("cases", "delete", cases, "--patient", patient).stdout.startswith(f"{own} cases deleted")
    assert "nothing was deleted" in refused("cases", "delete", cases, "--patient", patient)
    assert "say which cases" in refused("cases", "delete", cases)
    assert len(held) == len(rows) - own
    old = Path(__file__).parent / "index" / "earlier_format"
    assert f"siamura cases convert {old}" in refused("search", done.folder, old, film)
    assert call("cases", "convert", old, tmp_path / "new.db").stdout.startswith("60 cases in")


def test_a_damaged_run_names_the_file(done: Run, film: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(done.folder, copy)
    whole = (copy / "metrics.json").read_text(encoding="utf-8")
    (copy / "metrics.json").write_text(whole[: len(whole) // 2], encoding="utf-8")
    assert f"{copy / 'metrics.json'} is damaged" in refused("predict", copy, film)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("predict", "{empty}", "{film}"), "no finished run"),
        (("predict", "{run}", "{empty}/none.png"), "does not exist"),
        (("predict", "{run}", "{empty}"), "no image files"),
        (("evaluate", "{empty}"), "no finished run"),
        (("evaluate", "{run}", "--part", "XR_HAND"), "--data, which is not given"),
        (("index", "{run}", "{empty}/cases", "--part", "XR_HAND"), "--data, which is not given"),
        (("describe", "{empty}"), "{empty}"),
        (("search", "{run}", "{empty}", "{film}"), "{empty}"),
        (("serve", "{empty}"), "no finished run"),
        (("train", "--data", "{empty}", "--out", "{empty}/run"), "{empty}"),
        (("phantoms", "{run}"), "{run}"),
        (("explain", "{run}", "{film}", "--method", "magic", "--out", "{empty}/x.png"), "magic"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], says: str, done: Run, film: Path, tmp_path: Path) -> None:
    places = {"run": str(done.folder), "film": str(film), "empty": str(tmp_path)}
    said = refused(*(a.format(**places) for a in arguments))
    assert said.startswith("Error: ")
    assert says.format(**places) in said


@pytest.mark.slow
def test_audit_writes_a_page_and_its_tables(done: Run, tmp_path: Path) -> None:
    result = call("audit", done.folder, "--out", tmp_path / "audit", "--top", 5)
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()) == tmp_path / "audit" / "audit.html"
    assert "labels are not what their neighbours say" in result.stderr
    page = (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")
    assert "PHANTOMS" in page
    _, rows = done.embeddings()
    assert len(pd.read_csv(tmp_path / "audit" / "labels.csv")) == len(rows)
    valid = call("audit", done.folder, "--out", tmp_path / "valid", "--split", "valid")
    assert valid.exit_code == 0, valid.output
    assert set(pd.read_csv(tmp_path / "valid" / "labels.csv")["split"]) == {"valid"}
    assert "split='test' is unknown" in refused("audit", done.folder, "--split", "test")
