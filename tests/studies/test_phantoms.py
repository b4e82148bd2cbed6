"""The drawn data sets: layout, determinism, honest lesions, and nothing that gives the label away."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import siamura.studies.phantoms as phantoms
from siamura.studies import is_phantom, make_phantoms, read_mura
from siamura.studies.phantoms import PARTS, View, draw_view
from siamura.studies.phantoms.lesions import KINDS, Lesion
from siamura.studies.phantoms.solids import SAMPLES, Solid, profile


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantoms(tmp_path_factory.mktemp("drawn") / "fingers", views=200, seed=5, progress=False)


def files(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def views_of(root: Path) -> pd.DataFrame:
    """One row a file, from the paths alone."""
    rows = []
    for path in sorted(root.rglob("*.png")):
        split, part, patient, study, name = path.relative_to(root).parts
        number, sign = study.split("_")
        rows.append((path, split, part, patient, number, int(sign == "positive"), name))
    return pd.DataFrame(rows, columns=["path", "split", "part", "patient", "study", "label", "name"])


def trivial_features(image: np.ndarray) -> list[float]:
    """What no reader would call a finding: mean, deviation, shape, 8 x 8 thumbnail."""
    h, w = image.shape
    small = cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).ravel()
    return [image.mean(), image.std(), w / h, w, h, *small]


def shortcut_auc(root: Path, brighten: float = 0.0) -> float:
    """AUC of a logistic regression on trivial features, by patient-grouped folds.

    `brighten` grey levels are added to the positive films first.
    """
    table = views_of(root)
    features = []
    for path, label in zip(table["path"], table["label"], strict=True):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        features.append(trivial_features(cv2.add(image, brighten * label)))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    score = cross_val_predict(
        model, np.array(features), table["label"], groups=table["patient"], cv=folds, method="predict_proba"
    )
    return float(roc_auc_score(table["label"], score[:, 1]))


def test_layout_is_muras(drawn: Path) -> None:
    table = views_of(drawn)
    assert len(table) == 200
    assert table["split"].value_counts().to_dict() == {"train": 150, "valid": 50}
    assert table["name"].isin([f"image{i}.png" for i in range(1, 5)]).all()
    for split in ("train", "valid"):
        here = table[table["split"] == split]
        listed = pd.read_csv(drawn / f"{split}_image_paths.csv", header=None)[0]
        assert sorted(listed) == sorted(f"fingers/{p.relative_to(drawn)}" for p in here["path"])
        studies = pd.read_csv(drawn / f"{split}_labeled_studies.csv", header=None)
        assert sorted(studies[0]) == sorted({f"fingers/{p.parent.relative_to(drawn)}/" for p in here["path"]})
        assert (studies[0].str.contains("positive") == (studies[1] == 1)).all()
        assert 0.45 <= studies[1].mean() <= 0.55


def test_read_mura_reads_it(drawn: Path) -> None:
    table = read_mura(drawn, part="XR_FINGER")
    assert len(table) == 200
    assert set(table["label"]) == {0, 1}


def test_patients_and_studies(drawn: Path) -> None:
    table = views_of(drawn)
    split_of = table.groupby("patient")["split"].nunique()
    assert (split_of == 1).all()
    assert (table.groupby("patient")["study"].nunique() > 1).any()
    sizes = table.groupby(["patient", "study"]).size()
    assert set(sizes) == {1, 2, 3, 4}
    assert (table.groupby(["patient", "study"])["label"].nunique() == 1).all()


def test_sizes_and_channels_vary(drawn: Path) -> None:
    images = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in views_of(drawn)["path"]]
    sizes = np.array([image.shape[:2] for image in images])
    assert sizes.min() >= 89
    assert sizes.max() == 512
    assert len(np.unique(sizes, axis=0)) > 100
    assert np.ptp(sizes[:, 1] / sizes[:, 0]) > 0.25
    assert {image.ndim for image in images} == {2, 3}
    colour = next(image for image in images if image.ndim == 3)
    assert (colour == colour[..., :1]).all()


def test_lesions_are_listed_and_inside(drawn: Path) -> None:
    table, lesions = views_of(drawn), pd.read_csv(drawn / "lesions.csv")
    assert list(lesions.columns) == ["path", "part", "patient", "study", "kind", "x0", "y0", "x1", "y1"]
    positive = {str(p.relative_to(drawn)) for p in table["path"][table["label"] == 1]}
    assert set(lesions["path"]) <= positive
    assert len(lesions) >= 0.9 * len(positive)
    assert lesions["path"].is_unique
    assert set(lesions["kind"]) == set(KINDS)
    for row in lesions.itertuples():
        h, w = cv2.imread(str(drawn / row.path), cv2.IMREAD_GRAYSCALE).shape
        assert 0 <= row.x0 < row.x1 <= w
        assert 0 <= row.y0 < row.y1 <= h
        assert (row.x1 - row.x0) * (row.y1 - row.y0) < 0.4 * h * w
    # one kind a study
    assert (lesions.groupby(["part", "patient", "study"])["kind"].nunique() == 1).all()


def test_same_seed_same_files_whatever_the_workers(tmp_path: Path) -> None:
    one = make_phantoms(tmp_path / "a" / "x", views=16, valid=0.5, seed=7, progress=False, workers=1)
    many = make_phantoms(tmp_path / "b" / "x", views=16, valid=0.5, seed=7, progress=False, workers=3)
    other = make_phantoms(tmp_path / "c" / "x", views=16, valid=0.5, seed=8, progress=False)
    assert files(one) == files(many)
    assert files(one) != files(other)


def test_global_random_state_is_left_alone(tmp_path: Path) -> None:
    np.random.seed(11)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(11)  # noqa: NPY002
    make_phantoms(tmp_path / "x", views=16, valid=0.5, progress=False)
    assert np.random.rand() == expected  # noqa: NPY002


def test_several_parts_share_patients(tmp_path: Path) -> None:
    root = make_phantoms(
        tmp_path / "x", parts=("XR_HAND", "XR_WRIST"), views=32, valid=0.5, seed=2, progress=False
    )
    table = views_of(root)
    assert table["part"].value_counts().to_dict() == {"XR_HAND": 16, "XR_WRIST": 16}
    assert (table.groupby("patient")["split"].nunique() == 1).all()
    assert (table.groupby("patient")["part"].nunique() == 2).any()
    assert table.groupby(["split", "part"])["label"].nunique().eq(2).all()


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_drawn_and_shows_its_lesion(part: str) -> None:
    found = 0
    for patient in range(1, 4):
        film, kind, _ = draw_view(View(0, "train", part, patient, 1, 1, 1))
        assert film.image.dtype == np.uint8
        assert film.image.std() > 15
        found += bool(kind)
    assert found >= 2


@pytest.mark.parametrize("patient", range(1, 11))
def test_a_lesion_changes_the_film_only_where_it_is(patient: int) -> None:
    sick_view = View(3, "train", "XR_FINGER", patient, 1, 1, 1)
    sick, kind, colour = draw_view(sick_view)
    sound, none, same_colour = draw_view(dataclasses.replace(sick_view, label=0))
    assert kind in KINDS
    assert none == ""
    assert sound.box is None
    assert colour == same_colour
    assert sick.image.shape == sound.image.shape
    difference = np.abs(sick.image.astype(int) - sound.image)
    assert sick.box is not None
    x0, y0, x1, y1 = sick.box
    rows, columns = np.indices(difference.shape)
    # the swelling around it reaches about three of its widths
    far = (
        np.hypot((columns - (x0 + x1) / 2), (rows - (y0 + y1) / 2))
        > 0.42 * max(difference.shape) + max(x1 - x0, y1 - y0) / 2
    )
    assert difference[y0:y1, x0:x1].mean() > 6
    if far.any():
        assert difference[far].mean() < 1.5


def test_lesions_hardly_shift_trivial_features() -> None:
    """The same films drawn with and without: a sharper question than an AUC can answer on few films."""
    pairs = [
        [
            trivial_features(draw_view(View(9, "train", "XR_FINGER", patient, 1, 1, label))[0].image)
            for label in (1, 0)
        ]
        for patient in range(1, 31)
    ]
    sick, sound = np.array(pairs).transpose(1, 0, 2)
    spread = sound.std(0)
    shift = (sick - sound).mean(0)[spread > 0] / spread[spread > 0]
    assert np.abs(shift[:2]).max() < 0.12  # mean and deviation
    assert np.abs(shift).max() < 0.25
    assert not (sick - sound)[:, 2:5].any()


def test_views_of_a_study_show_the_same_lesion() -> None:
    kinds = {draw_view(View(1, "train", "XR_FINGER", 4, 1, v, 1))[1] for v in (1, 2, 3)} - {""}
    assert len(kinds) == 1


def test_no_shortcut(drawn: Path) -> None:
    assert shortcut_auc(drawn) <= 0.62


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_shortcut_in_600_views(tmp_path: Path, seed: int) -> None:
    assert shortcut_auc(make_phantoms(tmp_path / "x", views=600, seed=seed, progress=False)) <= 0.62


def test_the_shortcut_test_finds_a_shortcut(drawn: Path) -> None:
    """A global change that no eye would notice is found out."""
    assert shortcut_auc(drawn, brighten=16) > 0.65


def test_marker_says_phantoms(drawn: Path, tmp_path: Path) -> None:
    about = json.loads((drawn / "phantoms.json").read_text())
    assert about["seed"] == 5
    assert about["version"] == phantoms.VERSION
    assert about["views"] == 200
    assert is_phantom(drawn)
    assert is_phantom(str(views_of(drawn)["path"][0]))
    assert not is_phantom(tmp_path)
    assert not is_phantom(tmp_path / "absent")


def test_root_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        make_phantoms(tmp_path, views=16, valid=0.5, progress=False)
    with pytest.raises(FileExistsError, match="not an empty folder"):
        make_phantoms(tmp_path / "notes.txt", views=16, valid=0.5, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_empty_root_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    root = make_phantoms(tmp_path / "empty", views=16, valid=0.5, progress=False)
    assert root == tmp_path / "empty"
    assert len(views_of(root)) == 16


def test_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = phantoms._write

    def interrupted(root: Path, view: View) -> tuple[object, ...] | None:
        if view.split == "valid":
            raise KeyboardInterrupt
        return whole(root, view)

    monkeypatch.setattr(phantoms, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_phantoms(tmp_path / "x", views=16, valid=0.5, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ("XR_TOE",)}, "XR_TOE.*XR_ELBOW, XR_FINGER"),
        ({"parts": ()}, "parts=.*XR_FINGER"),
        ({"parts": ("XR_HAND", "XR_HAND")}, "twice"),
        ({"valid": 0.0}, "valid=0.0"),
        ({"valid": 1.5}, "valid=1.5"),
        ({"views": 4}, "views=4.*more views"),
        ({"views": 20, "valid": 0.1}, "views=20"),
        ({"seed": -1}, "seed=-1"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_bad_arguments(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_phantoms(tmp_path / "x", progress=False, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_part_may_be_given_by_name(tmp_path: Path) -> None:
    root = make_phantoms(tmp_path / "x", parts="XR_ELBOW", views=16, valid=0.5, progress=False)
    assert set(views_of(root)["part"]) == {"XR_ELBOW"}


def test_import_does_not_load_torch() -> None:
    code = "import sys, siamura.studies.phantoms; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rays_through_a_cylinder() -> None:
    radius, wall = 5.0, 1.0
    flat = np.full(SAMPLES, radius, np.float32)
    rod = Solid("rod", (0.0, 0.0), (0.0, -40.0), flat, flat, flat, np.full(SAMPLES, wall, np.float32))
    across = np.linspace(-6, 6, 121, dtype=np.float32)[None]
    along = np.full_like(across, 20.0)
    compact, inside = rod.chords(along, across)
    outer = 2 * np.sqrt(np.maximum(radius**2 - across**2, 0))
    inner = 2 * np.sqrt(np.maximum((radius - wall) ** 2 - across**2, 0))
    np.testing.assert_allclose(compact + inside, outer, atol=1e-3)
    np.testing.assert_allclose(inside, inner, atol=1e-3)
    assert not np.any(rod.chords(np.full_like(across, -1.0), across)[0])
    assert not np.any(rod.chords(np.full_like(across, 41.0), across)[0])


def test_local_coordinates_and_points_are_inverse() -> None:
    flat = np.ones(SAMPLES, np.float32)
    rod = Solid("rod", (3.0, 4.0), (10.0, -20.0), flat, flat, flat)
    x, y = rod.point(7.0, -2.0)
    along, across = rod.local(np.array([[x]], np.float32), np.array([[y]], np.float32))
    assert along[0, 0] == pytest.approx(7.0, abs=1e-4)
    assert across[0, 0] == pytest.approx(-2.0, abs=1e-4)


def test_profile_passes_through_its_points() -> None:
    curve = profile((0, 2.0), (0.5, 1.0), (1, 3.0))
    assert curve[[0, SAMPLES // 2, -1]] == pytest.approx([2.0, 1.0, 3.0])
    assert curve.min() == pytest.approx(1.0)


def test_fragments_come_off_the_end_that_is_in_the_film() -> None:
    lesion = Lesion("fragment", 0.5, 1.0, (0.5,) * 10)
    assert lesion.within(0.6, 0.9).traits[1] == 1.0
    assert lesion.within(0.1, 0.4).traits[1] == 0.0
    assert lesion.within(0.6, 0.9).place == pytest.approx(0.75)
