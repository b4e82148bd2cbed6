import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from siamura import plots
from siamura.evaluation import evaluate
from siamura.evaluation import roc_curve as banded_roc


def texts(axes):
    return [text.get_text() for text in axes.texts]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def note(figure):
    return figure.get_supxlabel().replace("\n", " ")


def test_confusion_shows_the_counts_and_the_percent_of_each_row(answers, legible):
    label, probability, _ = answers
    figure = legible(plots.confusion(label, probability, note="240 views of 80 patients."))
    matrix = confusion_matrix(label, probability > 0.5)
    percent = 100 * matrix / matrix.sum(axis=1, keepdims=True)
    assert texts(figure.axes[0]) == [
        f"{n}\n{s:.0f} %" for n, s in zip(matrix.flat, percent.flat, strict=True)
    ]
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert names == [f"normal\nn = {(label == 0).sum()}", f"abnormal\nn = {(label == 1).sum()}"]
    assert note(figure) == "240 views of 80 patients. Percent of the row."


def test_confusion_sets_splits_and_levels_side_by_side(answers, legible):
    label, probability, _ = answers
    panels = {
        "train, views": (label, probability),
        "validation, views": (label[:50], probability[:50]),
        "train, studies": [[1280, 22], [10, 655]],
        "validation, studies": np.array([[80, 12], [20, 63]]),
    }
    figure = legible(plots.confusion(panels))
    assert [axes.get_title() for axes in figure.axes] == list(panels)
    assert texts(figure.axes[2])[0] == "1,280\n98 %"
    assert texts(figure.axes[3]) == ["80\n87 %", "12\n13 %", "20\n24 %", "63\n76 %"]
    legible(plots.confusion(dict(list(panels.items())[:3])))


def test_confusion_threshold_is_itself_not_above():
    assert texts(plots.confusion([0, 1], [0.5, 0.5]).axes[0])[2] == "1\n100 %"
    assert texts(plots.confusion([0, 1], [0.5, 0.5], threshold=0.49).axes[0])[3] == "1\n100 %"


def test_confusion_of_one_class_has_no_percent_where_there_is_no_row():
    assert texts(plots.confusion([1, 1, 1], [0.2, 0.8, 0.9]).axes[0]) == ["0", "0", "1\n33 %", "2\n67 %"]


def test_confusion_is_readable_on_every_shade():
    figure = plots.confusion([[50, 50], [0, 100]])
    image = figure.axes[0].images[0]
    for text, value in zip(figure.axes[0].texts, image.get_array().flat, strict=True):
        paper = np.array(image.cmap(image.norm(value))[:3])
        ink = np.array([0.0, 0, 0]) if to_hex(text.get_color()) == "#000000" else np.ones(3)

        def light(colour):
            linear = np.where(colour <= 0.03928, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
            return linear @ [0.2126, 0.7152, 0.0722]

        high, low = sorted([light(paper), light(ink)], reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[1, 2, 3], [4, 5, 6]], "must be square"),
        ([[0.5, 1], [1, 1]], "whole numbers"),
        ([[0, 0], [0, 0]], "no case at all"),
        ([[np.nan, 1], [1, 1]], "whole numbers"),
        ({}, "empty mapping"),
        (np.eye(3, dtype=int), "names holds 2 classes but the matrix '' has 3"),
        ({"a": ([0, 1], [0.1, np.nan])}, "probability of 'a' is nan at row 1"),
    ],
)
def test_confusion_refuses(data, message):
    with pytest.raises(ValueError, match=message):
        plots.confusion(data)


@pytest.mark.parametrize("draw", [plots.confusion, plots.roc, plots.precision_recall])
def test_a_threshold_that_is_no_number_marks_nothing(draw):
    with pytest.raises(ValueError, match="threshold=nan must be a finite number"):
        draw([0, 1], [0.1, 0.9], threshold=np.nan)


def test_roc_is_scikit_learns_curve_and_area(answers, legible):
    label, probability, patient = answers
    figure = legible(plots.roc(label, probability, groups=patient, draws=200, note="Drawn numbers."))
    axes = figure.axes[0]
    assert legend(axes)[0].startswith(f"AUROC {roc_auc_score(label, probability):.3f} [")
    x, y, _ = roc_curve(label, probability, drop_intermediate=False)
    line = next(line for line in axes.lines if line.get_label().startswith("AUROC"))
    np.testing.assert_allclose(line.get_xydata(), np.stack([x, y], axis=1))
    assert note(figure) == (
        "Drawn numbers. 240 rows of 80 patients. Bands and brackets: 95 %, 200 bootstrap draws over patients. "
        "Mark: threshold 0.5."
    )


def test_roc_interval_is_the_one_evaluate_gives(answers):
    label, probability, patient = answers
    table = pd.DataFrame({"label": label, "patient": patient})
    row = evaluate(table, probability, draws=200, seed=4).loc["auroc"]
    shown = legend(plots.roc(label, probability, groups=patient, draws=200, seed=4).axes[0])[0]
    assert shown == f"AUROC {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def test_roc_band_and_mark_lie_where_they_should(answers):
    label, probability, patient = answers
    figure = plots.roc(label, probability, groups=patient, draws=100)
    band = banded_roc(label, probability, groups=patient, draws=100)
    drawn = figure.axes[0].collections[0].get_paths()[0].vertices
    at_half = drawn[np.isclose(drawn[:, 0], 0.5)][:, 1]
    row = band[np.isclose(band["fpr"], 0.5)].iloc[0]
    np.testing.assert_allclose(sorted(at_half), [row["low"], row["high"]])
    mark = figure.axes[0].lines[-1].get_xydata()[0]
    said = probability > 0.5
    np.testing.assert_allclose(mark, [said[label == 0].mean(), said[label == 1].mean()])


def test_without_patients_the_figure_says_so(answers):
    label, probability, _ = answers
    assert "patients not given" in note(plots.roc(label, probability, draws=20))
    assert "rows, as if each were a patient" in note(plots.precision_recall(label, probability, draws=20))


def test_precision_recall_gives_scikit_learns_average_precision(answers, legible):
    label, probability, patient = answers
    models = {"MLP": (label, probability, patient), "k-NN": (label, 1 - probability, patient)}
    figure = legible(plots.precision_recall(models, draws=100))
    axes = figure.axes[0]
    for text, (name, (y, p, _)) in zip(legend(axes), models.items(), strict=True):
        assert text.startswith(f"{name}: AP {average_precision_score(y, p):.3f} [")
    chance = next(line for line in axes.lines if line.get_label() == "_chance")
    assert chance.get_ydata()[0] == pytest.approx(label.mean(), abs=1e-6)
    curves = [line for line in axes.lines if ": AP" in str(line.get_label())]
    assert len({line.get_linestyle() for line in curves}) == 2
    said = probability > 0.5
    mark = next(line for line in axes.lines if line.get_linestyle() == "None").get_xydata()[0]
    np.testing.assert_allclose(mark, [said[label == 1].mean(), label[said].mean()])


def test_the_area_under_the_drawn_steps_is_the_average_precision(answers):
    label, probability, _ = answers
    line = next(
        line
        for line in plots.precision_recall(label, probability, draws=0).axes[0].lines
        if "AP" in str(line.get_label())
    )
    recall, precision = line.get_xydata().T
    area = float(np.diff(recall, prepend=0) @ precision)
    assert area == pytest.approx(average_precision_score(label, probability))


@pytest.mark.parametrize("draw", [plots.roc, plots.precision_recall, plots.reliability])
def test_the_legend_covers_nothing_and_stays_in_the_figure_whatever_the_names(draw, answers, legible):
    label, probability, patient = answers
    long = "DenseNet-169 with CLAHE and the triplet focal loss, 128 dimensions, per study"
    models = dict.fromkeys(("k-NN", long, f"{long}, again", long[:30]), (label, probability, patient))
    figure = legible(draw(models, draws=20, note="Drawn numbers."))
    axes = figure.axes[0]
    assert legend(axes)[0].startswith("k-NN: A" if draw is not plots.reliability else "k-NN: E")
    assert " ".join(legend(axes)[1].split()).startswith(f"{long}: ")
    box = axes.get_legend().get_window_extent()
    assert box.y0 >= axes.get_window_extent().y1 - 1  # above the curves, which may run anywhere
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    # No curve shrinks for it.
    alone = legible(draw({"k-NN": (label, probability, patient)}, draws=20, note="Drawn numbers."))
    assert axes.get_window_extent().height >= 0.95 * alone.axes[0].get_window_extent().height


def test_a_point_without_bar_is_explained(answers):
    label, probability, patient = answers
    unsure = np.clip(probability, 0.02, 0.98)
    unsure[np.flatnonzero(label == 0)[0]] = 1.0  # alone in the last bin: every draw gives 0
    told = "A point without a bar: too few rows, all alike, for an interval."
    assert told in note(plots.reliability(label, unsure, groups=patient, bins=50, draws=50))
    coarse = plots.reliability(label, np.full(len(label), 0.4), groups=patient, draws=50)
    assert told not in note(coarse)


def test_no_draw_no_band(answers):
    label, probability, patient = answers
    figure = plots.roc(label, probability, groups=patient, draws=0)
    assert not figure.axes[0].collections
    assert "bootstrap" not in note(figure)
    assert re.fullmatch(r"AUROC \d\.\d{3}", legend(figure.axes[0])[0])


@pytest.mark.parametrize("draw", [plots.roc, plots.precision_recall])
def test_one_class_has_no_curve(draw):
    with pytest.raises(ValueError, match=r"label holds only 1 \(abnormal\), 3 times"):
        draw([1, 1, 1], [0.1, 0.2, 0.3])


@pytest.mark.parametrize("draw", [plots.roc, plots.precision_recall, plots.reliability])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([0, 1], [0.5, np.nan]), "probability is nan at row 1"),
        (([0, 1], [0.5, 1.5]), "probability is 1.5 at row 1"),
        (([0, 2], [0.5, 0.5]), "label holds"),
        (([], []), "at least one label"),
        (([0, 1], None), "probability is missing"),
        (({},), "empty"),
        (({"a": ([0, 1],)},), "'a' must map to a tuple"),
        (({"a": ([0, 1], [0.5])},), "probability of 'a' has shape"),
    ],
)
def test_curves_refuse(draw, given, message):
    with pytest.raises(ValueError, match=message):
        draw(*given)


def test_reliability_draws_the_share_of_each_bin(answers, legible):
    label, probability, patient = answers
    figure = legible(plots.reliability(label, probability, groups=patient, bins=5, draws=100))
    container = figure.axes[0].containers[0]
    x, y = container[0].get_xydata().T
    edges = np.linspace(0, 1, 6)
    bins = [(probability > low) & (probability <= high) for low, high in pairwise(edges)]
    bins[0] |= probability == 0
    np.testing.assert_allclose(x, [probability[b].mean() for b in bins])
    np.testing.assert_allclose(y, [label[b].mean() for b in bins])
    table = pd.DataFrame({"label": label, "patient": patient})
    ece = evaluate(table, probability, bins=5, draws=100).loc["ece"]
    assert legend(figure.axes[0]) == [f"ECE {ece['value']:.3f} [{ece['low']:.3f}, {ece['high']:.3f}]"]
    assert "95 %" in note(figure)


def test_reliability_takes_one_class_and_several_models(legible):
    legible(plots.reliability([1, 1, 1], [0.2, 0.8, 0.9], draws=50))
    pair = {name: ([0, 1, 1, 0], [0.2, 0.8, 0.9, 0.1], [1, 2, 3, 4]) for name in ("a", "b")}
    assert legend(legible(plots.reliability(pair, draws=50)).axes[0])[1].startswith("b: ECE")


@pytest.fixture(scope="module")
def per_part():
    rng = np.random.default_rng(0)
    n = 210
    table = pd.DataFrame(
        {
            "part": np.array(["XR_ELBOW", "XR_FINGER", "XR_WRIST"])[np.arange(n) % 3],
            "patient": np.arange(n) // 6,
            "study": "study1",
            "label": rng.integers(2, size=n),
        }
    )
    probability = np.clip(0.5 + 0.3 * (table["label"] - 0.5) + rng.normal(size=n) * 0.2, 0, 1)
    return evaluate(table, probability, by="part", draws=100)


def test_part_bars_are_as_long_as_the_scores_and_their_intervals(per_part, legible):
    figure = legible(plots.part_bars(per_part, "kappa", published={"XR_FINGER": 0.389}, note="Numbers."))
    axes = figure.axes[0]
    wanted = per_part.xs("kappa", level="metric")
    bars = [patch.get_width() for patch in axes.patches]
    np.testing.assert_allclose(bars, wanted["value"])
    spans = axes.collections[0].get_segments()
    np.testing.assert_allclose([s[:, 0] for s in spans], wanted[["low", "high"]])
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == [
        "Elbow\n35 patients",
        "Finger\n35 patients",
        "Wrist\n35 patients",
        "all parts\n35 patients",
    ]
    diamond = next(line for line in axes.lines if line.get_label() == "published")
    assert diamond.get_xydata().tolist() == [[0.389, 1]]
    assert note(figure) == "Numbers. Per view, 35 patients; bars: 95 %, 100 bootstrap draws over patients."


def test_part_bars_of_models_differ_in_hatch(per_part, legible):
    figure = legible(plots.part_bars({"DenseNet-169": per_part, "VGG16": per_part}, "f1_macro"))
    assert figure.axes[0].get_xlabel() == "macro F1"
    assert len({patch.get_hatch() for patch in figure.axes[0].patches}) == 2
    assert legend(figure.axes[0]) == ["DenseNet-169", "VGG16"]


def test_part_bars_refuse(per_part):
    with pytest.raises(ValueError, match="hold no 'speed'"):
        plots.part_bars(per_part, "speed")
    with pytest.raises(ValueError, match="not per part"):
        plots.part_bars(per_part.loc["XR_WRIST"])
    with pytest.raises(ValueError, match="must agree"):
        plots.part_bars({"a": per_part, "b": per_part.drop("XR_WRIST")})
    with pytest.raises(ValueError, match="none of which is among the parts"):
        plots.part_bars(per_part, published={"XR_HAND": 0.5})
    with pytest.raises(ValueError, match="the frame of scores has no column 'low'"):
        plots.part_bars(per_part[["value"]])
    broken = per_part.copy()
    broken.loc[("XR_WRIST", "kappa"), "value"] = np.nan
    with pytest.raises(ValueError, match="kappa of XR_WRIST is undefined"):
        plots.part_bars(broken)
