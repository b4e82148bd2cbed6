"""`fit`: what it returns, writes, refuses, and what it leaves alone."""

import os
import signal
import threading
import warnings

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from siamura.losses import BatchHardTripletLoss, TripletLoss
from torch import nn
from torch.utils.data import TensorDataset

import siamura
from siamura.networks import EmbeddingNet, PairLoss, PairNet
from siamura.training import CollapseWarning, embed, fit
from siamura.training.callbacks import Averaging

from .conftest import make_batches, make_data, make_net

QUIET = {"progress": False, "precision": "32"}
COLUMNS = [
    "step", "epoch", "loss", "lr", "active_fraction", "mean_distance", "hardest_positive", "hardest_negative",
    "objective", "share",
]  # fmt: skip


def weights_of(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_it_learns_and_writes_a_run_folder(tmp_path, data, valid, recwarn, capsys):
    net = make_net()
    history = fit(net, data, make_batches(data), BatchHardTripletLoss(margin=0.2), steps=30, valid=valid,
                  validate_every=15, out=tmp_path / "run", lr=1e-3, **QUIET)  # fmt: skip
    assert list(history) == [*COLUMNS, "valid_loss", "valid_p1", "valid_kappa"]
    assert history["step"].tolist() == list(range(1, 31))
    assert history["epoch"].tolist() == [(s - 1) // 6 + 1 for s in range(1, 31)]
    assert history["valid_kappa"].notna().to_numpy().nonzero()[0].tolist() == [14, 29]
    assert history["valid_kappa"].iloc[-1] > 0.8
    assert history["valid_p1"].iloc[-1] > 0.9
    assert not net.training
    names = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert names == {"history.csv", "checkpoint.ckpt", "model/config.json", "model/model.safetensors"}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "run" / "history.csv"), history, rtol=1e-12)
    again = EmbeddingNet.from_pretrained(tmp_path / "run" / "model")
    assert np.array_equal(embed(again, valid, **QUIET), embed(net, valid, **QUIET))
    out = capsys.readouterr()
    assert out.out + out.err == ""
    assert [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)] == []


def test_the_same_seed_gives_the_same_run_and_global_states_stay(data):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    runs = []
    for seed in (0, 0, 1):
        net = make_net(dropout=0.3)
        history = fit(
            net, data, make_batches(data), TripletLoss(0.2), steps=4, augment="flip", seed=seed, **QUIET
        )
        runs.append((history, weights_of(net)))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    pd.testing.assert_frame_equal(runs[0][0], runs[1][0])
    assert_same(runs[0][1], runs[1][1])
    assert not runs[0][0]["loss"].equals(runs[2][0]["loss"])


def test_one_step_is_a_plain_step_of_adamw(data):
    net, peer = make_net(), make_net()
    batches = make_batches(data)
    fit(net, data, batches, TripletLoss(0.2), steps=1, lr=1e-3, schedule="constant", warmup_loss=None,
        weight_decay=0.1, **QUIET)  # fmt: skip
    batches.set_epoch(0)
    rows = next(iter(batches))
    decayed = [p for p in peer.parameters() if p.ndim > 1]
    others = [p for p in peer.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-3
    )
    peer.train()
    TripletLoss(0.2)(peer(data.tensors[0][rows]), data.tensors[1][rows]).backward()
    optimizer.step()
    for name, value in net.state_dict().items():
        assert torch.allclose(value, peer.state_dict()[name], atol=1e-6), name


def test_the_curriculum_goes_from_all_triplets_to_hard_ones(data):
    history = fit(
        make_net(),
        data,
        make_batches(data),
        BatchHardTripletLoss(margin=0.2),
        steps=8,
        warmup_steps=0.5,
        **QUIET,
    )
    assert history["objective"].tolist() == ["TripletLoss"] * 2 + ["BatchHardTripletLoss"] * 6
    history = fit(make_net(), data, make_batches(data), BatchHardTripletLoss(margin=0.2), steps=8, warmup_steps=3,
                  blend=0.0, **QUIET)  # fmt: skip
    assert history["objective"].tolist() == ["TripletLoss"] * 3 + ["BatchHardTripletLoss"] * 5
    history = fit(make_net(), data, make_batches(data), BatchHardTripletLoss(margin=0.2), steps=2, warmup_loss=None,
                  **QUIET)  # fmt: skip
    assert set(history["objective"]) == {"BatchHardTripletLoss"}
    history = fit(make_net(), data, make_batches(data), TripletLoss(margin=0.2), steps=2, **QUIET)
    assert set(history["objective"]) == {"TripletLoss"}


def test_a_blend_is_the_weighted_sum_of_both_losses(data):
    """In the middle of a blend over one step, half of each."""
    both = BatchHardTripletLoss(margin=0.2), TripletLoss(margin=0.2)
    history = fit(make_net(), data, make_batches(data), both[0], steps=2, warmup_steps=1, blend=1.0, **QUIET)
    net = make_net()
    batches = make_batches(data)
    rows = next(iter(batches))
    emb, labels = net.train()(data.tensors[0][rows]), data.tensors[1][rows]
    assert history["loss"].iloc[0] == pytest.approx(
        sum(loss(emb, labels).item() for loss in both) / 2, rel=1e-5
    )


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
def test_schedules(data, schedule):
    history = fit(
        make_net(), data, make_batches(data), TripletLoss(0.2), steps=20, lr=0.01, schedule=schedule, **QUIET
    )
    lr = history["lr"].to_numpy()
    if schedule == "constant":
        assert (lr == 0.01).all()
    else:
        assert lr.max() == pytest.approx(0.01, rel=0.05)
        assert 3 <= lr.argmax() <= 7
        assert lr[-1] < 0.001
        assert lr[0] < 0.005


def test_groups_learn_at_their_own_rates(data):
    from siamura.training.optimisers import OptimiserSettings

    net = make_net()
    groups = OptimiserSettings(1e-2, 10, trunk_lr=1e-3, layer_decay=0.5).groups(net)
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert rates[id(net.head.layers[-1].weight)] == 1e-2
    convs = [m.weight for m in net.trunk.modules() if isinstance(m, nn.Conv2d)]
    assert rates[id(convs[-1])] == 1e-3
    blocks = len({name.split(".")[2] for name, _ in net.trunk.named_parameters()})
    assert rates[id(convs[0])] == pytest.approx(1e-3 * 0.5 ** (blocks - 1))
    net.requires_grad_(False)
    with pytest.raises(ValueError, match="every weight is frozen"):
        fit(net, data, make_batches(data), TripletLoss(0.2), steps=1, **QUIET)


def test_ema_is_the_average_of_the_steps(data):
    seen = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            seen.append(weights_of(pl_module.net))

    net = make_net()
    first = weights_of(net)
    fit(net, data, make_batches(data), TripletLoss(0.2), steps=3, ema=0.5, callbacks=[Look()], **QUIET)
    name = "head.layers.0.weight"
    # The first update copies; the later ones average.
    expected = seen[0][name]
    for state in seen[1:]:
        expected = 0.5 * expected + 0.5 * state[name]
    assert not torch.equal(net.state_dict()[name], first[name])
    assert torch.allclose(net.state_dict()[name], expected, atol=1e-6)
    with pytest.raises(ValueError, match="ema=1"):
        Averaging(1.0)


def test_accumulating_two_batches_is_one_step_of_their_mean(data):
    net, peer = make_net(), make_net()
    batches = make_batches(data)
    loss = TripletLoss(0.2)
    fit(net, data, batches, loss, steps=2, accumulate=2, lr=0.1, optimizer="sgd", schedule="constant",
        weight_decay=0.0, **QUIET)  # fmt: skip
    batches.set_epoch(0)
    peer.train()
    for rows in list(batches)[:2]:
        (loss(peer(data.tensors[0][rows]), data.tensors[1][rows]) / 2).backward()
    torch.optim.SGD(peer.parameters(), lr=0.1, momentum=0.9).step()
    for name, value in net.state_dict().items():
        assert torch.allclose(value, peer.state_dict()[name], atol=1e-5), name


def test_clipping_bounds_the_step(data):
    moved = []
    for clip in (None, 1e-4):
        net = make_net()
        before = weights_of(net)
        fit(net, data, make_batches(data), TripletLoss(0.2), steps=1, lr=1.0, optimizer="sgd", schedule="constant",
            weight_decay=0.0, clip=clip, **QUIET)  # fmt: skip
        after = net.state_dict()
        moved.append(
            sum(float((after[k] - before[k]).square().sum()) for k, _ in net.named_parameters()) ** 0.5
        )
    assert moved[1] == pytest.approx(1e-4, rel=0.01)
    assert moved[0] > 1e-3


@pytest.mark.slow
def test_half_precision_learns_too(data, valid):
    history = fit(make_net(), data, make_batches(data), BatchHardTripletLoss(margin=0.2), steps=30, valid=valid,
                  precision="bf16", clip=1.0, workers=1, progress=False)  # fmt: skip
    assert history["valid_kappa"].iloc[-1] > 0.8
    assert history["loss"].map(lambda v: v != float(torch.tensor(v).bfloat16())).any()  # the loss is float32


@pytest.mark.parametrize("keep_best", [False, True])
def test_best_weights_and_patience(data, valid, keep_best):
    net = make_net()
    kept = {}

    class Spoil(pl.Callback):
        """From the third step on the network forgets everything."""

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 0:
                kept["best"] = None
            if batch_idx == 2:
                kept["best"] = weights_of(pl_module.net)
                for p in pl_module.net.parameters():
                    p.data.zero_()

    history = fit(net, data, make_batches(data), TripletLoss(0.2), steps=40, valid=valid, validate_every=2,
                  monitor="valid_p1", patience=3, keep_best=keep_best, on_collapse=None, callbacks=[Spoil()],
                  lr=1e-4, **QUIET)  # fmt: skip
    assert len(history) == 8  # best at 2, then three without a better one
    name = "head.layers.0.weight"
    assert torch.equal(net.state_dict()[name], kept["best"][name]) == keep_best
    if keep_best:
        assert_same(weights_of(net), kept["best"])


class Flat(nn.Module):
    """Everything becomes one point, as in a full collapse."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return nn.functional.normalize(self.bias.expand(len(x), 4) + 0.0)


@pytest.mark.parametrize("action", ["warn", "stop", "act", None])
def test_the_collapse_watch(data, action):
    loss = BatchHardTripletLoss(margin=0.2)
    options = dict(steps=60, schedule="constant", warmup_steps=5, blend=0.0, on_collapse=action, **QUIET)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(Flat(), data, make_batches(data), loss, **options)
    told = [str(w.message) for w in caught if issubclass(w.category, CollapseWarning)]
    if action is None:
        assert told == []
        return
    assert "step 25: the embeddings have collapsed" in told[0]
    assert len(history) == (25 if action == "stop" else 60)
    if action == "act":
        assert "rate is cut to 0.33" in told[0]
        assert set(history["objective"][25:60]) == {"TripletLoss"}
        assert history["lr"].iloc[30] == pytest.approx(1e-3 / 3)
    else:
        assert "warm-up on all triplets" in told[0]


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
def test_a_cut_rate_stays_cut(data, schedule):
    runs = [
        fit(Flat(), data, make_batches(data), BatchHardTripletLoss(margin=0.2), steps=45, schedule=schedule,
            lr_warmup=0.7, on_collapse=action, **QUIET)["lr"]
        for action in ("act", None)
    ]  # fmt: skip
    ratio = (runs[0] / runs[1]).to_numpy()
    assert np.allclose(ratio[:25], 1.0)
    assert np.allclose(ratio[26:], 1 / 3)


def test_a_sound_run_raises_no_alarm(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        fit(make_net(), data, make_batches(data), TripletLoss(0.2), steps=30, **QUIET)


def test_a_loss_that_is_nan_stops_with_a_remedy(data):
    class Broken(nn.Module):
        def forward(self, emb, labels):
            return emb.sum() * float("nan")

    with pytest.raises(FloatingPointError, match=r"nan at step 1; lower lr"):
        fit(make_net(), data, make_batches(data), Broken(), steps=2, **QUIET)


class Interrupting(pl.Callback):
    def __init__(self, step, how):
        self.step, self.how = step, how

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if pl_module.step_done == self.step:
            if self.how == "signal":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["signal", "exception"])
def test_ctrl_c_leaves_a_usable_run(tmp_path, data, how):
    net = make_net()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.warns(RuntimeWarning, match=r"interrupted after step \d of 20"):
        history = fit(net, data, make_batches(data), TripletLoss(0.2), steps=20, out=tmp_path, checkpoint_every=2,
                      callbacks=[Interrupting(4, how)], **QUIET)  # fmt: skip
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(history) == (5 if how == "signal" else 4)
    assert (tmp_path / "history.csv").is_file()
    saved = EmbeddingNet.from_pretrained(tmp_path / "model")
    assert np.array_equal(embed(saved, data), embed(net, data))
    whole = make_net()
    expected = fit(whole, data, make_batches(data), TripletLoss(0.2), steps=20, **QUIET)
    rest = make_net()
    history = fit(
        rest, data, make_batches(data), TripletLoss(0.2), steps=20, out=tmp_path, resume=True, **QUIET
    )
    pd.testing.assert_frame_equal(history, expected)
    assert_same(weights_of(rest), weights_of(whole))


def test_sigterm_saves_and_then_ends_the_process(tmp_path, data):
    class Terminate(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    net = make_net()
    with (
        pytest.warns(RuntimeWarning, match="interrupted after step 3 of 20"),
        pytest.raises(SystemExit) as ended,
    ):
        fit(net, data, make_batches(data), TripletLoss(0.2), steps=20, out=tmp_path, callbacks=[Terminate()],
            **QUIET)  # fmt: skip
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert len(pd.read_csv(tmp_path / "history.csv")) == 3
    whole, rest = make_net(), make_net()
    expected = fit(whole, data, make_batches(data), TripletLoss(0.2), steps=20, **QUIET)
    history = fit(
        rest, data, make_batches(data), TripletLoss(0.2), steps=20, out=tmp_path, resume=True, **QUIET
    )
    pd.testing.assert_frame_equal(history, expected)
    assert_same(weights_of(rest), weights_of(whole))


def test_it_runs_in_another_thread(data):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(
            fit(make_net(), data, make_batches(data), TripletLoss(0.2), steps=2, **QUIET)
        )
    )
    thread.start()
    thread.join()
    assert len(found[0]) == 2


def test_loggers_write_where_they_are_told(tmp_path, data, valid):
    fit(make_net(), data, make_batches(data), TripletLoss(0.2), steps=4, out=tmp_path, valid=valid, validate_every=2,
        loggers=["csv", "tensorboard"], checkpoint_every=None, **QUIET)  # fmt: skip
    logged = pd.read_csv(tmp_path / "csv" / "metrics.csv")
    assert {"loss", "valid_kappa", "mean_distance"} <= set(logged)
    assert list((tmp_path / "tensorboard").glob("events*"))
    with pytest.raises(ValueError, match="give out="):
        fit(make_net(), data, make_batches(data), TripletLoss(0.2), steps=1, loggers=["csv"], **QUIET)


def test_losses_of_others_and_losses_that_learn(data):
    from pytorch_metric_learning.losses import ProxyAnchorLoss, TripletMarginLoss

    history = fit(make_net(), data, make_batches(data), TripletMarginLoss(margin=0.2), steps=2, **QUIET)
    assert history[COLUMNS[:8]].notna().all(axis=None)
    proxies = ProxyAnchorLoss(num_classes=2, embedding_size=8)
    before = proxies.proxies.detach().clone()
    fit(make_net(), data, make_batches(data), proxies, steps=2, **QUIET)
    assert not torch.equal(before, proxies.proxies)


@pytest.mark.parametrize("objective", ["contrastive", "bce"])
def test_the_pair_form_trains(data, valid, objective):
    net = PairNet("squeezenet1_1", dim=8)
    loss = PairLoss(objective, head=net.distance)
    before = net.distance.log_scale.item()
    history = fit(net, data, make_batches(data), loss, steps=40, valid=valid, validate_every=40, **QUIET)
    assert history["valid_kappa"].iloc[-1] > 0.8
    assert (net.distance.log_scale.item() != before) == (objective == "bce")


def test_the_network_keeps_how_its_images_were_made():
    data = make_data()
    data.pre = siamura.Preprocess(size=32)
    net = make_net()
    fit(net, data, make_batches(data), TripletLoss(0.2), steps=1, **QUIET)
    assert net.preprocess == data.pre


def test_augmentation_of_the_data_set_is_used_in_training_alone(data):
    from siamura.pixels import Augmentation

    class Augmented(TensorDataset):
        augment = None

        def __getitems__(self, rows):
            images, labels = self.tensors[0][rows], self.tensors[1][rows]
            return (images if self.augment is None else self.augment(images)), labels

    own = Augmented(*data.tensors)
    own.augment = Augmentation.preset("mura", seed=5)
    runs = []
    for d, augment in ((own, None), (data, "mura"), (data, None)):
        net = make_net()
        runs.append(
            fit(net, d, make_batches(data), TripletLoss(0.2), steps=2, augment=augment, **QUIET)["loss"]
        )
        assert np.array_equal(embed(net, d), embed(net, data))
    assert runs[0].equals(runs[1])
    assert not runs[0].equals(runs[2])
    assert own.augment is not None


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        ({}, "epochs and steps are both None"),
        ({"steps": 0}, "steps=0"),
        ({"epochs": -1}, "epochs=-1"),
        ({"steps": 1, "lr": 0.0}, "lr=0.0"),
        ({"steps": 1, "optimizer": "lion"}, "optimizer='lion'.*adamw"),
        ({"steps": 1, "schedule": "step"}, "schedule='step'.*onecycle"),
        ({"steps": 1, "precision": "8"}, "precision='8'"),
        ({"steps": 1, "precision": "fp16"}, "fp16.*GPU"),
        ({"steps": 1, "accelerator": "abacus"}, "accelerator='abacus'"),
        ({"steps": 1, "augment": "warp"}, "'warp'"),
        ({"steps": 1, "on_collapse": "panic"}, "on_collapse='panic'"),
        ({"steps": 1, "warmup_loss": "easy"}, "warmup_loss='easy'"),
        ({"steps": 1, "blend": 2.0}, "blend=2.0"),
        ({"steps": 1, "resume": True}, "out="),
        ({"steps": 1, "patience": 2}, "valid="),
        ({"steps": 1, "accumulate": 0}, "accumulate=0"),
        ({"steps": 1, "loggers": ["comet"], "out": "x"}, "loggers='comet'"),
    ],
)
def test_arguments_are_checked(tmp_path, monkeypatch, data, options, needle):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=needle):
        fit(make_net(), data, make_batches(data), TripletLoss(0.2), **{"progress": False, **options})


def test_samplers_of_another_kind_are_told_apart(data):
    from torch.utils.data import BatchSampler, SequentialSampler

    with pytest.raises(ValueError, match="lists of positions"):
        fit(make_net(), data, SequentialSampler(data), TripletLoss(0.2), steps=1, **QUIET)
    with pytest.raises(ValueError, match="batches is empty"):
        fit(make_net(), data, [], TripletLoss(0.2), steps=1, **QUIET)
    plain = BatchSampler(SequentialSampler(data), 8, drop_last=True)
    assert len(fit(make_net(), data, plain, TripletLoss(0.2), epochs=1, **QUIET)) == 6


def test_the_progress_bar_tells_whether_it_learns(data, capsys):
    fit(make_net(), data, make_batches(data), TripletLoss(0.2), steps=3, precision="32")
    err = capsys.readouterr().err
    assert "3/3" in err
    assert "loss=" in err
    assert "active=" in err
    assert "distance=" in err


@pytest.mark.parametrize("scale", [lambda x: x / 255, lambda x: (x.float() - 128) / 64])
def test_an_augmentation_to_another_scale_is_refused(scale):
    data = make_data()
    with pytest.raises(ValueError, match="augment made float32 values from"):
        fit(
            make_net(),
            data,
            make_batches(data),
            TripletLoss(0.2),
            steps=1,
            augment=lambda x, _: scale(x),
            **QUIET,
        )
