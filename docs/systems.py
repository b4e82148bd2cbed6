"""Write docs/systems.md from the published figures in the code: `python docs/systems.py`."""

from __future__ import annotations

from pathlib import Path

from siamura.experiments import Published, published

PAGE = Path(__file__).parent / "systems.md"
OPENING = """# The five systems

Five student reports built abnormality detectors on Stanford's MURA radiographs. siamura runs all five.

**The figures on this page are published, not measured here.** Other people obtained them, with ImageNet weights, on
MURA's public validation split. They are kept as printed, zeros at the end aside, contradictions included (an accuracy
of 0.780 beside an error of 0.249; an accuracy of 0.635 beside a kappa of 0.053). None came with an interval. A run of
siamura prints its own figures beside them, marked as measured, with the data and the interval.
`siamura.experiments.published` gives them all.

This page is written by `python docs/systems.py`.
"""
FINGER = """Fingers only: PK batches, CLAHE, a shared trunk, triplet losses, an embedding of 128 or 256 dimensions, a
small network on top. Clip limit and tiles of CLAHE, the side of the square and sigma are not stated there; siamura
takes 2.0, 8 x 8, 224 and 1.0. Tables 5.5 to 5.8 and 5.9 to 5.12 are to be read beside the plain DenseNet-169."""
TRUNKS = (
    """All seven parts together, ImageNet weights, trunk frozen, a dense top; then DenseNet-169 fine-tuned."""
)
FROZEN = """150 x 150 pixels, batch 16, 30 epochs, the class outputs of ImageNet under one logit."""
PART = """Precision / recall / F1. NASNet needs the extra `[timm]`."""
HUMERUS = """Three dense layers on top, 40 epochs, batch 16. The widths are not stated there; siamura takes
512 and 128."""
PAPER = """Kappa on its **hidden** test set of 207 studies (arXiv 1712.06957): nothing measured on the validation split
can be set beside it. The intervals printed there are too narrow by a mistake of their script, and are left out."""
PARTS = ("WRIST", "FOREARM", "FINGER", "HAND", "SHOULDER", "ELBOW", "HUMERUS")


def cell(figures: list[Published]) -> str:
    """Values as printed, training before validation."""
    return " / ".join(f"{f.value:g}" for f in figures) or "–"


def system_a() -> str:
    """Tables 5.1 to 5.12."""
    rows = ["| table | trunk | 256-d train / valid | 128-d train / valid |", "|---|---|---|---|"]
    for number in range(1, 13):
        table = f"5.{number}"
        figures = published(system="A", table=table)
        for trunk in dict.fromkeys(f.trunk for f in figures):
            own = [f for f in figures if f.trunk == trunk]
            extra = ", CLAHE" if own[0].clahe else ""
            loss = ", focal" if own[0].loss == "triplet_focal" else ""
            wide, narrow = ([f for f in own if f.dim == dim] for dim in (256, 128))
            name = f"{table} {own[0].metric}"
            rows.append(f"| {name} | {trunk}{extra}{loss} | {cell(wide)} | {cell(narrow)} |")
    return "\n".join(rows)


def system_b() -> str:
    """Frozen trunks, and the fine-tuned one."""
    rows = ["| trunk | training accuracy | validation accuracy |", "|---|---|---|"]
    for kind in ("frozen", "fine-tuned"):
        figures = published(system="B", table=kind)
        for trunk in dict.fromkeys(f.trunk for f in figures):
            own = [f for f in figures if f.trunk == trunk]
            train, valid = ([f for f in own if f.split == s] for s in ("train", "valid"))
            noted = "; ".join(f"{f.value:g} ({f.note})" for f in valid)
            rows.append(f"| {trunk}, {kind} | {cell(train)} | {noted} |")
    return "\n".join(rows)


def system_d() -> str:
    """Precision, recall and F1 of each part and trunk."""
    trunks = list(dict.fromkeys(f.trunk for f in published(system="D", table="per part")))
    rows = ["| part | " + " | ".join(trunks) + " |", "|---" * (len(trunks) + 1) + "|"]
    for part in PARTS:
        cells = [cell(published(system="D", table="per part", part=f"XR_{part}", trunk=t)) for t in trunks]
        rows.append(f"| {part.capitalize()} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def plain(system: str) -> str:
    """One row a figure."""
    rows = ["| part | what | value | note |", "|---|---|---|---|"]
    for f in published(system=system):
        rows.append(f"| {f.part} | {f.metric}, {f.split} | {f.value:g} | {f.note} |")
    return "\n".join(rows)


def page() -> str:
    """The whole page."""
    finger, parts, humerus = (
        f"python examples/{name}.py --data MURA-v1.1 --full --weights imagenet"
        for name in ("finger_tables", "part_tables", "humerus")
    )
    sections = (
        ("A. Siamese finger detector", FINGER, finger, system_a()),
        ("B. Four trunks compared", TRUNKS, parts, system_b()),
        ("C. Humerus, frozen InceptionV3", FROZEN, humerus, plain("C")),
        ("D. One model a part", PART, parts, system_d()),
        ("E. Humerus, DenseNet-121", HUMERUS, humerus, plain("E")),
        ("The MURA paper", PAPER, "", plain("MURA")),
    )
    out = [OPENING]
    for title, text, command, table in sections:
        code = f"\n```sh\n{command}\n```\n" if command else ""
        out.append(f"## {title}\n\n{text}\n{code}\n{table}\n")
    return "\n".join(out)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
