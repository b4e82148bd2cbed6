"""Targets on known embeddings, boxes on drawn maps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from siamura.explanation import (
    CentroidSimilarity,
    Difference,
    HeadLogit,
    Logit,
    NearestSimilarity,
    Similarity,
    box_iou,
    centre_box,
    find_boxes,
    mean_place,
)

VECTORS = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 0.0]], dtype=np.float32)


def test_head_logit_is_the_log_odds_of_the_probability():
    from siamura.heads import MLPHead

    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 5)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    head = MLPHead(hidden=(8,), epochs=5).fit(x, y)
    p = head.predict_proba(x)
    for label in (0, 1):
        odds = HeadLogit(head, label)(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(odds, np.log(p[:, label] / p[:, 1 - label]), atol=1e-4)


def test_head_logit_of_plain_modules():
    out = torch.tensor([[1.0, 2.0, 4.0]])
    expected = 2.0 - np.log(np.exp(1.0) + np.exp(4.0))
    assert float(HeadLogit(nn.Identity(), 1)(out)) == pytest.approx(expected, abs=1e-6)
    assert float(HeadLogit(nn.Identity(), 1)(torch.tensor([[3.0]]))) == 3.0
    assert float(HeadLogit(nn.Identity(), 0)(torch.tensor([3.0]))) == -3.0


def test_head_logit_refuses_a_knn_head():
    from siamura.heads import KNNHead

    with pytest.raises(ValueError, match="no network to differentiate"):
        HeadLogit(KNNHead(k=1))


def test_similarities():
    e = torch.tensor([[1.0, 1.0]])
    assert float(Similarity([0.0, 7.0])(e)) == pytest.approx(0.5**0.5, abs=1e-6)
    assert float(CentroidSimilarity(VECTORS, [1, 1, 0, 0], label=1)(e)) == pytest.approx(
        3 / (5**0.5 * 2**0.5), abs=1e-6
    )
    labels = [1, 1, 1, 0]
    cosines = [0.5**0.5, 0.5**0.5, 1.0]
    assert float(NearestSimilarity(VECTORS, labels, 1, k=2)(e)) == pytest.approx(
        np.mean(sorted(cosines)[1:]), abs=1e-6
    )
    assert float(NearestSimilarity(VECTORS, labels, 1, k=99)(e)) == pytest.approx(np.mean(cosines), abs=1e-6)
    both = Difference(NearestSimilarity(VECTORS, labels, 1, k=1), NearestSimilarity(VECTORS, labels, 0, k=1))
    assert float(both(e)) == pytest.approx(1 + 0.5**0.5, abs=1e-6)
    assert "nearest of label 1" in repr(both)


def words():
    from siamura.heads import MLPHead

    return MLPHead(epochs=1).fit([[0.0, 1.0], [1.0, 0.0]], ["normal", "abnormal"])


def test_classes_may_be_words():
    head = words()
    e = torch.tensor([[0.3, -0.2]])
    normal, abnormal = (float(HeadLogit(head, label)(e)) for label in ("normal", "abnormal"))
    assert abnormal == pytest.approx(-normal, abs=1e-6)
    assert 1 / (1 + np.exp(-abnormal)) == pytest.approx(head.predict_proba(e.numpy())[0, 0], abs=1e-6)
    by_word = CentroidSimilarity(VECTORS, ["a", "a", "n", "n"], label="a")
    assert float(by_word(e)) == float(CentroidSimilarity(VECTORS, [1, 1, 0, 0])(e))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Similarity([0.0, 0.0]), "zero or not finite"),
        (lambda: Similarity([np.nan, 0.0]), "zero or not finite"),
        (lambda: CentroidSimilarity(VECTORS, [0, 0, 0, 0]), "labels has no 1"),
        (lambda: CentroidSimilarity(VECTORS, [1, 0]), "for 2 labels"),
        (lambda: NearestSimilarity(VECTORS, [1, 1, 1, 1], k=0), "k=0"),
        (
            lambda: NearestSimilarity([[np.nan, 1.0], [1.0, 0.0]], [1, 0]),
            "NaN or infinity among the cases of label 1",
        ),
        (lambda: Similarity([[1.0, 0.0], [0.0, 1.0]]), r"reference has shape \(2, 2\); give one embedding"),
        (lambda: Similarity([1.0])(torch.ones(2, 8)), "reference has 1 dimensions, and the model gives 8"),
        (lambda: HeadLogit(words(), 1), "label=1 is no class of the head; it knows 'abnormal', 'normal'"),
    ],
)
def test_targets_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    assert repr(Logit(3)) == "output 3"


def drawn():
    heat = np.zeros((40, 60))
    heat[5:15, 10:30] = 1.0  # 200 pixels
    heat[30:34, 40:50] = 0.5  # 40 pixels
    heat[20:22, 2:4] = 0.19  # below 20 % of the maximum
    return heat


def test_boxes_on_a_drawn_map():
    heat = drawn()
    assert find_boxes(heat).tolist() == [[10, 5, 30, 15]]
    assert find_boxes(heat, min_area=0.0).tolist() == [[10, 5, 30, 15], [40, 30, 50, 34]]
    assert find_boxes(heat, min_area=0.05).tolist() == [[10, 5, 30, 15]]
    assert find_boxes(heat, 0.6, min_area=0.0).tolist() == [[10, 5, 30, 15]]
    assert find_boxes(heat, 0.1, min_area=0.0).tolist()[-1] == [2, 20, 4, 22]
    assert find_boxes(heat, maximum=10.0).tolist() == []
    assert find_boxes(heat, maximum=2.0, min_area=0).tolist() == [[10, 5, 30, 15], [40, 30, 50, 34]]
    assert find_boxes(np.zeros((4, 4))).shape == (0, 4)


def test_the_minimum_is_not_subtracted_first():
    heat = np.full((10, 10), 0.3)
    heat[2:4, 2:4] = 1.0
    assert find_boxes(heat).tolist() == [[0, 0, 10, 10]]


def test_touching_corners_are_connected():
    heat = np.zeros((6, 6))
    heat[1, 1] = heat[2, 2] = heat[3, 3] = 1
    assert find_boxes(heat).tolist() == [[1, 1, 4, 4]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 15), st.integers(1, 15), st.floats(0.05, 1.0))
def test_one_rectangle_is_its_own_box(x, y, w, h, threshold):
    heat = np.zeros((40, 40))
    heat[y : y + h, x : x + w] = 3.0
    assert find_boxes(heat, threshold).tolist() == [[x, y, x + w, y + h]]


boxes = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@settings(max_examples=60, deadline=None)
@given(boxes, boxes)
def test_iou_by_counting_pixels(a, b):
    def mask(box):
        out = np.zeros((20, 20), bool)
        out[box[1] : box[3], box[0] : box[2]] = True
        return out

    expected = (mask(a) & mask(b)).sum() / (mask(a) | mask(b)).sum()
    assert box_iou([a], [b])[0, 0] == pytest.approx(expected)


def test_centre_box_stays_inside():
    assert centre_box(10, 20, (100, 4)).tolist() == [0, 3, 20, 7]
    assert box_iou(np.empty((0, 4)), [[0, 0, 1, 1]]).shape == (0, 1)


@pytest.mark.parametrize("bad", [{"threshold": 0}, {"threshold": 1.5}])
def test_find_boxes_refuses(bad):
    with pytest.raises(ValueError, match="threshold"):
        find_boxes(drawn(), **bad)
    with pytest.raises(ValueError, match="finite map"):
        find_boxes(np.full((3, 3), np.nan))


def test_the_mean_place_is_that_of_other_patients():
    boxes = [[[40, 40, 60, 60]], [[40, 40, 60, 60]], [[38, 40, 62, 60]], [[0, 0, 4, 4]]]
    sizes = [[100, 100, 20, 20]] * 3 + [[100, 100, 4, 4]]
    hit, iou = mean_place(boxes, sizes, ["a", "b", "c", "c"])
    # c's two middles are not counted for c: the others' mean is (50, 50).
    assert hit[2:].tolist() == [1.0, 0.0]
    assert iou[2] == pytest.approx(20 / 24)
    assert iou[3] == 0
    assert np.isnan(mean_place(boxes[:1], sizes[:1], ["a"])).all()
    doubled, _ = mean_place(
        [[[80, 80, 120, 120]], [[40, 40, 60, 60]]], [[200, 200, 9, 9], sizes[0]], ["a", "b"]
    )
    assert doubled.tolist() == [1.0, 1.0]  # places are shares of the film
