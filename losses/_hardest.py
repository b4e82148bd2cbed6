"""The hardest triplets of all anchors, their reduced loss and its gradient, in one step."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ._base import MetricLoss
from ._choosing import choose_numpy, search
from ._counting import computes_in_numpy
from ._distances import Euclidean, Similarity, off_sphere, on_sphere
from ._first_order import first_order
from ._pairs import Pairs
from ._terms import Figures, Term
from ._triplets import blocks


class Hardest(torch.autograd.Function):
    """The reduced loss of the hardest triplets in one go: its gradient is found on the way forward."""

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        ref_emb: Tensor,
        loss: MetricLoss,
        pairs: Pairs,
        form: Euclidean | Similarity,
        term: Term,
        easy: bool,
        how: str,
    ) -> Tensor:
        compute = _in_numpy if computes_in_numpy(embeddings) else _in_torch
        value, loss._figures, grads = compute(
            embeddings, ref_emb, loss, pairs, form, term, easy, how, any(ctx.needs_input_grad)
        )
        ctx.save_for_backward(*grads)
        return value

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gx, *gy = (saved * grads[0] for saved in ctx.saved_tensors)
        return gx, (gy[0] if gy else None), None, None, None, None, None, None


def _in_torch(
    embeddings: Tensor,
    ref_emb: Tensor,
    loss: MetricLoss,
    pairs: Pairs,
    form: Euclidean | Similarity,
    term: Term,
    easy: bool,
    how: str,
    wanted: bool,
) -> tuple[Tensor, Figures, list[Tensor]]:
    """Return the value, the figures and the gradients, on any device."""
    own = pairs.own
    unit, size = on_sphere(embeddings, form.normalized)
    ref_unit, ref_size = (unit, size) if own else on_sphere(ref_emb, form.normalized)
    x, y = unit, ref_unit
    straight = isinstance(form, Euclidean)
    if straight:
        centre = y.mean(0)
        x = x - centre
        y = x if own else y - centre
    p, n, keep, mean = search(x, y, form, pairs, loss.distance.is_inverted, easy)
    rows = len(x)
    chosen = torch.cat([p, n])
    others = y.index_select(0, chosen).view(2, rows, -1)
    if straight:
        toward = x - others
        values = toward.square().sum(2).sqrt_()
        toward /= (values + (values == 0))[..., None]
        onto = -toward
    else:
        values, toward, onto = (x * others).sum(2), others, x.expand_as(others)
    ap, an = values[0], values[1]
    terms, of_positive, of_negative = term(ap, an)
    terms = terms.where(keep, 0.0)
    total = terms.sum()
    scale = keep.double()
    if how != "sum":
        number = (scale.sum() if how == "mean" else (terms > 0).sum()).clamp(min=1)
        total = total / number
        scale /= number
    figures = Figures(terms, ap, an, keep, mean)
    grads: list[Tensor] = []
    if wanted:
        slopes = torch.stack([of_positive, of_negative]).mul_(scale)[..., None]
        gx = (slopes * toward).sum(0)
        gy = gx if own else torch.zeros_like(y)
        gy.index_add_(0, chosen, (slopes * onto).view(2 * rows, -1))
        grads.append(off_sphere(gx, unit, size))
        if not own:
            grads.append(off_sphere(gy, ref_unit, ref_size))
    return total.float(), figures, grads


def _in_numpy(
    embeddings: Tensor,
    ref_emb: Tensor,
    loss: MetricLoss,
    pairs: Pairs,
    form: Euclidean | Similarity,
    term: Term,
    easy: bool,
    how: str,
    wanted: bool,
) -> tuple[Tensor, Figures, list[Tensor]]:
    """Do the same in NumPy: small batches are ruled by what an operation costs before it computes."""
    own, inverted, straight = pairs.own, loss.distance.is_inverted, isinstance(form, Euclidean)
    unit, size = _unit_numpy(embeddings, form)
    ref_unit, ref_size = (unit, size) if own else _unit_numpy(ref_emb, form)
    x, y = unit, ref_unit
    if straight:
        centre = np.add.reduce(y, 0) / len(y)
        x = x - centre
        y = x if own else y - centre
        lengths = np.einsum("ij,ij->i", y, y)
        own_lengths = lengths if own else np.einsum("ij,ij->i", x, x)
    rows, columns = len(x), len(y)
    summed, parts = 0.0, []
    for start, stop in blocks(rows, columns, embeddings.device):
        part = x[start:stop]
        # By torch: NumPy's own BLAS threads and torch's would spin against each other for the cores.
        values = torch.mm(torch.from_numpy(part), torch.from_numpy(y).t()).numpy()
        if straight:
            values *= -2
            values += own_lengths[start:stop, None]
            values += lengths
            np.maximum(values, 0, out=values)
            np.sqrt(values, out=values)
        distances = values.astype(np.float32)
        if own:
            itself = distances.reshape(-1)[start :: columns + 1][: stop - start]
            if straight:
                itself[:] = 0
            summed -= float(np.add.reduce(itself, dtype=np.float64))
        summed += float(np.add.reduce(distances, axis=None, dtype=np.float64))
        parts.append(choose_numpy(distances, pairs.block(start, stop), inverted, easy))
    p, n, keep = parts[0] if len(parts) == 1 else (np.concatenate(part) for part in zip(*parts, strict=True))
    chosen = np.concatenate([p, n])
    others = y[chosen].reshape(2, rows, -1)
    if straight:
        toward = x - others
        picked = np.sqrt(np.einsum("cij,cij->ci", toward, toward))
        toward /= (picked + (picked == 0))[..., None]
    else:
        toward = others
        picked = np.einsum("ij,cij->ci", x, others)
    terms, of_positive, of_negative = term(picked[0], picked[1])
    whole = bool(keep.all())
    live = terms if whole else np.where(keep, terms, 0.0)
    total: float = live.sum().item()
    divisor = 1.0
    if how != "sum":
        divisor = max(float(np.count_nonzero(keep if how == "mean" else live > 0)), 1.0)
    mean = summed / max(rows * columns - (rows if own else 0), 1)
    figures = Figures(terms, picked[0], picked[1], keep, mean)
    saved: list[Tensor] = []
    if wanted:
        slopes = np.empty((2, rows))
        slopes[0], slopes[1] = of_positive, of_negative
        slopes *= 1 / divisor if whole else keep / divisor
        toward = toward * slopes[..., None]
        gx = toward[0] + toward[1]
        onto = -toward if straight else x * slopes[..., None]
        sent = torch.from_numpy(onto.reshape(2 * rows, -1))
        gy = torch.from_numpy(gx) if own else torch.zeros(columns, x.shape[1], dtype=torch.float64)
        gy.index_add_(0, torch.from_numpy(chosen), sent)
        saved.append(_undo_numpy(gx, unit, size))
        if not own:
            saved.append(_undo_numpy(gy.numpy(), ref_unit, ref_size))
    return torch.tensor(total / divisor, dtype=embeddings.dtype), figures, saved


Doubles = npt.NDArray[np.float64]


def _unit_numpy(embeddings: Tensor, form: Euclidean | Similarity) -> tuple[Doubles, Doubles | None]:
    wide = embeddings.detach().numpy().astype(np.float64)
    if not form.normalized:
        return wide, None
    size = np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
    size = np.maximum(size, 1e-12)
    wide /= size
    return wide, size


def _undo_numpy(grad: Doubles, unit: Doubles, size: Doubles | None) -> Tensor:
    if size is not None:
        along = np.einsum("ij,ij->i", grad, unit)[:, None] * (size > 1e-12)
        grad = (grad - unit * along) / size
    return torch.from_numpy(grad.astype(np.float32))
