"""A loss on maps: where in an input what makes it positive lies."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["localisation_loss"]


def localisation_loss(logits: Tensor, inside: Tensor, boxed: Tensor, positive: Tensor) -> Tensor:
    """Negative log-likelihood of where an input's positive place is, or that there is none.

    What an input shows is at one of the N places of a map, or nowhere, with probabilities ``exp(s) / N`` and 1, scaled
    to a sum of 1. The loss of a row is the negative logarithm of the probability of what is known of it: that the place
    is inside its boxes; that it is anywhere, where it is positive and has no box; that it is nowhere, where it is
    negative. So boxes are used where there are some, and labels where there are none.

    Parameters
    ----------
    logits : Tensor, float (B, h, w)
        ``s``, of each place.
    inside : Tensor, float or uint8 (B, 1, H, W)
        Above 0 inside the boxes; of any resolution. A place counts by the share of it that is inside.
    boxed : Tensor, bool (B,)
        Rows whose boxes are known. One that has nothing ``inside`` (its boxes were moved out of the image) is left out.
    positive : Tensor, bool (B,)
        Rows that show something.

    Returns
    -------
    Tensor, float32 scalar
        Mean over the rows that are not left out; 0 where all are.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    After Z. Li et al., Thoracic disease identification and localization with limited supervision, CVPR 2018, eq. 3 to 5
    (boxes for some images, labels for the others), with a softmax over the places in the place of independent ones.

    Examples
    --------
    >>> s, inside = torch.zeros(2, 2, 2), torch.zeros(2, 1, 4, 4)
    >>> inside[0, 0, :2, :2] = 1  # one place of four: a probability of 1/8; and nowhere: 1/2
    >>> loss = localisation_loss(s, inside, torch.tensor([True, False]), torch.tensor([True, False]))
    >>> bool(torch.isclose(loss, (torch.tensor(8.0).log() + torch.tensor(2.0).log()) / 2))
    True
    """
    rows = len(logits)
    if logits.ndim != 3 or inside.ndim != 4 or inside.shape[:2] != (rows, 1):
        raise ValueError(
            f"logits has shape {tuple(logits.shape)} and inside {tuple(inside.shape)}; (B, h, w) and (B, 1, H, W) are "
            "needed."
        )
    if boxed.shape != (rows,) or positive.shape != (rows,):
        raise ValueError(
            f"boxed has shape {tuple(boxed.shape)} and positive {tuple(positive.shape)}; both must be ({rows},)."
        )
    places = _over_places(logits.float())
    anywhere = places.logsumexp(dim=1)
    nowhere = F.softplus(anywhere)  # -log of its probability
    share = F.adaptive_avg_pool2d((inside > 0).float(), (logits.shape[1], logits.shape[2])).flatten(1)
    seen = share.amax(dim=1) > 0
    # Of rows without a box all places, whose logarithm has a gradient.
    within = torch.where(seen[:, None], share, torch.ones_like(share))
    found = (places + within.clamp(min=torch.finfo(torch.float32).tiny).log()).logsumexp(dim=1)
    known = torch.where(boxed, found, torch.where(positive, anywhere, torch.zeros_like(anywhere)))
    used = ~boxed | seen
    loss = torch.where(used, nowhere - known, torch.zeros_like(nowhere))
    return loss.sum() / used.sum().clamp(min=1)


def _over_places(logits: Tensor) -> Tensor:
    """Logits (B, N) whose exponentials add up to the mean over the places."""
    flat = logits.flatten(1)
    return flat - math.log(flat.shape[1])
