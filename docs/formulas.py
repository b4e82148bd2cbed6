"""Formulas as SVG by matplotlib, so that the pages show them without network and without LaTeX."""

from __future__ import annotations

import io
import re
import zlib
from html import escape
from typing import Any

from docutils.nodes import SkipNode
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image


def svg(formula: str, size: int) -> str:
    """One formula in the colour of the text around it; its source where matplotlib cannot set it."""
    out = io.BytesIO()
    try:
        math_to_image(
            f"${' '.join(formula.split())}$", out, dpi=100, format="svg", prop=FontProperties(size=size)
        )
    except ValueError:
        return f"<code>{escape(formula)}</code>"
    drawn = out.getvalue().decode()
    drawn = drawn[drawn.index("<svg") :]
    # Several formulas on one page: their glyphs need names of their own.
    mark = f"{zlib.crc32(formula.encode()):x}"
    drawn = re.sub(r'(id="|href="#)', rf"\g<1>{mark}-", drawn)
    return f'<span class="formula" role="img" aria-label="{escape(formula, quote=True)}">{drawn}</span>'


def inline(writer: Any, node: Any) -> None:
    """Set a formula within a line."""
    writer.body.append(svg(node.astext(), 11))
    raise SkipNode


def block(writer: Any, node: Any) -> None:
    """Set a formula on a line of its own."""
    writer.body.append(f'<p class="formula-block">{svg(node.astext(), 13)}</p>')
    raise SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Name the renderer for `html_math_renderer`."""
    app.add_html_math_renderer("formulas", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
