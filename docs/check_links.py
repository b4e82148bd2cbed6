"""Check that every relative link and picture in the Markdown files leads to a file; part of `make lint`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", flags=re.M | re.S)


def broken(path: Path) -> list[str]:
    """Targets in one file that are not there."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    targets = [t.split("#")[0] for t in LINK.findall(text) if not re.match(r"[a-z]+:|#", t)]
    return [t for t in targets if t and not (path.parent / t).exists()]


def main() -> int:
    """Report every broken link; return 1 if there is one."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = {name: broken(ROOT / name) for name in listed.stdout.split()}
    for name, targets in found.items():
        for target in targets:
            print(f"{name}: {target} does not exist", file=sys.stderr)
    return int(any(found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
