"""explain(): places in the original, through every fit; and the figures that say whether a map is right."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from siamura import CLAHE, EmbeddingNet, Preprocess, plots
from siamura.explanation import (
    Similarity,
    activation_map,
    agreement,
    choose_layers,
    embed_image,
    explain,
    explain_views,
    faithfulness,
    feature_maps,
    hits,
    localisation,
    perturbation_curves,
    randomised_weights,
    shared_maps,
    summary,
)
from siamura.studies import read_boxes

SIZE = 64


class Bright(nn.Module):
    """Scores by the brightest places: the map must lie where the image is bright."""

    def __init__(self, preprocess, cell=4):
        super().__init__()
        self.preprocess = preprocess
        self.pool = nn.AvgPool2d(cell)
        self.conv = nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            self.conv.weight.fill_(1.0)
            self.conv.bias.fill_(-128.0)

    def forward(self, x):
        return torch.relu(self.conv(self.pool(x.float()))).mean((2, 3)) / 255


def brightness(out):
    return out[:, 0]


def spot(height, width, x, y, size=24):
    """A dark image with one bright square, and its box."""
    image = np.full((height, width), 30, np.uint8)
    image[y : y + size, x : x + size] = 250
    return image, np.array([x, y, x + size, y + size])


PLACES = [(200, 120, 60, 140), (120, 200, 140, 60), (160, 160, 20, 100), (90, 300, 140, 40), (64, 64, 20, 8)]


@pytest.mark.parametrize("fit", ["letterbox", "squash", "center_crop"])
@pytest.mark.parametrize("crop_borders", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_places_come_back_through_every_fit(fit, crop_borders, place):
    image, box = spot(*place)
    pre = Preprocess(size=SIZE, clahe=None, fit=fit, crop_borders=crop_borders)
    seen = explain(Bright(pre, cell=2), image, brightness, method="gradcam", layer="conv", threshold=0.5)
    assert seen.heat.shape == seen.map.shape == image.shape
    assert hits(seen.peak, [box])
    # Within one cell of two pixels of the square, and the interpolation's half.
    kx, ky = seen.geometry.scale
    np.testing.assert_allclose(seen.boxes[0, [0, 2]], box[[0, 2]], atol=3 / kx)
    np.testing.assert_allclose(seen.boxes[0, [1, 3]], box[[1, 3]], atol=3 / ky)
    # There and back: the box in the square is where the square is bright.
    x0, y0, x1, y1 = np.rint(seen.geometry.to_input(box)).astype(int)
    inside = seen.square[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1]
    assert inside.min() > 200
    np.testing.assert_allclose(seen.geometry.to_original(seen.geometry.to_input(box)), box, atol=1e-9)


def test_what_was_cut_off_has_no_heat():
    image = np.full((60, 200), 250, np.uint8)
    seen = explain(
        Bright(Preprocess(size=SIZE, clahe=None, fit="center_crop")),
        image,
        brightness,
        method="gradcam",
        layer="conv",
    )
    assert (seen.heat[:, :70] == 0).all()
    assert (seen.heat[:, 130:] == 0).all()
    assert (seen.heat[:, 70:130] > 0).all()
    assert seen.boxes.tolist() == [[70, 0, 130, 60]]


def test_a_map_of_zeros_has_no_peak_and_no_box():
    image = np.full((80, 60), 10, np.uint8)
    seen = explain(Bright(Preprocess(size=SIZE, clahe=None)), image, brightness, layer="conv", noise=0.0)
    assert seen.peak is None
    assert seen.boxes.shape == (0, 4)
    np.testing.assert_array_equal(seen.overlay(), np.repeat(image[..., None], 3, axis=2))
    assert not hits(seen.peak, [[0, 0, 60, 80]])
    small, heat, boxes = seen.downscaled(40)
    assert small.shape == heat.shape == (40, 30)
    assert not heat.any()
    assert not len(boxes)


@pytest.fixture(scope="module")
def net():
    return EmbeddingNet(
        "squeezenet1_1", dim=8, preprocess=Preprocess(size=96, clahe=CLAHE(2.0, (8, 8)))
    ).train()


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (150, 110), dtype=np.uint8)


class TestOnEmbeddingNet:
    def test_same_seed_same_map(self, net, image):
        target = Similarity(np.arange(8.0))
        first, again, other = (
            explain(net, image, target, method="smooth_gradcam", samples=4, seed=s) for s in (1, 1, 2)
        )
        np.testing.assert_array_equal(first.heat, again.heat)
        assert not np.array_equal(first.heat, other.heat)
        assert net.training
        plain = explain(net, image, target, method="gradcam")
        np.testing.assert_array_equal(
            plain.raw, explain(net, image, target, method="smooth_gradcam", noise=0.0).raw
        )
        assert (
            first.score
            == plain.score
            == pytest.approx(
                float(target(net.eval()(torch.from_numpy(first.square)[None, None])).detach()), abs=1e-5
            )
        )
        net.train()

    def test_paths_and_heads(self, net, image, tmp_path):
        import cv2

        from siamura.heads import MLPHead

        cv2.imwrite(str(tmp_path / "a.png"), image)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((60, 8)).astype(np.float32)
        head = MLPHead(hidden=(4,), epochs=2).fit(x, (x[:, 0] > 0).astype(int))
        seen = explain(net, tmp_path / "a.png", head=head, method="gradcam")
        np.testing.assert_array_equal(seen.image, image)
        assert seen.target == "log-odds of label 1"

    def test_overlay_and_figure(self, net, image):
        seen = explain(net, image, Similarity(np.ones(8)), method="gradcam", min_area=0.0)
        over = seen.overlay()
        assert over.dtype == np.uint8
        assert over.shape == (150, 110, 3)
        cold = seen.heat == 0
        bare = seen.overlay(boxes=False)
        np.testing.assert_array_equal(bare[cold], np.repeat(image[..., None], 3, axis=2)[cold])
        assert (over == 255).all(axis=2).sum() > (bare == 255).all(axis=2).sum()
        assert 0.8 < seen.map.max() <= 1.0  # the maximum is the raw map's, between whose cells the pixels lie
        small, heat, boxes = seen.downscaled(75)
        assert small.shape == heat.shape == (75, 55)
        np.testing.assert_allclose(boxes, seen.boxes / 2)
        plots.heat_map(small, heat, boxes, note=seen.description)  # no box leaves the smaller image
        with pytest.raises(ValueError, match="alpha=2"):
            seen.overlay(2)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "target is missing"),
            ({"target": Similarity(np.ones(8)), "head": nn.Identity()}, "both given"),
            ({"target": Similarity(np.ones(8)), "method": "lime"}, "method='lime'"),
            ({"target": Similarity(np.ones(8)), "method": "smooth_cam"}, "method='smooth_cam'"),
            ({"target": Similarity(np.ones(8)), "layer": "trunk.x"}, "layer='trunk.x'"),
            ({"target": Similarity(np.ones(8)), "method": "smooth_gradcam", "samples": 0}, "samples=0"),
            ({"target": Similarity(np.ones(8)), "threshold": 2.0}, "threshold=2.0"),
        ],
    )
    def test_refuses(self, net, image, options, message):
        with pytest.raises(ValueError, match=message):
            explain(net, image, **options)

    def test_needs_preprocessing(self, image):
        with pytest.raises(ValueError, match="preprocess is missing"):
            explain(EmbeddingNet("squeezenet1_1", dim=8), image, Similarity(np.ones(8)))

    @pytest.mark.parametrize("method", ["layercam", "smooth_layercam"])
    def test_layercam_multiplies_one_map_a_stage(self, net, image, method):
        target = Similarity(np.arange(8.0))
        seen = explain(net, image, target, method=method, samples=2)
        x = torch.from_numpy(seen.square)[None, None].float()
        layers = choose_layers(net, x)
        assert seen.layers == tuple(layers)
        assert seen.layer == ", ".join(layers)
        alone = [explain(net, image, target, method=method, samples=2, layer=name).raw for name in layers]
        product = agreement([torch.from_numpy(one) for one in alone])
        np.testing.assert_allclose(seen.raw, product, atol=1e-6)
        assert seen.raw.shape == max((one.shape for one in alone), key=lambda shape: shape[0])
        assert 0 < seen.raw.max() <= 1
        assert net.training
        if method == "layercam":
            plain = activation_map(net, x, target, layers[0], "layercam")[0][0]
            np.testing.assert_allclose(alone[0], plain, atol=1e-6)
        assert "4 layers" in explain(net, image, target, layer=[*layers, "trunk"]).description

    def test_one_named_layer_is_looked_at_alone(self, net, image):
        seen = explain(net, image, Similarity(np.ones(8)), layer=net.trunk)
        assert seen.layers == ("trunk",)
        with pytest.raises(ValueError, match="layer is empty"):
            explain(net, image, Similarity(np.ones(8)), layer=[])

    def test_cam_looks_at_the_trunk(self, net, image):
        seen = explain(net, image, Similarity(np.ones(8)), method="cam")
        assert seen.layer == "trunk"
        plain = explain(net, image, Similarity(np.ones(8)), method="gradcam", layer="trunk")
        np.testing.assert_allclose(seen.raw, plain.raw * plain.raw.size, rtol=1e-3, atol=1e-5)

    def test_weights_decide_the_map(self, net, image):
        found = randomised_weights(
            net, image, Similarity(np.ones(8)), method="gradcam", layer="trunk.model.features.3"
        )
        assert found["stage"].tolist() == ["last layer", "upper half", "all"]
        assert found["correlation"].iloc[-1] < 0.5
        assert found["x"].between(0, 110).all()
        assert found["y"].between(0, 150).all()
        same = randomised_weights(net, image, Similarity(np.ones(8)), method="gradcam")
        pd.testing.assert_frame_equal(
            same, randomised_weights(net, image, Similarity(np.ones(8)), method="gradcam")
        )
        with pytest.raises(ValueError, match="stages names 'tail'"):
            randomised_weights(net, image, Similarity(np.ones(8)), stages=["tail"])

    @pytest.mark.parametrize("shape", [(120, 30), (30, 120), (64, 64)])
    @pytest.mark.parametrize("fit", ["letterbox", "center_crop"])
    def test_padding_is_not_compared(self, shape, fit):
        from siamura.explanation.randomising import _within_image

        film = np.full(shape, 200, np.uint8)
        net = Bright(Preprocess(size=SIZE, clahe=None, fit=fit))
        seen = explain(net, film, brightness, layer="conv", method="gradcam")
        within = _within_image(seen)
        np.testing.assert_array_equal(within, seen.raw > 0)  # the film is bright, the padding black
        assert within.mean() == pytest.approx(0.25 if fit == "letterbox" and shape != (64, 64) else 1.0)

    def test_feature_maps(self, net, image):
        kept = []
        handle = net.trunk.model.features[3].register_forward_hook(lambda _, __, out: kept.append(out))
        maps = feature_maps(net, image, "trunk.model.features.3")
        handle.remove()
        np.testing.assert_array_equal(maps, kept[0][0].detach().numpy())

    def test_embed_image_is_the_networks_output(self, net, image):
        expected = net.eval()(torch.from_numpy(net.preprocess(image))[None, None])[0].detach().numpy()
        net.train()
        np.testing.assert_array_equal(embed_image(net, image), expected)
        assert net.training

    def test_shared_maps(self, net, image, tmp_path):
        import cv2

        paths = [str(tmp_path / f"{i}.png") for i in range(2)]
        for i, path in enumerate(paths):
            cv2.imwrite(path, np.roll(image, 20 * i))
        pairs = shared_maps(net, image, paths, method="gradcam")
        own = Similarity(embed_image(net, image))
        for path, (case, query) in zip(paths, pairs, strict=True):
            np.testing.assert_array_equal(case.raw, explain(net, path, own, method="gradcam").raw)
            other = Similarity(embed_image(net, path))
            np.testing.assert_array_equal(query.raw, explain(net, image, other, method="gradcam").raw)
        with pytest.raises(ValueError, match="cases is empty"):
            shared_maps(net, image, [])


LOOK = {"layer": "conv", "method": "gradcam", "progress": False}


class TestQuality:
    @pytest.fixture
    def views(self, tmp_path):
        import cv2

        rows, lesions = [], []
        rng = np.random.default_rng(0)
        for i in range(12):
            x, y = (int(v) for v in rng.integers(0, 100, 2))
            image, box = spot(130, 130, x, y)
            path = str(tmp_path / f"{i}.png")
            cv2.imwrite(path, image)
            rows.append({"path": path, "patient": f"p{i // 2}"})
            if i < 10:
                lesions.append({"path": path, **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))})
        return pd.DataFrame(rows), pd.DataFrame(lesions)

    def test_localisation_of_a_model_that_looks_at_the_lesion(self, views):
        table, lesions = views
        shown = table[:10]
        net = Bright(Preprocess(size=SIZE, clahe=None))
        maps = list(explain_views(net, shown, brightness, **LOOK))
        found = localisation(maps, shown, lesions)
        assert found["path"].tolist() == shown["path"].tolist()
        assert found["hit"].mean() == 1.0
        assert found["iou"].mean() > 0.4
        assert found["centre_hit"].mean() < 0.5
        assert (found["kind"] == "").all()
        assert found["area"].between(0.02, 0.2).all()  # the square covers 24 * 24 of 130 * 130 pixels, 0.034
        named = localisation(maps, shown, lesions.assign(kind="lytic"))
        assert (named["kind"] == "lytic").all()
        figures = summary(found)
        assert figures.loc["hit - centre_hit", "low"] > 0
        assert {"hit - mean_hit", "iou - mean_iou"} <= set(figures.index)
        assert figures.attrs == {"views": 10, "patients": 5, "draws": 1000}

    def test_boxes_of_ones_own_and_phantoms_go_the_same_way(self, views, tmp_path):
        table, lesions = views
        shown = table[:10]
        maps = list(explain_views(Bright(Preprocess(size=SIZE, clahe=None)), shown, brightness, **LOOK))
        found = localisation(maps, shown, lesions)
        own = lesions.assign(path=[os.path.basename(p) for p in lesions["path"]]).rename(
            columns={"path": "file"}
        )
        own.to_csv(tmp_path / "lesions.csv", index=False)
        again = localisation(maps, shown, read_boxes(tmp_path / "lesions.csv", table))
        pd.testing.assert_frame_equal(again, found)

    def test_maps_of_another_method(self, views):
        table, lesions = views
        shown = table[:10]
        heats = []
        for _, _, _, x0, y0, x1, y1 in (
            shown.merge(lesions)
            .assign(n=0)[["path", "patient", "n", "x0", "y0", "x1", "y1"]]
            .itertuples(index=False)
        ):
            heat = np.zeros((130, 130), np.float32)
            heat[y0:y1, x0:x1] = 1
            heats.append(heat)
        found = localisation(heats, shown, lesions)
        assert (found[["hit", "iou"]] == 1).all(axis=None)
        assert found["score"].isna().all()
        with pytest.raises(ValueError, match="maps holds 9 maps for 10 views"):
            localisation(heats[:9], shown, lesions)
        with pytest.raises(ValueError, match="maps holds more than 9 maps"):
            localisation(heats, shown[:9], lesions)
        with pytest.raises(ValueError, match="2 of 12 views of table have no box"):
            localisation(heats, table, lesions)

    def test_of_a_model_that_looks_elsewhere(self, views):
        table, lesions = views
        net = Bright(Preprocess(size=SIZE, clahe=None))
        with torch.no_grad():
            net.conv.weight.fill_(-1.0)
            net.conv.bias.fill_(128.0)
        found = localisation(explain_views(net, table[:10], brightness, **LOOK), table[:10], lesions)
        assert found["hit"].mean() == 0.0

    def test_deletion_falls_and_insertion_rises(self, views):
        table, _ = views
        net = Bright(Preprocess(size=SIZE, clahe=None))
        seen = explain(net, table["path"][0], brightness, layer="conv", method="gradcam")
        curves = perturbation_curves(net, seen, brightness, steps=10)
        assert (
            curves["deletion"].iloc[0] == curves["insertion"].iloc[-1] == pytest.approx(seen.score, abs=1e-6)
        )
        assert curves["deletion"].iloc[-1] == curves["insertion"].iloc[0]
        assert curves["deletion"].is_monotonic_decreasing
        areas = faithfulness(net, table, brightness, layer="conv", method="gradcam", progress=False)
        means = areas.drop(columns=["path", "patient"]).mean()
        for order in ("centre", "random"):
            assert means["deletion"] < means[f"{order}_deletion"] - 0.1
            assert means["insertion"] > means[f"{order}_insertion"] + 0.1
        figures = summary(areas)
        assert figures.loc["deletion - random_deletion", "high"] < 0
        assert figures.loc["insertion - centre_insertion", "low"] > 0

    @pytest.mark.parametrize("shape", [(40, 130), (130, 40)])
    def test_the_ends_of_a_letterboxed_films_curves_agree(self, shape):
        film = np.full(shape, 200, np.uint8)
        film[:20, :20] = 255
        net = Bright(Preprocess(size=SIZE, clahe=None))
        seen = explain(net, film, brightness, layer="conv", method="gradcam")
        curves = perturbation_curves(net, seen, brightness, steps=3)
        (u0, v0, u1, v1) = seen.geometry.target
        assert (u1 - u0, v1 - v0) != (SIZE, SIZE)
        for order in ("", "centre_", "random_"):
            deletion, insertion = curves[f"{order}deletion"], curves[f"{order}insertion"]
            assert deletion.iloc[0] == insertion.iloc[-1] == pytest.approx(seen.score, abs=1e-6)
            assert deletion.iloc[-1] == insertion.iloc[0]

    def test_the_random_order_has_the_maps_own_cells(self, views):
        net = Bright(Preprocess(size=SIZE, clahe=None))
        seen = explain(net, views[0]["path"][0], brightness, layer="conv", method="gradcam")
        first, again, other = (perturbation_curves(net, seen, brightness, steps=4, seed=s) for s in (1, 1, 2))
        pd.testing.assert_frame_equal(first, again)
        assert not np.array_equal(first["random_deletion"], other["random_deletion"])
        assert first["random_deletion"].iloc[0] == first["deletion"].iloc[0]
        # The square is a small part of the film: in random order it lasts until nearly all is deleted.
        assert (first["random_deletion"] >= first["deletion"] - 1e-9).all()

    def test_the_centre_baseline_is_the_box_moved_to_the_middle(self, views):
        table, lesions = views
        net = Bright(Preprocess(size=SIZE, clahe=None))
        found = localisation(explain_views(net, table[:1], brightness, **LOOK), table[:1], lesions)
        seen = explain(net, table["path"][0], brightness, layer="conv", method="gradcam")
        w, h = seen.boxes[0, 2:] - seen.boxes[0, :2]
        x0, y0, x1, y1 = lesions.loc[0, ["x0", "y0", "x1", "y1"]].astype(float)
        across = max(0, min(65 + w / 2, x1) - max(65 - w / 2, x0))
        both = across * max(0, min(65 + h / 2, y1) - max(65 - h / 2, y0))
        assert found["centre_iou"][0] == pytest.approx(both / (w * h + 24 * 24 - both))

    def test_summary_by_hand(self):
        views = pd.DataFrame({"patient": list("aabc"), "hit": [1.0, 0.0, 1.0, 1.0], "centre_hit": [0.0] * 4})
        out = summary(views, draws=4000)
        assert out.loc["hit", "value"] == 0.75
        assert out.loc["hit", "low"] == pytest.approx(
            0.5, abs=0.01
        )  # all draws of patient a alone: 1/27 of them
        assert out.loc["hit", "high"] == 1.0
        pd.testing.assert_frame_equal(out, summary(views, draws=4000))
        with pytest.raises(ValueError, match="views is empty"):
            summary(views[:0])
        alone = summary(views[:2])  # one patient, drawn again and again, has no spread: that is no certainty
        assert alone.loc["hit", "value"] == 0.5
        assert alone[["low", "high"]].isna().all(axis=None)
        for given, options, message in (
            (views.drop(columns="patient"), {}, "views lacks the column 'patient'"),
            (views, {"columns": ["iou"]}, "views lacks the column 'iou'"),
            (views, {"against": {"hit": "iou"}}, "views lacks the column 'iou'"),
            (views.assign(patient=["a", "a", None, "c"]), {}, "views has no patient in row 2"),
            (views[["patient"]], {}, "no column of floats"),
            (views, {"draws": 0}, "draws=0 must be at least 1"),
        ):
            with pytest.raises(ValueError, match=message):
                summary(given, **options)

    def test_lesions_need_their_columns(self, views):
        with pytest.raises(ValueError, match="boxes lacks the column 'x0'"):
            localisation([], views[0], views[0])

    def test_tables_need_their_columns(self, views):
        net, (table, lesions) = Bright(Preprocess(size=SIZE)), views
        with pytest.raises(ValueError, match="table lacks the column 'patient'; it needs path, patient"):
            localisation([], table[["path"]], lesions)
        with pytest.raises(ValueError, match="table lacks the column 'path'"):
            faithfulness(net, table[["patient"]], brightness)
