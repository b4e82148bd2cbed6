"""What the machine at hand computes fast: precision, memory layout, processes."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

from siamura._validation import check_choice

__all__ = [
    "Precision",
    "autocast",
    "check_weights",
    "prefers_channels_last",
    "processes",
    "resolve_channels_last",
    "resolve_device",
    "resolve_precision",
]

Precision = Literal["auto", "32", "bf16", "fp16"]


def resolve_device(accelerator: str = "auto") -> torch.device:
    """Find the device that `accelerator` means: ``auto`` takes a GPU where there is one."""
    check_choice("accelerator", accelerator, ("auto", "cpu", "gpu", "cuda", "mps"))
    if accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available()):
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if accelerator == "mps" or (accelerator == "auto" and torch.backends.mps.is_available()):
        return torch.device("mps")
    return torch.device("cpu")


def prefers_channels_last(net: nn.Module) -> bool:
    """Return whether float32 convolutions on a CPU are faster with channels last: in networks of depthwise ones."""
    return any(
        isinstance(layer, nn.Conv2d) and layer.groups > 1 and layer.groups == layer.in_channels
        for layer in net.modules()
    )


def resolve_precision(
    precision: str, device: torch.device, net: nn.Module | None = None
) -> Literal["32", "bf16", "fp16"]:
    """Choose what ``auto`` means: bf16 where it makes training faster, else float32.

    That is where the machine computes in it (AMX, AVX512-BF16, a GPU since Ampere); on a CPU not for networks of
    depthwise convolutions, whose backward pass is slower in bf16 than in float32 with channels last.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    check_choice("precision", precision, ("auto", "32", "bf16", "fp16"))
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision='fp16' needs a GPU; on a CPU choose bf16, 32 or auto.")
    if precision != "auto":
        return precision  # type: ignore[return-value]
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    if device.type == "cpu" and (net is None or not prefers_channels_last(net)) and _cpu_has_bf16():
        return "bf16"
    return "32"


def _cpu_has_bf16() -> bool:
    """Ask for AMX or AVX512-BF16; older versions of torch do not know the second."""
    asked = (
        getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    )
    return any(ask is not None and ask() for ask in asked)


def resolve_channels_last(
    wanted: bool | None, precision: str, device: torch.device, net: nn.Module | None = None
) -> bool:
    """Whether channels come last: by default in half precision, and for depthwise convolutions on a CPU."""
    if wanted is not None:
        return wanted
    if device.type not in ("cpu", "cuda"):
        return False
    return precision != "32" or (device.type == "cpu" and net is not None and prefers_channels_last(net))


def check_weights(net: nn.Module) -> torch.device:
    """See that a network's weights are float32 and in memory, and return the device that they are on.

    Raises
    ------
    ValueError
        If they are of another precision, or on torch's meta device, which holds no values.
    """
    weights = [weight for weight in net.parameters() if weight.is_floating_point()]
    for weight in weights:
        if weight.dtype != torch.float32:
            raise ValueError(
                f"net has weights of {weight.dtype}; call net.float() first. It computes in half precision where "
                'precision="bf16" or "fp16" is given.'
            )
        if weight.device.type == "meta":
            raise ValueError("net is on the meta device, which holds no weights; load some first.")
    return weights[0].device if weights else torch.device("cpu")


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Open the autocast of a resolved precision; float32 is float32 within an autocast of the caller's too."""
    if precision == "32":
        return torch.autocast(device.type, enabled=False)
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
