"""The page: what a reader shows, and the page itself in a real browser."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from siamura import CaseIndex
from siamura.app import MAX_VIEWS, Reader, View, serve
from siamura.app.folder import PrivateFolder, sweep
from siamura.app.layout import render
from siamura.app.server import Guard
from siamura.experiments import Run
from siamura.heads.distance_limit import DistanceLimit

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
    shown = float(re.search(r"Probability of abnormal ([\d.]+)", reading.verdict)[1])
    assert shown == pytest.approx(p, abs=0.21)  # one vote of five, by bf16
    assert "PHANTOMS" in reading.verdict
    assert "95 % interval" in reading.verdict
    assert "XR_" not in render(reading).split("<details>")[0]
    assert len(reading.views) == len(study)
    for view in reading.views:
        assert view.image.dtype == np.uint8
        assert view.heat.max() <= 1
        assert ((view.boxes >= 0) & (view.boxes <= 1)).all()
    assert reading.cases is not None
    assert 1 <= len(reading.cases) <= 6
    assert reading.cases["distance"].is_monotonic_increasing
    valid_patients = set(rows.loc[rows["split"] == "valid", "patient"])
    assert not valid_patients & set(reading.cases["patient"])


def test_bad_files_are_named_and_the_others_read(reader: Reader, study: list[str], tmp_path: Path) -> None:
    bad, black = tmp_path / "broken.png", tmp_path / "black.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    cv2.imwrite(str(black), np.zeros((100, 100), np.uint8))
    reading = reader.read([study[0], bad, black])
    assert "broken.png could not be read" in reading.verdict
    assert "black.png is no radiograph: all its pixels are nearly one grey (0)" in reading.verdict
    assert reading.heading.endswith("(1 of 3 views read)")
    assert len(reading.views) == 1
    alone = reader.read([bad])
    assert alone.heading == "broken.png: no readable view"
    assert alone.cases is None


def test_none_and_too_many_files_get_a_clear_word(reader: Reader, study: list[str]) -> None:
    assert "Choose" in reader.read([]).verdict
    assert str(MAX_VIEWS) in reader.read([study[0]] * (MAX_VIEWS + 1)).verdict


def test_a_file_that_is_gone_gets_a_clear_word(reader: Reader, tmp_path: Path) -> None:
    assert "is deleted by now" in reader.read([tmp_path / "gone.png"]).verdict


def test_samples_do_not_tell_the_label(reader: Reader) -> None:
    assert reader.samples
    assert not [name for name in reader.samples if "positive" in name or "negative" in name]


def view(name: str, probability: float, *, unlike: bool = False) -> View:
    film = np.zeros((40, 30), np.uint8)
    each = np.array([1 - probability, probability])
    return View(name, each, unlike, film, np.zeros((4, 3), np.float32), np.zeros((0, 4)))


def test_the_heading_tells_what_must_not_be_overlooked(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = reader.run.metrics["valid"]["study"]["knn"]
    monkeypatch.setattr(reader, "points", {})  # as of a run without an operating point
    views = [view("a", 0.9), view("b", 0.1), view("c", 0.2), view("d", 0.0)]
    monkeypatch.setitem(figures["interval"], "kappa", [0.2, 0.6])
    assert reader._heading("hand", views, 4) == "hand: normal, probability of abnormal 0.30"
    assert reader._warnings(views) == ["1 of 4 views is called abnormal: a."]
    assert (
        reader._heading("hand", views[:1], 2)
        == "hand: abnormal, probability of abnormal 0.90 (1 of 2 views read)"
    )
    for unclear in ([-0.1, 0.6], [0.0, 0.5], [None, None]):
        monkeypatch.setitem(figures["interval"], "kappa", unclear)
        assert reader._heading("hand", views, 4) == "hand: no better than chance on validation"
    far = [view("leg", 1.0, unlike=True)]
    assert "leg: unlike the training views" in reader._heading("leg", far, 1)
    assert "farther from them than 99 % of the validation views" in reader._warnings(far)[0]


def test_the_runs_own_classes_are_named(
    reader: Reader, study: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(reader.run.metrics["valid"]["study"]["knn"]["interval"], "kappa", [0.2, 0.6])
    monkeypatch.setattr(reader, "classes", ("clean", "<fracture>"))
    monkeypatch.setattr(reader, "points", {})
    monkeypatch.setattr(
        reader, "probabilities", lambda embeddings: np.tile([0.25, 0.75], (len(embeddings), 1))
    )
    reading = reader.read(study[:1], study="hand")
    assert reading.heading in (
        "hand: <fracture>, probability of <fracture> 0.75",
        "hand: unlike the training views, so the score means little",
    )
    assert "above 0.5 is called <fracture>" in reading.notes[0]
    html = render(reading)
    assert "<span class='tag'>&lt;fracture&gt;</span>" in html
    assert "abnormal" not in html.replace("class='view abnormal'", "").replace("_abnormal", "")
    assert set(re.findall(r"<figcaption>(\S+), distance", html)) <= {"clean", "&lt;fracture&gt;"}


def test_the_page_answers_by_the_runs_operating_point(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    from siamura.evaluation import OperatingPoint, TemperatureScaling

    monkeypatch.setitem(reader.run.metrics["valid"]["study"]["knn"]["interval"], "kappa", [0.2, 0.6])
    colder = TemperatureScaling().fit([0.9, 0.9, 0.9, 0.1], [1, 1, 0, 0]).to_dict()
    points = {
        level: OperatingPoint(level, colder, threshold, 0.9, patients=30, rows=40)
        for level, threshold in (("view", 0.3), ("study", 0.35))
    }
    monkeypatch.setattr(reader, "points", points)
    film, heat, boxes = np.zeros((4, 3), np.uint8), np.zeros((4, 3), np.float32), np.zeros((0, 4))
    low = View("a", np.array([0.7, 0.3]), False, film, heat, boxes, point=points["view"])
    (calibrated,) = points["study"].calibrate([0.3])
    assert calibrated > 0.35  # and 0.3 is below 0.5
    assert (low.answer, low.probability, low.marked) == ("abnormal", pytest.approx(calibrated), True)
    assert reader._heading("x", [low], 1) == f"x: abnormal, probability of abnormal {calibrated:.2f}"
    assert f"calibrated {calibrated:.2f}, and above 0.35 is called abnormal" in reader._notes([low])[0]


def test_more_than_two_classes(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reader.run.metrics["valid"]["study"]["knn"]["interval"], "kappa", [0.2, 0.6])
    monkeypatch.setattr(reader, "classes", ("hand", "leg", "hip"))
    monkeypatch.setattr(reader, "points", {})
    film, heat, boxes = np.zeros((4, 3), np.uint8), np.zeros((4, 3), np.float32), np.zeros((0, 4))
    views = [
        View(name, np.array(each), False, film, heat, boxes, reader.classes)
        for name, each in (("a", [0.4, 0.3, 0.3]), ("b", [0.0, 0.4, 0.6]))
    ]
    assert [(view.answer, view.probability, view.marked) for view in views] == [
        ("hand", 0.4, False),
        ("hip", 0.6, False),
    ]
    assert reader._heading("x", views, 2) == "x: hip, probability of hip 0.45"
    assert reader._warnings(views) == ["The views differ: a hand, b hip."]
    assert "hand 0.20, leg 0.35, hip 0.45" in reader._notes(views)[0]


def test_a_view_unlike_the_training_films_is_marked(
    reader: Reader, study: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader.predictor, "_limit", DistanceLimit(5, 1e-9, 0.99, 24))
    html = render(reader.read(study[:1]))
    assert "unlike the training views, so the score means little" in html
    assert "<span class='tag unlike'>unlike the training views</span>" in html


def test_names_are_escaped(reader: Reader, study: list[str]) -> None:
    html = render(reader.read(study[:1], names=["<img src=x onerror=alert(1)>'.png"]))
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;&#x27;.png" in html
    assert html.count("probability of abnormal") == 1  # one head's, once a view


def test_saved_cases_are_used_without_the_samples_own_patient(done: Run, tmp_path: Path) -> None:
    vectors, rows = done.embeddings()
    index = CaseIndex.create(tmp_path / "cases", dim=vectors.shape[1], model=done.network())
    index.add(vectors, rows)
    saved = Reader(done.folder, index=tmp_path / "cases")
    name = next(iter(saved.samples))
    reading = saved.read_sample(name)
    assert set(reading.cases["patient"]) - set(rows.loc[rows["split"] == "train", "patient"]) or len(
        reading.cases
    )
    assert name.split(",")[0] not in set(reading.cases["patient"])
    assert name.split(",")[0] in set(saved.read(saved.samples[name]).cases["patient"])


def test_a_private_folder_is_swept_when_its_process_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = PrivateFolder()
    (living.path / "film.png").write_bytes(b"film")
    assert oct(living.path.stat().st_mode & 0o777) == "0o700"
    code = (
        "import os; from siamura.app.folder import PrivateFolder; f = PrivateFolder(); "
        "(f.path / 'film.png').write_bytes(b'film'); print(f.path, flush=True); os._exit(9)"
    )  # as kill -9
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    dead = Path(said.stdout.strip())
    assert (dead / "film.png").is_file()
    (tmp_path / "siamura-page-link").symlink_to(tmp_path)
    assert sweep() == 1
    assert not dead.exists()
    assert (living.path / "film.png").is_file()
    living.remove()
    living.remove()
    assert [p.name for p in tmp_path.iterdir()] == ["siamura-page-link"]


@pytest.mark.parametrize(
    ("listens", "asked", "right"),
    [
        ("127.0.0.1", "127.0.0.1:7860", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "[::1]:7860", True),
        ("127.0.0.1", "LOCALHOST:80", True),
        ("127.0.0.1", "attacker.example", False),
        ("127.0.0.1", "127.0.0.1.attacker.example:7860", False),
        ("127.0.0.1", "localhost@attacker.example", False),
        ("127.0.0.1", "10.0.0.5", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "[", False),
        ("0.0.0.0", "10.0.0.5:7860", True),
        ("0.0.0.0", "attacker.example", False),
        ("xray.hospital.example", "xray.hospital.example:7860", True),
    ],
)
def test_only_this_machines_names_are_answered(listens: str, asked: str, right: bool) -> None:
    assert Guard(None, listens).knows(asked) is right


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


def raw(address: str, request: str) -> str:
    """The first line of the answer to a request as it is sent."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(request.encode())
        return line.recv(200).decode().splitlines()[0]


def test_foreign_hosts_and_origins_are_refused(address: str) -> None:
    here = address.removeprefix("http://")
    ask = "{} {} HTTP/1.1\r\nHost: {}\r\n{}Content-Length: 0\r\nConnection: close\r\n\r\n".format
    assert " 200 " in raw(address, ask("GET", "/config", here, ""))
    assert " 200 " in raw(address, ask("GET", "/config", here, f"Origin: {address}\r\n"))
    assert " 421 " in raw(address, ask("GET", "/config", "attacker.example", ""))
    assert " 421 " in raw(address, ask("GET", "/", f"attacker.example:{here.split(':')[1]}", ""))
    assert " 421 " in raw(address, ask("POST", "/gradio_api/upload", "attacker.example", ""))
    for origin in (
        "http://attacker.example",
        "null",
        "http://127.0.0.1:1",
        "https://localhost.attacker.example",
    ):
        assert " 403 " in raw(address, ask("POST", "/gradio_api/upload", here, f"Origin: {origin}\r\n"))
    twice = f"Host: attacker.example\r\nOrigin: {address}\r\n"
    assert " 200 " not in raw(address, ask("GET", "/config", here, twice))


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
    page.wait_for_function("w => document.querySelector('#verdict')?.innerText.includes(w)", arg=word)
    return str(page.inner_text("#verdict"))


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
    assert page.query_selector("#heat") is None  # no empty boxes before the first study
    answer(page, "Probability of abnormal")
    page.wait_for_selector("#heat .heat")
    page.wait_for_selector("#cases img")
    assert page.locator("#heat .plain").count() == 2 * len(study)  # plain, and below the heat
    assert "relative within this image" in page.inner_text("#heat")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("""() => {
        const set = (name, value) => {
            const input = document.querySelector(`#heat [name=${name}]`);
            input.value = value; input.dispatchEvent(new Event('input', {bubbles: true}));
        };
        set('window', 50); set('level', 25); set('zoom', 300);
    }""")
    shown = page.evaluate("""() => {
        const f = document.querySelector('#siamura-window feFuncG');
        return [f.getAttribute('slope'), f.getAttribute('intercept')].map(Number);
    }""")
    assert shown == [2, 0]  # black at 0, white at one half
    assert page.evaluate("(f => f.scrollWidth > 1.5 * f.clientWidth)(document.querySelector('#heat .frame'))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"no film")
    page.reload()
    choose(page, [str(bad)])
    assert "broken.png could not be read" in answer(page, "could not be read")
    assert "share" not in page.inner_text("body").lower().replace("share of abnormal", "")
    here = (address, address.replace("http", "ws"), "data:", "blob:")
    assert [url for url in asked if not url.startswith(here)] == []
    page.close()


def test_no_verdict_stays_beside_other_films(
    browser: Any, address: str, study: list[str], reader: Reader
) -> None:
    page = opened(browser)
    page.goto(address)
    page.wait_for_selector("#read")
    sample = next(iter(reader.samples))
    page.click("#sample input")
    page.click(f'#sample [role=option]:has-text("{sample}")')
    answer(page, sample.rpartition(" (")[0])  # the heading names the study
    choose(page, study[:1])
    page.wait_for_selector("#start")  # an upload clears the verdict, and the sample
    assert page.query_selector("#verdict") is None
    assert page.input_value("#sample input") == ""
    answer(page, Path(study[0]).name)
    page.click("#views button[aria-label='Clear'], #views button[title='Clear']")
    page.wait_for_selector("#start")
    choose(page, study[:1])
    answer(page, Path(study[0]).name)
    page.click("#sample input")
    page.click(f'#sample [role=option]:has-text("{sample}")')
    page.wait_for_selector("#start")  # a sample clears the verdict, and the upload
    page.wait_for_function("name => !document.querySelector('#views').innerText.includes(name)",
                           arg=Path(study[0]).stem)  # fmt: skip
    page.close()


def test_a_verdict_that_comes_late_is_dropped(
    browser: Any, address: str, study: list[str], reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    read = Reader.read

    def slow(self: Reader, *args: Any, **options: Any) -> Any:
        begun.set()
        assert go.wait(120)
        return read(self, *args, **options)

    monkeypatch.setattr(Reader, "read", slow)
    page = opened(browser)
    page.goto(address)
    choose(page, study[:1])
    page.click("#read")
    page.wait_for_selector("#loading")  # a word while it works
    assert begun.wait(120)
    page.click("#sample input")
    sample = next(iter(reader.samples))
    with page.expect_response(lambda answer: answer.request.method == "POST" and "gradio_api" in answer.url):
        page.click(f'#sample [role=option]:has-text("{sample}")')
    page.wait_for_selector("#start")
    go.set()
    page.click("#read")
    assert Path(study[0]).name + ":" not in answer(page, sample.rpartition(" (")[0], press=False)
    page.close()


def test_two_uploads_at_once(browser: Any, address: str, study: list[str]) -> None:
    pages = [opened(browser) for _ in range(2)]
    for page in pages:
        page.goto(address)
        choose(page, study[:1])
    for page in pages:
        page.click("#read")
    first, second = (answer(page, "Probability of abnormal", press=False) for page in pages)
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
    answer(page, "Probability of abnormal", press=False)
    page.close()


def test_uploads_are_deleted(done: Run, tmp_path: Path) -> None:
    from gradio_client import Client, handle_file

    film = tmp_path / "film.png"
    cv2.imwrite(str(film), np.random.default_rng(5).integers(0, 256, (90, 70), dtype=np.uint8))

    def kept() -> bool:
        """Whether a file with the film's content lies in the upload folder; others may go at any moment."""
        for path in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*"):
            with suppress(OSError):
                if path.is_file() and path.read_bytes() == film.read_bytes():
                    return True
        return False

    before = os.environ.get("GRADIO_TEMP_DIR")
    with served(done, keep=2) as address:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        assert folder.name.startswith("siamura-page-")
        Client(address, verbose=False).predict([handle_file(film)], None, api_name="/read")
        deadline = time.monotonic() + 30
        while kept() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not kept()
    assert not folder.exists()
    assert os.environ.get("GRADIO_TEMP_DIR") == before


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_page_leaves_nothing_and_its_address_was_printed(
    done: Run, tmp_path: Path, how: int
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "siamura.cli", "serve", str(done.folder), "--port", str(port)]
    # A process that is started in the background of a shell may be told to ignore Ctrl-C.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from siamura.cli import main; sys.argv = ['siamura', *sys.argv[1:]]; main()"
    )
    command = [sys.executable, "-c", code, *command[3:]]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) as served_one:
        assert served_one.stdout is not None
        assert served_one.stdout.readline().startswith(f"http://127.0.0.1:{port}/")
        (folder,) = tmp_path.glob("siamura-page-*")
        (folder / "upload.png").write_bytes(b"film")
        served_one.send_signal(how)
        assert served_one.wait(120) == (143 if how == signal.SIGTERM else 0)
    assert not list(tmp_path.glob("siamura-*"))


MEMORY = """
import sys
import numpy as np
from siamura.app import Reader
from siamura.app.layout import render
reader = Reader(sys.argv[1])
render(reader.read_sample(next(iter(reader.samples))))
# Of this process alone: ru_maxrss would begin with what its parent had at its height.
peak = lambda: next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith("VmHWM")) / 1024
before = peak()
render(reader.read([sys.argv[2]]))
from siamura import explain
seen = explain(reader.predictor.net, sys.argv[2], head=reader.predictor.heads["mlp"])
from siamura import plots
plots.heat_map(*seen.downscaled(), note=seen.description).savefig(sys.argv[3])
seen.overlay()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_the_largest_film_takes_at_most_a_gigabyte(done: Run, tmp_path: Path, depth: type) -> None:
    if not Path("/proc/self/status").is_file():
        pytest.skip("this system does not tell a process's memory at its height in /proc/self/status")
    row = np.linspace(0, np.iinfo(depth).max, 8900).astype(depth)
    film = tmp_path / "film.png"
    cv2.imwrite(str(film), np.tile(row, (8900, 1)))
    command = [sys.executable, "-c", MEMORY, str(done.folder), str(film), str(tmp_path / "out.png")]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (
        50 < float(told.stdout.split()[-1]) <= 1000
    )  # megabytes beyond a small film's; the film itself has 79
