"""What both kinds of settings share: JSON both ways, and checks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, Self, cast

from siamura._validation import check_choice, check_number, check_whole

__all__ = [
    "MOST",
    "NotGiven",
    "SettingsBase",
    "check_operating",
    "columns_of",
    "names_of",
    "parts_of",
    "setting",
]


class NotGiven(float):
    """A default that is known as such: a setting that the loss does not have may not be given, even with it."""


def setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


class SettingsBase:
    """JSON both ways and checks, for a frozen record of settings."""

    size: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, ready for JSON."""
        return {name: _plain(value) for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave.

        Raises
        ------
        ValueError
            If a name is no setting of an experiment, or a value is none for it.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"the settings are a {type(values).__name__}; give names and their values.")
        defaults = {f.name: f.default for f in fields(cast("Any", cls))}
        if unknown := sorted(set(values) - set(defaults), key=str):
            raise ValueError(f"an experiment has no setting {unknown[0]!r}; it has {', '.join(defaults)}.")
        given = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
            # What was stored may hold the defaults of settings that the loss does not have.
            if not (isinstance(defaults[name], NotGiven) and value == defaults[name])
        }
        return cls(**given)

    def reading(self) -> dict[str, Any]:
        """The settings as keywords of `siamura.read_studies`."""
        found: dict[str, Any] = {
            "columns": columns_of(getattr(self, "columns", None)),
            "ordered": getattr(self, "ordered", None),
        }
        for name in ("positive", "classes"):
            text: str | None = getattr(self, name, None)
            found[name] = None if text is None else list(names_of(text))
        return found

    def to_json(self) -> str:
        """The settings as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` gave."""
        return cls.from_dict(json.loads(text))

    def _check_whole(self, *names: str) -> None:
        for name in names:
            value = check_whole(name, getattr(self, name))
            check_whole(name, value, most=MOST)

    def _check_text(self, *names: str) -> None:
        for name in names:
            if not (isinstance(value := getattr(self, name), str) and value):
                raise ValueError(f"{name}={value!r} must be a text that is not empty.")

    def _check_flags(self, *names: str) -> None:
        for name in names:
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name}={value!r} must be True or False.")

    def _check_paths(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
            elif not (value is None or isinstance(value, str)):
                raise ValueError(f"{name}={value!r} must be a path, or None.")

    def _check_size_and_seed(self) -> None:
        if not (isinstance(self.size, int) and 32 <= self.size <= 4096):
            raise ValueError(
                f"size={self.size!r}: the trunks halve an image five times, so size must be at least 32."
                if isinstance(self.size, int) and self.size < 32
                else f"size={self.size!r} must be a whole number from 32 to 4096."
            )
        for name in ("seed", "data_seed"):
            value = getattr(self, name, None)
            if name == "data_seed" and value is None:
                continue
            if not (isinstance(value, int) and 0 <= value < 2**63):
                raise ValueError(f"{name}={value!r} must be a whole number, not negative and below 2**63.")


def check_operating(sensitivity: float, calibration: str, calibration_share: float) -> None:
    """Refuse settings of an operating point that are out of their range."""
    check_number("sensitivity", sensitivity, above=0, most=1)
    check_choice("calibration", calibration, ("temperature", "isotonic", "none"))
    check_number("calibration_share", calibration_share, least=0, most=0.5)


def columns_of(text: str | None) -> dict[str, str] | None:
    """Read ``"file=path,finding=label"``: a table's names to siamura's.

    Examples
    --------
    >>> columns_of("file=path, finding=label")
    {'file': 'path', 'finding': 'label'}
    """
    if text is None:
        return None
    pairs = [[side.strip() for side in pair.split("=")] for pair in text.split(",")]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise ValueError(f"columns={text!r} must be names and their meaning, as in file=path,finding=label.")
    return dict(pairs)


def parts_of(text: str) -> tuple[str, ...] | None:
    """Read one part or more with commas between; None for ``"all"``.

    Examples
    --------
    >>> parts_of("hand,leg"), parts_of("all")
    (('hand', 'leg'), None)
    """
    return None if text.strip().lower() == "all" else names_of(text)


def names_of(text: str) -> tuple[str, ...]:
    """Split a text of one or more names at its commas.

    Examples
    --------
    >>> names_of("hand, leg")
    ('hand', 'leg')
    """
    return tuple(name.strip() for name in text.split(",") if name.strip())


MOST = 2**31 - 1  # of a count: what PyTorch and FAISS take


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return float(value) if isinstance(value, NotGiven) else value
