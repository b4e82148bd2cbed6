import numpy as np
import pandas as pd
import pytest

from siamura import plots


def line(axes, label):
    return next(line for line in axes.lines if line.get_label() == label)


def test_loss_curves_draw_every_step_and_the_mean_around_it(history, legible):
    figure = legible(plots.loss_curves(history, margin=0.2, smooth=5, note="Drawn numbers."))
    upper, active, distance = figure.axes
    np.testing.assert_allclose(line(upper, "each step").get_ydata(), history["loss"])
    smooth = line(upper, "mean of 5 steps").get_ydata()
    assert smooth[50] == pytest.approx(history["loss"].iloc[48:53].mean())
    assert smooth[0] == pytest.approx(history["loss"].iloc[:3].mean())
    assert line(upper, "margin 0.2").get_ydata()[0] == 0.2
    valid = line(upper, "validation").get_xydata()
    np.testing.assert_allclose(valid, history.loc[history["valid_loss"].notna(), ["step", "valid_loss"]])
    assert active.get_ylabel() == "active\nfraction"
    assert [each.get_label() for each in distance.lines] == [
        "hardest negative",
        "mean of all pairs",
        "hardest positive",
    ]
    assert figure.get_supxlabel() == "Drawn numbers."


def test_loss_curves_leave_out_what_was_not_measured(history, legible):
    plain = history[["step", "loss"]].assign(active_fraction=np.nan)
    figure = legible(plots.loss_curves(plain.head(10)))
    assert len(figure.axes) == 1
    assert [each.get_label() for each in figure.axes[0].lines] == ["each step"]


def test_steps_are_whole_numbers(history):
    figure = plots.loss_curves(history.head(3))
    figure.canvas.draw()
    ticks = figure.axes[-1].get_xticks()
    np.testing.assert_array_equal(ticks, np.round(ticks))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.drop(columns="loss"), "history has no column 'loss'"),
        (lambda h: h.head(0), "no row"),
        (lambda h: h.assign(loss=np.where(h["step"] == 7, np.nan, h["loss"])), "not finite at step 7"),
    ],
)
def test_loss_curves_refuse(history, change, message):
    with pytest.raises(ValueError, match=message):
        plots.loss_curves(change(history))
    with pytest.raises(ValueError, match="smooth=0 must be"):
        plots.loss_curves(history, smooth=0)


def test_accuracy_curves_are_the_means_of_epochs_and_mark_the_best(history, legible):
    axes = legible(plots.accuracy_curves(history)).axes[0]
    train = line(axes, "train").get_xydata()
    np.testing.assert_allclose(
        train, np.stack([range(1, 5), history.groupby("epoch")["accuracy"].mean()], axis=1)
    )
    np.testing.assert_allclose(line(axes, "validation").get_ydata(), [0.6, 0.7, 0.8, 0.75])
    assert line(axes, "best: 0.800, epoch 3").get_xydata().tolist() == [[3, 0.8]]
    assert axes.get_xlabel() == "epoch"


def test_accuracy_curves_take_one_column_and_another_score(history, legible):
    kappa = history[["step", "epoch"]].assign(valid_kappa=history["valid_accuracy"] - 0.3)
    axes = legible(plots.accuracy_curves(kappa, metric="kappa")).axes[0]
    assert axes.get_ylabel() == "Cohen's kappa"
    assert [each.get_label() for each in axes.lines] == ["validation", "best: 0.500, epoch 3"]
    with pytest.raises(ValueError, match="holds no value of 'auroc'"):
        plots.accuracy_curves(history, metric="auroc")
    with pytest.raises(ValueError, match="holds no value of 'accuracy'"):
        plots.accuracy_curves(pd.DataFrame({"epoch": [1, 2], "accuracy": [np.nan, np.nan]}))


def mura(train, valid):
    rows = []
    for split, counts in (("train", train), ("valid", valid)):
        for part, by_label in counts.items():
            for label, number in enumerate(by_label):
                study = np.arange(number) // 2
                rows.append(
                    pd.DataFrame(
                        {"part": part, "patient": [f"{split}{label}{s // 2}" for s in study],
                         "study": [f"study{s}" for s in study], "label": label, "split": split}
                    )
                )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def test_class_counts_count_views_and_studies_of_each_part_and_split(legible):
    table = mura(
        {"XR_FINGER": (3138, 1968), "XR_HAND": (40, 14)}, {"XR_FINGER": (214, 247), "XR_HAND": (8, 0)}
    )
    figure = legible(plots.class_counts(table, note="Counts."))
    views_train, views_valid, studies_train, studies_valid = (
        [text.get_text() for text in axes.texts] for axes in figure.axes[:4]
    )
    # Normal of both parts, then abnormal.
    assert views_train == ["3,138", "40", "1,968", "14"]
    assert views_valid == ["214", "8", "247", "0"]
    assert studies_train == ["1,569", "20", "984", "7"]
    assert studies_valid == ["107", "4", "124", "0"]
    patients = table.groupby("split")["patient"].nunique()
    assert figure.axes[0].get_title(loc="left") == f"train: 5,160 views of {patients['train']:,} patients"
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["Finger", "Hand"]


def test_class_counts_of_seven_named_classes(legible):
    names = ("normal", "elbow", "hand", "hip", "knee", "leg", "spine")
    table = pd.DataFrame({"part": "hand", "patient": np.arange(28) // 2, "study": "s1", "split": "train"})
    table["label"] = np.r_[np.arange(7).repeat(2), np.arange(7).repeat(2)]
    table.loc[[0, 1], "label"] = [3, 5]  # one study with two classes is counted in both
    table.attrs["classes"] = names
    figure = legible(plots.class_counts(table))
    views, studies = figure.axes
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(names)
    assert [t.get_text() for t in views.texts] == ["2", "4", "4", "5", "4", "5", "4"]
    assert [t.get_text() for t in studies.texts] == ["1", "2", "2", "3", "2", "3", "2"]
    assert studies.get_title(loc="left") == "train: 14 studies of 14 patients"


def test_class_counts_of_grades_and_unknown_labels(legible):
    table = pd.DataFrame({"part": "hand", "patient": list("aabbc"), "study": "s1", "split": "train"})
    table["label"] = [0, 2, 1, 1, -1]
    table.attrs.update(classes=("none", "mild", "severe"), ordered=True)
    figure = legible(plots.class_counts(table))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["none", "mild", "severe", "unknown"]
    assert [t.get_text() for t in figure.axes[1].texts] == [
        "0",
        "1",
        "1",
        "1",
    ]  # a study has its highest grade


def test_class_counts_of_one_split(legible):
    table = mura({"XR_HAND": (4, 2)}, {})
    assert len(legible(plots.class_counts(table)).axes) == 2
    with pytest.raises(ValueError, match="table has no row"):
        plots.class_counts(table.head(0))
    with pytest.raises(ValueError, match="table has no column 'study', 'split'"):
        plots.class_counts(table.drop(columns=["study", "split"]))
    with pytest.raises(ValueError, match=r"table\['label'\] is float64"):
        plots.class_counts(table.assign(label=0.5))
    for name in ("patient", "split", "label"):
        with pytest.raises(ValueError, match=rf"table\['{name}'\] is missing in row 0"):
            plots.class_counts(table.assign(**{name: None}))
