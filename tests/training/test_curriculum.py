"""The start on all triplets ends by itself when there is order, and its place survives a checkpoint."""

import pytest
from torch import nn

from siamura.training.module import Curriculum


def adaptive(until: float = 0.5, blend: float = 0.5) -> Curriculum:
    return Curriculum(nn.Identity(), nn.Identity(), None, until, blend)


def test_no_handover_while_most_triplets_have_a_loss() -> None:
    curriculum = adaptive()
    for step in range(500):
        curriculum.observe(step, 0.6)
        assert curriculum.share(step) == 0.0


def test_handover_at_the_running_mean_and_a_linear_blend() -> None:
    curriculum = adaptive()
    running, crossed = 1.0, None
    for step in range(100):
        curriculum.observe(step, 0.2)
        running += 0.1 * (0.2 - running)
        if crossed is None and running < 0.5:
            crossed = step
    assert curriculum.ready == crossed + 1
    length = round(0.5 * curriculum.ready)
    shares = [curriculum.share(curriculum.ready + i) for i in range(length + 2)]
    assert shares[:length] == pytest.approx([(i + 1) / (length + 1) for i in range(length)])
    assert shares[length:] == [1.0, 1.0]
    assert curriculum.share(crossed) == 0.0


def test_without_a_figure_nothing_is_decided() -> None:
    curriculum = adaptive()
    for step in range(50):
        curriculum.observe(step, float("nan"))
    assert curriculum.ready is None
    assert curriculum.running == 1.0


def test_a_given_length_is_kept_to() -> None:
    curriculum = Curriculum(nn.Identity(), nn.Identity(), 4, 0.5, 0.5)
    for step in range(4):
        curriculum.observe(step, 0.0)
    assert [curriculum.share(step) for step in range(6)] == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1])


def test_the_place_survives_a_checkpoint() -> None:
    first, second = adaptive(), adaptive()
    for step in range(8):
        first.observe(step, 0.1)
    second.load_state_dict(first.state_dict())
    assert (second.ready, second.running, second.back) == (first.ready, first.running, first.back)
    assert second.share(9) == first.share(9)


def test_after_a_collapse_all_triplets_come_back() -> None:
    curriculum = Curriculum(nn.Identity(), nn.Identity(), 2, 0.5, 0.0, back=10)
    assert [curriculum.share(step) for step in (0, 5, 9, 10)] == [0, 0, 0, 1]
