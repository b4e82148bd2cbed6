"""Boxes of lesions in training: where they are put, what they teach, and what they need."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from siamura.losses import TripletLoss
from siamura.samplers import PKBatchSampler

from siamura.networks import EmbeddingNet
from siamura.pixels import Preprocess, RadiographDataset
from siamura.training import fit
from siamura.training.locating import BoxedRows, place_boxes

from .conftest import make_batches, make_data
from .test_fit import assert_same, weights_of
from .test_starts import Crash

QUIET = {"progress": False, "precision": "32", "accelerator": "cpu"}
SIDE = 64


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """24 noisy images of 96 x 48 pixels, every other one with a bright square, and its box."""
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    rows, boxes = [], []
    for number in range(24):
        image, label = rng.integers(0, 90, (96, 48), dtype=np.uint8), number % 2
        if label:
            x, y = int(rng.integers(0, 36)), int(rng.integers(0, 84))
            image[y : y + 12, x : x + 12] = 255
            boxes.append((f"{number}.png", x, y, x + 12, y + 12))
        cv2.imwrite(str(folder / f"{number}.png"), image)
        rows.append((str(folder / f"{number}.png"), label, f"p{number}"))
    table = pd.DataFrame(rows, columns=["path", "label", "patient"])
    pd.DataFrame(boxes, columns=["file", "x0", "y0", "x1", "y1"]).to_csv(folder / "lesions.csv", index=False)
    return RadiographDataset(table, Preprocess(SIDE, clahe=None), progress=False), folder / "lesions.csv"


def located(start=0, **options):
    net = EmbeddingNet("resnet18", dim=8, pool="located", **options)
    net.trunk.unfreeze(start)
    return net


def batches(data):
    return PKBatchSampler(data.labels, p=2, k=4)


def test_boxes_lie_where_the_image_is_bright(films):
    data, boxes = films
    placed = place_boxes(data, boxes)
    assert sorted(placed) == list(range(1, 24, 2))
    images, labels, masks, boxed = BoxedRows(data, placed, SIDE).__getitems__([1, 2, 3])
    assert masks.shape == (3, 1, SIDE, SIDE)
    assert masks.dtype == torch.uint8
    assert boxed.tolist() == [True, False, True]
    assert not masks[1].any()
    assert labels.tolist() == [1, 0, 1]
    for row in (0, 2):
        inside = masks[row, 0] > 0
        assert images[row, 0][inside].float().mean() > 200
        assert images[row, 0][~inside].float().mean() < 60
        assert inside.sum() == pytest.approx(64, abs=20)  # 12 pixels of 96 are 8 of 64


def test_what_is_cut_off_is_boxed_but_nowhere(films):
    data, _ = films
    boxes = pd.DataFrame({"path": [data.table["path"][0]], "x0": 0, "y0": 0, "x1": 9, "y1": 9})
    squared = RadiographDataset(data.table, Preprocess(SIDE, clahe=None, fit="center_crop"), progress=False)
    rows = BoxedRows(squared, place_boxes(squared, boxes), SIDE)
    _, _, masks, boxed = rows.__getitems__([0])
    assert boxed.tolist() == [True]
    assert not masks.any()


def test_cropped_borders_are_followed(tmp_path):
    image = np.zeros((120, 120), np.uint8)
    image[30:90, 30:90] = np.random.default_rng(0).integers(60, 120, (60, 60))
    image[60:75, 45:60] = 255
    cv2.imwrite(str(tmp_path / "a.png"), image)
    table = pd.DataFrame({"path": [str(tmp_path / "a.png")] * 2, "label": [1, 0]})
    data = RadiographDataset(table.iloc[:1], Preprocess(60, clahe=None, crop_borders=True), progress=False)
    boxes = pd.DataFrame({"path": [table["path"][0]], "x0": 45, "y0": 60, "x1": 60, "y1": 75})
    images, _, masks, _ = BoxedRows(data, place_boxes(data, boxes), 60).__getitems__([0])
    assert images[masks > 0].float().mean() > 230


def test_the_network_learns_where(films):
    data, boxes = films
    net = located()
    history = fit(
        net, data, batches(data), TripletLoss(), steps=40, lr=2e-3, lesions=boxes, classify=1.0, **QUIET
    )
    losses = history["location_loss"]
    assert losses[-5:].mean() < 0.6 * losses[:5].mean()
    with torch.inference_mode():
        logits = net.located(torch.from_numpy(data.images)[:, None])
    masks = BoxedRows(data, place_boxes(data, boxes), SIDE).__getitems__(range(1, 24, 2))[2]
    cells = torch.nn.functional.adaptive_max_pool2d(masks.float(), logits.shape[-2:]).flatten(1)
    hit = cells.gather(1, logits[1::2].flatten(1).argmax(dim=1, keepdim=True)) > 0
    assert hit.float().mean() > 0.7
    evidence = logits.flatten(1).logsumexp(dim=1)
    assert evidence[1::2].mean() > evidence[::2].mean() + 1


def test_kept_features_train_as_images_do(films):
    data, boxes = films
    ends = []
    for kept in (True, False):
        net = located("layer3")
        history = fit(
            net, data, batches(data), TripletLoss(), steps=4, lr=1e-3, lesions=boxes, augment="flip",
            cache_features=kept, **QUIET,
        )  # fmt: skip
        ends.append(history["location_loss"].to_numpy())
    np.testing.assert_allclose(ends[0], ends[1], rtol=0.02)


def test_masks_move_as_the_images_do(films):
    data, boxes = films
    seen = []

    def watch(images, generator):
        """Turn by a random quarter, each batch."""
        turned = torch.rot90(images, int(torch.randint(4, (), generator=generator)), (-2, -1))
        seen.append(turned)
        return turned

    fit(located(), data, batches(data), TripletLoss(), steps=3, lesions=boxes, augment=watch, **QUIET)
    for images, masks in zip(seen[::2], seen[1::2], strict=True):
        rows = (masks > 0).flatten(1).any(dim=1)
        assert rows.sum() == 4
        assert images[rows][masks[rows] > 0].float().mean() > 200


@pytest.mark.parametrize("augment", ["mura", "flip"])
def test_a_resumed_run_goes_on_as_it_would_have(films, tmp_path, augment):
    data, boxes = films

    def run(out, **options):
        net = located("layer4")
        history = fit(
            net, data, batches(data), TripletLoss(), steps=5, out=out, lesions=boxes, augment=augment, classify=1.0,
            checkpoint_every=2, **QUIET, **options,
        )  # fmt: skip
        return history, weights_of(net)

    history, weights = run(tmp_path / "whole")
    with pytest.raises(SystemError):
        run(tmp_path / "parts", callbacks=[Crash(3)])
    again, same = run(tmp_path / "parts", resume=True)
    pd.testing.assert_frame_equal(again, history)
    assert_same(same, weights)


def test_what_is_looked_at_is_not_frozen_away(films, caplog):
    data, boxes = films
    caplog.set_level("INFO", logger="siamura")
    fit(located("layer4.1"), data, batches(data), TripletLoss(), steps=1, lesions=boxes, **QUIET)
    assert "looks at what layer4 takes in too, which is frozen" in caplog.text
    with pytest.raises(ValueError, match="cache_features=True cannot be had: the network looks at"):
        fit(
            located("layer4.1"), data, batches(data), TripletLoss(), steps=1, lesions=boxes, cache_features=True,
            **QUIET,
        )  # fmt: skip


@pytest.mark.parametrize("more", [{"recompute": True}, {"ema": 0.9}, {"start_size": 32}])
def test_other_options_go_with_it(films, more):
    data, boxes = films
    found = []
    for options in ({}, more):
        net = located("layer3")
        history = fit(net, data, batches(data), TripletLoss(), steps=3, lesions=boxes, **options, **QUIET)
        found.append(history["location_loss"].to_numpy())
        assert np.isfinite(found[-1]).all()
        assert not net.head.pool.kept.by_thread or options.get("recompute")
    if "start_size" not in more:
        np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


def test_the_pooling_trains_without_boxes_too(films):
    data, _ = films
    for start in ("layer4.1", "layer3"):
        net = located(start)
        history = fit(net, data, batches(data), TripletLoss(), steps=2, classify=1.0, **QUIET)
        assert "location_loss" not in history
        assert net.head.pool.finer.weight.any()


def test_what_is_taken_for_what_is_said(films, caplog):
    data, boxes = films
    some = pd.read_csv(boxes).iloc[:5]
    some["file"] = [str(boxes.parent / name) for name in some["file"]]
    caplog.set_level("INFO", logger="siamura")
    history = fit(located(), data, batches(data), TripletLoss(), steps=1, lesions=some, **QUIET)
    assert (
        "5 of 12 views with a label above 0 have a box; the 12 views with label 0 and no box are taken"
        in caplog.text
    )
    assert np.isfinite(history["location_loss"]).all()


def test_what_it_needs_is_named(films):
    data, boxes = films
    loss = TripletLoss()
    with pytest.raises(ValueError, match=r'lesions needs a network that looks for places: .*pool="located"'):
        fit(EmbeddingNet("resnet18", dim=8), data, batches(data), loss, steps=1, lesions=boxes, **QUIET)
    with pytest.raises(ValueError, match=r"locate=3\.0 does nothing without lesions="):
        fit(located(), data, batches(data), loss, steps=1, locate=3.0, **QUIET)
    with pytest.raises(ValueError, match='compile=True and pool="located" exclude each other'):
        fit(located(), data, batches(data), loss, steps=1, lesions=boxes, compile=True, **QUIET)
    few = make_data(16)
    with pytest.raises(ValueError, match=r"lesions needs a RadiographDataset, .* data is a TensorDataset"):
        fit(located(), few, make_batches(few), loss, steps=1, lesions=boxes, **QUIET)
    with pytest.raises(ValueError, match='pool="located" looks at two; give head_first=0'):
        fit(located(), data, batches(data), loss, steps=1, lesions=boxes, head_first=1, **QUIET)
    other = pd.DataFrame({"path": [str(boxes)], "x0": 0, "y0": 0, "x1": 1, "y1": 1})
    with pytest.raises(ValueError, match="none of the 1 boxes"):
        fit(located(), data, batches(data), loss, steps=1, lesions=other, **QUIET)
    with pytest.raises(ValueError, match="the DataFrame has no rows"):
        fit(located(), data, batches(data), loss, steps=1, lesions=other.iloc[:0], **QUIET)
