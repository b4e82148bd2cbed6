"""RadiographDataset and its batches."""

import logging
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import png_files
from siamura.samplers import PKBatchSampler
from torch.utils.data import DataLoader

from siamura.pixels import Augmentation, Preprocess, RadiographDataset, read_image

PRE = Preprocess(size=32)


def table_of(paths):
    count = len(paths)
    return pd.DataFrame(
        {
            "path": paths,
            "label": [i % 2 for i in range(count)],
            "patient": [f"patient{i // 3:05d}" for i in range(count)],
        },
        index=range(100, 100 + count),
    )


@pytest.fixture(params=["memory", "store"])
def make(request, tmp_path):
    def made(table, pre=PRE, **options):
        cache = None if request.param == "memory" else tmp_path / "cache"
        return RadiographDataset(table, pre, cache=cache, progress=False, **options)

    return made


def test_items_and_batches_are_the_preprocessed_files_in_order(make, tmp_path):
    table = table_of(png_files(tmp_path / "in", 12))
    data = make(table)
    assert len(data) == 12
    assert data.images.shape == (12, 32, 32)
    assert data.images.dtype == np.uint8
    assert list(data.table.index) == list(range(12))
    assert data.table["patient"].tolist() == table["patient"].tolist()
    assert data.pre == PRE
    assert len(data.unreadable) == 0
    assert list(data.unreadable.columns) == ["path", "reason"]
    for i in (0, 5, 11, -1):
        image, label = data[i]
        expected = PRE(read_image(table["path"].iloc[i]))
        assert image.shape == (1, 32, 32)
        assert image.dtype == torch.uint8
        assert type(label) is int
        assert label == table["label"].iloc[i]
        np.testing.assert_array_equal(image[0].numpy(), expected)
    images, labels = data.batch([7, 7, 2])
    assert images.shape == (3, 1, 32, 32)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [1, 1, 0]
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[2], data[2][0])
    with pytest.raises(IndexError):
        data[12]


def test_a_batch_may_be_written_to_without_harm(make, tmp_path):
    data = make(table_of(png_files(tmp_path / "in", 4)))
    before = np.array(data.images)
    images, labels = data.batch([0, 1])
    images.zero_()
    labels.fill_(9)
    data[2][0].zero_()
    np.testing.assert_array_equal(data.images, before)
    assert data.labels.tolist() == [0, 1, 0, 1]


def test_the_table_handed_in_is_left_alone(make, tmp_path):
    table = table_of(png_files(tmp_path / "in", 4))
    copy = table.copy()
    data = make(table)
    data.table.loc[0, "label"] = 5
    pd.testing.assert_frame_equal(table, copy)


def test_one_bad_file_is_an_error_that_lists_all(make, tmp_path):
    paths = png_files(tmp_path / "in", 6)
    Path(paths[1]).write_bytes(b"nothing")
    Path(paths[4]).unlink()
    with pytest.raises(ValueError, match=r"2 of 6 images cannot be read") as error:
        make(table_of(paths))
    assert paths[1] in str(error.value)
    assert paths[4] in str(error.value)
    assert 'on_error="skip"' in str(error.value)


def test_skipped_files_are_counted_logged_and_listed_and_nothing_shifts(make, tmp_path, caplog):
    paths = png_files(tmp_path / "in", 6)
    Path(paths[1]).write_bytes(b"nothing")
    Path(paths[4]).unlink()
    table = table_of(paths)
    with caplog.at_level(logging.WARNING, "siamura"):
        data = make(table, on_error="skip")
    assert "2 of 6 images cannot be read" in caplog.text
    assert data.unreadable["path"].tolist() == [paths[1], paths[4]]
    assert data.unreadable["reason"].str.len().min() > 0
    assert data.table["path"].tolist() == [paths[i] for i in (0, 2, 3, 5)]
    assert data.labels.tolist() == [0, 0, 1, 1]
    for i in range(4):
        np.testing.assert_array_equal(data[i][0][0].numpy(), PRE(read_image(data.table["path"][i])))
    assert "2 unreadable" in repr(data)


def test_with_no_image_left_skipping_is_an_error_too(make, tmp_path):
    with pytest.raises(ValueError, match="no image is left"):
        make(table_of([str(tmp_path / "none.png")]), on_error="skip")


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        (pd.DataFrame({"path": ["a"]}), {}, "table has no column .label.; its columns are path"),
        (pd.DataFrame({"path": [], "label": []}), {}, "table is empty"),
        (pd.DataFrame({"path": ["a"], "label": [1]}), {"on_error": "ignore"}, "on_error='ignore'"),
        (pd.DataFrame({"path": ["a", "b"], "label": [1, np.nan]}), {}, "label is .*nan.* in row 1, one of 1"),
        (pd.DataFrame({"path": ["a", "b"], "label": [0.7, 1]}), {}, r"label is .*0.7.* in row 0"),
        (pd.DataFrame({"path": ["a", "b"], "label": ["no", "yes"]}), {}, "label is 'no' in row 0, one of 2"),
        (pd.DataFrame({"path": ["a", None], "label": [0, 1]}), {}, "path is .* in row 1; give the path"),
    ],
)
def test_wrong_arguments_are_named(make, table, options, said):
    with pytest.raises(ValueError, match=said):
        make(table, **options)


def test_labels_of_any_type_that_are_whole_numbers(make, tmp_path):
    paths = png_files(tmp_path / "in", 3)
    for column in ([0, 1, 2], [0.0, 1.0, 2.0], pd.array([0, 1, 2], dtype="Int64"), pd.Categorical([0, 1, 2])):
        labels = make(pd.DataFrame({"path": paths, "label": column})).labels
        assert labels.dtype == np.int64
        assert labels.tolist() == [0, 1, 2]
    assert make(pd.DataFrame({"path": paths, "label": [True, False, True]})).labels.tolist() == [1, 0, 1]


def test_it_travels_to_other_processes_without_its_pixels(tmp_path):
    data = RadiographDataset(
        table_of(png_files(tmp_path / "in", 50)), PRE, cache=tmp_path / "cache", progress=False
    )
    packed = pickle.dumps(data)
    assert len(packed) < data.images.nbytes / 2
    again = pickle.loads(packed)
    assert isinstance(again.images, np.memmap)
    np.testing.assert_array_equal(again.images, data.images)
    in_memory = RadiographDataset(data.table, PRE, progress=False)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(in_memory)).images, data.images)


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, None), (1, "spawn")])
def test_torchs_loader_takes_it_as_it_is(tmp_path, workers, context):
    data = RadiographDataset(
        table_of(png_files(tmp_path / "in", 10)), PRE, cache=tmp_path / "cache", progress=False
    )
    plan = [[0, 3, 9], [1, 1], [5]]
    loader = DataLoader(data, batch_sampler=plan, num_workers=workers, multiprocessing_context=context)
    for wanted, (images, labels) in zip(plan, loader, strict=True):
        assert images.shape == (len(wanted), 1, 32, 32)
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        np.testing.assert_array_equal(images[:, 0].numpy(), data.images[wanted])
        assert labels.tolist() == data.table["label"][wanted].tolist()


def test_labels_and_patients_are_those_of_the_images_that_are_left(make, tmp_path):
    paths = png_files(tmp_path / "in", 6)
    Path(paths[1]).write_bytes(b"nothing")
    table = table_of(paths).assign(patient=["7", "7", "8", "9", "9", "10"])
    table.attrs["classes"] = ("normal", "fracture")
    data = make(table, on_error="skip")
    kept = table.iloc[[0, 2, 3, 4, 5]]
    assert isinstance(data.labels, np.ndarray)
    assert data.labels.tolist() == kept["label"].tolist()
    assert data.patients.tolist() == kept["patient"].tolist()
    assert data.patients.dtype.kind == "U"
    assert data.classes == ("normal", "fracture")
    batches = PKBatchSampler(data.labels, p=2, k=2, groups=data.patients, seed=0)
    for batch in batches:
        assert max(batch) < len(data)
        assert sorted(data.batch(batch)[1].tolist()) == [0, 0, 1, 1]
    nameless = make(table_of(paths[2:]).drop(columns="patient"))
    assert nameless.classes is None
    with pytest.raises(AttributeError, match="no column 'patient'"):
        _ = nameless.patients


def test_its_description_counts_every_class_and_those_without_a_label(make, tmp_path):
    paths = png_files(tmp_path / "in", 4)
    said = lambda labels: repr(make(pd.DataFrame({"path": paths, "label": labels})))  # noqa: E731
    assert "4 images: 4 unlabelled; 32 px" in said([-1, -1, -1, -1])
    assert "4 images: 3 negative, 1 positive; 32 px" in said([0, 0, 1, 0])
    assert "4 images: 1 of class 0, 1 of class 1, 2 of class 4; 32 px" in said([0, 4, 1, 4])


def test_augmentation_is_applied_to_batches_and_not_to_the_store(make, tmp_path):
    table = table_of(png_files(tmp_path / "in", 8))
    plain = make(table)
    changed = make(table, augment=Augmentation.preset("mura", seed=4))
    images, _ = changed.batch(list(range(8)))
    expected = Augmentation.preset("mura", seed=4)(plain.batch(list(range(8)))[0])
    assert torch.equal(images, expected)
    np.testing.assert_array_equal(changed.images, plain.images)


def test_importing_the_room_loads_neither_torch_nor_opencv():
    heavy = "{'torch', 'torchvision', 'pandas'} & set(sys.modules)"
    for code in (
        f"import sys, siamura.pixels; print({heavy} | {{'cv2'}} & set(sys.modules))",
        f"import sys; from siamura.pixels import Preprocess, CLAHE, read_image; print({heavy})",
    ):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == "set()"
