"""What the machine at hand computes fast: precision, memory layout, processes."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

__all__ = [
    "Precision",
    "autocast",
    "processes",
    "resolve_channels_last",
    "resolve_device",
    "resolve_precision",
]

Precision = Literal["auto", "32", "bf16", "fp16"]


def resolve_device(accelerator: str = "auto") -> torch.device:
    """Find the device that `accelerator` means: ``auto`` takes a GPU where there is one."""
    if accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available()):
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if accelerator == "mps" or (accelerator == "auto" and torch.backends.mps.is_available()):
        return torch.device("mps")
    if accelerator in ("auto", "cpu"):
        return torch.device("cpu")
    raise ValueError(f"accelerator={accelerator!r} is unknown; choose auto, cpu, cuda or mps.")


def resolve_precision(precision: str, device: torch.device) -> Literal["32", "bf16", "fp16"]:
    """``auto`` is bf16 where the machine computes in it (AMX, AVX512-BF16, a GPU since Ampere), else float32.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if precision not in ("auto", "32", "bf16", "fp16"):
        raise ValueError(f"precision={precision!r} is unknown; choose auto, 32, bf16 or fp16.")
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision='fp16' needs a GPU; on a CPU choose bf16, 32 or auto.")
    if precision != "auto":
        return precision  # type: ignore[return-value]
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    if device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return "bf16"
    return "32"


def resolve_channels_last(wanted: bool | None, precision: str, device: torch.device) -> bool:
    """Whether convolutions get their channels last: by default where they compute in half precision."""
    return wanted if wanted is not None else precision != "32" and device.type in ("cpu", "cuda")


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Open the autocast of a resolved precision."""
    if precision == "32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)


def processes() -> tuple[int, int]:
    """Count processes on this machine, and machines, as torchrun or Slurm started them; (1, 1) alone."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        local = int(env["LOCAL_WORLD_SIZE"])
        return local, int(env["WORLD_SIZE"]) // local
    if "SLURM_NTASKS" in env and env.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(env.get("SLURM_NNODES", 1))
        return max(1, int(env["SLURM_NTASKS"]) // nodes), nodes
    return 1, 1
