"""Commands about finished runs and this machine: compare, export, report, info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from siamura._files import cpu_count, printable
from siamura.experiments import load_run

from .arguments import Head, HeadChoice, RunFolder
from .errors import cli_errors
from .output import OutFormat, emit, loading, shown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from siamura.experiments import Run

__all__ = ["compare", "export", "info", "report"]


def compare(
    first: Annotated[Path, typer.Argument(help="A run folder.")],
    second: Annotated[Path, typer.Argument(help="Another one, validated on the same studies.")],
    head: HeadChoice = Head.knn,
    form: OutFormat = None,
) -> None:
    """Compare two runs on the validation views that both have, paired by patients.

    Per view and per study: both values, their difference (first less second) with its 95 % interval, and p.

    Example: `siamura compare runs/finger runs/other`
    """
    with cli_errors():
        loading(first)
        # Here, as it loads SciPy.
        from siamura.evaluation import compare as paired

        table, one, two = _both(first, second, str(head))
        frames = [paired(table, one, two, level=level).assign(level=level) for level in ("view", "study")]
        typer.echo(
            f"{_of(table)}{len(table)} views of {table['patient'].nunique()} patients, the {head} head; the difference "
            "is first less second, 95 % intervals by bootstrap over the same patients. For research, not for "
            "diagnosis.",
            err=True,
        )
        found = pd.concat(frames).reset_index()
        emit(found[["level", *(name for name in found.columns if name != "level")]], form)


def export(
    run: RunFolder,
    out: Annotated[
        Path, typer.Option(help="The file to write, ending in .onnx; a .json comes beside it.")
    ] = Path("model.onnx"),
    head: Annotated[bool, typer.Option("--head/--no-head", help="With the MLP head's probability.")] = True,
) -> None:
    """Write a run's network as ONNX, checked against PyTorch; needs the extra `onnx`.

    Example: `siamura export runs/finger --out finger.onnx`
    """
    with cli_errors():
        loading(run)
        # Here, as it loads torch.
        from siamura.export import to_onnx

        done = load_run(run)
        mlp = done.heads()["mlp"] if head else None
        written = to_onnx(done.network(), out, mlp)
        typer.echo(shown(written))
        typer.echo(shown(written.with_suffix(".json")))


def report(
    run: RunFolder,
    checklist: Annotated[
        bool,
        typer.Option(
            "--checklist",
            help="Also fill in the reporting checklists CLAIM 2024 and TRIPOD+AI, as Markdown and HTML.",
        ),
    ] = False,
) -> None:
    """Write the page of a run again, from what its folder holds.

    Example: `siamura report runs/finger --checklist`
    """
    with cli_errors():
        loading(run)
        # Here, as it loads Jinja2.
        from siamura.report import write_checklist, write_report

        typer.echo(shown(write_report(run)))
        if checklist:
            for path in write_checklist(run):
                typer.echo(shown(path))


def info(form: OutFormat = None) -> None:
    """Versions, device, cores and the cache: what a report of a fault needs.

    Example: `siamura info --format json`
    """
    with cli_errors():
        loading("torch")
        import torch  # slow

        # Here, as they load OpenCV.
        from siamura.experiments.data import cache_folder
        from siamura.experiments.folder import versions

        cache = cache_folder()
        size = (
            sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) if cache.is_dir() else 0
        )
        facts = {
            **versions(),
            "device": _device(),
            "cores": cpu_count(),
            "threads": torch.get_num_threads(),
            "cache": str(cache),
            "cache size": f"{size / 1e6:.0f} MB",
        }
        emit(pd.DataFrame({"what": list(facts), "value": [str(value) for value in facts.values()]}), form)


def _device() -> str:
    import torch  # slow

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name(0)}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _both(
    first: Path, second: Path, head: str
) -> tuple[pd.DataFrame, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The validation views of two runs that are the same, and both runs' probabilities of them."""
    runs = [load_run(first), load_run(second)]
    classes = [tuple(run.config["data"].get("classes") or ("normal", "abnormal")) for run in runs]
    if classes[0] != classes[1]:
        raise ValueError(
            f"{first} tells {', '.join(classes[0])} apart and {second} {', '.join(classes[1])}; runs of the same "
            "classes can be compared."
        )
    scored = [_scored(run, head, len(classes[0])) for run in runs]
    keys = ["part", "patient", "study", "file"]
    both = scored[0].merge(scored[1], on=keys, suffixes=("", "_second"), validate="one_to_one")
    if both.empty:
        raise ValueError(
            f"{first} and {second} have no validation view in common; train both on the same data and seed."
        )
    odd = both[both["label"] != both["label_second"]]
    if len(odd):
        raise ValueError(
            f"{len(odd)} views have other labels in {second} than in {first}, the first is {odd['path'].iloc[0]}."
        )
    for run, rows in zip((first, second), scored, strict=True):
        if left := len(rows) - len(both):
            typer.echo(
                f"{left} validation views of {printable(str(run))} are not in the other run: left out.",
                err=True,
            )
    own = [name for name in scored[0] if str(name).startswith("p:")]
    one = both[own].to_numpy()
    two = both[[f"{name}_second" for name in own]].to_numpy()
    both.attrs["phantoms"] = any(run.config["data"]["phantoms"] for run in runs)
    if len(own) == 2:
        return both, one[:, 1], two[:, 1]
    return both, one, two


def _scored(run: Run, head: str, classes: int) -> pd.DataFrame:
    vectors, table = run.embeddings()
    keep = (table["split"] == "valid").to_numpy()
    probability = run.heads()[head].predict_proba(vectors[keep])
    rows = table[keep].reset_index(drop=True)
    if "part" not in rows:
        rows["part"] = ""
    rows["file"] = [Path(path).name for path in rows["path"]]
    return rows.assign(**{f"p:{code}": probability[:, code] for code in range(classes)})


def _of(table: pd.DataFrame) -> str:
    return "PHANTOMS, " if table.attrs.get("phantoms") else ""
