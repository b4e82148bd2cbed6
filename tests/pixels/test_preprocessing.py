"""Preprocessing against OpenCV's own LAB route, and the geometry there and back."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from siamura.pixels import CLAHE, Geometry, Preprocess

SIDES = st.integers(1, 700)
FITS = st.sampled_from(["letterbox", "squash", "center_crop"])
IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 70), st.integers(1, 70)))


def lab_route(image, clip_limit, tiles):
    """System A's way, all of it done by OpenCV."""
    lab = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), cv2.COLOR_BGR2LAB)
    lightness, a, b = cv2.split(lab)
    lightness = cv2.createCLAHE(clip_limit, tiles).apply(lightness)
    return cv2.cvtColor(cv2.merge([lightness, a, b]), cv2.COLOR_LAB2BGR)


@settings(max_examples=150, deadline=None)
@given(image=IMAGES, clip_limit=st.floats(1, 40), tiles=st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_the_tables_give_what_opencv_gives_through_lab(image, clip_limit, tiles):
    bgr = lab_route(image, clip_limit, tiles)
    ours = CLAHE(clip_limit, tiles)(image)
    np.testing.assert_array_equal(ours, bgr[..., 1])
    np.testing.assert_array_equal(ours, cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))


def test_the_tables_give_what_opencv_gives_through_lab_at_radiograph_size():
    image = radiograph(512, 380)
    np.testing.assert_array_equal(CLAHE(2.0, (8, 8))(image), lab_route(image, 2.0, (8, 8))[..., 1])


def radiograph(height, width, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    bone = 140 * np.exp(-(((x - 0.4 * width / max(height, width)) / 0.1) ** 2)) + 60 * y
    return np.clip(bone + rng.normal(0, 6, (height, width)), 0, 255).astype(np.uint8)


def test_plain_grey_clahe_is_opencvs_and_another_thing_than_lightness():
    image = radiograph(200, 160)
    grey = CLAHE(3.0, (4, 8), route="grey")(image)
    np.testing.assert_array_equal(grey, cv2.createCLAHE(3.0, (4, 8)).apply(image))
    assert (grey != CLAHE(3.0, (4, 8))(image)).any()


def test_tiles_are_columns_then_rows():
    image = radiograph(64, 256)
    assert (CLAHE(2.0, (16, 2))(image) != CLAHE(2.0, (2, 16))(image)).any()
    np.testing.assert_array_equal(
        CLAHE(2.0, (2, 16), route="grey")(image),
        cv2.createCLAHE(2.0, tileGridSize=(2, 16)).apply(image),
    )


@pytest.mark.parametrize("clip_limit", [0.01, 0.5, 0.99])
def test_a_clip_limit_on_scikit_images_scale_is_refused_by_name(clip_limit):
    with pytest.raises(ValueError, match=rf"clip_limit={clip_limit}.*scikit-image"):
        CLAHE(clip_limit)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CLAHE(0), "clip_limit=0.*clahe=None"),
        (lambda: CLAHE(-2.0), "clip_limit=-2"),
        (lambda: CLAHE(float("nan")), "clip_limit=nan"),
        (lambda: CLAHE("2"), "clip_limit='2'"),
        (lambda: CLAHE(True), "clip_limit=True"),
        (lambda: CLAHE(tiles=8), "tiles=8"),
        (lambda: CLAHE(tiles=(8, 0)), r"tiles=\(8, 0\)"),
        (lambda: CLAHE(tiles=(8, 8, 8)), r"tiles=\(8, 8, 8\)"),
        (lambda: CLAHE(tiles=(2.5, 8)), r"tiles=\(2.5, 8\)"),
        (lambda: CLAHE(route="hsv"), "route='hsv'.*lab"),
        (lambda: Preprocess(size=0), "size=0"),
        (lambda: Preprocess(size=224.0), "size=224.0"),
        (lambda: Preprocess(size=(224, 224)), r"size=\(224, 224\)"),
        (lambda: Preprocess(size=100_000), "size=100000"),
        (lambda: Preprocess(clahe=2.0), "clahe=2.0.*CLAHE"),
        (lambda: Preprocess(fit="pad"), "fit='pad'.*letterbox"),
        (lambda: Preprocess(crop_borders="yes"), "crop_borders='yes'"),
        (lambda: Preprocess(equalise=True), "choose one"),
        (lambda: Preprocess()(np.zeros((4, 4), np.uint16)), "uint16"),
        (lambda: Preprocess()(np.zeros((4, 4, 3), np.uint8)), r"\(4, 4, 3\)"),
        (lambda: Preprocess()(np.zeros((0, 4), np.uint8)), r"\(0, 4\)"),
        (lambda: Preprocess()([[1]]), "list"),
        (lambda: Preprocess().geometry(0, 10), "height=0"),
        (lambda: Preprocess(crop_borders=True).geometry(10, 10), "apply"),
        (lambda: Preprocess().geometry(9, 9).to_input([1.0]), "points of shape"),
        (lambda: Preprocess().geometry(9, 9).map_to_input(np.zeros((3, 3))), r"\(9, 9\)"),
        (lambda: Preprocess().geometry(9, 9).map_to_original(np.zeros(3)), r"\(3,\)"),
        (lambda: Preprocess.from_dict({"size": 64, "colour": 3}), "colour"),
        (lambda: Preprocess.from_dict({"clahe": {"clip": 3}}), "clip"),
        (lambda: Preprocess.from_dict({"size": 64, "algorithm": 99}), "algorithm=99"),
    ],
)
def test_wrong_settings_are_named_with_what_would_be_right(make, said):
    with pytest.raises(ValueError, match=said):
        make()


ALL = [
    Preprocess(),
    Preprocess(size=96),
    Preprocess(clahe=None),
    Preprocess(clahe=CLAHE(3.0)),
    Preprocess(clahe=CLAHE(2.0, (4, 8))),
    Preprocess(clahe=CLAHE(2.0, (8, 4))),
    Preprocess(clahe=CLAHE(route="grey")),
    Preprocess(clahe=None, equalise=True),
    Preprocess(fit="squash"),
    Preprocess(fit="center_crop"),
    Preprocess(crop_borders=True),
]


@pytest.mark.parametrize("pre", ALL, ids=str)
def test_settings_travel_as_json_and_keep_their_fingerprint(pre):
    again = Preprocess.from_dict(json.loads(json.dumps(pre.to_dict())))
    assert again == pre
    assert hash(again) == hash(pre)
    assert again.fingerprint() == pre.fingerprint()
    image = radiograph(90, 130)
    np.testing.assert_array_equal(again(image), pre(image))


def test_settings_that_are_absent_take_their_defaults():
    assert Preprocess.from_dict({"size": 64}) == Preprocess(size=64)
    assert Preprocess.from_dict({"clahe": {"clip_limit": 3}}) == Preprocess(clahe=CLAHE(3.0))
    assert Preprocess.from_dict({"clahe": None}) == Preprocess(clahe=None)


def test_every_setting_changes_the_fingerprint_and_spelling_does_not(monkeypatch):
    assert len({pre.fingerprint() for pre in ALL}) == len(ALL)
    same = Preprocess(size=np.int64(224), clahe=CLAHE(2, [np.int32(8), 8]))
    assert same.fingerprint() == Preprocess().fingerprint()
    assert same == Preprocess()
    before = Preprocess().fingerprint()
    monkeypatch.setattr("siamura.pixels.preprocessing.ALGORITHM", 2)
    assert Preprocess().fingerprint() != before


def test_frozen():
    with pytest.raises(AttributeError):
        Preprocess().size = 3


def test_contrast_is_set_after_the_resize_and_before_the_padding():
    image = radiograph(300, 150)
    out = Preprocess(size=100, clahe=CLAHE())(image)
    content = CLAHE()(cv2.resize(image, (50, 100), interpolation=cv2.INTER_AREA))
    np.testing.assert_array_equal(out[:, 25:75], content)
    assert not out[:, :25].any()
    assert not out[:, 75:].any()


def test_equalise_spreads_the_histogram():
    image = (radiograph(120, 120) // 4 + 40).astype(np.uint8)
    out = Preprocess(size=120, clahe=None, equalise=True)(image)
    np.testing.assert_array_equal(out, cv2.equalizeHist(image))


def test_shrinking_is_the_area_mean():
    image = radiograph(128, 128)
    out = Preprocess(size=32, clahe=None)(image)
    mean = image.reshape(32, 4, 32, 4).mean(axis=(1, 3))
    assert np.abs(out - mean).max() <= 0.5


def test_growing_is_smooth_rather_than_blocky():
    image = np.zeros((16, 16), np.uint8)
    image[:, 8:] = 200
    row = Preprocess(size=128, clahe=None)(image)[64].astype(int)
    assert (np.diff(row) >= 0).all()
    assert np.diff(row).max() <= 30
    # One axis shrinks while the other grows: the mean along one, smooth along the other.
    stripes = np.zeros((256, 8), np.uint8)
    stripes[::2] = 200
    stripes[:, 4:] = stripes[:, 4:] // 2
    both = Preprocess(size=64, clahe=None, fit="squash")(stripes).astype(int)
    assert (both[:, 0] == 100).all()
    assert (both[:, -1] == 50).all()
    assert np.abs(np.diff(both, axis=1)).max() <= 10


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3), (16, 16), (700, 30)])
@pytest.mark.parametrize("pre", ALL, ids=str)
def test_any_shape_becomes_the_square(pre, shape):
    out, geometry = pre.apply(np.full(shape, 77, np.uint8))
    assert out.shape == (pre.size, pre.size)
    assert out.dtype == np.uint8
    x0, y0, x1, y1 = geometry.target
    assert 0 <= x0 < x1 <= pre.size
    assert 0 <= y0 < y1 <= pre.size


def test_the_image_handed_in_is_left_alone_and_may_be_a_view():
    image = radiograph(80, 60)
    copy = image.copy()
    flipped = Preprocess(size=32)(image[:, ::-1])
    np.testing.assert_array_equal(image, copy)
    np.testing.assert_array_equal(flipped, Preprocess(size=32)(np.ascontiguousarray(image[:, ::-1])))
    same_size = Preprocess(size=80, clahe=None)
    square = radiograph(80, 80)
    same_size(square)[:] = 0
    assert square.any()


# --- geometry


@settings(max_examples=200, deadline=None)
@given(height=SIDES, width=SIDES, size=st.integers(16, 320), fit=FITS, data=st.data())
def test_points_and_boxes_go_there_and_come_back(height, width, size, fit, data):
    geometry = Preprocess(size=size, fit=fit).geometry(height, width)
    point = st.tuples(st.floats(0, width), st.floats(0, height))
    box = np.array(data.draw(st.tuples(point, point))).reshape(4)
    np.testing.assert_allclose(
        geometry.to_original(geometry.to_input(box)), box, atol=1e-9 * max(height, width)
    )
    points = box.reshape(2, 2)
    np.testing.assert_allclose(geometry.to_input(points).reshape(4), geometry.to_input(box))
    held = geometry.to_original(geometry.to_input(box, clip=True), clip=True).reshape(2, 2)
    assert (held >= 0).all()
    assert (held <= [width, height]).all()


@settings(max_examples=100, deadline=None)
@given(height=SIDES, width=SIDES, size=st.integers(16, 320), fit=FITS)
def test_the_used_part_meets_its_place_corner_by_corner(height, width, size, fit):
    geometry = Preprocess(size=size, fit=fit).geometry(height, width)
    np.testing.assert_array_equal(geometry.to_input(geometry.source), geometry.target)
    np.testing.assert_array_equal(geometry.to_original(geometry.target), geometry.source)
    across, down = geometry.scale
    if fit == "squash":
        assert geometry.source == (0, 0, width, height)
        assert geometry.target == (0, 0, size, size)
    elif fit == "letterbox":
        assert geometry.source == (0, 0, width, height)
        assert max(np.subtract(geometry.target[2:], geometry.target[:2])) == size
        # The proportions are kept to half a pixel of the square (at least one is left).
        assert abs(across * width - min(size, max(1, width * size / max(height, width)))) <= 0.5 + 1e-9
        assert abs(down * height - min(size, max(1, height * size / max(height, width)))) <= 0.5 + 1e-9
    else:
        assert geometry.target == (0, 0, size, size)
        assert across == down


@pytest.mark.parametrize("fit", ["letterbox", "squash", "center_crop"])
@pytest.mark.parametrize("shape", [(400, 250), (250, 400), (300, 300), (60, 90)])
def test_a_bright_patch_is_found_where_the_geometry_says(fit, shape):
    image = np.full(shape, 40, np.uint8)
    x0, y0, x1, y1 = shape[1] // 2 - 9, shape[0] // 2 - 20, shape[1] // 2 + 15, shape[0] // 2 + 6
    image[y0:y1, x0:x1] = 250
    out, geometry = Preprocess(size=224, clahe=None, fit=fit).apply(image)
    ys, xs = np.nonzero(out > 145)
    seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    np.testing.assert_allclose(geometry.to_input((x0, y0, x1, y1)), seen, atol=1.0)
    np.testing.assert_allclose(geometry.to_original(seen), (x0, y0, x1, y1), atol=1.0 / min(geometry.scale))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(20, 200), width=st.integers(20, 200), fit=FITS, side=st.sampled_from([7, 14, 64, 100])
)
def test_a_heat_map_comes_back_to_the_pixels_it_was_made_from(height, width, fit, side):
    """A map that holds each cell's own place in the square must tell every original pixel its place."""
    geometry = Preprocess(size=64, fit=fit).geometry(height, width)
    centres = (np.arange(side) + 0.5) * 64 / side
    back = geometry.map_to_original(np.tile(centres, (side, 1)))
    x0, y0, x1, y1 = geometry.source
    expected = geometry.to_input(np.stack([np.arange(x0, x1) + 0.5, np.zeros(x1 - x0)], axis=1))[:, 0]
    expected = np.clip(expected, centres[0], centres[-1])  # held beyond the outermost centres
    assert back.shape == (height, width)
    np.testing.assert_allclose(back[y0:y1, x0:x1], np.tile(expected, (y1 - y0, 1)), atol=1e-3)
    outside = np.ones_like(back, bool)
    outside[y0:y1, x0:x1] = False
    assert not back[outside].any()


@pytest.mark.parametrize("fit", ["letterbox", "squash", "center_crop"])
def test_a_mask_goes_the_way_of_the_image(fit):
    image = radiograph(180, 120)
    pre = Preprocess(size=64, clahe=None, fit=fit)
    out, geometry = pre.apply(image)
    assert np.abs(geometry.map_to_input(image) - out).max() <= 0.51


# --- collimation


def test_black_borders_are_cut_and_the_geometry_knows():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 5, (300, 400)).astype(np.uint8)
    image[40:260, 90:330] = radiograph(220, 240) // 2 + 100
    pre = Preprocess(size=64, crop_borders=True)
    out, geometry = pre.apply(image)
    assert geometry == Geometry(300, 400, 64, (90, 40, 330, 260), geometry.target)
    np.testing.assert_array_equal(out, Preprocess(size=64)(image[40:260, 90:330]))
    np.testing.assert_allclose(
        geometry.to_original(geometry.to_input((100, 50, 200, 80))), (100, 50, 200, 80)
    )


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((50, 60), np.uint8),
        np.full((50, 60), 255, np.uint8),
        radiograph(80, 100),
        np.pad(np.full((2, 2), 200, np.uint8), 40),  # a speck is no field
    ],
    ids=["black", "white", "no border", "speck"],
)
def test_an_image_without_a_field_stays_whole(image):
    _, geometry = Preprocess(size=32, crop_borders=True, clahe=None).apply(image)
    x0, y0, x1, y1 = geometry.source
    assert (x1 - x0) * (y1 - y0) >= 0.8 * image.size


def test_real_radiographs_keep_their_field(shared):
    from siamura.pixels import read_image

    pre = Preprocess(size=224, crop_borders=True)
    kept = []
    for path in sorted((shared / "radiographs").rglob("*.jpg"))[::40]:
        image = read_image(path)
        _, geometry = pre.apply(image)
        x0, y0, x1, y1 = geometry.source
        cut = image.astype(int).sum() - image[y0:y1, x0:x1].astype(int).sum()
        assert cut <= 0.02 * image.astype(int).sum()  # what is cut off is black
        kept.append((x1 - x0) * (y1 - y0) / image.size)
    assert len(kept) > 20
    assert min(kept) > 0.3
