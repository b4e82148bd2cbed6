"""Commands about finished runs and this machine, and the form of a result on a terminal."""

import importlib
import io
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import siamura
from siamura import evaluation
from siamura.cli import app, main
from siamura.cli.output import Format, emit, loading, shown
from siamura.cli.scores import _in_words
from siamura.cli.start import say_loading
from siamura.experiments import Run
from siamura.report.checklist_items import CLAIM, TRIPOD_AI


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def table(result: Result) -> pd.DataFrame:
    assert result.exit_code == 0, result.output
    return pd.read_csv(io.StringIO(result.stdout))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


FRAME = pd.DataFrame(
    {"path": ["a.png", "b.png"], "value": [2 / 3, np.nan], "views": [12, 3], "unlike": [True, False]}
)


def test_a_terminal_gets_a_rounded_table_and_a_pipe_exact_csv(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    emit(FRAME, None)
    assert "0.6666666666666666" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdout", Terminal())
    emit(FRAME, None)
    drawn = sys.stdout.getvalue()
    assert "0.667" in drawn
    assert "0.6667" not in drawn
    assert "–" in drawn
    assert "yes" in drawn
    assert not any("," in line for line in drawn.splitlines())


def test_a_terminal_gets_the_main_scores_unless_a_form_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = pd.DataFrame({"metric": ["kappa", "f1_weighted"], "value": [0.25, 0.5]})
    monkeypatch.setattr(sys, "stdout", Terminal())
    emit(scores, None)
    assert "kappa" in sys.stdout.getvalue()
    assert "f1_weighted" not in sys.stdout.getvalue()
    assert "--format" in capsys.readouterr().err
    emit(scores, Format.table)
    assert "f1_weighted" in sys.stdout.getvalue()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    emit(scores, None)
    assert "f1_weighted" in sys.stdout.getvalue()


def test_an_explanation_is_told_in_words_on_a_terminal() -> None:
    said = {
        "figure": "heat.png",
        "boxes": [[2, 3, 40, 50]],
        "target": "log-odds of fracture",
        "score": -0.7142,
    }
    assert _in_words(said).splitlines() == [
        "log-odds of fracture: -0.714", "box, in the file's pixels: 2 to 40 across, 3 to 50 down", "figure: heat.png",
    ]  # fmt: skip
    assert "no box" in _in_words({**said, "boxes": []})


def test_a_table_that_is_too_wide_shows_the_ends_of_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"unreadable": [0], "probability": [0.25], "calibrated": [0.5]}
    frame = pd.DataFrame({"study": [f"{os.sep}{'folder/' * 12}film7.png"], **scores})
    for width, path in (("60", "…" + os.sep + "film7.png"), ("200", "folder/film7.png")):
        monkeypatch.setenv("COLUMNS", width)
        monkeypatch.setattr(sys, "stdout", Terminal())
        emit(frame, None)
        lines = sys.stdout.getvalue().splitlines()
        (row,) = (line for line in lines if "film7.png" in line)
        assert path in row
        assert all(word in row for word in ("0.250", "0.500"))
        assert any(all(name in line for name in frame.columns) for line in lines)
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(sys, "stdout", Terminal())
    emit(frame, None)
    lines = [line.split() for line in sys.stdout.getvalue().splitlines()]
    assert ["probability", "0.250"] in lines
    assert "folder/film7.png" in sys.stdout.getvalue().replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("form", [Format.csv, Format.json])
def test_a_form_that_is_asked_for_is_exact_on_a_terminal_too(
    form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    emit(FRAME, form)
    assert "0.666666666" in sys.stdout.getvalue()


def test_markup_in_a_file_name_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    emit(pd.DataFrame({"path": ["[red]a[/red].png"]}), Format.table)
    assert "[red]a[/red].png" in sys.stdout.getvalue()


def test_paths_on_a_terminal_are_relative_where_they_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inside, outside = tmp_path / "runs" / "a", tmp_path.parent / "elsewhere"
    assert shown(inside) == str(inside)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert shown(inside) == str(Path("runs") / "a")
    assert shown(outside) == str(outside)


def test_loading_is_said_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loading("runs/finger")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", Terminal())
    loading("runs/finger")
    assert sys.stderr.getvalue() == "loading runs/finger ...\n"


def test_the_first_word_comes_before_the_commands_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    later = SimpleNamespace(app=lambda: said.append(sys.stderr.getvalue()))
    monkeypatch.setitem(sys.modules, "siamura.cli.commands", later)
    for arguments, word in (
        (["--verbose", "train", "--data", "x"], "loading siamura ...\n"),
        (["predict", "--help"], ""),
        (["--version"], ""),
        ([], ""),
    ):
        monkeypatch.setattr(sys, "argv", ["siamura", *arguments])
        monkeypatch.setattr(sys, "stderr", Terminal())
        main()
        assert said.pop() == word
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        main()
        assert said.pop() == ""


def test_the_shell_completes_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SIAMURA_COMPLETE", "complete_bash")
    monkeypatch.setattr(sys, "stderr", Terminal())
    say_loading(["train"])
    assert sys.stderr.getvalue() == ""


def test_commands_say_that_they_load_before_they_import_anything_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    def stop(*names: object, **values: object) -> None:
        said.append(loaded[-1])
        raise ValueError("stopped")

    loaded: list[str] = []
    for name in ("cases", "runs", "scores"):
        module = importlib.import_module(f"siamura.cli.{name}")
        monkeypatch.setattr(module, "loading", lambda what: loaded.append(str(what)))
        monkeypatch.setattr(module, "load_run", stop)
        monkeypatch.setattr(module, "load_predictor", stop, raising=False)
    commands = (("evaluate",), ("predict", "x.png"), ("explain", "x.png"), ("export",), ("index", "x.db"))
    for name, *more in commands:
        assert call(name, "runs/x", *more).exit_code == 2
    assert said == [str(Path("runs/x"))] * len(commands)


def test_info_names_versions_device_and_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    monkeypatch.setenv("SIAMURA_CACHE", str(tmp_path))
    (tmp_path / "kept.bin").write_bytes(bytes(3_000_000))
    facts = table(call("info")).set_index("what")["value"]
    assert torch.__version__.startswith(facts["torch"])
    assert facts["siamura"] == siamura.__version__
    assert facts["cache"] == str(tmp_path)
    assert facts["cache size"] == "3 MB"
    assert int(facts["cores"]) >= 1
    assert facts["device"].split(":")[0] in ("cpu", "cuda", "mps")


def test_compare_is_the_paired_comparison_of_both_runs(done: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(done.folder, other)
    stored = dict(np.load(other / "embeddings.npz"))
    rng = np.random.default_rng(0)
    stored["embedding"] = rng.permutation(stored["embedding"])
    order = rng.permutation(len(stored["path"]))  # another order of rows is no hindrance
    np.savez_compressed(other / "embeddings.npz", **{name: values[order] for name, values in stored.items()})
    found = table(call("compare", done.folder, other, "--head", "mlp"))
    vectors, rows = done.embeddings()
    valid = (rows["split"] == "valid").to_numpy()
    here = rows[valid].reset_index(drop=True)
    one = done.heads()["mlp"].predict_proba(vectors[valid])[:, 1]
    by_path = dict(zip(stored["path"], stored["embedding"], strict=True))
    two = done.heads()["mlp"].predict_proba(np.stack([by_path[path] for path in here["path"]]))[:, 1]
    wanted = evaluation.compare(here, one, two, level="study")
    got = found[found["level"] == "study"].set_index("metric")
    for metric in ("kappa", "auroc"):
        assert got.loc[metric, "difference"] == pytest.approx(wanted.loc[metric, "difference"])
        assert got.loc[metric, "first"] == pytest.approx(done.metrics["valid"]["study"]["mlp"][metric])
    result = call("compare", done.folder, other)
    assert result.stderr.startswith("PHANTOMS")
    assert "bootstrap over the same patients" in result.stderr


def test_compare_says_what_it_leaves_out_and_refuses_strangers(done: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(done.folder, other)
    stored = dict(np.load(other / "embeddings.npz"))
    valid = np.flatnonzero(stored["split"] == "valid")
    keep = np.delete(np.arange(len(stored["path"])), valid[:2])
    np.savez_compressed(other / "embeddings.npz", **{name: values[keep] for name, values in stored.items()})
    assert "2 validation views" in call("compare", done.folder, other).stderr
    stored["patient"] = np.char.add(stored["patient"], "x")
    np.savez_compressed(other / "embeddings.npz", **stored)
    result = call("compare", done.folder, other)
    assert result.exit_code == 2
    assert "no validation view in common" in result.stderr


@pytest.mark.slow
def test_export_writes_a_checked_model(done: Run, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "finger.onnx"
    result = call("export", done.folder, "--out", out)
    assert result.stdout.splitlines() == [str(out), str(out.with_suffix(".json"))]
    outputs = {o.name for o in onnxruntime.InferenceSession(out).get_outputs()}
    assert outputs == {"embedding", "probability"}


def test_report_is_written_again_and_the_checklists_with_it(done: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(done.folder, run)
    (run / "report.html").unlink()
    assert call("report", run).stdout.strip() == str(run / "report.html")
    assert not (run / "checklist.md").exists()
    written = call("report", run, "--checklist").stdout.splitlines()
    assert written == [str(run / name) for name in ("report.html", "checklist.md", "checklist.html")]
    text = (run / "checklist.md").read_text(encoding="utf-8")
    rows = [
        line.split(" | ")
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith("| item")
    ]
    assert [row[0][2:] for row in rows] == [item.number for item in (*CLAIM, *TRIPOD_AI)]
    assert "PHANTOMS" in text
    kappa = done.metrics["valid"]["study"]["knn"]["kappa"]
    assert f"Cohen's kappa {kappa:.3f} [" in text
    assert done.heads()["mlp"].source_ == done.metrics["heads"]["mlp"] == "network"  # by default
    learnt = "MLP is the classifier that the network learnt beside its embedding"
    for name in ("checklist.md", "report.html", "table.md", "model/README.md"):
        assert learnt in (run / name).read_text(encoding="utf-8"), name
    assert "classify 1.0" in text
    page = (run / "checklist.html").read_text(encoding="utf-8")
    for words in (
        "PHANTOMS",
        "TRIPOD+AI",
        f"{kappa:.3f}",
        'class="words"',
        'data-name="known from this run"',
    ):
        assert words in page


def test_the_checklist_looks_whether_patients_are_in_two_splits(done: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(done.folder, run)
    assert "no patient is in two of train, valid" in _checklist(run)
    stored = dict(np.load(run / "embeddings.npz"))
    valid = stored["split"] == "valid"
    stored["patient"][np.flatnonzero(valid)[0]] = stored["patient"][~valid][0]
    np.savez_compressed(run / "embeddings.npz", **stored)
    assert "1 patient is in two of train, valid" in _checklist(run)


def _checklist(run: Path) -> str:
    assert call("report", run, "--checklist").exit_code == 0
    return (run / "checklist.md").read_text(encoding="utf-8")


def test_the_lists_have_the_published_numbers() -> None:
    assert [item.number for item in CLAIM] == [str(number) for number in range(1, 45)]
    mains = {"".join(filter(str.isdigit, item.number)) for item in TRIPOD_AI}
    assert mains == {str(number) for number in range(1, 28)}
    assert len({item.number for item in TRIPOD_AI}) == len(TRIPOD_AI) == 52


def test_completion_can_be_shown() -> None:
    assert "--show-completion" in call("--help").stdout


def test_json_of_info_is_exact() -> None:
    assert {row["what"] for row in json.loads(call("info", "--format", "json").stdout)} >= {
        "siamura",
        "cores",
    }
