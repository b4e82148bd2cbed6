"""Heat maps measured on fresh phantoms, by the script as a user starts it and by the functions behind it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from siamura.experiments import Run, explanation_figures, explanation_table
from siamura.experiments.heatmap_quality import lesion_figures
from siamura.explanation import explain_views, localisation, summary
from siamura.inference import Predictor
from siamura.report.lesions import lesions_section
from siamura.studies import read_boxes, read_mura

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "explain_quality.py"


def start(run: Path, out: Path, cache: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(run), "--views", "40", "--out", str(out), *more]
    environment = {**os.environ, "SIAMURA_CACHE": str(cache)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_the_script_measures_what_the_functions_measure(done: Run, cache: Path, tmp_path: Path) -> None:
    shown = start(done.folder, tmp_path / "out", cache)
    assert shown.returncode == 0, shown.stderr[-3000:]
    figures = explanation_figures(done, views=40, cache=cache, progress=False)
    assert shown.stdout.strip() == explanation_table(figures).strip()
    assert (tmp_path / "out" / "tables.md").read_text(encoding="utf-8").strip() == shown.stdout.strip()

    places = figures["places"]
    root = Path(places.attrs["root"])
    table = read_mura(root)
    assert root != Path(done.config["data"]["name"])  # other phantoms than it was trained on
    assert places.attrs["views"] == len(table) == 40
    abnormal = set(table.loc[table["label"] == 1, "path"])
    assert set(places["path"]) <= abnormal
    assert len(places) == places.attrs["found"] <= places.attrs["lesions"] <= len(abnormal)
    lesions = pd.read_csv(root / "lesions.csv").assign(
        path=lambda rows: [str(root / p) for p in rows["path"]]
    )
    kinds = lesions.drop_duplicates("path").set_index("path")["kind"]
    assert places["kind"].tolist() == kinds[places["path"]].tolist()
    assert len(figures["shuffled"]) == places["patient"].nunique()
    assert figures["shuffled"].drop(columns="patient").abs().max(axis=None) <= 1

    text = shown.stdout
    assert "PHANTOMS that the run never saw" in text
    assert f"| {places['hit'].mean():.2f} |" in text
    rows = re.findall(r"\| (-?\d\.\d\d) \| (-?\d\.\d\d) to (-?\d\.\d\d) \|", text)
    assert len(rows) == 11 + 10 + 6
    assert all(float(low) - 0.01 <= float(value) <= float(high) + 0.01 for value, low, high in rows)


@pytest.mark.slow
def test_the_runs_own_phantoms_are_refused(done: Run, cache: Path, tmp_path: Path) -> None:
    refused = start(done.folder, tmp_path / "out", cache, "--seed", str(done.experiment.seed))
    assert refused.returncode == 2
    assert "trained on" in refused.stderr.strip().splitlines()[-1]
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_run_that_finds_nothing_says_so(done: Run, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "probability", lambda self, embeddings: 0.0 * embeddings[:, 0])
    with pytest.raises(ValueError, match="finds none of the"):
        explanation_figures(done, views=40, cache=cache, progress=False)


def test_a_kind_of_lesion_is_given_with_patients_and_interval_and_of_one_patient_without() -> None:
    rng = np.random.default_rng(0)
    patient = ["a", "a", "b", "c", "d", "z"]
    places = pd.DataFrame(rng.random((6, 5)), columns=["hit", "centre_hit", "iou", "centre_iou", "area"])
    places = places.assign(patient=patient, kind=["fracture"] * 5 + ["lucency"])
    places.attrs = {"views": 10, "patients": 9, "seed": 1, "found": 6, "lesions": 8}
    names = [f"{order}{curve}" for order in ("", "random_", "centre_") for curve in ("deletion", "insertion")]
    rests = pd.DataFrame(rng.random((6, 6)), columns=names).assign(patient=patient)
    shuffled = pd.DataFrame({"patient": ["a"], "correlation, top": [0.5], "hit, top": [1.0]})
    text = explanation_table({"places": places, "rests": rests, "shuffled": shuffled})
    rows = places[places["kind"] == "fracture"]
    low, high = summary(rows, ["hit"], against={}).loc["hit", ["low", "high"]]
    assert f"| fracture | 5 | 4 | {rows['hit'].mean():.2f} [{low:.2f}, {high:.2f}] |" in text
    assert f"| lucency | 1 | 1 | {places['hit'].iloc[5]:.2f} [–] | {places['iou'].iloc[5]:.2f} [–] |" in text
    assert "| map's correlation after: top | 0.50 | – |" in text
    assert "nan" not in text


def test_the_report_sets_heat_maps_beside_boxes_of_ones_own(done: Run) -> None:
    boxes = Path(done.config["data"]["name"]) / "lesions.csv"
    table = done.embeddings()[1]
    valid = table[table["split"] == "valid"].reset_index(drop=True)
    predictor = Predictor(done, head="mlp")
    found = lesion_figures(predictor, valid, boxes)
    lesions = read_boxes(boxes, valid)
    views = predictor.views(valid)
    right = views[views["path"].isin(lesions["path"]) & (views["answer"] == "abnormal")]
    assert found["views"] == lesions["path"].nunique()
    assert (found["found"], found["patients"]) == (len(right), right["patient"].nunique())
    if found["found"]:
        maps = explain_views(predictor.net, right, head=predictor.head, progress=False)
        wanted = summary(localisation(maps, right, lesions))["value"]
        for metric in ("hit", "centre_hit", "iou", "hit - centre_hit"):
            assert found["figures"][metric]["value"] == pytest.approx(wanted[metric])
    said, *tables = lesions_section({"lesions": found})
    assert f"{found['views']} validation view" in said.text
    assert bool(tables) == bool(found["found"])
    assert lesions_section({}) == []
