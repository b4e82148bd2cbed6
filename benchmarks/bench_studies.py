"""What is on disk: MURA's table at its real size, a split by patient, and single files."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Row, markdown, paired

# images and studies of MURA-v1.1, as (part, (train images, train studies), (valid images, valid studies))
MURA = (
    ("ELBOW", (4931, 1754), (465, 158)),
    ("FINGER", (5106, 1935), (461, 175)),
    ("FOREARM", (1825, 877), (301, 133)),
    ("HAND", (5543, 2018), (460, 167)),
    ("HUMERUS", (1272, 592), (288, 135)),
    ("SHOULDER", (8379, 2821), (563, 194)),
    ("WRIST", (9752, 3460), (659, 237)),
)


def stand_in(root: Path) -> Path:
    """Lay out MURA's 40,005 paths: its folders and CSVs, and an empty file for each image."""
    patient = 0
    for side, split in enumerate(("train", "valid")):
        paths: list[str] = []
        studies: list[str] = []
        for part, *counts in MURA:
            images, number = counts[side]
            for study in range(number):
                patient += 1
                word = ("negative", "positive")[study % 5 > 2]
                folder = f"MURA-v1.1/{split}/XR_{part}/patient{patient:05}/study1_{word}/"
                studies.append(f"{folder},{int(word == 'positive')}")
                views = images // number + (study < images % number)
                (root / folder).mkdir(parents=True)
                for view in range(1, views + 1):
                    paths.append(f"{folder}image{view}.png")
                    (root / paths[-1]).touch()
        top = root / "MURA-v1.1"
        (top / f"{split}_image_paths.csv").write_text("\n".join(paths) + "\n")
        (top / f"{split}_labeled_studies.csv").write_text("\n".join(studies) + "\n")
    return root / "MURA-v1.1"


def plain(root: Path) -> pd.DataFrame:
    """Read the CSVs as a notebook does: no check but whether the file is there."""
    rows = []
    for split in ("train", "valid"):
        listed = pd.read_csv(root / f"{split}_image_paths.csv", header=None, names=["path"])
        for name in listed["path"]:
            path = os.path.join(root.parent, name)
            if os.path.exists(path):
                _, _, part, patient, study, _ = name.split("/")
                rows.append((path, part, patient, study.split("_")[0], int("positive" in study), split))
    return pd.DataFrame(rows, columns=["path", "part", "patient", "study", "label", "split"])


def reading_mura() -> Row:
    """Time the table of all of MURA."""
    from siamura import read_mura

    with tempfile.TemporaryDirectory() as folder:
        root = stand_in(Path(folder))
        table = read_mura(root)
        pd.testing.assert_frame_equal(table, plain(root), check_dtype=False)
        ours, theirs = paired(lambda: read_mura(root), lambda: plain(root), runs=3)
    return Row(
        f"read_mura, {len(table):,} paths in {table.groupby(['part', 'patient', 'study']).ngroups:,} studies",
        ours,
        "pandas.read_csv and a loop over os.path.exists",
        theirs,
        note="promised: under 2 s. It also checks labels, duplicates, leaks and hidden files; empty stand-in files",
    )


def reading_a_csv() -> Row:
    """Time a CSV that lists all of MURA's images, semicolons and all."""
    from siamura import read_studies

    with tempfile.TemporaryDirectory() as folder:
        own = plain(stand_in(Path(folder)))
        own["age"] = np.arange(len(own)) % 90
        file = Path(folder) / "films.csv"
        own.to_csv(file, index=False, sep=";")

        def peer() -> pd.DataFrame:
            table = pd.read_csv(file, sep=";", dtype={"patient": str})
            return table[[os.path.exists(path) for path in table["path"]]]

        table = read_studies(file)
        assert table["path"].tolist() == peer()["path"].tolist()
        assert table["label"].tolist() == peer()["label"].tolist()
        ours, theirs = paired(lambda: read_studies(file), peer, runs=3)
    return Row(
        f"read_studies, a CSV of {len(table):,} lines",
        ours,
        "pandas.read_csv and os.path.exists",
        theirs,
        note="finds separator and encoding, checks labels, duplicates and leaks; empty stand-in files",
    )


def splitting() -> Row:
    """Time a split by patient."""
    from sklearn.model_selection import StratifiedGroupKFold

    from siamura import split_patients

    random = np.random.default_rng(0)
    patient = random.integers(0, 2_000, 6_600)
    strata = patient % 14
    table = pd.DataFrame(
        {
            "path": np.arange(6_600).astype(str),
            "part": (strata // 2).astype(str),
            "patient": patient.astype(str),
            "label": strata % 2,
            "split": "train",
        }
    )

    def theirs() -> None:
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
        next(folds.split(patient, strata, patient))

    ours_s, peer_s = paired(lambda: split_patients(table, 0.2), theirs, runs=1, warmup=0)
    return Row(
        "split_patients, 6,600 views of 2,000 patients", ours_s, "StratifiedGroupKFold, 5 folds", peer_s
    )


def decoding() -> Iterator[Row]:
    """Time single files against OpenCV, which takes damaged ones for whole."""
    from siamura import read_image

    random = np.random.default_rng(0)
    film = cv2.GaussianBlur(random.integers(0, 256, (512, 420), dtype=np.uint8), (0, 0), 4)
    film = cv2.normalize(film, None, 0, 255, cv2.NORM_MINMAX)
    film = np.clip(film + random.normal(0, 3, film.shape), 0, 255).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("png", "jpg"):
            file = f"{folder}/film.{suffix}"
            cv2.imwrite(file, film)
            ours, theirs = paired(
                lambda file=file: [read_image(file) for _ in range(10)],
                lambda file=file: [cv2.imread(file, cv2.IMREAD_GRAYSCALE) for _ in range(10)],
            )
            yield Row(
                f"read_image, {suffix.upper()} of 512 x 420",
                ours / 10,
                "cv2.imread",
                theirs / 10,
                note="checks that the file is whole; cv2.imread does not",
            )


def rows() -> Iterator[Row]:
    """All rows, one after the other."""
    yield reading_mura()
    yield reading_a_csv()
    yield splitting()
    yield from decoding()


if __name__ == "__main__":
    print(markdown(rows()))
