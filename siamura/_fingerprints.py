"""Which network and which preprocessing made an embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Fingerprint", "Model", "as_fingerprint", "check_fingerprint", "fingerprint"]

Fingerprint: TypeAlias = dict[str, str]
#: A network, or a fingerprint taken earlier.
Model: TypeAlias = "nn.Module | Mapping[str, str] | None"


def fingerprint(model: nn.Module) -> Fingerprint:
    """Digests of a network's weights and of its preprocessing.

    Two embeddings can be compared only where both agree.

    Parameters
    ----------
    model : torch.nn.Module
        Its ``preprocess``, where it has one, is taken with it.

    Returns
    -------
    dict
        ``{"model": ..., "preprocessing": ...}``, in hexadecimal; ``"none"`` where no preprocessing is known.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(2, 2)
    >>> before = fingerprint(net)
    >>> before == fingerprint(net), before["preprocessing"]
    (True, 'none')
    >>> with torch.no_grad():
    ...     _ = net.bias.add_(1.0)
    >>> before == fingerprint(net)
    False
    """
    import torch  # here, as indexes and their command line are opened without

    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(model.state_dict().items()):
        if name.endswith("num_batches_tracked"):  # counts training steps; no embedding depends on it
            continue
        array = value.detach().cpu().contiguous().view(-1)
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(memoryview(array.view(torch.uint8).numpy()))
    # Two networks of equal weights may differ in what has none (pooling, L2 normalisation). The image size is
    # the preprocessing's matter, and is filled in from there when a network is loaded.
    config = {name: value for name, value in getattr(model, "config", {}).items() if name != "image_size"}
    digest.update(repr(sorted(config.items())).encode())
    preprocess = getattr(model, "preprocess", None)
    return {
        "model": digest.hexdigest(),
        "preprocessing": "none" if preprocess is None else str(preprocess.fingerprint()),
    }


def as_fingerprint(model: Model) -> Fingerprint | None:
    """Take a network, or a fingerprint taken earlier."""
    if model is None:
        return None
    if isinstance(model, Mapping):
        if set(model) != {"model", "preprocessing"} or not all(isinstance(v, str) for v in model.values()):
            raise ValueError(
                f"model={dict(model)!r} is no fingerprint; pass the network, or fingerprint(network)."
            )
        return dict(model)
    if not hasattr(model, "state_dict"):
        raise ValueError(f"model is a {type(model).__name__}; pass the network that made the embeddings.")
    return fingerprint(model)


def check_fingerprint(given: Fingerprint | None, own: Fingerprint | None, place: object) -> None:
    """Refuse embeddings of another network or preprocessing than those kept at `place`; where none is known, none.

    Raises
    ------
    ValueError
        If both are known and differ.
    """
    if given is None or own is None or given == own:
        return
    what = " and ".join(name for name in ("model", "preprocessing") if given[name] != own[name])
    raise ValueError(
        f"another {what} made these embeddings than those in {place} (fingerprint {given} instead of {own}); their "
        "distances mean nothing. Embed with the network that made the index, or make a new index."
    )
