"""Figures on the fly: how well nearest neighbours classify validation images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from siamura.neighbours import nearest

from .data import labels_of
from .embedding import forward_rows
from .module import without_memory
from .seeds import step_seed

__all__ = ["NeighbourCheck", "kappa"]


def kappa(truth: Tensor, answer: Tensor) -> float:
    """Cohen's kappa of two lists of whole numbers; 0 where chance explains everything.

    Examples
    --------
    >>> kappa(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]))
    0.5
    """
    kinds = int(max(truth.max(), answer.max())) + 1
    table = torch.zeros(kinds, kinds, dtype=torch.float64)
    table.index_put_((truth, answer), torch.ones(len(truth), dtype=torch.float64), accumulate=True)
    table /= table.sum()
    chance = float(table.sum(0) @ table.sum(1))
    return 0.0 if chance >= 1.0 else (float(table.trace()) - chance) / (1.0 - chance)


class NeighbourCheck:
    """P@1, k-NN kappa and loss of a validation set, against a sample of the training set.

    Parameters
    ----------
    data, valid : Dataset
        Training and validation images; no patient should be in both.
    loss : Module
        The final loss; measured on shuffled validation batches.
    batch_size : int
        Of those batches.
    k : int
        Neighbours that vote.
    sample : int
        Most training images that are neighbours, drawn once.
    seed : int
        Of the draw and the shuffle.
    precision, accelerator : str
        See `embed`.
    """

    def __init__(
        self,
        data: Dataset[Any],
        valid: Dataset[Any],
        loss: nn.Module,
        *,
        batch_size: int = 32,
        k: int = 15,
        sample: int = 512,
        seed: int = 0,
        precision: str = "auto",
        accelerator: str = "auto",
    ) -> None:
        count = len(data)  # type: ignore[arg-type]
        if len(valid) < 1:  # type: ignore[arg-type]
            raise ValueError("valid is empty; give a data set with rows, or None.")
        labels = labels_of(valid)
        if labels.min() < 0:
            raise ValueError(f"valid has the label {labels.min()}, which is unknown; leave such rows out.")
        rng = np.random.default_rng(step_seed(seed, 4))
        self.data, self.valid, self.loss = data, valid, without_memory(loss)
        self.sample = np.sort(rng.permutation(count)[:sample])
        self.order = torch.from_numpy(rng.permutation(len(labels)))
        self.batch_size = batch_size
        self.k = k
        self.options: dict[str, Any] = {"precision": precision, "accelerator": accelerator, "progress": False}

    def __call__(self, net: nn.Module) -> dict[str, float]:
        """Measure."""
        known, known_label = forward_rows(net, self.data, self.sample, **self.options)
        asked, label = forward_rows(net, self.valid, **self.options)
        figures = {"valid_p1": float("nan"), "valid_kappa": float("nan")}
        if known.isfinite().all() and asked.isfinite().all():  # else the network has diverged: no neighbours
            near = nearest(known.numpy(), asked.numpy(), min(self.k, len(known)))[1]
            votes = known_label[torch.from_numpy(near)]
            figures["valid_p1"] = float((votes[:, 0] == label).float().mean())
            figures["valid_kappa"] = kappa(label, votes.mode(1).values)
        device = next(iter(net.parameters())).device
        values = []
        with torch.no_grad():
            for chunk in self.order.split(self.batch_size):  # type: ignore[no-untyped-call]
                if len(label[chunk].unique()) > 1 or len(self.order) <= self.batch_size:  # type: ignore[no-untyped-call]
                    values.append(float(self.loss(asked[chunk].to(device), label[chunk].to(device))))
        return {"valid_loss": float(np.mean(values)) if values else float("nan"), **figures}
