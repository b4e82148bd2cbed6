"""`fit_classifier`: train a trunk and a top on labels, for comparison with the metric."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

from siamura.networks import Classifier

from .data import Augment, ShuffledBatches, augmentation_of, check_valid, fetch, labels_of
from .distributed import gather_rows, rank_and_world
from .embedding import forward_rows
from .engine import RunSettings, run_training
from .growing import check_start_size
from .head_first import FEATURE_BYTES, FrozenTrunk, head_steps, train_head
from .machine import check_weights
from .metric import averaging_and_validation, run_length
from .module import Feed, TrainModule
from .neighbour_check import kappa
from .optimisers import OptimiserSettings
from .options import ClassifierOptions
from .recomputing import recomputed
from .typed_options import documented, options_of

__all__ = ["fit_classifier", "study_weights"]


def study_weights(table: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Weight of each row in the MURA paper's loss, by study type and label.

    An abnormal image of part T weighs N / (A + N), a normal one A / (A + N), where A and N count T's abnormal
    and normal images: both labels then weigh the same in sum.

    Parameters
    ----------
    table : DataFrame
        Columns part and label.

    Returns
    -------
    float32 (N,)

    References
    ----------
    P. Rajpurkar et al., "MURA", arXiv 1712.06957, section 3.1.

    Examples
    --------
    >>> table = pd.DataFrame({"part": ["XR_HAND"] * 4, "label": [1, 0, 0, 0]})
    >>> study_weights(table).tolist()
    [0.75, 0.25, 0.25, 0.25]
    """
    abnormal = table.groupby("part")["label"].transform("mean").to_numpy(np.float32)
    return np.where(table["label"].to_numpy() == 1, 1.0 - abnormal, abnormal).astype(np.float32)


@documented(ClassifierOptions)
def fit_classifier(
    net: Classifier,
    data: Dataset[Any],
    **options: Unpack[ClassifierOptions],
) -> pd.DataFrame:
    """Train a classifier on binary cross-entropy.

    What of the trunk learns is chosen on the network: ``net.trunk.freeze()``, or
    ``net.trunk.unfreeze("features.denseblock3")``.

    Parameters
    ----------
    net : Classifier
        Trained in place, left in eval mode.
    data : Dataset
        Images and labels 0 or 1.
    {options}

    Returns
    -------
    DataFrame
        One row a step: step, epoch, loss, lr, accuracy, and with `valid` valid_loss, valid_accuracy and
        valid_kappa at 0.5 (NaN between measurements).

    Raises
    ------
    TypeError
        If there is no such option.
    ValueError
        If an argument is out of its range, with what would be right.

    Examples
    --------
    >>> data = TensorDataset(torch.zeros(8, 1, 32, 32, dtype=torch.uint8), torch.arange(8) % 2)
    >>> net = Classifier("squeezenet1_1")
    >>> net.trunk.freeze()
    >>> len(fit_classifier(net, data, epochs=2, batch_size=4, progress=False))
    4
    """
    chosen = options_of(ClassifierOptions, options, "fit_classifier")
    valid, seed = chosen["valid"], chosen["seed"]
    labels = labels_of(data)
    for name, found in (("data", labels), ("valid", None if valid is None else labels_of(valid))):
        if found is not None and not set(np.unique(found).tolist()) <= {0, 1}:
            raise ValueError(f"labels must be 0 or 1; {name} has {np.unique(found)[:5].tolist()}.")
    if len(np.unique(labels)) < 2:
        raise ValueError(
            f"all {len(labels)} rows of data have the label {labels[0] if len(labels) else None}; a classifier is "
            "learnt from both."
        )
    check_weights(net)
    check_valid(data, valid)
    if hasattr(data, "pre"):
        net.preprocess = data.pre
    batches = ShuffledBatches(len(labels), chosen["batch_size"], seed)
    total = run_length(batches, chosen["epochs"], chosen["steps"])
    settings = RunSettings.of(chosen, net)
    optimiser = OptimiserSettings.of(chosen, total, fused=settings.fused)
    place: dict[str, Any] = {"precision": settings.precision, "accelerator": chosen["accelerator"]}
    weight = _weights(chosen["weights"], data, labels)
    alone = head_steps(chosen["head_first"], total)
    with augmentation_of(data, chosen["augment"]) as augment:
        start = chosen["start_size"]
        if start is not None:
            check_start_size(net, start, fetch(data, [0])[0])
        cached = start is None and _keeps_features(net, data, augment, chosen["cache_features"])
        check = (
            None
            if valid is None
            else _Check(valid, {**place, "precision": "32" if cached else settings.precision})
        )
        beside = averaging_and_validation(chosen, check, len(batches), total)
        head_loss: list[float] = []
        if alone and settings.starts:
            head_loss = train_head(
                net,
                data,
                batches,
                alone,
                lambda logits, labels, rows: (
                    _entropy(logits, labels.float(), weight[rows].to(logits)) + net.head.penalty()
                ),
                optimiser=optimiser,
                seed=seed,
                accelerator=chosen["accelerator"],
            )
        learner: nn.Module = net
        if cached:
            learner, data = _Top(net), _features(net, data, place)
            if check is not None:
                check.valid = _features(net, check.valid, place)
            settings = replace(settings, precision="32", channels_last=False, compile=False)
        feed = Feed(
            _Weighted(data, weight),
            batches,
            total,
            augment,
            seed,
            chosen["workers"],
            not cached,
            alone,
            start,
        )
        module = ClassifierModule(learner, feed, optimiser, channels_last=settings.channels_last)
        with recomputed(net) if chosen["recompute"] else nullcontext():
            history = run_training(module, settings, [*beside, *chosen["callbacks"]])
    history.attrs["head_loss"] = head_loss
    net.eval()
    if cached and settings.out is not None and rank_and_world()[0] == 0:
        net.save_pretrained(settings.out / "model")
    return history


class ClassifierModule(TrainModule):
    """Binary cross-entropy, each image by its weight."""

    def objective(self, images: Tensor, labels: Tensor, *_: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Loss and accuracy of a batch; `labels` holds label and weight (B, 2)."""
        logits = gather_rows(self.net(images).float())
        label, weight = gather_rows(labels).unbind(1)
        loss = _entropy(logits, label, weight)
        head = self.net.head
        if isinstance(head, nn.Module) and hasattr(head, "penalty"):
            loss = loss + head.penalty()  # type: ignore[operator]
        return loss, {"accuracy": float(((logits > 0) == (label > 0.5)).float().mean())}


def _entropy(logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    # The mean is over images, not over weights: the paper's loss is a sum over images of weighted terms.
    return (F.binary_cross_entropy_with_logits(logits, label, reduction="none") * weight).mean()


class _Weighted(Dataset[Any]):
    """Images with (label, weight) in place of the label."""

    def __init__(self, data: Dataset[Any], weights: Tensor) -> None:
        self.data = data
        self.weights = weights

    def __len__(self) -> int:
        return len(self.weights)

    def __getitems__(self, positions: list[int]) -> tuple[Tensor, Tensor]:
        images, labels = fetch(self.data, positions)
        return images, torch.stack([labels.float(), self.weights[positions]], dim=1)


class _Top(nn.Module):
    """The top alone, on features that were kept."""

    def __init__(self, net: Classifier) -> None:
        super().__init__()
        self.head = net.head

    def forward(self, features: Tensor) -> Tensor:
        return self.head.after_pool(features) if features.ndim == 2 else self.head(features)


def _features(net: Classifier, data: Dataset[Any], options: dict[str, Any]) -> TensorDataset:
    return TensorDataset(*forward_rows(FrozenTrunk(net), data, **options))


def _keeps_features(net: Classifier, data: Dataset[Any], augment: Augment | None, asked: bool | None) -> bool:
    """Whether features of the trunk are computed once: by default where they stay the same, and fit in memory."""
    same = augment is None and not any(weight.requires_grad for weight in net.trunk.parameters())
    if asked and not same:
        raise ValueError(
            "cache_features=True needs a frozen trunk and no augmentation; freeze it, or leave it out."
        )
    if asked is not None or not same:
        return bool(asked)
    image = fetch(data, [0])[0]
    with torch.inference_mode():
        one = FrozenTrunk(net).eval()(image.to(next(net.parameters()).device))
    return one.numel() * 4 * len(data) <= FEATURE_BYTES  # type: ignore[arg-type, no-any-return]


def _weights(
    weights: npt.ArrayLike | str | None, data: Dataset[Any], labels: npt.NDArray[np.int64]
) -> Tensor:
    if weights is None:
        return torch.ones(len(labels))
    if isinstance(weights, str):
        table = getattr(data, "table", None)
        if weights != "part" or table is None:
            raise ValueError(
                f'weights={weights!r}: give None, an array, or "part" with data that has a table.'
            )
        weights = study_weights(table)
    found = torch.from_numpy(np.array(weights, dtype=np.float32))
    if found.shape != (len(labels),) or not bool((found >= 0).all()):
        raise ValueError(
            f"weights has shape {tuple(found.shape)}; expected one number >= 0 a row, ({len(labels)},)."
        )
    silent = [int(label) for label in np.unique(labels) if not bool((found[labels == label] > 0).any())]
    if silent:
        raise ValueError(
            f"weights are 0 for all rows with the label {' and '.join(map(str, silent))}, so nothing is learnt from "
            'them; with weights="part" each part needs both labels.'
        )
    return found


class _Check:
    """Loss, accuracy and kappa of a validation set."""

    def __init__(self, valid: Dataset[Any], options: dict[str, Any]) -> None:
        self.valid = valid
        self.options = options

    def __call__(self, net: nn.Module) -> dict[str, float]:
        """Measure."""
        logits, labels = forward_rows(net, self.valid, progress=False, **self.options)
        return {
            "valid_loss": float(_entropy(logits, labels.float(), torch.ones(len(labels)))),
            "valid_accuracy": float(((logits > 0) == (labels > 0)).float().mean()),
            "valid_kappa": kappa(labels, (logits > 0).long()),
        }
