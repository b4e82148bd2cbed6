"""Embedding a data set: the network forward alone, one image at a time, so that no answer depends on its company."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset
from tqdm.auto import tqdm

from siamura._validation import check_choice, check_whole
from siamura.pixels.checks import check_gray

from .data import augmentation_of, fetch
from .distributed import gather_parts, join_group, rank_and_world
from .machine import autocast, check_weights, prefers_channels_last, resolve_device, resolve_precision

__all__ = ["embed", "forward_rows"]

Images = Dataset[Any] | npt.NDArray[np.uint8] | Tensor | Sequence[npt.NDArray[np.uint8]]

# Images at once on a GPU. The last ones are filled up: another number would choose other kernels, which round
# otherwise.
_GPU_ROWS = 32
_SETTING = threading.Lock()
_LOCKS: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_threads: list[int] = []  # of the process, before embedding set them to 1; one entry for each call under way


def embed(
    net: nn.Module,
    data: Images,
    batch_size: int = 64,
    *,
    precision: str = "auto",
    accelerator: str = "auto",
    progress: bool = True,
) -> npt.NDArray[np.float32]:
    """Embeddings of all images, in the order of the table.

    An image has the same vector, to the last bit, in whatever number and order of images it comes, for any
    `batch_size` and (on a CPU) any number of threads: each image is computed by itself, on one core, and several
    cores take one image each. On a GPU, images are computed in blocks of one fixed size. So a case looked up
    alone is the case that was indexed among thousands. Between kinds of machines the last digits may differ.

    In several processes (torchrun, Slurm) each computes its part, and every process gets the whole.

    Parameters
    ----------
    net : Module
        An `EmbeddingNet`, or any module from (B, 1, S, S) to (B, dim). Its mode and place are put back.
    data : Dataset, uint8 (N, S, S) or (N, 1, S, S), or list of uint8 (S, S)
        A `RadiographDataset`, or images with grey values from 0 to 255.
    batch_size : int
        Images read at once. It changes nothing but the memory that is used.
    precision : {"auto", "32", "bf16", "fp16"}
        ``"auto"`` is float32, whatever the network was trained in. Embeddings of different precisions
        should not be compared: they differ by up to 2e-3.
    accelerator : {"auto", "cpu", "cuda", "mps"}
        Where to compute.
    progress : bool
        Show a bar if it takes longer than two seconds.

    Returns
    -------
    float32 (N, dim)

    Raises
    ------
    ValueError
        If the images have another shape, or values that are no grey values from 0 to 255.

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
    data: Images,
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
    check_whole("batch_size", batch_size)
    check_choice("precision", precision, ("auto", "32", "bf16", "fp16"))
    source = _as_dataset(data)
    made, wanted = getattr(source, "pre", None), getattr(net, "preprocess", None)
    if made is not None and wanted is not None and made != wanted:
        warnings.warn(
            f"the images were preprocessed by {made}, those that the network was trained on by {wanted}: "
            "its answers may be wrong; preprocess by net.preprocess.",
            UserWarning,
            stacklevel=3,
        )
    if positions is None:
        positions = np.arange(len(source))  # type: ignore[arg-type]
    join_group()
    rank, world = rank_and_world()
    mine = np.array_split(positions, world)[rank]
    device = resolve_device(accelerator)
    precision = resolve_precision("32" if precision == "auto" else precision, device)
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    with ExitStack() as stack:
        stack.enter_context(augmentation_of(source))
        stack.enter_context(_ready(net, device))
        forward = stack.enter_context(_forward_pool(net, device, precision))
        bar = stack.enter_context(_bar(len(mine), progress and rank == 0))
        waiting: deque[Iterator[Tensor]] = deque()

        def take() -> None:
            for part in waiting.popleft():
                rows.append(part)
                bar.update(len(part))

        for start in range(0, len(mine), batch_size):
            images, label = fetch(source, mine[start : start + batch_size].tolist())
            check_gray(images)
            labels.append(label)
            waiting.append(forward(images))
            if len(waiting) > 1:  # the next images are read while these are computed
                take()
        while waiting:
            take()
    # Empty parts keep the shape of the others, which only they know.
    parts = gather_parts((torch.cat(rows), torch.cat(labels)) if rows else None)
    held = [part for part in parts if part is not None]
    if not held:
        return torch.empty(0, getattr(net, "dim", 0)), torch.empty(0, dtype=torch.int64)
    # Out of inference mode, so that heads may train on them.
    return torch.cat([rows for rows, _ in held]).clone(), torch.cat([labels for _, labels in held])


@contextmanager
def _forward_pool(
    net: nn.Module, device: torch.device, precision: str
) -> Iterator[Callable[[Tensor], Iterator[Tensor]]]:
    """Give what computes images (B, ...) part by part, in parts that never depend on B."""
    size = 1 if device.type == "cpu" else _GPU_ROWS

    def compute(part: Tensor) -> Tensor:
        count = len(part)
        part = part.reshape(-1).view(part.shape)  # with the strides of its shape, whatever it was cut from
        if count < size:
            part = torch.cat([part, part[-1:].expand(size - count, *part.shape[1:])])
        with torch.inference_mode(), autocast(precision, device):
            out: Tensor = net(part.to(device))[:count].float().cpu()
        return out

    if device.type != "cpu":
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield lambda images: map(compute, images.split(size))  # type: ignore[no-untyped-call]
        return
    with _one_thread_an_image() as threads:
        if threads == 1:
            yield lambda images: map(compute, images.split(size))  # type: ignore[no-untyped-call]
            return
        pool = ThreadPoolExecutor(threads, thread_name_prefix="embed")
        try:
            yield lambda images: pool.map(compute, images.split(size))  # type: ignore[no-untyped-call]
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_an_image() -> Iterator[int]:
    """Let each operation use one thread, as several would round otherwise; gives how many threads there were."""
    with _SETTING:
        whole = _threads[0] if _threads else torch.get_num_threads()
        _threads.append(whole)
        torch.set_num_threads(1)  # of this thread, and of those that start from now on
    try:
        yield whole
    finally:
        with _SETTING:
            _threads.pop()
            torch.set_num_threads(whole)
            if _threads:  # another call needs threads that start with 1
                with ThreadPoolExecutor(1) as other:
                    other.submit(torch.set_num_threads, 1).result()


@contextmanager
def _ready(net: nn.Module, device: torch.device) -> Iterator[None]:
    """Put a network into evaluation mode, on a device, in the memory layout of its kind; one call at a time."""
    with _SETTING:
        lock = _LOCKS.setdefault(net, threading.RLock())
    with lock:
        place = check_weights(net)
        was_training = [module for module in net.modules() if module.training]
        layout = torch.channels_last if prefers_channels_last(net) else torch.contiguous_format
        # By its strides: a 1 x 1 convolution is contiguous in both layouts, and torch goes by them.
        before = [
            w
            for w in net.parameters()
            if w.ndim == 4 and w.stride() != torch.empty_like(w, device="meta", memory_format=layout).stride()
        ]
        kept = [(w, w.data) for w in before] if was_training else []
        try:
            net.eval().to(device)
            for w in before:
                w.data = torch.empty_like(w.data, memory_format=layout).copy_(w.data)
            yield
        finally:
            net.to(place)
            for w, values in kept:  # an optimiser at work keeps its state in that layout
                w.data = values.to(place)
            for module in was_training:
                module.training = True


def _as_dataset(data: Images) -> Dataset[Any]:
    """Take arrays, tensors and lists of arrays for data sets."""
    if isinstance(data, (list, tuple)) and data and all(isinstance(d, np.ndarray | Tensor) for d in data):
        shapes = sorted({tuple(d.shape) for d in data})
        if len(shapes) > 1:
            raise ValueError(
                f"data is a list of images of different shapes ({', '.join(map(str, shapes[:3]))}); preprocess them "
                "to one size, e.g. by net.preprocess."
            )
        data = torch.stack([torch.as_tensor(d) for d in data])
    if not isinstance(data, np.ndarray | Tensor):
        given: Any = data  # whatever the caller's mistake
        if isinstance(given, str) or not (hasattr(given, "__getitem__") and hasattr(given, "__len__")):
            raise ValueError(
                f"data is a {type(data).__name__}; give a data set of (image, label), or images uint8 (N, S, S)."
            )
        return data  # type: ignore[return-value]
    if isinstance(data, np.ndarray) and (data.dtype.kind not in "uifb" or data.dtype.itemsize > 8):
        raise ValueError(f"data has dtype {data.dtype}; expected uint8 images, grey from 0 to 255.")
    tensor = torch.as_tensor(data)
    tensor = tensor[:, None] if tensor.ndim == 3 else tensor
    if tensor.ndim != 4 or tensor.shape[1] != 1:
        raise ValueError(f"data has shape {tuple(tensor.shape)}; expected (N, S, S) or (N, 1, S, S).")
    check_gray(tensor)
    return TensorDataset(tensor, torch.zeros(len(tensor), dtype=torch.int64))


def _bar(total: int, shown: bool) -> Any:
    return tqdm(
        total=total, desc="embed", unit="image", disable=not shown, delay=2, leave=False, mininterval=0.5
    )
