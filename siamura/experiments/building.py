"""What an experiment trains: its network and its loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytorch_metric_learning.reducers import MeanReducer

from siamura import losses
from siamura.networks import EmbeddingNet

if TYPE_CHECKING:
    import pandas as pd
    from pytorch_metric_learning.losses import BaseMetricLossFunction

    from siamura.pixels import Preprocess

    from .settings import Experiment

__all__ = ["build_loss", "build_network"]


def build_network(
    experiment: Experiment, pre: Preprocess, *, boxes: pd.DataFrame | None = None
) -> EmbeddingNet:
    """Make the network that an experiment names, for images made by `pre`; the first layers frozen, as it says.

    Where there are boxes of training views, it is one that can learn where findings are (``pool="located"``).

    Examples
    --------
    >>> from siamura.experiments import Experiment
    >>> experiment = Experiment(trunk="resnet18", train_from="layer4", dim=8)
    >>> model = build_network(experiment, experiment.preprocess()).trunk.model
    >>> model.layer3[0].conv1.weight.requires_grad, model.layer4[0].conv1.weight.requires_grad
    (False, True)
    """
    recipe = experiment.recipe()
    net = EmbeddingNet(
        experiment.trunk, dim=experiment.dim, weights=experiment.weights, preprocess=pre, seed=experiment.seed,
        dropout=recipe["dropout"], pool="avg" if boxes is None else "located",
    )  # fmt: skip
    start = recipe["train_from"]
    if isinstance(start, float):
        start = net.trunk.block_at(start) if start else 0
    net.trunk.unfreeze(start)
    return net


def build_loss(experiment: Experiment) -> BaseMetricLossFunction:
    """Make the training loss that an experiment names."""
    margin = experiment.margin
    match experiment.loss:
        case "triplet":
            # System A sums over all valid triplets; their mean has the same direction, and a scale of its own.
            return losses.TripletLoss(margin=margin, reducer=MeanReducer())
        case "batch_hard":
            return losses.BatchHardTripletLoss(margin=margin)
        case "semi_hard":
            return losses.SemiHardTripletLoss(margin=margin)
        case "triplet_focal":
            return losses.TripletFocalLoss(margin=margin, sigma=experiment.sigma)
        case "selectively_contrastive":
            return losses.SelectivelyContrastiveLoss()
