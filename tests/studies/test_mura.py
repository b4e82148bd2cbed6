"""read_mura on MURA's layout, with everything that copies of it get wrong."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

import siamura
from siamura.studies import COLUMNS, check_disjoint, problems, skipped

VIEWS = (
    "train/XR_HAND/patient00001/study1_positive/image1.png",
    "train/XR_HAND/patient00001/study1_positive/image2.png",
    "train/XR_HAND/patient00001/study2_negative/image1.png",
    "train/XR_WRIST/patient00001/study1_negative/image1.png",
    "train/XR_FINGER/patient00002/study1_negative/image1.png",
    "valid/XR_HAND/patient00003/study1_negative/image1.png",
    "valid/XR_FINGER/patient00004/study1_positive/image1.png",
)


def lay_out(
    root: Path, views: Sequence[str] = VIEWS, *, csv: bool = True, prefix: str = "MURA-v1.1/"
) -> Path:
    for view in views:
        file = root / view
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"stands for an image")
    if csv:
        for split in ("train", "valid"):
            own = [v for v in views if v.startswith(split)]
            (root / f"{split}_image_paths.csv").write_text("".join(f"{prefix}{v}\n" for v in own))
            studies = dict.fromkeys(v.rpartition("/")[0] for v in own)
            lines = (f"{prefix}{s}/,{int(s.endswith('positive'))}\n" for s in studies)
            (root / f"{split}_labeled_studies.csv").write_text("".join(lines))
    return root


def add(root: Path, file: str, line: str) -> None:
    with open(root / file, "a") as handle:
        handle.write(line + "\n")


@pytest.mark.parametrize("csv", [True, False])
def test_the_table(tmp_path: Path, csv: bool) -> None:
    root = lay_out(tmp_path / "MURA-v1.1", csv=csv)
    table = siamura.read_mura(root)
    assert tuple(table.columns) == COLUMNS
    assert isinstance(table.index, pd.RangeIndex)
    assert table["label"].dtype == "int64"
    assert all(table[c].dtype == "str" for c in COLUMNS if c != "label")
    assert set(table["path"]) == {str(root / v) for v in VIEWS}
    row = table[table["path"].str.endswith("XR_HAND/patient00001/study2_negative/image1.png")].iloc[0]
    assert (row["part"], row["patient"], row["study"], row["label"], row["split"]) == (
        "XR_HAND", "patient00001", "study2", 0, "train",
    )  # fmt: skip
    assert table["label"].sum() == 3
    assert (table["split"] == "valid").sum() == 2
    assert problems(table).empty


def test_csv_and_tree_give_the_same(tmp_path: Path) -> None:
    with_csv = siamura.read_mura(lay_out(tmp_path / "a"))
    without = siamura.read_mura(lay_out(tmp_path / "b", csv=False))
    for table in (with_csv, without):
        table["path"] = [p.split("/", len(tmp_path.parts) + 1)[-1] for p in table["path"]]
    columns = list(COLUMNS)
    pd.testing.assert_frame_equal(
        with_csv.sort_values(columns, ignore_index=True), without.sort_values(columns, ignore_index=True)
    )


def test_the_order_is_the_csvs(tmp_path: Path) -> None:
    root = lay_out(tmp_path, VIEWS[::-1])
    expected = [str(root / v) for v in (*reversed(VIEWS[:5]), *reversed(VIEWS[5:]))]
    assert siamura.read_mura(root)["path"].tolist() == expected


@pytest.mark.parametrize("name", ["MURA-v1.1", "my copy of it", "train"])
@pytest.mark.parametrize("prefix", ["MURA-v1.1/", "", "./MURA-v1.1/", "a/b/"])
def test_any_name_and_any_prefix(tmp_path: Path, name: str, prefix: str) -> None:
    root = lay_out(tmp_path / name, prefix=prefix)
    assert len(siamura.read_mura(root)) == len(VIEWS)
    assert len(siamura.read_mura(tmp_path)) == len(VIEWS)  # its parent
    assert siamura.read_mura(str(root))["path"].str.startswith(str(root)).all()


def test_absolute_paths_below_the_root(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "x", prefix=f"{tmp_path}/x/")
    assert len(siamura.read_mura(root)) == len(VIEWS)


def test_windows_line_ends_and_slashes(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    for file in root.glob("*.csv"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n").replace(b"/", b"\\"))
    assert len(siamura.read_mura(root)) == len(VIEWS)


@pytest.mark.parametrize(
    ("part", "split", "count"),
    [
        ("XR_HAND", None, 4),
        ("hand", "train", 3),
        ("xr_hand", "valid", 1),
        (["XR_HAND", "finger"], None, 6),
        (None, "train", 5),
    ],
)
def test_parts_and_splits(
    tmp_path: Path, part: str | list[str] | None, split: str | None, count: int
) -> None:
    table = siamura.read_mura(lay_out(tmp_path), part=part, split=split)
    assert len(table) == count
    assert table["label"].dtype == "int64"


def test_a_split_without_the_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no view of XR_WRIST in valid; leave split='valid' out"):
        siamura.read_mura(lay_out(tmp_path), part="XR_WRIST", split="valid")


def test_a_study_is_named_by_three(tmp_path: Path) -> None:
    """patient00001/study1 alone would merge the hand with the wrist."""
    table = siamura.read_mura(lay_out(tmp_path))
    assert table.groupby(["part", "patient", "study"]).ngroups == 6
    assert table.groupby(["patient", "study"]).ngroups == 5


@pytest.mark.parametrize("csv", [True, False])
def test_hidden_files_are_counted(tmp_path: Path, csv: bool, caplog: pytest.LogCaptureFixture) -> None:
    root = lay_out(tmp_path, csv=csv)
    study = root / "train/XR_HAND/patient00001/study1_positive"
    (study / "._image2.png").write_bytes(b"\0\5\x16\7")
    (study / "Thumbs.db").write_bytes(b"")
    if csv:
        add(
            root, "train_image_paths.csv", "MURA-v1.1/train/XR_HAND/patient00001/study1_positive/._image2.png"
        )
        add(
            root, "train_image_paths.csv", "MURA-v1.1/train/XR_HAND/patient00001/study1_positive/._image9.png"
        )
    with caplog.at_level(logging.INFO):
        table = siamura.read_mura(root)
    assert len(table) == len(VIEWS)
    assert skipped(table) == {"hidden": 2 if csv else 1, "other": 1}
    assert f"passed over {2 if csv else 1} hidden files" in caplog.text


def wrong(tmp_path: Path) -> dict[str, tuple[Path, str, int]]:
    """Trees with one thing wrong each: root, the message, and the views that are left in a report."""
    cases: dict[str, tuple[Path, str, int]] = {}

    def case(name: str, reason: str, left: int) -> Path:
        root = lay_out(tmp_path / name)
        cases[name] = (root, reason, left)
        return root

    root = case("label", "is positive by its name but has label 0 in train_labeled_studies.csv, line 1", 5)
    file = root / "train_labeled_studies.csv"
    file.write_text(file.read_text().replace("study1_positive/,1", "study1_positive/,0"))
    root = case("outside", "lies outside the root", 7)
    add(
        root,
        "train_image_paths.csv",
        "MURA-v1.1/../../etc/train/XR_HAND/patient00009/study1_positive/image1.png",
    )
    root = case("absolute", "lies outside the root", 7)
    add(root, "train_image_paths.csv", "/elsewhere/train/XR_HAND/patient00009/study1_positive/image1.png")
    root = case("twice", "stands twice in train_image_paths.csv (lines 1 and 6)", 7)
    add(root, "train_image_paths.csv", "MURA-v1.1/" + VIEWS[0])
    root = case("study twice", "stands twice in train_labeled_studies.csv (lines 1 and 5)", 7)
    add(root, "train_labeled_studies.csv", "MURA-v1.1/train/XR_HAND/patient00001/study1_positive/,1")
    root = case("missing", "there is no such file, but train_image_paths.csv names it", 6)
    (root / VIEWS[1]).unlink()
    root = case("no path", "is no path like train/XR_HAND/", 7)
    add(root, "train_image_paths.csv", "path")
    root = case("other split", "is of the split 'valid' but stands in train_image_paths.csv", 7)
    add(root, "train_image_paths.csv", "MURA-v1.1/" + VIEWS[5])
    root = case("no study line", "is no line like train/XR_HAND/", 7)
    add(root, "valid_labeled_studies.csv", "MURA-v1.1/valid/XR_HAND/patient00003/study1_negative/,maybe")
    leak = "valid/XR_WRIST/patient00002/study1_negative/image1.png"
    root = case("leak", "patient patient00002 is in train and valid: a leak", 7)
    lay_out(root, [*VIEWS, leak])
    both = "train/XR_HAND/patient00001/study1_negative/image1.png"
    root = case("two labels", "study XR_HAND/patient00001/study1 has views with label 0 and 1", 5)
    lay_out(root, [*VIEWS, both])
    bare = "train/XR_HAND/patient00007/study1/image1.png"
    root = case("no label", "has no label: its name ends neither in _positive nor in _negative", 7)
    lay_out(root, [*VIEWS, bare])
    file = root / "train_labeled_studies.csv"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if "00007" not in line))
    return cases


def test_what_is_wrong_is_an_error_or_a_row_of_the_report(tmp_path: Path) -> None:
    for name, (root, reason, left) in wrong(tmp_path).items():
        with pytest.raises(ValueError) as caught:
            siamura.read_mura(root)
        assert reason in str(caught.value), name
        assert 'on_error="report"' in str(caught.value)
        table = siamura.read_mura(root, on_error="report")
        assert len(table) == left, name
        found = problems(table)
        assert len(found) == 1, name
        assert reason in found["reason"][0]
        check_disjoint(table)


def test_a_leak_is_noticed_when_one_split_is_read(tmp_path: Path) -> None:
    root = lay_out(tmp_path, [*VIEWS, "valid/XR_WRIST/patient00002/study1_negative/image1.png"])
    for split, left in (("train", 4), ("valid", 3)):
        with pytest.raises(ValueError, match="patient00002 is in train and valid: a leak"):
            siamura.read_mura(root, split=split)
        assert len(siamura.read_mura(root, split=split, on_error="report")) == left
    # Finger alone: the valid wrist of the same patient is not read, so nothing leaks.
    assert len(siamura.read_mura(root, part="finger")) == 2


def test_problems_of_other_parts_are_left_alone(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    (root / VIEWS[3]).unlink()
    with pytest.raises(ValueError, match="1 problem"):
        siamura.read_mura(root)
    assert len(siamura.read_mura(root, part="hand")) == 4


def test_a_label_from_the_csv_alone(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["train/XR_HAND/patient00001/study1/image1.png"])
    (root / "train_labeled_studies.csv").write_text("MURA-v1.1/train/XR_HAND/patient00001/study1/,1\n")
    table = siamura.read_mura(root)
    assert table[["study", "label"]].values.tolist() == [["study1", 1]]


def test_many_problems_are_listed_briefly(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    for number in range(20):
        add(
            root,
            "train_image_paths.csv",
            f"MURA-v1.1/train/XR_HAND/patient{number + 50:05}/study1_positive/image1.png",
        )
    with pytest.raises(ValueError, match=r"20 problems in [\s\S]*\.\.\. and 15 more"):
        siamura.read_mura(root)


def test_roots_that_hold_no_mura(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder: give the folder of MURA"):
        siamura.read_mura(tmp_path / "absent")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(
        ValueError, match=r"is no MURA tree: neither it nor a folder in it holds .*read_folders"
    ):
        siamura.read_mura(tmp_path / "pictures")
    root = lay_out(tmp_path / "one")
    with pytest.raises(ValueError, match="is one split of a MURA tree: give its parent"):
        siamura.read_mura(root / "train")
    lay_out(tmp_path / "two")
    with pytest.raises(ValueError, match=r"holds several MURA trees \(one, two\)"):
        siamura.read_mura(tmp_path)


def test_a_csv_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "MURA-v1.1")
    with open(root / "valid_image_paths.csv", "ab") as file:
        file.write("MURA-v1.1/valid/XR_HAND/Müller/study1_negative/image1.png\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"valid_image_paths\.csv is no UTF-8 text \(invalid start byte at"):
        siamura.read_mura(root)


def test_arguments(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    with pytest.raises(
        ValueError, match=r"part='XR_KNEE' is not in .*; it holds XR_FINGER, XR_HAND, XR_WRIST\."
    ):
        siamura.read_mura(root, part="XR_KNEE")
    with pytest.raises(ValueError, match=r"part=\[\] names no part"):
        siamura.read_mura(root, part=[])
    with pytest.raises(ValueError, match="split='test' is unknown; choose one of train, valid"):
        siamura.read_mura(root, split="test")
    with pytest.raises(ValueError, match="on_error='ignore' is unknown"):
        siamura.read_mura(root, on_error="ignore")


def test_tables_can_be_joined(tmp_path: Path) -> None:
    """DataFrames in attrs would break this."""
    root = lay_out(tmp_path)
    (root / VIEWS[3]).unlink()
    table = siamura.read_mura(root, on_error="report")
    joined = pd.concat([table, table], ignore_index=True)
    assert len(joined) == 2 * len(table)
    assert len(problems(joined)) == 1
    assert len(problems(table.head(2))) == 1


def test_real_radiographs_in_its_layout(shared: Path) -> None:
    table = siamura.read_mura(shared / "radiographs", part="XR_CHEST")
    studies = table.groupby(["part", "patient", "study"])
    assert studies.ngroups == 697
    assert table["patient"].nunique() == 697
    assert len(table) == sum(
        len((shared / "radiographs" / f"{split}_image_paths.csv").read_text().split())
        for split in ("train", "valid")
    )
    check_disjoint(table)
