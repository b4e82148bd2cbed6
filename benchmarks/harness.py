"""What every benchmark shares: timing two callables in turn, and one row of the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table: siamura's time beside a peer's, measured in the same run.

    Parameters
    ----------
    name : str
        What was done, sizes included.
    ours_s, peer_s : float
        Wall seconds of one call, the least of several.
    peer : str
        What it is measured against.
    target : float or None
        The ratio ``peer_s / ours_s`` that siamura promises; None where nothing is promised.
    note : str
        Memory, precision, or whatever else the reader needs.
    """

    name: str
    ours_s: float
    peer: str
    peer_s: float
    target: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times faster than the peer."""
        return self.peer_s / self.ours_s

    def as_dict(self) -> dict[str, object]:
        """Everything, the ratio included, for JSON."""
        return {**asdict(self), "ratio": self.ratio}


def paired(
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    runs: int = 7,
    warmup: int = 1,
    settle: bool = False,
) -> tuple[float, float]:
    """Seconds of two callables, run in turn so that both meet the same state of the machine; the least of the runs.

    The least, since whatever else the machine does can only add. With `settle`, each timed call follows an untimed
    one of its own kind: neither pays for the caches and the memory that the other has taken, as neither would in a
    training loop.
    """
    for _ in range(warmup):
        ours()
        peer()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for call, kept in zip((ours, peer), times, strict=True):
            if settle:
                call()
            start = time.perf_counter()
            call()
            kept.append(time.perf_counter() - start)
    return min(times[0]), min(times[1])


def seconds(call: Callable[[], object], *, runs: int = 3, warmup: int = 1) -> float:
    """Seconds of one callable, the least of the runs, where there is no peer to run in turn."""
    for _ in range(warmup):
        call()
    kept = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        kept.append(time.perf_counter() - start)
    return min(kept)


def markdown(rows: Iterable[Row]) -> str:
    """The rows as one Markdown table."""
    lines = [
        "| what | siamura | peer | its time | ratio | promised | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        promised = "" if row.target is None else f"{row.target:g}"
        lines.append(
            f"| {row.name} | {_time(row.ours_s)} | {row.peer} | {_time(row.peer_s)} "
            f"| {row.ratio:.2f} | {promised} | {row.note} |"
        )
    return "\n".join(lines)


def _time(value: float) -> str:
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.1f} ms"
    return f"{value:.2f} s"
