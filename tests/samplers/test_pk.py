"""PKBatchSampler's promises, over random labels, groups and domains."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from siamura.samplers import PKBatchSampler
from siamura.samplers._dealing import deal, share


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    labels = draw(st.integers(1, 6))
    k = draw(st.integers(1, 6))
    sizes = rng.integers(k, k + 30, labels)
    y = rng.permutation(np.repeat(np.arange(labels), sizes))
    groups = rng.integers(0, draw(st.integers(1, 60)), len(y)) if draw(st.booleans()) else None
    p = draw(st.integers(1, labels))
    length = draw(st.one_of(st.none(), st.integers(1, 40)))
    return {"labels": y, "p": p, "k": k, "groups": groups, "length": length, "seed": draw(st.integers(0, 99))}


@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=cases())
def test_every_batch_has_p_labels_and_k_different_items_of_each(case):
    sampler = PKBatchSampler(**case)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    if case["length"] is not None:
        assert len(sampler) == case["length"]
    for batch in batches:
        assert len(set(batch)) == case["p"] * case["k"]
        counts = Counter(case["labels"][batch].tolist())
        assert len(counts) == case["p"]
        assert set(counts.values()) == {case["k"]}


@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=cases())
def test_no_item_comes_again_before_all_of_its_label_came(case):
    sampler = PKBatchSampler(**case)
    drawn = Counter()
    members = Counter(case["labels"].tolist())
    for batch in sampler:
        drawn.update(batch)
        for label in set(case["labels"][batch].tolist()):
            times = [drawn[i] for i in np.flatnonzero(case["labels"] == label).tolist()]
            assert max(times) - min(times) <= 1
    if case["length"] is None:
        assert len(drawn) == sum(members.values())


@settings(max_examples=120, deadline=None, derandomize=True)
@given(case=cases())
def test_positives_come_from_different_groups_as_far_as_there_are(case):
    if case["groups"] is None:
        case["groups"] = np.arange(len(case["labels"])) // 2
    sampler = PKBatchSampler(**case)
    sizes = {
        label: Counter(case["groups"][case["labels"] == label].tolist())
        for label in set(case["labels"].tolist())
    }
    seen: dict[int, int] = Counter()
    for batch in sampler:
        for i in range(case["p"]):
            items = np.array(batch[i * case["k"] : (i + 1) * case["k"]])
            label = int(case["labels"][items[0]])
            total = sum(sizes[label].values())
            seen[label] += 1
            if seen[label] * case["k"] > total:
                continue  # the pass over the label is complete: what is left decides
            most = Counter(case["groups"][items].tolist())
            for group, times in most.items():
                assert times <= -(-sizes[label][group] // (total // case["k"]))


def test_groups_no_larger_than_the_blocks_never_meet_themselves_over_many_passes():
    groups = np.repeat(np.arange(40), 3)
    sampler = PKBatchSampler(np.zeros(120, int), 1, 16, groups=groups, length=200)
    for batch in sampler:
        assert len(set(groups[batch].tolist())) == 16


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    p=st.integers(1, 3),
    k=st.integers(1, 4),
    length=st.one_of(st.none(), st.integers(1, 60)),
)
def test_within_keeps_a_batch_in_one_domain_in_proportion(seed, p, k, length):
    rng = np.random.default_rng(seed)
    domain = np.repeat(np.array(["elbow", "finger", "hand"]), rng.integers(60, 200, 3))
    y = rng.integers(0, 3, len(domain))
    sampler = PKBatchSampler(y, p, k, within=domain, length=length, seed=seed)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    turns = Counter()
    for batch in batches:
        assert len(set(domain[batch])) == 1
        assert len(set(y[batch].tolist())) == p
        turns[str(domain[batch[0]])] += 1
    for name, size in Counter(domain.tolist()).items():
        assert abs(turns[name] - len(batches) * size / len(domain)) <= 1 + (length is None)
    if length is None:
        assert len({i for batch in batches for i in batch}) == len(y)


def test_seed_and_epoch_decide():
    y = np.arange(60) % 3
    one, two = PKBatchSampler(y, 2, 5, seed=3), PKBatchSampler(y, 2, 5, seed=3)
    first, second = list(one), list(one)  # the epoch moves on by itself
    assert first != second
    assert one.epoch == 2
    two.set_epoch(1)
    assert list(two) == second
    two.set_epoch(0)
    assert list(two) == first
    assert list(PKBatchSampler(y, 2, 5, seed=4)) != first


def test_the_global_generators_are_left_alone():
    before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    list(PKBatchSampler(np.arange(60) % 3, 2, 5))
    assert (before == np.random.get_state()[1]).all()  # noqa: NPY002
    assert torch.equal(torch_before, torch.get_rng_state())


@pytest.mark.parametrize("stop", [0, 1, 5, 11])
def test_a_state_goes_on_in_the_middle_of_an_epoch(stop):
    y = np.arange(120) % 3
    make = lambda: PKBatchSampler(y, 2, 5, groups=np.arange(120) // 4, length=12, seed=1)  # noqa: E731
    whole = make()
    epochs = [list(whole) for _ in range(3)]
    stopped = make()
    list(stopped)
    for number, _ in enumerate(stopped):
        if number + 1 == max(stop, 1):
            break
    state = stopped.state_dict(position=stop)
    again = make()
    again.load_state_dict(state)
    again.set_epoch(1)  # as a trainer does
    assert list(again) == epochs[1][stop:]
    assert list(again) == epochs[2]


def test_a_state_after_the_last_batch_starts_the_next_epoch():
    sampler = PKBatchSampler(np.arange(40) % 2, 2, 5)
    epochs = [list(sampler) for _ in range(2)]
    again = PKBatchSampler(np.arange(40) % 2, 2, 5)
    again.load_state_dict({**again.state_dict(position=len(again))})
    assert list(again) == epochs[1]


def test_a_loader_that_looks_ahead_says_how_far_it_came():
    y = np.arange(40) % 2
    sampler = PKBatchSampler(y, 2, 5)
    data = torch.utils.data.TensorDataset(torch.arange(40))
    loader = torch.utils.data.DataLoader(data, batch_sampler=sampler)
    assert [batch[0].tolist() for batch in loader] == list(PKBatchSampler(y, 2, 5))


def test_a_state_of_other_data_or_settings_is_refused():
    y = np.arange(40) % 2
    state = PKBatchSampler(y, 2, 5).state_dict()
    with pytest.raises(ValueError, match="another labels, groups or within"):
        PKBatchSampler(1 - y, 2, 5).load_state_dict(state)
    with pytest.raises(ValueError, match=r"another k \(5 there, 4 here\)"):
        PKBatchSampler(y, 2, 4).load_state_dict(state)


@pytest.mark.parametrize(("p", "k", "world"), [(2, 4, 2), (2, 3, 3), (2, 3, 2), (4, 1, 4)])
def test_ranks_split_each_global_batch(p, k, world):
    y = np.arange(80) % 5
    whole = list(PKBatchSampler(y, p, k, seed=2))
    parts = [list(PKBatchSampler(y, p, k, seed=2, rank=r, world_size=world)) for r in range(world)]
    for batch, *split in zip(whole, *parts, strict=True):
        assert sorted(batch) == sorted(i for part in split for i in part)
        assert {len(part) for part in split} == {p * k // world}
        if k % world == 0:
            for part in split:
                assert set(Counter(y[part].tolist()).values()) == {k // world}


def test_labels_of_any_kind():
    names = np.array(["cat", "dog"] * 10)
    assert list(PKBatchSampler(names, 2, 3)) == list(PKBatchSampler(torch.arange(20) % 2, 2, 3))
    assert list(PKBatchSampler(names.tolist(), 2, 3)) == list(PKBatchSampler([0, 1] * 10, 2, 3))


def test_small_labels():
    y = [0] * 8 + [1] * 2 + [2] * 5
    with pytest.raises(
        ValueError, match=r"k=4 items of each label were asked for, but label 1 has 2; use k=2"
    ):
        PKBatchSampler(y, 2, 4)
    repeat = PKBatchSampler(y, 3, 4, short="repeat")
    for batch in repeat:
        counts = Counter(i for i in batch if y[i] == 1)
        assert set(counts.values()) == {2}
    drop = PKBatchSampler(y, 2, 4, short="drop")
    assert drop.dropped == 2
    assert {y[i] for batch in drop for i in batch} == {0, 2}
    with pytest.raises(
        ValueError, match=r"p=3 labels a batch were asked for, but the data has 2 with at least k=4"
    ):
        PKBatchSampler(y, 3, 4, short="drop")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": 3}, r"p=3 labels a batch were asked for, but the data has 2; use p=2 or less"),
        ({"k": 11}, r"label 0 has 10, 1 has 10; use k=10 or less"),
        ({"within": ["a"] * 19 + ["b"]}, r"k=2 .* in within='b' label 1 has 1"),
        ({"groups": [1, 2]}, "groups has 2 values, but there are 20 labels"),
        ({"labels": []}, "labels is empty"),
        ({"labels": [[1, 2]]}, "one value an item"),
        ({"labels": [0.0, float("nan")] * 10}, "missing values"),
        ({"world_size": 3}, r"p \* k = 2 \* 2 = 4 items cannot be split evenly among world_size=3"),
        ({"rank": 1}, "rank=1 must be below world_size=1"),
        ({"p": 0}, "p=0"),
        ({"length": 0}, "length=0"),
        ({"seed": -1}, "seed=-1"),
        ({"short": "cycle"}, "short='cycle'"),
    ],
)
def test_messages_say_what_the_data_has_and_what_was_asked_for(arguments, message):
    with pytest.raises(ValueError, match=message):
        PKBatchSampler(**{"labels": [0, 1] * 10, "p": 2, "k": 2, **arguments})


@settings(max_examples=100, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=20), blocks=st.integers(1, 9))
def test_dealing_separates_equal_groups(sizes, blocks):
    total = sum(sizes)
    capacity = np.full(blocks, total // blocks)
    capacity[: total % blocks] += 1
    block = deal(capacity)
    assert np.array_equal(np.bincount(block, minlength=blocks), capacity)
    start = 0
    for size in sizes:
        assert np.bincount(block[start : start + size]).max() <= -(-size // blocks)
        start += size


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_shares_keep_to_their_bounds(data):
    n = data.draw(st.integers(1, 12))
    weights = np.array(data.draw(st.lists(st.integers(1, 1000), min_size=n, max_size=n)), dtype=float)
    low = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)))
    high = low + np.array(data.draw(st.lists(st.integers(0, 50), min_size=n, max_size=n)))
    total = data.draw(st.integers(int(low.sum()), int(high.sum())))
    shares = share(weights, total, low, high)
    assert shares.sum() == total
    assert (shares >= low).all()
    assert (shares <= high).all()


def test_a_large_data_set_is_drawn_whole_and_its_batches_keep_the_rules():
    rng = np.random.default_rng(0)
    y, groups = rng.integers(0, 2, 40_000), rng.integers(0, 12_000, 40_000)
    sampler = PKBatchSampler(y, 2, 32, groups=groups)
    batches = np.array(list(sampler))
    assert batches.shape == (len(sampler), 64)
    assert (y[batches].reshape(-1, 2, 32).std(axis=2) == 0).all()
    assert len(np.unique(batches)) > 39_000


def test_a_small_group_never_meets_itself_in_any_small_sampler():
    """Over many passes, in the blocks between two passes too."""
    rng = np.random.default_rng(0)
    cases = [([0, 1, 0, 0, 0, 0, 1], 3, 1369)]
    for seed in range(400):
        n = int(rng.integers(2, 16))
        cases.append((rng.integers(0, rng.integers(1, n + 1), n).tolist(), int(rng.integers(1, n + 1)), seed))
    for groups, k, seed in cases:
        n, sizes = len(groups), Counter(groups)
        sampler = PKBatchSampler([0] * n, 1, k, groups=groups, seed=seed, length=3 * -(-n // k))
        drawn = Counter()
        for batch in sampler:
            assert len(set(batch)) == k, (groups, k, seed)
            drawn.update(batch)
            assert max(drawn[i] for i in range(n)) - min(drawn[i] for i in range(n)) <= 1, (groups, k, seed)
            for group, times in Counter(groups[i] for i in batch).items():
                assert times == 1 or sizes[group] > n // k, (groups, k, seed)


def numbers(batches):
    return [batch[0].tolist() for batch in batches]


@pytest.mark.parametrize("world", [1, 2])
def test_a_loop_of_len_batches_draws_every_epoch(world):
    y = np.arange(24) % 2
    make = lambda: PKBatchSampler(y, 2, 2, rank=world - 1, world_size=world, seed=5)  # noqa: E731
    whole = make()
    wanted = [list(whole) for _ in range(3)]
    sampler = make()
    data = torch.utils.data.TensorDataset(torch.arange(24))
    loader = torch.utils.data.DataLoader(data, batch_sampler=sampler)
    drawn = []
    for step in range(3 * len(loader)):
        if step % len(loader) == 0:
            batches = iter(loader)
        drawn += numbers([next(batches)])
    assert drawn == [batch for epoch in wanted for batch in epoch]
    assert sampler.epoch == 3
    again = make()
    again.load_state_dict(sampler.state_dict())
    assert list(again) == list(whole)


def test_a_plain_trainer_draws_every_epoch():
    """Lightning without workers takes len(loader) batches and no more."""
    import lightning

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(1, 1), []

        def training_step(self, batch, _):
            self.seen.append(batch[0].tolist())
            return self.layer(batch[0][:, None].float()).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-9)

    y = np.arange(24) % 2
    sampler, whole = PKBatchSampler(y, 2, 2, seed=5), PKBatchSampler(y, 2, 2, seed=5)
    data = torch.utils.data.TensorDataset(torch.arange(24))
    net = Net()
    lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    ).fit(net, torch.utils.data.DataLoader(data, batch_sampler=sampler))  # fmt: skip
    assert net.seen == [batch for _ in range(3) for batch in whole]


def test_the_place_in_an_epoch_that_was_handed_out_whole():
    """A loader with workers may have fetched the last batch long before it is trained on."""
    sampler, whole = PKBatchSampler(np.arange(40) % 2, 2, 5), PKBatchSampler(np.arange(40) % 2, 2, 5)
    epochs = [list(whole) for _ in range(3)]
    list(sampler)
    for position, wanted in (
        (2, epochs[0][2:]),
        (len(sampler), epochs[1]),
        (0, epochs[1]),
        (None, epochs[1]),
    ):
        again = PKBatchSampler(np.arange(40) % 2, 2, 5)
        again.load_state_dict(sampler.state_dict(position))
        assert list(again) == wanted


def test_an_epoch_chosen_meanwhile_has_its_own_place():
    sampler = PKBatchSampler(np.arange(40) % 2, 2, 5)
    for number, _ in enumerate(sampler):
        if number == 1:
            sampler.set_epoch(5)
    assert {name: sampler.state_dict()[name] for name in ("epoch", "position")} == {"epoch": 5, "position": 0}


def test_many_labels_cost_no_more_a_batch_than_few(monkeypatch):
    """Only the labels of a batch are made ready: what is counted is the generators that are made."""
    made = []
    plain = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: made.append(1) or plain(seed))
    sampler = PKBatchSampler(np.arange(20_000) // 2, 8, 2, length=5)
    assert len(list(sampler)) == 5
    assert len(made) <= 1 + 5 * 8
