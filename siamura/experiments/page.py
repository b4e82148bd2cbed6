"""A page of HTML in one file: no script, nothing fetched, light and dark, wide and narrow."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

__all__ = ["at_night", "cell", "figure", "interval_mark", "markdown", "page", "section", "table"]

Look = Literal["chart", "films", "plain"]

# invert(.92) hue-rotate(180deg) of the style sheet, as CSS Filter Effects defines them.
_INVERT = 0.92
_HUE_ROTATED = np.array(
    [[-0.574, 1.430, 0.144], [0.426, 0.430, 0.144], [0.426, 1.430, -0.856]], dtype=np.float32
)

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de;
  --panel: #f6f8fa; --accent: #0072b2; --warn: #7a3b00; --warn-paper: #fff1de; --warn-line: #d55e00; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6e9ed; --soft: #a3adb8;
  --line: #3a424c; --panel: #1d232a; --accent: #6cb8ea; --warn: #ffd3a6; --warn-paper: #3a2410;
  --warn-line: #e69f00; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif; }
main, header, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
.soft, caption, figcaption { color: var(--soft); font-size: .9rem; }
.notice { border: 2px solid var(--warn-line); background: var(--warn-paper); color: var(--warn);
  border-radius: .4rem; padding: .7rem 1rem; margin: 1rem 0; max-width: none; }
.notice strong { letter-spacing: .04em; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: .8rem 0 0; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent);
  outline-offset: 2px; }
.scroll { overflow-x: auto; margin: .4rem 0 1rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 .4rem; caption-side: top; }
th, td { padding: .32rem .8rem .32rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; }
tbody th { font-weight: 500; }
tr.measured td, tr.measured th { background: var(--panel); }
.range { color: var(--soft); font-size: .82rem; white-space: nowrap; }
.mark { display: block; width: 7.5rem; height: .7rem; margin-top: .15rem; }
.mark .track { stroke: var(--line); } .mark .span { stroke: var(--accent); } .mark .dot { fill: var(--accent); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem; margin: 1rem 0;
  padding: 0; list-style: none; }
.facts li { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .8rem; }
.facts b { display: block; font-size: 1.5rem; line-height: 1.3; }
.facts span { color: var(--soft); font-size: .85rem; display: block; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.2rem;
  align-items: start; }
figure { margin: 0; min-width: 0; } figure.wide { grid-column: 1 / -1; }
figure .scroll { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid #d0d7de;
  border-radius: .4rem; padding: .4rem; }
figcaption { margin-top: .35rem; max-width: 46rem; }
@media (prefers-color-scheme: dark) {
  figure.chart img { filter: invert(.92) hue-rotate(180deg); }
  figure.films img { background: #141414; border-color: #3a424c; }
  figure.plain img { filter: brightness(.85); } }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--accent); }
code, pre { font: .85rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
code { overflow-wrap: anywhere; } pre { background: var(--panel); border: 1px solid var(--line); padding: .7rem;
  border-radius: .4rem; overflow-x: auto; }
footer { margin-top: 2.5rem; padding-bottom: 2rem; color: var(--soft); font-size: .9rem; }
@media (max-width: 48rem) { figure.wide img { max-width: none; width: max(100%, min(48rem, var(--width))); } }
@media (max-width: 30rem) { body { font-size: 15px; } h1 { font-size: 1.35rem; } th, td { padding-right: .55rem; }
  main, header, footer { padding: 0 .9rem; } header { padding-top: 1.2rem; } .facts b { font-size: 1.3rem; }
  footer { padding-bottom: 1.5rem; } }
@media print { nav, summary { display: none; } .figures { display: block; } figure { break-inside: avoid; } }
"""


def page(title: str, header: str, sections: Iterable[tuple[str, str, str]], footer: str) -> str:
    """Put a page together.

    Parameters
    ----------
    title : str
        Plain text.
    header, footer : str
        HTML.
    sections : iterable of (id, heading, HTML)
        Those without content are left out.
    """
    shown = [entry for entry in sections if entry[2]]
    links = "".join(f'<li><a href="#{name}">{html.escape(heading)}</a></li>' for name, heading, _ in shown)
    body = "\n".join(section(*entry) for entry in shown)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header>\n{header}\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n</header>\n'
        f"<main>\n{body}\n</main>\n<footer>\n{footer}\n</footer>\n</body>\n</html>\n"
    )


def section(name: str, heading: str, content: str) -> str:
    """Give one section its heading."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-heading">\n'
        f'<h2 id="{name}-heading">{html.escape(heading)}</h2>\n{content}\n</section>'
    )


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, marked: str = "") -> str:
    """Lay out a table that scrolls by itself where the window is narrow.

    Parameters
    ----------
    caption : str
        Plain text.
    header : sequence of str
        Plain text.
    rows : iterable of sequences of str
        HTML; the first of each is the row's head.
    marked : str
        Rows in which this stands are set off.
    """
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    body = []
    for first, *others in rows:
        shade = ' class="measured"' if marked and any(marked in entry for entry in (first, *others)) else ""
        cells = "".join(f"<td>{entry}</td>" for entry in others)
        body.append(f'<tr{shade}><th scope="row">{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(caption)}"><table>'
        f"<caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def cell(
    value: float | None, bounds: Sequence[float] | None, *, scale: tuple[float, float] | None = None
) -> str:
    """Write a figure, its interval, and a mark of both on `scale` where it fits there."""
    if value is None:
        return '<span class="range">undefined</span>'
    text = f"{value:.3f}"
    if bounds is None:
        return text
    text += f' <span class="range">[{bounds[0]:.3f}, {bounds[1]:.3f}]</span>'
    return text + (interval_mark(value, bounds, scale) if scale else "")


def interval_mark(value: float, bounds: Sequence[float], scale: tuple[float, float]) -> str:
    """Draw an interval as a small line with a dot; the numbers beside it say the same."""
    low, high = scale
    zero = low < 0 < high

    def x(number: float) -> str:
        return f"{3 + 114 * (min(max(number, low), high) - low) / (high - low):.1f}"

    return (
        '<svg class="mark" viewBox="0 0 120 10" aria-hidden="true"><line class="track" x1="3" x2="117" y1="5" y2="5"/>'
        + (f'<line class="track" x1="{x(0)}" x2="{x(0)}" y1="1" y2="9"/>' if zero else "")
        + f'<line class="span" stroke-width="3" x1="{x(bounds[0])}" x2="{x(bounds[1])}" y1="5" y2="5"/>'
        f'<circle class="dot" cx="{x(value)}" cy="5" r="3.4"/></svg>'
    )


def figure(
    path: Path,
    alt: str,
    caption: str,
    *,
    wide: bool = False,
    look: Look = "plain",
    films: Sequence[Sequence[int]] = (),
) -> str:
    """Embed a PNG file.

    Parameters
    ----------
    path : Path
    alt, caption : str
        Plain text.
    wide : bool
        Whether it takes the page's whole width; in a narrow window it scrolls then, since its text would be too
        small to read.
    look : {"chart", "films", "plain"}
        What a dark page does with it: a chart is inverted and keeps its hues; of a figure with films everything
        but the films is; anything else is dimmed.
    films : sequence of (left, top, right, bottom)
        Where the films lie, in pixels.
    """
    content = path.read_bytes()
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{path} is no PNG file; draw the figure again, or delete it")
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    picture = (
        f'<img width="{width}" height="{height}" style="--width: {width}px" '
        f'alt="{html.escape(alt)}" src="{_address(content)}">'
    )
    if look == "films":
        dark = _address(at_night(content, films))
        source = f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        picture = f"<picture>{source}{picture}</picture>"
    if wide:
        picture = f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(caption)}">{picture}</div>'
    kind = f"{look} wide" if wide else look
    below = html.escape(caption).replace(" %", "&nbsp;%")
    return f'<figure class="{kind}">{picture}<figcaption>{below}</figcaption></figure>'


def at_night(content: bytes, films: Sequence[Sequence[int]]) -> bytes:
    """Turn a PNG file dark as the style sheet does with charts, and leave the films in it as they are.

    Parameters
    ----------
    content : bytes
        A PNG file.
    films : sequence of (left, top, right, bottom)
        In pixels.
    """
    with Image.open(io.BytesIO(content)) as opened:
        light = np.asarray(opened.convert("RGB"), dtype=np.float32)
    dark = (light * (1 - 2 * _INVERT) + 255 * _INVERT) @ _HUE_ROTATED.T
    out = np.clip(np.round(dark), 0, 255).astype(np.uint8)
    day = light.astype(np.uint8)
    for left, top, right, bottom in films:
        # A film's outermost pixels may lie beside its box: of film and page the darker, lest a bright line frames it.
        around = np.s_[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2]
        out[around] = np.minimum(out[around], day[around])
        out[top:bottom, left:right] = day[top:bottom, left:right]
    file = io.BytesIO()
    Image.fromarray(out).save(file, "PNG")
    return file.getvalue()


def _address(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


def markdown(text: str, *, caption: str, marked: str = "") -> str:
    """Turn what ``table.md`` holds into HTML: headings, paragraphs, tables and ``**bold**``."""
    out: list[str] = []
    lines = text.splitlines()
    at = 0
    heading = caption
    while at < len(lines):
        line = lines[at].strip()
        if line.startswith("|"):
            rows = []
            while at < len(lines) and lines[at].strip().startswith("|"):
                rows.append([_inline(entry.strip()) for entry in lines[at].strip().strip("|").split("|")])
                at += 1
            header = [html.unescape(re.sub("<[^>]*>", "", entry)) for entry in rows[0]]
            out.append(table(heading, header, rows[2:], marked=marked))
            continue
        if line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            heading = line.lstrip("# ")
            if level > 1:
                out.append(f"<h3>{_inline(heading)}</h3>")
        elif line:
            out.append(f"<p>{_inline(line)}</p>")
        at += 1
    return "\n".join(out)


def _inline(text: str) -> str:
    bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))
    return re.sub(r"\[[-–−.\d]+, [-–−.\d]+\]", r'<span class="range">\g<0></span>', bold)
