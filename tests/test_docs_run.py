"""The code of README and docs runs: each page from top to bottom, Python and command lines, in a folder of its own.

Four tables say all that differs from what a reader does: `NOT_RUN` (commands that no test can run, with the reason;
they are read all the same, so that an option or a target that does not exist is found), `SHORTER` (sizes, so that
a page takes seconds), and `THERE` and `given` (files and names that a page takes for granted).
"""

import contextlib
import io
import re
import runpy
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
import typer
import typer.main
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import CliRunner

import siamura
from siamura.cli import app
from siamura.experiments import Run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    if not {"generated", "_build", "auto_examples"} & set(path.parts)
)

# Pages that train or export for more than some seconds: `make slow` plays them.
LONG = {
    "docs/start.md",
    "docs/exporting.md",
    "docs/explaining.md",
    "docs/training.md",
    "docs/howto/audit_your_labels.md",
    "docs/howto/export.md",
    "docs/howto/mura.md",
    "docs/howto/own_data.md",
}

NOT_RUN = {
    r"git clone |cd |python3 -m venv |\. \.venv|pip install ": "sets up what `make test` has set up",
    r"make ": "a target of the Makefile, of which `make test` is running",
    r"python -m benchmarks|python benchmarks/": "measures for minutes, on a machine that does nothing else",
    r"python docs/": "writes pages of the checkout; test_docs.py compares what it would write",
    r"torchrun |srun ": "several processes; tests/training starts two",
    r"python examples/\w+\.py .*--full": "hours on MURA itself, with published weights",
    r"python examples/explain_quality\.py ": "ten minutes; tests/experiments/test_explained.py measures on few films",
    r"python examples/loss_table\.py ": "sixty-six trainings, two hours",
    r"siamura probe ": "needs published weights; tests/experiments/test_probing.py does it on few views",
    r"siamura train --data films\.csv .*--part hand --out runs/hand$": "docs/howto/own_data.md plays it, shorter",
    r"siamura train .*--weights imagenet .*--out runs/hand224$": "needs published weights, and hours on 2 cores",
    r"siamura serve ": "serves until it is stopped; test_app.py asks such a page",
}

PROGRAMS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

# Long and short; what is long must stand on the page.
SMALL = "--steps 2 --size 32 --k 2 --trunk resnet18"
SHORTER: dict[str, dict[str, str]] = {
    "README.md": {
        "views=600": "views=60",
        "size=96": "size=32",
        "densenet169": "resnet18",
        "k=16": "k=4",
        "steps=400": "steps=2",
        "KNNHead(k=15)": "KNNHead(k=3)",
    },
    "docs/start.md": {
        "--views 200": "--views 60",
        "--trunk resnet18 --steps 40": SMALL,
        "patient00048/study1_positive": "patient00017/study1_positive",
        "size=64": "size=32",
        "k=8,": "k=4,",
        "steps=40": "steps=2",
    },
    "docs/explaining.md": {
        "[:, 1] >= 0.5": "[:, 1] >= 0.0",  # so small a head may find none
        "& abnormal]": "& abnormal][:3]",
        "features.denseblock1": "layer1",  # a ResNet's
    },
    "docs/howto/mura.md": {"--size 224 --steps 5000": SMALL, "--weights imagenet ": ""},
    "docs/howto/own_data.md": {
        "--part hand --out runs/hand": f"--part hand --out runs/hand {SMALL}",
        'calibration="temperature",': 'calibration="temperature", trunk="resnet18", size=32, steps=2, k=2,',
    },
    "docs/howto/choose_a_trunk.md": {
        'vit_small_patch14_reg4_dinov2", dim=128': 'test_vit", dim=8',
        "image_size=224": "image_size=64",
        'unfreeze("blocks.9")': 'unfreeze("blocks.3")',
    },
    "docs/networks.md": {
        'vit_small_patch14_reg4_dinov2", pool="cls", image_size=224': 'test_vit", pool="cls", image_size=64',
        "timm:nasnetalarge": "timm:resnet10t",
        'PairNet("densenet169"': 'PairNet("resnet18"',
    },
    "docs/phantoms.md": {"views=80": "views=40"},
    "docs/reading.md": {'part=["XR_ELBOW", "XR_FOREARM"]': 'part=["XR_FINGER"]'},
    "docs/training.md": {
        "epochs=30": "steps=2",
        "epochs=10": "epochs=1",
        '"densenet169"': '"resnet18"',
        'weights="imagenet"': "weights=None",
        "range(8), keep=5": "range(2), keep=1",
    },
}

# What lies in the reader's folder.
THERE: dict[str, tuple[str, ...]] = {
    "README.md": ("runs/hand", "film.png"),
    "docs/data_sets.md": ("MURA-v1.1", "FracAtlas", "GRAZPEDWRI-DX"),
    "docs/explaining.md": ("runs/finger_tfl", "film.png", "other.png"),
    "docs/exporting.md": ("runs/finger_tfl", "new.png"),
    "docs/howto/audit_your_labels.md": ("runs/first", "phantoms"),
    "docs/howto/dicom.md": ("runs/finger", "archive", "film.dcm"),
    "docs/howto/explain.md": ("runs/first", "film.png"),
    "docs/howto/export.md": ("runs/first",),
    "docs/howto/find_similar_cases.md": ("runs/first", "film.png", "phantoms"),
    "docs/howto/mura.md": ("MURA-v1.1",),
    "docs/howto/own_data.md": (
        "film.png",
        "films.csv",
        "other.csv",
        "grades.csv",
        "lesions.csv",
        "films",
        "archive",
    ),
    "docs/pixels.md": ("MURA-v1.1",),
    "docs/training.md": ("lesions.csv",),
    "docs/reading.md": ("MURA-v1.1", "own.csv", "clinic.csv", "images", "archive", "hand.png", "broken.jpg"),
    "docs/similar_cases.md": ("runs/finger_tfl", "new.png"),
}


def given(page: str, done: Run) -> dict[str, Any]:
    """Names that a page says it has from another."""
    if page not in ("docs/training.md", "docs/similar_cases.md"):
        return {}
    net = done.network()
    table = siamura.read_mura(done.config["data"]["name"])
    train, valid = (
        siamura.RadiographDataset(
            table[table["split"] == split].iloc[:24].reset_index(drop=True), net.preprocess, progress=False
        )
        for split in ("train", "valid")
    )
    if page == "docs/training.md":
        return {
            "net": net,
            "data": train,
            "valid": valid,
            "batches": siamura.samplers.PKBatchSampler(train.table["label"], p=2, k=4, seed=0),
            "loss": siamura.losses.TripletLoss(margin=0.2),
        }
    return {"data": train}


@pytest.fixture(scope="module")
def things(done: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything in `THERE`, made once."""
    folder = tmp_path_factory.mktemp("things")
    phantoms = Path(done.config["data"]["name"])
    films = [Path(path) for path in siamura.read_mura(phantoms)["path"][:12]]
    for name in ("runs/finger_tfl", "runs/first", "runs/finger", "runs/hand"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(done.folder)
    for name in ("MURA-v1.1", "phantoms"):
        (folder / name).symlink_to(phantoms)
    for name, film in zip(("film.png", "other.png", "new.png", "hand.png"), films, strict=False):
        (folder / name).symlink_to(film)
    for root, normal in (("films", "normal"), ("images", "normal")):
        for i, film in enumerate(films):
            place = folder / root / (normal, "fracture")[i % 2] / f"{i}_hand_patient{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(film)
    label = np.arange(12) % 2
    who = {"patient": np.arange(12)}
    pd.DataFrame({"path": films, "label": label, **who}).to_csv(folder / "own.csv", index=False)
    kinds = np.array(["none", "fracture", "cyst"])[np.arange(12) % 3]
    pd.DataFrame({"file": films, "label": kinds, **who}).to_csv(folder / "clinic.csv", index=False)
    finding = np.where(label == 1, "fracture", "normal")
    person = {"finding": finding, "region": "Hand", "person": who["patient"]}
    pd.DataFrame({"file": films, **person}).to_csv(folder / "films.csv", index=False)
    pd.DataFrame({"file": films, "finding": finding}).to_csv(folder / "other.csv", index=False)
    pd.DataFrame({"file": films, "grade": np.arange(12) % 4, **who}).to_csv(
        folder / "grades.csv", index=False
    )
    boxes = {"file": ["films/fracture/1_hand_patient1.png"], "x0": [2], "y0": [3], "x1": [9.5], "y1": [12]}
    pd.DataFrame(boxes).to_csv(folder / "lesions.csv", index=False)
    grey = siamura.read_image(films[0])
    published(folder, films)
    write_dicom(folder / "film.dcm", grey, "1.2.840.99.1")
    for i in (1, 2):
        write_dicom(folder / "archive" / f"scan{i}.dcm", grey, f"1.2.840.99.{i}")
    Image.fromarray(grey).save(folder / "broken.jpg")
    (folder / "broken.jpg").write_bytes((folder / "broken.jpg").read_bytes()[:-400])
    return folder


def published(folder: Path, films: list[Path]) -> None:
    """FracAtlas and GRAZPEDWRI-DX as they are unpacked, with films of phantoms in them."""
    rows = []
    for i, film in enumerate(films):
        name, finding = f"IMG{i:07d}.jpg", i % 2
        place = folder / "FracAtlas" / "images" / ("Fractured" if finding else "Non_fractured") / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(film).convert("L").save(place)
        rows.append({"image_id": name, "hand": 1, "hardware": 0, "fractured": finding})
    pd.DataFrame(rows).to_csv(folder / "FracAtlas" / "dataset.csv", index=False)
    (folder / "GRAZPEDWRI-DX" / "images").mkdir(parents=True)
    rows = []
    for i, film in enumerate(films):
        name = f"{i // 2:04d}_0{i:09d}_01_WRI-L1_M{i:03d}"
        (folder / "GRAZPEDWRI-DX" / "images" / f"{name}.png").symlink_to(film)
        visible = 1 if i // 2 % 2 else None  # empty where none is seen
        rows.append({"filestem": name, "patient_id": i // 2, "study_number": 1, "fracture_visible": visible})
    pd.DataFrame(rows).to_csv(folder / "GRAZPEDWRI-DX" / "dataset.csv", index=False)


def write_dicom(path: Path, grey: np.ndarray, study: str) -> None:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", f"{study}.1"
    data.Modality, data.PatientID, data.StudyInstanceUID = "DX", study[-1], study
    data.BodyPartExamined = "FINGER"
    data.set_pixel_data(grey, "MONOCHROME2", 8)
    path.parent.mkdir(exist_ok=True)
    data.save_as(path, enforce_file_format=True)


# What stands on a page: blocks, and commands within the text. Those without arguments are mentions: only read.
PIECE = re.compile(
    r"^(?P<fence>`{3,})(?P<kind>[\w{}-]*)\n(?P<body>.*?)^(?P=fence)"
    r"|^ {4}(?P<indented>(?:make|siamura|python|torchrun|git) [^\n]+)"
    r"|`(?P<inline>(?:make|siamura|python|torchrun|pip) [^`\n]+)`",
    flags=re.M | re.S,
)


@dataclass
class Piece:
    """A Python block, a command, a mention of one, or a text; `shown` is what the page says a command prints."""

    kind: str
    text: str
    line: int
    shown: str = ""


def pieces(text: str) -> Iterator[Piece]:
    for found in PIECE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        kind, body = found["kind"], found["body"]
        if kind in ("python", "text"):
            yield Piece(kind, body, line)
        elif kind == "console":
            for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
                command, _, shown = part.partition("\n")
                yield Piece("command", command, line, shown)
        elif found["inline"] is not None:
            yield Piece("command" if len(found["inline"].split()) > 2 else "mention", found["inline"], line)
        elif kind in ("sh", "bash", None):
            for command in commands(body or found["indented"]):
                yield Piece("command", command, line)
        else:
            assert kind in ("bibtex", "markdown", "{toctree}", "{warning}"), (
                f"line {line}: nothing here reads {kind!r}"
            )


def commands(text: str) -> Iterator[str]:
    """Single commands, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        yield from filter(None, (part.strip() for part in re.sub(r"(^|\s)#.*", "", line).split("&&")))


def rule(command: str) -> str | None:
    """Give the rule of `NOT_RUN` by which a command is only read."""
    return next((pattern for pattern in NOT_RUN if re.match(pattern, command)), None)


def read(command: str) -> tuple[typer.Typer, list[str]] | None:
    """Read a command as its program would: unknown options, targets, extras and files fail.

    Returns the application and its arguments where it is one of siamura's own.
    """
    words = command.split()
    if words[0] in ("srun", "torchrun"):
        words = ["python", *words[next(i for i, word in enumerate(words) if word.endswith(".py")) :]]
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = [word for word in words[1:] if "=" not in word]
        missing = [name for name in targets if not re.search(rf"^{name}:", makefile, flags=re.M)]
        assert not missing, f"{command}: the Makefile has no {missing}"
    elif "install" in words:
        setup = ConfigParser()
        setup.read(ROOT / "setup.cfg")
        for extras in re.findall(r"siamura\[(.+?)\]", command):
            assert set(extras.split(",")) <= set(setup["options.extras_require"]), command
    elif words[:3] == ["python", "-m", "benchmarks"]:
        packages = {path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py")}
        asked = words[words.index("--only") + 1].split(",") if "--only" in words else []
        assert set(asked) <= packages, f"{command}: there are {packages}"
    elif words[:2] == ["python", "-m"]:
        assert (ROOT / words[2].replace(".", "/")).with_suffix(".py").is_file(), command
    elif words[0] == "siamura":
        assert words[1] in PROGRAMS, command
        if words[2:]:  # else the command is spoken of, and its arguments are left out
            PROGRAMS[words[1]].make_context(words[1], words[2:])
        return app, words[1:]
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file(), command
        if words[1].startswith("examples/"):
            names = runpy.run_path(str(ROOT / words[1]))
            script = names.get("app", typer.Typer())
            if "app" not in names:
                script.command()(names["main"])
            typer.main.get_command(script).make_context(words[1], words[2:])
            return script, words[2:]
    return None


def play(page: str, text: str, names: dict[str, Any], exact: str = "$^") -> str:
    """Run what stands on a page in the working directory, hold it against what it shows, and return its output.

    The shape of the output must be that on the page; of commands that `exact` matches, every letter.
    """
    names["__name__"] = "page"
    spoken = printed = ""
    for piece in pieces(text):
        where = f"{page}:{piece.line}"
        if piece.kind == "text":
            if printed:  # else it shows something else
                compare(where, piece.text, printed)
            continue
        printed = ""
        if piece.kind == "python":
            code = compile("\n" * piece.line + piece.text, page, "exec")  # a traceback names the page's line
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, names)
            printed = out.getvalue()
        else:
            program = read(piece.text)
            if piece.kind == "mention" or rule(piece.text):
                continue
            assert program is not None, f"{where}: {piece.text!r} is not run, and NOT_RUN has no reason"
            result = CliRunner().invoke(*program)
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            assert result.exit_code == 0, f"{where}: {piece.text}\n{result.output}"
            printed = result.stdout
            if piece.shown:
                compare(where, piece.shown, printed, exact=bool(re.match(exact, piece.text)))
        spoken += printed
    return spoken


def compare(where: str, shown: str, printed: str, *, exact: bool = False) -> None:
    """Each line on the page is printed, in this order, and no other but where the page has an ellipsis."""
    left = [shape(line, exact) for line in printed.splitlines()]
    skip = False
    for line in shown.splitlines():
        if line == "...":
            skip = True
            continue
        while skip and left and left[0] != shape(line, exact):
            left.pop(0)
        assert left, f"{where}: {line!r} was not printed\n{printed}"
        assert left.pop(0) == shape(line, exact), f"{where}: {line!r} was not printed there\n{printed}"
        skip = False
    assert skip or not left, f"{where}: the page does not show {left}"


def shape(line: str, exact: bool) -> str:
    """A line without what differs from machine to machine: its folder, and where not exact its figures."""
    line = " ".join(line.replace(str(Path.cwd()), "/home/you/siamura").split())
    if exact:
        return line
    line = re.sub(r"(?<![a-z])-?\b(\d+(\.\d*)?(e-?\d+)?|nan)\b", "#", line)
    line = re.sub(r"(patient|image|study)\d+", r"\1#", line)
    return re.sub(r"True|False|positive|negative|\b(ab)?normal\b", "?", re.sub(r"#(, #)+", "#", line))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a page is played; caches and salts of its own."""
    monkeypatch.setenv("SIAMURA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "here" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow) if page in LONG else page for page in PAGES]
)
def test_page(page: str, folder: Path, things: Path, done: Run) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for long, short in SHORTER.get(page, {}).items():
        assert long in text, f"{page} no longer says {long}"
        text = text.replace(long, short)
    for name in THERE.get(page, ()):
        assert name in text, f"{page} no longer needs {name}"
        (folder / name).symlink_to(things / name)
    names = given(page, done)
    for name in names:
        assert re.search(rf"\b{name}\b", text), f"{page} no longer needs {name}"
    spoken = play(page, text, names)
    if page == "README.md":
        assert "kappa" in spoken
        assert len(names["data"]) + len(names["data_valid"]) == 60


@pytest.mark.slow
def test_start_page_prints_what_it_shows(folder: Path) -> None:
    page = "docs/start.md"
    text = (ROOT / page).read_text(encoding="utf-8")
    play(page, text, {}, exact="siamura (phantoms|describe|index)")


def test_every_rule_is_needed() -> None:
    used = {
        rule(piece.text)
        for page in PAGES
        for piece in pieces((ROOT / page).read_text(encoding="utf-8"))
        if piece.kind in ("command", "mention")
    }
    assert used - {None} == set(NOT_RUN)
    assert set(SHORTER) | set(THERE) <= set(PAGES)


def test_commands_in_help_and_examples_are_read() -> None:
    texts = [program.help for program in PROGRAMS.values()]
    scripts = [path.read_text(encoding="utf-8").split('"""')[1] for path in (ROOT / "examples").glob("*.py")]
    found = re.findall(
        r"^ *(?:Example: `)?((?:python examples|siamura )[^`\n]+)", "\n".join(texts + scripts), re.M
    )
    assert len(found) >= len(texts) + len(scripts) - 1
    for line in found:
        for command in commands(line):
            read(command)
