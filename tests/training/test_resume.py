"""Resume: what a kill leaves goes on to the very end that nothing interrupted."""

import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from siamura.losses import BatchHardTripletLoss

from siamura.networks import Classifier
from siamura.training import fit, fit_classifier

from .conftest import make_batches, make_data, make_net
from .test_fit import assert_same, weights_of

EVERYTHING = {
    "steps": 14, "augment": "mura", "ema": 0.9, "validate_every": 5, "keep_best": True, "warmup_steps": 0.5,
    "checkpoint_every": 3, "progress": False, "seed": 4,
}  # fmt: skip


class Crash(pl.Callback):
    """Fail at some moment of some step."""

    def __init__(self, step, hook):
        self.step = step
        setattr(self, hook, self.fail)

    def fail(self, trainer, pl_module, *_):
        if pl_module.step_done == self.step:
            raise SystemError("crash")


def run(out, data, valid, resume=False, callbacks=(), **options):
    net = make_net(dropout=0.2, hidden=(16,), batch_norm=True)
    history = fit(net, data, make_batches(data, seed=2), BatchHardTripletLoss(margin=0.2), out=out, valid=valid,
                  resume=resume, callbacks=callbacks, **{**EVERYTHING, **options})  # fmt: skip
    return history, weights_of(net)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data, valid):
    return run(tmp_path_factory.mktemp("whole"), data, valid)


@pytest.mark.parametrize("step", [5, *(pytest.param(step, marks=pytest.mark.slow) for step in (2, 6, 13))])
@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_train_batch_end", "on_after_backward"])
def test_after_a_crash_the_end_is_bit_identical(tmp_path, data, valid, whole, step, hook):
    with pytest.raises(SystemError):
        run(tmp_path, data, valid, callbacks=[Crash(step, hook)])
    assert (tmp_path / "checkpoint.ckpt").is_file() == (step > 2)
    history, weights = run(tmp_path, data, valid, resume=True)
    pd.testing.assert_frame_equal(history, whole[0])
    assert_same(weights, whole[1])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), history, rtol=1e-12)


@pytest.mark.slow
def test_a_run_that_was_complete_stays_so(tmp_path, data, valid, whole):
    run(tmp_path, data, valid)
    history, weights = run(tmp_path, data, valid, resume=True)
    pd.testing.assert_frame_equal(history, whole[0])
    assert_same(weights, whole[1])


@pytest.mark.slow
def test_accumulated_gradients_are_never_cut(tmp_path, data, valid):
    options = {"accumulate": 4, "checkpoint_every": 2, "ema": None, "keep_best": False}
    expected = run(tmp_path / "a", data, valid, **options)
    with pytest.raises(SystemError):
        run(tmp_path / "b", data, valid, callbacks=[Crash(6, "on_train_batch_start")], **options)
    history, weights = run(tmp_path / "b", data, valid, resume=True, **options)
    pd.testing.assert_frame_equal(history, expected[0])
    assert_same(weights, expected[1])


def test_a_checkpoint_that_is_none(tmp_path, data, valid):
    (tmp_path / "checkpoint.ckpt").write_bytes(b"half of it")
    with pytest.raises(ValueError, match=r"checkpoint\.ckpt is no checkpoint of siamura\.fit"):
        run(tmp_path, data, valid, resume=True)
    torch.save({"siamura": Crash(0, "x")}, tmp_path / "checkpoint.ckpt")  # a pickled object
    with pytest.raises(ValueError, match=r"is no checkpoint"):
        run(tmp_path, data, valid, resume=True)


@pytest.mark.slow
def test_a_classifier_goes_on_too(tmp_path, data, valid):
    def classify(out, **options):
        net = Classifier("squeezenet1_1", "b_densenet169", hidden=(8,), dropout=0.3)
        history = fit_classifier(net, data, epochs=3, batch_size=16, valid=valid, out=out, augment="flip",
                                 checkpoint_every=2, progress=False, **options)  # fmt: skip
        return history, weights_of(net)

    expected = classify(tmp_path / "a")
    with pytest.raises(SystemError):
        classify(tmp_path / "b", callbacks=[Crash(5, "on_train_batch_start")])
    history, weights = classify(tmp_path / "b", resume=True)
    pd.testing.assert_frame_equal(history, expected[0])
    assert_same(weights, expected[1])


SCRIPT = """
import os, signal, sys
import lightning.pytorch as pl
sys.path.insert(0, {root!r})
from tests.training.test_resume import run
from tests.training.conftest import make_data

class Kill(pl.Callback):
    def on_after_backward(self, trainer, pl_module):
        if pl_module.step_done == {step}:
            os.kill(os.getpid(), signal.SIGKILL)

run({out!r}, make_data(), make_data(seed=1), callbacks=[Kill()])
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 11])
def test_after_sigkill_the_end_is_bit_identical(tmp_path, data, valid, whole, step):
    root = str(Path(__file__).resolve().parents[2])
    code = SCRIPT.format(root=root, step=step, out=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    history, weights = run(tmp_path, make_data(), valid, resume=True)
    pd.testing.assert_frame_equal(history, whole[0])
    assert_same(weights, whole[1])
