"""The page is read with a parser: what stands in it, and what does not."""

import base64
import dataclasses
import json
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from siamura import plots
from siamura.experiments import Run
from siamura.experiments.metrics import unlike_views
from siamura.heads.distance_limit import DistanceLimit
from siamura.inference import Predictor
from siamura.report import write_report
from siamura.report.sections import unlike_section
from siamura.report.tables import RESEARCH

INTERVALS = {"kappa": [0.25, 0.75], "accuracy": [0.6, 0.9]}


def scores(kappa: float) -> dict[str, object]:
    return {
        "accuracy": 0.8125, "kappa": kappa, "recall": 0.75, "specificity": 0.875, "precision": None,
        "interval": INTERVALS, "views": 24, "studies": 9, "patients": 7, "draws": 2000, "degenerate": 0,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder as `siamura.run` leaves it."""
    heads = {"knn": scores(0.4567), "mlp": scores(0.5), "trivial": scores(0.0)}
    quality = {
        "loss": 0.2,
        "precision_at_1": 0.7,
        "map_at_r": 0.6,
        "interval": {"precision_at_1": [0.5, 0.9]},
    }
    level = {"view": {**heads, "embedding": quality}, "study": heads}
    counts = {"views": 24, "studies": 9, "patients": 7, "abnormal_views": 11}
    config = {
        "experiment": {"data": None, "part": "XR_FINGER", "trunk": "densenet169", "dim": 128, "loss": "triplet_focal"},
        "command": ["siamura"], "versions": {"siamura": "0.1.0", "torch": "2.15.0"},
        "status": "finished", "seconds": 90.0,
        "data": {"name": "/somewhere/private/MURA", "phantoms": True, "part": "XR_FINGER", "unreadable": 0,
                 "counts": {"train": counts, "valid": counts}},
        "preprocessing": {"size": 96},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "metrics.json").write_text(json.dumps({"train": level, "valid": level}))
    history = pd.DataFrame({"step": range(1, 41), "epoch": 1, "loss": np.linspace(0.4, 0.1, 40)})
    history.to_csv(tmp_path / "history.csv", index=False)
    plots.loss_curves(history).savefig(tmp_path / "losses.png", dpi=60)
    plots.confusion([[8, 5], [5, 6]]).savefig(tmp_path / "confusion.png", dpi=60)
    return tmp_path


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "source", "line", "circle", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def read(folder: Path) -> Page:
    path = write_report(folder)
    assert path == folder / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_the_page_holds_the_figures_with_their_intervals(folder: Path) -> None:
    page = read(folder)
    assert "0.457 [0.250, 0.750]" in page.text
    assert "Validation, per study: 9 studies of 7 patients" in page.text
    assert "Validation, per view: 24 views of 7 patients" in page.text
    assert "bootstrap of 2,000 draws over patients" in page.text
    assert "P@1 0.700 [0.500, 0.900]" in page.text
    assert "published, 128-d 0.408 0.374" in page.text
    assert "measured, k-NN, per view 0.457 [0.250, 0.750] 0.457 [0.250, 0.750]" in page.text
    assert "Precision 0." not in page.text  # undefined for every head: not shown


def test_nothing_is_fetched_and_nothing_runs(folder: Path) -> None:
    page = read(folder)
    addresses = [
        v
        for _, attrs in page.tags
        for k, v in attrs.items()
        if k in ("src", "srcset", "href", "action", "data")
    ]
    assert addresses
    assert all(str(address).startswith(("#", "data:image/png;base64,")) for address in addresses)
    assert not page.all("script")
    assert not page.all("link")
    style = (folder / "report.html").read_text().split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style


def test_the_pictures_are_those_of_the_folder_and_are_described(folder: Path) -> None:
    images = read(folder).all("img")
    held = [base64.b64decode(str(image["src"]).split(",", 1)[1]) for image in images]
    assert held == [(folder / name).read_bytes() for name in ("confusion.png", "losses.png")]
    assert "75 % of the abnormal and 88 % of the normal" in str(images[0]["alt"])
    assert "over 40 steps, from 0.400 to 0.100" in str(images[1]["alt"])


def test_phantoms_are_called_so_and_the_use_is_said_once(folder: Path) -> None:
    page = read(folder)
    assert "PHANTOMS. Everything here was measured on radiographs that siamura drew." in page.text
    assert page.text.count(RESEARCH) == 1
    config = json.loads((folder / "config.json").read_text())
    config["data"]["phantoms"] = False
    (folder / "config.json").write_text(json.dumps(config))
    page = read(folder)
    assert "hantom" not in page.text
    assert "Radiographs of MURA" in page.text
    assert "/somewhere/private" not in page.text


def test_the_page_can_be_walked_by_its_headings(folder: Path) -> None:
    page = read(folder)
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    targets = {attrs["id"] for attrs in page.all("section")}
    assert {str(attrs["href"]).lstrip("#") for attrs in page.all("a")} == targets
    assert page.all("html")[0]["lang"] == "en"
    assert all("scope" in attrs for attrs in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))


def test_what_was_left_out_and_what_was_stopped_is_said(folder: Path) -> None:
    pd.DataFrame({"path": ["a<b>.png"], "reason": ["no image & more"]}).to_csv(
        folder / "unreadable.csv", index=False
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "status": "interrupted"}))
    page = read(folder)
    assert "INTERRUPTED. The training did not reach its end" in page.text
    assert "1 file could not be read and is left out of every figure" in page.text
    assert "a<b>.png" in page.text  # as text, not as a tag
    assert "no image & more" in page.text


def test_a_classifiers_parts_are_shown(folder: Path) -> None:
    own = {**scores(0.5), "parts": {"XR_HAND": scores(0.3), "XR_WRIST": scores(0.6)}}
    (folder / "metrics.json").write_text(
        json.dumps(
            {
                split: {level: {"classifier": own} for level in ("view", "study")}
                for split in ("train", "valid")
            }
        )
    )
    config = json.loads((folder / "config.json").read_text())
    experiment = {"trunk": "vgg16", "top": "dense", "parts": ["XR_HAND", "XR_WRIST"]}
    (folder / "config.json").write_text(
        json.dumps({**config, "kind": "classifier", "experiment": experiment})
    )
    page = read(folder)
    assert "Hand, Wrist: vgg16, top 'dense'" in page.text
    assert "Wrist 9 studies of 7 patients" in page.text
    assert "The embedding space" not in page.text


def test_what_is_missing_is_named(folder: Path) -> None:
    (folder / "history.csv").unlink()
    assert "Beside the published figures" not in read(folder).text
    (folder / "odd.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"odd\.png is no PNG file"):
        write_report(folder)
    (folder / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"metrics\.json is missing"):
        write_report(folder)


def test_validation_views_beyond_the_limit_are_named_in_the_report(done: Run) -> None:
    limit = DistanceLimit.load(done.folder)
    vectors, table = done.embeddings()
    valid = (table["split"] == "valid").to_numpy()
    distance = done.heads()["knn"].kneighbors(vectors[valid], k=limit.k)[0][:, -1]
    found = done.metrics["unlike"]
    assert found["views"] == valid.sum()
    assert found["number"] == Predictor(done).views(table[valid])["unlike"].sum()  # as predict says it
    tight = dataclasses.replace(limit, limit=float(np.sort(distance)[-3]))  # the two farthest are beyond it
    two = unlike_views(tight, done.heads()["knn"], vectors[valid], table[valid])
    assert [one["path"] for one in two["first"]] == table[valid]["path"].iloc[
        np.argsort(-distance)[:2]
    ].tolist()
    said, listed = unlike_section({"unlike": two})
    assert f"{two['number']} of these are unlike" in said.text
    assert [row[2] for row in listed.rows] == [Path(one["path"]).name for one in two["first"]]
    assert "unlike the training views" in (done.folder / "report.html").read_text(encoding="utf-8")
