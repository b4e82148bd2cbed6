"""Small images that a network learns in a few steps, and a network that is quick to train."""

import pytest
import torch
from siamura.samplers import PKBatchSampler
from torch.utils.data import TensorDataset

from siamura.networks import EmbeddingNet


def make_data(count=48, side=32, seed=0):
    """Label 1 has a bright bar somewhere; noise everywhere."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 120, (count, 1, side, side), generator=g)
    for row in torch.nonzero(labels)[:, 0].tolist():
        at = int(torch.randint(2, side - 8, (1,), generator=g))
        images[row, :, at : at + 6, 4:-4] += 130
    return TensorDataset(images.to(torch.uint8), labels)


def make_net(**options):
    return EmbeddingNet("squeezenet1_1", **{"dim": 8, **options})


def make_batches(data, seed=0, p=2, k=4):
    return PKBatchSampler(data.tensors[1], p=p, k=k, seed=seed)


@pytest.fixture(scope="session")
def data():
    return make_data()


@pytest.fixture(scope="session")
def valid():
    return make_data(seed=1)
