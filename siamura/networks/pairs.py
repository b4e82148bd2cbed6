"""The pair form: two images, one distance, and whether they are similar."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .embedding import EmbeddingNet

__all__ = ["DistanceHead", "PairLoss", "PairNet"]


class DistanceHead(nn.Module):
    """Distance layer and sigmoid: how surely two embeddings are similar.

    ``p = sigmoid(scale * (threshold - D))`` with the Euclidean distance D; both numbers learn.

    Parameters
    ----------
    threshold : float
        Distance at which either answer is as likely, at the start.
    scale : float
        Steepness, at the start.

    Examples
    --------
    >>> head = DistanceHead()
    >>> a = torch.eye(2)
    >>> (head(a, a) > 0).tolist(), (head(a, a.flip(0)) > 0).tolist()
    ([True, True], [False, False])
    """

    def __init__(self, threshold: float = 1.0, scale: float = 5.0) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))
        self.log_scale = nn.Parameter(torch.tensor(scale).log())

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits that rows of two sets of embeddings (..., dim) are similar."""
        return self.of_distance(_distance(first, second))

    def of_distance(self, distance: Tensor) -> Tensor:
        """Logits of distances."""
        return self.log_scale.exp() * (self.threshold - distance)


class PairNet(EmbeddingNet):
    """An `EmbeddingNet` that ends in a distance layer and a sigmoid, as system A's pair form.

    It embeds single images like its parent, so that `fit`, `embed` and the heads take it; `similar` compares.

    Examples
    --------
    >>> net = PairNet("squeezenet1_1", dim=8).eval()
    >>> x = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    >>> bool((net.similar(x, x) > 0.5).all())
    True
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.distance = DistanceHead()

    def similar(self, first: Tensor, second: Tensor) -> Tensor:
        """Probability that two images show the same: uint8 (B, 1, S, S) each, to float32 (B,)."""
        logits: Tensor = self.distance(self(first), self(second))
        return logits.sigmoid()


class PairLoss(nn.Module):
    """Every pair of a batch as a training pair; similar and dissimilar pairs count alike.

    Parameters
    ----------
    objective : {"contrastive", "bce"}
        ``contrastive``: D^2 for similar pairs, max(0, margin - D)^2 for the others. ``bce``: binary
        cross-entropy of `head`'s answer.
    margin : float
        Distance beyond which dissimilar pairs cost nothing (contrastive).
    head : DistanceHead, optional
        The network's ``net.distance``; needed for ``bce``, and trained with it.

    References
    ----------
    R. Hadsell, S. Chopra, Y. LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR
    2006, eq. 4.

    Examples
    --------
    >>> loss = PairLoss(margin=1.0)
    >>> float(loss(torch.eye(2), torch.tensor([0, 1])))
    0.0
    """

    def __init__(
        self,
        objective: Literal["contrastive", "bce"] = "contrastive",
        *,
        margin: float = 1.0,
        head: DistanceHead | None = None,
    ) -> None:
        super().__init__()
        if objective not in ("contrastive", "bce"):
            raise ValueError(f'objective={objective!r} is unknown; choose "contrastive" or "bce".')
        if objective == "bce" and head is None:
            raise ValueError('objective="bce" needs the distance layer; give head=net.distance of a PairNet.')
        if not margin > 0:
            raise ValueError(f"margin={margin} must be above 0.")
        self.objective = objective
        self.margin = margin
        self.head = head
        self.statistics: dict[str, float] = {}

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (B, dim) with labels (B,)."""
        first, second = torch.triu_indices(len(labels), len(labels), 1, device=embeddings.device)
        distance = _distance(embeddings[first], embeddings[second])
        same = labels[first] == labels[second]
        if self.objective == "bce":
            assert self.head is not None
            terms = F.binary_cross_entropy_with_logits(
                self.head.of_distance(distance), same.to(distance.dtype), reduction="none"
            )
        else:
            terms = torch.where(same, distance.square(), (self.margin - distance).clamp(min=0).square())
        parts = [terms[chosen].mean() for chosen in (same, ~same) if bool(chosen.any())]
        with torch.no_grad():
            everything = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
            alike = labels[:, None] == labels[None, :]
            self.statistics = {
                "active_fraction": float((terms > 1e-6).float().mean()),
                "mean_distance": float(distance.mean()),
                "hardest_positive": float(everything.where(alike, -torch.inf).amax(1).mean()),
                "hardest_negative": float(everything.where(~alike, torch.inf).amin(1).mean()),
            }
        return torch.stack(parts).mean() if parts else embeddings.sum() * 0.0


def _distance(first: Tensor, second: Tensor) -> Tensor:
    # The root's gradient is infinite at 0, and equal images do meet.
    return (first - second).square().sum(-1).clamp(min=1e-8).sqrt()
