"""An image beside its similar cases."""

import numpy as np
import pytest

from siamura import plots

IMAGE = np.arange(600, dtype=np.uint8).reshape(30, 20)
PAIRS = {"case_maps": [np.eye(5, 4)] * 2, "image_maps": [np.zeros((6, 4))] * 2}


def test_similar_cases():
    figure = plots.similar_cases(IMAGE, [IMAGE, IMAGE.T], [0.0, 0.25], [1, 0], **PAIRS)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["the image", "abnormal\ndistance 0", "normal\ndistance 0.25"]
    shown = [[image.get_array().shape for image in axes.images] for axes in figure.axes]
    # By rows: the images; maps over the cases; maps over the image.
    assert shown == [
        [(30, 20)], [(30, 20)], [(20, 30)],
        [], [(30, 20), (5, 4)], [(20, 30), (5, 4)],
        [], [(30, 20), (6, 4)], [(30, 20), (6, 4)],
    ]  # fmt: skip


def test_any_classes():
    figure = plots.similar_cases(IMAGE, [IMAGE] * 2, [1, 2], [2, 0], names=("a", "b", "c"), **PAIRS)
    assert [axes.get_title()[0] for axes in figure.axes[1:3]] == ["c", "a"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": [0, 2]}, "labels hold 2; names has names for 0 to 1"),
        ({"distances": [0.1]}, "distances holds 1 values for 2 cases"),
        ({"case_maps": [np.eye(2)]}, "case_maps holds 1 values for 2 cases"),
        ({"image_maps": [np.full((2, 2), np.nan)] * 2}, "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(changed, message):
    given = {"cases": [IMAGE] * 2, "distances": [0, 1], "labels": [0, 1], **PAIRS, **changed}
    with pytest.raises(ValueError, match=message):
        plots.similar_cases(IMAGE, **given)
