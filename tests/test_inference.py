"""Which files make a study, one path to every embedding, and how views become a study's probability."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import siamura
from siamura import EmbeddingNet, embed
from siamura.experiments import Run
from siamura.explanation import embed_image
from siamura.heads import KNNHead
from siamura.heads.distance_limit import DistanceLimit
from siamura.heads.feature_limit import FeatureLimit
from siamura.inference import Predictor, check_radiograph, list_views, load_embeddings, studies_of
from siamura.training.pooled import embed_with_features


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_mura_folders_make_studies_and_loose_files_stand_alone(tmp_path: Path) -> None:
    touch(tmp_path / "patient1/study1_positive/image1.png", tmp_path / "patient1/study1_positive/image2.png")
    touch(
        tmp_path / "loose/a.PNG",
        tmp_path / "loose/b.dcm",
        tmp_path / "loose/notes.txt",
        tmp_path / "loose/._a.png",
    )
    table = list_views([tmp_path])
    assert table["path"].map(lambda p: Path(p).name).tolist() == [
        "a.PNG",
        "b.dcm",
        "image1.png",
        "image2.png",
    ]
    assert table["study"].nunique() == 3
    assert list_views([tmp_path], study="folder")["study"].nunique() == 2
    assert list_views([tmp_path], study="file")["study"].nunique() == 4


def test_a_file_given_twice_counts_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    assert len(list_views([tmp_path, tmp_path / "a.png"])) == 1


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list_views([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match="no image files"):
        list_views([tmp_path])
    with pytest.raises(ValueError, match="study='patient'"):
        list_views([tmp_path], study="patient")


def test_a_study_is_the_mean_of_its_readable_views() -> None:
    views = pd.DataFrame({"study": ["b", "a", "a", "c", "d"], "probability": [0.5, 0.2, 0.9, np.nan, 0.51]})
    studies = studies_of(views)
    assert studies["study"].tolist() == ["a", "b", "c", "d"]
    assert studies["probability"].round(3).tolist()[:2] == [0.55, 0.5]
    assert studies["views"].tolist() == [2, 1, 0, 1]
    assert studies["unreadable"].tolist() == [0, 0, 1, 0]
    assert studies["abnormal"].tolist() == [
        True,
        False,
        pd.NA,
        True,
    ]  # exactly at the threshold is not above it


@pytest.mark.parametrize(
    "name",
    [
        "study_mix",
        "study",
        "study1",
        "study1_positiv",
        "study1_positive_old",
        "studyA_negative",
        "Study1_positive",
    ],
)
def test_only_murs_form_is_a_study(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name / "a.png", tmp_path / name / "b.png")
    assert list_views([tmp_path])["study"].nunique() == 2
    touch(tmp_path / "study12_negative" / "a.png", tmp_path / "study12_negative" / "b.png")
    assert list_views([tmp_path])["study"].nunique() == 3


def test_every_path_gives_the_same_vector_to_the_bit(done: Run) -> None:
    predictor = Predictor(done.folder)
    stored, rows = load_embeddings(done.folder)
    table = rows[rows["split"] == "valid"].head(7)
    wanted = stored[table.index]
    net = predictor.net
    data = siamura.RadiographDataset(table.reset_index(drop=True), net.preprocess)
    images = [siamura.read_image(path) for path in table["path"]]
    np.testing.assert_array_equal(siamura.embed(net, data), wanted)
    np.testing.assert_array_equal(siamura.embed(net, data, 3), wanted)
    np.testing.assert_array_equal(predictor.embed(images), wanted)
    np.testing.assert_array_equal(predictor.embed(images[4:5])[0], wanted[4])
    np.testing.assert_array_equal(embed_image(net, images[4]), wanted[4])
    np.testing.assert_array_equal(embed_image(net, table["path"].iloc[4]), wanted[4])


def test_a_path_and_a_run_predict_the_same(done: Run) -> None:
    _, rows = done.embeddings()
    table = rows[rows["split"] == "valid"].head(3)
    for head in ("knn", "mlp"):
        by_path, by_run = (Predictor(one, head=head).views(table) for one in (done.folder, done))
        pd.testing.assert_frame_equal(by_path, by_run)
    with pytest.raises(ValueError, match="head='tree' is unknown; choose one of knn, mlp"):
        Predictor(done, head="tree")


def test_answers_follow_from_the_operating_point_of_their_level(done: Run) -> None:
    predictor = Predictor(done)
    table = done.embeddings()[1]
    views = predictor.views(table[table["split"] == "valid"])
    for level, rows in (("view", views), ("study", predictor.studies(views))):
        point = predictor.points[level]
        calibrated = point.calibrate(rows["probability"])
        np.testing.assert_allclose(rows["calibrated"], calibrated)
        assert (rows["answer"] == "abnormal").tolist() == (calibrated > point.threshold).tolist()
    plain = studies_of(views)
    assert plain["calibrated"].isna().all()
    assert (plain["abnormal"] == (plain["probability"] > 0.5)).all()


def test_a_run_without_an_operating_point_answers_at_one_half(done: Run, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(done.folder, tmp_path / "older")
    file = tmp_path / "older" / "operating_point.json"
    text = file.read_text()
    file.write_text(text.replace('"level": "view"', '"level": "study"'))
    with pytest.raises(ValueError, match=r"operating_point\.json is damaged"):
        Predictor(tmp_path / "older")
    file.unlink()
    predictor = Predictor(tmp_path / "older")
    views = predictor.views(done.embeddings()[1].head(8))
    assert (views["answer"] == "abnormal").tolist() == (views["probability"] > 0.5).tolist()
    assert views["calibrated"].isna().all()


def test_views_that_cannot_be_radiographs_are_reported(done: Run, tmp_path: Path) -> None:
    black, dot = np.zeros((300, 300), np.uint8), np.full((1, 1), 90, np.uint8)
    noise = np.random.default_rng(0).integers(0, 3, (300, 200), dtype=np.uint8)
    for name, image in (("black", black), ("dot", dot), ("noise", noise)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    views = Predictor(done).views(list_views([tmp_path]))
    assert views["probability"].isna().all()
    assert views["unlike"].isna().all()
    assert "nearly one grey (0)" in views["problem"][0]
    assert "1 x 1 pixels" in views["problem"][1]
    assert "nearly one grey" in views["problem"][2]


def test_a_film_that_shows_a_finger_on_black_is_a_film() -> None:
    image = np.zeros((1000, 800), np.uint8)
    image[100:200, 100:180] = 128  # a hundredth of it
    assert check_radiograph(image) == ""
    assert "31 pixels" in check_radiograph(
        np.arange(31 * 500, dtype=np.uint8).reshape(31, 500)[:, :31].T[:31]
    )


def test_the_limit_holds_99_percent_of_the_validation_views() -> None:
    rng = np.random.default_rng(0)
    train, valid = rng.normal(size=(300, 4)), rng.normal(size=(500, 4)).astype(np.float32)
    head = KNNHead(k=5).fit(train, rng.integers(2, size=300))
    limit = DistanceLimit.of(head, valid)
    naive = np.sort(np.linalg.norm(valid[:, None] - train[None], axis=2), axis=1)[:, 4]
    assert np.mean(naive <= limit.limit + 1e-6) == pytest.approx(0.99, abs=0.0021)
    assert (limit.k, limit.views) == (5, 500)
    with pytest.raises(ValueError, match="valid has no row"):
        DistanceLimit.of(head, valid[:0])


def test_a_run_keeps_its_limit_and_an_older_one_measures_it(done: Run, tmp_path: Path) -> None:
    import shutil

    stored = DistanceLimit.load(done.folder)
    assert stored is not None
    folder = tmp_path / "older"
    shutil.copytree(done.folder, folder)
    (folder / "knn" / "distance_limit.json").unlink()
    assert Predictor(folder).limit == stored
    (folder / "knn" / "distance_limit.json").write_text('{"k": 5, "limit": "NaN"}')
    with pytest.raises(ValueError, match=r"distance_limit\.json is damaged"):
        _ = Predictor(folder).limit
    replace(stored, k=10**9).save(folder)  # would take 16 GB
    with pytest.raises(ValueError, match=r"distance_limit\.json asks for k=1000000000 of \d+ training views"):
        _ = Predictor(folder).limit


def test_a_view_beyond_the_limit_is_unlike(done: Run) -> None:
    predictor = Predictor(done)
    stored, rows = done.embeddings()
    valid = stored[(rows["split"] == "valid").to_numpy()]
    assert np.mean(predictor.distance(valid) > predictor.limit.limit) <= 0.01
    assert (predictor.distance(valid + 10) > predictor.limit.limit).all()
    views = pd.DataFrame({"study": ["a", "a"], "probability": [0.1, np.nan], "unlike": [True, pd.NA]})
    assert studies_of(views)["unlike"].tolist() == [1]


def test_what_no_training_view_showed_is_unlike_by_its_features(tmp_path: Path) -> None:
    """The embedding of a collapsed head puts everything at one place; the trunk's features still differ."""
    net = EmbeddingNet("squeezenet1_1", dim=4, preprocess=siamura.Preprocess(size=64), seed=0).eval()
    rng = np.random.default_rng(0)
    bars = [
        np.tile(np.uint8(128 + 60 * np.sin(np.arange(64) / 9 + p)), (64, 1)) for p in rng.uniform(0, 6, 80)
    ]
    views = np.stack([np.uint8(bar + rng.integers(0, 5, bar.shape)) for bar in bars])
    checker = np.uint8(255 * (np.indices((64, 64)).sum(0) // 4 % 2))
    embeddings, features = embed_with_features(net, np.concatenate([views, [checker]]), progress=False)
    np.testing.assert_array_equal(embeddings, embed(net, np.concatenate([views, [checker]]), progress=False))
    rule = FeatureLimit.of(features[:50], features[50:80])
    assert not rule.beyond(features[50:80]).any()  # 99 % of 30 are all of them
    naive = features[50:] - features[:50].mean(0)
    basis = np.linalg.svd(features[:50].astype(float) - features[:50].mean(0))[2][:25]
    wanted = np.linalg.norm(naive - naive @ basis.T @ basis, axis=1)
    np.testing.assert_allclose(rule.residual(features[50:]), wanted, rtol=1e-4)
    assert rule.residual(features[80:])[0] > 3 * rule.limit
    (tmp_path / "knn").mkdir()
    rule.save(tmp_path)
    loaded = FeatureLimit.load(tmp_path)
    np.testing.assert_allclose(loaded.residual(features), rule.residual(features), rtol=1e-4)
    np.savez(
        tmp_path / "knn" / "feature_limit.npz",
        mean=rule.mean * np.nan,
        directions=rule.directions,
        limits=[1.0, 0.9],
    )
    with pytest.raises(ValueError, match=r"feature_limit\.npz is damaged"):
        FeatureLimit.load(tmp_path)
    assert FeatureLimit.load(tmp_path / "elsewhere") is None


def test_a_run_keeps_the_rule_on_features_and_predicts_by_it(done: Run) -> None:
    predictor = Predictor(done)
    squares = [np.uint8(255 * (np.indices((64, 64)).sum(0) // 4 % 2))]
    vectors, features = predictor.embed_with_features(squares)
    rule = FeatureLimit.load(done.folder)
    assert features.shape[1] == len(rule.mean)
    far = predictor.distance(vectors) > predictor.limit.limit
    assert predictor.unlike(vectors, features).tolist() == (far | rule.beyond(features)).tolist()
    predictor._feature_limit = None  # a run from before the rule
    assert predictor.unlike(vectors, features).tolist() == far.tolist()
