"""Run folders that a stranger sent, or a full disk left: one sentence, status 2, and no large allocation."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from siamura.cli import app
from siamura.experiments import Run, load_run

DEEP = "[" * 200_000


@pytest.fixture
def copy(done: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done.folder, tmp_path / "run"))


def edited(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", DEEP),
        ("config.json", "[]"),
        ("config.json", "{}"),
        ("config.json", "\xff\xfe"),
        ("metrics.json", DEEP),
        ("metrics.json", "3"),
        ("history.csv", ""),
        ("history.csv", '"'),
    ],
)
def test_a_damaged_file_of_a_run_is_named(copy: Path, name: str, content: str) -> None:
    (copy / name).write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"is damaged") as error:
        load_run(copy)
    assert str(copy / name) in str(error.value)


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("experiment", "dim", 10**30),
        ("experiment", "dim", "128"),
        ("experiment", "size", 1e308),
        ("experiment", "steps", True),
        ("experiment", "neighbours", None),
        ("experiment", "trunk", {"a": 1}),
        ("experiment", "weights", 7),
        ("experiment", "loss", ["triplet"]),
        ("experiment", "lr", "fast"),
        ("experiment", "colour", "red"),
        ("data", "name", 5),
        ("data", "phantoms", "no"),
        ("data", "counts", {"train": {"views": "many"}}),
        ("data", "counts", [1]),
    ],
)
def test_unknown_and_huge_values_in_the_settings_are_refused(
    copy: Path, where: str, name: str, value: object
) -> None:
    edited(copy / "config.json", lambda config: config[where].update({name: value}))
    with pytest.raises(ValueError, match=name):
        load_run(copy)


@pytest.mark.parametrize("name", ["mlp/*.safetensors", "knn/head.npz", "model/*.safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 200])
def test_damaged_weights_are_named(copy: Path, name: str, keep: int) -> None:
    (file,) = copy.glob(name)
    file.write_bytes(file.read_bytes()[:keep] + b"\xff" * 40)
    run = load_run(copy)
    with pytest.raises(ValueError) as error:
        run.network() if name.startswith("model") else run.heads()
    assert str(file.parent) in str(error.value)


@pytest.mark.parametrize("place", ["model", "mlp", "knn"])
@pytest.mark.parametrize("content", [DEEP, "[]", "{}", '{"dim": 1e999}', "\x00"])
def test_damaged_settings_of_a_model_are_named(copy: Path, place: str, content: str) -> None:
    settings = copy / place / ("config.json" if place == "model" else "head.json")
    assert settings.is_file()
    settings.write_text(content, encoding="utf-8")
    run = load_run(copy)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        run.network() if place == "model" else run.heads()
    assert str(copy / place) in str(error.value)


def test_an_archive_that_expands_without_measure_is_refused(copy: Path) -> None:
    path = copy / "embeddings.npz"
    with np.load(path) as opened:
        stored = dict(opened)
    del stored["path"]
    np.savez_compressed(path, **stored)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("path.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<U400000", "fortran_order": False, "shape": (len(stored["label"]),)}
        )
        file.write(bytes(1_600_000 * len(stored["label"])))
    with pytest.raises(ValueError, match=r"embeddings\.npz: path would expand from .* to 153,600,000 bytes"):
        load_run(copy).embeddings()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_a_damaged_archive_is_named(copy: Path, content: bytes) -> None:
    (copy / "embeddings.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"embeddings\.npz: "):
        load_run(copy).embeddings()


def test_columns_of_different_lengths_and_missing_ones_are_refused(copy: Path) -> None:
    path = copy / "embeddings.npz"
    with np.load(path) as opened:
        stored = dict(opened)
    np.savez_compressed(path, **{**stored, "label": stored["label"][:-1]})
    with pytest.raises(ValueError, match="different lengths"):
        load_run(copy).embeddings()
    del stored["patient"]
    np.savez_compressed(path, **stored)
    with pytest.raises(ValueError, match="lacks 'patient'"):
        load_run(copy).embeddings()


READS = {
    "config.json": ("evaluate", "predict", "explain", "index", "search", "serve"),
    "model/config.json": ("evaluate", "predict", "explain", "index", "search", "serve"),
    "mlp/head.safetensors": ("predict", "explain", "serve"),
    "embeddings.npz": ("evaluate", "index", "serve"),
}


@pytest.mark.parametrize("name", READS)
def test_every_command_ends_with_a_sentence_and_status_2(done: Run, copy: Path, name: str) -> None:
    film = done.embeddings()[1]["path"].iloc[0]
    (copy / name).write_bytes(b'{"a": ' * 50_000)
    for command in READS[name]:
        more = {
            "predict": [film, "--head", "mlp"],
            "explain": [film],
            "index": [str(copy / "cases")],
            "search": [str(copy / "cases"), film],
        }.get(command, [])
        result = CliRunner().invoke(app, [command, str(copy), *more])
        assert result.exit_code == 2, (command, result.output)
        assert "Traceback" not in result.output
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("Error: ")
        assert str((copy / name).parent) in last, (command, last)
