"""Which files make a study, and how views become a study's probability."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from siamura.experiments.predicting import films, studies_of


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
    table = films([tmp_path])
    assert table["path"].map(lambda p: Path(p).name).tolist() == [
        "a.PNG",
        "b.dcm",
        "image1.png",
        "image2.png",
    ]
    assert table["study"].nunique() == 3
    assert films([tmp_path], study="folder")["study"].nunique() == 2
    assert films([tmp_path], study="file")["study"].nunique() == 4


def test_a_file_given_twice_counts_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    assert len(films([tmp_path, tmp_path / "a.png"])) == 1


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        films([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match="no image files"):
        films([tmp_path])
    with pytest.raises(ValueError, match="study='patient'"):
        films([tmp_path], study="patient")


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
