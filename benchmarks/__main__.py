"""Run every benchmark and print one table: ``python -m benchmarks [--gpu] [--only losses,pixels] [--out FOLDER]``.

``--into docs/benchmarks.md`` also puts the rows into that page: a package that ran takes the place of its earlier rows,
with the machine and the day above them, and the other packages stay.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from .harness import Row, markdown

HERE = Path(__file__).resolve().parent
MARKS = ("<!-- figures -->", "<!-- end of figures -->")


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; return 1 where a promised ratio was missed."""
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="run the rows that have one on the GPU")
    parser.add_argument(
        "--only", default=",".join(names), help=f"packages, comma-separated, of {', '.join(names)}"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/bench"), help="folder for bench.json and bench.md"
    )
    parser.add_argument("--into", type=Path, help="page to put the figures into, between its two marks")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",")
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"no benchmark of {unknown[0]!r}; there are {', '.join(names)}")

    if options.into is not None:
        _put({}, options.into)
    started = time.perf_counter()
    packages: dict[str, list[Row]] = {name: [] for name in chosen}
    for name, rows in packages.items():
        for row in _rows(name, gpu=options.gpu):
            rows.append(row)
            print(markdown([row]).splitlines()[-1], file=sys.stderr, flush=True)
    found = [row for rows in packages.values() for row in rows]
    machine = _machine(gpu=options.gpu)
    text = f"{machine}, {time.strftime('%Y-%m-%d')}.\n\n{markdown(found)}\n"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bench.md").write_text(text, encoding="utf-8")
    content = {"machine": machine, "rows": [row.as_dict() for row in found]}
    (options.out / "bench.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    took = f"{len(found)} rows in {time.perf_counter() - started:.0f} s"
    if options.into is not None:
        head = f"{machine}, {time.strftime('%Y-%m-%d')}: {took} in all."
        _put({name: f"{head}\n\n{markdown(rows)}" for name, rows in packages.items() if rows}, options.into)
    print(text)
    print(f"{took}; written to {options.out}", file=sys.stderr)
    missed = [row for row in found if row.target is not None and row.ratio < row.target]
    for row in missed:
        print(f"below its promise: {row.name}: {row.ratio:.2f} < {row.target:g}", file=sys.stderr)
    return 1 if missed else 0


def _rows(name: str, *, gpu: bool) -> Iterator[Row]:
    rows = importlib.import_module(f"benchmarks.bench_{name}").rows
    if "gpu" in inspect.signature(rows).parameters:
        yield from rows(gpu=gpu)
    elif not gpu:
        yield from rows()


def _put(packages: Mapping[str, str], page: Path) -> None:
    """Put the text of some packages between the marks of a page; those of other packages stay."""
    before, start, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    rest, end, after = rest.partition(MARKS[1])
    if not (start and end):
        raise SystemExit(f"{page} has no place for the figures: it needs the lines {MARKS[0]} and {MARKS[1]}")
    kept = dict(section.split("\n", 1) for section in f"\n{rest.strip()}".split("\n### ")[1:])
    kept |= packages
    text = "\n\n".join(f"### {name}\n\n{kept[name].strip()}" for name in sorted(kept))
    page.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def _machine(*, gpu: bool) -> str:
    import torch

    device = torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine()
    return f"{device}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"


if __name__ == "__main__":
    raise SystemExit(main())
