"""The run folder: what a run leaves on disk, written once and read again by name."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import pandas as pd

import siamura
from siamura._files import atomic_write
from siamura._run_files import refuse_several, seed_folders
from siamura._stored import naming_damage, read_json
from siamura.inference import load_embeddings, load_heads, load_network

from .classifier_settings import ClassifierExperiment
from .settings import Experiment

if TYPE_CHECKING:
    import numpy.typing as npt

    from siamura.heads import KNNHead, MLPHead
    from siamura.networks import Classifier, EmbeddingNet

__all__ = [
    "ClassifierRun",
    "Run",
    "StoredRun",
    "finished_run",
    "load_classifier",
    "load_run",
    "open_folder",
    "versions",
    "write_json",
]

_log = logging.getLogger(__name__)

#: Everything a run writes. Only these are removed when an earlier run is replaced.
CONTENTS = (
    "config.json", "history.csv", "metrics.json", "embeddings.npz", "table.md", "report.html", "unreadable.csv",
    "model", "knn", "mlp", "checkpoint.ckpt", "predictions.csv",
    "figures.json", "losses.png", "accuracy.png", "embedding.png", "neighbours.png", "confusion.png", "roc.png",
    "precision_recall.png", "reliability.png", "parts.png", "counts.png", "clahe.png", "augmentation.png",
    "feature_maps.png", "decision_curve.png", "operating_point.json", "answers.npz", "attention",
)  # fmt: skip

_PACKAGES = (
    "siamura", "torch", "torchvision", "lightning", "pytorch-metric-learning", "faiss-cpu", "opencv-python",
    "numpy", "pandas", "scikit-learn", "umap-learn",
)  # fmt: skip


class Settings(Protocol):
    """An experiment of any kind."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave."""


@dataclass(frozen=True)
class StoredRun:
    """What every run folder holds.

    Parameters
    ----------
    folder : Path
        Where it lies.
    config : dict
        ``config.json``: settings, data, versions, status.
    metrics : dict
        ``metrics[split][level][head][metric]``, for example ``metrics["valid"]["study"]["knn"]["kappa"]``; beside
        the values of a head, ``interval`` holds ``{metric: [low, high]}``.
    history : pandas.DataFrame
        The training, one row a step.
    """

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    history: pd.DataFrame

    def table(self) -> str:
        """The measured figures beside the published ones, as Markdown."""
        return (self.folder / "table.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Run(StoredRun):
    """A finished run of system A: settings and figures; network, heads and embeddings on demand.

    Examples
    --------
    .. code-block:: python

        done = load_run("runs/first")
        vectors, table = done.embeddings()
        vectors.shape == (len(table), done.network().dim)
        # True
        done.heads()["knn"].predict_proba(vectors[:5]).shape
        # (5, 2)
    """

    experiment: Experiment

    def network(self) -> EmbeddingNet:
        """The trained network, with its preprocessing in ``.preprocess``."""
        return load_network(self.folder)

    def heads(self) -> dict[str, KNNHead | MLPHead]:
        """The fitted heads, by name: ``knn`` and ``mlp``."""
        return load_heads(self.folder)

    def embeddings(self) -> tuple[npt.NDArray[np.float32], pd.DataFrame]:
        """Embeddings, float32 (N, dim), and their rows as a study table."""
        return load_embeddings(self.folder)


@dataclass(frozen=True)
class ClassifierRun(StoredRun):
    """A finished classifier: folder, settings and figures (head ``classifier``), the network on demand.

    Examples
    --------
    .. code-block:: python

        done = load_classifier("runs/classifier")
        done.network().preprocess.size, done.config["status"]
        # (32, 'finished')
        len(done.predictions()) == sum(split["views"] for split in done.config["data"]["counts"].values())
        # True
    """

    experiment: ClassifierExperiment

    def network(self) -> Classifier:
        """The trained classifier, with its preprocessing."""
        from siamura.networks import Classifier  # here, as it loads torch

        with naming_damage(self.folder / "model"):
            return Classifier.from_pretrained(self.folder / "model")

    def predictions(self) -> pd.DataFrame:
        """The study table with ``probability``."""
        with naming_damage(self.folder / "predictions.csv"):
            return pd.read_csv(self.folder / "predictions.csv", dtype={"patient": str, "study": str})


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Read a run folder.

    Parameters
    ----------
    folder : path
        What `run` wrote.

    Returns
    -------
    Run

    Raises
    ------
    FileNotFoundError
        If the folder holds no finished run.
    ValueError
        If it holds a supervised classifier, or a file of it is damaged.

    Examples
    --------
    .. code-block:: python

        done = load_run("runs/first")
        sorted(done.heads())
        # ['knn', 'mlp']
        len(done.history) == done.experiment.steps
        # True
    """
    stored = read_folder(folder)
    if stored["config"].get("kind") == "classifier":
        raise ValueError(
            f"{folder} holds a supervised classifier, which has no embeddings; give a run of system A."
        )
    with naming_damage(Path(folder) / "config.json"):
        experiment = Experiment.from_dict(stored["config"]["experiment"])
    return Run(experiment=experiment, **stored)


def load_classifier(folder: str | os.PathLike[str]) -> ClassifierRun:
    """Read the run folder of a classifier; `FileNotFoundError` if it holds no finished one.

    Examples
    --------
    .. code-block:: python

        done = load_classifier("runs/classifier")
        done.experiment.parts
        # ('XR_FINGER',)
        sorted(done.metrics["valid"])
        # ['study', 'view']
    """
    stored = read_folder(folder)
    with naming_damage(Path(folder) / "config.json"):
        experiment = ClassifierExperiment.from_dict(stored["config"]["experiment"])
    return ClassifierRun(experiment=experiment, **stored)


def finished_run(folder: Path, experiment: Experiment | ClassifierExperiment) -> Run | ClassifierRun | None:
    """Read the run in a folder, if it is finished and has these settings; else None."""
    try:
        found = (load_run if isinstance(experiment, Experiment) else load_classifier)(folder)
    except (FileNotFoundError, ValueError):
        return None
    if found.config.get("status") != "finished" or found.experiment != experiment:
        return None
    _log.info("%s is finished and kept", folder)
    return found


def read_folder(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what every kind of run leaves: the fields of `StoredRun`."""
    folder = Path(folder)
    refuse_several(folder)
    missing = [
        n for n in ("config.json", "metrics.json", "history.csv", "model") if not (folder / n).exists()
    ]
    if missing:
        raise FileNotFoundError(
            f"{folder} holds no finished run: {missing[0]} is missing; run an experiment into it first."
        )
    with naming_damage(folder / "history.csv"):
        history = pd.read_csv(folder / "history.csv")
    config = read_json(folder / "config.json")
    with naming_damage(folder / "config.json"):
        _check_config(config)
    return {
        "folder": folder,
        "config": config,
        "metrics": read_json(folder / "metrics.json"),
        "history": history,
    }


def _check_config(config: dict[str, Any]) -> None:
    data = config.get("data")
    if not isinstance(data, dict) or not isinstance(config.get("experiment"), dict):
        raise ValueError("experiment and data must be objects")
    for name, kind in (("name", str), ("phantoms", bool), ("part", str), ("counts", dict)):
        if not isinstance(data.get(name), kind):
            raise ValueError(f"data.{name} must be of type {kind.__name__}")
    for split, counts in data["counts"].items():
        if not isinstance(counts, dict) or not all(isinstance(n, int) for n in counts.values()):
            raise ValueError(f"data.counts.{split} must hold whole numbers")


def open_folder(
    folder: str | os.PathLike[str], *, overwrite: bool = False, resume: Settings | None = None
) -> Path:
    """Make the run folder, empty it of an earlier run, or find one that was stopped.

    Parameters
    ----------
    folder : path
    overwrite : bool
        Whether an earlier run is removed.
    resume : an experiment, optional
        Go on with the stopped run in the folder, if it has these settings.

    Raises
    ------
    FileExistsError
        If it is in use and `overwrite` is false, or holds anything but a run.
    PermissionError
        If nothing can be written there.
    ValueError
        If the run to go on with has other settings.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose another run folder with --out.")
    if resume is not None and (folder / "config.json").is_file():
        config = read_json(folder / "config.json")
        earlier = config.get("experiment")
        if not isinstance(earlier, dict):
            raise ValueError(f"{folder / 'config.json'} is damaged (it names no experiment); start anew.")
        with naming_damage(folder / "config.json"):
            earlier = type(resume).from_dict(earlier).to_dict()  # an older run lacks some settings
        if differing := [name for name, value in resume.to_dict().items() if earlier[name] != value]:
            raise ValueError(
                f"{folder} was started with {differing[0]}={earlier.get(differing[0])!r}, not "
                f"{getattr(resume, differing[0])!r}; resume with its settings, or start anew with --overwrite."
            )
        # What an earlier version left out of its recipe, it did so: as many images of each class, no boxes.
        settled = {"class_balance": 1.0, "locate": 0.0} | (config.get("recipe") or {})
        now: dict[str, Any] = getattr(resume, "recipe", dict)()
        if differing := [name for name, value in now.items() if settled.get(name, value) != value]:
            raise ValueError(
                f"{folder} was started by an earlier siamura, whose {differing[0]} was {settled[differing[0]]!r} by "
                f"default; it is {now[differing[0]]!r} now. Start anew with --overwrite."
            )
    elif folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise FileExistsError(
                f"{folder} holds files already; choose another --out, or replace it with --overwrite."
            )
        if not (folder / "config.json").is_file() or seed_folders(folder):
            raise FileExistsError(f"{folder} holds files of something else than a run; choose another --out.")
        for name in CONTENTS:
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(13, "no permission to write; choose another run folder with --out", str(folder))
    return folder


def versions() -> dict[str, str]:
    """Versions of what the figures depend on, the machine's included."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["siamura"] = siamura.__version__  # an editable installation may hold an earlier one's metadata
    return found


def write_json(path: Path, content: object) -> None:
    """Write JSON at once: a reader never meets half of it."""
    atomic_write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_config(folder: Path, experiment: Settings, **facts: Any) -> dict[str, Any]:
    """Write ``config.json``: the settings, and everything needed to run them again."""
    config = {"experiment": experiment.to_dict(), "command": sys.argv, "versions": versions(), **facts}
    write_json(folder / "config.json", config)
    return config


def write_points(folder: Path, points: Mapping[str, Mapping[str, Any]], how: str) -> None:
    """Write ``operating_point.json``: how it was fitted, and the operating points by head and level."""
    kept = {head: {level: point.to_dict() for level, point in each.items()} for head, each in points.items()}
    if kept:
        write_json(folder / "operating_point.json", {"how": how, "heads": kept})


def write_embeddings(folder: Path, embeddings: npt.NDArray[np.float32], table: pd.DataFrame) -> None:
    """Write ``embeddings.npz``: the vectors and their rows' identities, without pickle."""
    columns: dict[str, Any] = {name: table[name].to_numpy(dtype=str) for name in _text_columns(table)}
    np.savez_compressed(
        folder / "embeddings.npz", embedding=embeddings, label=table["label"].to_numpy(np.int64), **columns
    )


def _text_columns(table: pd.DataFrame) -> list[str]:
    return [name for name in ("path", "part", "patient", "study", "split") if name in table]
