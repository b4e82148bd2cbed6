"""EmbeddingNet and its relatives: heads, normalisation, folders, determinism."""

import json

import pytest
import torch
from torch.nn import functional as F

import siamura
from siamura.networks import (
    TOPS,
    Classifier,
    ClassifierHead,
    DistanceHead,
    EmbeddingHead,
    EmbeddingNet,
    GeM,
    PairLoss,
    PairNet,
    Top,
)


@pytest.fixture
def x():
    return torch.randint(0, 256, (3, 1, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_output_is_normalised_and_float32_even_under_autocast(x):
    net = EmbeddingNet("squeezenet1_1", dim=16).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(x)
    assert out.dtype == torch.float32
    assert torch.allclose(out.norm(dim=1), torch.ones(3))
    assert torch.allclose(net(x), net(x.float()))
    assert not torch.allclose(
        EmbeddingNet("squeezenet1_1", 16, normalize=False)(x).norm(dim=1), torch.ones(3)
    )


def test_it_normalises_inside_by_one_grey_mean_and_deviation(x):
    net = EmbeddingNet("squeezenet1_1", dim=16).eval()
    by_hand = net.trunk((x.float() / 255 - 0.449) / 0.226)
    assert torch.allclose(net.features(x), by_hand, atol=1e-4)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    nets = [EmbeddingNet("squeezenet1_1", 8, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(before, torch.get_rng_state())
    a, b, c = (net.head.layers[-1].weight for net in nets)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pool": "gem"},
        {"pool": "max", "hidden": (32, 24), "batch_norm": True, "dropout": 0.3},
        {"normalize": False},
    ],
)
def test_saved_and_loaded_it_is_the_same(tmp_path, x, options):
    pre = siamura.Preprocess(size=64)
    net = EmbeddingNet("squeezenet1_1", dim=8, preprocess=pre, **options).eval()
    assert net.save_pretrained(tmp_path / "model") == tmp_path / "model"
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    again = EmbeddingNet.from_pretrained(tmp_path / "model")
    assert not again.training
    assert torch.equal(net(x), again(x))
    assert again.preprocess == pre


def test_what_cannot_be_loaded_is_said(tmp_path, x):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        EmbeddingNet.from_pretrained(tmp_path)
    EmbeddingNet("squeezenet1_1", dim=8).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a EmbeddingNet"):
        Classifier.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "dim": 9}))
    with pytest.raises(
        ValueError, match=r"dense layers have \[9\] outputs, those of the weights beside it \[8\]"
    ):
        EmbeddingNet.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="no network's description"):
        EmbeddingNet.from_pretrained(tmp_path)


def test_gem_lies_between_average_and_maximum():
    features = torch.rand(2, 5, 4, 4, dtype=torch.float64)
    assert torch.allclose(GeM(1.0)(features), features.mean((-2, -1)))
    assert torch.allclose(GeM(200.0)(features), features.amax((-2, -1)), rtol=0.02)
    pooled = GeM(3.0)(features)
    assert ((pooled > features.mean((-2, -1))) & (pooled < features.amax((-2, -1)))).all()
    zero = torch.zeros(1, 1, 2, 2, requires_grad=True)
    GeM(3.0)(zero).sum().backward()
    assert torch.isfinite(zero.grad).all()


@pytest.mark.parametrize(
    ("options", "needle"),
    [({"dim": 0}, "dim=0"), ({"pool": "median"}, "pool='median'"), ({"dropout": 1.0}, "dropout=1.0"),
     ({"hidden": (0,)}, "hidden=0")],
)  # fmt: skip
def test_head_arguments(options, needle):
    with pytest.raises(ValueError, match=needle):
        EmbeddingHead(8, **{"dim": 4, **options})


def test_images_of_another_form_are_refused():
    net = EmbeddingNet("squeezenet1_1", dim=8)
    with pytest.raises(ValueError, match=r"\(2, 3, 64, 64\); expected \(B, 1, S, S\)"):
        net(torch.zeros(2, 3, 64, 64))


@pytest.mark.parametrize("top", sorted(TOPS))
def test_tops_as_the_reports_give_them(top, x):
    net = Classifier("squeezenet1_1", top, image_size=64)
    logits = net(x)
    logits.sum().backward()
    assert logits.shape == (3,)
    dense = [m for m in net.head.layers if isinstance(m, torch.nn.Linear)]
    assert tuple(m.out_features for m in dense) == (*TOPS[top].hidden, 1)
    assert dense[0].in_features == {
        "b_resnet50": 512 * 9, "b_vgg19": 512 * 9, "c": 1000,
    }.get(top, 512)  # fmt: skip


def test_system_b_drops_between_its_two_dense_layers():
    kinds = [type(m).__name__ for m in ClassifierHead(8, TOPS["b_densenet169"]).layers]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]
    kinds = [type(m).__name__ for m in ClassifierHead(8, TOPS["d"]).layers]
    assert kinds == ["Dropout", "LeakyReLU", "Linear"]


def test_the_penalty_is_on_inner_layers():
    head = ClassifierHead(4, Top(hidden=(3, 2), l2=0.01))
    expected = 0.01 * (head.layers[0].weight.square().sum() + head.layers[2].weight.square().sum())
    assert torch.allclose(head.penalty(), expected)


def test_classifier_folder(tmp_path, x):
    net = Classifier("squeezenet1_1", "b_vgg19", image_size=64, dropout=0.1).eval()
    net.save_pretrained(tmp_path)
    assert torch.equal(Classifier.from_pretrained(tmp_path)(x), net(x))
    with pytest.raises(ValueError, match="flatten"):
        Classifier("squeezenet1_1", "b_vgg19")
    with pytest.raises(ValueError, match="top='z' is unknown"):
        Classifier("squeezenet1_1", "z")


def test_pair_losses_against_loops():
    emb = F.normalize(torch.randn(7, 5, dtype=torch.float64), dim=1).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 0])
    head = DistanceHead().double()
    same, other, entropy = [], [], {True: [], False: []}
    for i in range(7):
        for j in range(i + 1, 7):
            d = (emb[i] - emb[j]).norm()
            alike = bool(labels[i] == labels[j])
            (same if alike else other).append(d**2 if alike else max(0, 0.8 - d) ** 2)
            p = head(emb[i], emb[j]).sigmoid()
            entropy[alike].append(-torch.log(p if alike else 1 - p))
    expected = (sum(same) / len(same) + sum(other) / len(other)) / 2
    loss = PairLoss(margin=0.8)
    assert torch.allclose(loss(emb, labels), expected)
    expected = sum(sum(e) / len(e) for e in entropy.values()) / 2
    assert torch.allclose(PairLoss("bce", head=head)(emb, labels), expected)
    twins = torch.zeros(4, 3, requires_grad=True)
    loss(twins, torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(twins.grad).all()
    assert loss.statistics["mean_distance"] < 1e-3


def test_pair_net_compares_and_travels(tmp_path, x):
    net = PairNet("squeezenet1_1", dim=8).eval()
    with torch.no_grad():
        net.distance.threshold.fill_(0.3)
    assert net.similar(x, x).min() > 0.5
    assert net.similar(x, x.flip(0)).shape == (3,)
    net.save_pretrained(tmp_path)
    assert torch.equal(PairNet.from_pretrained(tmp_path).similar(x, x.flip(0)), net.similar(x, x.flip(0)))
    with pytest.raises(ValueError, match="distance"):
        PairLoss("bce")
