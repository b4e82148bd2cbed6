"""The options of `fit` and `fit_classifier`: name, type, default, range and meaning of each, once."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from .typed_options import Option, described

if TYPE_CHECKING:  # the command line takes descriptions from here, and should not wait for torch
    import lightning.pytorch as pl
    import numpy.typing as npt
    import pandas as pd
    from torch import nn
    from torch.utils.data import Dataset

    from .data import Augment

__all__ = ["ClassifierOptions", "FitOptions", "TrainingOptions", "option"]

OPTIMISERS = ("adamw", "adam", "sgd")
SCHEDULES = ("onecycle", "cosine", "constant", "plateau")
PRECISIONS = ("auto", "32", "bf16", "fp16")


_KEEP_BEST = (
    "End with the weights of the best validation instead of the last ones. `fit` of a network whose trunk was given "
    "weights measures first that trunk with a head trained on it alone (200 steps, or ``head_first``), and ends with "
    "it where nothing is better."
)


class TrainingOptions(TypedDict, total=False):
    """What `fit` and `fit_classifier` share."""

    epochs: Annotated[
        int | None, Option(None, "Passes over the batches; with `steps`, whichever ends first.", least=1)
    ]
    steps: Annotated[int | None, Option(None, "Batches to train on; see `epochs`.", least=1)]
    valid: Annotated[
        "Dataset[Any] | None", Option(None, "Measured on the fly, by other patients.", "Dataset, optional")
    ]
    out: Annotated[
        str | os.PathLike[str] | None,
        Option(
            None,
            "Run folder: history.csv, model/ (see `save_pretrained`) and checkpoint.ckpt are written there.",
            "path, optional",
        ),
    ]
    lr: Annotated[float, Option(1e-3, "Highest learning rate.", above=0)]
    seed: Annotated[
        int,
        Option(
            0,
            "Of augmentation and dropout; the sampler has its own. Global random states are left alone.",
            least=0,
        ),
    ]
    augment: Annotated[
        "str | Augment | None",
        Option(
            None,
            '``"flip"``, another preset of `siamura.pixels.augmentation`, or a function of (images uint8 '
            "(B, 1, S, S), torch.Generator). By default the data set's own, where it has one.",
            "None, str or callable",
        ),
    ]
    optimizer: Annotated[
        str, Option("adamw", "Decoupled or coupled weight decay, or momentum 0.9.", choices=OPTIMISERS)
    ]
    schedule: Annotated[
        str,
        Option(
            "onecycle",
            "``onecycle`` rises for `lr_warmup` of the run and falls to nothing (Smith and Topin, 2018), ``cosine`` "
            "the same with a linear rise, ``plateau`` divides by ten after 3 validations without a better one.",
            choices=SCHEDULES,
        ),
    ]
    lr_warmup: Annotated[
        float,
        Option(
            0.3,
            "Share of the run in which the rate rises.",
            least=0,
            most=1,
            remedy="It is a share of the run.",
        ),
    ]
    weight_decay: Annotated[
        float, Option(0.01, "Not on biases, norms, class tokens and position embeddings.", least=0)
    ]
    trunk_lr: Annotated[
        float | None,
        Option(
            None,
            "Highest rate of the trunk, where it differs from the head's; ``net.trunk.freeze()`` keeps the trunk.",
            above=0,
            remedy="net.trunk.freeze() keeps the trunk.",
        ),
    ]
    layer_decay: Annotated[
        float,
        Option(
            1.0,
            "Each block of the trunk (`Trunk.blocks`) learns at this multiple of the rate of the block after it.",
            above=0,
            most=1,
        ),
    ]
    clip: Annotated[
        float | None,
        Option(
            None, "Largest norm of the gradient; None does not clip.", above=0, remedy="None does not clip."
        ),
    ]
    accumulate: Annotated[
        int,
        Option(
            1,
            "Batches whose gradients add up to one step of the optimiser. Triplets are mined within a batch.",
            least=1,
        ),
    ]
    ema: Annotated[
        float | None,
        Option(
            None,
            "Decay of a moving average of the weights, such as 0.999; it is validated and kept.",
            above=0,
            below=1,
        ),
    ]
    precision: Annotated[
        str,
        Option(
            "auto",
            '``"auto"`` is what makes a step fastest: bf16 autocast where the machine computes in it, but float32 '
            "for depthwise trunks (EfficientNet, MobileNet, ConvNeXt) on a CPU. It goes by the kind of network and "
            "machine, not by a stopwatch, so the same seed gives the same run. Distances and losses are always "
            "float32.",
            choices=PRECISIONS,
        ),
    ]
    channels_last: Annotated[
        bool | None,
        Option(
            None,
            "Memory layout; by default with half precision, and for depthwise trunks on a CPU. What was chosen is "
            "in the history's ``attrs``, and a resumed run keeps it.",
        ),
    ]
    compile: Annotated[
        bool,
        Option(False, "`torch.compile` the trunk: a minute or more at the start, for faster steps on a GPU."),
    ]
    freeze_batchnorm: Annotated[
        bool | None,
        Option(
            None,
            "Let the trunk's batch norms use and keep the statistics that they have, which a few small batches "
            "would spoil. By default where the trunk has been given weights.",
        ),
    ]
    drop_path: Annotated[
        float | None,
        Option(
            None,
            "Stochastic depth: probability with which the trunk's last residual block is passed over for an image, "
            "falling linearly towards the first; blocks that do not learn never are. By default what the trunk came "
            "with; in `fit` 0.2 where that is 0, weights were given and such blocks learn.",
            least=0,
            below=1,
        ),
    ]
    head_first: Annotated[
        int | float,
        Option(
            0,
            "Steps, or share of the run's, in which the head trains alone before the run, by the same loss, on "
            "features of the trunk that are computed once without augmentation and kept (at most 4 GiB). They are "
            'not among `steps` and leave no rows in the history; ``attrs["head_loss"]`` has their losses. Then all '
            "layers train, the trunk at `trunk_lr` with `layer_decay`.",
        ),
    ]
    cache_features: Annotated[
        bool | None,
        Option(
            None,
            "Compute once what frozen layers give, keep it (at most 4 GiB), and train the rest on it: the same "
            "steps, without most of their cost. `fit` does so for the trunk's frozen first layers "
            "(``net.trunk.unfreeze(...)``), in half precision, where the augmentation is at most mirroring; "
            "`fit_classifier` for a trunk that is frozen whole, without augmentation. By default where it can be done.",
        ),
    ]
    start_size: Annotated[
        int | None,
        Option(
            None,
            "Side of the images in the first steps, in pixels; it grows to that of the data over the first two thirds "
            "of the run, by 32 at a time (progressive resizing). The early steps cost less. Features of frozen layers "
            "are not kept then.",
            least=32,
        ),
    ]
    recompute: Annotated[
        bool,
        Option(
            False,
            "Compute the activations of each block of the trunk again in the backward pass instead of keeping them "
            "(gradient checkpointing): less memory, more time, the same gradients.",
        ),
    ]
    validate_every: Annotated[
        int | None,
        Option(
            None,
            "Steps between validations; by default an epoch, in `fit` at most five times a run. The last step is "
            "always measured.",
            least=1,
        ),
    ]
    patience: Annotated[
        int | None, Option(None, "Stop after so many validations without a better one.", least=1)
    ]
    checkpoint_every: Annotated[
        int | None, Option(100, "Steps between checkpoints in `out`; None writes none.", least=1)
    ]
    resume: Annotated[
        bool,
        Option(
            False,
            "Go on from the checkpoint in `out`, if there is one. On a CPU the end is bit-identical to that of a "
            "run that nothing interrupted, wherever it was killed.",
        ),
    ]
    loggers: Annotated[
        Sequence[Any],
        Option(
            (), '``"csv"``, ``"tensorboard"`` (extra ``[tensorboard]``), or Lightning loggers.', "sequence"
        ),
    ]
    callbacks: Annotated["Sequence[pl.Callback]", Option((), "Lightning callbacks.", "sequence")]
    workers: Annotated[
        int,
        Option(
            0,
            "Processes that load batches; 0 loads in this one, which is right for images held in memory.",
            least=0,
        ),
    ]
    accelerator: Annotated[
        str,
        Option(
            "auto",
            "Where to compute. Under torchrun or Slurm all processes train together, see docs/training.md.",
            '{"auto", "cpu", "cuda", "mps"}',
        ),
    ]
    progress: Annotated[bool, Option(True, "Show a progress bar.")]


class FitOptions(TrainingOptions, total=False):
    """What `fit` takes."""

    classify: Annotated[
        float,
        Option(
            0.0,
            "Weight of a cross-entropy beside the loss, by a classifier on the embedding (`EmbeddingNet.add_neck`), "
            "which is added where the network has none. The labels are then the codes 0 to C - 1. It keeps the "
            'embeddings apart, so that ``warmup_loss="auto"`` gives no start on all triplets.',
            least=0,
        ),
    ]

    lesions: Annotated[
        "str | os.PathLike[str] | pd.DataFrame | None",
        Option(
            None,
            "Boxes around lesions of some images, as `siamura.studies.read_boxes` takes them; the data is a "
            '`RadiographDataset` then, and the network has ``pool="located"``. Beside the loss it '
            "learns where a finding is: inside its boxes, anywhere in a view with a label above 0 and no box, nowhere "
            "in one with label 0 and none. An augmentation is applied to masks of the boxes too, with the same "
            "generator.",
            "path or DataFrame, optional",
        ),
    ]
    locate: Annotated[
        float,
        Option(
            6.0,
            "Weight of that loss (`siamura.losses.localisation_loss`, mean over the maps that are looked at).",
            above=0,
        ),
    ]
    warmup_loss: Annotated[
        "nn.Module | str | None",
        Option(
            "auto",
            "The loss of the first steps. From scratch, losses that mine hard triplets can stay at the margin for "
            'ever; ``"auto"`` gives batch hard, semi-hard and triplet focal a start on all triplets (`TripletLoss` '
            "with the same margin and distance; 0.2 for a soft margin, and on similarities the default distance), "
            "and others none; none beside a cross-entropy (`classify`).",
            'Module, "auto" or None',
        ),
    ]
    warmup_steps: Annotated[
        int | float | None,
        Option(
            None,
            "Steps, or share of the run, that this start takes. None lets the final loss take over as far as it can "
            "without collapsing: its weight grows while its running mean is below `warmup_until` times its value "
            "with all embeddings in one point (for most, the margin), and shrinks while it is above.",
            "int, float or None",
        ),
    ]
    warmup_until: Annotated[float, Option(0.9, "See `warmup_steps`.", least=0, most=1)]
    blend: Annotated[
        float,
        Option(
            0.5,
            "Where `warmup_steps` is given: its last share, over which the first loss gives way linearly. 0 "
            "switches.",
            least=0,
            most=1,
        ),
    ]
    monitor: Annotated[
        str,
        Option("valid_kappa", 'The column that `keep_best`, `patience` and ``schedule="plateau"`` go by.'),
    ]
    keep_best: Annotated[
        bool,
        Option(
            False,
            _KEEP_BEST,
        ),
    ]
    on_collapse: Annotated[
        str | None,
        Option(
            "warn",
            "What to do when all embeddings become one point; see `CollapseWatch`.",
            '{"warn", "act", "stop"} or None',
        ),
    ]


class ClassifierOptions(TrainingOptions, total=False):
    """What `fit_classifier` takes."""

    batch_size: Annotated[
        int,
        Option(32, "Images a step; shuffled each epoch, in batches of nearly equal size.", least=1),
    ]
    weights: Annotated[
        "npt.ArrayLike | str | None",
        Option(
            None,
            'Weight of each row in the loss; ``"part"`` is `study_weights` of ``data.table``.',
            'None, "part" or float (N,)',
        ),
    ]
    monitor: Annotated[
        str,
        Option("valid_accuracy", 'The column that `keep_best`, `patience` and ``schedule="plateau"`` go by.'),
    ]
    keep_best: Annotated[
        bool | None,
        Option(
            None,
            _KEEP_BEST,
            "bool, by default where there is `valid`",
        ),
    ]


def option(name: str, kind: type = FitOptions) -> Option:
    """Give the description of one option, for whoever offers it too.

    Examples
    --------
    >>> option("patience").text
    'Stop after so many validations without a better one.'
    """
    return next(about for found, _, about in described(kind) if found == name)
