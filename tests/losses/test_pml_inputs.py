"""What PML takes, these losses take: wrappers, indices, distances of one's own, other defaults, the compiler."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import weakref

import numpy as np
import pytest
import torch
from every_loss import makers
from pytorch_metric_learning import distances, reducers
from pytorch_metric_learning import losses as pml
from siamura.losses import (
    BatchHardTripletLoss,
    CrossBatchMemory,
    SelfSupervisedLoss,
    TripletLoss,
)
from triplet_oracles import batch, close
from triplet_oracles import triplets as every_triplet

LOSSES = makers(0.3, 0.7, without=("soft",))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_views_as_positives(name, symmetric):
    x, _, r, _ = batch(1, 8, 3, refs=8)
    torch.manual_seed(0)
    found = SelfSupervisedLoss(LOSSES[name](), symmetric=symmetric)(x, r)
    y = torch.arange(8)
    torch.manual_seed(0)
    wanted = (
        LOSSES[name]()(torch.cat([x, r]), y.repeat(2))
        if symmetric
        else LOSSES[name]()(x, y, None, r, y.clone())
    )
    assert float(found) == float(wanted)
    if name == "all":
        peer = pml.SelfSupervisedLoss(pml.TripletMarginLoss(0.3), symmetric=symmetric)(x, r)
        assert float(found) == pytest.approx(float(peer), rel=1e-9)


def test_views_keep_the_statistics_and_serve_pmls_losses():
    x, _, r, _ = batch(1, 8, 3, refs=8)
    wrapped = SelfSupervisedLoss(BatchHardTripletLoss())
    wrapped(x, r)
    assert wrapped.statistics == wrapped.loss.statistics
    assert wrapped.statistics["anchors"] == 16
    assert torch.isfinite(SelfSupervisedLoss(pml.ContrastiveLoss())(x, r))
    with pytest.raises(Exception, match="not supported"):
        SelfSupervisedLoss(pml.ArcFaceLoss(3, 6))


FORMS = {
    "int32": lambda index, size: index.int(),
    "int16": lambda index, size: index.short(),
    "numpy": lambda index, size: index.numpy(),
    "numpy int32": lambda index, size: index.numpy().astype(np.int32),
    "list": lambda index, size: index.tolist(),
    "negative": lambda index, size: index - size,
}


@pytest.mark.parametrize("refs", [0, 11])
@pytest.mark.parametrize("kind", ["triplets", "pairs"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LOSSES)
def test_indices_of_any_form(name, form, kind, refs):
    x, y, r, ry = batch(2, 9, 2, refs=refs)
    a, p, n = (torch.tensor(part) for part in zip(*list(every_triplet(y, ry))[::3], strict=True))
    places = [a, p, n] if kind == "triplets" else [a, p, a, n]
    sizes = [9, refs or 9, refs or 9] if kind == "triplets" else [9, refs or 9] * 2
    given = tuple(FORMS[form](index, size) for index, size in zip(places, sizes, strict=True))
    loss = LOSSES[name]()
    found, wanted = loss(x, y, given, r, ry), loss(x, y, tuple(places), r, ry)
    assert float(found) == float(wanted) > 0
    if name == "all" and kind == "triplets" and form != "int16":
        assert float(found) == pytest.approx(float(pml.TripletMarginLoss(0.3)(x, y, given, r, ry)), rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("wrong", [9, 11, -10, 99])
@pytest.mark.parametrize("refs", [0, 11])
def test_indices_out_of_range_are_refused(name, wrong, refs):
    x, y, r, ry = batch(2, 9, 2, refs=refs)
    good = torch.tensor([0, 1, 2])
    for kind in (3, 4):
        for place in range(kind):
            size = 9 if place == 0 or (kind, place) == (4, 2) else refs or 9
            if -size <= wrong < size:
                continue
            given = [good.clone() for _ in range(kind)]
            given[place][1] = wrong
            with pytest.raises(
                IndexError, match=rf"indices_tuple\[{place}\] holds {wrong}, but there are {size}"
            ):
                LOSSES[name]()(x, y, tuple(given), r, ry)
            if kind == 3:
                with pytest.raises(IndexError):
                    pml.TripletMarginLoss()(x, y, tuple(given), r, ry)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((torch.zeros(2), torch.tensor([1, 2]), torch.tensor([3, 4])), "dtype torch.float32"),
        ((torch.ones(2, dtype=torch.bool),) * 3, "dtype torch.bool"),
        ((torch.zeros(2, 2, dtype=torch.int64),) * 3, r"shape \(2, 2\)"),
        ((None, [1], [2]), r"indices_tuple\[0\] is a NoneType"),
        (([0], ["1"], [2]), r"indices_tuple\[1\] is a list"),
        (([0, 1], [1], [2, 3]), "has 2 indices and .*1; give as many"),
        (([0, 1], [1, 2], [2], [3, 4]), r"indices_tuple\[2\] has 1 indices and indices_tuple\[3\] 2"),
    ],
)
def test_indices_that_are_none(given, message):
    x, y, _, _ = batch(2, 9, 2)
    with pytest.raises(IndexError, match=message):
        BatchHardTripletLoss()(x, y, given)


class Sets(distances.BaseDistance):
    """The mean distance between two sets of vectors: embeddings (B, n, d)."""

    def check_shapes(self, query_emb, ref_emb):
        assert query_emb.ndim == 3
        assert ref_emb is None or ref_emb.ndim == 3

    def normalize(self, embeddings, dim=-1, **kwargs):
        return torch.nn.functional.normalize(embeddings, dim=2)

    def compute_mat(self, query_emb, ref_emb):
        flat = torch.cdist(query_emb.flatten(0, 1), ref_emb.flatten(0, 1))
        return flat.view(len(query_emb), query_emb.shape[1], len(ref_emb), ref_emb.shape[1]).mean((1, 3))


class Alike(Sets):
    def __init__(self):
        super().__init__(is_inverted=True)

    def compute_mat(self, query_emb, ref_emb):
        return -super().compute_mat(query_emb, ref_emb)


@pytest.mark.parametrize("refs", [0, 7])
@pytest.mark.parametrize("name", LOSSES)
def test_a_distance_between_sets_of_vectors(name, refs):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(10, 4, 3, generator=rng, requires_grad=True)
    y = torch.arange(10) % 3
    r, ry = (torch.randn(refs, 2, 3, generator=rng), torch.arange(refs) % 3) if refs else (None, None)
    distance = Alike() if name == "selective" else Sets()
    loss = LOSSES[name](distance=distance)
    value = loss(x, y, None, r, ry)
    value.backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.any()
    if name in ("all", "smooth"):
        peer = pml.TripletMarginLoss(0.3, smooth_loss=name == "smooth", distance=distance)(x, y, None, r, ry)
        assert float(value) == pytest.approx(float(peer), rel=1e-5)
    if name == "all":
        chunks = TripletLoss(0.3, distance=distance, chunk=3)(x, y, None, r, ry)
        assert float(chunks) == pytest.approx(float(value), rel=1e-6)
    with pytest.raises(ValueError, match=r"\(batch, dim\)"):
        LOSSES[name]()(x, y)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reducer", [None, reducers.SumReducer(), reducers.ThresholdReducer(low=0.01)])
def test_other_defaults_change_nothing(name, dtype, reducer):
    found = []
    for defaults in ({}, {"dtype": torch.float64}, {"device": "meta"}):
        x, y, r, ry = batch(1, 12, 3, refs=5, dtype=dtype)
        pairs = (y[:, None] == ry).nonzero(as_tuple=True) + (y[:, None] != ry).nonzero(as_tuple=True)
        loss = LOSSES[name](**({} if reducer is None else {"reducer": reducer}))
        # A context: PyTorch 2.6 has no default device any more after set_default_device(None).
        place = torch.device(defaults["device"]) if "device" in defaults else contextlib.nullcontext()
        try:
            torch.set_default_dtype(defaults.get("dtype", torch.float32))
            values = []
            for arguments in ((x, y), (x, y, None, r, ry), (x, y, pairs, r, ry)):
                if name == "random":
                    torch.manual_seed(0)
                with place:
                    value = loss(*arguments)
                    gradient = torch.autograd.grad(value, x)
                values += [value.detach(), *gradient, loss.statistics]
        finally:
            torch.set_default_dtype(torch.float32)
        found.append(values)
    for other in found[1:]:
        for mine, theirs in zip(found[0], other, strict=True):
            if isinstance(mine, dict):
                assert mine == theirs
            else:
                assert mine.dtype == theirs.dtype
                assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", LOSSES)
def test_a_compiled_step(name):
    x, y, r, ry = batch(1, 12, 3, refs=5, dtype=torch.float32)
    net, loss = torch.nn.Linear(5, 4), LOSSES[name]()

    def step(x, y, r=None, ry=None):
        return loss(net(x), y, None, None if r is None else net(r), ry) * 2

    compiled = torch.compile(step, backend="eager")
    for arguments in ((x, y), (x, y, r, ry)):
        grads = []
        for call in (step, compiled):
            net.zero_grad()
            torch.manual_seed(0)
            value = call(*(None if a is None else a.detach() for a in arguments))
            value.backward()
            grads.append((value.detach(), net.weight.grad.clone()))
        for plain, fast in zip(*grads, strict=True):
            assert close(fast, plain.double(), 1e-6)
    direct = torch.compile(loss, backend="eager")
    torch.manual_seed(0)
    found = direct(x, y)
    torch.manual_seed(0)
    assert float(found) == pytest.approx(float(loss(x, y)))
    torch._dynamo.reset()


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_of_the_last_batch_is_pickled_or_copied(name):
    x, y, _, _ = batch(1, 200, 2, dtype=torch.float32)
    loss = LOSSES[name]() if name not in ("smooth", "swap") else LOSSES[name](distance=distances.LpDistance())
    fresh = len(pickle.dumps(loss))
    value = loss(x[:40], y[:40]) if name in ("smooth", "swap") else loss(x, y)
    for read in (False, True):
        if read:
            assert loss.statistics["anchors"] > 0
        assert len(pickle.dumps(loss)) < fresh + 100
        file = io.BytesIO()
        torch.save(loss, file)
        assert file.tell() < 20_000
        again = copy.deepcopy(loss)
        assert again.statistics == {}
        torch.manual_seed(0)
        first = again(x[:40], y[:40])
        torch.manual_seed(0)
        assert float(first) == float(pickle.loads(pickle.dumps(loss))(x[:40], y[:40]))
    assert not loss.state_dict()
    assert value.grad_fn is not None


def test_statistics_hold_no_graph():
    """The network's activations would live until the next call."""
    for name, make in LOSSES.items():
        x, y, _, _ = batch(1, 12, 3)
        loss, middle = make(), x * 2
        node = weakref.ref(middle)
        loss(middle, y).backward()
        del middle
        assert node() is None, name


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_a_checkpoint_of_pmls_own_memory_is_read(steps):
    theirs = pml.CrossBatchMemory(pml.TripletMarginLoss(0.2), 6, memory_size=24)
    mine = CrossBatchMemory(TripletLoss(0.2), 6, memory_size=24)
    batches = [batch(seed, 8, 3, dim=6)[:2] for seed in range(steps + 2)]
    for x, y in batches[:steps]:
        theirs(x, y)
    if steps < 3:
        mine.load_state_dict(theirs.state_dict())
        assert (mine.queue_idx, mine.has_been_filled) == (16, False)
    else:
        with pytest.warns(UserWarning, match="oldest"):
            mine.load_state_dict(theirs.state_dict())
        assert (mine.queue_idx, mine.has_been_filled) == (0, True)
        theirs.queue_idx = 0
    for x, y in batches[steps:]:
        assert float(mine(x, y)) == pytest.approx(float(theirs(x, y)), rel=1e-9)
    empty = pml.CrossBatchMemory(pml.TripletMarginLoss(0.2), 6, memory_size=24).state_dict()
    again = CrossBatchMemory(TripletLoss(0.2), 6, memory_size=24)
    again.load_state_dict(empty)
    assert (again.queue_idx, again.has_been_filled) == (0, False)
    nested = torch.nn.ModuleDict({"loss": CrossBatchMemory(TripletLoss(0.2), 6, memory_size=24)})
    nested.load_state_dict({f"loss.{name}": value for name, value in empty.items()})
