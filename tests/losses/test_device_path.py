"""What an accelerator computes, computed on the processor: torch alone, beside NumPy and the triple loops."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from every_loss import makers
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances, reducers
from siamura.losses import (
    BatchHardTripletLoss,
    SelectivelyContrastiveLoss,
    TripletLoss,
    _all_triplets,
    _counting,
)
from siamura.losses._mining import mine_per_anchor
from triplet_oracles import batch, batch_hard, close, euclidean

CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "rows": st.integers(2, 40),
        "labels": st.sampled_from([1, 2, 3, 5, 8, 30]),  # with 30 most anchors lack a partner
        "kind": st.sampled_from(["random", "random", "duplicates", "equal"]),
        "refs": st.sampled_from([0, 0, 1, 17]),
        "scale": st.sampled_from([1.0, 1e-8, 1e4]),
    }
)
DISTANCES = {
    "euclidean": distances.LpDistance(),
    "raw euclidean": distances.LpDistance(normalize_embeddings=False),
    "cosine": distances.CosineSimilarity(),
    "raw product": distances.DotProductSimilarity(normalize_embeddings=False),
}
REDUCERS = {
    "sum": reducers.SumReducer(),
    "mean": reducers.MeanReducer(),
    "nonzero": reducers.AvgNonZeroReducer(),
}


@contextmanager
def torch_alone():
    """Nothing computes in NumPy, as on an accelerator."""
    refused = AssertionError("_packed was called")
    with (
        mock.patch.object(_counting, "computes_in_numpy", return_value=False),
        mock.patch.object(_counting, "_packed", side_effect=refused),
    ):
        yield


class EasyPositive(BatchHardTripletLoss):
    """The easiest positive, for any distance."""

    def mine(self, batch):
        return mine_per_anchor(self.distance, batch, easy_positive=True)


def call(loss, x, y, r, ry, pairs=None):
    """Value, gradients and figures."""
    value = loss(x, y, pairs, r, ry)
    grads = torch.autograd.grad(value, [x] if r is None else [x, r], materialize_grads=True)
    return value.detach(), grads, loss.statistics


def both(loss, x, y, r, ry, pairs=None):
    """What NumPy's path gives, and torch's."""
    first = call(loss, x, y, r, ry, pairs)
    with torch_alone():
        return first, call(loss, x, y, r, ry, pairs)


def farness(distance, x, y):
    """Exact distances, or similarities with a minus."""
    x, y = x.double(), y.double()
    if not distance.is_inverted:
        return euclidean(x, y, distance.normalize_embeddings)
    if distance.normalize_embeddings:
        x, y = torch.nn.functional.normalize(x), torch.nn.functional.normalize(y)
    return -(x @ y.t())


def same(found, wanted, *, gradient=True):
    """Paths that agree: they round alike but for the last digits of float64."""
    (value, grads, figures), (want, want_grads, want_figures) = found, wanted
    assert value.dtype == want.dtype
    assert value.item() == pytest.approx(want.item(), rel=1e-6, abs=1e-6)
    assert figures == pytest.approx(want_figures, rel=1e-5, abs=1e-6, nan_ok=True)
    for grad, want_grad in zip(grads, want_grads, strict=True):
        assert grad.dtype == want_grad.dtype
        assert torch.isfinite(grad).all()
        if gradient:
            assert close(grad, want_grad, 1e-5)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    case=CASES,
    distance=st.sampled_from(sorted(DISTANCES)),
    how=st.sampled_from(sorted(REDUCERS)),
    easy=st.booleans(),
    margin=st.sampled_from([0.2, "soft"]),
)
def test_torch_alone_equals_numpy_and_the_triple_loop(case, distance, how, easy, margin):
    x, y, r, ry = batch(**case, dtype=torch.float32)
    measure = DISTANCES[distance]
    loss = (EasyPositive if easy else BatchHardTripletLoss)(margin, distance=measure, reducer=REDUCERS[how])
    numpy, alone = both(loss, x, y, r, ry)
    clear = case["kind"] == "random"  # which of two nearly equal points is the nearer is a matter of rounding
    same(alone, numpy, gradient=clear)

    value, grads, figures = alone
    matrix = farness(measure, x, x if r is None else r)
    chosen = batch_hard(matrix, y, ry, easy)
    assert figures["anchors"] == len(chosen)
    assert figures["left_out"] == len(y) - len(chosen)
    if not chosen:
        assert value == 0
        assert not any(grad.any() for grad in grads)
        return
    a, p, n = (list(part) for part in zip(*chosen, strict=True))
    ap, an = matrix[a, p], matrix[a, n]
    terms = torch.nn.functional.softplus(ap - an) if margin == "soft" else (ap - an + margin).relu()
    wanted = terms.sum() / {"sum": 1, "mean": len(a), "nonzero": max(int((terms > 0).sum()), 1)}[how]
    scale = max(float(matrix.detach().abs().max()), 1.0)
    assert value.item() == pytest.approx(wanted.item(), rel=5e-6, abs=5e-6 * scale)
    if clear:
        want = torch.autograd.grad(wanted, [x] if r is None else [x, r])
        assert all(close(*pair, 1e-5) for pair in zip(grads, want, strict=True))
    sign = -1 if measure.is_inverted else 1
    pairs = matrix.numel() - (len(x) if r is None else 0)
    total = matrix.sum() - (matrix.diagonal().sum() if r is None else 0)
    assert figures == pytest.approx(
        {
            "active_fraction": float((terms > 0).double().mean()),
            "hardest_positive": sign * float(ap.detach().mean()),
            "hardest_negative": sign * float(an.detach().mean()),
            "mean_distance": sign * float(total.detach()) / max(pairs, 1),
            "anchors": len(chosen),
            "triplets": len(chosen),
            "left_out": len(y) - len(chosen),
        },
        rel=1e-5,
        abs=1e-6 * scale,
    )


LOSSES = makers(0.3, 0.7, "all", "hard", "semi", "focal", "focal-all", "focal-semi", "selective") | {
    "selective-hard": lambda **k: SelectivelyContrastiveLoss(0.7, positives="hard", **k),
}


@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=CASES, name=st.sampled_from(sorted(LOSSES)))
def test_every_loss_is_the_same_on_both_paths(case, name):
    x, y, r, ry = batch(**case, dtype=torch.float32)
    numpy, alone = both(LOSSES[name](), x, y, r, ry)
    same(alone, numpy, gradient=case["kind"] == "random")


@pytest.mark.parametrize("refs", [0, 16])
@pytest.mark.parametrize("distance", ["raw euclidean", "raw product"])
@pytest.mark.parametrize("easy", [False, True])
def test_of_equal_distances_both_paths_take_the_first(distance, easy, refs):
    """On a grid of whole numbers equal distances are equal to the last bit."""
    rng = torch.Generator().manual_seed(refs)
    x = torch.randint(-1, 2, (32, 3), generator=rng).float().requires_grad_()
    y = torch.randint(0, 3, (32,), generator=rng)
    r = torch.randint(-1, 2, (refs, 3), generator=rng).float().requires_grad_() if refs else None
    ry = torch.randint(0, 3, (refs,), generator=rng) if refs else None
    measure = DISTANCES[distance]
    loss = (EasyPositive if easy else BatchHardTripletLoss)("soft", distance=measure)
    numpy, alone = both(loss, x, y, r, ry)
    same(alone, numpy)
    matrix = farness(measure, x, x if r is None else r)
    a, p, n = (list(part) for part in zip(*batch_hard(matrix, y, ry, easy), strict=True))
    wanted = torch.nn.functional.softplus(matrix[a, p] - matrix[a, n]).mean()
    want = torch.autograd.grad(wanted, [x] if r is None else [x, r])
    assert all(close(*pair, 1e-6) for pair in zip(alone[1], want, strict=True))


@pytest.mark.parametrize("margin", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("refs", [0, 16])
def test_ties_count_alike_in_the_sum_over_all_triplets(margin, refs):
    rng = torch.Generator().manual_seed(3)
    x = torch.randint(-2, 3, (32, 1), generator=rng).float().requires_grad_()
    y = torch.randint(0, 3, (32,), generator=rng)
    r, ry = (x.detach()[:refs].requires_grad_(), y[:refs]) if refs else (None, None)
    numpy, alone = both(TripletLoss(margin, distance=DISTANCES["raw euclidean"]), x, y, r, ry)
    assert alone[0] == numpy[0]
    assert alone[2] == numpy[2]
    assert all(torch.equal(*pair) for pair in zip(alone[1], numpy[1], strict=True))


@pytest.mark.parametrize("refs", [0, 500])
@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_many_blocks_is_the_same_on_both_paths(name, refs):
    x, y, r, ry = batch(5, 500, 20, refs=refs, dtype=torch.float32)
    numpy, alone = both(LOSSES[name](), x, y, r, ry)
    same(alone, numpy)


@pytest.mark.parametrize("name", LOSSES)
def test_a_miners_pairs_are_the_same_on_both_paths(name):
    x, y, _, _ = batch(2, 18, 3, dtype=torch.float32)
    alike = y[:, None] == y
    pairs = alike.clone().fill_diagonal_(False).triu().nonzero(as_tuple=True)
    pairs += (~alike).tril().nonzero(as_tuple=True)
    numpy, alone = both(LOSSES[name](), x, y, None, None, pairs)
    same(alone, numpy)


@pytest.mark.parametrize("refs", [0, 17])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("name", ["hard", "easy"])
def test_terms_for_a_reducer_are_the_same_on_both_paths_and_in_the_loop(name, distance, refs):
    x, y, r, ry = batch(7, 30, 12, refs=refs, dtype=torch.float32)
    easy, measure = name == "easy", DISTANCES[distance]
    loss = (EasyPositive if easy else BatchHardTripletLoss)(
        "soft", distance=measure, reducer=reducers.DoNothingReducer()
    )
    matrix = farness(measure, x, x if r is None else r)
    chosen = batch_hard(matrix, y, ry, easy)
    assert 0 < len(chosen) < 30  # some anchors lack a partner
    a, p, n = (list(part) for part in zip(*chosen, strict=True))
    want = torch.nn.functional.softplus(matrix[a, p] - matrix[a, n])
    want_grads = torch.autograd.grad(want.square().sum(), [x] if r is None else [x, r], retain_graph=True)
    found = [loss(x, y, None, r, ry)["loss"]]
    with torch_alone():
        found.append(loss(x, y, None, r, ry)["loss"])
    for terms in found:
        assert [part.tolist() for part in terms["indices"]] == [a, p, n]
        assert close(terms["losses"], want.detach(), 1e-6)
        grads = torch.autograd.grad(terms["losses"].square().sum(), [x] if r is None else [x, r])
        assert all(close(*pair, 1e-5) for pair in zip(grads, want_grads, strict=True))


def test_no_gradient_is_computed_where_none_is_wanted():
    x, y, _, _ = batch(2, 18, 3, dtype=torch.float32)
    loss = TripletLoss(0.2)
    wanted = loss(x, y)
    refused = AssertionError("a gradient was computed")
    with mock.patch.object(_all_triplets, "normalize_backward", side_effect=refused):
        value = loss(x.detach(), y)
        with torch.no_grad():
            assert loss(x, y) == wanted
    assert not value.requires_grad
    assert value.item() == pytest.approx(wanted.item(), rel=1e-6)
