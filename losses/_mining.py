"""One triplet an anchor, or one a positive pair, and the loss over them."""

from __future__ import annotations

import torch
from torch import Tensor

from ._base import Batch, LossDict, MetricLoss
from ._choosing import Mined, hardest, listed, semi_hard
from ._distances import Euclidean, Similarity, geometry
from ._hardest import Hardest
from ._terms import Figures, Term, Terms


def anchor_terms(loss: MetricLoss, batch: Batch, term: Term, *, easy_positive: bool = False) -> LossDict:
    """Return PML's dictionary for the hardest triplet of each anchor (or for the triplets of a miner).

    Parameters
    ----------
    term : callable
        Distances of positives and negatives, float64, to the terms and their slopes for both.
    easy_positive : bool
        Take the easiest positive instead.
    """
    if batch.empty:
        return loss._nothing()
    how, form = loss._shortcut(), geometry(loss.distance, batch.embeddings)
    if batch.triplets is None and how is not None and isinstance(form, (Euclidean, Similarity)):
        value: Tensor = Hardest.apply(
            batch.embeddings, batch.ref_emb, loss, batch.pairs(), form, term, easy_positive, how
        )
        return loss._reduced(value)
    return finish(loss, listed(loss, batch) or hardest(loss, batch, easy_positive), term)


def pair_terms(loss: MetricLoss, batch: Batch, term: Term) -> LossDict:
    """Return PML's dictionary for one triplet a positive pair (or for the triplets of a miner)."""
    return finish(loss, listed(loss, batch) or semi_hard(loss, batch), term)


def finish(loss: MetricLoss, mined: Mined, term: Term) -> LossDict:
    """Hand the terms of the triplets that exist to the reducer, and leave the figures with the loss."""
    a, p, n, ap, an, keep = mined.a, mined.p, mined.n, mined.ap, mined.an, mined.keep
    if len(a) == 0:
        return loss._nothing()
    if keep is None:
        keep = torch.ones_like(a, dtype=torch.bool)
    terms: Tensor = Terms.apply(ap, an, term)
    loss._figures = Figures(terms.detach(), ap.detach(), an.detach(), keep, mined.mean, a[keep])
    if not bool(keep.all()):
        a, p, n, terms = a[keep], p[keep], n[keep], terms[keep]
        if len(a) == 0:
            return {"loss": loss.zero_loss()}
    how = loss._shortcut()
    if how is None:
        return loss._terms(terms, (a, p, n))
    total = terms.sum(dtype=torch.float64)
    if how != "sum":
        total = total / (len(terms) if how == "mean" else (terms > 0).sum().clamp(min=1))
    return loss._reduced(total.to(terms.dtype))
