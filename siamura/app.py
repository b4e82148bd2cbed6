"""The page: upload the views of a study, see its score, what it rests on, where it looks, and similar cases.

It listens on this machine alone unless told otherwise, sends nothing anywhere, and deletes uploads after a minute.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from siamura.experiments.folder import load_run
from siamura.inference import Predictor
from siamura.pixels import UnreadableImage, read_image
from siamura.report.tables import RESEARCH, data_sentence, with_interval

if TYPE_CHECKING:
    import gradio
    import numpy.typing as npt
    import pandas as pd

__all__ = ["Reader", "Reading", "page", "serve"]

_log = logging.getLogger(__name__)

MAX_MEGABYTES = 32
MAX_VIEWS = 12
THRESHOLD = 0.5
KEEP_SECONDS = 60
# The browser is told to load nothing from any other place, whatever a dependency's page asks for.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss: data: blob:; "
    "worker-src 'self' blob:; frame-ancestors 'self'"
)
_CSS = """
.gradio-container {max-width: min(1100px, 100vw) !important; margin: 0 auto; overflow-x: hidden}
.verdict h2 {margin: 0 0 .2em; font-size: 1.6rem}
.research p {border-left: .3em solid #d55e00; padding-left: .8em}
#heat .grid-wrap, #cases .grid-wrap {min-height: 0; max-height: none; overflow: visible; padding-top: 2.4em}
#heat .thumbnail-lg, #cases .thumbnail-lg {display: flex; flex-direction: column; height: auto; aspect-ratio: auto}
#heat .thumbnail-lg > img, #cases .thumbnail-lg > img {height: auto; aspect-ratio: 1}
#heat .thumbnail-lg .caption-label, #cases .thumbnail-lg .caption-label {
  position: static; max-width: none; white-space: normal; border: none; text-align: center}
@media (max-width: 600px) {#cases .grid-container {grid-template-columns: repeat(2, minmax(0, 1fr)) !important}}
"""


@dataclass(frozen=True)
class Reading:
    """What the page shows for one study.

    Parameters
    ----------
    verdict : str
        Markdown: normal or abnormal, the probability, what it rests on, and problems with files.
    views : list of (ndarray, str)
        Each readable view with its heat map and boxes, uint8 (H, W, 3), and its caption.
    cases : pandas.DataFrame or None
        The nearest earlier cases.
    pictures : list of (ndarray, str)
        Those of them whose files are still there, uint8 (H, W), with captions.

    Examples
    --------
    >>> reading = Reader("runs/first").read([])
    >>> reading.verdict, reading.views, reading.cases
    ('Choose the views of a study first.', [], None)
    """

    verdict: str
    views: list[tuple[npt.NDArray[np.uint8], str]]
    cases: pd.DataFrame | None
    pictures: list[tuple[npt.NDArray[np.uint8], str]]


class Reader:
    """A finished run, loaded once, that reads studies.

    Parameters
    ----------
    run : path
        The run folder.
    cases : int
        How many similar cases are shown.

    Examples
    --------
    >>> reader = Reader("runs/first", cases=3)
    >>> study, views = next(iter(reader.samples.items()))  # a validation study
    >>> reading = reader.read(views)
    >>> "probability of abnormal" in reading.verdict, len(reading.views) == len(views)
    (True, True)
    >>> reading.cases["split"].unique().tolist()  # the similar cases are training films
    ['train']
    """

    def __init__(self, run: str | os.PathLike[str], *, cases: int = 6) -> None:
        from siamura.index import CaseIndex

        self.run = load_run(run)
        self.predictor = Predictor(self.run, head="knn")
        self.mlp = self.run.heads()["mlp"]
        vectors, table = self.run.embeddings()
        train = (table["split"] == "train").to_numpy()
        self._folder = tempfile.TemporaryDirectory(prefix="siamura-cases-")
        self.index = CaseIndex.create(
            Path(self._folder.name) / "cases", dim=vectors.shape[1], model=self.predictor.net
        )
        self.index.add(vectors[train], table[train].reset_index(drop=True))
        self.samples = self._samples(table[~train])
        self.k = cases

    @staticmethod
    def _samples(valid: pd.DataFrame, most: int = 12) -> dict[str, list[str]]:
        """Some validation studies whose files are still there, by a name that does not tell the label."""
        found: dict[str, list[str]] = {}
        for (patient, study), rows in valid.groupby(["patient", "study"], sort=True):
            paths = [p for p in rows["path"] if Path(p).is_file()]
            if len(paths) == len(rows) and len(found) < most:
                found[f"{patient}, {str(study).split('_')[0]} ({len(paths)} views)"] = paths
        return found

    def read(self, paths: Sequence[str | os.PathLike[str]], names: Sequence[str] | None = None) -> Reading:
        """Score the views of one study.

        Parameters
        ----------
        paths : sequence of path
            Its image files.
        names : sequence of str, optional
            What to call them; their file names if not given.

        Returns
        -------
        Reading
            With a clear word for each file that cannot be read; never an exception for a bad file.
        """
        from siamura.explanation import explain

        names = list(names) if names is not None else [Path(p).name for p in paths]
        if not paths:
            return Reading("Choose the views of a study first.", [], None, [])
        if len(paths) > MAX_VIEWS:
            return Reading(
                f"{len(paths)} files are more than the {MAX_VIEWS} views a study may have here.", [], None, []
            )
        images, kept, problems = [], [], []
        for path, name in zip(paths, names, strict=True):
            if not Path(path).is_file():  # as in a page left open
                problems.append(f"- **{name}** is deleted by now; upload it again")
                continue
            try:
                images.append(read_image(path))
                kept.append(name)
            except UnreadableImage as error:
                problems.append(f"- **{name}** could not be read: {error.reason}")
            except FileNotFoundError:
                problems.append(
                    f"- **{name}** could not be read: it was deleted after reading; upload it again"
                )
        if not images:
            return Reading("\n".join(["## No readable view", *problems]), [], None, [])
        embeddings = self.predictor.embed(images)
        probability = self.predictor.probability(embeddings)
        by_mlp = self.mlp.predict_proba(embeddings)[:, 1]
        views = []
        for image, name, p, q in zip(images, kept, probability, by_mlp, strict=True):
            found = explain(self.predictor.net, image, head=self.mlp)
            views.append((found.overlay(), f"{name}: probability {p:.2f}, by the MLP head {q:.2f}"))
        cases = self.index.search(embeddings, k=self.k)
        cases = cases.sort_values("distance").drop_duplicates("path").head(self.k).reset_index(drop=True)
        return Reading(self._verdict(probability, problems), views, cases, self._pictures(cases))

    def _verdict(self, probability: npt.NDArray[np.float64], problems: list[str]) -> str:
        mean = float(probability.mean())
        said = "Abnormal" if mean > THRESHOLD else "Normal"
        if len(probability) > 1:
            rests = f"The mean of {len(probability)} views ({', '.join(f'{p:.2f}' for p in probability)})"
        else:
            rests = "One view"
        figures = self.run.metrics["valid"]["study"]["knn"]
        return "\n\n".join(
            [
                f"## {said}: probability of abnormal {mean:.2f}",
                f"{rests}, each the share of abnormal among its {self.run.experiment.neighbours} nearest "
                f"training films; above {THRESHOLD:g} is called abnormal. A vote has no gradient: the heat maps show "
                "what raises the score of the MLP head, whose own probability stands below each.",
                f"{data_sentence(self.run.config['data'])} On the validation studies this score reached kappa "
                f"{with_interval(figures, 'kappa')} (95 % interval over {figures.get('patients', 'the')} patients).",
                *problems,
            ]
        )

    def _pictures(self, cases: pd.DataFrame) -> list[tuple[npt.NDArray[np.uint8], str]]:
        pictures = []
        for row in cases.to_dict("records"):
            try:
                image = read_image(row["path"])
            except (UnreadableImage, FileNotFoundError):
                continue  # the case stays in the table; only its file is gone
            label = "abnormal" if row["label"] else "normal"
            pictures.append((image, f"{label}, distance {row['distance']:.2g}"))
        return pictures


def page(reader: Reader, *, keep: int = KEEP_SECONDS) -> gradio.Blocks:
    """Build the page around a reader; uploads are deleted when they are older than `keep` seconds.

    Examples
    --------
    >>> blocks = page(Reader("runs/first"))
    >>> blocks.title
    'siamura'
    """
    gr = _gradio()

    def show(uploads: list[str] | None, sample: str | None) -> tuple[Any, ...]:
        paths = uploads or (reader.samples.get(sample, []) if sample else [])
        reading = reader.read(paths)
        table = None
        if reading.cases is not None:
            table = reading.cases[["distance", "patient", "study", "part"]].round({"distance": 3})
            table.insert(0, "label", reading.cases["label"].map({0: "normal", 1: "abnormal"}))
        return reading.verdict, reading.views, reading.pictures, table

    phantoms = bool(reader.run.config["data"]["phantoms"])
    blocks: gradio.Blocks
    with gr.Blocks(title="siamura", analytics_enabled=False, delete_cache=(keep, keep)) as blocks:
        gr.Markdown(f"# siamura: {reader.run.experiment.part}")
        gr.Markdown(
            f"**{RESEARCH}** Nothing leaves this machine; uploads are deleted after a minute or two.",
            elem_classes="research",
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                files = gr.File(
                    label="Views of one study",
                    file_count="multiple",
                    elem_id="views",
                )
                pick = gr.Dropdown(
                    choices=list(reader.samples),
                    value=None,
                    label="or a validation study" + (" (phantom)" if phantoms else ""),
                    visible=bool(reader.samples),
                    elem_id="sample",
                )
                button = gr.Button("Read the study", variant="primary", elem_id="read")
            with gr.Column(scale=2, min_width=280):
                verdict = gr.Markdown("No study read yet.", elem_id="verdict", elem_classes="verdict")
                heat = gr.Gallery(
                    label="What the MLP head takes for abnormal",
                    columns=2,
                    elem_id="heat",
                    object_fit="contain",
                    height="auto",
                )
        near = gr.Gallery(
            label="Nearest earlier cases", columns=3, elem_id="cases", object_fit="contain", height="auto"
        )
        table = gr.Dataframe(label="Nearest earlier cases, as a table", interactive=False, wrap=True)
        outputs = [verdict, heat, near, table]
        button.click(show, [files, pick], outputs, concurrency_limit=1, api_name="read")
    return blocks


def serve(
    run: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    block: bool = True,
    keep: int = KEEP_SECONDS,
) -> gradio.Blocks:
    """Open the page.

    Parameters
    ----------
    run : path
        A finished run folder.
    host : str
        Address to listen on; the default is this machine alone.
    port : int
        Port.
    block : bool
        Whether to stay until Ctrl-C.
    keep : int
        Seconds after which an upload is deleted.

    Returns
    -------
    gradio.Blocks
        The running page; ``.close()`` ends it.

    Raises
    ------
    ImportError
        If Gradio is not installed; the message names the extra.
    FileNotFoundError
        If `run` holds no finished run.
    OSError
        If the port is taken.

    Examples
    --------
    >>> import socket
    >>> with socket.create_server(("127.0.0.1", 0)) as free:
    ...     port = free.getsockname()[1]
    >>> blocks = serve("runs/first", port=port, block=False)
    >>> blocks.local_url == f"http://127.0.0.1:{port}/"
    True
    >>> blocks.close(verbose=False)
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    gr = _gradio()
    from starlette.middleware import Middleware

    blocks = page(Reader(run), keep=keep)
    _log.info("Serving %s on http://%s:%d", run, host, port)
    blocks.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        inbrowser=False,
        prevent_thread_lock=not block,
        max_file_size=f"{MAX_MEGABYTES}mb",
        enable_monitoring=False,
        ssr_mode=False,
        footer_links=[],
        css=_CSS,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        app_kwargs={"middleware": [Middleware(_Policy)]},
    )
    return blocks


class _Policy:
    """Put the content security policy on every answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY.encode())]
            await send(message)

        await self.app(scope, receive, with_policy if scope["type"] == "http" else send)


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise ImportError('the page needs Gradio: pip install "siamura[app]".') from error
    return gradio
