"""A run's baselines and operating point: fitted on training patients alone, kept, measured on validation."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import siamura
from siamura.evaluation import OperatingPoint, fit_operating_point
from siamura.experiments import ClassifierExperiment, Experiment, Run, run, run_classifier
from siamura.experiments.baselines import compare_with_baselines
from siamura.experiments.calibrating import FEWEST, apart_probability, hold_back
from siamura.heads import KNNHead
from siamura.networks import EmbeddingNet
from siamura.report.operating import beaten_sentences, findings, operating_section

LARGER = {"views": 240, "trunk": "squeezenet1_1", "size": 32, "calibration_share": 0.35}


def table_of(patients: int, label: object = None) -> pd.DataFrame:
    rows = np.repeat(np.arange(patients), 2)
    return pd.DataFrame(
        {
            "path": [f"{row}.png" for row in range(len(rows))],
            "part": "XR_HAND",
            "patient": [f"p{row}" for row in rows],
            "study": [f"s{row}" for row in rows],
            "label": rows % 2 if label is None else label,
            "split": "train",
        }
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights to start from: those of another run's trunk stand for pretrained ones."""
    from safetensors.torch import save_file

    net = EmbeddingNet("squeezenet1_1", dim=8, seed=5)
    file = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    model = net.trunk.state_dict()
    save_file({name: values.contiguous() for name, values in model.items()}, file)
    return file


@pytest.fixture(scope="module")
def held(cache: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = Experiment(**LARGER, steps=2, k=4, dim=8, neighbours=5, weights=str(weights), sensitivity=0.8)
    return run(settings, tmp_path_factory.mktemp("held") / "run", cache=cache)


def test_whole_patients_are_held_back_and_enough_are_left() -> None:
    table = table_of(120)
    train, back, said = hold_back(table, 0.2, patients=10, seed=0)
    assert back is not None
    assert not set(train["patient"]) & set(back["patient"])
    assert sorted([*train["path"], *back["path"]]) == sorted(table["path"])
    assert back.groupby("label")["patient"].nunique().min() >= FEWEST
    assert "24 training patients" in said
    assert "seed 0" in said
    assert hold_back(table, 0, patients=10, seed=0)[1] is None
    for changed in ({"patients": 55}, {"share": 0.05}):
        whole, none, why = hold_back(**{"train": table, "share": 0.2, "patients": 10, "seed": 0, **changed})
        assert none is None
        assert len(whole) == len(table)
        assert "Too few patients" in why


def test_no_head_answers_for_a_patient_whom_it_was_fitted_on() -> None:
    """Embeddings that name the patient: a head that had seen a patient would be right of him, any other is not."""
    table = table_of(40)
    embeddings = np.eye(40, dtype=np.float32)[np.repeat(np.arange(40), 2)]
    rows = np.arange(80) >= 40
    found = apart_probability({"knn": KNNHead(k=3)}, embeddings, table, rows, seed=0)
    assert found is not None
    label = table["label"].to_numpy()[rows]
    assert found["knn"].shape == (40,)
    seen = KNNHead(k=1).fit(embeddings, table["label"].to_numpy()).predict(embeddings[rows])
    assert (seen == label).all()
    assert ((found["knn"] > 0.5) == label).mean() < 0.8
    many = apart_probability({"knn": KNNHead(k=79)}, embeddings, table, rows, seed=0)
    assert many is not None  # more neighbours than rows are left: all of them vote
    assert np.isfinite(many["knn"]).all()
    one = np.isin(table["patient"], ["p0", "p1"])
    assert apart_probability({"knn": KNNHead(k=3)}, embeddings, table, one, seed=0) is None


def test_the_network_trains_on_the_others_and_the_heads_know_all(held: Run, cache: Path) -> None:
    from siamura.experiments.data import read_inputs

    counts = held.config["data"]["counts"]
    assert counts["train"]["views"] + counts["valid"]["views"] == LARGER["views"]
    assert "held back from the training of the network" in held.config["data"]["calibration"]
    assert held.heads()["knn"].n_rows_ == counts["train"]["views"]
    pre = held.experiment.preprocess()
    inputs = read_inputs(
        None, ["XR_FINGER"], pre, held.folder, cache=cache, views=LARGER["views"], seed=0, patients=4,
        calibration_share=LARGER["calibration_share"],
    )  # fmt: skip
    train, back, valid = (inputs.splits[name] for name in ("train", "calibration", "valid"))
    everyone = [set(data.table["patient"]) for data in (train, back, valid)]
    assert not everyone[0] & everyone[1] | everyone[0] & everyone[2] | everyone[1] & everyone[2]
    assert len(train) + len(back) == len(inputs.all_training) == counts["train"]["views"]
    row = len(train) + 3
    np.testing.assert_array_equal(back.images[3], inputs.all_training.images[row])
    assert back.table["path"][3] == inputs.all_training.table["path"][row]
    assert siamura.read_image(back.table["path"][3]).shape


@pytest.mark.slow
def test_nothing_is_fitted_on_validation(held: Run, cache: Path, tmp_path: Path) -> None:
    """Validation labels turned round leave the operating point as it is, and change what is measured by it."""
    table = siamura.read_mura(held.config["data"]["name"])
    turned = table["split"] == "valid"
    table.loc[turned, "label"] = 1 - table.loc[turned, "label"]
    names = {0: "normal", 1: "abnormal"}
    points = {}
    for name, rows in (("straight", siamura.read_mura(held.config["data"]["name"])), ("turned", table)):
        file = tmp_path / f"{name}.csv"
        rows.assign(label=rows["label"].map(names)).drop(columns="finding", errors="ignore").to_csv(
            file, index=False
        )
        done = run(
            replace(held.experiment, data=str(file), part="all", weights=None), tmp_path / name, cache=cache
        )
        kept = json.loads((done.folder / "operating_point.json").read_text())
        points[name] = (kept["heads"], done.metrics["operating"]["heads"]["knn"]["study"]["valid"]["brier"])
    assert points["straight"][0] == points["turned"][0]
    assert points["straight"][1] != points["turned"][1]


def test_the_operating_point_is_kept_measured_and_shown(held: Run) -> None:
    kept = json.loads((held.folder / "operating_point.json").read_text())
    vectors, table = held.embeddings()
    valid = (table["split"] == "valid").to_numpy()
    for head in ("knn", "mlp"):
        for level in ("view", "study"):
            point = OperatingPoint.from_dict(kept["heads"][head][level])
            assert (point.level, point.sensitivity) == (level, 0.8)
            assert point.patients < table.loc[~valid, "patient"].nunique() / 2
    point = OperatingPoint.from_dict(kept["heads"]["knn"]["study"])
    p = held.heads()["knn"].predict_proba(vectors[valid], groups=table["patient"][valid])[:, 1]
    studies = (
        table[valid]
        .assign(p=p)
        .groupby(["part", "patient", "study"])
        .agg(p=("p", "mean"), y=("label", "first"))
    )
    reached = (point.calibrate(studies["p"]) > point.threshold)[studies["y"] == 1].mean()
    measured = held.metrics["operating"]["heads"]["knn"]["study"]["valid"]
    assert measured["recall"] == pytest.approx(reached)
    assert measured["patients"] == held.config["data"]["counts"]["valid"]["patients"]
    page, text = (held.folder / "report.html").read_text(), held.table()
    assert "Operating point and calibration" in page
    assert "decision_curve" in (held.folder / "figures.json").read_text()
    for said in ("sensitivity 0.80 wanted", "not fitted", "held back"):
        assert said in text
    assert "Nothing here is fitted on the validation patients" in page


def test_the_frozen_trunk_and_the_comparison_stand_beside_the_trivial_baseline(
    held: Run, weights: Path
) -> None:
    from siamura.experiments.probing import probe

    for level in ("view", "study"):
        assert {"trivial", "frozen_knn", "frozen_logistic"} <= set(held.metrics["valid"][level])
        assert "frozen_knn" not in held.metrics["train"][level]
    train, valid = siamura.train_valid(siamura.read_mura(held.config["data"]["name"]))
    alone = probe(train, valid, "squeezenet1_1", weights, size=32, draws=0, progress=False)
    for name, column in (("frozen_knn", "k-NN"), ("frozen_logistic", "logistic")):
        # the order of the training rows is another, so the folds in which C is chosen are too
        close = 1e-6 if column == "k-NN" else 0.1
        measured = held.metrics["valid"]["view"][name]["auroc"]
        assert measured == pytest.approx(alone.scores["value"][column, "auroc"], abs=close)
    comparison = held.metrics["comparison"]["knn"]["frozen_knn"]
    study = held.metrics["valid"]["study"]
    assert comparison["first"] == pytest.approx(study["knn"]["auroc"])
    assert comparison["second"] == pytest.approx(study["frozen_knn"]["auroc"])
    assert comparison["low"] <= comparison["difference"] <= comparison["high"]
    for text in ((held.folder / "report.html").read_text(), held.table()):
        assert "Against k-NN on the frozen trunk (AUROC" in text
        assert "Against logistic regression on the frozen trunk (AUROC" in text
        assert "Against the trivial baseline (AUROC" in text


def test_whether_training_helped_is_said_by_the_interval_of_the_difference() -> None:
    rng = np.random.default_rng(0)
    table = table_of(100)
    good, chance = 0.2 * rng.random(200) + 0.6 * table["label"], rng.random(200)
    found = compare_with_baselines(
        table, {"knn": good, "mlp": chance, "trivial": chance}, classes=("normal", "abnormal"), draws=300
    )
    assert found["knn"]["trivial"]["difference"] == pytest.approx(1 - found["mlp"]["trivial"]["first"])
    (said,) = beaten_sentences({"comparison": found})
    assert "the k-NN head is better (1.000" in said
    assert "the MLP head is not shown to be better" in said
    turned = compare_with_baselines(
        table, {"knn": 1 - good, "trivial": good}, classes=("normal", "abnormal"), draws=300
    )
    assert "the k-NN head is worse" in beaten_sentences({"comparison": turned})[0]
    assert findings({}) == beaten_sentences({}) == operating_section({}) == []


def test_of_three_classes_the_most_probable_is_the_answer() -> None:
    rng = np.random.default_rng(0)
    table = table_of(90, label=np.repeat(np.arange(90), 2) % 3)
    share = rng.dirichlet(np.ones(3), 180)
    point = fit_operating_point(table, share, level="study")
    found = point.evaluate(table, share, classes=("a", "b", "c"), draws=0)
    mean = share.reshape(90, 2, 3).mean(axis=1)
    assert found["value"]["accuracy"] == pytest.approx((mean.argmax(axis=1) == np.arange(90) % 3).mean())
    assert found.attrs["studies"] == 90
    assert found.attrs["views"] == 180
    with pytest.raises(ValueError, match="two classes"):
        fit_operating_point(table, share, method="isotonic")


def test_without_patients_apart_the_heads_answer_by_parts_and_the_limit_is_said(done: Run) -> None:
    said = done.table()  # too few patients to hold any back
    assert "Too few patients of a class" in said
    assert "far below the one wanted" in said
    assert done.metrics["operating"]["heads"]


@pytest.mark.slow
def test_a_classifier_is_calibrated_on_patients_apart_and_set_beside_its_trunk(
    cache: Path, weights: Path, tmp_path: Path
) -> None:
    settings = ClassifierExperiment(**LARGER, parts=("XR_FINGER",), epochs=1, weights=str(weights))
    held = run_classifier(settings, tmp_path / "held", cache=cache)
    table = held.predictions()
    back = table[table["split"] == "calibration"]
    kept = json.loads((held.folder / "operating_point.json").read_text())
    assert kept["heads"]["classifier"]["view"]["rows"] == len(back) > 0
    assert not set(back["patient"]) & set(table.loc[table["split"] != "calibration", "patient"])
    again = fit_operating_point(back, back["probability"], level="view")
    assert again.threshold == pytest.approx(kept["heads"]["classifier"]["view"]["threshold"], abs=1e-5)
    assert "Against k-NN on the frozen trunk" in held.table()
    assert "frozen trunk, logistic regression" in held.table()
    assert "Operating point of the classifier" in held.table()


def test_a_classifier_without_patients_apart_has_no_operating_point(supervised: Path) -> None:
    assert not (supervised / "operating_point.json").exists()
    assert "no operating point" in (supervised / "report.html").read_text()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sensitivity": 0.0}, "sensitivity=0"),
        ({"sensitivity": 1.2}, "sensitivity=1.2"),
        ({"calibration": "platt"}, "calibration='platt'"),
        ({"calibration_share": 0.9}, "calibration_share=0.9"),
    ],
)
@pytest.mark.parametrize("kind", [Experiment, ClassifierExperiment])
def test_wrong_settings_are_refused(kind: type, changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**changed)


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.4, 0.7, "less than wanted"), (0.95, 1.0, "more than wanted")]
)
def test_a_sensitivity_that_misses_the_one_wanted_beyond_chance_is_said(
    low: float, high: float, said: str
) -> None:
    point = {"threshold": 0.3, "sensitivity": 0.9, "calibrator": None, "patients": 40}
    valid = {
        "recall": 0.5,
        "specificity": 0.8,
        "interval": {"recall": [low, high], "specificity": [0.7, 0.9]},
    }
    heads = {"knn": {"study": {"point": point, "valid": valid}, "view": {"point": point, "valid": valid}}}
    metrics = {"operating": {"how": "So.", "heads": heads}}
    assert said in findings(metrics)[1]
    assert sum(said in getattr(block, "text", "") for block in operating_section(metrics)) == 2
    valid["interval"]["recall"] = [0.4, 0.95]
    assert "beyond chance" not in findings(metrics)[1]
