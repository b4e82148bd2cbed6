"""What Sphinx reads beside the pages: one reference page for each package, and the examples with titles.

Both are written from the code, so that a new public name or a new example appears without being listed anywhere.
"""

from __future__ import annotations

import importlib
import inspect
import types
from pathlib import Path

DOCS = Path(__file__).parent
PACKAGES = {
    "siamura": "The names for everyday use",
    "siamura.studies": "What is on disk, as a table",
    "siamura.pixels": "From a file to the network's input",
    "siamura.losses": "Metric-learning losses",
    "siamura.samplers": "Batches of P labels with K items",
    "siamura.networks": "Trunks, embedding networks, classifiers",
    "siamura.training": "Fit and embed",
    "siamura.heads": "From embeddings to probabilities",
    "siamura.evaluation": "Scores, intervals, comparisons",
    "siamura.explanation": "Where a network looked",
    "siamura.inference": "From files to probabilities",
    "siamura.index": "Similar cases, kept on disk",
    "siamura.plots": "Figures",
    "siamura.export": "ONNX",
    "siamura.experiments": "Whole runs: settings, folder, figures",
    "siamura.demo": "A network trained on phantoms, with all it needs to answer",
    "siamura.report": "The report, and published figures",
    "siamura.reproduction": "The five systems",
}


def public_names(package: str) -> list[str]:
    """Names that a package makes public; not the packages that `siamura` itself gives, and no alias of a type."""
    module = importlib.import_module(package)
    kinds = (types.ModuleType, types.GenericAlias)
    return [n for n in sorted(module.__all__) if n[0] != "_" and not isinstance(getattr(module, n), kinds)]


def home(name: str) -> str:
    """The package that documents a name of `siamura` itself."""
    thing = getattr(importlib.import_module("siamura"), name)
    return next(r for r in list(PACKAGES)[1:] if thing is getattr(importlib.import_module(r), name, None))


def elsewhere(package: str, name: str) -> str | None:
    """The package from which another takes a class that both make public; None for a package's own names."""
    thing = getattr(importlib.import_module(package), name)
    where = getattr(thing, "__module__", "") if isinstance(thing, type) else ""
    for other in PACKAGES:
        if other not in ("siamura", package) and where.startswith(f"{other}."):
            return other if getattr(importlib.import_module(other), name, None) is thing else None
    return None


def write_reference(folder: Path) -> None:
    """Write one page a package: its docstring and the table of its names, each with a page of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        about = inspect.cleandoc(importlib.import_module(package).__doc__ or "")
        names = public_names(package)
        lines = [package, "=" * len(package), "", about, ""]
        if package == "siamura":
            lines += [".. autosummary::", "   :nosignatures:", ""]
            lines += [f"   {home(name)}.{name}" for name in names]
        else:
            lines += [f".. currentmodule:: {package}", "", ".. autosummary::", "   :toctree: names"]
            lines += ["   :nosignatures:", ""] + [f"   {n}" for n in names if not elsewhere(package, n)]
            others = [f"   {other}.{n}" for n in names if (other := elsewhere(package, n))]
            if others:  # described once, on the pages of the packages that they come from
                lines += [
                    "",
                    "From other packages:",
                    "",
                    ".. autosummary::",
                    "   :nosignatures:",
                    "",
                    *others,
                ]
        _write(folder / f"{package}.rst", "\n".join(lines) + "\n")
    rows = [f"* - :doc:`{package} <{package}>`\n  - {title}" for package, title in PACKAGES.items()]
    table = ".. list-table::\n   :widths: 30 70\n\n" + "\n".join(
        "   " + line for row in rows for line in row.splitlines()
    )
    tree = ".. toctree::\n   :hidden:\n\n" + "\n".join(f"   {package}" for package in PACKAGES)
    _write(folder / "index.rst", f"Reference\n=========\n\nEvery public name.\n\n{table}\n\n{tree}\n")


def write_examples(folder: Path) -> None:
    """Copy the example scripts with their first line underlined, which is how sphinx-gallery finds a title."""
    folder.mkdir(parents=True, exist_ok=True)
    scripts = sorted((DOCS.parent / "examples").glob("*.py"))
    for old in set(folder.glob("*.py")) - {folder / s.name for s in scripts}:
        old.unlink()
    for script in scripts:
        opening, quotes, rest = script.read_text(encoding="utf-8").partition('"""')
        text, end, code = rest.partition('"""')
        first, _, more = text.partition("\n")
        title = script.name
        about = "\n".join(line.replace("\b", "").rstrip() for line in more.splitlines()).strip()
        body = _literal_commands(about)
        _write(
            folder / script.name,
            f"{opening}{quotes}\n{title}\n{'=' * len(title)}\n\n{first}\n\n{body}\n{end}{code}",
        )
    _write(
        folder / "GALLERY_HEADER.rst",
        "Examples\n========\n\nOne script an experiment, each under 40 lines. They run for minutes, so this page "
        "shows them and does not run them.\n",
    )


def _literal_commands(about: str) -> str:
    """Set paragraphs that are commands as code."""
    paragraphs = []
    for paragraph in about.split("\n\n"):
        if paragraph.strip().startswith("python "):
            commands = "\n".join("   " + line.strip() for line in paragraph.strip().splitlines())
            paragraphs.append(f".. code-block:: sh\n\n{commands}")
        else:
            paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)


def _write(path: Path, text: str) -> None:
    """Write where something changed, so that Sphinx builds again only what did."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Write everything anew, below a folder that is not kept."""
    generated = DOCS / "generated"
    write_reference(generated)
    write_examples(generated / "examples")


if __name__ == "__main__":
    main()
