"""Check that every relative link and picture in the Markdown files leads to a file; part of `make lint`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
MADE = {"_build", "auto_examples", "generated"}  # by Sphinx, not by hand
FENCE = re.compile(r"^(```|~~~).*?^\1", flags=re.M | re.S)


def broken(path: Path) -> list[str]:
    """Targets in one file that are not there."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    targets = [t.split("#")[0] for t in LINK.findall(text) if not re.match(r"[a-z]+:|#", t)]
    return [t for t in targets if t and not (path.parent / t).exists()]


def main() -> int:
    """Report every broken link; return 1 if there is one."""
    pages = [*ROOT.glob("*.md"), *(p for p in (ROOT / "docs").rglob("*.md") if not MADE & set(p.parts))]
    found = {page.relative_to(ROOT): broken(page) for page in pages}
    for name, targets in found.items():
        for target in targets:
            print(f"{name}: {target} does not exist", file=sys.stderr)
    return int(any(found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
