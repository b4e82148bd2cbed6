"""Minings for labels with noise, against loops over every anchor."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances
from siamura.losses import BatchHardTripletLoss, TripletFocalLoss
from triplet_oracles import batch, close, euclidean, triplets

DISTANCES = {
    "euclidean": distances.LpDistance(),
    "squared": distances.LpDistance(power=2),
    "cosine": distances.CosineSimilarity(),
}


def chosen(matrix, y, ry, mining, quantile):
    """The positive and the negative distance of each anchor that has both; larger is farther."""
    parts: dict[int, tuple[set, set]] = {}
    for a, p, n in triplets(y, ry):
        up, down = parts.setdefault(a, (set(), set()))
        up.add(p)
        down.add(n)
    ap, an = [], []
    for a, (up, down) in parts.items():
        positives, negatives = (torch.stack([matrix[a, i] for i in sorted(side)]) for side in (up, down))
        if mining == "weighted":
            ap.append((positives.exp() / positives.exp().sum() * positives).sum())
            an.append(((-negatives).exp() / (-negatives).exp().sum() * negatives).sum())
            continue
        rank = lambda count: math.ceil(quantile * count - 1e-9) - 1  # noqa: E731
        ap.append(positives.sort().values[rank(len(positives))])
        an.append(negatives.sort(descending=True).values[rank(len(negatives))])
    return (torch.stack(ap), torch.stack(an)) if ap else (None, None)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(2, 24),
    labels=st.integers(1, 6),
    refs=st.sampled_from([0, 0, 9]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    distance=st.sampled_from(sorted(DISTANCES)),
    mining=st.sampled_from(["quantile", "quantile", "weighted"]),
    quantile=st.sampled_from([0.1, 0.5, 0.75, 1.0]),
    focal=st.booleans(),
)
def test_quantile_and_weighted_equal_the_loop(
    seed, rows, labels, refs, dtype, distance, mining, quantile, focal
):
    x, y, r, ry = batch(seed, rows, labels, refs=refs, dtype=dtype)
    measure = DISTANCES[distance]
    other = x if r is None else r
    if measure.is_inverted:
        unit, ref = (torch.nn.functional.normalize(part.double()) for part in (x, other))
        matrix = -(unit @ ref.t())
    else:
        matrix = euclidean(x, other) ** measure.power
    options = {"mining": mining, "distance": measure} | (
        {"quantile": quantile} if mining == "quantile" else {}
    )
    loss = TripletFocalLoss(0.2, 1.0, **options) if focal else BatchHardTripletLoss("soft", **options)
    value = loss(x, y, None, r, ry)
    ap, an = chosen(matrix, y, ry, mining, quantile)
    if ap is None:
        assert float(value) == 0
        return
    if measure.is_inverted and focal:  # the exponentials are those of the similarities
        terms = ((-an).exp() - (-ap).exp() + 0.2).relu()
    else:
        terms = (ap.exp() - an.exp() + 0.2).relu() if focal else torch.nn.functional.softplus(ap - an)
    wanted = terms.mean()
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    assert float(value) == pytest.approx(float(wanted), rel=tolerance, abs=tolerance)
    assert loss.statistics["anchors"] == len(ap)
    assert loss.statistics["left_out"] == rows - len(ap)
    if dtype == torch.float64:
        grads = torch.autograd.grad(value, [x] if r is None else [x, r])
        want = torch.autograd.grad(wanted, [x] if r is None else [x, r])
        assert all(
            close(*pair, 1e-8) or float(pair[1].abs().max()) < 1e-9 for pair in zip(grads, want, strict=True)
        )


@pytest.mark.parametrize("kind", [BatchHardTripletLoss, TripletFocalLoss])
def test_the_quantile_of_one_is_the_hardest(kind):
    x, y, r, ry = batch(3, 30, 3, refs=20)
    hard, quantile = kind(), kind(mining="quantile", quantile=1)
    assert float(hard(x, y, None, r, ry)) == float(quantile(x, y, None, r, ry))
    assert hard.statistics == quantile.statistics


def test_one_wrong_label_among_many_is_passed_over():
    """One item of class 0 lies among class 1: hard mining takes it for every anchor, a quantile for none."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(40, 4, generator=rng, dtype=torch.float64) * 0.01
    y = torch.arange(40) % 2
    x[:, 0] += torch.where(y == 0, 1.0, -1.0)
    x[0, 0] = -1.0
    raw = distances.LpDistance(normalize_embeddings=False)
    hard = BatchHardTripletLoss(0.2, distance=raw)
    quantile = BatchHardTripletLoss(0.2, mining="quantile", quantile=0.9, distance=raw)
    weighted = BatchHardTripletLoss(0.2, mining="weighted", distance=raw)
    values = [float(loss(x, y)) for loss in (hard, quantile, weighted)]
    assert values[0] > 0.2  # the margin or more for every anchor
    assert max(values[1:]) < 0.06  # the wrong item's own term alone, 2.2 / 40


def test_a_miners_pairs_limit_these_choices_too():
    x, y, _, _ = batch(2, 18, 3)
    same = (y[:, None] == y).fill_diagonal_(False).nonzero(as_tuple=True)
    other = (y[:, None] != y).nonzero(as_tuple=True)
    for mining in ("quantile", "weighted"):
        loss = BatchHardTripletLoss(0.2, mining=mining)
        assert float(loss(x, y, same + other)) == pytest.approx(float(loss(x, y)), rel=1e-12)
        half = loss(x, y, (*(part[::2] for part in same), *other))
        assert float(half) != float(loss(x, y))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mining": "hardest"}, "mining='hardest' is unknown"),
        ({"mining": "quantile", "quantile": 0}, "quantile=0 must be above 0"),
        ({"quantile": 1.5}, "quantile=1.5"),
        ({"quantile": 0.9}, "quantile=0.9 does nothing with mining='hard'; leave it out"),
        ({"mining": "weighted", "quantile": 0.5}, "does nothing with mining='weighted'"),
        ({"quantile": True}, "quantile=True"),
    ],
)
@pytest.mark.parametrize("kind", [BatchHardTripletLoss, TripletFocalLoss])
def test_wrong_arguments_are_named(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
