"""A page of HTML in one file: no script, nothing fetched, light and dark, wide and narrow.

Sections are lists of blocks of data; ``templates/page.html`` says how each looks.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

__all__ = [
    "Block",
    "Details",
    "Figures",
    "Paragraph",
    "Picture",
    "Program",
    "Score",
    "Section",
    "Table",
    "Text",
    "at_night",
    "render",
]

Look = Literal["chart", "images", "plain"]

# invert(.92) hue-rotate(180deg) of the style sheet, as CSS Filter Effects defines them.
_INVERT = 0.92
_HUE_ROTATED = np.array(
    [[-0.574, 1.430, 0.144], [0.426, 0.430, 0.144], [0.426, 1.430, -0.856]], dtype=np.float32
)


@dataclass(frozen=True)
class Text:
    """A cell of words: as code, or with something less important after it."""

    kind: ClassVar[str] = "text"
    text: str
    soft: str = ""
    code: bool = False


@dataclass(frozen=True)
class Score:
    """A cell with a figure, its interval, and a mark of both on `scale` where one is given."""

    kind: ClassVar[str] = "score"
    value: float | None
    bounds: Sequence[float] | None = None
    scale: tuple[float, float] | None = None

    @property
    def holds_zero(self) -> bool:
        """Whether zero lies within the scale."""
        return self.scale is not None and self.scale[0] < 0 < self.scale[1]

    def place(self, number: float) -> str:
        """Where a number lies on the mark, from 3 to 117."""
        low, high = self.scale or (0.0, 1.0)
        return f"{3 + 114 * (min(max(number, low), high) - low) / (high - low):.1f}"


Cell: TypeAlias = str | Text | Score


@dataclass(frozen=True)
class Table:
    """A table that scrolls by itself where the window is narrow; the first cell of a row is its head.

    Parameters
    ----------
    caption : str
    header : sequence of str
    rows : sequence of sequences of cells
    marked : collection of int
        Rows that are set off.
    words : bool
        Whether its cells are sentences: where the window is narrow its rows then stand as blocks.
    """

    kind: ClassVar[str] = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    marked: Collection[int] = ()
    words: bool = False


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `code` ends it."""

    kind: ClassVar[str] = "paragraph"
    text: str
    code: str = ""


@dataclass(frozen=True)
class Program:
    """Lines of code."""

    kind: ClassVar[str] = "program"
    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away under a summary."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Picture:
    """A PNG file within the page.

    Parameters
    ----------
    path : Path
    alt, caption : str
    wide : bool
        Whether it takes the page's whole width; in a narrow window it scrolls then, since its text would be too
        small to read.
    look : {"chart", "images", "plain"}
        What a dark page does with it: a chart is inverted and keeps its hues; of a figure with images everything
        but the images is; anything else is dimmed.
    images : sequence of (left, top, right, bottom)
        Where the images lie, in pixels.

    Raises
    ------
    ValueError
        If it is no PNG file.
    """

    path: Path
    alt: str
    caption: str
    wide: bool = False
    look: Look = "plain"
    images: Sequence[Sequence[int]] = ()
    width: int = field(init=False)
    height: int = field(init=False)
    light: str = field(init=False, repr=False)
    dark: str = field(init=False, repr=False, default="")

    def __post_init__(self) -> None:
        content = self.path.read_bytes()
        if content[:8] != b"\x89PNG\r\n\x1a\n":
            raise ValueError(f"{self.path} is no PNG file; draw the figure again, or delete it")
        found: dict[str, Any] = {
            name: int.from_bytes(content[at : at + 4], "big") for name, at in (("width", 16), ("height", 20))
        }
        found["light"] = _address(content)
        if self.look == "images":
            found["dark"] = _address(at_night(content, self.images))
        for name, value in found.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Figures:
    """Pictures side by side."""

    kind: ClassVar[str] = "figures"
    pictures: Sequence[Picture]


Block: TypeAlias = Table | Paragraph | Program | Details | Figures


@dataclass(frozen=True)
class Section:
    """A heading, the name that links lead to, and what stands below."""

    name: str
    heading: str
    blocks: Sequence[Block]


def render(name: str, **values: Any) -> str:
    """Fill in a template of this package; what ends in ``.html`` is escaped."""
    return _environment().get_template(name).render(**values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("siamura.report"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


def at_night(content: bytes, images: Sequence[Sequence[int]]) -> bytes:
    """Turn a PNG file dark as the style sheet does with charts, and leave the images in it as they are.

    Parameters
    ----------
    content : bytes
        A PNG file.
    images : sequence of (left, top, right, bottom)
        In pixels.
    """
    with Image.open(io.BytesIO(content)) as opened:
        light = np.asarray(opened.convert("RGB"), dtype=np.float32)
    dark = (light * (1 - 2 * _INVERT) + 255 * _INVERT) @ _HUE_ROTATED.T
    out = np.clip(np.round(dark), 0, 255).astype(np.uint8)
    day = light.astype(np.uint8)
    for left, top, right, bottom in images:
        # An image's outermost pixels may lie beside its box: the darker of both is taken, or a bright line frames it.
        around = np.s_[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2]
        out[around] = np.minimum(out[around], day[around])
        out[top:bottom, left:right] = day[top:bottom, left:right]
    file = io.BytesIO()
    Image.fromarray(out).save(file, "PNG")
    return file.getvalue()


def _address(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
