"""Weights from files: checked, loaded without pickle, and told apart when they do not fit."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ._formats import adapted

__all__ = ["imagenet_file", "load_weights", "read_weights", "weight_shapes"]

_LOG = logging.getLogger(__name__)
_TOPS = ("classifier.", "fc.", "head.", "heads.", "AuxLogits.", "aux1.", "aux2.", "num_batches_tracked",
         "mask_token", "pooler.")  # fmt: skip


def imagenet_file(name: str, url: str) -> Path:
    """Where a trunk's published weights lie; fetched there if a network is at hand.

    Parameters
    ----------
    name : str
        Name of the trunk, for the message.
    url : str
        torchvision's address of the file; its name carries the first digits of its SHA-256.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        If the file is not there and cannot be fetched; says which file to put where.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _LOG.info("fetching %s", url)
        # torch writes beside, checks the hash, and renames.
        torch.hub.download_url_to_file(url, str(path), hash_prefix=_hash_in(path.name), progress=True)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f'weights="imagenet" of {name}: {path.name} is not in {path.parent} and could not be fetched '
            f"({error}). "
            f"Fetch {url} on a machine with a network and put it there (TORCH_HOME moves the place), "
            "or give the file as weights=PATH."
        ) from error
    return path


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state dict: safetensors, or torch's format by `weights_only`, which runs no pickled code.

    Parameters
    ----------
    path : path
        ``.safetensors``, or anything that `torch.save` wrote: the state dict itself, or a checkpoint that
        holds it as ``state_dict``, ``model`` or ``model_state_dict``.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged (the hash in its name tells), holds code, or holds no weights.

    Examples
    --------
    >>> import tempfile
    >>> file = f"{tempfile.mkdtemp()}/checkpoint.pt"
    >>> torch.save({"step": 3, "state_dict": nn.Linear(2, 3).state_dict()}, file)
    >>> {name: tuple(weight.shape) for name, weight in read_weights(file).items()}
    {'weight': (3, 2), 'bias': (3,)}
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'weights={str(path)!r} is no file; give None, "imagenet" or a file of weights.'
        )
    if (wanted := _hash_in(path.name)) is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(wanted):
            raise ValueError(
                f"weights={str(path)!r} is damaged: its name promises SHA-256 {wanted}..., it has "
                f"{found[: len(wanted)]}.... Fetch it again."
            )
    held: Any
    try:
        if path.suffix == ".safetensors":
            held = load_file(path)
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has its own kinds for cut, foreign and unsafe files
        told = str(error).split("\n")[0]
        if whole := re.search(r"Unsupported (?:global|class):? (?:GLOBAL )?([\w.]+)", str(error)):
            raise ValueError(
                f"weights={str(path)!r} holds pickled code ({whole[1]}), which is never run: perhaps a whole model. "
                "Where you trust the file, and where its library is installed, run "
                f"`torch.save(torch.load({str(path)!r}, map_location='cpu', weights_only=False).state_dict(), "
                "'weights.pt')` and give weights.pt."
            ) from error
        if path.suffix in (".h5", ".keras", ".hdf5"):
            told = "a file of Keras, whose layers have other names; get the PyTorch file"
        raise ValueError(
            f"weights={str(path)!r} cannot be read as weights ({type(error).__name__}: {told}). It is cut "
            "short, no weights file, or holds pickled code, which is never run; save a plain "
            "state dict or safetensors."
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
            break
    state = {str(k): v for k, v in held.items() if isinstance(v, Tensor)} if isinstance(held, dict) else {}
    if not state:
        raise ValueError(f"weights={str(path)!r} holds no weights; expected a state dict of tensors.")
    return state


def weight_shapes(path: str | os.PathLike[str]) -> dict[str, list[int]]:
    """Read names and shapes from the header of a safetensors file, and none of its weights.

    Raises
    ------
    ValueError
        If it is cut short, or no such file.
    """
    try:
        with safe_open(path, framework="pt") as held:
            return {name: list(held.get_slice(name).get_shape()) for name in held.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        told = str(error).split("\n")[0]
        raise ValueError(
            f"{path} cannot be read as weights ({told}). It is cut short, or no safetensors file; save the network "
            "again."
        ) from error


def load_weights(model: nn.Module, path: str | os.PathLike[str], *, strict: bool = True) -> list[str]:
    """Load a file into a model, whatever prefix its names carry.

    ``module.``, ``model.``, ``trunk.`` and the like are found by comparing the names; a classifier's top is
    left out; three channels go into a folded convolution summed, and back. Names of torchvision's old DenseNets, of
    RadImageNet, of transformers' ViT and DINOv2 and those that timm knows are translated, and positions of a trunk for
    another image size are resampled as torchvision and timm do it.

    Parameters
    ----------
    model : Module
        Filled in place.
    path : path
        See `read_weights`.
    strict : bool
        Refuse a file that leaves a weight of the model unfilled; False fills what fits.

    Returns
    -------
    list of str
        Names in the file that found no place, tops not counted.

    Raises
    ------
    ValueError
        If names or shapes do not match (they are listed), and whatever `read_weights` raises.

    Examples
    --------
    A classifier whose trunk begins where a training of the metric ended:

    >>> import tempfile
    >>> from siamura.networks import Classifier, EmbeddingNet
    >>> folder = EmbeddingNet("squeezenet1_1").save_pretrained(tempfile.mkdtemp())
    >>> net = Classifier("squeezenet1_1")
    >>> load_weights(net.trunk, folder / "model.safetensors")  # nothing of the trunk is left over
    []
    """
    held = read_weights(path)
    if isinstance(inner := getattr(model, "model", None), nn.Module) and hasattr(model, "weights_given"):
        trunk: Any = model  # files know its model
        trunk.weights_given = True
        model = inner
    own = model.state_dict()
    wanted = [name for name in own if not name.endswith("num_batches_tracked")]
    held = {
        re.sub(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)", r"\1", k): v for k, v in held.items()
    }
    raw = held
    prefix = _prefix(list(held), wanted)
    held = {name.removeprefix(prefix): value for name, value in held.items() if name.startswith(prefix)}
    filled, wrong = _matched(held, own)
    missing = [name for name in wanted if name not in held]
    if missing or wrong:
        for other in (*adapted(held, model), *adapted(raw, model)):
            if all(name in other for name in wanted) and not (match := _matched(other, own))[1]:
                (filled, wrong), missing, held = match, [], other
                _LOG.info("%s: names or positions were adapted to %s", path, type(model).__name__)
                break
    spare = [name for name in held if name not in own and not any(top in name for top in _TOPS)]
    if not filled or (strict and (missing or wrong)):
        told = [f"{len(m)} {what}: {', '.join(m[:5])}{', ...' if len(m) > 5 else ''}" for m, what in (
            (missing, "missing"), (wrong, "of another shape"), (spare, "without a place"),
        ) if m]  # fmt: skip
        raise ValueError(
            f"weights={str(path)!r} does not fit {type(model).__name__}. "
            + "; ".join(told)
            + ". Is it for another trunk?"
        )
    model.load_state_dict(filled, strict=False)
    if spare or missing:
        _LOG.warning(
            "%s: %d names unused (%s), %d weights left as they were (%s)",
            *(path, len(spare), ", ".join(spare[:5]), len(missing), ", ".join(missing[:5])),
        )
    return spare


def _matched(held: dict[str, Tensor], own: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights that have a place, the first convolution's with its channels, and those of another shape."""
    filled: dict[str, Tensor] = {}
    wrong = []
    for name, value in held.items():
        if name not in own:
            continue
        if value.ndim == 4 and value.shape[1] == 3 and own[name].shape[1] == 1:
            value = value.sum(1, keepdim=True)
        elif value.ndim == 4 and value.shape[1] == 1 and own[name].shape[1] == 3:
            # Of a folded trunk; all three channels hold the same image, and folding sums them to the same bits.
            value = torch.cat([value, torch.zeros_like(value), torch.zeros_like(value)], dim=1)
        if value.shape != own[name].shape:
            wrong.append(f"{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}")
        else:
            filled[name] = value
    return filled, wrong


def _prefix(held: list[str], wanted: list[str]) -> str:
    """Find the prefix under which most of the wanted names are held."""
    names = set(held)
    found = {""}
    for name in wanted[:1] + wanted[-1:]:
        found |= {h.removesuffix(name) for h in held if h.endswith("." + name)}
    return max(sorted(found), key=lambda p: sum(p + name in names for name in wanted))


def _hash_in(name: str) -> str | None:
    """Find the first digits of the SHA-256 that torchvision writes into its files' names."""
    match = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", name)
    if match is None or re.fullmatch(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", match.group(1)):
        return None  # no digits, or a date
    return match.group(1)
