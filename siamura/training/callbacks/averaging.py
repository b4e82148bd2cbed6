"""A moving average of the weights."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from siamura._validation import check_number

from ..module import TrainModule

__all__ = ["Averaging"]


class Averaging(pl.Callback):
    """An exponential moving average of the network, used for validation and kept at the end.

    Lightning's `WeightAveraging` (2.6 and later) averages from step to step too. It counts by the trainer's
    ``global_step``, which begins anew in a resumed run (the steps that are left are a run of their own to
    Lightning), and would leave out as many updates as were done before. This one goes on exactly.

    Parameters
    ----------
    decay : float
        Weight of the past.

    Examples
    --------
    ``fit(..., ema=0.9)`` makes one itself; as a callback it can be looked at afterwards.

    >>> import torch
    >>> from siamura import EmbeddingNet, fit
    >>> from siamura.losses import TripletLoss
    >>> data = [(torch.full((1, 32, 32), 60 * i, dtype=torch.uint8), i // 2) for i in range(4)]
    >>> net, averaging = EmbeddingNet("squeezenet1_1", dim=8), Averaging(decay=0.9)
    >>> options = {"callbacks": [averaging], "progress": False}
    >>> history = fit(net, data, [[0, 1, 2, 3]], TripletLoss(), steps=3, **options)
    >>> all(map(torch.equal, net.parameters(), averaging.average.module.parameters()))  # it ends as the average
    True
    """

    def __init__(self, decay: float) -> None:
        self.decay = check_number("ema", decay, above=0, below=1)
        self.average: AveragedModel | None = None
        self._state: dict[str, Tensor] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start from the weights at hand, or from the checkpoint's average."""
        module: TrainModule = pl_module
        self.average = AveragedModel(
            module.net,
            multi_avg_fn=get_ema_multi_avg_fn(self.decay),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
        if self._state is not None:
            self.average.load_state_dict(self._state)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Follow the network, once the optimiser has stepped."""
        module: TrainModule = pl_module
        assert self.average is not None
        step = module.step_done + 1
        if step % trainer.accumulate_grad_batches == 0 or step == module.total:
            self.average.update_parameters(module.net)

    def state_dict(self) -> dict[str, Any]:
        """Keep the average."""
        return {} if self.average is None else {"average": self.average.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again, once there is a network."""
        self._state = state_dict.get("average")

    def finish(self, net: nn.Module) -> None:
        """Give the network the average."""
        if self.average is not None:
            net.load_state_dict(self.average.module.state_dict())
        elif self._state is not None:  # the run was complete already
            net.load_state_dict(
                {k.removeprefix("module."): v for k, v in self._state.items() if k != "n_averaged"}
            )
