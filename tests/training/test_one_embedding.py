"""One path to an embedding: the same image has the same vector, to the bit, whatever comes with it."""

import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import siamura
from siamura.explanation import embed_image
from siamura.networks import Classifier, EmbeddingNet
from siamura.training import embed, predict_proba

from .conftest import make_net

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (9, 64, 64), dtype=np.uint8)


@pytest.fixture(params=["squeezenet1_1", "densenet121", "mobilenet_v3_small"])
def net(request):
    return EmbeddingNet(request.param, dim=8, preprocess=siamura.Preprocess(size=64, clahe=None))


def test_an_image_has_one_vector(net):
    whole = embed(net, IMAGES, progress=False)
    order = RNG.permutation(len(IMAGES))
    data = TensorDataset(torch.from_numpy(IMAGES[order])[:, None], torch.zeros(9, dtype=torch.int64))
    assert np.array_equal(embed(net, data, 4, progress=False), whole[order])
    for row in (0, 8):
        assert np.array_equal(embed(net, IMAGES[row : row + 1], progress=False)[0], whole[row])
        assert np.array_equal(embed_image(net, IMAGES[row]), whole[row])
    assert np.array_equal(embed(net, list(IMAGES[:2]), progress=False), whole[:2])


def test_threads_and_layout_change_no_bit(net):
    before = torch.get_num_threads()
    found = []
    try:
        for threads, layout in (
            (1, torch.contiguous_format),
            (3, torch.channels_last),
            (2, torch.channels_last),
        ):
            torch.set_num_threads(threads)
            found.append(embed(net.to(memory_format=layout), IMAGES, progress=False))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_an_autocast_of_the_caller_changes_no_bit(net):
    whole = embed(net, IMAGES[:2], progress=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(embed(net, IMAGES[:2], progress=False), whole)


def test_a_network_in_training_keeps_its_layout():
    net = make_net().to(memory_format=torch.channels_last).train()
    weight = next(w for w in net.parameters() if w.ndim == 4 and min(w.shape) > 1)
    assert not weight.is_contiguous()
    place = weight.data_ptr()
    embed(net, IMAGES, progress=False)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert weight.data_ptr() == place


def test_several_threads_of_a_server_get_the_same():
    net, found = make_net(), {}
    wanted = embed(net, IMAGES, progress=False)
    before = torch.get_num_threads()

    def ask(number):
        found[number] = embed(net, IMAGES[number : number + 1], progress=False)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(IMAGES))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(np.concatenate([found[number] for number in range(9)]), wanted)
    assert torch.get_num_threads() == before


def test_probabilities_too():
    net = Classifier("squeezenet1_1")
    whole = predict_proba(net, IMAGES, progress=False)
    assert np.array_equal(predict_proba(net, IMAGES[3:4], progress=False), whole[3:4])


def test_the_default_is_float32():
    net = make_net()
    with torch.inference_mode():
        wanted = net.eval()(torch.from_numpy(IMAGES)[:, None]).numpy()
    assert np.allclose(embed(net, IMAGES, progress=False), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        (lambda n: n.double(), r"float64; call net\.float\(\)"),
        (lambda n: n.half(), r"float16; call net\.float\(\)"),
        (lambda n: n.bfloat16(), r"bfloat16; call net\.float\(\)"),
        (lambda n: n.to("meta"), "meta device"),
    ],
)
def test_other_weights_are_refused_with_the_remedy(data, change, needle):
    from siamura.losses import TripletLoss

    from siamura.training import fit, fit_classifier

    from .conftest import make_batches

    with pytest.raises(ValueError, match=needle):
        embed(change(make_net()), IMAGES, progress=False)
    with pytest.raises(ValueError, match=needle):
        fit(change(make_net()), data, make_batches(data), TripletLoss(), steps=1, progress=False)
    with pytest.raises(ValueError, match=needle):
        fit_classifier(change(Classifier("squeezenet1_1")), data, steps=1, progress=False)


@pytest.mark.parametrize(
    ("images", "needle"),
    [
        ([np.zeros((64, 64), np.uint8), np.zeros((64, 32), np.uint8)], "different shapes"),
        (np.zeros((64, 64), np.uint8), r"shape \(64, 64\)"),
        (5, "data is a int"),
        ("film.png", r"give a data set"),
        (np.array([["a"]]), "dtype <U1"),
    ],
)
def test_what_is_no_set_of_images(images, needle):
    with pytest.raises(ValueError, match=needle):
        embed(make_net(), images, progress=False)


class Threads(nn.Module):
    """Tells how many threads an operation may use."""

    def forward(self, x):
        return torch.full((len(x), 1), float(torch.get_num_threads()))


def test_each_image_is_computed_on_one_thread():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert embed(Threads(), IMAGES, progress=False).tolist() == [[1.0]] * 9
    finally:
        torch.set_num_threads(before)
