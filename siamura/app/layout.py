"""What the page looks like: inputs by Gradio, and a reading as HTML that the browser can zoom and window."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from matplotlib import colormaps

from siamura.report.tables import RESEARCH

from .reader import Reader
from .reading import Reading, View, class_name

if TYPE_CHECKING:
    import gradio
    import numpy.typing as npt

__all__ = ["CSS", "SCRIPT", "need_gradio", "page", "render"]

START = (
    "<p id='start'>Choose the views of one study, or one of the validation studies, and press the button.</p>"
)
COLUMNS = ("label", "distance", "patient", "study", "part")

CSS = """
.gradio-container {width: 100%; max-width: min(1180px, 100vw) !important; margin: 0 auto; overflow-x: hidden}
.research p {border-left: .3em solid #d55e00; padding-left: .8em}
#result, #result > div {padding: 0}
#result {font-size: 1rem; color: var(--body-text-color); overflow-wrap: anywhere}
#result h2 {margin: 0 0 .4em; font-size: 1.5rem; line-height: 1.25}
#result h3 {margin: 1.4em 0 .4em; font-size: 1.15rem}
#result h4 {margin: 0 0 .4em; font-size: 1rem}
#result p {margin: .3em 0}
#result .alert {border-left: .3em solid #d55e00; padding: .2em .8em; background: var(--background-fill-secondary)}
#result .rests, #result figcaption {opacity: .78}
#result .controls {display: flex; flex-wrap: wrap; gap: .4em 1.4em; align-items: center; margin: .4em 0 .8em}
#result .controls label {display: flex; gap: .5em; align-items: center}
#result .controls input {width: 8.5em; accent-color: var(--color-accent)}
#result .controls button {border: 1px solid var(--border-color-primary); border-radius: .4em; padding: .1em .8em}
#result .view {border: 1px solid var(--border-color-primary); border-radius: .5em; padding: .7em; margin: 0 0 .8em}
#result .view.abnormal {border-left: .35em solid #d55e00}
#result .tag {display: inline-block; border-radius: .4em; padding: 0 .5em; margin-left: .4em; color: #fff;
  background: #9a3f00; font-weight: 600}
#result .tag.unlike {background: #5b4a9c}
#result .pair {display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .7em}
#result figure {margin: 0}
#result figcaption {font-size: .9rem; padding-top: .2em}
#result .frame {overflow: auto; max-height: 70vh; background: #000; border-radius: .3em; text-align: center}
#result .stack {position: relative; display: inline-block; width: calc(var(--zoom, 1) * 100%);
  max-width: calc(var(--zoom, 1) * var(--fit)); line-height: 0}
#result .stack img {width: 100%; display: block; margin: 0}
#result .plain {filter: url(#siamura-window)}
#result .stack .heat {position: absolute; inset: 0; height: 100%; opacity: var(--heat, 1)}
#result .stack .box {position: absolute; border: 2px solid #fff; box-shadow: 0 0 0 1px #000}
#result .grid {display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: .7em}
#result .grid .tile {height: 11em; background: #000; border-radius: .3em}
#result .grid img {width: 100%; height: 100%; object-fit: contain; margin: 0}
#result .scroll {overflow-x: auto}
#result table {border-collapse: collapse; font-size: .9rem; margin-top: .4em}
#result td, #result th {text-align: left; padding: .2em .9em .2em 0;
  border-bottom: 1px solid var(--border-color-primary)}
#result summary {cursor: pointer; margin-top: .7em}
@media (max-width: 600px) {
  #result .pair {grid-template-columns: minmax(0, 1fr)}
  #result .grid {grid-template-columns: repeat(2, minmax(0, 1fr))}
  #result h2 {font-size: 1.25rem}
}
"""

# Window and level as at a viewing station: grey g of 0..1 is shown as (g - level) / window + 1/2.
SCRIPT = """
<script>
function siamuraShow(element) {
  const root = element.closest('#heat');
  const value = name => Number(root.querySelector(`[name=${name}]`).value) / 100;
  const slope = 1 / value('window'), intercept = 0.5 - value('level') * slope;
  for (const one of document.querySelectorAll('#siamura-window feComponentTransfer > *')) {
    one.setAttribute('slope', slope); one.setAttribute('intercept', intercept);
  }
  root.style.setProperty('--zoom', value('zoom'));
  root.style.setProperty('--heat', value('strength'));
}
function siamuraReset(element) {
  const root = element.closest('#heat');
  for (const input of root.querySelectorAll('.controls input')) input.value = input.defaultValue;
  siamuraShow(element);
}
function siamuraScroll(frame) {
  for (const other of frame.closest('.pair').querySelectorAll('.frame')) {
    if (other === frame) continue;
    other.scrollLeft = frame.scrollLeft; other.scrollTop = frame.scrollTop;
  }
}
</script>
"""
_FILTER = (
    "<svg width='0' height='0' style='position:absolute' aria-hidden='true'><filter id='siamura-window' "
    "color-interpolation-filters='sRGB'><feComponentTransfer>"
    + "".join(f"<feFunc{c} type='linear' slope='1' intercept='0'/>" for c in "RGB")
    + "</feComponentTransfer></filter></svg>"
)
_CONTROLS = (
    "<div class='controls'>"
    + "".join(
        f"<label>{said} <input type='range' name='{name}' min='{low}' max='{high}' value='{start}' "
        "oninput='siamuraShow(this)'></label>"
        for said, name, low, high, start in (
            ("Window", "window", 5, 200, 100),
            ("Level", "level", 0, 100, 50),
            ("Zoom", "zoom", 100, 600, 100),
            ("Heat", "strength", 0, 100, 100),
        )
    )
    + "<button type='button' onclick='siamuraReset(this)'>Reset</button></div>"
)


def page(reader: Reader, *, keep: int = 60) -> gradio.Blocks:
    """Build the page around a reader; uploads are deleted when they are older than `keep` seconds.

    Examples
    --------
    .. code-block:: python

        blocks = page(Reader("runs/first"))
        blocks.title
        # 'siamura'
    """
    gr = need_gradio()

    wanted: dict[str | None, tuple[Any, ...]] = {}  # by session: the inputs as they stand now

    def note(uploads: list[str] | None, sample: str | None, request: gradio.Request) -> None:
        wanted[request.session_hash] = (uploads or [], sample)

    def show(uploads: list[str] | None, sample: str | None, request: gradio.Request) -> Iterator[Any]:
        mine = (uploads or [], sample)
        count = len(uploads or reader.samples.get(sample or "", []))
        if count:
            word = "view" if count == 1 else f"{count} views"
            yield f"<p id='loading' role='status'>Reading the {word} ...</p>"
        if uploads:
            reading = reader.read(uploads)
        elif sample in reader.samples:
            reading = reader.read_sample(sample)
        else:
            reading = reader.read([])
        # The verdict of files that were taken away meanwhile must not stand beside others.
        yield render(reading) if wanted.get(request.session_hash, mine) == mine else START

    def leave(request: gradio.Request) -> None:
        wanted.pop(request.session_hash, None)

    # Gradio reads the hints at run time, where this module's are text and it knows no `gradio`.
    for function in (note, show, leave):
        function.__annotations__["request"] = gr.Request
    blocks: gradio.Blocks
    with gr.Blocks(title="siamura", analytics_enabled=False, delete_cache=(keep, keep)) as blocks:
        gr.Markdown(f"# siamura: {escape(reader.part)}" + (" (phantoms)" if reader.phantoms else ""))
        gr.Markdown(
            f"**{RESEARCH}** Nothing leaves this machine; uploads are deleted after a minute or two.",
            elem_classes="research",
        )
        with gr.Row():
            files = gr.File(
                label="Views of one study",
                file_count="multiple",
                elem_id="views",
                height=170,
                scale=2,
                min_width=280,
            )
            with gr.Column(scale=1, min_width=280):
                pick = gr.Dropdown(
                    choices=list(reader.samples),
                    value=None,
                    label="or a validation study" + (" (phantom)" if reader.phantoms else ""),
                    visible=bool(reader.samples),
                    elem_id="sample",
                )
                button = gr.Button("Read the study", variant="primary", elem_id="read")
        result = gr.HTML(START, elem_id="result", padding=False)
        button.click(
            show,
            [files, pick],
            result,
            concurrency_limit=1,
            api_name="read",
            show_progress="hidden",
            trigger_mode="always_last",  # a press during a reading that is dropped counts
        )
        # What stands there belongs to other files: the browser clears it at once, and the other input with it.
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        clear = f"() => [{json.dumps(START)}, null]"
        for event in (files.upload, files.clear, files.delete):
            event(None, None, [result, pick], js=clear, **quick)
            event(note, [files, pick], None, **quick)
        pick.input(None, None, [result, files], js=clear, **quick)
        pick.input(note, [files, pick], None, **quick)
        blocks.unload(leave)
    return blocks


def render(reading: Reading) -> str:
    """Write a reading as HTML; every name in it is escaped.

    Examples
    --------
    >>> from siamura.app import Reading
    >>> render(Reading("<b>.png: no readable view"))
    "<section id='verdict' role='status'><h2>&lt;b&gt;.png: no readable view</h2></section>"
    """
    out = [f"<section id='verdict' role='status'><h2>{escape(reading.heading)}</h2>"]
    out += [f"<p class='alert'>{escape(problem)}</p>" for problem in reading.problems]
    out += [f"<p class='rests'>{escape(note)}</p>" for note in reading.notes]
    out.append("</section>")
    if reading.views:
        out += [_FILTER, "<section id='heat'><h3>Where the score comes from</h3>", _CONTROLS]
        out += [_view(view) for view in reading.views]
        out.append("</section>")
    if reading.cases is not None:
        out.append("<section id='cases'><h3>Nearest earlier cases</h3><div class='grid'>")
        for image, caption in reading.pictures:
            out.append(
                f"<figure><div class='tile'><img alt='' src='{_png(image)}'></div>"
                f"<figcaption>{escape(caption)}</figcaption></figure>"
            )
        out += ["</div>", _table(reading), "</section>"]
    return "".join(out)


def _view(view: View) -> str:
    image, name = _png(view.image), escape(view.name)
    tags = f"<span class='tag'>{escape(view.answer)}</span>" if view.marked else ""
    tags += "<span class='tag unlike'>unlike the training views</span>" if view.unlike else ""
    boxes = "".join(
        f"<span class='box' style='left:{100 * x0:.2f}%;top:{100 * y0:.2f}%;"
        f"width:{100 * (x1 - x0):.2f}%;height:{100 * (y1 - y0):.2f}%'></span>"
        for x0, y0, x1, y1 in view.boxes
    )
    height, width = view.image.shape
    fit = f"--fit: {70 * width / height:.1f}vh"  # a tall image fits the frame at zoom 1
    plain = f"<img class='plain' alt='{name}' src='{image}'>"
    frame = (
        f"<figure><div class='frame' onscroll='siamuraScroll(this)'><div class='stack' style='{fit}'>{plain}"
    )
    return (
        f"<article class='view{' abnormal' if view.marked else ''}'>"
        f"<h4>{name}: probability of {escape(view.of)} {view.probability:.2f}{tags}</h4><div class='pair'>"
        f"{frame}</div></div><figcaption>the image</figcaption></figure>"
        f"{frame}<img class='heat' alt='heat map' src='{_heat(view.heat)}'>{boxes}</div></div>"
        "<figcaption>heat of the MLP head, relative within this image: the warmest place is red however low the "
        "score is</figcaption></figure></div></article>"
    )


def _table(reading: Reading) -> str:
    cases = reading.cases
    assert cases is not None
    columns = [name for name in COLUMNS if name in cases]
    head = "".join(f"<th>{name}</th>" for name in columns)
    rows = []
    for row in cases.to_dict("records"):
        cells = {
            **row,
            "label": class_name(row.get("label"), reading.classes),
            "distance": f"{row['distance']:.3f}",
        }
        # A study's folder is called by its label in MURA, which stands in a column of its own.
        rows.append("<tr>" + "".join(f"<td>{escape(str(cells[name]))}</td>" for name in columns) + "</tr>")
    return (
        f"<details><summary>as a table</summary><div class='scroll'><table><tr>{head}</tr>{''.join(rows)}</table>"
        "</div></details>"
    )


def _png(image: npt.NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode(
        "ascii"
    )


def _heat(heat: npt.NDArray[np.float32]) -> str:
    """The heat as a layer over the image: clear where it is 0."""
    level = np.clip(heat, 0, 1)
    colours = (255 * colormaps["turbo"](np.arange(256))).astype(np.uint8)[(255 * level).astype(np.uint8)]
    colours[..., 3] = np.rint(140 * np.sqrt(level))
    return _png(np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGBA2BGRA), np.uint8))


def need_gradio() -> Any:
    """Import Gradio, or say which extra brings it."""
    try:
        import gradio  # an optional extra
    except ImportError as error:
        raise ImportError('the page needs Gradio: pip install "siamura[app]".') from error
    return gradio
