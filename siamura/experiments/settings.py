"""What an experiment is: every setting that its figures depend on, as one frozen record."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self, cast, get_args

from siamura._names import LOSS_SETTINGS, PARTS
from siamura._validation import check_choice, check_number, check_whole
from siamura.training.options import option

if TYPE_CHECKING:
    from siamura.pixels import Preprocess

__all__ = ["ClassifierExperiment", "Experiment", "LossName"]

Fit = Literal["letterbox", "squash", "crop"]
LossName = Literal["triplet", "batch_hard", "semi_hard", "triplet_focal", "selectively_contrastive"]


class _NotGiven(float):
    """A default that is known as such: a setting that the loss does not have may not be given, even with it."""


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


class _Settings:
    """JSON both ways and checks, for a frozen record of settings."""

    size: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, ready for JSON."""
        return {name: _plain(value) for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave.

        Raises
        ------
        ValueError
            If a name is no setting of an experiment, or a value is none for it.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"the settings are a {type(values).__name__}; give names and their values.")
        defaults = {f.name: f.default for f in fields(cast("Any", cls))}
        if unknown := sorted(set(values) - set(defaults), key=str):
            raise ValueError(f"an experiment has no setting {unknown[0]!r}; it has {', '.join(defaults)}.")
        given = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
            # What was stored may hold the defaults of settings that the loss does not have.
            if not (isinstance(defaults[name], _NotGiven) and value == defaults[name])
        }
        return cls(**given)

    def to_json(self) -> str:
        """The settings as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` gave."""
        return cls.from_dict(json.loads(text))

    def _check_whole(self, *names: str) -> None:
        for name in names:
            value = check_whole(name, getattr(self, name))
            check_whole(name, value, most=_MOST)

    def _check_text(self, *names: str) -> None:
        for name in names:
            if not (isinstance(value := getattr(self, name), str) and value):
                raise ValueError(f"{name}={value!r} must be a text that is not empty.")

    def _check_flags(self, *names: str) -> None:
        for name in names:
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name}={value!r} must be True or False.")

    def _check_paths(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
            elif not (value is None or isinstance(value, str)):
                raise ValueError(f"{name}={value!r} must be a path, or None.")

    def _check_size_and_seed(self) -> None:
        if not (isinstance(self.size, int) and 32 <= self.size <= 4096):
            raise ValueError(
                f"size={self.size!r}: the trunks halve an image five times, so size must be at least 32."
                if isinstance(self.size, int) and self.size < 32
                else f"size={self.size!r} must be a whole number from 32 to 4096."
            )
        if not (isinstance(self.seed, int) and 0 <= self.seed < 2**63):
            raise ValueError(f"seed={self.seed!r} must be a whole number, not negative and below 2**63.")


def columns_of(text: str | None) -> dict[str, str] | None:
    """Read ``"file=path,finding=label"``: a table's names to siamura's.

    Examples
    --------
    >>> columns_of("file=path, finding=label")
    {'file': 'path', 'finding': 'label'}
    """
    if text is None:
        return None
    pairs = [[side.strip() for side in pair.split("=")] for pair in text.split(",")]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise ValueError(f"columns={text!r} must be names and their meaning, as in file=path,finding=label.")
    return dict(pairs)


_MOST = 2**31 - 1  # of a count: what PyTorch and FAISS take


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return float(value) if isinstance(value, _NotGiven) else value


@dataclass(frozen=True)
class Experiment(_Settings):
    """The settings of system A: radiographs to an embedding, a classification and figures.

    Two equal experiments on the same files give the same figures on the same machine.

    Parameters
    ----------
    data : str or None
        What `siamura.read_studies` reads: MURA or its parent, a table of one's own (CSV, Excel, Parquet), a folder of
        classes, or DICOM; None draws phantoms.
    columns : str or None
        Of a table, its names to siamura's: ``"file=path,finding=label,region=part"``.
    positive : str or None
        The label that means abnormal, where it is no usual word for it; several with commas between.
    part : str
        A part found in the data, such as ``XR_FINGER`` or ``finger``; where the data name none, that of all.
    views : int
        How many phantom views are drawn, where `data` is None.
    trunk : str
        A trunk of `siamura.EmbeddingNet`.
    dim : int
        Dimensions of the embedding.
    weights : str or None
        None (from scratch), ``"imagenet"`` or a file of weights.
    loss : {"triplet", "batch_hard", "semi_hard", "triplet_focal", "selectively_contrastive"}
        The training loss.
    margin, sigma : float
        Margin of the triplet losses (in exp units for the focal one) and scale of the focal one. A loss that has no
        such setting refuses it.
    size : int
        Side of the square that the network sees, in pixels.
    fit : {"letterbox", "squash", "crop"}
        How an image becomes square.
    clahe : bool
        CLAHE on the lightness.
    clip_limit : float
        Of CLAHE, on OpenCV's scale.
    tiles : int
        Of CLAHE, along each side.
    epochs, steps : int or None
        Length of the training; where both are given, the one that ends first.
    p, k : int
        Labels in a batch, and images of each.
    lr : float
        Highest learning rate.
    accumulate, ema, keep_best, patience, precision, workers
        Of `siamura.fit`; with `keep_best` or `patience` it validates once an epoch.
    device : str
        Where it computes: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
    augment : str
        A preset of `siamura.pixels.augmentation`.
    neighbours : int
        k of the k-NN head.
    seed : int
        For the phantoms, the weights, the sampler, the augmentation and the heads.

    Raises
    ------
    ValueError
        If a value is out of its range, with what would be right.

    Examples
    --------
    >>> Experiment.from_json(Experiment(dim=256).to_json()).dim
    256
    """

    data: str | None = _option(
        None,
        "MURA, a table (CSV, Excel, Parquet), a folder of classes or DICOM; without it phantoms are drawn.",
    )
    columns: str | None = _option(None, "Columns of a table, as in file=path,finding=label,region=part.")
    positive: str | None = _option(None, "Label that means abnormal; several with commas between.")
    part: str = _option("XR_FINGER", "Body part; any that the data has.")
    views: int = _option(800, "Phantom views to draw, where --data is not given.")
    trunk: str = _option("densenet169", "Trunk: densenet169, resnet50, any torchvision classifier.")
    dim: int = _option(128, "Dimensions of the embedding.")
    weights: str | None = _option(None, "Weights to start from: imagenet, or a file. None: from scratch.")
    loss: LossName = _option("triplet_focal", "Training loss.")
    margin: float = _option(_NotGiven(0.2), "Margin of the triplet losses.")
    sigma: float = _option(_NotGiven(1.0), "Sigma of the triplet focal loss.")
    size: int = _option(96, "Side of the square the network sees, in pixels.")
    fit: Fit = _option("letterbox", "How an image becomes square.")
    clahe: bool = _option(True, "CLAHE on the lightness.")
    clip_limit: float = _option(2.0, "Clip limit of CLAHE, on OpenCV's scale.")
    tiles: int = _option(8, "Tiles of CLAHE along each side.")
    epochs: int | None = _option(None, "Passes over the training images; with --steps, the shorter.")
    steps: int | None = _option(400, "Batches to train on.")
    p: int = _option(2, "Labels in a batch.")
    k: int = _option(16, "Images of each label in a batch.")
    lr: float = _option(1e-3, option("lr").text)
    accumulate: int = _option(1, option("accumulate").text)
    ema: float | None = _option(None, option("ema").text)
    keep_best: bool = _option(False, option("keep_best").text)
    patience: int | None = _option(None, option("patience").text)
    precision: str = _option("auto", "Numbers of the training: auto, 32, bf16 or fp16.")
    device: str = _option("auto", "Where it computes: auto, cpu, cuda or mps.")
    workers: int = _option(0, option("workers").text)
    augment: str = _option("flip", "Augmentation preset: none, flip, mura, keras, part.")
    neighbours: int = _option(15, "Neighbours that vote in the k-NN head.")
    seed: int = _option(0, "Seed of everything that is drawn at random.")

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, get_args(LossName))
        self._check_paths("data", "weights")
        self._check_text("part", "trunk", "augment")
        self._check_text(*(name for name in ("columns", "positive") if getattr(self, name) is not None))
        columns_of(self.columns)
        if self.data is None and (self.columns or self.positive):
            raise ValueError("columns and positive are of data=, which is not given.")
        self._check_flags("clahe", "keep_best")
        check_choice("fit", self.fit, get_args(Fit))
        check_choice("precision", self.precision, ("auto", "32", "bf16", "fp16"))
        check_choice("device", self.device, ("auto", "cpu", "cuda", "mps"))
        self._check_whole("tiles", "accumulate")
        check_whole("workers", self.workers, least=0, most=1024)
        if self.patience is not None:
            self._check_whole("patience")
        if self.ema is not None:
            check_number("ema", self.ema, above=0, below=1)
        check_number("clip_limit", self.clip_limit, least=1, most=1000)
        for name, default in (("clip_limit", 2.0), ("tiles", 8)):
            if not self.clahe and getattr(self, name) != default:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} does nothing with clahe=False; leave it out."
                )
        self._check_whole("views", "dim", "neighbours")
        self._check_whole(*(name for name in ("epochs", "steps") if getattr(self, name) is not None))
        if self.p != 2:
            raise ValueError(
                f"p={self.p!r}: the studies have two labels, normal and abnormal, so p must be 2."
            )
        if not (isinstance(self.k, int) and 2 <= self.k <= _MOST):
            raise ValueError(
                f"k={self.k!r}: an anchor needs another image of its label, so k must be at least 2."
            )
        if self.epochs is None and self.steps is None:
            raise ValueError(
                "epochs and steps are both None; give the length of the training in one of them."
            )
        for name in ("lr", "margin", "sigma"):
            check_number(name, getattr(self, name), above=0)
        for name in ("margin", "sigma"):
            if name not in LOSS_SETTINGS[self.loss] and not isinstance(getattr(self, name), _NotGiven):
                having = ", ".join(loss for loss, names in LOSS_SETTINGS.items() if name in names)
                raise ValueError(
                    f"{name}={getattr(self, name)!r} does nothing with loss={self.loss!r}; leave it out, or choose a "
                    f"loss that has it: {having}."
                )
        self._check_size_and_seed()

    def preprocess(self) -> Preprocess:
        """What an image goes through before the network."""
        from siamura.pixels import CLAHE, Preprocess

        clahe = CLAHE(self.clip_limit, (self.tiles, self.tiles)) if self.clahe else None
        return Preprocess(self.size, clahe, "center_crop" if self.fit == "crop" else self.fit)

    @property
    def accelerator(self) -> str:
        """The device as Lightning names it."""
        return "gpu" if self.device == "cuda" else self.device

    def training(self, valid: Any = None) -> dict[str, Any]:
        """The settings as keywords of `siamura.fit`; `valid` is the data set to validate on, where that is wanted."""
        names = (
            "epochs", "steps", "lr", "augment", "seed", "accumulate", "ema", "keep_best", "patience", "precision",
            "workers",
        )  # fmt: skip
        found = {name: getattr(self, name) for name in names}
        found["accelerator"] = self.accelerator
        if self.keep_best or self.patience is not None:
            found["valid"] = valid
        return found


@dataclass(frozen=True)
class ClassifierExperiment(_Settings):
    """The settings of one supervised classifier.

    Parameters
    ----------
    trunk, top : str
        A trunk, and a top of `siamura.networks.TOPS`.
    parts : tuple of str
        Body parts that are trained on together.
    data : str or None
        A MURA folder; None draws phantoms.
    views : int
        Phantom views a part.
    size : int
        Side of the square, pixels.
    equalise : bool
        Histogram equalisation (system D).
    frozen : bool
        Whether the trunk keeps its weights in the first `epochs`.
    tune_epochs : int
        Epochs after them in which all layers from `tune_from` on learn, at a tenth of `lr`.
    tune_from : float or str
        A layer's name, or the share of layers that stay frozen.
    weights : str or None
        None, ``"imagenet"`` or a file.
    epochs, batch, lr, optimizer, schedule, patience
        Of `siamura.training.fit_classifier`.
    augment : str
        A preset of augmentations.
    weighted : bool
        The MURA paper's weights of the two classes in each part.
    seed : int

    Raises
    ------
    ValueError
        If a value is out of its range, with what would be right.

    Examples
    --------
    >>> settings = ClassifierExperiment(trunk="resnet18", parts=("XR_HAND", "XR_WRIST"), epochs=2)
    >>> ClassifierExperiment.from_json(settings.to_json()) == settings
    True
    >>> ClassifierExperiment(size=16)
    Traceback (most recent call last):
    ValueError: size=16: the trunks halve an image five times, so size must be at least 32.
    """

    trunk: str = "densenet169"
    top: str = "mura"
    parts: tuple[str, ...] = PARTS
    data: str | None = None
    views: int = 160
    size: int = 224
    equalise: bool = False
    frozen: bool = False
    tune_epochs: int = 0
    tune_from: float | str = 0.0
    weights: str | None = None
    epochs: int = 10
    batch: int = 32
    lr: float = 1e-3
    optimizer: str = "adam"
    schedule: str = "constant"
    patience: int | None = None
    augment: str = "none"
    weighted: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        named = isinstance(self.parts, tuple) and self.parts and all(isinstance(p, str) for p in self.parts)
        if not named:
            raise ValueError(
                f"parts={self.parts!r} must be a tuple of at least one part, as in ('XR_HAND',)."
            )
        self._check_paths("data", "weights")
        self._check_text("trunk", "top", "optimizer", "schedule", "augment")
        self._check_flags("equalise", "frozen", "weighted")
        self._check_whole("views", "epochs", "batch")
        if self.patience is not None:
            self._check_whole("patience")
        if not (isinstance(self.tune_epochs, int) and 0 <= self.tune_epochs <= _MOST):
            raise ValueError(f"tune_epochs={self.tune_epochs!r} must not be negative, and a whole number.")
        if not isinstance(self.tune_from, str):
            check_number("tune_from", self.tune_from, least=0, most=1)
        if self.tune_from != 0 and not self.tune_epochs:
            raise ValueError(
                f"tune_from={self.tune_from!r} does nothing with tune_epochs=0; leave it out, or give tune_epochs."
            )
        check_number("lr", self.lr, above=0)
        self._check_size_and_seed()
