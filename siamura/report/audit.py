"""The page of an audit: labels, images and patients to look at again, with their pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from siamura import __version__
from siamura._files import atomic_path, atomic_write, printable, write_csv

from .page import Block, Figures, Paragraph, Picture, Section, Table, render
from .tables import RESEARCH

if TYPE_CHECKING:
    from siamura.evaluation import Audit

__all__ = ["write_audit"]

_SIDE, _GAP = 168, 6
Read = Callable[[int], NDArray[np.uint8] | None]


def write_audit(
    folder: str | os.PathLike[str],
    audit: Audit,
    table: pd.DataFrame,
    read: Read | None = None,
    *,
    classes: Sequence[str] = ("normal", "abnormal"),
    title: str = "Audit by neighbours",
    top: int = 100,
    pictured: int = 24,
    phantoms: bool = False,
) -> Path:
    """Write ``audit.html`` with ``labels.csv``, ``duplicates.csv``, ``patients.csv`` and ``audit.json``.

    Parameters
    ----------
    folder : path
        Made where it is not there; pictures go into its folder ``pictures``.
    audit : Audit
        Of `siamura.evaluation.audit`.
    table : DataFrame
        The same rows: ``path``, ``patient``, ``study``, ``part``, and ``split`` where there is one.
    read : callable, optional
        From a row's number to the image, uint8 (H, W), or None; without it there are no pictures.
    classes : sequence of str
        Names of the labels' codes.
    title : str
    top, pictured : int
        Rows of the page's tables, and how many of them stand there as pictures; the CSV files hold all.
    phantoms : bool
        Whether the images were drawn; the page says so.

    Returns
    -------
    Path
        The page, one file that fetches nothing.

    Examples
    --------
    >>> import tempfile, siamura
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"path": [f"{i}.png" for i in range(40)], "patient": np.arange(40).astype(str),
    ...                       "study": "study1", "part": "XR_HAND", "label": np.arange(40) % 2})
    >>> found = siamura.evaluation.audit(np.eye(2)[table["label"]] + rng.normal(0, 0.1, (40, 2)), table)
    >>> write_audit(tempfile.mkdtemp(), found, table).name
    'audit.html'
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    named = dict(enumerate(classes))
    known = [name for name in ("path", "split", "part", "patient", "study") if name in table]
    about = table[known].reset_index(drop=True)
    labels = audit.labels.assign(
        label=audit.labels["label"].map(lambda code: named.get(code, code)),
        suggested=audit.labels["suggested"].map(lambda code: named.get(code, code)),
    )
    labels = pd.concat([labels, about.loc[labels["row"]].reset_index(drop=True)], axis=1)
    pairs = audit.duplicates
    if len(pairs):
        first, second = (
            about.loc[pairs[name]].reset_index(drop=True).add_prefix(prefix)
            for name, prefix in (("row", ""), ("other", "other_"))
        )
        pairs = pd.concat([pairs, first, second], axis=1)
    for name, frame in (("labels", labels), ("duplicates", pairs), ("patients", audit.patients)):
        write_csv(frame.drop(columns=["neighbours", "rows"], errors="ignore"), folder / f"{name}.csv")
    atomic_write(folder / "audit.json", json.dumps(audit.facts, indent=2) + "\n")

    def figures(shown: Sequence[tuple[Sequence[int], str]], stem: str) -> list[Block]:
        if read is None or not shown:
            return []
        made = []
        for i, (rows, caption) in enumerate(shown[:pictured]):
            path = folder / "pictures" / f"{stem}{i + 1:03d}.png"
            if _strip(path, [read(int(row)) for row in rows]):
                made.append(Picture(path, caption, caption))
        return [Figures(made)] if made else []

    facts, listed = audit.facts, labels[labels["label"] != labels["suggested"]].head(top)
    code = audit.labels.set_index("row")["label"]
    words = [
        f"{i}. {printable(row['path'])}: called {row['label']}, {row['votes']} of {facts['labels']['k']} neighbours "
        f"agree; {row['suggested']} is more probable. Beside it its nearest: "
        + ", ".join(str(named.get(code[n], code[n])) for n in row["neighbours"]) + "."
        for i, row in enumerate(listed.to_dict("records"), 1)
    ]  # fmt: skip
    strips = [
        ([row, *near], said)
        for row, near, said in zip(listed["row"], listed["neighbours"], words, strict=True)
    ]
    knows = facts["labels"]["log_loss"], facts["labels"]["prior_log_loss"]
    sections = [Section("labels", "Labels that contradict their neighbourhood", [
        Paragraph(
            f"{facts['labels']['images']} images of {facts['labels']['patients']} patients; the {facts['labels']['k']} "
            "nearest images of other patients vote. The list says where to look first, not which label is wrong. "
            f"Log loss of the vote {knows[0]:.3f}, of the classes' shares alone {knows[1]:.3f}"
            + ("." if knows[0] < 0.98 * knows[1] else
               ": the embeddings know hardly anything of the labels, and neither does this list.")
        ),
        *figures(strips, "label"),
        _table(listed, f"The first {len(listed)}", ["path", "patient", "label", "suggested", "probability", "votes",
                                                    "rank_in_class"]),
    ])]  # fmt: skip
    if len(pairs):
        doubles, what = pairs[pairs["duplicate"]].head(top), facts["duplicates"]
        said = [
            f"{printable(row['path'])} ({row['patient']}) and {printable(row['other_path'])} ({row['other_patient']}): "
            f"detail {row['detail']:.2f}." + (" They stand in two splits." if row["splits"] else "")
            for row in doubles.to_dict("records")
        ]
        shown = [
            ([row, other], text)
            for row, other, text in zip(doubles["row"], doubles["other"], said, strict=True)
        ]
        sections.append(Section("duplicates", "The same picture twice, of two patients or in two splits", [
            Paragraph(
                f"{what['compared']} pairs of near images were laid over each other and compared. Of "
                f"{what['null_pairs']} others the detail correlates by {what['null_median']:.2f} in "
                f"the median and {what['null_highest']:.2f} at most; above {what['threshold']:.2f} a tenth of "
                f"a pair is expected by chance. {int(pairs['duplicate'].sum())} pairs are above it"
                + (f"; {what['unreadable']} images could not be read." if what["unreadable"] else ".")
            ),
            *figures(shown, "pair"),
            _table(doubles, "Pairs", ["path", "patient", "other_path", "other_patient", "cosine", "detail"]),
        ]))  # fmt: skip
    for kind, heading, name in (
        ("two like one", "Two patients that look like one", "two"),
        ("one like two", "Patients that look like two", "one"),
    ):
        odd = audit.patients[(audit.patients["kind"] == kind) & audit.patients["unusual"]].head(top)
        if kind not in facts["patients"]:
            continue
        limit = facts["patients"][kind]
        captions = [
            f"{row['patient']} {row['other']}: ratio {row['ratio']:.2f}." for row in odd.to_dict("records")
        ]
        sections.append(Section(name, heading, [
            Paragraph(f"{len(odd)} of {limit['compared']} are beyond the limit of {limit['limit']:.2f}, which "
                      "chance alone would pass about once. Weak evidence: views of one hand differ as hands do."),
            *figures(list(zip(odd["rows"], captions, strict=True)), name),
            _table(odd, heading, ["part", "patient", "other", "images", "ratio"]),
        ]))  # fmt: skip
    text = render("page.html", title=title, research=RESEARCH, phantoms=phantoms, status="finished", glance=(),
                  sections=sections, version=__version__)  # fmt: skip
    atomic_write(folder / "audit.html", text)
    return folder / "audit.html"


def _table(frame: pd.DataFrame, caption: str, columns: Sequence[str]) -> Table:
    rows = [
        [f"{value:.3f}" if isinstance(value, float) else printable(value) for value in row]
        for row in frame[[name for name in columns if name in frame]].itertuples(index=False, name=None)
    ]
    return Table(caption, [name.replace("_", " ") for name in columns if name in frame], rows)


def _strip(path: Path, images: Sequence[NDArray[np.uint8] | None]) -> bool:
    """Write images side by side, of one height, the first set apart; False where the first cannot be read."""
    if not images or images[0] is None:
        return False
    sheet = Image.new("L", (len(images) * (_SIDE + _GAP) + _GAP, _SIDE), 128)
    for i, gray in enumerate(images):
        if gray is not None:
            image = Image.fromarray(gray)
            image.thumbnail((_SIDE, _SIDE))
            left = i * (_SIDE + _GAP) + (2 * _GAP if i else 0)
            sheet.paste(image, (left + (_SIDE - image.width) // 2, (_SIDE - image.height) // 2))
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as beside:
        sheet.save(beside, format="PNG")
    return True
