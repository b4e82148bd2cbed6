"""Settings, published figures, the run folder's rules and the table: everything that needs no training."""

import json
import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamura._names import LOSS_SETTINGS
from siamura.experiments import ClassifierExperiment, Experiment, published
from siamura.experiments.folder import open_folder
from siamura.experiments.settings import LossName
from siamura.report.tables import data_sentence, finger_sheet, with_interval

DATA = {
    "phantoms": False,
    "name": "MURA-v1.1",
    "part": "XR_FINGER",
    "counts": {
        "train": {"views": 10, "studies": 5, "patients": 4},
        "valid": {"views": 6, "studies": 3, "patients": 2},
    },
}


def figures(value: float) -> dict[str, object]:
    kappa = value / 2
    return {
        "accuracy": value,
        "error": 1 - value,
        "kappa": kappa,
        "interval": {"kappa": [kappa - 0.1, kappa + 0.1]},
    }


METRICS = {
    split: {
        "view": {"knn": figures(value), "mlp": figures(value - 0.1), "embedding": {"loss": value / 10}},
        "study": {"knn": figures(value + 0.05), "mlp": figures(value - 0.05)},
    }
    for split, value in (("train", 0.9), ("valid", 0.7))
}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "part": st.text(max_size=20).map(lambda text: f"hand{text}"),
            "dim": st.integers(1, 4096),
            "clahe": st.booleans(),
            "loss": st.sampled_from(get_args(LossName)),
            "lr": st.floats(1e-8, 10),
            "weights": st.none() | st.text(max_size=10),
            "epochs": st.none() | st.integers(1, 1000),
        },
    )
)
def test_json_both_ways(values: dict[str, object]) -> None:
    experiment = Experiment(**values)
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert Experiment.from_dict(json.loads(experiment.to_json())) == experiment


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("loss", "hinge", "choose one of triplet"),
        ("p", 1, "from 2"),
        ("k", 1, "at least 2"),
        ("size", 16, "at least 32"),
        ("lr", 0.0, "above 0"),
        ("lr", float("nan"), "above 0"),
        ("steps", 0, "at least 1"),
        ("seed", -1, "negative"),
        ("dim", 0, "at least 1"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){name}.*{says}"):
        Experiment(**{name: value})


@pytest.mark.parametrize("loss", get_args(LossName))
def test_only_settings_that_a_loss_has_may_be_given(loss: str) -> None:
    """Even with the value of the default; what is not given is never refused, through `replace` and JSON."""
    for name, default in (("margin", 0.2), ("sigma", 1.0)):
        if name in LOSS_SETTINGS[loss]:
            assert getattr(Experiment(loss=loss, **{name: default}), name) == default
        else:
            with pytest.raises(ValueError, match=f"{name}={default} does nothing with loss='{loss}'"):
                Experiment(loss=loss, **{name: default})
    plain = replace(Experiment(), loss=loss)
    assert (plain.margin, plain.sigma) == (0.2, 1.0)
    assert Experiment.from_json(plain.to_json()) == plain
    assert pickle.loads(pickle.dumps(plain)) == plain


def test_a_training_without_fine_tuning_refuses_its_start() -> None:
    with pytest.raises(ValueError, match=r"tune_from=0\.5 does nothing with tune_epochs=0"):
        ClassifierExperiment(tune_from=0.5)


def test_no_length_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="epochs and steps are both None"):
        Experiment(epochs=None, steps=None)


def test_unknown_setting_names_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"no setting 'marign'.*margin"):
        Experiment.from_dict({"marign": 1})


def test_every_setting_has_help() -> None:
    assert all(f.metadata["help"] for f in fields(Experiment))


def test_published_figures_are_those_printed() -> None:
    assert len(published(system="A")) == 16 * 4
    assert [f.value for f in published(table="5.6")] == [0.9375, 0.780, 0.9508, 0.752]
    assert [f.value for f in published(table="5.4", trunk="resnet50", split="valid")] == [0.082, 0.333]
    assert [f.value for f in published(system="D", part="XR_HUMERUS", trunk="inception_v3")] == [
        0.83,
        0.82,
        0.82,
    ]
    assert len(published(system="D", table="per part")) == 7 * 5 * 3
    (model,) = published(system="MURA", part="XR_FINGER", note="model")
    assert model.value == 0.389


def test_published_refuses_unknown_fields() -> None:
    with pytest.raises(ValueError, match="no field 'tabel'"):
        published(tabel="5.1")


@pytest.mark.parametrize(
    ("settings", "table", "value"),
    [
        ({"loss": "triplet_focal"}, "5.12", "0.374"),
        ({"loss": "triplet", "clahe": True}, "5.8", "0.504"),
        ({"loss": "batch_hard", "clahe": False}, "5.4", "0.449"),
        ({"loss": "triplet", "trunk": "resnet50"}, "5.4", "0.333"),
    ],
)
def test_table_sets_the_right_published_rows_beside(settings: dict[str, str], table: str, value: str) -> None:
    history = pd.DataFrame({"share": [0.0, 0.5]})
    text = finger_sheet(replace(Experiment(), **settings), METRICS, DATA, history).markdown()
    row = [line for line in text.splitlines() if line.startswith(f"| {table} | kappa | published")]
    assert len(row) == 2
    assert any(value in line for line in row)
    assert (
        f"| {table} | kappa | **measured**, k-NN, per study | 0.475 [0.375, 0.575] | 0.375 [0.275, 0.475] |"
        in text
    )
    assert f"Trained for 2 steps on the {settings['loss']} loss (25% of the training on it" in text
    assert "for research, not for diagnosis" in text
    assert "| PK batches | 0.090 | 0.070 |" in text.replace("**measured**, ", "")


def test_the_table_says_what_the_mlp_was_made_from() -> None:
    history = pd.DataFrame({"share": [1.0]})
    fitted, joint = (
        finger_sheet(Experiment(), {**METRICS, **heads}, DATA, history).markdown()
        for heads in ({"heads": {"knn": "rows", "mlp": "rows"}}, {"heads": {"knn": "rows", "mlp": "network"}})
    )
    learnt = "MLP is the classifier that the network learnt beside its embedding"
    assert learnt in joint
    assert "(all of the training on it), and beside it on a cross-entropy." in joint
    assert learnt not in fitted
    assert "the images it was fitted on" in fitted
    assert "the images that the network learnt from" in joint
    assert "cross-entropy" not in fitted
    assert learnt not in finger_sheet(Experiment(), METRICS, DATA, history).markdown()  # of an older run


def test_published_figures_come_after_the_measured_ones_and_for_mura_alone() -> None:
    history = pd.DataFrame({"share": [1.0]})
    for kind, phantoms in (("mura", False), ("mura", True)):
        data = {**DATA, "kind": kind, "phantoms": phantoms}
        lines = finger_sheet(Experiment(), METRICS, data, history).markdown().splitlines()
        source = [line.split(" | ")[2] for line in lines if line.startswith("| 5.")]
        first = next(i for i, said in enumerate(source) if said.startswith("published"))
        assert first > 0
        assert all(said.startswith("**measured**") for said in source[:first])
        assert all(said.startswith("published") for said in source[first:])
    own = finger_sheet(Experiment(), METRICS, {**DATA, "kind": "table"}, history).markdown()
    assert "ublished" not in own
    assert "| kappa | **measured**, k-NN, per study | 0.475 [0.375, 0.575] | 0.375 [0.275, 0.475] |" in own


def test_phantoms_are_called_phantoms() -> None:
    assert "PHANTOMS" in data_sentence({**DATA, "phantoms": True})
    assert "PHANTOM" not in data_sentence(DATA)
    assert "valid 6 views of 3 studies of 2 patients" in data_sentence(DATA)


def test_a_figure_without_an_answer_is_a_dash() -> None:
    assert with_interval({"kappa": None}, "kappa") == "undefined"  # one class alone was called
    assert with_interval({"accuracy": 0.5}, "kappa") == "–"
    assert with_interval(None, "kappa") == "–"
    assert with_interval({"kappa": 0.5}, "kappa") == "0.500"


def test_folder_in_use_is_refused_and_a_run_replaced_only_on_wish(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="--overwrite"):
        open_folder(tmp_path, overwrite=False)
    assert open_folder(tmp_path, overwrite=True) == tmp_path
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt"]


def test_a_folder_of_something_else_is_never_emptied(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(FileExistsError, match="something else than a run"):
        open_folder(tmp_path, overwrite=True)
    assert (tmp_path / "model").is_dir()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        open_folder(tmp_path / "run", overwrite=True)
