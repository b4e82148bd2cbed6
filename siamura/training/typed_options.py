"""Options of a function as one typed dictionary: their descriptions, defaults, checks, signature and help from it.

Each annotation is ``Annotated[type, Option(default, text, ...)]``.
"""

from __future__ import annotations

import difflib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_args

from siamura._validation import check_choice, check_flag, check_number, check_whole

__all__ = ["Option", "described", "documented", "options_of"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", bound=Mapping[str, Any])


@dataclass(frozen=True)
class Option:
    """What is known of an option beside its name and type.

    Parameters
    ----------
    default : object
        Its value where none is given.
    text : str
        Its meaning, as the documentation has it.
    kind : str
        Its type, as the documentation has it; by default from `choices` and the type.
    choices : tuple of str
        All that it may be, if it is a text.
    least, most, above, below : float, optional
        Its range: the first two included, the others not.
    remedy : str
        What the message about a wrong value says beside its range.
    """

    default: Any
    text: str
    kind: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    remedy: str = ""

    def check(self, name: str, value: Any, kinds: tuple[Any, ...]) -> None:
        """Refuse a value out of the range, where it may be of these types; the default is always right.

        Raises
        ------
        ValueError
            With the name, the value and what would be right.
        """
        if value is self.default or (value is None and type(None) in kinds):
            return
        try:
            if self.choices:
                check_choice(name, value, self.choices)
            elif bool in kinds:
                check_flag(name, value)
            elif int in kinds and float not in kinds:
                check_whole(name, value, least=cast("int | None", self.least))
            elif any(bound is not None for bound in (self.least, self.most, self.above, self.below)):
                check_number(
                    name, value, least=self.least, most=self.most, above=self.above, below=self.below
                )
        except ValueError as error:
            if not self.remedy:
                raise
            raise ValueError(f"{error} {self.remedy}") from None


def described(kind: type) -> Iterator[tuple[str, Any, Option]]:
    """Give name, type and description of each option, in order."""
    for name, annotation in _annotations(kind).items():
        inner, about = get_args(annotation)
        yield name, inner, about


def options_of(kind: type[T], given: Mapping[str, Any], function: str) -> T:
    """Give every option: the values that are given, checked, and the defaults of the others.

    Parameters
    ----------
    kind : type
        `FitOptions` or `ClassifierOptions`.
    given : mapping
        Values by name.
    function : str
        What they are options of, for the message.

    Raises
    ------
    TypeError
        If there is no such option; the message names it, and the nearest that there is.
    ValueError
        If a value is out of its range.

    Examples
    --------
    >>> from siamura.training.options import FitOptions
    >>> options_of(FitOptions, {"steps": 4}, "fit")["lr"]
    0.001
    >>> options_of(FitOptions, {"step": 4}, "fit")
    Traceback (most recent call last):
    TypeError: fit() got an unexpected keyword argument 'step'; did you mean 'steps'?
    """
    about = {name: (inner, held) for name, inner, held in described(kind)}
    for name in given:
        if name not in about:
            near = difflib.get_close_matches(name, about, 1)
            remedy = f"did you mean {near[0]!r}?" if near else f"its options are {', '.join(about)}."
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}; {remedy}")
    for name, value in given.items():
        inner, held = about[name]
        held.check(name, value, get_args(inner) or (inner,))
    chosen = {name: given.get(name, held.default) for name, (_, held) in about.items()}
    for name, needed in NEEDS.items():
        if (
            name in given
            and chosen.get(needed) is None
            and chosen[name] not in (None, False, about[name][1].default)
        ):
            raise ValueError(
                f"{name}={chosen[name]!r} does nothing without {needed}=; give that too, or leave it out."
            )
    if chosen.get("schedule") == "plateau" and chosen.get("valid") is None:
        raise ValueError("schedule='plateau' does nothing without valid=; give that too, or choose another.")
    if chosen.get("start_size") is not None and chosen.get("cache_features"):
        raise ValueError(
            "start_size and cache_features=True exclude each other: images of other sizes have others."
        )
    return cast("T", chosen)


#: Options that do nothing without another one.
NEEDS = {
    "validate_every": "valid", "monitor": "valid", "keep_best": "valid", "patience": "valid",
    "checkpoint_every": "out", "locate": "lesions",
}  # fmt: skip


def documented(kind: type) -> Callable[[F], F]:
    """Put the options into a function's signature, and their descriptions where its docstring has ``{options}``."""

    def add(function: F) -> F:
        plain = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        offered = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=about.default, annotation=inner)
            for name, inner, about in described(kind)
        ]
        function.__signature__ = inspect.signature(function).replace(  # type: ignore[attr-defined]
            parameters=[*plain, *offered]
        )
        text = inspect.getdoc(function)
        if text is not None:  # there is none under python -OO
            function.__doc__ = text.replace("{options}", _section(kind))
        return function

    return add


def _annotations(kind: type) -> dict[str, Any]:
    """Names and annotations, without looking up the types in quotes: they would import torch and Lightning."""
    found: dict[str, Any] = kind.__annotations__
    return found


def _section(kind: type) -> str:
    """Describe the options as numpydoc has them, for a docstring without indentation."""
    lines = []
    for name, inner, about in described(kind):
        lines.append(f"{name} : {_type_text(inner, about)}")
        lines += textwrap.wrap(about.text, 100, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _type_text(inner: Any, about: Option) -> str:
    if about.kind:
        return about.kind
    if about.choices:
        return "{" + ", ".join(f'"{choice}"' for choice in about.choices) + "}"
    kinds = [part.__name__ for part in get_args(inner) or (inner,) if part is not type(None)]
    return " or ".join(kinds) + (", optional" if about.default is None else "")
