"""MLPHead: learning, stopping, weights of classes, gradients, keeping."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from siamura.heads import MLPHead
from siamura.heads._module import seeded, set_aside


def test_scikit_learn_accepts_it():
    results = check_estimator(MLPHead(hidden=(8,), epochs=10, lr=5e-2), on_skip=None)
    assert {result["status"] for result in results} <= {"passed", "skipped"}
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}


def test_learns_what_no_line_can_part():
    X, y = make_moons(400, noise=0.15, random_state=0)
    Q, wanted = make_moons(400, noise=0.15, random_state=1)
    head = MLPHead(hidden=(32,), lr=1e-2, epochs=150).fit(X, y)
    assert head.score(Q, wanted) > 0.95 > LogisticRegression().fit(X, y).score(Q, wanted)
    proba = head.predict_proba(Q)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_array_equal(head.predict(Q), head.classes_[proba.argmax(axis=1)])


def test_without_hidden_layers_it_is_logistic_regression():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    y = (X @ [1.0, -2.0, 0.5] + rng.logistic(size=500) > 0).astype(int)
    settings = {"dropout": 0.0, "early_stopping": False, "weight_decay": 0.0, "lr": 5e-2, "batch_size": 500}
    head = MLPHead(hidden=(), epochs=300, **settings).fit(X, y)
    theirs = LogisticRegression(C=1e6).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), theirs.predict_proba(X), atol=5e-3)


def test_module_gives_the_logits_and_lets_gradients_through():
    X, y = make_moons(200, random_state=0)
    head = MLPHead(epochs=20).fit(X * 50 + 7, y)
    emb = torch.tensor(X[:5] * 50 + 7, dtype=torch.float32, requires_grad=True)
    logits = head.module(emb)
    assert logits.shape == (5, 2)
    np.testing.assert_allclose(
        logits.softmax(dim=1).detach().numpy(), head.predict_proba(X[:5] * 50 + 7), atol=1e-5
    )
    (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), emb)
    step = 1e-3
    for column in range(2):
        there = emb.detach().double()
        there[:, column] += step
        back = emb.detach().double()
        back[:, column] -= step
        double = pickle.loads(pickle.dumps(head.module)).double()
        ahead, behind = double(there), double(back)
        slope = ((ahead[:, 1] - ahead[:, 0]) - (behind[:, 1] - behind[:, 0])) / (2 * step)
        np.testing.assert_allclose(gradient[:, column].numpy(), slope.numpy(), rtol=1e-2, atol=1e-3)


def test_stops_early_and_keeps_the_best_weights():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 30)), rng.integers(2, size=120)  # nothing to learn but by heart
    head = MLPHead(hidden=(128,), dropout=0.0, epochs=300, patience=7, lr=1e-2).fit(X, y)
    assert len(head.loss_curve_) == len(head.validation_loss_curve_) == head.best_epoch_ + 7
    assert head.best_epoch_ == 1 + int(np.argmin(head.validation_loss_curve_))
    longer = MLPHead(hidden=(128,), dropout=0.0, epochs=head.best_epoch_, patience=7, lr=1e-2).fit(X, y)
    np.testing.assert_allclose(longer.predict_proba(X), head.predict_proba(X), atol=1e-6)


def test_rows_set_aside_are_other_patients():
    rng = np.random.default_rng(0)
    groups = rng.integers(40, size=400)
    y = groups % 2
    aside = set_aside(y, groups, 0.2, np.random.RandomState(0))
    assert not set(groups[aside]) & set(groups[~aside])
    assert len(set(groups[aside])) == 8
    assert set(y[aside]) == {0, 1}


def test_too_few_to_set_aside_trains_on_all():
    head = MLPHead(epochs=5).fit([[0.0], [1.0], [2.0]], [0, 1, 1])
    assert head.validation_loss_curve_ == []
    assert len(head.loss_curve_) == 5 == head.best_epoch_


def test_class_weights_shift_the_answers():
    rng = np.random.default_rng(0)
    y = (rng.random(600) < 0.1).astype(int)
    X = rng.normal(size=(600, 2)) + y[:, None]
    plain, balanced, heavy = (
        MLPHead(class_weight=weight, epochs=60).fit(X, y).predict_proba(X)[:, 1].mean()
        for weight in (None, "balanced", {0: 1.0, 1: 50.0})
    )
    assert plain == pytest.approx(0.1, abs=0.03)
    assert plain < balanced < heavy
    assert balanced > 0.25


def test_the_seed_decides_and_no_global_state_is_touched(tmp_path):
    X, y = make_moons(150, noise=0.2, random_state=0)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    head = MLPHead(epochs=10, random_state=3).fit(X, y)
    one = head.predict_proba(X)
    MLPHead.load(head.save(tmp_path))
    torch.testing.assert_close(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    torch.manual_seed(99)
    np.testing.assert_array_equal(MLPHead(epochs=10, random_state=3).fit(X, y).predict_proba(X), one)
    assert not np.array_equal(MLPHead(epochs=10, random_state=4).fit(X, y).predict_proba(X), one)


def test_a_seed_inside_leaves_the_outside_alone():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with seeded(7, torch.device("cpu")):
        torch.rand(10)
    torch.testing.assert_close(torch.rand(2), expected)


@pytest.mark.parametrize("weight", [None, {"a": 1.0, "b": 2.0}])
def test_kept_on_disk(tmp_path, weight):
    X, y = make_moons(100, random_state=0)
    head = MLPHead(hidden=np.array([8, 4]), epochs=5, class_weight=weight).fit(X, np.array(["a", "b"])[y])
    again = MLPHead.load(head.save(tmp_path / "mlp"))
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
    np.testing.assert_array_equal(again.predict(X), head.predict(X))
    assert again.loss_curve_ == head.loss_curve_
    assert again.best_epoch_ == head.best_epoch_
    assert again.get_params()["hidden"] == (8, 4)
    assert again.class_weight == weight
    assert {file.name for file in (tmp_path / "mlp").iterdir()} == {"head.json", "head.safetensors"}
    assert json.loads((tmp_path / "mlp" / "head.json").read_text())["classes"] == ["a", "b"]


def test_kept_with_a_random_state(tmp_path):
    head = MLPHead(epochs=2, random_state=np.random.RandomState(0), class_weight={0: 1, 1: 2})
    head.fit([[0.0], [1.0], [2.0]], np.array([0, 1, 1]))
    again = MLPHead.load(head.save(tmp_path))
    assert again.random_state is None
    assert again.fit([[0.0], [1.0], [2.0]], [0, 1, 1]).class_weight == {0: 1.0, 1: 2.0}


def test_settings_that_are_numpy_numbers(tmp_path):
    X, y = make_moons(40, random_state=0)
    plain = MLPHead(hidden=(4,), epochs=3, batch_size=16, lr=0.5, random_state=5).fit(X, y)
    head = MLPHead((np.int64(4),), epochs=np.int64(3), batch_size=np.int64(16), lr=np.float32(0.5))
    head = head.set_params(random_state=np.int64(5)).fit(X, y)
    np.testing.assert_array_equal(head.predict_proba(X), plain.predict_proba(X))
    again = MLPHead.load(head.save(tmp_path))
    assert again.get_params() == plain.get_params()


def test_in_pipeline_search_and_cross_validation():
    X, y = make_moons(200, noise=0.2, random_state=0)
    groups = np.arange(200) // 4
    pipe = make_pipeline(StandardScaler(), MLPHead(epochs=30, lr=1e-2))
    assert cross_val_score(pipe, X, y, cv=GroupKFold(3), groups=groups).min() > 0.7
    grid = {"mlphead__hidden": [(2,), (32,)]}
    search = GridSearchCV(pipe, grid, cv=GroupKFold(2)).fit(X, y, groups=groups)
    assert search.best_params_ in ({"mlphead__hidden": (2,)}, {"mlphead__hidden": (32,)})
    pipe.fit(X, y, mlphead__groups=groups)
    np.testing.assert_array_equal(pipe.predict(X, groups=groups), pipe.predict(X))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": (0,)}, "a width of hidden=0"),
        ({"dropout": 1.0}, "dropout=1.0 must be a finite number"),
        ({"validation_fraction": 0.0}, "validation_fraction=0.0"),
        ({"hidden": 8}, r"hidden=8 must hold one width a layer, as in \(64,\)"),
        ({"hidden": (8.5,)}, "a width of hidden=8.5 must be a whole number"),
        ({"epochs": 0}, "epochs=0 must"),
        ({"epochs": 1.5}, "epochs=1.5 must be a whole number"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"patience": 0}, "patience=0"),
        ({"lr": 0.0}, "lr=0.0 must be a finite number above 0"),
        ({"lr": np.inf}, "lr=inf"),
        # Not a number is no probability, and its largest is no class.
        (
            {"lr": 1e30, "epochs": 3},
            "the weights are not finite after training with lr=1e.30; give a smaller lr",
        ),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        MLPHead(**settings).fit([[0.0], [1.0]], [0, 1])


def test_the_device_is_a_choice():
    head = MLPHead(epochs=2, device="auto").fit([[0.0], [1.0]], [0, 1])
    assert next(head.module.parameters()).device.type == "cpu"  # brought home after training


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "gone", "other", "nan"])
def test_damaged_weights_are_a_sentence(tmp_path, damage):
    X = np.random.default_rng(0).normal(size=(20, 3))
    y = np.arange(20) % 2
    folder = MLPHead((4,), epochs=2).fit(X, y).save(tmp_path / "mlp")
    file = folder / "head.safetensors"
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
        with pytest.raises(FileNotFoundError, match=r"head\.safetensors is missing"):
            MLPHead.load(folder)
        return
    if damage == "other":
        MLPHead((5,), epochs=2).fit(X, y).save(tmp_path / "other")
        whole = (tmp_path / "other" / "head.safetensors").read_bytes()
    changed = {"cut": whole[:-9], "noise": bytes(range(200)), "empty": b"", "other": whole}.get(damage)
    file.write_bytes(whole[:-4] + np.float32(np.nan).tobytes() if changed is None else changed)
    with pytest.raises(ValueError, match=r"head\.safetensors: .*; write the file again"):
        MLPHead.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h["settings"].update(hidden=[10**9]), "not F32 of"),
        (lambda h: h.update(features=10**12), "not F32 of"),
        (lambda h: h.update(features="many"), "features='many'"),
        (lambda h: h.update(classes={}), "holds no list of classes"),
        (lambda h: h.update(classes=[[0], [1]]), "holds no list of classes"),
        (lambda h: h.update(loss_curve=[None]), "is not what MLPHead.save writes"),
        (lambda h: h["settings"].update(class_weight=3), "class_weight"),
        (lambda h: h["settings"].update(more=3), r"\(more missing or unknown\)"),
    ],
)
def test_a_header_that_was_changed(tmp_path, change, message):
    X = np.random.default_rng(0).normal(size=(20, 3))
    folder = MLPHead((4,), epochs=2).fit(X, np.arange(20) % 2).save(tmp_path / "mlp")
    header = json.loads((folder / "head.json").read_text())
    change(header)
    (folder / "head.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match=message):
        MLPHead.load(folder)


def test_nested_json_is_no_traceback(tmp_path):
    (tmp_path / "head.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"head\.json is no JSON"):
        MLPHead.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "x"}, "device='x' cannot be used"),
        ({"device": "cuda:77"}, "device='cuda:77' cannot be used"),
        ({"device": "meta"}, "device='meta' cannot be used"),
        ({"early_stopping": "no"}, "early_stopping='no' must be True or False"),
    ],
)
def test_a_device_and_a_truth_value_are_checked(settings, said):
    with pytest.raises(ValueError, match=said):
        MLPHead(epochs=1, **settings).fit(np.eye(4), [0, 1, 0, 1])


def test_a_stored_scale_of_zero_is_refused(tmp_path):
    folder = MLPHead(epochs=1).fit(np.eye(4), [0, 1, 0, 1]).save(tmp_path)
    state = load_file(folder / "head.safetensors")
    state["0.scale"][2] = 0
    save_file(state, folder / "head.safetensors")
    with pytest.raises(ValueError, match=r"head\.safetensors: a scale is not above 0"):
        MLPHead.load(folder)
