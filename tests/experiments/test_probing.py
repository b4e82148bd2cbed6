"""`siamura probe`: frozen features of a trunk, from films to figures, without training."""

import io

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1
from typer.testing import CliRunner

from siamura.cli import app


def test_probe_answers_from_films(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for i in range(48):
        bright = rng.integers(0, 120, (40, 32)).astype(np.uint8)
        if i % 2:  # abnormal films hold stripes, which even random filters see
            bright[:, ::4] = 255
        Image.fromarray(bright).save(tmp_path / f"{i}.png")
        lines.append((f"{i}.png", ("normal", "fracture")[i % 2], f"p{i}", "hand", ("train", "valid")[i > 31]))
    films = tmp_path / "films.csv"
    pd.DataFrame(lines, columns=["path", "label", "patient", "part", "split"]).to_csv(films, index=False)
    save_file(squeezenet1_1(weights=None).state_dict(), tmp_path / "weights.safetensors")
    arguments = ["probe", "--data", str(films), "--positive", "fracture", "--trunk", "squeezenet1_1"]
    arguments += ["--size", "64", "--weights", str(tmp_path / "weights.safetensors")]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    assert "32 training and 16 validation views of 32 and 16 patients" in found.stderr
    table = pd.read_csv(io.StringIO(found.stdout)).set_index(["baseline", "level", "metric"])
    assert set(table.index.get_level_values(0)) == {"k-NN", "logistic"}
    assert set(table.index.get_level_values(1)) == {"view", "study"}
    assert table["value"]["logistic", "view", "auroc"] > 0.9
    assert (table["low"].dropna() <= table["value"].dropna()).all()


def test_probe_needs_weights(tmp_path):
    found = CliRunner().invoke(app, ["probe", "--data", str(tmp_path)])
    assert found.exit_code == 2
    assert "--weights" in found.output
