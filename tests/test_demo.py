"""The demo: what is shipped is whole, answers without training or network, and says PHANTOMS where it shows a score."""

import hashlib
import json
import shutil
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import siamura
from siamura.cli import app
from siamura.demo import Demo, vote_interval
from siamura.demo.loading import DATA, check_files, unpack
from siamura.heads import KNNHead
from siamura.studies import is_phantom


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(folder: Path) -> Demo:
    return siamura.load_demo(folder)


def test_what_is_shipped_is_whole_and_small() -> None:
    manifest = check_files(DATA)
    there = {p.relative_to(DATA).as_posix() for p in DATA.rglob("*") if p.is_file()}
    assert there == {*manifest["files"], "manifest.json"}
    assert len([name for name in there if name.endswith(".png")]) == 60
    assert (DATA / "model" / "model.safetensors").stat().st_size < 6e6
    assert sum((DATA / name).stat().st_size for name in there) < 8e6
    texts = [(DATA / n).read_text("utf-8") for n in there if n.endswith((".json", ".md", ".csv"))]
    assert not any("/tmp" in text or "/home" in text for text in texts)


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(DATA, copy)
    (copy / "table.md").write_text("other", encoding="utf-8")
    with pytest.raises(ValueError, match=r"table\.md is not the file that was shipped"):
        check_files(copy)
    (copy / "table.md").unlink()
    with pytest.raises(ValueError, match=r"table\.md is missing"):
        check_files(copy)


def test_it_is_laid_out_once_with_true_paths(demo: Demo, folder: Path) -> None:
    place = unpack(folder)
    assert demo.run.folder == place
    stamp = (place / "embeddings.npz").stat().st_mtime_ns
    assert unpack(folder) == place
    assert (place / "embeddings.npz").stat().st_mtime_ns == stamp
    assert [path.name for path in folder.iterdir() if path.is_dir()] == [place.name]
    paths = [*demo.films, *map(Path, demo.cases.table["path"])]
    assert len(paths) == 60
    assert all(path.is_absolute() and path.is_file() and is_phantom(path) for path in paths)


def test_a_folder_that_was_moved_is_laid_out_again(folder: Path, demo: Demo, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "moved")
    again = siamura.load_demo(tmp_path / "moved")
    assert all(str(path).startswith(str(tmp_path)) and path.is_file() for path in again.films)


def test_shipped_embeddings_are_those_of_the_shipped_films(demo: Demo) -> None:
    table = demo.cases.table
    again = demo.predictor.embed([siamura.read_image(path) for path in table["path"][:8]])
    np.testing.assert_allclose(again, demo.cases.embeddings()[:8], atol=1e-3)


def test_it_asks_patients_that_it_was_not_trained_on(demo: Demo) -> None:
    _, table = demo.run.embeddings()
    train = set(table.loc[table["split"] == "train", "patient"])
    assert not train & set(demo.table["patient"])
    assert set(demo.cases.table["patient"]) <= train
    assert len(demo.studies) == 3


def test_its_answers_are_those_of_the_heads(demo: Demo) -> None:
    for study in demo.studies:
        answer = demo.read(study)
        vectors = demo.predictor.embed([siamura.read_image(path) for path in demo.views(study)["path"]])
        assert answer.each == pytest.approx(demo.run.heads()["knn"].predict_proba(vectors)[:, 1])
        assert 0 <= answer.low <= answer.probability <= answer.high <= 1
        assert answer.sentence.startswith("PHANTOMS")
        assert answer.cases["distance"].is_monotonic_increasing
        assert not answer.cases.duplicated(["patient", "study"]).any()
    right = [demo.read(study).answer == demo.read(study).known for study in demo.studies]
    assert right == [True, True, False]


def test_an_unknown_study_names_those_there_are(demo: Demo) -> None:
    with pytest.raises(ValueError, match=demo.studies[1]):
        demo.views("patient9/study9")


def test_the_interval_is_that_of_heads_fitted_on_patients_drawn_again() -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(0, 2, 40)
    patients = np.repeat([f"p{i}" for i in range(20)], 2)
    query = rng.normal(size=(2, 3)).astype(np.float32)
    low, high = vote_interval(query, rows, labels, patients, k=5, draws=300, seed=3)
    drawn = siamura.evaluation.intervals.patient_draws(20, 300, seed=3)
    plain = []
    for times in drawn.astype(int):
        keep = np.repeat(np.arange(40), times[np.unique(patients, return_inverse=True)[1]])
        head = KNNHead(k=5).fit(rows[keep], np.r_[labels[keep]], groups=None)
        where = head.classes_.tolist().index(1) if 1 in head.classes_ else None
        plain.append(0.0 if where is None else head.predict_proba(query)[:, where].mean())
    assert (low, high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.02)


def test_the_picture_says_phantoms_and_for_research_once(demo: Demo) -> None:
    figure = demo.draw()
    words = [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]
    joined = " ".join(words).replace("\n", " ")
    assert any(word.startswith("PHANTOMS") for word in words)
    assert joined.count("for research, not for diagnosis") == 1
    answer = demo.read()
    assert f"{answer.probability:.2f} [{answer.low:.2f}, {answer.high:.2f}]" in joined


def test_the_command_writes_one_picture_without_a_network(
    folder: Path, demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("SIAMURA_CACHE", str(folder.parent))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["demo", "--format", "json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["data"] == "PHANTOMS"
    assert len(said["cases"]) == 5
    assert result.stderr.count("For research, not for diagnosis") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["demo.png"]
    assert cv2.imread("demo.png").shape[1] > 1200
    wrong = CliRunner().invoke(app, ["demo", "--study", "none"])
    assert wrong.exit_code == 2
    assert demo.studies[0] in wrong.stderr


def test_the_page_has_the_demos_studies_and_pictures(demo: Demo) -> None:
    from siamura.app import Reader

    reader = Reader(demo.run.folder, index=demo.run.folder / "cases.db")
    assert len(reader.samples) == 3
    reading = reader.read_sample(next(iter(reader.samples)))
    assert reader.phantoms
    assert len(reading.pictures) == len(reading.cases)
    assert "PHANTOMS" in reading.verdict


def test_the_manifest_tells_how_it_was_made(demo: Demo) -> None:
    facts = demo.facts
    assert (Path(__file__).parents[1] / facts["script"]).is_file()
    model = DATA / "model" / "model.safetensors"
    assert facts["files"]["model/model.safetensors"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert facts["seed"] == demo.run.experiment.seed
    assert facts["valid"]["patients"] >= 50
