"""The losses that choose their triplets: batch hard, semi-hard, focal, selectively contrastive."""

from __future__ import annotations

import math

import pytest
import torch
from every_loss import makers
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances, losses, miners, reducers
from siamura.losses import (
    BatchHardTripletLoss,
    SelectivelyContrastiveLoss,
    SemiHardTripletLoss,
    TripletFocalLoss,
)
from triplet_oracles import all_triplets, batch, batch_hard, close, euclidean, semi_hard
from triplet_oracles import triplets as every_triplet

CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "rows": st.integers(2, 40),
        "labels": st.integers(1, 8),
        "kind": st.sampled_from(["random", "random", "duplicates", "equal"]),
        "refs": st.sampled_from([0, 0, 1, 17]),
        "scale": st.sampled_from([1.0, 1e-8, 1e4]),
    }
)
DTYPES = st.sampled_from([torch.float64, torch.float32])


def compare(loss, case, dtype, choose, term, *, normalized=True, tolerance=None, gradient=True):
    """Against terms of chosen triplets, averaged; ties are chosen alike only where distances differ."""
    x, y, r, ry = batch(**case, dtype=dtype)
    value = loss(x, y, ref_emb=r, ref_labels=ry)
    grad = torch.autograd.grad(value, x)[0]
    matrix = euclidean(x, x if r is None else r, normalized)
    chosen = choose(matrix, y, ry)
    assert torch.isfinite(grad).all()
    if not chosen:
        assert value.item() == 0
        assert not grad.any()
        return
    a, p, n = (list(part) for part in zip(*chosen, strict=True))
    wanted = term(matrix[a, p], matrix[a, n]).mean()
    tolerance = tolerance or (1e-9 if dtype == torch.float64 else 5e-6)
    assert value.item() == pytest.approx(wanted.item(), rel=tolerance, abs=tolerance)
    if gradient and case["kind"] == "random" and dtype == torch.float64:
        assert close(grad, torch.autograd.grad(wanted, x)[0], 1e-9)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(case=CASES, dtype=DTYPES, margin=st.sampled_from([0.2, "soft"]), normalized=st.booleans())
def test_batch_hard_equals_the_triple_loop(case, dtype, margin, normalized):
    def term(ap, an):
        if margin == "soft":
            return torch.nn.functional.softplus(ap - an)
        return (ap - an + margin).relu()

    loss = BatchHardTripletLoss(margin, distance=distances.LpDistance(normalize_embeddings=normalized))
    compare(loss, case, dtype, batch_hard, term, normalized=normalized)
    count = loss.statistics.get("anchors", 0)
    assert count + loss.statistics.get("left_out", case["rows"] - count) == case["rows"]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=CASES, dtype=DTYPES, power=st.sampled_from([1, 2]))
def test_semi_hard_equals_the_triple_loop(case, dtype, power):
    def term(ap, an):
        return (ap**power - an**power + 0.5).relu()

    if case["kind"] != "random" and dtype == torch.float32:
        case = {
            **case,
            "kind": "random",
        }  # which of two nearly equal negatives lies beyond is a matter of rounding
    loss = SemiHardTripletLoss(0.5, distance=distances.LpDistance(power=power))
    compare(loss, case, dtype, semi_hard, term)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    case=CASES,
    dtype=DTYPES,
    sigma=st.sampled_from([0.1, 0.3, 1.0]),
    mining=st.sampled_from(["hard", "semi-hard"]),
)
def test_focal_equals_the_triple_loop(case, dtype, sigma, mining):
    def term(ap, an):
        return ((ap / sigma).exp() - (an / sigma).exp() + 0.2).relu()

    if mining == "semi-hard" and dtype == torch.float32:
        case = {**case, "kind": "random"}
    loss = TripletFocalLoss(0.2, sigma, mining)
    choose = batch_hard if mining == "hard" else semi_hard
    tolerance = (
        1e-8 if dtype == torch.float64 else 2e-4
    )  # a distance's error counts exp(2 / sigma) / sigma times
    compare(loss, case, dtype, choose, term, tolerance=tolerance, gradient=sigma == 1.0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    case=CASES,
    dtype=DTYPES,
    sigma=st.sampled_from([0.2, 0.5, 1.0]),
    how=st.sampled_from(["sum", "mean", "nonzero"]),
)
def test_focal_over_all_triplets_equals_the_triple_loop(case, dtype, sigma, how):
    reducer = {"sum": reducers.SumReducer(), "mean": reducers.MeanReducer(), "nonzero": None}[how]
    x, y, r, ry = batch(**case, dtype=dtype)
    value = TripletFocalLoss(0.2, sigma, "all", reducer=reducer)(x, y, ref_emb=r, ref_labels=ry)
    grad = torch.autograd.grad(value, x)[0]
    curve = (euclidean(x, x if r is None else r) / sigma).exp()
    wanted, weights, _, _ = all_triplets(curve, y, ry, 0.2, how)
    want = torch.autograd.grad(curve, x, weights)[0]
    tolerance = 1e-9 if dtype == torch.float64 else 2e-5
    assert value.item() == pytest.approx(wanted, rel=tolerance, abs=tolerance)
    assert torch.isfinite(grad).all()
    if case["kind"] == "random":
        assert close(grad, want, 10 * tolerance)


class Exponential(distances.LpDistance):
    """PML's distance, bent: with it PML's triplet loss is the focal loss."""

    def __init__(self, sigma):
        super().__init__()
        self.sigma = sigma

    def compute_mat(self, query_emb, ref_emb):
        return torch.exp(super().compute_mat(query_emb, ref_emb) / self.sigma)


@pytest.mark.parametrize("refs", [0, 21])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("mining", ["hard", "all"])
@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_focal_is_the_composition_of_pml(mining, dtype, refs, sigma):
    x, y, r, ry = batch(3, 24, 3, refs=refs, dtype=dtype)
    bent = Exponential(sigma)
    peer = losses.TripletMarginLoss(
        0.2, distance=bent, reducer=reducers.MeanReducer() if mining == "hard" else None
    )
    tuples = miners.BatchHardMiner(distance=bent)(x, y, r, ry) if mining == "hard" else None
    rel = 1e-9 if dtype == torch.float64 else 1e-4
    a = TripletFocalLoss(0.2, sigma, mining)(x, y, None, r, ry)
    b = peer(x, y, tuples, r, ry)
    assert float(a) == pytest.approx(float(b), rel=rel)
    assert close(torch.autograd.grad(a, x)[0], torch.autograd.grad(b, x)[0], 10 * rel)


@pytest.mark.parametrize("refs", [0, 21])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "distance",
    [
        distances.LpDistance(),
        distances.LpDistance(power=2),
        distances.CosineSimilarity(),
        distances.SNRDistance(),
    ],
    ids=lambda d: type(d).__name__,
)
def test_batch_hard_is_pmls_miner_and_loss(distance, dtype, refs):
    x, y, r, ry = batch(4, 30, 4, refs=refs, dtype=dtype)
    tuples = miners.BatchHardMiner(distance=distance)(x, y, r, ry)
    peer = losses.TripletMarginLoss(0.2, distance=distance, reducer=reducers.MeanReducer())
    a = BatchHardTripletLoss(0.2, distance=distance)(x, y, None, r, ry)
    b = peer(x, y, tuples, r, ry)
    rel = 1e-9 if dtype == torch.float64 else 2e-5
    assert float(a) == pytest.approx(float(b), rel=rel)
    assert close(torch.autograd.grad(a, x)[0], torch.autograd.grad(b, x)[0], 10 * rel)


@pytest.mark.parametrize("positives", ["easy", "hard"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_selectively_contrastive_equals_the_formula(positives, dtype, lam):
    x, y, _, _ = batch(5, 26, 3, dtype=dtype)
    unit = torch.nn.functional.normalize(x.double())
    s = unit @ unit.t()
    terms = []
    for a in range(26):
        triplets = [(p, n) for b, p, n in every_triplet(y, None) if b == a]
        if triplets:
            pick = max if positives == "easy" else min
            sap = s[a, pick((p for p, _ in triplets), key=lambda p: float(s[a, p]))]
            san = s[a, max((n for _, n in triplets), key=lambda n: float(s[a, n]))]
            terms.append(lam * san if san > sap else -torch.log(sap.exp() / (sap.exp() + san.exp())))
    wanted = torch.stack(terms).mean()
    loss = SelectivelyContrastiveLoss(lam, positives=positives)
    value = loss(x, y)
    rel = 1e-9 if dtype == torch.float64 else 2e-5
    assert value.item() == pytest.approx(wanted.item(), rel=rel)
    assert close(torch.autograd.grad(value, x)[0], torch.autograd.grad(wanted, x)[0], rel)


def test_temperature_sharpens_the_softmax():
    x, y, _, _ = batch(5, 26, 3)
    cold = SelectivelyContrastiveLoss(0.0, temperature=0.1)(x, y)
    triplets = miners.BatchEasyHardMiner(
        pos_strategy="easy", neg_strategy="hard", distance=distances.CosineSimilarity()
    )(x, y)
    a, p, _, n = triplets
    s = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(x).t()
    gap = (s[a, n] - s[a, p]).detach()
    wanted = torch.nn.functional.softplus(gap / 0.1).where(gap <= 0, 0.0).mean()
    assert float(cold) == pytest.approx(float(wanted), rel=1e-9)


LOSSES = makers(0.3, 0.7, without=("random", "quantile", "weighted"))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("refs", [0, 6])
def test_gradcheck(name, refs):
    x, y, r, ry = batch(11, 8, 2, dim=3, refs=refs)
    loss = LOSSES[name]()
    sources = (x,) if r is None else (x, r)
    assert torch.autograd.gradcheck(lambda x, r=None: loss(x, y, None, r, ry), sources, eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "kind", ["equal", "duplicates", "zero", "single label", "all labels differ", "huge", "tiny"]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_finite_in_finite_out(name, kind, dtype):
    x, y, _, _ = batch(1, 16, 3, kind=kind if kind in ("equal", "duplicates") else "random")
    if kind in ("huge", "tiny"):
        x = x * {"huge": 1e4, "tiny": 1e-7}[kind]
    x = (x * 0 if kind == "zero" else x).detach().to(dtype).requires_grad_()
    y = {"single label": torch.zeros(16), "all labels differ": torch.arange(16)}.get(kind, y)
    loss = LOSSES[name]()
    value = loss(x, y)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(x.grad).all() or (dtype == torch.float16 and kind == "tiny")
    if kind in ("single label", "all labels differ"):
        assert value.item() == 0
        assert not x.grad.any()
    assert all(
        math.isfinite(v) or kind in ("single label", "all labels differ") for v in loss.statistics.values()
    )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "reducer",
    [
        reducers.SumReducer(),
        reducers.AvgNonZeroReducer(),
        reducers.ThresholdReducer(low=0.05),
        reducers.MeanReducer(),
    ],
    ids=lambda r: type(r).__name__,
)
def test_shortcuts_equal_the_terms(name, reducer):
    x, y, _, _ = batch(2, 18, 3)
    y[0] = 9  # an anchor to leave out
    found = LOSSES[name](reducer=reducer)(x, y)
    terms = LOSSES[name](reducer=reducers.DoNothingReducer())(x, y)
    wanted = reducer(terms, x, y)
    assert float(found) == pytest.approx(float(wanted), rel=1e-12)
    assert close(torch.autograd.grad(found, x)[0], torch.autograd.grad(wanted, x)[0], 1e-11)


@pytest.mark.parametrize("name", LOSSES)
def test_pairs_limit_the_choice_and_triplets_are_taken_as_they_are(name):
    x, y, _, _ = batch(2, 18, 3)
    loss = LOSSES[name]()
    everything = (y[:, None] == y).fill_diagonal_(False).nonzero(as_tuple=True) + (y[:, None] != y).nonzero(
        as_tuple=True
    )
    assert float(loss(x, y, everything)) == pytest.approx(float(loss(x, y)), rel=1e-12)
    a, p, n = (torch.tensor(part) for part in zip(*list(every_triplet(y, None))[::5], strict=True))
    assert float(loss(x, y, (a, p, n))) == pytest.approx(float(loss(x, indices_tuple=(a, p, n))), rel=1e-12)
    terms = LOSSES[name](reducer=reducers.DoNothingReducer())(x, y, (a, p, n))["loss"]
    assert torch.equal(terms["indices"][1], p)
    empty = torch.empty(0, dtype=torch.int64)
    assert float(loss(x, y, (empty, empty, empty))) == 0


def test_anchors_without_a_partner_are_left_out_and_counted():
    x, _, _, _ = batch(2, 6, 1)
    loss = BatchHardTripletLoss(0.2)
    value = loss(x, torch.tensor([0, 0, 1, 1, 2, 3]))
    assert loss.statistics["anchors"] == 4
    assert loss.statistics["left_out"] == 2
    matrix = euclidean(x, x)
    chosen = batch_hard(matrix, torch.tensor([0, 0, 1, 1, 2, 3]), None)
    assert len(chosen) == 4
    assert float(value) == pytest.approx(
        sum(max(0.0, float(matrix[a, p] - matrix[a, n] + 0.2)) for a, p, n in chosen) / 4
    )


def test_collapse_is_a_loss_of_the_margin():
    x = torch.ones(8, 4, requires_grad=True)
    y = torch.arange(8) % 2
    for loss in (BatchHardTripletLoss(0.2), TripletFocalLoss(0.2, 0.3)):
        assert float(loss(x, y)) == pytest.approx(0.2)
        assert loss.statistics["mean_distance"] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(("distance", "least"), [(None, 0.0238), (distances.CosineSimilarity(), 0.012)])
def test_focal_refuses_a_sigma_that_overflows(distance, least):
    with pytest.raises(ValueError, match=rf"sigma=0\.01 is too small.*use sigma={least}"):
        TripletFocalLoss(sigma=0.01, distance=distance)
    with pytest.raises(ValueError, match="is too small"):
        TripletFocalLoss(sigma=least - 2e-4, distance=distance)
    loss = TripletFocalLoss(sigma=least, distance=distance)
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert torch.isfinite(loss(x, torch.tensor([0, 0, 1, 1])))


@pytest.mark.parametrize("mining", ["hard", "all", "semi-hard"])
@pytest.mark.parametrize(("distance", "least"), [(None, 0.0238), (distances.CosineSimilarity(), 0.012)])
@pytest.mark.parametrize("tilt", [0.0, 0.01, 0.1, 0.15, 0.3])
def test_focal_at_its_least_sigma_has_a_finite_gradient(mining, distance, least, tilt):
    """Where the gradient is largest: the positives nearly opposite, or (for similarities) the negative near."""
    x = torch.tensor([[1.0, 0.0], [-1.0, tilt], [1.0, 0.01]], requires_grad=True)
    value = TripletFocalLoss(0.2, least, mining, distance=distance)(x, torch.tensor([0, 0, 1]))
    value.backward()
    assert torch.isfinite(value)
    assert float(value.detach()) > 1e30
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("mining", ["hard", "all", "semi-hard"])
def test_focal_finds_an_overflow_at_the_call(mining):
    loss = TripletFocalLoss(0.2, 0.3, mining, distance=distances.LpDistance(normalize_embeddings=False))
    x, y, _, _ = batch(2, 12, 2, dtype=torch.float32)
    loss(x, y)
    with pytest.raises(
        ValueError, match=r"sigma=0.3 is too small: .* use sigma=(.*) or more, or normalise"
    ) as error:
        loss(x * 1e3, y)
    sigma = float(str(error.value).split("use sigma=")[1].split()[0])
    cured = TripletFocalLoss(0.2, sigma, mining, distance=distances.LpDistance(normalize_embeddings=False))
    far = (x * 1e3).detach().requires_grad_()
    value = cured(far, y)
    assert torch.isfinite(value)
    assert torch.isfinite(torch.autograd.grad(value, far)[0]).all()


def test_the_sigma_named_at_the_call_is_enough_and_hardly_more():
    """At every size: just enough for the value alone where sigma is large, and for its slope where it is small."""
    raw = distances.LpDistance(normalize_embeddings=False)
    points = torch.tensor([[0.0], [1.0], [0.01]], requires_grad=True)
    y = torch.tensor([0, 0, 1])
    for size in (1e-6, 1e-2, 1.0, 90.0, 1.2345678e3, 9.876e8):
        x = points * size
        with pytest.raises(ValueError, match="use sigma=") as error:
            TripletFocalLoss(0.2, size * 1e-3, distance=raw)(x, y)
        sigma = float(str(error.value).split("use sigma=")[1].split()[0])
        value = TripletFocalLoss(0.2, sigma, distance=raw)(x, y)
        (grad,) = torch.autograd.grad(value, x)
        assert torch.isfinite(value)
        assert torch.isfinite(grad).all()
        assert max(float(value.detach()), float(grad.abs().max())) > 1e36
    together = torch.zeros(4, 2)  # no distance at all: no sigma is too small
    assert float(TripletFocalLoss(0.2, 1e-40, distance=raw)(together, y.repeat(2)[:4])) == pytest.approx(0.2)


def test_the_mining_of_focal_stays_as_its_reducer_was_chosen():
    loss = TripletFocalLoss(mining="all")
    assert loss.mining == "all"
    assert isinstance(loss.reducer, reducers.AvgNonZeroReducer)
    with pytest.raises(AttributeError):
        loss.mining = "hard"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchHardTripletLoss("hard"), "margin='hard'"),
        (lambda: TripletFocalLoss(sigma=0), "sigma=0"),
        (lambda: TripletFocalLoss(mining="easy"), "mining='easy'"),
        (lambda: TripletFocalLoss(mining="all", chunk=0), "chunk=0"),
        (lambda: TripletFocalLoss(chunk=4), "chunk=4 does nothing with mining='hard'"),
        (lambda: SelectivelyContrastiveLoss(-1), "lam=-1"),
        (lambda: SelectivelyContrastiveLoss(temperature=0), "temperature=0"),
        (lambda: SelectivelyContrastiveLoss(positives="none"), "positives='none'"),
        (lambda: SelectivelyContrastiveLoss(distance=distances.LpDistance()), "LpDistance is no similarity"),
        (lambda: SemiHardTripletLoss(float("inf")), "margin=inf"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
