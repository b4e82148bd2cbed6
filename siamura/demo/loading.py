"""The demo as it is shipped, checked, and laid out where its paths are true."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from siamura._files import lock
from siamura._stored import read_json
from siamura.experiments.data import cache_folder
from siamura.experiments.folder import load_run, write_embeddings
from siamura.index import CaseIndex
from siamura.inference import Predictor, load_embeddings, load_network

from .drawing import draw
from .reading import Answer, read

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from siamura.experiments import Run

__all__ = ["DATA", "Demo", "check_files", "load_demo", "unpack"]

#: Where the package keeps it.
DATA = Path(__file__).parent / "data"
MANIFEST = "manifest.json"


@dataclass(frozen=True, eq=False)
class Demo:
    """A small network trained on phantoms, and what it needs to answer.

    Parameters
    ----------
    run : Run
        A run folder like any other: ``run.folder`` can be given to every command.
    predictor : Predictor
        Network and heads: from images to embeddings and probabilities.
    cases : CaseIndex
        54 drawn films of training patients.
    table : pandas.DataFrame
        The views of the studies to ask about, of patients the network has not seen: path, part, patient, study, label.

    Examples
    --------
    >>> import siamura
    >>> demo = siamura.load_demo()
    >>> demo
    Demo(PHANTOMS: 3 studies to ask about, 54 earlier cases, mobilenet_v3_small)
    >>> answer = demo.read()
    >>> len(answer.views), len(answer.cases), 0 <= answer.low <= answer.probability <= answer.high <= 1
    (2, 5, True)
    """

    run: Run
    predictor: Predictor
    cases: CaseIndex
    table: pd.DataFrame

    def __repr__(self) -> str:
        return (
            f"Demo(PHANTOMS: {len(self.studies)} studies to ask about, {len(self.cases)} earlier cases, "
            f"{self.run.experiment.trunk})"
        )

    @property
    def studies(self) -> tuple[str, ...]:
        """Names of the studies to ask about: one that is abnormal, one that is normal, one it gets wrong."""
        return tuple(dict.fromkeys(self.table["patient"] + "/" + self.table["study"].str.split("_").str[0]))

    @property
    def films(self) -> tuple[Path, ...]:
        """The image files of those studies."""
        return tuple(map(Path, self.table["path"]))

    @property
    def facts(self) -> dict[str, Any]:
        """How it was made: script, seed, SHA-256 of each file, and the score on held-out phantom patients."""
        return read_json(self.run.folder / MANIFEST)

    def views(self, study: str | None = None) -> pd.DataFrame:
        """The views of one study, the first one by default; `ValueError` for a name that is none of `studies`."""
        names = self.table["patient"] + "/" + self.table["study"].str.split("_").str[0]
        wanted = self.studies[0] if study is None else study
        if wanted not in self.studies:
            raise ValueError(
                f"study={study!r} is none of the demo's studies; choose {', '.join(self.studies)}."
            )
        return self.table[names == wanted].reset_index(drop=True)

    def read(self, study: str | None = None, *, cases: int = 5) -> Answer:
        """Answer for one study: probability with its interval, where it comes from, the nearest earlier cases.

        Parameters
        ----------
        study : str, optional
            One of `studies`; the first one if not given.
        cases : int
            How many earlier cases, each of another study.

        Raises
        ------
        ValueError
            If there is no such study.
        """
        return read(self, self.views(study), cases=cases)

    def draw(self, study: str | None = None) -> Figure:
        """Draw that answer as one picture.

        Examples
        --------
        >>> import siamura
        >>> figure = siamura.load_demo().draw()
        >>> len(figure.subfigs)
        2
        """
        return draw(self.read(study), self.facts["valid"])


def load_demo(folder: str | os.PathLike[str] | None = None) -> Demo:
    """Load the demo: a network trained on PHANTOMS, its heads, 54 drawn cases, and three studies to ask about.

    It needs no training and no network connection. The files come with the package, and are laid out once in
    the cache folder, so that their paths are true.

    Parameters
    ----------
    folder : path, optional
        Where they are laid out; by default ``SIAMURA_CACHE``, or the user's cache folder.

    Returns
    -------
    Demo

    Raises
    ------
    ValueError
        If a file of the package is not what its SHA-256 says.

    Examples
    --------
    >>> import siamura
    >>> demo = siamura.load_demo()
    >>> vector = demo.predictor.embed([siamura.read_image(demo.films[0])])
    >>> vector.shape, len(demo.cases.search(vector, k=5))
    ((1, 64), 5)
    """
    place = unpack(cache_folder() / "demo" if folder is None else Path(folder))
    run = load_run(place)
    predictor = Predictor(run)
    _, table = run.embeddings()
    there = [Path(path).is_file() for path in table["path"]]
    table = table[there & (table["split"] == "valid").to_numpy()].reset_index(drop=True)
    order = {path: i for i, path in enumerate(read_json(place / MANIFEST)["ask"])}
    at = [order[Path(path).relative_to(place).as_posix()] for path in table["path"]]
    table = table.iloc[sorted(range(len(at)), key=at.__getitem__)].reset_index(drop=True)
    return Demo(run, predictor, CaseIndex.open(place / "cases.db", model=predictor.net), table)


def check_files(folder: Path) -> dict[str, Any]:
    """Read the manifest of a demo and compare every file with its SHA-256; `ValueError` names one that differs."""
    manifest = read_json(folder / MANIFEST)
    for name, wanted in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{file} is missing; install siamura again.")
        if hashlib.sha256(file.read_bytes()).hexdigest() != wanted:
            raise ValueError(f"{file} is not the file that was shipped (SHA-256); install siamura again.")
    return manifest


def unpack(place: Path) -> Path:
    """Lay the demo out under `place`, once, with absolute paths in its tables; give the folder."""
    digest = hashlib.sha256((DATA / MANIFEST).read_bytes()).hexdigest()[:16]
    place = place.expanduser().absolute()
    folder = place / digest
    ready = folder / "ready"
    if _says(ready, folder):
        return folder
    place.mkdir(parents=True, exist_ok=True)
    with lock(place / "lock"):
        if _says(ready, folder):  # another process was faster
            return folder
        check_files(DATA)
        beside = Path(tempfile.mkdtemp(prefix=f".{digest}-", dir=place))
        try:
            shutil.copytree(DATA, beside, dirs_exist_ok=True, copy_function=shutil.copyfile)
            for part in (beside, *filter(Path.is_dir, beside.rglob("*"))):
                part.chmod(0o755)  # those of an installed package may be read-only
            vectors, table = load_embeddings(beside)
            write_embeddings(beside, vectors, table.assign(path=_under(folder, table["path"])))
            held, cases = load_embeddings(beside / "cases")
            index = CaseIndex.create(beside / "cases.db", model=load_network(beside))
            index.add(held, cases.assign(path=_under(folder, cases["path"])))
            index.close()
            (beside / "ready").write_text(str(folder), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def _under(folder: Path, paths: pd.Series) -> list[str]:
    return [str(folder / path) for path in paths]


def _says(ready: Path, folder: Path) -> bool:
    """Whether the demo was laid out there, and not moved since."""
    return ready.is_file() and ready.read_text(encoding="utf-8") == str(folder)
