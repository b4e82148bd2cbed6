"""The figures of a run folder: all there, none blank, each with a sentence that says what it rests on."""

import html
import inspect
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import siamura
from siamura import plots
from siamura.experiments import (
    ClassifierExperiment,
    ClassifierRun,
    Run,
    run_classifier,
    write_report,
)
from siamura.experiments.data import read_inputs
from siamura.experiments.folder import CONTENTS
from siamura.report import figures, image_figures
from siamura.report.gallery import CAPTIONS, Gallery, read_captions
from siamura.report.image_figures import choose_rows
from siamura.report.page import at_night

FILMS = {"clahe", "neighbours", "augmentation", "feature_maps"}
BANDS = {"roc", "precision_recall", "reliability"}
METRIC = {
    "decision_curve",
    "losses",
    "embedding",
    "confusion",
    "counts",
    *BANDS,
    "clahe",
    "neighbours",
    "augmentation",
}
CLASSIFIER = {
    "losses",
    "accuracy",
    "confusion",
    "counts",
    *BANDS,
    "parts",
    "clahe",
    "augmentation",
    "feature_maps",
}
TINY = ClassifierExperiment(
    trunk="squeezenet1_1",
    top="e",  # system E also shows its layers
    parts=("XR_HUMERUS", "XR_FINGER"),
    views=48,
    size=64,
    epochs=1,
    augment="keras",
)


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> ClassifierRun:
    return run_classifier(TINY, tmp_path_factory.mktemp("runs") / "classifier", cache=cache)


@pytest.fixture(params=["metric", "classifier"])
def drawn(request: pytest.FixtureRequest) -> tuple[Path, set[str], dict[str, dict[str, int]]]:
    """A run folder, the figures it must have, and how much each split holds."""
    done: Run | ClassifierRun = request.getfixturevalue("done" if request.param == "metric" else "classified")
    return done.folder, METRIC if request.param == "metric" else CLASSIFIER, done.config["data"]["counts"]


def test_every_figure_is_there_and_shows_something(drawn: tuple[Path, set[str], dict]) -> None:
    folder, wanted, _ = drawn
    files = {path.stem: path for path in folder.glob("*.png")}
    assert set(files) == wanted
    assert {path.name for path in (*files.values(), folder / CAPTIONS)} <= set(CONTENTS)
    for name, path in files.items():
        image = cv2.imread(str(path))
        assert min(image.shape[:2]) > 250, name
        assert image.std() > 15, f"{name} is nearly blank"
        assert len(np.unique(image.astype(int) @ [1, 256, 65536])) > 50, name  # colours


def test_every_caption_names_the_data_the_patients_and_the_interval(
    drawn: tuple[Path, set[str], dict],
) -> None:
    folder, wanted, counts = drawn
    said = read_captions(folder)
    assert set(said) == wanted
    for name, about in said.items():
        caption = about["caption"]
        assert "phantoms" in caption, name
        assert re.search(r"interval|bootstrap draws over patients", caption), name
        assert caption.count(". ") == 0, f"{name}: one sentence"
        split = "train" if name in ("losses", "augmentation", "neighbours") else "valid"
        if name not in ("clahe", "feature_maps"):
            assert f"of {counts[split]['patients']} patients" in caption, name
    for name in BANDS:
        assert "95 %, 2,000 bootstrap draws over patients" in said[name]["caption"]
        assert (
            f"{counts['valid']['studies']} studies of {counts['valid']['patients']} patients"
            in said[name]["caption"]
        )
    # As many draws and bins as the tables, so that both say the same of one run.
    defaults = inspect.signature(siamura.evaluate).parameters
    assert (defaults["draws"].default, defaults["bins"].default) == (figures.DRAWS, figures._BINS)
    assert "3 of the validation phantoms, of as many patients" in said["clahe"]["caption"]


def test_films_lie_where_the_captions_file_says(drawn: tuple[Path, set[str], dict]) -> None:
    folder, _, _ = drawn
    for name, about in read_captions(folder).items():
        assert bool(about["images"]) == (name in FILMS), name
        content = (folder / f"{name}.png").read_bytes()
        light = cv2.imread(str(folder / f"{name}.png")).astype(int)
        dark = cv2.imdecode(
            np.frombuffer(at_night(content, about["images"]), np.uint8), cv2.IMREAD_COLOR
        ).astype(int)
        assert (light[1, 1] == 255).all()
        assert dark[1, 1].max() < 30  # the page is dark
        for left, top, right, bottom in about["images"]:
            assert min(right - left, bottom - top) > 40
            assert (light[top:bottom, left:right] == dark[top:bottom, left:right]).all()  # films stay films
            # To the pixel: a row of the white page would shine beside a film at night.
            edges = (light[top, left:right], light[bottom - 1, left:right])
            sides = (light[top:bottom, left], light[top:bottom, right - 1])
            assert all((edge < 250).any() for edge in (*edges, *sides)), name
            beside = (light[top - 1, left:right], light[bottom, left:right], light[top:bottom, right])
            if name != "neighbours":  # whose films have frames
                assert all((edge == 255).all() for edge in beside), name


def test_the_report_shows_every_figure_under_its_caption(drawn: tuple[Path, set[str], dict]) -> None:
    folder, wanted, _ = drawn
    text = (folder / "report.html").read_text()
    assert text.count("<figure ") == text.count("<img ") == len(wanted)
    assert text.count("<picture>") == len(wanted & FILMS)
    for name, about in read_captions(folder).items():
        caption = about["caption"].replace(" %", "\u00a0%")
        assert f"<figcaption>{caption}</figcaption>" in html.unescape(text), name
    headings = re.findall(r"<h2 [^>]*>([^<]*)</h2>", text)
    assert headings[0] == "Scores"
    assert headings.index("The answers in pictures") < headings.index("Training") < headings.index("Data")


def test_a_chart_without_caption_still_says_what_the_run_rests_on(done: Run, tmp_path: Path) -> None:
    for name in ("config.json", "metrics.json", "roc.png"):
        (tmp_path / name).write_bytes((done.folder / name).read_bytes())
    text = write_report(tmp_path).read_text()
    patients = done.config["data"]["counts"]["valid"]["patients"]
    assert "Roc. The run's phantoms: training 72 views of" in html.unescape(text)
    assert f"of {patients} patients.</figcaption>" in text


def test_neighbours_are_the_nearest_of_other_patients(
    done: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Against a plain loop, on a table in which the query's patient has training films too."""
    vectors, table = done.embeddings()
    train, valid = ((table["split"] == split).to_numpy() for split in ("train", "valid"))
    tables = {"train": table[train].reset_index(drop=True), "valid": table[valid].reset_index(drop=True)}
    embeddings = {"train": vectors[train].copy(), "valid": vectors[valid]}
    row = int((tables["valid"]["label"] == 1).idxmax())
    own = tables["valid"]["patient"][row]
    tables["train"].loc[:4, "patient"] = own
    embeddings["train"][:5] = embeddings["valid"][row]  # nearer than any other
    distance = np.linalg.norm(embeddings["train"].astype(float) - embeddings["valid"][row], axis=1)
    distance[(tables["train"]["patient"] == own).to_numpy()] = np.inf
    expected = tables["train"]["patient"].iloc[np.argsort(distance, kind="stable")[:5]].tolist()

    pre = siamura.Preprocess(size=64)
    data = {split: siamura.RadiographDataset(rows, pre, progress=False) for split, rows in tables.items()}
    head = siamura.KNNHead(k=5).fit(
        embeddings["train"], tables["train"]["label"], groups=tables["train"]["patient"]
    )
    seen = {}
    draw = plots.neighbours
    monkeypatch.setattr(
        plots, "neighbours", lambda *a, **k: (seen.update(k, distances=a[2]), draw(*a, **k))[1]
    )
    gallery = Gallery(tmp_path, done.config["data"], "resnet18")
    image_figures.draw_neighbours(gallery, data, embeddings, head)
    assert seen["captions"] == expected
    assert own not in expected
    np.testing.assert_allclose(seen["distances"], np.sort(distance)[:5], atol=1e-5)


def test_films_are_of_different_patients_and_both_labels() -> None:
    table = pd.DataFrame({"patient": ["a", "a", "b", "c", "c", "d"], "label": [1, 1, 1, 0, 1, 1]})
    assert choose_rows(table, 3) == [3, 0, 2]
    assert choose_rows(table, 9) == [3, 0, 2, 5]  # c once only
    assert choose_rows(table[table["label"] == 1].reset_index(drop=True), 2) == [0, 2]


def test_umap_is_fitted_on_train_alone(done: Run) -> None:
    vectors, table = done.embeddings()
    train = (table["split"] == "train").to_numpy()
    alone, _ = plots.project(vectors[train], "umap", seed=0)
    plane, placed = plots.project(vectors[train], "umap", seed=0, valid=vectors[~train])
    np.testing.assert_array_equal(plane, alone)  # the validation views moved nothing
    assert placed is not None
    assert placed.shape == ((~train).sum(), 2)


def test_what_does_not_apply_is_not_drawn(classified: ClassifierRun, cache: Path, tmp_path: Path) -> None:
    """One part, no augmentation, not system E: no bars, no sheet, no layers."""
    plain = replace(TINY, top="mura", augment="none")
    inputs = read_inputs(
        None, TINY.parts, siamura.Preprocess(size=64, clahe=None), tmp_path, cache=cache, views=48, seed=0
    )
    table = inputs.splits["valid"].table
    p = np.full(len(table), 0.3)
    scores = siamura.evaluate(table, p, level="study", by="part", draws=50)
    given = (plain, inputs.facts, classified.history, inputs.splits, p)
    figures.draw_classifier(tmp_path, *given, scores.loc[["XR_FINGER", "all"]].copy(), classified.network())
    assert {path.stem for path in tmp_path.glob("*.png")} == CLASSIFIER - {
        "parts",
        "augmentation",
        "feature_maps",
    }
    assert "parts" not in json.loads((tmp_path / CAPTIONS).read_text())


def test_a_part_without_kappa_is_named_and_has_no_bar(done: Run, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "part": np.repeat(["XR_HAND", "XR_WRIST", "XR_ELBOW"], 8),
            "patient": [f"patient{i // 2:05d}" for i in range(24)],
            "study": "study1",
            "label": np.repeat(
                [[0, 0, 1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1, 1, 1], [0] * 8], 1, axis=0
            ).ravel(),
        }
    )
    scores = siamura.evaluate(table, 0.3 + 0.4 * table["label"], level="study", by="part", draws=50)
    assert np.isnan(scores.loc[("XR_ELBOW", "kappa"), "value"])  # normal alone, and answered so
    gallery = Gallery(tmp_path, done.config["data"], "resnet18")
    figures._draw_parts(gallery, scores)
    gallery.close()
    caption = read_captions(tmp_path)["parts"]["caption"]
    assert caption.endswith("bars: 95 %, 50 bootstrap draws over patients; undefined, and left out: elbow.")
    assert (tmp_path / "parts.png").is_file()
