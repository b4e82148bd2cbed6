"""What an experiment is: every setting that its figures depend on, as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from siamura import pixels
from siamura._names import LOSS_SETTINGS
from siamura._validation import check_choice, check_number, check_whole
from siamura.training.options import option

from ._settings import MOST, NotGiven, SettingsBase, check_operating, columns_of, parts_of, setting

__all__ = ["Experiment", "LossName", "columns_of", "parts_of"]

Fit = Literal["letterbox", "squash", "crop"]
Calibration = Literal["temperature", "isotonic", "none"]
LOGGERS = ("csv", "tensorboard", "mlflow", "wandb")
LossName = Literal["triplet", "batch_hard", "semi_hard", "triplet_focal", "selectively_contrastive"]


@dataclass(frozen=True)
class Experiment(SettingsBase):
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
    classes : str or None
        All labels in the order of their codes, with commas between; by default the data's own, of any number.
    ordered : bool or None
        Whether three labels or more are grades in order; by default numbers are.
    part : str
        A part found in the data, such as ``XR_FINGER`` or ``finger``, several with commas between, or ``all``; where
        the data name none, that of all. The images of a batch are then of one part, as far as each has the labels.
    lesions : str or None
        A file of boxes around lesions as `siamura.studies.read_boxes` reads it (file, x0, y0, x1, y1): the network
        learns from those of training views where findings are, and the report compares the heat maps of validation
        views with theirs.
    locate : float or None
        Of `siamura.fit`; by default 6 with `lesions`, and 0 leaves the boxes of training views out.
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
        Labels in a batch, from 2 to as many as the data have, and images of each.
    lr : float
        Highest learning rate.
    classify, head_first, trunk_lr, weight_decay : float, int or None
        Of `siamura.fit`. By default as `recipe` says: a joint objective, in which hard losses train at once;
        with weights given, on a trunk whose first half is kept (docs/real_bones.md).
    class_balance : float or None
        How the classes share a batch of P times K images: 1 for K of each, 0 for as many as in the training data. By
        default 0.25 with weights given where a batch holds every class, else 1 (docs/real_bones.md).
    train_from : str or None
        Of the trunk: see `Trunk.unfreeze`, and `Trunk.block_at` for a share.
    dropout : float or None
        Of `EmbeddingNet`.
    drop_path : float or None
        Of `siamura.fit`, which by default takes 0.2 with weights given, where the trunk has residual blocks.
    accumulate, ema, keep_best, patience, start_size, recompute, precision, workers
        Of `siamura.fit`; with `keep_best` or `patience` it validates once an epoch, on the patients held back
        (`calibration_share`).
    logger : str or None
        A further record of the training in the run folder, by Lightning: ``"csv"``, ``"tensorboard"``, ``"mlflow"`` or
        ``"wandb"``.
    device : str
        Where it computes: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
    augment : str
        A preset of `siamura.pixels.augmentation`.
    neighbours : int
        k of the k-NN head.
    sensitivity : float
        Share of the positive studies that the operating point is to find, above 0 and at most 1; of two classes.
    calibration : {"temperature", "isotonic", "none"}
        How probabilities are calibrated; isotonic is for two classes.
    calibration_share : float
        Share of the training patients on whom the network does not train, 0 to 0.5: operating point and calibration
        are fitted on them. With 0, or too few patients, heads are fitted again on parts of the training patients,
        whose probabilities are then too good, since the network has seen them.
    seed : int
        For the weights, the sampler, the augmentation and the heads.
    data_seed : int or None
        For what the run's data are: the phantoms, a split that has to be made, the training patients held back, and
        the baselines, which rest on the data alone. By default `seed`; trainings with different seeds on the same
        patients share it, as `run_seeds` sees to.

    Raises
    ------
    ValueError
        If a value is out of its range, with what would be right.

    Examples
    --------
    >>> Experiment.from_json(Experiment(dim=256).to_json()).dim
    256
    """

    data: str | None = setting(
        None,
        "MURA, a table (CSV, Excel, Parquet), a folder of classes or DICOM; without it phantoms are drawn.",
    )
    columns: str | None = setting(None, "Columns of a table, as in file=path,finding=label,region=part.")
    positive: str | None = setting(None, "Label that means abnormal; several with commas between.")
    classes: str | None = setting(None, "All labels in the order of their codes, with commas between.")
    ordered: bool | None = setting(None, "Whether three labels or more are grades in order.")
    part: str = setting("XR_FINGER", "Body part; give it again for several, or all.")
    lesions: str | None = setting(
        None,
        "Boxes around lesions (file, x0, y0, x1, y1): those of training views teach the network where findings are, "
        "with those of validation views the heat maps are compared.",
    )
    locate: float | None = setting(
        None,
        "Weight of where findings are in the training; by default 6 with --lesions, and 0 leaves it out.",
    )
    views: int = setting(800, "Phantom views to draw, where --data is not given.")
    trunk: str = setting("densenet169", "Trunk: densenet169, resnet50, any torchvision classifier.")
    dim: int = setting(128, "Dimensions of the embedding.")
    weights: str | None = setting(None, "Weights to start from: imagenet, or a file. None: from scratch.")
    loss: LossName = setting("triplet_focal", "Training loss.")
    margin: float = setting(NotGiven(0.2), "Margin of the triplet losses.")
    sigma: float = setting(NotGiven(1.0), "Sigma of the triplet focal loss.")
    size: int = setting(96, "Side of the square the network sees, in pixels.")
    fit: Fit = setting("letterbox", "How an image becomes square.")
    clahe: bool = setting(True, "CLAHE on the lightness.")
    clip_limit: float = setting(2.0, "Clip limit of CLAHE, on OpenCV's scale.")
    tiles: int = setting(8, "Tiles of CLAHE along each side.")
    epochs: int | None = setting(None, "Passes over the training images; with --steps, the shorter.")
    steps: int | None = setting(400, "Batches to train on.")
    p: int = setting(2, "Labels in a batch.")
    k: int = setting(16, "Images of each label in a batch.")
    class_balance: float | None = setting(
        None,
        "How the classes share a batch: 1 for K images of each, 0 for as many as in the training data; by default 0.25 "
        "with --weights where a batch holds every class, else 1.",
    )
    lr: float = setting(1e-3, option("lr").text)
    classify: float | None = setting(
        None, "Weight of a cross-entropy beside the loss; by default 1, and 0 trains on the loss alone."
    )
    head_first: int | None = setting(
        None, "Steps of the head alone before the run, on frozen features; by default 0."
    )
    train_from: str | None = setting(
        None,
        "First block of the trunk that learns, as in blocks.4 or layer3, or the share of layers that stay frozen, "
        "as in 0.5; by default 0.5 with --weights, else 0.",
    )
    trunk_lr: float | None = setting(
        None, "Highest rate of the trunk; by default 0.3 times --lr with --weights, else --lr."
    )
    dropout: float | None = setting(
        None, "Dropout before the embedding layer; by default 0.2 with --weights, else 0."
    )
    drop_path: float | None = setting(
        None,
        "Probability with which the trunk's last residual block is passed over for an image (stochastic depth); by "
        "default 0.2 with --weights, where the trunk has such blocks and no rate of its own.",
    )
    weight_decay: float | None = setting(None, "Weight decay; by default 0.05 with --weights, else 0.01.")
    accumulate: int = setting(1, option("accumulate").text)
    ema: float | None = setting(None, option("ema").text)
    keep_best: bool = setting(False, option("keep_best").text)
    patience: int | None = setting(None, option("patience").text)
    start_size: int | None = setting(None, option("start_size").text)
    recompute: bool = setting(False, option("recompute").text)
    precision: str = setting("auto", "Numbers of the training: auto, 32, bf16 or fp16.")
    logger: str | None = setting(
        None,
        "Further record of the training in the run folder: csv; tensorboard (pip install siamura[tensorboard]); mlflow "
        "or wandb (each needs its own package; wandb writes to its service unless WANDB_MODE=offline).",
    )
    device: str = setting("auto", "Where it computes: auto, cpu, cuda or mps.")
    workers: int = setting(0, option("workers").text)
    augment: str = setting("flip", "Augmentation preset: none, flip, mura, keras, part.")
    neighbours: int = setting(15, "Neighbours that vote in the k-NN head.")
    sensitivity: float = setting(0.9, "Share of the positive studies that the operating point is to find.")
    calibration: Calibration = setting("temperature", "How probabilities are calibrated.")
    calibration_share: float = setting(
        0.2, "Share of the training patients held back from the network, for operating point and calibration."
    )
    seed: int = setting(0, "Seed of everything that is drawn at random.")
    data_seed: int | None = setting(
        None, "Seed of phantoms, split and held-back patients; by default --seed."
    )

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, get_args(LossName))
        self._check_paths("data", "weights", "lesions")
        self._check_text("part", "trunk", "augment")
        names = ("columns", "positive", "classes", "ordered", "lesions")
        own = [name for name in names if getattr(self, name) is not None]
        self._check_text(*(name for name in own if name != "ordered"))
        columns_of(self.columns)
        if self.data is None and own:
            raise ValueError(
                "columns, positive, classes, ordered and lesions are of data=, which is not given."
            )
        if self.locate is not None and self.lesions is None:
            raise ValueError(
                f"locate={self.locate!r} does nothing without lesions; give that too, or leave it out."
            )
        if self.positive is not None and self.classes is not None:
            raise ValueError(
                "positive and classes exclude each other: of two classes the second is positive."
            )
        if self.ordered is not None:
            self._check_flags("ordered")
        if parts_of(self.part) == ():
            raise ValueError(f"part={self.part!r} names no part.")
        if self.logger is not None:
            check_choice("logger", self.logger, LOGGERS)
        self._check_flags("clahe", "keep_best", "recompute")
        if self.start_size is not None:
            check_whole("start_size", self.start_size, least=32, most=self.size - 1)
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
        check_operating(self.sensitivity, self.calibration, self.calibration_share)
        self._check_whole("views", "dim", "neighbours")
        self._check_whole(*(name for name in ("epochs", "steps") if getattr(self, name) is not None))
        check_whole("p", self.p, least=2, most=MOST)
        if not (isinstance(self.k, int) and 2 <= self.k <= MOST):
            raise ValueError(
                f"k={self.k!r}: an anchor needs another image of its label, so k must be at least 2."
            )
        if self.epochs is None and self.steps is None:
            raise ValueError(
                "epochs and steps are both None; give the length of the training in one of them."
            )
        for name in ("lr", "margin", "sigma"):
            check_number(name, getattr(self, name), above=0)
        self._check_recipe()
        for name in ("margin", "sigma"):
            if name not in LOSS_SETTINGS[self.loss] and not isinstance(getattr(self, name), NotGiven):
                having = ", ".join(loss for loss, names in LOSS_SETTINGS.items() if name in names)
                raise ValueError(
                    f"{name}={getattr(self, name)!r} does nothing with loss={self.loss!r}; leave it out, or choose a "
                    f"loss that has it: {having}."
                )
        self._check_size_and_seed()

    def _check_recipe(self) -> None:
        for name in ("classify", "weight_decay", "locate"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), least=0)
        if self.class_balance is not None:
            check_number("class_balance", self.class_balance, least=0, most=1)
        if self.head_first is not None:
            check_whole("head_first", self.head_first, least=0, most=MOST)
        if self.trunk_lr is not None:
            check_number("trunk_lr", self.trunk_lr, above=0)
        for name in ("dropout", "drop_path"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), least=0, below=1)
        if self.train_from is not None:
            self._check_text("train_from")
            if (share := _share_of(self.train_from)) is not None:
                check_number("train_from", share, least=0, below=1)

    def recipe(self) -> dict[str, Any]:
        """How the network is trained, with what was left out settled.

        Returns
        -------
        dict
            ``classify``, ``head_first``, ``class_balance``, ``train_from``, ``trunk_lr``, ``dropout``,
            ``weight_decay``, and with `lesions` ``locate``.

        Examples
        --------
        >>> Experiment().recipe()["train_from"], Experiment(weights="imagenet").recipe()["train_from"]
        (0.0, 0.5)
        """
        given = self.weights is not None
        settled: dict[str, Any] = {
            "classify": 1.0,
            "head_first": 0,
            "class_balance": 0.25 if given else 1.0,
            "train_from": 0.5 if given else 0.0,
            "trunk_lr": 0.3 * self.lr if given else self.lr,
            "dropout": 0.2 if given else 0.0,
            "weight_decay": 0.05 if given else 0.01,
        }
        if self.lesions is not None:
            settled["locate"] = 6.0
        own = {name: getattr(self, name) for name in settled if getattr(self, name) is not None}
        if "train_from" in own and (share := _share_of(own["train_from"])) is not None:
            own["train_from"] = share
        return settled | own

    def preprocess(self) -> pixels.Preprocess:
        """What an image goes through before the network."""
        clahe = pixels.CLAHE(self.clip_limit, (self.tiles, self.tiles)) if self.clahe else None
        return pixels.Preprocess(self.size, clahe, "center_crop" if self.fit == "crop" else self.fit)

    @property
    def seed_of_data(self) -> int:
        """The seed of the phantoms, the split, the held-back patients and the baselines."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def accelerator(self) -> str:
        """The device as Lightning names it."""
        return "gpu" if self.device == "cuda" else self.device

    def training(self, valid: Any = None, boxes: Any = None) -> dict[str, Any]:
        """The settings as keywords of `siamura.fit`.

        Parameters
        ----------
        valid : Dataset, optional
            To validate on, where that is wanted.
        boxes : DataFrame, optional
            Of training views, where there are some: ``boxes`` of what `load_data` gives.
        """
        names = (
            "epochs", "steps", "lr", "augment", "seed", "accumulate", "ema", "keep_best", "patience", "precision",
            "start_size", "recompute", "drop_path", "workers",
        )  # fmt: skip
        found = {name: getattr(self, name) for name in names}
        recipe = self.recipe()
        found |= {name: recipe[name] for name in ("classify", "head_first", "trunk_lr", "weight_decay")}
        found["accelerator"] = self.accelerator
        if boxes is not None:
            found |= {"lesions": boxes, "locate": recipe["locate"]}
        if self.logger is not None:
            found["loggers"] = (self.logger,)
        if self.keep_best or self.patience is not None:
            found["valid"] = valid
        return found


def _share_of(text: str) -> float | None:
    """The share that a text names; None where it names a block."""
    try:
        return float(text)
    except ValueError:
        return None
