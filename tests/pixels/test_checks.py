"""Pixel values on the wrong scale, and images that show nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from siamura.pixels import Preprocess, check_gray, check_radiograph

SHAPE = (2, 1, 40, 40)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.full(SHAPE, 0.5, np.float32), "divided by 255"),
        (np.full(SHAPE, 1.0), "divided by 255"),
        (torch.rand(SHAPE), "divided by 255"),
        (torch.rand(SHAPE, dtype=torch.float16), "divided by 255"),
        (torch.rand(SHAPE).bfloat16(), "divided by 255"),
        (np.full(SHAPE, 256, np.uint16), "256, more than 8 bits hold"),
        (torch.full(SHAPE, 4095, dtype=torch.int32), "4095, more than 8 bits hold"),
        (np.full(SHAPE, -1, np.int16), "standardised or signed"),
        (torch.randn(SHAPE), "standardised or signed"),
        (np.where(np.arange(40) == 7, np.nan, np.full(SHAPE, 200.0)), "NaN"),
        (torch.full(SHAPE, float("nan")), "NaN"),
        (np.full(SHAPE, np.inf), "more than 8 bits hold"),
        (np.ones(SHAPE, bool), "bool"),
        ([[1, 2]], "images is a list"),
    ],
)
def test_other_scales_are_refused_with_the_remedy(images: object, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        check_gray(images)
    assert str(error.value).startswith("images ")
    assert "uint8" in str(error.value)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros(SHAPE, np.uint8),
        torch.ones(SHAPE, dtype=torch.uint8),
        torch.zeros(SHAPE),
        np.full(SHAPE, 254.6, np.float32),
        np.full(SHAPE, 255, np.int64),
        np.full(SHAPE, 1, np.int64),
        np.zeros((0, 1, 40, 40)),
        torch.zeros(0),
    ],
)
def test_greys_from_0_to_255_pass(images: object) -> None:
    check_gray(images)


@pytest.mark.parametrize("image", [np.full((40, 40), 0.5), np.full((40, 40), 300, np.uint16)])
def test_preprocessing_refuses_them_too(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"image holds .* give uint8"):
        Preprocess(size=32)(image)
    with pytest.raises(ValueError, match=r"astype\(numpy.uint8\)"):
        Preprocess(size=32)(np.full((40, 40), 200, np.int64))


def test_images_that_show_nothing_are_named() -> None:
    noise = np.random.default_rng(0).normal(100, 1, (300, 200)).astype(np.uint8)
    assert "nearly one grey (0)" in check_radiograph(np.zeros((500, 400), np.uint8))
    assert "nearly one grey (255)" in check_radiograph(np.full((5000, 4000), 255, np.uint8))
    assert "nearly one grey" in check_radiograph(noise)
    assert "31 x 500 pixels" in check_radiograph(np.resize(np.arange(256, dtype=np.uint8), (500, 31)))
    assert "1 x 1 pixels" in check_radiograph(np.zeros((1, 1), np.uint8))


def test_a_small_bone_on_black_is_an_image() -> None:
    image = np.zeros((1000, 800), np.uint8)
    image[100:200, 100:180] = 128  # a hundredth of it
    assert check_radiograph(image) == ""
    assert check_radiograph(np.resize(np.arange(256, dtype=np.uint8), (32, 32))) == ""


@pytest.mark.parametrize("form", [np.asarray, torch.as_tensor])
def test_one_image_divided_by_255_among_others_is_found(form):
    images = np.random.default_rng(0).integers(1, 256, (5, 1, 8, 8)).astype(np.float32)
    images[1] = 0  # all black is no sign of a division
    check_gray(form(images))
    images[3] /= 255
    with pytest.raises(ValueError, match=r"images\[3\] reaches .* 1 of 5 images do, .* divided by 255"):
        check_gray(form(images))
