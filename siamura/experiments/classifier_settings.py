"""What a supervised classifier's experiment is, as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass

from siamura._names import PARTS
from siamura._validation import check_number

from ._settings import MOST, SettingsBase, check_operating
from .settings import Calibration

__all__ = ["ClassifierExperiment"]


@dataclass(frozen=True)
class ClassifierExperiment(SettingsBase):
    """The settings of one supervised classifier.

    Parameters
    ----------
    trunk, top : str
        A trunk, and a top of `siamura.networks.TOPS`.
    parts : tuple of str
        Body parts that are trained on together.
    data, columns, positive : str or None
        As of `Experiment`; two labels.
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
    sensitivity, calibration, calibration_share
        As of `Experiment`; with ``calibration_share=0``, as the published systems were trained, there is no operating
        point, since every training patient was trained on.
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
    columns: str | None = None
    positive: str | None = None
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
    sensitivity: float = 0.9
    calibration: Calibration = "temperature"
    calibration_share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        named = isinstance(self.parts, tuple) and self.parts and all(isinstance(p, str) for p in self.parts)
        if not named:
            raise ValueError(
                f"parts={self.parts!r} must be a tuple of at least one part, as in ('XR_HAND',)."
            )
        self._check_paths("data", "weights")
        self._check_text("trunk", "top", "optimizer", "schedule", "augment")
        if self.data is None and (self.columns or self.positive):
            raise ValueError("columns and positive are of data=, which is not given.")
        self._check_flags("equalise", "frozen", "weighted")
        check_operating(self.sensitivity, self.calibration, self.calibration_share)
        self._check_whole("views", "epochs", "batch")
        if self.patience is not None:
            self._check_whole("patience")
        if not (isinstance(self.tune_epochs, int) and 0 <= self.tune_epochs <= MOST):
            raise ValueError(f"tune_epochs={self.tune_epochs!r} must not be negative, and a whole number.")
        if not isinstance(self.tune_from, str):
            check_number("tune_from", self.tune_from, least=0, most=1)
        if self.tune_from != 0 and not self.tune_epochs:
            raise ValueError(
                f"tune_from={self.tune_from!r} does nothing with tune_epochs=0; leave it out, or give tune_epochs."
            )
        check_number("lr", self.lr, above=0)
        self._check_size_and_seed()
