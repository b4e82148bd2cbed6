"""Which loss trains at which step of metric learning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["Curriculum"]


@dataclass
class Curriculum:
    """Which loss trains at which step: all triplets first, then, in part or whole, the final loss.

    A loss that mines hard triplets has a way out that learns nothing: all embeddings in one point, where it equals
    its margin. While it is above that value, falling to it is downhill. So its weight grows only while its running
    mean is below `until` times that value, and shrinks while it is above.

    Parameters
    ----------
    loss : callable
        The final loss.
    warmup : callable, optional
        The loss of the beginning.
    steps : int or None
        Steps that the beginning takes, whatever the losses say; None: as described.
    blend : float
        Of those steps, the last share over which the first loss gives way to the second, linearly.
    until : float
        Share of the collapsed value.
    rise : float
        How much the weight moves in a step.
    back : int
        Step up to which the first loss is taken again, after a collapse.
    """

    loss: nn.Module
    warmup: nn.Module | None = None
    steps: int | None = 0
    blend: float = 0.0
    until: float = 0.9
    rise: float = 0.02
    back: int = 0
    weight: float = 0.0
    running: float | None = None

    def share(self, step: int) -> float:
        """Weight of the final loss at a step, 0 to 1."""
        if self.warmup is None:
            return 1.0
        if step < self.back:
            return 0.0
        if self.steps is None:
            return self.weight
        length = round(self.blend * self.steps)
        start = self.steps - length
        return min(1.0, max(0.0, (step - start + 1) / (length + 1)))

    def observe(self, value: float, collapsed: float) -> None:
        """Take note of the final loss in this step, and of what it would be with all embeddings in one point."""
        if not math.isfinite(value):
            return
        self.running = value if self.running is None else self.running + 0.1 * (value - self.running)
        move = self.rise if self.running < self.until * collapsed else -self.rise
        self.weight = min(1.0, max(0.0, self.weight + move))

    def state_dict(self) -> dict[str, Any]:
        """The place in it."""
        return {"back": self.back, "weight": self.weight, "running": self.running}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the place up again."""
        self.back, self.weight, self.running = state["back"], state["weight"], state["running"]
