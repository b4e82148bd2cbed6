"""The final loss takes over only while that is not the way to collapse, and its place survives a checkpoint."""

import pytest
import torch
from siamura.losses import BatchHardTripletLoss, TripletFocalLoss, TripletLoss
from torch import nn

from siamura.training import fit
from siamura.training.curriculum import Curriculum

from .conftest import make_batches, make_net

MARGIN = 0.2


def guarded() -> Curriculum:
    return Curriculum(nn.Identity(), nn.Identity(), None, until=0.9, rise=0.1)


def test_no_weight_for_a_loss_above_its_collapsed_value() -> None:
    curriculum = guarded()
    for step in range(200):
        curriculum.observe(0.3, MARGIN)
        assert curriculum.share(step) == 0.0


def test_the_weight_grows_below_it_and_shrinks_above() -> None:
    curriculum = guarded()
    curriculum.observe(0.1, MARGIN)
    grown = [curriculum.share(0)]
    for step in range(12):
        curriculum.observe(0.1, MARGIN)
        grown.append(curriculum.share(step))
    assert grown == pytest.approx([min(1.0, 0.1 * (i + 1)) for i in range(13)])
    for _ in range(40):
        curriculum.observe(0.3, MARGIN)
    assert curriculum.share(99) == 0.0


def test_a_loss_without_an_answer_moves_nothing() -> None:
    curriculum = guarded()
    curriculum.observe(float("nan"), MARGIN)
    assert (curriculum.weight, curriculum.running) == (0.0, None)


def test_a_given_length_is_kept_to() -> None:
    curriculum = Curriculum(nn.Identity(), nn.Identity(), 4, blend=0.5)
    assert [curriculum.share(step) for step in range(6)] == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1])


def test_the_place_survives_a_checkpoint() -> None:
    first, second = guarded(), guarded()
    for value in (0.3, 0.1, 0.15, 0.1):
        first.observe(value, MARGIN)
    second.load_state_dict(first.state_dict())
    for curriculum in (first, second):
        curriculum.observe(0.12, MARGIN)
    assert first.state_dict() == second.state_dict()


def test_after_a_collapse_all_triplets_come_back() -> None:
    curriculum = Curriculum(nn.Identity(), nn.Identity(), 2, blend=0.0, back=10)
    assert [curriculum.share(step) for step in (0, 5, 9, 10)] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    "loss", [BatchHardTripletLoss(margin=MARGIN), TripletFocalLoss(margin=MARGIN, sigma=1.0)]
)
def test_in_one_point_a_mined_loss_equals_its_margin(loss: nn.Module) -> None:
    """What `Curriculum.observe` is told as the collapsed value."""
    emb = torch.nn.functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)))
    assert float(loss(emb[:1].expand_as(emb), torch.arange(8) % 2)) == pytest.approx(MARGIN, abs=1e-5)
    assert float(TripletLoss(margin=MARGIN)(emb[:1].expand_as(emb), torch.arange(8) % 2)) == pytest.approx(
        MARGIN
    )


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, emb: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return emb.square().mean() + 1.0


@pytest.mark.parametrize(("steps", "final", "first"), [(0, 5, 0), (2, 3, 2), (None, 10, 5)])
def test_a_loss_is_computed_in_a_step_only_where_its_value_is_used(data, steps, final, first) -> None:
    """With a given length only what trains; else the final loss twice a step, the second time in one point."""
    loss, start = Counted(), Counted()
    options = {"warmup_loss": start, "warmup_steps": steps, "blend": 0.0, "on_collapse": None}
    fit(make_net(), data, make_batches(data), loss, steps=5, progress=False, precision="32", **options)
    assert (loss.calls, start.calls) == (final, first)
