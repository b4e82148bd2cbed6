"""timm's models without their tops, convolutional and of tokens."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from ._features import Built
from ._torchvision import torchvision_models
from .hub import PREFIX, hub_library
from .tokens import map_of

__all__ = ["TIMM", "build", "class_token_of", "import_timm"]

_LOG = logging.getLogger(__name__)
TIMM = "timm:"
# What a model on the Hub may ask of its architecture beside its defaults: nothing that changes the weights' form.
_ARGUMENTS = {"img_size", "num_classes", "global_pool", "dynamic_img_size", "in_chans", "drop_path_rate"}


def build(name: str, weights: str | Path | None, image_size: int | None) -> Built:
    """Make a timm model without its top; its positions are those of the images' size, by timm's own means."""
    published = weights == "imagenet"
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size={image_size} must be at least 1.")
    options: dict[str, Any] = {}
    if name.startswith(PREFIX):
        timm = import_timm()
        asked, (name, options) = name, _on_the_hub(name, fetch=published)
        import_timm(name)
    else:
        timm, asked = import_timm(name), name
    default = timm.models.get_pretrained_cfg(name)
    held = options.get("pretrained_cfg") or (default.to_dict() if default is not None else {})
    side = int(held.get("input_size", (3, 224, 224))[-1])
    wanted = image_size or side
    source = {"pretrained_cfg": options["pretrained_cfg"]} if options else {}
    model, sized = None, True
    # What takes no size is convolutional, or takes any; a TypeError is raised before anything is fetched.
    for size in ({"img_size": wanted, "dynamic_img_size": True}, {"img_size": wanted}, {}):
        try:
            model = timm.create_model(name, pretrained=published, num_classes=0, **source, **size)
        except TypeError:
            if not size:
                raise
            continue
        except Exception as error:  # timm and the Hub raise a dozen kinds where there is no network
            told = str(error).strip().split("\n")[0]
            if isinstance(error, AssertionError | ValueError) or not published:
                raise ValueError(f"timm:{name} cannot be made for images of {wanted} px ({told}).") from error
            page = asked.removeprefix(PREFIX) if asked.startswith(PREFIX) else f"timm/{name}"
            raise FileNotFoundError(
                f'weights="imagenet" of timm:{asked} could not be fetched ({told}). '
                f"Fetch https://huggingface.co/{page} on a machine with a network and give the file as "
                "weights=PATH."
            ) from error
        sized = bool(size)
        break
    assert model is not None
    if isinstance(getattr(model, "attn_pool", None), nn.Module):
        model.attn_pool = None  # part of the top
    config = model.pretrained_cfg
    flexible = bool(getattr(model, "dynamic_img_size", False)) or not config.get("fixed_input_size", True)
    return Built(
        model,
        TIMM + name,
        _features,
        side,
        mean=fmean(config.get("mean", (0.449,))),
        std=fmean(config.get("std", (0.226,))),
        image_size=wanted if sized else None,
        fixed=sized and not flexible,
        multiple=_multiple(model) if sized else 1,
    )


def import_timm(name: str | None = None) -> Any:
    """Import timm, an extra, and see that it knows the name."""
    torchvision_models()  # timm imports it
    try:
        import timm  # an optional extra
    except ImportError as error:
        raise ImportError(
            f'trunk="timm:{name or "..."}" needs the timm package: pip install "siamura[timm]".'
        ) from error
    if name is not None and not timm.is_model(name.split(".")[0]):
        near = ", ".join(timm.list_models(f"*{name[:6]}*")[:3]) or "see timm.list_models()"
        raise ValueError(f'trunk="timm:{name}" is unknown to timm {timm.__version__}; {near}.')
    return timm


def class_token_of(model: nn.Module) -> bool:
    """Whether the first token of a timm model is a class token."""
    if hasattr(model, "has_class_token"):
        return bool(model.has_class_token)
    return getattr(model, "cls_token", None) is not None


def _on_the_hub(name: str, *, fetch: bool) -> tuple[str, dict[str, Any]]:
    """Architecture and description of a timm model on the Hub; from the Hub's cache alone where not fetched."""
    hub = hub_library()
    repo, _, revision = name.removeprefix(PREFIX).partition("@")
    try:
        path = hub.hf_hub_download(repo, "config.json", revision=revision or None, local_files_only=not fetch)
        config = json.loads(Path(path).read_text(encoding="utf-8"))
        architecture, described = str(config["architecture"]), dict(config.get("pretrained_cfg") or config)
    except Exception as error:  # the Hub, its cache and the network raise some thirty kinds
        told = str(error).strip().split("\n")[0]
        way = (
            "Without a network, give timm:ARCHITECTURE and the file as weights=PATH."
            if fetch
            else 'Only weights="imagenet" fetches it; else give timm:ARCHITECTURE, and the file as weights=PATH.'
        )
        raise FileNotFoundError(
            f"trunk='timm:{name}': its config.json is not at hand ({type(error).__name__}: {told:.200}). {way}"
        ) from error
    odd = sorted(set(config.get("model_args") or {}) - _ARGUMENTS)
    if odd:
        raise ValueError(
            f"trunk='timm:{name}' is a {architecture} with other arguments ({', '.join(odd)}); only timm's own "
            "architectures can be saved and made again by name."
        )
    described |= {"architecture": architecture, "hf_hub_id": repo + (f"@{revision}" if revision else ""),
                  "source": "hf-hub"}  # fmt: skip
    return architecture, {"pretrained_cfg": described}


def _multiple(model: nn.Module) -> int:
    """Side of a patch, where the sequence of patches is of the images' own size."""
    embed = getattr(model, "patch_embed", None)
    if not getattr(model, "dynamic_img_size", False) or getattr(model, "output_fmt", None) == "NHWC":
        return 1
    if getattr(embed, "dynamic_img_pad", False) or not hasattr(embed, "feat_ratio"):
        return 1
    return int(embed.feat_ratio(as_scalar=True))  # type: ignore[union-attr]


def _features(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    out = model.forward_features(x)  # type: ignore[operator]
    if not isinstance(out, Tensor) or out.ndim not in (3, 4):
        what = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(
            f"{type(model).__name__} of timm gives {what}, no map or tokens; choose another trunk."
        )
    if out.ndim == 4:
        channels = getattr(model, "num_features", out.shape[1])
        last = getattr(model, "output_fmt", "NCHW") == "NHWC" or out.shape[1] != channels
        return (out.permute(0, 3, 1, 2) if last else out), None
    if class_token_of(model) and out.shape[1] <= 2 and not hasattr(model, "num_prefix_tokens"):
        raise ValueError(f"{type(model).__name__} of timm gives its class token alone; choose another trunk.")
    norm = getattr(model, "fc_norm", None)
    if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
        out = norm(out)  # of models whose top averages the tokens before it normalises them
    places = map_of(out, (x.shape[-2], x.shape[-1]), prefix=getattr(model, "num_prefix_tokens", None))
    if places is None:
        raise ValueError(
            f"{type(model).__name__} of timm gives {out.shape[1]} tokens, which fill no grid over images of "
            f"{x.shape[-2]} x {x.shape[-1]}; choose another trunk or size."
        )
    return places, (out[:, 0] if class_token_of(model) else None)
