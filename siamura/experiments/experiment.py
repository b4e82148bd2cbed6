"""What an experiment is: every setting that its figures depend on, as one frozen record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, cast, get_args

__all__ = ["PARTS", "ClassifierExperiment", "Experiment", "LossName"]

LossName = Literal["triplet", "batch_hard", "semi_hard", "triplet_focal", "selectively_contrastive"]


PARTS = ("XR_ELBOW", "XR_FINGER", "XR_FOREARM", "XR_HAND", "XR_HUMERUS", "XR_SHOULDER", "XR_WRIST")


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


class _Settings:
    """JSON both ways and checks, for a frozen record of settings."""

    size: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, ready for JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave.

        Raises
        ------
        ValueError
            If a name is no setting of an experiment.
        """
        known = [f.name for f in fields(cast("Any", cls))]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"an experiment has no setting {unknown[0]!r}; it has {', '.join(known)}.")
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})

    def to_json(self) -> str:
        """The settings as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` gave."""
        return cls.from_dict(json.loads(text))

    def _at_least_1(self, *names: str) -> None:
        for name in names:
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")

    def _above_0(self, *names: str) -> None:
        for name in names:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0.")

    def _check_size_and_seed(self) -> None:
        if self.size < 32:
            raise ValueError(
                f"size={self.size}: the trunks halve an image five times, so size must be at least 32."
            )
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative.")


@dataclass(frozen=True)
class Experiment(_Settings):
    """The settings of system A: radiographs to an embedding, a classification and figures.

    Two equal experiments on the same files give the same figures on the same machine.

    Parameters
    ----------
    data : str or None
        A MURA folder, or its parent; None draws phantoms.
    part : str
        A part found in the data, such as ``XR_FINGER``.
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
        Margin of the triplet losses (in exp units for the focal one) and scale of the focal one.
    size : int
        Side of the square that the network sees, in pixels.
    clahe : bool
        CLAHE on the lightness, clip limit 2, 8 x 8 tiles.
    epochs, steps : int or None
        Length of the training; where both are given, the one that ends first.
    p, k : int
        Labels in a batch, and images of each.
    lr : float
        Highest learning rate.
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

    data: str | None = _option(None, "MURA folder or its parent; without it phantoms are drawn and used.")
    part: str = _option("XR_FINGER", "Body part; any that the data has.")
    views: int = _option(800, "Phantom views to draw, where --data is not given.")
    trunk: str = _option("densenet169", "Trunk: densenet169, resnet50, any torchvision classifier.")
    dim: int = _option(128, "Dimensions of the embedding.")
    weights: str | None = _option(None, "Weights to start from: imagenet, or a file. None: from scratch.")
    loss: LossName = _option("triplet_focal", "Training loss.")
    margin: float = _option(0.2, "Margin of the triplet losses.")
    sigma: float = _option(1.0, "Sigma of the triplet focal loss.")
    size: int = _option(96, "Side of the square the network sees, in pixels.")
    clahe: bool = _option(True, "CLAHE on the lightness, clip limit 2, 8 x 8 tiles.")
    epochs: int | None = _option(None, "Passes over the training images; with --steps, the shorter.")
    steps: int | None = _option(400, "Batches to train on.")
    p: int = _option(2, "Labels in a batch.")
    k: int = _option(16, "Images of each label in a batch.")
    lr: float = _option(1e-3, "Highest learning rate.")
    augment: str = _option("flip", "Augmentation preset: none, flip, mura, keras, part.")
    neighbours: int = _option(15, "Neighbours that vote in the k-NN head.")
    seed: int = _option(0, "Seed of everything that is drawn at random.")

    def __post_init__(self) -> None:
        if self.loss not in get_args(LossName):
            raise ValueError(f"loss={self.loss!r} is unknown; choose one of {', '.join(get_args(LossName))}.")
        self._at_least_1("views", "dim", "k", "neighbours", "epochs", "steps")
        if self.p != 2:
            raise ValueError(f"p={self.p}: the studies have two labels, normal and abnormal, so p must be 2.")
        if self.k < 2:
            raise ValueError(
                f"k={self.k}: an anchor needs another image of its label, so k must be at least 2."
            )
        if self.epochs is None and self.steps is None:
            raise ValueError(
                "epochs and steps are both None; give the length of the training in one of them."
            )
        self._above_0("lr", "margin", "sigma")
        self._check_size_and_seed()


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
        if not (isinstance(self.parts, tuple) and self.parts):
            raise ValueError(
                f"parts={self.parts!r} must be a tuple of at least one part, as in ('XR_HAND',)."
            )
        self._at_least_1("views", "epochs", "batch", "patience")
        if self.tune_epochs < 0:
            raise ValueError(f"tune_epochs={self.tune_epochs} must not be negative.")
        self._above_0("lr")
        self._check_size_and_seed()
