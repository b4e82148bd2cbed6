"""config.json of a saved network: read as an untrusted file, so that it can name no file and ask for no memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamura._validation import check_choice, check_number, check_whole

if TYPE_CHECKING:
    from siamura.pixels import Preprocess

__all__ = ["check_sizes", "read_config"]

_BYTES = 1 << 20
_SIDE = 2048  # pixels
_WIDTH = 1 << 16
_LAYERS = 32
# Names of torchvision, and of timm with a tag; nothing that timm would take for an address or a folder.
_NAME = re.compile(r"(timm:)?[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")

Check = Callable[[str, Any], Any]


def read_config(path: Path, kind: str) -> dict[str, Any]:
    """Read the arguments of a network's class.

    Parameters
    ----------
    path : Path
        The config.json.
    kind : str
        Name of the class that reads it.

    Returns
    -------
    dict
        The class's keyword arguments, ``preprocess`` among them; each of the type and range that the class takes.

    Raises
    ------
    ValueError
        If it is no such description; names the entry, its value and what would be right.
    """
    try:
        if path.stat().st_size > _BYTES:
            raise ValueError(f"it has more than {_BYTES} bytes")
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"it holds a {type(config).__name__}, no object")
        found, made = config.pop("class"), config.pop("preprocess")
        config.pop("siamura")
    except (ValueError, KeyError, RecursionError) as error:
        told = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error).split("\n")[0]
        raise ValueError(f"{path} is no network's description ({told}).") from error
    if found != kind:
        if found in ("EmbeddingNet", "PairNet", "Classifier"):
            raise ValueError(
                f"{path.parent} holds a {found}; load it by siamura.networks.{found}.from_pretrained."
            )
        raise ValueError(f"{path} is no network's description (class={found!r:.80} is unknown).")
    allowed = _COMMON | (_CLASSIFIER if kind == "Classifier" else _EMBEDDING)
    try:
        arguments = _checked(config, allowed)
        arguments["preprocess"] = _preprocess(made)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return arguments


def check_sizes(arguments: Mapping[str, Any], shapes: Mapping[str, list[int]], path: Path) -> None:
    """See that the layers that a config asks for are those that the file of weights holds.

    Parameters
    ----------
    arguments : mapping
        Of `read_config`.
    shapes : mapping of str to list of int
        Of the tensors in the file, read from its header.
    path : Path
        The config.json, for the message.

    Raises
    ------
    ValueError
        Before anything of the wrong size is made.
    """
    dense = {
        name: shape
        for name, shape in shapes.items()
        if len(shape) == 2 and name.startswith("head.") and name.endswith(".weight")
    }
    held = [dense[name][0] for name in sorted(dense, key=_number)]
    top = arguments.get("top")
    if top is None:
        wanted = [*arguments.get("hidden", ()), arguments.get("dim", 128)]
    else:
        wanted = [*([top["classes"]] if top.get("classes") else []), *top.get("hidden", ()), 1]
        side = arguments.get("image_size") or 0
        if top.get("pool") == "flatten" and dense and max(s[1] for s in dense.values()) < (side // 64) ** 2:
            raise ValueError(f"{path}: image_size={side} does not fit the weights beside it.")
    if held != wanted:
        raise ValueError(
            f"{path}: its dense layers have {wanted} outputs, those of the weights beside it {held}."
        )
    classes, neck = arguments.get("classes", 0), shapes.get("neck.dense.weight", [0])[0]
    if classes != neck:
        raise ValueError(
            f"{path}: classes={classes}, and the classifier of the weights beside it has {neck}."
        )
    positions = [shape for name, shape in shapes.items() if name.endswith("encoder.pos_embedding")]
    if positions and (side := arguments.get("image_size")):
        patches = positions[0][1] - 1
        if not side // 32 <= patches**0.5 <= side // 8:
            raise ValueError(
                f"{path}: image_size={side} does not fit the {patches} positions of the weights."
            )


def _number(name: str) -> tuple[bool, int]:
    """Order the layers of a head: ``head.classes`` first, then by number."""
    digits = re.search(r"\.(\d+)\.weight$", name)
    return digits is not None, int(digits[1]) if digits else 0


def _checked(config: Mapping[str, Any], allowed: Mapping[str, Check]) -> dict[str, Any]:
    if unknown := [name for name in config if name not in allowed]:
        raise ValueError(f"{unknown[0]!r:.80} is no entry of it; it may have {', '.join(allowed)}.")
    if "trunk" in allowed and "trunk" not in config:
        raise ValueError("trunk is missing.")
    return {name: allowed[name](name, value) for name, value in config.items()}


def _trunk(name: str, value: Any) -> str:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise ValueError(f'{name}={value!r:.80} must be the name of a torchvision trunk, or "timm:NAME".')
    return value


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r:.80} must be true or false.")
    return value


def _share(name: str, value: Any) -> float:
    return check_number(name, value, least=0, below=1)


def _width(name: str, value: Any) -> int:
    return check_whole(name, value, least=1, most=_WIDTH)


def _widths(name: str, value: Any) -> list[int]:
    if not isinstance(value, list) or len(value) > _LAYERS:
        raise ValueError(f"{name}={value!r:.80} must be a list of at most {_LAYERS} widths.")
    return [_width(name, width) for width in value]


def _side(name: str, value: Any) -> int | None:
    return None if value is None else check_whole(name, value, least=1, most=_SIDE)


def _one_of(*choices: str) -> Check:
    return lambda name, value: check_choice(name, value, choices)


def _top(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name}={value!r:.80} must be an object.")
    return _checked(value, _TOP)


def _preprocess(made: Any) -> Preprocess | None:
    if made is None:
        return None
    from siamura.pixels import Preprocess  # OpenCV, which a network without preprocessing does not need

    if not isinstance(made, dict):
        raise ValueError(f"preprocess={made!r:.80} must be an object or null.")
    try:
        found = Preprocess.from_dict(made)
        check_whole("size", found.size, least=1, most=_SIDE)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        told = str(error).split("\n")[0]
        raise ValueError(f"preprocess cannot be read ({type(error).__name__}: {told:.200}).") from error
    return found


_COMMON: dict[str, Check] = {"trunk": _trunk, "image_size": _side}
_EMBEDDING: dict[str, Check] = {
    "dim": _width,
    "pool": _one_of("avg", "max", "gem", "cls", "located"),
    "hidden": _widths,
    "batch_norm": _truth,
    "dropout": _share,
    "normalize": _truth,
    "classes": lambda name, value: check_whole(name, value, least=2, most=_WIDTH),
}
_TOP: dict[str, Check] = {
    "pool": _one_of("avg", "max", "gem", "cls", "flatten"),
    "map_norm": _truth,
    "hidden": _widths,
    "activation": _one_of("relu", "leaky_relu"),
    "dropout": _share,
    "dropout_at": lambda name, value: check_whole(name, value, least=-1, most=_LAYERS),
    "classes": lambda name, value: check_whole(name, value, least=0, most=_WIDTH),
    "l2": lambda name, value: check_number(name, value, least=0),
}
_CLASSIFIER: dict[str, Check] = {"top": _top}
