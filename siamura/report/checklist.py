"""Reporting checklists, CLAIM 2024 and TRIPOD+AI: what a run knows of each item, and what a person must add."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from siamura._files import atomic_write
from siamura._run_files import refuse_several
from siamura.inference import load_embeddings
from siamura.plots.style import count, metric_name

from .checklist_items import CLAIM, TRIPOD_AI, Item
from .gallery import classes_named
from .lesions import taught_sentence
from .page import Paragraph, Section, Table, Text, render
from .record import Record, read_record
from .tables import RESEARCH, data_sentence, head_note, with_interval

__all__ = ["facts_of", "write_checklist"]

LISTS: dict[str, tuple[str, tuple[Item, ...]]] = {
    "CLAIM 2024": (
        "Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300, doi:10.1148/ryai.240300",
        CLAIM,
    ),
    "TRIPOD+AI": ("Collins et al., BMJ 2024;385:e078378, doi:10.1136/bmj-2023-078378", TRIPOD_AI),
}
_HEADER = ("item", "asks for, in our words", "known from this run", "where", "a person must add")
_NOTE = (
    "Filled in from the files of one run. The items are shortened, in siamura's own words: hand in the published "
    "forms, whose numbers these are and whose words count. An item without an entry is unknown to a run, and an entry "
    "is no proof that it is enough."
)


def write_checklist(folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write ``checklist.md`` and ``checklist.html`` into the folder of a run.

    Parameters
    ----------
    folder : path
        A finished run.

    Returns
    -------
    markdown, html : Path

    Raises
    ------
    FileNotFoundError
        If the folder holds no measured run.

    Examples
    --------
    .. code-block:: python

        markdown, html = write_checklist("runs/first")
        markdown.name, html.name
        # ('checklist.md', 'checklist.html')
    """
    folder = Path(folder)
    refuse_several(folder)
    record = read_record(folder)
    facts = facts_of(record, folder)
    tables = {name: [_row(item, facts) for item in items] for name, (_, items) in LISTS.items()}
    phantoms = bool(record.config.get("data", {}).get("phantoms"))
    title = "Reporting checklists: what this run answers"
    lines = [f"# {title}", "", RESEARCH, ""]
    if phantoms:
        lines += ["**Measured on PHANTOMS: nothing of it is about patients.**", ""]
    lines += [_NOTE, ""]
    for name, rows in tables.items():
        lines += [
            f"## {name}",
            "",
            f"{LISTS[name][0]}. {_known(rows)}",
            "",
            "| " + " | ".join(_HEADER) + " |",
        ]
        lines += [
            "|---" * len(_HEADER) + "|",
            *("| " + " | ".join(map(_plain, row)) + " |" for row in rows),
            "",
        ]
    atomic_write(folder / "checklist.md", "\n".join(lines))
    sections = [
        Section(
            name.split()[0].lower().replace("+", "-"),
            name,
            [
                Paragraph(f"{LISTS[name][0]}. {_known(rows)}"),
                Table(
                    name,
                    _HEADER,
                    [
                        [row[0], row[1], row[2], Text(row[3], code=True) if row[3] else "", row[4]]
                        for row in rows
                    ],
                    words=True,
                ),
            ],
        )
        for name, rows in tables.items()
    ]
    page = render(
        "page.html", title=title, research=f"{RESEARCH} {_NOTE}", phantoms=phantoms,
        status=record.config.get("status") or "finished", glance=[], sections=sections,
        version=record.config.get("versions", {}).get("siamura", ""),
    )  # fmt: skip
    atomic_write(folder / "checklist.html", page)
    return folder / "checklist.md", folder / "checklist.html"


def _row(item: Item, facts: Mapping[str, tuple[str, str]]) -> tuple[str, str, str, str, str]:
    known, where = facts.get(item.fact, ("", ""))
    return item.number, item.asks, known, where, item.todo or ("" if known else "this item")


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _known(rows: list[tuple[str, str, str, str, str]]) -> str:
    number = sum(bool(row[2]) for row in rows)
    return f"The run says something of {number} of {len(rows)} items."


def facts_of(record: Record, folder: Path) -> dict[str, tuple[str, str]]:
    """What a run knows, by the keys of `Item.fact`: a sentence, and the file where it stands.

    Examples
    --------
    .. code-block:: python

        from siamura.report import read_record
        facts_of(read_record(Path("runs/first")), Path("runs/first"))["disjoint"]
        # ('no patient is in two of train, valid (compared by name)', 'embeddings.npz')
    """
    found = _disjoint(folder)
    for name, (tell, where) in _TELL.items():
        if said := tell(record):
            found[name] = (said, where)
    return found


def _data(record: Record) -> Mapping[str, Any]:
    data: Mapping[str, Any] = record.config.get("data", {})
    return data


def _set(record: Record, *names: str) -> str:
    """Settings in words: ``size 96, clahe yes``; those that the run does not have are left out."""
    config = record.config
    given = {**config.get("experiment", {}), **config.get("recipe", {})}  # what was left out, settled
    said = {True: "yes", False: "no", None: "none"}
    return ", ".join(
        f"{name} {said[v] if isinstance(v, bool) or v is None else v}"
        for name, v in ((n, given[n]) for n in names if n in given)
    )


def _sizes(record: Record) -> str:
    data = _data(record)
    labels = data.get("labels", {})
    return "; ".join(
        f"{split}: {n['views']} views of {n['studies']} studies of {n['patients']} patients"
        + "".join(f", {number} views of {name}" for name, number in labels.get(split, {}).items())
        for split, n in data.get("counts", {}).items()
    )


def _imbalance(record: Record) -> str:
    labels = _data(record).get("labels", {})
    said = "; ".join(
        f"{split}: " + ", ".join(f"{number} {name}" for name, number in of.items())
        for split, of in labels.items()
    )
    batches = _set(record, "p", "k")
    if not (said and batches):
        return said
    drawn = record.config.get("batches")
    if not isinstance(drawn, dict) or len(set(drawn.values())) < 2:
        return f"{said}; batches hold as many images of each label ({batches})"
    return f"{said}; a batch holds " + ", ".join(f"{number} {name}" for name, number in drawn.items())


def _split(record: Record) -> str:
    return str(_data(record).get("split") or "").strip()


def _disjoint(folder: Path) -> dict[str, tuple[str, str]]:
    """Whether a patient is in two splits, compared now in the rows that the run kept."""
    if (folder / "embeddings.npz").is_file():
        table, where = load_embeddings(folder)[1], "embeddings.npz"
    elif (folder / "predictions.csv").is_file():
        table, where = pd.read_csv(folder / "predictions.csv", dtype={"patient": str}), "predictions.csv"
    else:
        return {}
    splits = table.groupby("patient")["split"].nunique()
    names = ", ".join(sorted(table["split"].unique()))
    twice = int((splits > 1).sum())
    said = f"{count(twice, 'patient')} {'is' if twice == 1 else 'are'}" if twice else "no patient is"
    return {"disjoint": (f"{said} in two of {names} (compared by name)", where)}


def _performance(record: Record) -> str:
    heads = record.metrics.get("valid", {}).get("study", {})
    words = []
    for head in ("knn", "mlp", "classifier", "trivial"):
        figures = heads.get(head)
        if figures:
            shown = [
                m
                for m in ("kappa", "accuracy", "recall", "specificity", "auroc", "auroc_macro")
                if m in figures
            ]
            words.append(
                f"{head}: " + ", ".join(f"{metric_name(m)} {with_interval(figures, m)}" for m in shown)
            )
    return f"per study, [95 % interval]: {'; '.join(words)}" if words else ""


def _metrics(record: Record) -> str:
    heads = record.metrics.get("valid", {}).get("study", {})
    names = [
        name for name, value in next(iter(heads.values()), {}).items()
        if isinstance(value, float) and name not in ("draws", "patients", "studies", "views")
    ]  # fmt: skip
    return ", ".join(metric_name(name) for name in names)


def _interval(record: Record) -> str:
    heads = record.metrics.get("valid", {}).get("study", {})
    draws = next((figures["draws"] for figures in heads.values() if figures.get("draws")), None)
    return f"95 % intervals by a bootstrap of {draws} draws over patients" if draws else ""


def _software(record: Record) -> str:
    return ", ".join(f"{name} {version}" for name, version in record.config.get("versions", {}).items())


def _model(record: Record) -> str:
    said = _set(record, "trunk", "top", "dim")
    if "dim" not in said:
        return said
    heads = f"heads: k-NN and MLP. {head_note(record.metrics)}".rstrip()
    return f"{said}; one grey channel, L2-normalised embedding; {heads}"


def _kind(record: Record) -> str:
    beside = " with a classifier beside it, and" if head_note(record.metrics) else ", with an MLP head and"
    return f"deep metric learning on radiographs{beside} a k-NN head"


def _training(record: Record) -> str:
    said = _set(
        record, "loss", "margin", "sigma", "epochs", "steps", "p", "k", "batch", "optimizer", "lr", "trunk_lr",
        "weight_decay", "dropout", "drop_path", "classify", "locate", "head_first", "class_balance", "train_from",
        "augment", "accumulate", "ema", "precision", "seed",
    )  # fmt: skip
    if boxes := taught_sentence(_data(record)):
        said += f". {boxes.rstrip('.')}"
    return f"{said}; {len(record.history)} steps were made" if record.history is not None else said


def _selection(record: Record) -> str:
    if "keep_best" not in record.config.get("experiment", {}):
        return ""
    if not record.config["experiment"]["keep_best"]:
        return "the weights of the last step were kept; the validation studies chose nothing"
    return str(_data(record).get("calibration", ""))


def _unreadable(record: Record) -> str:
    number = _data(record).get("unreadable")
    return "" if number is None else f"{number} files could not be read and are left out, none replaced"


def _classes(record: Record) -> str:
    names = classes_named(_data(record))
    return f"classes {', '.join(names)}" + (f"; {names[1]} is the positive one" if len(names) == 2 else "")


def _output(record: Record) -> str:
    names = classes_named(_data(record))
    rule = f"above 0.5 is called {names[1]}" if len(names) == 2 else "the most probable class is the answer"
    given = record.config.get("experiment", {})
    if given.get("sensitivity") is not None or given.get("calibration") not in (None, "none"):
        chosen = _set(record, "sensitivity", "calibration", "calibration_share")
        rule += f", but at the operating point fitted on training patients held back ({chosen})"
    return f"a probability for each view, their mean for a study; {rule}"


def _command(record: Record) -> str:
    command = record.config.get("command")
    return " ".join(map(str, command)) if isinstance(command, list) else ""


def _of_embedding(sentence: str | Callable[[Record], str]) -> Callable[[Record], str]:
    """A sentence that holds for runs with an embedding and heads."""

    def tell(record: Record) -> str:
        if record.config.get("kind") == "classifier":
            return ""
        return sentence if isinstance(sentence, str) else sentence(record)

    return tell


_TELL: dict[str, tuple[Callable[[Record], str], str]] = {
    "kind": (_of_embedding(_kind), "report.html"),
    "source": (lambda r: data_sentence(_data(r)) if _data(r).get("counts") else "", "config.json"),
    "preprocessing": (
        lambda r: _set(r, "size", "fit", "clahe", "clip_limit", "tiles", "equalise"), "model/config.json",
    ),
    "split": (_split, "config.json"),
    "unreadable": (_unreadable, "unreadable.csv"),
    "classes": (_classes, "config.json"),
    "sizes": (_sizes, "config.json"),
    "model": (_model, "model/config.json"),
    "software": (_software, "config.json"),
    "weights": (lambda r: _set(r, "weights"), "config.json"),
    "training": (_training, "history.csv"),
    "selection": (_selection, "config.json"),
    "ensemble": (lambda r: "none: one network", "config.json"),
    "metrics": (_metrics, "metrics.json"),
    "interval": (_interval, "metrics.json"),
    "explanation": (
        lambda r: "the page's pictures show heat maps" if any("heat" in n for n in r.captions) else "", "report.html",
    ),
    "internal": (
        lambda r: "the validation studies, of patients not trained on; train beside them" if r.metrics.get("valid")
        else "", "metrics.json",
    ),
    "performance": (_performance, "metrics.json"),
    "failures": (lambda r: "confusion matrix" if "confusion" in r.captions else "", "report.html"),
    "limits": (_of_embedding("one source; probabilities are not calibrated unless it was done on other patients"),
               "model/README.md"),
    "command": (_command, "config.json"),
    "predictors": (lambda r: "the pixels of the radiograph; no other variable", "model/config.json"),
    "assessor": (lambda r: "nobody: the network reads the pixels", "model/config.json"),
    "imbalance": (_imbalance, "config.json"),
    "output": (_output, "metrics.json"),
    "unlike": (_of_embedding("a view farther from the training views than 99 % of the validation views is called "
                             "unlike them; unreadable files are refused"), "knn/distance_limit.json"),
}  # fmt: skip
