import numpy as np
import pytest

from siamura import plots
from siamura.pixels import CLAHE, Preprocess, read_image


def shown(axes):
    return np.asarray(axes.images[0].get_array())


def test_clahe_pairs_show_both_images_and_both_histograms(films, legible):
    after = [255 - film for film in films[:2]]
    figure = legible(
        plots.clahe_pairs(films[:2], after, titles=["normal", "abnormal"], note="Two drawn images.")
    )
    np.testing.assert_array_equal(shown(figure.axes[3]), films[1])
    np.testing.assert_array_equal(shown(figure.axes[4]), after[1])
    before_steps, after_steps = figure.axes[2].patches
    wanted = 100 * np.histogram(films[0], 64, (0, 256))[0] / films[0].size
    np.testing.assert_allclose(before_steps.get_data().values, wanted)
    np.testing.assert_allclose(after_steps.get_data().values.sum(), 100)
    assert figure.axes[3].get_ylabel() == "abnormal"
    assert before_steps.get_linestyle() != after_steps.get_linestyle()


def test_grey_levels_are_shown_as_they_are(films):
    dim = (films[0] // 4).astype(np.uint8)
    image = plots.clahe_pairs([dim], [films[0]]).axes[0].images[0]
    assert image.get_clim() == (0, 255)


def test_clahe_pairs_refuse(films):
    with pytest.raises(ValueError, match="2 images and processed 1"):
        plots.clahe_pairs(films[:2], films[:1])
    with pytest.raises(ValueError, match="originals is empty"):
        plots.clahe_pairs([], [])
    with pytest.raises(ValueError, match="must be 8 bit"):
        plots.clahe_pairs([films[0].astype(np.uint16) * 16], [films[0]])
    with pytest.raises(ValueError, match="titles holds 1 texts for 2 pairs"):
        plots.clahe_pairs(films[:2], films[:2], titles=["one"])
    with pytest.raises(ValueError, match=r"originals\[0\] holds NaN"):
        plots.clahe_pairs([np.full((8, 8), np.nan)], [films[0]])


@pytest.mark.parametrize("number", [1, 2, 5, 6, 8])
def test_augmentation_sheet_shows_every_version(films, legible, number):
    versions = [np.roll(films[0], i, axis=1) for i in range(number)]
    figure = legible(plots.augmentation_sheet(films[0][None], versions))
    np.testing.assert_array_equal(shown(figure.axes[0]), films[0])
    for axes, version in zip(figure.axes[1:], versions, strict=True):
        np.testing.assert_array_equal(shown(axes), version)


@pytest.mark.parametrize("number", [1, 3, 5, 6])
def test_neighbours_come_in_order_with_label_and_distance(films, legible, number):
    labels, away = np.arange(number) % 2, 0.1 + 0.05 * np.arange(number)
    figure = legible(
        plots.neighbours(
            films[0],
            films[:number],
            away,
            labels,
            query_label=1,
            captions=[f"patient {i}" for i in range(number)],
        )
    )
    query, *cases = figure.axes
    assert query.get_title() == "query\nabnormal"
    for i, axes in enumerate(cases):
        assert axes.get_title() == f"{i + 1}: {['normal', 'abnormal'][i % 2]}\ndistance {away[i]:.3f}"
        assert axes.spines["left"].get_linestyle() == ["-", "--"][i % 2]
        assert axes.get_xlabel() == f"patient {i}"
        np.testing.assert_array_equal(shown(axes), films[i])


def test_neighbours_have_the_names_of_the_classes(films, legible):
    names = ("none", "mild", "severe")
    figure = legible(
        plots.neighbours(films[0], films[:3], [0.1, 0.2, 0.3], [2, 0, 1], query_label=1, names=names)
    )
    titles = [axes.get_title().split("\n")[0] for axes in figure.axes[1:]]
    assert titles == ["1: severe", "2: none", "3: mild"]
    assert figure.axes[0].get_title() == "query\nmild"
    assert "Solid frame: none; dashed frame: mild, severe." in figure.get_supxlabel()
    with pytest.raises(ValueError, match=r"labels hold 3; they must be codes of the names: 0 \(none\)"):
        plots.neighbours(films[0], films[:1], [0.1], [3], names=names)


def test_neighbours_refuse(films):
    with pytest.raises(ValueError, match=r"distances has shape \(1,\)"):
        plots.neighbours(films[0], films[:2], [0.1], [0, 1])
    with pytest.raises(ValueError, match="distances hold NaN"):
        plots.neighbours(films[0], films[:2], [0.1, np.nan], [0, 1])
    with pytest.raises(ValueError, match="labels hold 2"):
        plots.neighbours(films[0], films[:2], [0.1, 0.2], [0, 2])
    for odd in (-1, 5):
        with pytest.raises(ValueError, match=f"query_label is {odd}; it must be one of 0"):
            plots.neighbours(films[0], films[:1], [0.1], [0], query_label=odd)


def test_feature_maps_show_the_channels_that_vary_most(films, legible):
    maps = np.random.default_rng(0).normal(size=(6, 7, 5))
    maps[[1, 4]] *= 10
    layers = {"first": maps, "second": maps[:1]}
    figure = legible(plots.feature_maps(layers, image=films[0], channels=2))
    assert [axes.get_title() for axes in figure.axes] == ["input", "1", "4", "0"]
    np.testing.assert_array_equal(shown(figure.axes[2]), maps[4])
    assert figure.axes[1].get_ylabel() == "first\n6 × 7 × 5"


def test_feature_maps_refuse():
    with pytest.raises(ValueError, match="must be \\(channels, height, width\\)"):
        plots.feature_maps(np.zeros((2, 3, 4, 5)))
    with pytest.raises(ValueError, match="'deep' holds NaN"):
        plots.feature_maps({"deep": np.full((1, 2, 2), np.inf)})
    with pytest.raises(ValueError, match="at least one of each"):
        plots.feature_maps(np.zeros((1, 2, 2)), channels=0)


def test_heat_map_covers_the_film_and_the_boxes_lie_on_their_pixels(films, legible):
    heat = np.array([[-1.0, 0.0], [1.0, 4.0]])
    figure = legible(
        plots.heat_map(films[0], heat, [(5, 10, 30, 40)], truth=[(6, 9, 31, 44)], title="abnormal, 0.93")
    )
    left, right = figure.axes[:2]
    np.testing.assert_array_equal(shown(left), films[0])
    overlay = right.images[1]
    assert overlay.get_extent() == [-0.5, 39.5, 47.5, -0.5]
    np.testing.assert_allclose(overlay.get_array(), [[0, 0], [0.25, 1]])
    truth, found = right.patches
    assert found.get_bbox().bounds == (4.5, 9.5, 25, 30)
    assert truth.get_linestyle() != found.get_linestyle()
    assert right.get_title() == "abnormal, 0.93"
    assert "Dashed box" in figure.get_supxlabel()


def test_heat_map_of_nothing_says_so(films):
    figure = plots.heat_map(films[0], np.zeros((3, 3)))
    assert figure.get_supxlabel() == "The map is 0 everywhere."


@pytest.mark.parametrize("box", [(0, 0, 41, 10), (5, 5, 5, 9), (-1, 0, 4, 4)])
def test_heat_map_refuses_a_box_that_does_not_fit(films, box):
    with pytest.raises(ValueError, match="does not fit an image 40 wide and 48 high"):
        plots.heat_map(films[0], np.ones((2, 2)), [box])


def test_heat_map_refuses_what_is_no_map(films):
    with pytest.raises(ValueError, match="heat has shape"):
        plots.heat_map(films[0], np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="image has shape"):
        plots.heat_map(np.zeros((4, 4, 4, 4)), np.ones((2, 2)))


def test_real_radiographs_before_and_after(shared, legible):
    paths = sorted((shared / "radiographs").rglob("image1.jpg"))[:2]
    films = [read_image(path) for path in paths]
    plain, clahe = (Preprocess(size=128, clahe=c) for c in (None, CLAHE()))
    figure = legible(plots.clahe_pairs([plain(f) for f in films], [clahe(f) for f in films]))
    before, after = (np.asarray(patch.get_data().values) for patch in figure.axes[2].patches)
    # CLAHE spreads the grey levels: more of them are in use.
    assert (after > 0.1).sum() >= (before > 0.1).sum()
