"""What the tests of several packages share."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from siamura.experiments import Run

# No test may depend on the machine's speed.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

SHARED = Path(__file__).resolve().parents[1] / "shared"

#: What an extra brings, by the name whose example needs it.
EXTRAS = {
    "siamura.export.to_onnx": "onnxruntime",
    "siamura.studies.dicom.read_dicom_folder": "pydicom",
}


@pytest.fixture(scope="session", autouse=True)
def usual_temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The system's temporary folder; what examples, libraries and other processes would leave there goes at the end."""
    usual = tempfile.gettempdir()
    tmp_path_factory.getbasetemp()  # made in there before it is another: what failed is kept
    place = Path(tempfile.mkdtemp(prefix="siamura-tests-"))
    place.chmod(
        0o711
    )  # the tests' database server, and a test of rights, are other users where root runs the tests
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(place))
        patch.setattr(tempfile, "tempdir", str(place))
        yield usual
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real radiographs and DICOM files that stay outside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"the real radiographs are not on this machine ({SHARED})")
    return SHARED


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of one test session keep phantoms and preprocessed images."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Run:
    """A finished run of the finger experiment, tiny; nobody may change its folder."""
    from siamura.experiments import Experiment, run

    tiny = Experiment(views=96, steps=3, size=64, k=4, trunk="resnet18", dim=16, neighbours=5)
    return run(tiny, tmp_path_factory.mktemp("runs") / "finger", cache=cache)


@pytest.fixture(scope="session")
def started(done: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the start page leaves it: ``phantoms``, and a run on them in ``runs/first``."""
    folder = tmp_path_factory.mktemp("start")
    shutil.copytree(done.folder, folder / "runs" / "first")
    (folder / "phantoms").symlink_to(done.config["data"]["name"])
    return folder


@pytest.fixture(scope="session")
def seeded(done: Run, started: Path) -> Path:
    """Two seeds of that run beside it, in ``runs/seeds``; nobody may change them.

    Seed 4 is a copy of seed 0 with other answers and another MLP: the patients are the same, and no training is needed.
    """
    from siamura import MLPHead
    from siamura.experiments import run_seeds
    from siamura.experiments.answers import load_answers, write_answers

    out = started / "runs" / "seeds"
    for seed in (0, 4):
        shutil.copytree(done.folder, out / f"seed{seed}")
        config = json.loads((out / f"seed{seed}" / "config.json").read_text())
        config["experiment"] |= {"seed": seed, "data_seed": 0}
        (out / f"seed{seed}" / "config.json").write_text(json.dumps(config))
    answers, noise = load_answers(out / "seed4", 2), np.random.default_rng(4)
    valid = {n: p if n == "trivial" else (p + noise.random(len(p))) / 2 for n, p in answers.valid.items()}
    write_answers(out / "seed4", replace(answers, valid=valid))
    vectors, table = done.embeddings()
    train = (table["split"] == "train").to_numpy()
    MLPHead(epochs=1, random_state=4).fit(vectors[train], table["label"][train]).save(out / "seed4" / "mlp")
    (out / "config.json").write_text(json.dumps({"kind": "seeds", "seeds": [0, 4]}))
    return run_seeds(done.experiment, out, seeds=(0, 4)).folder


@pytest.fixture(scope="session")
def supervised(started: Path, cache: Path) -> Path:
    """A finished classifier beside that run, in ``runs/classifier``."""
    from siamura.experiments import ClassifierExperiment, run_classifier

    phantoms = str(started / "phantoms")
    tiny = ClassifierExperiment(data=phantoms, parts=("XR_FINGER",), trunk="squeezenet1_1", size=32, epochs=1)
    return run_classifier(tiny, started / "runs" / "classifier", cache=cache).folder


@pytest.fixture(autouse=True)
def the_log_level_is_put_back() -> Iterator[None]:
    """A command that is called within the tests' process sets how much siamura tells, for the process's life."""
    level = logging.getLogger("siamura").level
    yield
    logging.getLogger("siamura").setLevel(level)


@pytest.fixture(autouse=True)
def examples_need_their_extra(request: pytest.FixtureRequest) -> None:
    """An example in a docstring that uses an optional extra is skipped where that is not installed."""
    if isinstance(request.node, pytest.DoctestItem) and request.node.dtest.name in EXTRAS:
        pytest.importorskip(EXTRAS[request.node.dtest.name])
