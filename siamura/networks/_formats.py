"""The same weights under other names: of transformers, of RadImageNet, of a model of another image size."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["adapted"]

_LOG = logging.getLogger(__name__)
State = dict[str, Tensor]


def adapted(held: State, model: nn.Module) -> Iterator[State]:
    """Give a file's weights in every form in which they might fit a trunk's model.

    Parameters
    ----------
    held : dict of str to Tensor
        As read, without a common prefix.
    model : Module
        Of torchvision or timm.

    Yields
    ------
    dict of str to Tensor
    """
    for state in (held, _from_transformers(held), _from_children(held, model)):
        if state:
            yield state
            yield from _resampled(state, model)


def _resampled(held: State, model: nn.Module) -> Iterator[State]:
    """Positions resampled to the model's image size, and foreign names translated, by the library's own means."""
    module = sys.modules[type(model).__module__]
    if module.__name__.startswith("timm.") and hasattr(module, "checkpoint_filter_fn"):
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # one of them prints
                state = module.checkpoint_filter_fn(dict(held), model)
        except Exception as error:  # whatever a file for another model makes of it; the names are listed then
            _LOG.debug("timm's filter of %s: %s", module.__name__, error)
            return
        if isinstance(state, dict):
            yield {name: value for name, value in state.items() if isinstance(value, Tensor)}
    elif module.__name__ == "torchvision.models.vision_transformer" and "encoder.pos_embedding" in held:
        side, patch = int(model.image_size), int(model.patch_size)  # type: ignore[arg-type]
        with contextlib.suppress(ValueError):
            yield dict(module.interpolate_embeddings(side, patch, dict(held)))


def _from_children(held: State, model: nn.Module) -> State:
    """Names of RadImageNet's files: ``backbone.4.0.conv1.weight`` is in the fifth part of torchvision's ResNet."""
    number = re.compile(r"^(?:backbone\.)?(\d+)\.")
    if not held or not all(number.match(name) for name in held if "num_batches_tracked" not in name):
        return {}
    parts = [name for name, _ in model.named_children()]
    found: State = {}
    for name, value in held.items():
        match = number.match(name)
        if match is None or int(match[1]) >= len(parts):
            return {}
        found[f"{parts[int(match[1])]}.{name[match.end() :]}"] = value
    return found


_RENAMED = (
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"^layernorm\.", "norm."),
)


def _from_transformers(held: State) -> State:
    """Names that transformers gives ViT and DINOv2 (RAD-DINO's ``model.safetensors``), as DINOv2's own."""
    mark = "embeddings.patch_embeddings.projection.weight"
    first = next((name for name in held if name.endswith(mark)), None)
    if first is None:
        return {}
    prefix = first.removesuffix(mark)
    found: State = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, value in held.items():
        if not name.startswith(prefix):
            continue
        name = name.removeprefix(prefix)
        third = re.match(
            r"^encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)$", name
        )
        if third:
            thirds.setdefault(f"blocks.{third[1]}.attn.qkv.{third[3]}", {})[third[2]] = value
            continue
        for pattern, new in _RENAMED:
            name = re.sub(pattern, new, name)
        found[name] = value
    for name, parts in thirds.items():
        if len(parts) == 3:
            found[name] = torch.cat([parts["query"], parts["key"], parts["value"]])
    return found
