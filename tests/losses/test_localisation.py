"""The loss on maps against sums in NumPy, and on its edges."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from siamura.losses import localisation_loss


def oracle(logits, inside, boxed, positive):
    """Probability by probability; `inside` (B, H, W) of whole cells."""
    losses = []
    for s, area, box, label in zip(logits, inside, boxed, positive, strict=True):
        height, width = s.shape
        step_y, step_x = area.shape[0] // height, area.shape[1] // width
        share = (area > 0).reshape(height, step_y, width, step_x).mean((1, 3))
        weight = np.exp(s) / s.size
        if box:
            if share.max() == 0:
                continue
            known = (share * weight).sum()
        else:
            known = weight.sum() if label else 1.0
        losses.append(-math.log(known / (1 + weight.sum())))
    return float(np.mean(losses)) if losses else 0.0


@given(
    arrays.arrays(np.float64, (4, 3, 2), elements=st.floats(-6, 6)),
    arrays.arrays(np.uint8, (4, 6, 8), elements=st.sampled_from([0, 255])),
    arrays.arrays(np.bool_, 4),
    arrays.arrays(np.bool_, 4),
)
def test_it_is_the_sum_over_places(logits, inside, boxed, positive):
    found = localisation_loss(*map(torch.from_numpy, (logits, inside[:, None], boxed, positive)))
    assert float(found) == pytest.approx(oracle(logits, inside, boxed, positive), rel=1e-5, abs=1e-6)


def test_a_place_inside_the_box_lowers_it_and_one_outside_does_not():
    inside = torch.zeros(1, 1, 4, 4)
    inside[..., :2, :2] = 1
    yes = torch.tensor([True])

    def at(row, column):
        logits = torch.zeros(1, 2, 2)
        logits[0, row, column] = 4.0
        return float(localisation_loss(logits, inside, yes, yes))

    plain = float(localisation_loss(torch.zeros(1, 2, 2), inside, yes, yes))
    assert at(0, 0) < plain < at(1, 1)


def test_gradients_are_finite_whatever_is_known():
    for value in (-80.0, 0.0, 80.0):
        logits = torch.full((4, 3, 3), value, requires_grad=True)
        inside = torch.zeros(4, 1, 9, 9)
        inside[0, 0, 0, 0] = 1  # a hundredth of a place
        boxed, positive = torch.tensor([True, True, False, False]), torch.tensor([True, True, True, False])
        loss = localisation_loss(logits, inside, boxed, positive)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()
        assert not logits.grad[1].any()  # its boxes are out of the image


def test_nothing_known_is_no_loss():
    logits = torch.zeros(2, 3, 3, requires_grad=True)
    loss = localisation_loss(
        logits, torch.zeros(2, 1, 6, 6), torch.ones(2, dtype=bool), torch.ones(2, dtype=bool)
    )
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not logits.grad.any()


def test_it_computes_in_float32():
    logits = torch.full((1, 2, 2), 60.0, dtype=torch.float16)
    loss = localisation_loss(logits, torch.zeros(1, 1, 2, 2), torch.tensor([False]), torch.tensor([False]))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(60.0)


def test_shapes_that_do_not_fit_are_named():
    yes = torch.tensor([True])
    with pytest.raises(ValueError, match=r"logits has shape \(1, 4\) and inside \(1, 1, 4, 4\)"):
        localisation_loss(torch.zeros(1, 4), torch.zeros(1, 1, 4, 4), yes, yes)
    with pytest.raises(ValueError, match=r"inside \(1, 4, 4\); \(B, h, w\) and \(B, 1, H, W\)"):
        localisation_loss(torch.zeros(1, 2, 2), torch.zeros(1, 4, 4), yes, yes)
    with pytest.raises(ValueError, match=r"boxed has shape \(2,\) and positive \(1,\); both must be \(1,\)"):
        localisation_loss(torch.zeros(1, 2, 2), torch.zeros(1, 1, 4, 4), yes.repeat(2), yes)
