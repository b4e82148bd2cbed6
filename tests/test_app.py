"""The page: what a reader shows, and the page itself in a real browser."""

import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siamura.app import MAX_VIEWS, Reader, serve
from siamura.experiments import Run

pytest.importorskip("gradio", reason="the page needs the extra [app]")


@pytest.fixture(scope="module")
def reader(done: Run) -> Reader:
    return Reader(done.folder)


@pytest.fixture(scope="module")
def study(done: Run) -> list[str]:
    """All views of a validation study with several of them."""
    _, rows = done.embeddings()
    valid = rows[rows["split"] == "valid"]
    largest = valid.groupby(["patient", "study"])["path"].agg(list).map(lambda p: (len(p), p)).max()
    return list(largest[1])


def test_a_study_is_read(reader: Reader, study: list[str], done: Run) -> None:
    reading = reader.read(study)
    vectors, rows = done.embeddings()
    p = done.heads()["knn"].predict_proba(vectors[rows["path"].isin(study).to_numpy()])[:, 1].mean()
    shown = float(re.search(r"probability of abnormal ([\d.]+)", reading.verdict)[1])
    assert shown == pytest.approx(p, abs=0.21)  # one vote of five, by bf16
    assert ("Abnormal" in reading.verdict) == (shown > 0.5)
    assert "PHANTOMS" in reading.verdict
    assert "95 % interval" in reading.verdict
    assert "heat maps show what raises the score of the MLP head" in reading.verdict
    assert len(reading.views) == len(study)
    for image, caption in reading.views:
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert re.search(r": probability \d\.\d\d, by the MLP head \d\.\d\d$", caption)
    assert reading.cases is not None
    assert 1 <= len(reading.cases) <= 6
    assert reading.cases["distance"].is_monotonic_increasing
    valid_patients = set(rows.loc[rows["split"] == "valid", "patient"])
    assert not valid_patients & set(reading.cases["patient"])


def test_bad_files_are_named_and_the_others_read(reader: Reader, study: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    reading = reader.read([study[0], bad])
    assert "**broken.png** could not be read" in reading.verdict
    assert len(reading.views) == 1
    alone = reader.read([bad])
    assert "No readable view" in alone.verdict
    assert alone.cases is None


def test_none_and_too_many_files_get_a_clear_word(reader: Reader, study: list[str]) -> None:
    assert "Choose" in reader.read([]).verdict
    assert str(MAX_VIEWS) in reader.read([study[0]] * (MAX_VIEWS + 1)).verdict


def test_a_file_that_is_gone_gets_a_clear_word(reader: Reader, tmp_path: Path) -> None:
    assert "is deleted by now" in reader.read([tmp_path / "gone.png"]).verdict


def test_samples_do_not_tell_the_label(reader: Reader) -> None:
    assert reader.samples
    assert not [name for name in reader.samples if "positive" in name or "negative" in name]


@contextmanager
def served(done: Run, **options: int) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocks = serve(done.folder, port=port, block=False, **options)
    yield f"http://127.0.0.1:{port}"
    blocks.close()


@pytest.fixture(scope="module")
def address(done: Run) -> Iterator[str]:
    with served(done) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser test needs Playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("the browser test needs Debian's chromium (apt-get install chromium), which is not here")
    with sync_api.sync_playwright() as play:
        chrome = play.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield chrome
        chrome.close()


def opened(browser: Any, **options: Any) -> Any:
    """A page that waits for a busy machine too."""
    page = browser.new_page(**options)
    page.set_default_timeout(120_000)
    return page


def choose(page: Any, files: list[str]) -> None:
    """Upload files, and wait until the page lists them."""
    page.wait_for_selector("#read")
    page.set_input_files("#views input[type=file]", files)
    page.wait_for_function("names => names.every(n => document.querySelector('#views').innerText.includes(n))",
                           arg=[Path(f).stem for f in files])  # fmt: skip


def answer(page: Any, word: str, *, press: bool = True) -> str:
    """Press the button and wait for the verdict."""
    if press:
        page.click("#read")
    page.wait_for_function("w => document.querySelector('#verdict').innerText.includes(w)", arg=word)
    return str(page.inner_text("#verdict"))


#: No picture of a gallery is cut off: every caption lies within it, below its picture.
WHOLE = """name => {
    const edge = document.querySelector(name).getBoundingClientRect().bottom + 1;
    const captions = [...document.querySelectorAll(`${name} .caption-label`)];
    return captions.length && captions.every(c => c.getBoundingClientRect().bottom <= edge
        && c.getBoundingClientRect().top >= c.parentElement.querySelector('img').getBoundingClientRect().bottom - 1);
}"""


@pytest.mark.parametrize("width", [1280, 400])
def test_upload_result_heat_map_and_bad_file(
    browser: Any, address: str, study: list[str], width: int, tmp_path: Path
) -> None:
    page = opened(browser, viewport={"width": width, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    choose(page, study)
    assert "not for diagnosis" in page.inner_text("body")
    answer(page, "probability of abnormal")
    page.wait_for_selector("#heat img")
    page.wait_for_selector("#cases img")
    for gallery in ("#heat", "#cases"):
        page.wait_for_function(WHOLE, arg=gallery)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"no film")
    page.reload()
    choose(page, [str(bad)])
    assert "broken.png could not be read" in answer(page, "could not be read")
    here = (address, address.replace("http", "ws"), "data:", "blob:")
    assert [url for url in asked if not url.startswith(here)] == []
    page.close()


def test_two_uploads_at_once(browser: Any, address: str, study: list[str]) -> None:
    pages = [opened(browser) for _ in range(2)]
    for page in pages:
        page.goto(address)
        choose(page, study[:1])
    for page in pages:
        page.click("#read")
    first, second = (answer(page, "probability of abnormal", press=False) for page in pages)
    assert first == second
    for page in pages:
        page.close()


def test_the_page_works_by_keyboard(browser: Any, address: str) -> None:
    page = opened(browser)
    page.goto(address)
    page.wait_for_selector("#read")
    page.focus("#sample input")
    page.wait_for_selector("#sample [role=option]")  # a key before the list is there is lost
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#sample input').value !== ''")
    page.focus("#read")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#verdict').innerText.includes('probability of abnormal')")
    page.close()


def test_uploads_are_deleted(done: Run, tmp_path: Path) -> None:
    import cv2
    from gradio.utils import get_upload_folder
    from gradio_client import Client, handle_file

    film = tmp_path / "film.png"
    cv2.imwrite(str(film), np.random.default_rng(5).integers(0, 256, (90, 70), dtype=np.uint8))

    def kept() -> bool:
        """Whether a file with the film's content lies in the upload folder; others may go at any moment."""
        for path in Path(get_upload_folder()).rglob("*"):
            with suppress(OSError):
                if path.is_file() and path.read_bytes() == film.read_bytes():
                    return True
        return False

    with served(done, keep=2) as address:
        Client(address, verbose=False).predict([handle_file(film)], None, api_name="/read")
        deadline = time.monotonic() + 30
        while kept() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not kept()
