"""Second derivatives: right by every way to them, or refused."""

from __future__ import annotations

import itertools

import pytest
import torch
from every_loss import makers
from pytorch_metric_learning import distances, reducers
from siamura.losses import (
    BatchHardTripletLoss,
    TripletLoss,
)
from triplet_oracles import batch, close

LOSSES = makers(0.3, 0.7, without=("random", "quantile")) | {
    "quantile": lambda **k: BatchHardTripletLoss("soft", mining="quantile", quantile=0.6, **k),
}
DISTANCES = {
    "euclidean": distances.LpDistance,
    "raw": lambda: distances.LpDistance(normalize_embeddings=False),
    "squared": lambda: distances.LpDistance(power=2),
    "cosine": distances.CosineSimilarity,
    "called": distances.SNRDistance,
}
REDUCERS = {"default": None, "sum": reducers.SumReducer(), "listed": reducers.ThresholdReducer(low=0.05)}
SOME = [
    (name, distance, reducer, 9 * (place % 2))  # every second with references
    for name in LOSSES
    for place, (distance, reducer) in enumerate(itertools.product(DISTANCES, REDUCERS))
    if not (name == "selective" and distance != "cosine")
    and (reducer == "default" or distance == "euclidean")
]


def by_differences(call, x, direction, step=1e-6):
    """The derivative of the gradient along a direction, by central differences."""
    ends = []
    for sign in (1, -1):
        moved = (x.detach() + sign * step * direction).requires_grad_()
        ends.append(torch.autograd.grad(call(moved), moved)[0])
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize(("name", "distance", "reducer", "refs"), SOME)
def test_the_gradient_of_the_gradient(name, distance, reducer, refs):
    x, y, r, ry = batch(3, 12, 3, refs=refs)
    loss = LOSSES[name](distance=DISTANCES[distance](), reducer=REDUCERS[reducer])
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)

    def call(x):
        return loss(x, y, None, r, ry)

    value = call(x) + x.pow(3).sum()
    (grad,) = torch.autograd.grad(value, x, create_graph=True)
    wanted = by_differences(call, x, direction) + 6 * x.detach() * direction
    (found,) = torch.autograd.grad((grad * direction).sum(), x, retain_graph=True)
    assert close(found, wanted, 1e-6)
    x.grad = None
    (grad * direction).sum().backward(retain_graph=True)
    assert close(x.grad, wanted, 1e-6)
    (again,) = torch.autograd.grad(
        value, x, create_graph=True
    )  # the first graph was used, and is not used up
    assert close(torch.autograd.grad((again * direction).sum(), x)[0], wanted, 1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_in_single_precision_it_is_that_of_double(name):
    found = []
    for dtype in (torch.float64, torch.float32):
        x, y, r, ry = batch(3, 12, 3, refs=7, dtype=dtype)
        x.data, r.data = x.data.float().to(dtype), r.data.float().to(dtype)
        loss = LOSSES[name]()
        grads = torch.autograd.grad(loss(x, y, None, r, ry), [x, r], create_graph=True)
        found.append(torch.autograd.grad(sum(grad.sin().sum() for grad in grads), [x, r]))
    assert found[1][0].dtype == torch.float32
    for wide, narrow in zip(*found, strict=True):
        assert close(narrow, wide, 1e-4)


@pytest.mark.parametrize("refs", [0, 5])
@pytest.mark.parametrize("name", LOSSES)
def test_gradgradcheck(name, refs):
    x, y, r, ry = batch(11, 8, 2, dim=3, refs=refs)
    loss = LOSSES[name]()
    sources = (x,) if r is None else (x, r)
    assert torch.autograd.gradgradcheck(
        lambda x, r=None: loss(x, y, None, r, ry), sources, eps=1e-7, atol=1e-5, rtol=1e-3
    )


def test_a_distance_that_learns_in_chunks():
    class Scaled(distances.SNRDistance):
        def __init__(self):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

        def compute_mat(self, query_emb, ref_emb):
            return super().compute_mat(query_emb, ref_emb) * self.factor.square()

    found = []
    for chunk in (None, 5):
        x, y, _, _ = batch(3, 12, 3)
        loss = TripletLoss(0.3, distance=Scaled(), chunk=chunk)
        grads = torch.autograd.grad(loss(x, y), [x, loss.distance.factor], create_graph=True)
        found.append(torch.autograd.grad(sum(g.sin().sum() for g in grads), [x, loss.distance.factor]))
    for whole, cut in zip(*found, strict=True):
        assert close(cut, whole, 1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", LOSSES)
def test_functional_transforms_are_right_or_refused(name, dtype):
    x, y, _, _ = batch(3, 8, 2, dim=3, dtype=dtype)
    loss = LOSSES[name]()
    x = x.detach()
    rows = []
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf, y), leaf, create_graph=True)
    for value in grad.flatten():
        rows.append(torch.autograd.grad(value, leaf, retain_graph=True)[0].flatten())
    wanted, wanted_grad = torch.stack(rows), grad.detach()
    ways = {
        "grad": lambda f: torch.func.grad(f)(x),
        "hessian": lambda f: torch.func.hessian(f)(x),
        "jacrev": lambda f: torch.func.jacrev(torch.func.jacrev(f))(x),
        "autograd": lambda f: torch.autograd.functional.hessian(f, x),
        "vectorized": lambda f: torch.autograd.functional.hessian(f, x, vectorize=True),
        "forward": lambda f: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1],
    }
    right = []
    for way, compute in ways.items():
        try:
            found = compute(lambda x: loss(x, y))
        except (RuntimeError, NotImplementedError):
            continue
        want = {"grad": wanted_grad, "forward": wanted_grad.sum()}.get(way, wanted)
        assert close(found.reshape(want.shape), want, 1e-9 if dtype == torch.float64 else 1e-4), way
        right.append(way)
    assert {"autograd", "vectorized"} <= set(right)
