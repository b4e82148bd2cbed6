"""What must not be trained on: other value ranges, another sampler's rows, nothing at all."""

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_metric_learning.losses import ProxyAnchorLoss
from siamura.losses import BatchHardTripletLoss, TripletLoss
from siamura.samplers import PKBatchSampler
from torch import nn
from torch.utils.data import BatchSampler, SequentialSampler, TensorDataset

from siamura.networks import Classifier
from siamura.training import embed, fit, fit_classifier

from .conftest import make_batches, make_net

SMALL = torch.arange(8 * 32 * 32).reshape(8, 1, 32, 32) % 256
WRONG = [
    (SMALL / 255.0, "divided by 255"),
    ((SMALL / 255.0).half(), "divided by 255"),
    ((SMALL / 255.0 - 0.45) / 0.22, "look standardised"),
    ((SMALL * 257).to(torch.uint16), "to 65535.*0 to 255"),
    (SMALL.int() - 1, "from -1"),
    (SMALL.int() + 4000, "4255"),
    (SMALL.float().index_fill(0, torch.tensor([3]), torch.nan), "NaN"),
    (SMALL > 100, "bool values"),
]
LABELS = torch.arange(8) % 2
QUIET = {"progress": False, "precision": "32"}


@pytest.mark.parametrize(("images", "needle"), WRONG)
def test_values_that_are_no_grey_levels_are_refused(images, needle):
    data = TensorDataset(images, LABELS)
    with pytest.raises(ValueError, match=needle):
        fit(make_net(), data, PKBatchSampler(LABELS, 2, 4), TripletLoss(), steps=1, **QUIET)
    with pytest.raises(ValueError, match=needle):
        fit_classifier(Classifier("squeezenet1_1"), data, steps=1, **QUIET)
    for given in (data, images, images.numpy()):
        with pytest.raises(ValueError, match=needle):
            embed(make_net(), given, progress=False)


def test_grey_levels_of_other_types_are_taken():
    net = make_net()
    wanted = embed(net, SMALL.to(torch.uint8), progress=False)
    for kind in (torch.float32, torch.int64, torch.int32):
        assert np.array_equal(embed(net, SMALL.to(kind), progress=False), wanted)
    assert embed(net, torch.zeros(2, 1, 32, 32), progress=False).shape == (2, 8)  # black


def fit_on(data, batches, loss=None, net=None, **options):
    return fit(net or make_net(), data, batches, loss or TripletLoss(), **{"steps": 2, **QUIET, **options})


class Named(TensorDataset):
    """As `RadiographDataset`: a table of the rows that could be read."""

    def __init__(self, data, rows):
        super().__init__(data.tensors[0][rows], data.tensors[1][rows])
        self.table = pd.DataFrame({"label": data.tensors[1][rows].numpy()})


def test_a_sampler_of_other_rows_is_refused(data):
    rows = [row for row in range(48) if row != 5]  # a file that could not be read
    with pytest.raises(ValueError, match="made for 48 rows, and data has 47"):
        fit_on(Named(data, rows), make_batches(data))
    with pytest.raises(ValueError, match=r"batches takes rows 1 and 5 for one label .*they have 1 and 0"):
        fit_on(Named(data, [*rows, 5]), PKBatchSampler((np.arange(48) % 2).tolist(), 2, 4))
    with pytest.raises(ValueError, match="position 48, and data has 48 rows"):
        fit_on(data, [[0, 1, 2, 48]])
    with pytest.raises(ValueError, match="position -1"):
        fit_on(data, [[0, 1, 2, -1]])
    longer = BatchSampler(SequentialSampler(range(60)), 12, drop_last=True)
    with pytest.raises(ValueError, match="position 48"):
        fit_on(data, longer, steps=5)


def test_other_names_and_finer_labels_are_no_disagreement(data):
    labels = data.tensors[1].numpy()
    assert len(fit_on(data, PKBatchSampler(np.array(["normal", "abnormal"])[labels], 2, 4))) == 2
    assert len(fit_on(data, PKBatchSampler(labels * 2 + (np.arange(48) // 2) % 2, 4, 2))) == 2


def test_training_on_nothing_is_no_success(data):
    with pytest.raises(ValueError, match=r"k=1: no batch holds a triplet"):
        fit_on(data, make_batches(data, k=1))
    with pytest.raises(ValueError, match=r"p=1: no batch holds a triplet"):
        fit_on(data, make_batches(data, p=1))
    one = TensorDataset(data.tensors[0], torch.ones(48, dtype=torch.int64))
    with pytest.raises(ValueError, match="all 48 rows of data have the label 1"):
        fit_on(one, [[0, 1, 2, 3]])
    with pytest.raises(ValueError, match="all 48 rows of data have the label 1"):
        fit_classifier(Classifier("squeezenet1_1"), one, steps=1, **QUIET)
    for rows in ([0, 1], [0, 2, 4, 6]):  # one of each label; one label alone
        with pytest.raises(ValueError, match="no batch of the first 2 steps held a triplet"):
            fit_on(data, [rows], BatchHardTripletLoss())


def test_it_is_noticed_before_the_end_of_a_long_run(data):
    class Point(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.ones(4))

        def forward(self, x):
            return self.bias.expand(len(x), 4) + 0.0

    with pytest.raises(ValueError, match="no batch of the first 50 steps"):
        fit_on(data, [[0, 1]], net=Point(), steps=1000, on_collapse=None)


def test_a_run_that_stops_before_its_first_triplet_is_no_success(data, valid):
    calm = {"steps": 40, "lr": 1e-6, "schedule": "constant"}
    with pytest.raises(ValueError, match="no batch of the first 2 steps held a triplet"):
        fit_on(data, [[0, 1]], valid=valid, validate_every=1, patience=1, monitor="valid_p1", **calm)


def test_a_loss_that_excludes_everything_is_no_success(data):
    class Nothing(nn.Module):
        def forward(self, emb, labels):
            return emb.sum() * 0.0

    with pytest.raises(ValueError, match="the loss was 0 in every one of the 2 steps"):
        fit_on(data, make_batches(data), Nothing())


def test_a_loss_that_needs_no_triplets_trains_without(data):
    assert len(fit_on(data, make_batches(data, k=1), ProxyAnchorLoss(num_classes=2, embedding_size=8))) == 2


def test_weights_that_leave_a_label_out_are_refused(data):
    weights = data.tensors[1].numpy().astype(float)
    with pytest.raises(ValueError, match="weights are 0 for all rows with the label 0"):
        fit_classifier(Classifier("squeezenet1_1"), data, steps=1, weights=weights, **QUIET)
