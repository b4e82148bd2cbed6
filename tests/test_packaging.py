"""The wheel, the lazy import, and the public names."""

import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import siamura

ROOT = Path(__file__).resolve().parents[1]


def python(code: str, *arguments: str, cwd: Path | None = None, executable: str = sys.executable) -> str:
    done = subprocess.run(
        [executable, *arguments, "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_heavy() -> None:
    heavy = ("torch", "cv2", "faiss", "umap", "lightning", "sklearn", "pandas", "matplotlib", "numpy")
    code = f"import sys, siamura; print([m for m in {heavy!r} if m in sys.modules])"
    assert python(code) == "[]"


@pytest.mark.parametrize("name", [n for n in siamura.__all__ if not n.startswith("_")])
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(siamura, name).__doc__


def test_stub_and_names_agree() -> None:
    stub = (ROOT / "siamura" / "__init__.pyi").read_text()
    listed = set(re.findall(r'^    "(\w+)",$', stub, flags=re.M))
    assert listed <= set(dir(siamura))
    assert set(siamura.__all__) - {"__version__"} == listed


SOURCE = (
    "siamura", "losses", "samplers", "tests", "docs", "examples", "notebooks",
    "benchmarks", ".ci", "setup.cfg", "pyproject.toml",
    "MANIFEST.in", "Makefile", "constraints.txt", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff",
    "CONTRIBUTING.md", "conftest.py",
)  # fmt: skip
MADE = shutil.ignore_patterns("__pycache__", "_build", "auto_examples", "generated", "sg_execution_times.rst")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel made from it, as for a release."""
    out = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source")
    for name in SOURCE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=MADE)
        else:
            shutil.copy(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return built / f"siamura-{siamura.__version__}-py3-none-any.whl"


def test_sdist_holds_all_that_the_tests_and_the_docs_need(built: Path) -> None:
    top = f"siamura-{siamura.__version__}"
    with tarfile.open(built / f"{top}.tar.gz") as archive:
        held = {member.name.removeprefix(f"{top}/") for member in archive if member.isfile()}
    listed = {path.relative_to(ROOT) for name in SOURCE for path in [ROOT / name, *(ROOT / name).rglob("*")]}
    made = {"__pycache__", "_build", "auto_examples", "generated"}
    kept = {p.as_posix() for p in listed if (ROOT / p).is_file() and not made & set(p.parts)}
    assert kept - held <= {"docs/sg_execution_times.rst"}
    assert not [name for name in held if name.startswith(("docs/_build", "build/", ".venv"))]


def test_wheel_holds_every_module_and_the_type_marker(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    for source, installed in (
        ("siamura", "siamura"),
        ("losses", "siamura/losses"),
        ("samplers", "siamura/samplers"),
    ):
        for pattern in ("*.py", "*.pyi", "py.typed"):
            for path in (ROOT / source).rglob(pattern):
                assert f"{installed}/{path.relative_to(ROOT / source).as_posix()}" in held
    for path in (ROOT / "siamura" / "demo" / "data").rglob("*"):
        assert path.is_dir() or path.relative_to(ROOT).as_posix() in held
    assert not [name for name in held if name.startswith(("tests/", "benchmarks/", "losses/", "samplers/"))]


@pytest.mark.slow
def test_wheel_imports_where_the_checkout_cannot_be_seen(wheel: Path, tmp_path: Path) -> None:
    # A new environment that sees this one's dependencies, but not the editable install, which a .pth file carries
    # and which addsitedir alone would read.
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    executable = str(tmp_path / "env" / "bin" / "python")
    target = python("import sysconfig; print(sysconfig.get_path('purelib'))", executable=executable)
    zipfile.ZipFile(wheel).extractall(target)
    here = python("import sysconfig; print(sysconfig.get_path('purelib'))")
    code = (
        f"import sys; sys.path.append({here!r})\n"
        "import siamura, siamura.losses, siamura.samplers\n"
        "print(siamura.__file__, siamura.losses.__file__, siamura.samplers.__file__, sep='\\n')\n"
        "siamura.losses.TripletFocalLoss, siamura.samplers.PKBatchSampler, siamura.Preprocess"
    )
    files = python(code, "-P", cwd=tmp_path, executable=executable).splitlines()
    assert all(file.startswith(target) for file in files), files
