"""Parts and splits as people write them, in one form."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from siamura._files import printable

UNKNOWN_PART: Final = "XR_UNKNOWN"

_SPLITS: Final = {
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "validate", "validating", "vld", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "tst", "tests"), "test"),
}


def split_name(given: object) -> str:
    """Give a split's name: the usual spellings become train, valid or test, another name stays.

    Case, spaces and a trailing "set" do not matter. "dev" is the validation split of machine learning;
    "development", which in medicine often is the training side, stays a name of its own.

    Examples
    --------
    >>> [split_name(name) for name in ("Train", "TRAINING", "val", "Validation set", "dev", "Calibration ")]
    ['train', 'train', 'valid', 'valid', 'valid', 'Calibration']
    """
    own = " ".join(str(given).split())
    word = re.sub(r"[\s_-]*(?:set|split)$", "", own.casefold()).strip()
    return _SPLITS.get(word, own)


def split_names(given: Iterable[object]) -> dict[str, str]:
    """Map the split names of a table to one form; of spellings that differ in case alone the first is taken."""
    found: dict[str, str] = {}
    seen: dict[str, str] = {}
    for one in given:
        name = split_name(one)
        found[str(one)] = seen.setdefault(name.casefold(), name)
    return found


def part_name(given: object) -> str:
    """Write a body part as MURA does.

    Several parts joined by "+" stay one value of their own: which of them an image is of is not guessed.

    Examples
    --------
    >>> [part_name(name) for name in ("hand", "XR_HAND", "Upper arm", "hand + shoulder", "")]
    ['XR_HAND', 'XR_HAND', 'XR_UPPER_ARM', 'XR_HAND+SHOULDER', 'XR_UNKNOWN']
    """
    word = unicodedata.normalize("NFKC", str(given)).upper()
    word = re.sub(r"\s*\+\s*", "+", re.sub(r"[^\w+]+|_+", " ", word)).strip()
    word = re.sub(r"^XR(?: |$)", "", word).replace(" ", "_")
    return f"XR_{word}" if word else UNKNOWN_PART


def asked_for(name: str, value: Any) -> list[Any]:
    """List what an argument asks for: one value, or any iterable of them.

    Raises
    ------
    ValueError
        If it asks for nothing.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    single = isinstance(value, str | bytes) or not isinstance(value, Iterable)
    found = [value] if single else [one.item() if isinstance(one, np.generic) else one for one in value]
    if not found:
        raise ValueError(f"{name}={value!r} names no {name}: name at least one value, or leave it out.")
    return found


def pick(name: str, value: Any, known: Mapping[str, str], key: Any, where: str) -> list[str]:
    """Find what is asked for among the values that are there.

    Parameters
    ----------
    name : str
        The argument.
    value : object
        What it asks for, see `asked_for`.
    known : mapping of str to str
        Each value that is there, by its key.
    key : callable
        From a value to its key.
    where : str
        What holds the values, for the error.

    Returns
    -------
    list of str
        The keys, each once.

    Raises
    ------
    ValueError
        If no row has one of the values, with those that are there.
    """
    chosen: dict[str, None] = {}
    for one in asked_for(name, value):
        wanted = key(one)
        if wanted not in known:
            near = difflib.get_close_matches(str(wanted), [k for k in known if k], n=1)
            hint = f" Did you mean {known[near[0]]!r}?" if near else ""
            if name == "part":
                hint += " A run on all of them has part='all' (--part all)."
            raise ValueError(
                f"{name}={one!r} is in no row of {where}; it holds {listed(known.values())}.{hint}"
            )
        chosen[wanted] = None
    return list(chosen)


def listed(values: Iterable[object], most: int = 12) -> str:
    """Join names for a message, the first few of them."""
    found = list(values)
    shown = ", ".join(printable(v) for v in found[:most])
    return shown + (f" and {len(found) - most} more" if len(found) > most else "") if found else "nothing"
