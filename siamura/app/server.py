"""Serving the page: who may ask for it, where its files lie, and how it ends."""

from __future__ import annotations

import atexit
import ipaddress
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .folder import PrivateFolder, sweep
from .layout import CSS, SCRIPT, need_gradio, page
from .reader import Reader

if TYPE_CHECKING:
    import gradio

__all__ = ["Guard", "serve"]

_log = logging.getLogger(__name__)

MAX_MEGABYTES = 32
KEEP_SECONDS = 60
# The browser may load nothing from any other place, whatever a dependency's page asks for.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss: data: blob:; "
    "worker-src 'self' blob:; frame-ancestors 'self'"
)


def serve(
    run: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    block: bool = True,
    keep: int = KEEP_SECONDS,
    cases: str | os.PathLike[str] | None = None,
    ready: Callable[[str], None] | None = None,
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
        Whether to stay until Ctrl-C or SIGTERM.
    keep : int
        Seconds after which an upload is deleted.
    cases : path or URL, optional
        A case index of the run's network; without it the similar cases are the run's training views.
    ready : callable, optional
        Called with the page's address when it can be opened.

    Returns
    -------
    gradio.Blocks
        The running page; ``.close()`` ends it and deletes its temporary files.

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
    .. code-block:: python

        import socket
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        blocks = serve("runs/first", port=port, block=False)
        blocks.local_url == f"http://127.0.0.1:{port}/"
        # True
        blocks.close(verbose=False)
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    gr = need_gradio()
    from starlette.middleware import Middleware  # comes with Gradio

    sweep()
    reader = Reader(run, index=cases)
    folder = PrivateFolder()
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder.path)

    def end() -> None:
        folder.remove()
        if os.environ.get("GRADIO_TEMP_DIR") == str(folder.path):
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before
        atexit.unregister(end)

    atexit.register(end)
    try:
        blocks = page(reader, keep=keep)
        close = blocks.close

        def close_and_sweep(verbose: bool = True) -> None:
            close(verbose=verbose)
            end()

        blocks.close = close_and_sweep  # type: ignore[method-assign]
        blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            inbrowser=False,
            prevent_thread_lock=True,
            max_file_size=f"{MAX_MEGABYTES}mb",
            enable_monitoring=False,
            ssr_mode=False,
            footer_links=[],
            css=CSS,
            head=SCRIPT,
            theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
            app_kwargs={"middleware": [Middleware(Guard, host=host)]},
        )
    except BaseException:
        end()
        raise
    address = str(blocks.local_url)
    _log.info("Serving %s on %s", run, address)

    def announce() -> None:
        if ready is not None:
            ready(address)

    if block:
        _wait(blocks, announce)
    else:
        announce()
    return blocks


def _wait(blocks: Any, announce: Callable[[], None]) -> None:
    """Call `announce` and stay until Ctrl-C or SIGTERM, then close the page and delete its files."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main else None
    try:
        announce()  # only now: who reads the address may end the page at once
        while blocks.is_running:
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    finally:
        blocks.close(verbose=False)
        if main:
            signal.signal(signal.SIGTERM, before)


class Guard:
    """Answer only those who ask for this page by its own address, and put the content policy on every answer.

    A name that an attacker lets point to this machine (DNS rebinding) stands in the Host header, and a page of
    another site in the Origin header; both are refused. An address of digits cannot be made to point elsewhere:
    where the page listens on more than this machine, any of them may be used, and this machine's own names.

    Parameters
    ----------
    app : ASGI application
    host : str
        What the page listens on.
    """

    def __init__(self, app: Any, host: str) -> None:
        self.app = app
        self.names = {"localhost", "127.0.0.1", "::1", host.strip("[]").lower()}
        self.open = not _is_loopback(host)
        if self.open:
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def knows(self, host: str) -> bool:
        """Whether a Host header names this machine."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.names or (self.open and _is_address(name))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse, or hand on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        sent = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in sent if name == b"host"]
        origins = [value for name, value in sent if name == b"origin"]
        if len(hosts) != 1 or not self.knows(hosts[0]):
            await _refuse(scope, send, 421, "this page does not answer to that host name")
            return
        if any(urlsplit(origin).netloc.lower() != hosts[0].lower() for origin in origins):
            await _refuse(scope, send, 403, "this page does not answer pages of other sites")
            return

        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await self.app(scope, receive, with_policy if scope["type"] == "http" else send)


async def _refuse(scope: Any, send: Any, status: int, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (
        _is_address(host.strip("[]")) and ipaddress.ip_address(host.strip("[]")).is_loopback
    )
