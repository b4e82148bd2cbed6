"""Embedding a data set: the network forward alone, over one process or many."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from .data import fetch, plain
from .distributed import gather_parts, join_group, rank_and_world
from .machine import autocast, resolve_channels_last, resolve_device, resolve_precision

__all__ = ["embed", "forward_rows"]


def embed(
    net: nn.Module,
    data: Dataset[Any] | npt.NDArray[np.uint8] | Tensor,
    batch_size: int = 64,
    *,
    precision: str = "auto",
    accelerator: str = "auto",
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """Embeddings of all images, in the order of the table.

    In several processes (torchrun, Slurm) each computes its part, and every process gets the whole.

    Parameters
    ----------
    net : Module
        An `EmbeddingNet`, or any module from (B, 1, S, S) to (B, dim). Its mode and place are put back.
    data : Dataset or uint8 (N, S, S) or (N, 1, S, S)
        A `RadiographDataset`, or images.
    batch_size : int
        Images at once.
    precision : {"auto", "32", "bf16", "fp16"}
        ``"auto"`` is bf16 where the machine computes in it.
    accelerator : {"auto", "cpu", "cuda", "mps"}
        Where to compute.
    progress : bool
        Show a bar if it takes longer than two seconds.

    Returns
    -------
    float32 (N, dim)

    Examples
    --------
    >>> from siamura.networks import EmbeddingNet
    >>> embed(EmbeddingNet("squeezenet1_1", dim=8), np.zeros((3, 64, 64), np.uint8)).shape
    (3, 8)
    """
    rows, _ = forward_rows(
        net, data, batch_size=batch_size, precision=precision, accelerator=accelerator, progress=progress
    )
    return rows.numpy()


def forward_rows(
    net: nn.Module,
    data: Dataset[Any] | npt.NDArray[np.uint8] | Tensor,
    positions: npt.NDArray[np.int64] | None = None,
    *,
    batch_size: int = 64,
    precision: str = "auto",
    accelerator: str = "auto",
    progress: bool = True,
) -> tuple[Tensor, Tensor]:
    """Compute what the network gives for some rows, and their labels.

    Parameters
    ----------
    positions : int (M,), optional
        The rows; all by default.

    Returns
    -------
    float32 (M, ...), int64 (M,)
        On the CPU.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1.")
    if isinstance(data, np.ndarray | Tensor):
        data = _images(data)
    made, wanted = getattr(data, "pre", None), getattr(net, "preprocess", None)
    if made is not None and wanted is not None and made != wanted:
        warnings.warn(
            f"the images were preprocessed by {made}, those that the network was trained on by {wanted}: "
            "its answers may be wrong; preprocess by net.preprocess.",
            UserWarning,
            stacklevel=3,
        )
    if positions is None:
        positions = np.arange(len(data))  # type: ignore[arg-type]
    join_group()
    rank, world = rank_and_world()
    mine = np.array_split(positions, world)[rank]
    device = resolve_device(accelerator)
    precision = resolve_precision(precision, device)
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    was_training = [module for module in net.modules() if module.training]
    place = next(iter(net.parameters()), torch.empty(0)).device
    net.eval().to(device)
    if resolve_channels_last(None, precision, device):
        net.to(memory_format=torch.channels_last)
    try:
        with (
            plain(data),
            torch.inference_mode(),
            autocast(precision, device),
            _bar(len(mine), progress and rank == 0) as bar,
        ):
            for start in range(0, len(mine), batch_size):
                images, label = fetch(data, mine[start : start + batch_size].tolist())
                rows.append(net(images.to(device)).float().cpu())
                labels.append(label)
                bar.update(len(label))
    finally:
        net.to(place)
        for module in was_training:
            module.training = True
    # Empty parts keep the shape of the others, which only they know.
    parts = gather_parts((torch.cat(rows), torch.cat(labels)) if rows else None)
    held = [part for part in parts if part is not None]
    if not held:
        return torch.empty(0, getattr(net, "dim", 0)), torch.empty(0, dtype=torch.int64)
    # Out of inference mode, so that heads may train on them.
    return torch.cat([rows for rows, _ in held]).clone(), torch.cat([labels for _, labels in held])


def _images(images: npt.NDArray[np.uint8] | Tensor) -> TensorDataset:
    tensor = torch.as_tensor(images)
    tensor = tensor[:, None] if tensor.ndim == 3 else tensor
    if tensor.ndim != 4 or tensor.shape[1] != 1:
        raise ValueError(f"data has shape {tuple(tensor.shape)}; expected (N, S, S) or (N, 1, S, S).")
    if tensor.is_floating_point() and tensor.numel() and 0 < float(tensor.max()) <= 1:
        raise ValueError("data lies between 0 and 1; images are grey from 0 to 255: multiply by 255.")
    return TensorDataset(tensor, torch.zeros(len(tensor), dtype=torch.int64))


def _bar(total: int, shown: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(
        total=total, desc="embed", unit="image", disable=not shown, delay=2, leave=False, mininterval=0.5
    )
