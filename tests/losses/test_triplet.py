"""TripletLoss against triple loops, and in the place of PML's TripletMarginLoss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances, losses, miners, reducers
from siamura.losses import TripletLoss
from triplet_oracles import all_triplets, batch, close, euclidean

REDUCERS = {
    "sum": reducers.SumReducer(),
    "mean": reducers.MeanReducer(),
    "nonzero": reducers.AvgNonZeroReducer(),
}
KINDS = st.sampled_from(["random", "random", "duplicates", "equal", "clusters"])
CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "rows": st.integers(2, 64),
        "labels": st.integers(1, 8),
        "kind": KINDS,
        "refs": st.sampled_from([0, 0, 1, 7, 40]),
        "scale": st.sampled_from([1.0, 1e-8, 1e-3, 1e4]),
    }
)


def graded(loss, x, y, r, ry, **kwargs):
    """The loss and its gradients for embeddings and references."""
    value = loss(x, y, ref_emb=r, ref_labels=ry, **kwargs)
    sources = [x] if r is None else [x, r]
    return value, torch.autograd.grad(value, sources)


def naive(x, y, r, ry, margin, how, normalized, smooth=False):
    matrix = euclidean(x, x if r is None else r, normalized)
    value, weights, active, number = all_triplets(matrix, y, ry, margin, how, smooth=smooth)
    sources = [x] if r is None else [x, r]
    return value, torch.autograd.grad(matrix, sources, weights, allow_unused=True), active, number


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    case=CASES,
    how=st.sampled_from(sorted(REDUCERS)),
    normalized=st.booleans(),
    margin=st.sampled_from([0.0, 0.2, 1.5]),
)
def test_equals_the_triple_loop_in_double_precision(case, how, normalized, margin):
    x, y, r, ry = batch(**case)
    loss = TripletLoss(
        margin, distance=distances.LpDistance(normalize_embeddings=normalized), reducer=REDUCERS[how]
    )
    value, grads = graded(loss, x, y, r, ry)
    wanted, wanted_grads, active, number = naive(x, y, r, ry, margin, how, normalized)
    assert abs(float(value) - wanted) <= 1e-9 * max(1.0, abs(wanted))
    for grad, want in zip(grads, wanted_grads, strict=True):
        assert torch.isfinite(grad).all()
        assert close(grad, want, 1e-9) or float(want.abs().max()) < 1e-6  # directions of 1e-8 sums
    assert loss.statistics["triplets"] == number
    if number:
        assert loss.statistics["active_fraction"] == pytest.approx(active / number, abs=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    case=CASES,
    how=st.sampled_from(sorted(REDUCERS)),
    normalized=st.booleans(),
    chunk=st.sampled_from([None, 1, 7]),
)
def test_float32_is_as_good_as_its_inputs(case, how, normalized, chunk):
    x, y, r, ry = batch(**case, dtype=torch.float32)
    loss = TripletLoss(
        0.2,
        distance=distances.LpDistance(normalize_embeddings=normalized),
        reducer=REDUCERS[how],
        chunk=chunk,
    )
    value, grads = graded(loss, x, y, r, ry)
    wanted, wanted_grads, _, _ = naive(x, y, r, ry, 0.2, how, normalized)
    spread = 0.0 if normalized else case["scale"]
    assert float(value) == pytest.approx(wanted, rel=3e-6, abs=1e-6 * (1 + spread))
    for grad, want in zip(grads, wanted_grads, strict=True):
        assert torch.isfinite(grad).all()
        if case["kind"] == "random":  # elsewhere the direction between two points is below the resolution
            assert close(grad, want, 2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, y, _, _ = batch(3, 40, 3, dtype=dtype)
    value = TripletLoss(0.2)(x, y)
    assert value.dtype == torch.float32
    wide = x.detach().float().requires_grad_()
    same = TripletLoss(0.2)(wide, y)
    assert value == same
    value.backward()
    same.backward()
    assert x.grad.dtype == dtype
    assert torch.equal(x.grad, wide.grad.to(dtype))
    pml = losses.TripletMarginLoss(0.2)(x.detach(), y)
    assert float(value) == pytest.approx(float(pml), rel=0.03)


def test_autocast_changes_nothing():
    x, y, _, _ = batch(4, 40, 3, dtype=torch.float32)
    wanted = TripletLoss(0.2)(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert TripletLoss(0.2)(x, y) == wanted


DISTANCES = {
    "euclidean": lambda: distances.LpDistance(),
    "raw": lambda: distances.LpDistance(normalize_embeddings=False),
    "squared": lambda: distances.LpDistance(power=2),
    "manhattan": lambda: distances.LpDistance(p=1),
    "cosine": lambda: distances.CosineSimilarity(),
    "dot": lambda: distances.DotProductSimilarity(normalize_embeddings=False),
    "snr": lambda: distances.SNRDistance(),
}
PML_REDUCERS = {
    **REDUCERS,
    "default": None,
    "threshold": reducers.ThresholdReducer(low=0.1, high=0.9),
    "class-weighted": reducers.ClassWeightedReducer(torch.tensor([1.0, 2.0, 0.5, 3.0])),
    "multiple": reducers.MultipleReducers({"loss": reducers.SumReducer()}),
}


def agree(ours, theirs, x, y, r=None, ry=None, indices=None, rel=1e-9):
    a, ga = graded(ours, x, y, r, ry, indices_tuple=indices)
    b, gb = graded(theirs, x, y, r, ry, indices_tuple=indices)
    assert float(a) == pytest.approx(float(b), rel=rel, abs=1e-12)
    for mine, other in zip(ga, gb, strict=True):
        assert close(mine, other, rel * 10)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("reducer", PML_REDUCERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_in_the_place_of_pml(distance, reducer, dtype):
    rel = 1e-9 if dtype == torch.float64 else 2e-5
    for options in ({}, {"swap": True}, {"smooth_loss": True}, {"swap": True, "smooth_loss": True}):
        for refs in (0, 13):
            if refs and "swap" in options:
                continue  # PML looks up rows of the wrong matrix there
            x, y, r, ry = batch(1, 17, 3, refs=refs, dtype=dtype)
            arguments = {"margin": 0.3, "reducer": PML_REDUCERS[reducer], **options}
            agree(
                TripletLoss(distance=DISTANCES[distance](), **arguments),
                losses.TripletMarginLoss(distance=DISTANCES[distance](), **arguments),
                x, y, r, ry, rel=rel,
            )  # fmt: skip


def test_arguments_and_defaults_are_pmls():
    import inspect

    theirs = inspect.signature(losses.TripletMarginLoss.__init__).parameters
    mine = inspect.signature(TripletLoss.__init__).parameters
    for name, parameter in theirs.items():
        if name not in ("self", "kwargs"):
            assert mine[name].default == parameter.default
    assert list(mine)[:5] == list(theirs)[:5]
    assert type(TripletLoss().reducer) is type(losses.TripletMarginLoss().reducer)
    assert TripletLoss(0.3, True, True, 5).swap


def test_random_triplets_are_those_pml_draws():
    x, y, _, _ = batch(1, 20, 3)
    torch.manual_seed(0)
    mine = TripletLoss(0.2, triplets_per_anchor=4)(x, y)
    torch.manual_seed(0)
    theirs = losses.TripletMarginLoss(0.2, triplets_per_anchor=4)(x, y)
    assert float(mine) == pytest.approx(float(theirs), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("refs", [0, 23])
@pytest.mark.parametrize(
    "miner",
    [
        miners.BatchHardMiner(),
        miners.TripletMarginMiner(margin=0.2, type_of_triplets="all"),
        miners.MultiSimilarityMiner(epsilon=0.1),
        miners.PairMarginMiner(pos_margin=0.5, neg_margin=1.2),
    ],
    ids=lambda miner: type(miner).__name__,
)
def test_miners_are_honoured(miner, refs, dtype):
    x, y, r, ry = batch(2, 19, 3, refs=refs, dtype=dtype)
    indices = miner(x, y, r, ry)
    agree(
        TripletLoss(0.2), losses.TripletMarginLoss(0.2), x, y, r, ry, indices,
        rel=1e-9 if dtype == torch.float64 else 2e-5,
    )  # fmt: skip


@pytest.mark.parametrize("smooth", [False, True])
def test_pairs_listed_twice_or_on_both_sides_count_as_pml_counts_them(smooth):
    rng = torch.Generator().manual_seed(0)
    x, y, _, _ = batch(2, 12, 3)
    pairs = tuple(torch.randint(0, 12, (80,), generator=rng) for _ in range(4))
    agree(
        TripletLoss(0.2, smooth_loss=smooth), losses.TripletMarginLoss(0.2, smooth_loss=smooth), x, y,
        indices=pairs,
    )  # fmt: skip
    # without labels too
    value = TripletLoss(0.2, smooth_loss=smooth)(x, indices_tuple=pairs)
    assert float(value) == float(TripletLoss(0.2, smooth_loss=smooth)(x, y, pairs))


class Scaled(distances.LpDistance):
    """A distance that learns."""

    def __init__(self):
        super().__init__(p=1)
        self.factor = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def compute_mat(self, query_emb, ref_emb):
        return super().compute_mat(query_emb, ref_emb) * self.factor


@pytest.mark.parametrize("refs", [0, 9])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_chunks_change_nothing_and_a_learning_distance_learns(refs, chunk):
    x, y, r, ry = batch(5, 21, 3, refs=refs)
    found = []
    for size in (None, chunk):
        distance = Scaled()
        loss = TripletLoss(0.2, distance=distance, chunk=size)
        value = loss(x, y, ref_emb=r, ref_labels=ry)
        grads = torch.autograd.grad(value, [x, distance.factor] + ([] if r is None else [r]))
        found.append([value, *grads, loss.statistics["mean_distance"], loss.statistics["hardest_positive"]])
    for whole, cut in zip(*found, strict=True):
        assert torch.allclose(torch.as_tensor(whole), torch.as_tensor(cut), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("refs", [0, 9])
def test_chunks_without_a_gradient_or_with_a_weight_that_is_not_used(refs):
    x, y, r, ry = batch(5, 21, 3, refs=refs)
    whole, cut = (TripletLoss(0.2, distance=Scaled(), chunk=size) for size in (None, 4))
    wanted = whole(x, y, ref_emb=r, ref_labels=ry)
    cut.distance.requires_grad_(False)
    found = cut(x.detach(), y, ref_emb=None if r is None else r.detach(), ref_labels=ry)
    assert not found.requires_grad
    assert float(found) == pytest.approx(float(wanted.detach()), rel=1e-12)

    cut.distance.unused = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    cut(x, y, ref_emb=r, ref_labels=ry).backward()
    assert cut.distance.unused.grad is None
    assert close(x.grad, torch.autograd.grad(wanted, x)[0], 1e-12)


@pytest.mark.parametrize("loss", [TripletLoss(), TripletLoss(smooth_loss=True), TripletLoss(swap=True)])
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [0]])
def test_no_triplet_is_a_zero_with_a_gradient(loss, labels):
    x = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = loss(x, torch.tensor(labels))
    value.backward()
    assert float(value) == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("reducer", ["default", "sum", "mean", "threshold"])
def test_nan_is_never_a_silent_zero(reducer):
    x, y, _, _ = batch(1, 12, 3, dtype=torch.float32)
    x = x.detach().clone()
    x[3] = torch.nan
    loss = TripletLoss(reducer=PML_REDUCERS[reducer])
    if reducer == "threshold":
        with pytest.raises(ValueError, match="NaN or infinite"):
            loss(x, y)
    else:
        assert torch.isnan(loss(x, y))


def test_regularizer_and_untouched_terms():
    from pytorch_metric_learning.regularizers import LpRegularizer

    x, y, _, _ = batch(1, 12, 3)
    options = {"embedding_regularizer": LpRegularizer(), "embedding_reg_weight": 0.3}
    agree(TripletLoss(0.2, **options), losses.TripletMarginLoss(0.2, **options), x, y)
    terms = TripletLoss(0.2, reducer=reducers.DoNothingReducer())(x, y)
    assert len(terms["loss"]["losses"]) == len(terms["loss"]["indices"][0])


@pytest.mark.parametrize("kind", [reducers.MeanReducer, reducers.AvgNonZeroReducer])
def test_a_reducer_that_collects_statistics_sees_every_term(kind):
    x, y, _, _ = batch(1, 12, 3)
    mine = TripletLoss(0.2, reducer=kind(collect_stats=True))
    theirs = losses.TripletMarginLoss(0.2, reducer=kind(collect_stats=True))
    agree(mine, theirs, x, y)
    assert mine.reducer.losses_size == theirs.reducer.losses_size > 1


def test_statistics_are_of_the_last_call():
    x, y, _, _ = batch(7, 30, 4)
    loss = TripletLoss(0.2)
    assert loss.statistics == {}
    loss(x, y)
    matrix = euclidean(x, x)
    same = (y[:, None] == y) & ~torch.eye(30, dtype=torch.bool)
    other = y[:, None] != y
    found = loss.statistics
    assert found["hardest_positive"] == pytest.approx(
        float(matrix.where(same, -1.0).amax(1).mean()), rel=1e-9
    )
    assert found["hardest_negative"] == pytest.approx(
        float(matrix.where(other, 9.0).amin(1).mean()), rel=1e-9
    )
    assert found["mean_distance"] == pytest.approx(float(matrix.sum() / (30 * 29)), rel=1e-9)
    assert found["anchors"] == 30
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": float("nan")}, "margin=nan"),
        ({"triplets_per_anchor": 0}, "triplets_per_anchor=0"),
        ({"chunk": 0}, "chunk=0"),
        ({"chunk": True}, "chunk=True"),
        ({"chunk": 2, "swap": True}, "chunk=2 does nothing with swap"),
        ({"chunk": 2, "triplets_per_anchor": 3}, "chunk=2 does nothing with triplets_per_anchor"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TripletLoss(**arguments)


def test_wrong_inputs_are_named():
    x, _, _, _ = batch(1, 6, 2)
    with pytest.raises(ValueError, match="both be None"):
        TripletLoss()(x)
    with pytest.raises(ValueError, match="both be None"):
        TripletLoss(reducer=reducers.DoNothingReducer())(x)
    with pytest.raises(ValueError, match="floating point"):
        TripletLoss()(torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4))
    with pytest.raises(ValueError, match=r"\(batch, dim\)"):
        TripletLoss()(torch.zeros(4), torch.zeros(4))


@pytest.mark.slow
def test_large_batches_equal_the_list():
    x, y, _, _ = batch(0, 256, 2, dim=32, dtype=torch.float32)
    agree(TripletLoss(0.2), losses.TripletMarginLoss(0.2), x, y, rel=2e-5)
