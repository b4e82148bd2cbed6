"""The network that an experiment names is the one that its run folder tells of."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from siamura._run_files import load_network
from siamura.experiments import Experiment, build_network, run
from siamura.networks import EmbeddingNet

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    model = EmbeddingNet("resnet18", dim=8, seed=5).trunk.state_dict()
    save_file({name: values.contiguous() for name, values in model.items()}, file)
    return file


def test_with_weights_half_is_frozen_and_the_head_drops(weights: Path) -> None:
    given = Experiment(trunk="resnet18", dim=8, weights=str(weights))
    for settings, frozen, dropout in ((given, True, 0.2), (Experiment(trunk="resnet18", dim=8), False, None)):
        net = build_network(settings, settings.preprocess())
        assert net.trunk.model.layer1[0].conv1.weight.requires_grad is not frozen
        assert net.trunk.model.layer3[0].conv1.weight.requires_grad
        assert net.trunk.weights_given is frozen
        assert [layer.p for layer in net.head.modules() if isinstance(layer, nn.Dropout)] == (
            [dropout] if dropout else []
        )
        assert net.preprocess == settings.preprocess()


@pytest.mark.slow
def test_the_example_trains_as_the_command_does_and_both_tell_how(
    weights: Path, cache: Path, tmp_path: Path
) -> None:
    settings = Experiment(
        views=96, size=64, trunk="resnet18", dim=8, k=4, steps=2, weights=str(weights), calibration_share=0.0
    )
    command = run(settings, tmp_path / "command", cache=cache)
    assert command.config["recipe"]["drop_path"] == 0.2
    assert "drop_path" in (tmp_path / "command" / "report.html").read_text(encoding="utf-8")
    names = ("views", "size", "trunk", "dim", "k", "steps", "weights")
    flags = [text for name in names for text in (f"--{name}", str(getattr(settings, name)))]
    subprocess.run(
        [sys.executable, str(ROOT / "examples" / "finger_tfl.py"), *flags, "--out", str(tmp_path / "example")],
        check=True, env={**os.environ, "SIAMURA_CACHE": str(cache)},
    )  # fmt: skip
    nets = [load_network(tmp_path / name) for name in ("command", "example")]
    for (name, first), second in zip(
        nets[0].state_dict().items(), nets[1].state_dict().values(), strict=True
    ):
        assert torch.equal(first, second), name
    plain = Experiment(**{**settings.to_dict(), "weights": None})
    assert "drop_path" not in run(plain, tmp_path / "plain", cache=cache).config["recipe"]
