"""What an experiment is: every setting that its figures depend on, as one frozen record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

__all__ = ["Experiment", "LossName"]

LossName = Literal["triplet", "batch_hard", "semi_hard", "triplet_focal", "selectively_contrastive"]


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Experiment:
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
        for name in ("views", "dim", "k", "neighbours"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.p != 2:
            raise ValueError(f"p={self.p}: the studies have two labels, normal and abnormal, so p must be 2.")
        if self.k < 2:
            raise ValueError(
                f"k={self.k}: an anchor needs another image of its label, so k must be at least 2."
            )
        if self.size < 32:
            raise ValueError(
                f"size={self.size}: the trunks halve an image five times, so size must be at least 32."
            )
        for name in ("epochs", "steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if self.epochs is None and self.steps is None:
            raise ValueError(
                "epochs and steps are both None; give the length of the training in one of them."
            )
        for name in ("lr", "margin", "sigma"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0.")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Experiment:
        """Read what `to_dict` gave.

        Raises
        ------
        ValueError
            If a name is no setting of an experiment.
        """
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"an experiment has no setting {unknown[0]!r}; it has {', '.join(known)}.")
        return cls(**values)

    def to_json(self) -> str:
        """The settings as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """Read what `to_json` gave."""
        return cls.from_dict(json.loads(text))
