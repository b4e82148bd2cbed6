"""One function over many rows, on all cores, by threads: decoding and OpenCV leave Python's lock."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import cv2
from tqdm import tqdm

from siamura._files import cpu_count

__all__ = ["parallel_map"]

T = TypeVar("T")


def parallel_map(
    function: Callable[[int], T],
    rows: Iterable[int],
    progress: bool,
    what: str = "preprocessing",
    *,
    already: int = 0,
    at_once: int = 4,
) -> Iterator[tuple[int, T]]:
    """Run a function for every row on all cores.

    Parameters
    ----------
    function : callable
        Of a row.
    rows : iterable of int
    progress : bool
        Show a bar.
    what : str
        The bar's name.
    already : int
        Rows that the bar counts as done.
    at_once : int
        Rows of one task: few where a row is slow, so that no core idles at the end.

    Yields
    ------
    (int, T)
        Each row and what the function gave for it, as they come.
    """
    rows = list(rows)
    chunks = [rows[i : i + at_once] for i in range(0, len(rows), at_once)]

    def several(chunk: list[int]) -> list[tuple[int, T]]:
        return [(row, function(row)) for row in chunk]

    bar = tqdm(
        total=already + len(rows), initial=already, desc=what, unit="image", disable=not progress, delay=0.5
    )
    with _ONE_THREAD_EACH, ThreadPoolExecutor(cpu_count()) as pool, bar:
        futures = [pool.submit(several, chunk) for chunk in chunks]
        try:
            for future in as_completed(futures):
                outcome = future.result()
                bar.update(len(outcome))
                yield from outcome
        finally:
            for future in futures:
                future.cancel()


class _OneThreadEach:
    """While threads of ours fill the cores, OpenCV starts none of its own, and Python's lock goes round quickly.

    Both settings are the process's: the first to enter changes them, the last to leave puts them back.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before = (0.005, 1)

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = sys.getswitchinterval(), cv2.getNumThreads()
                sys.setswitchinterval(2e-4)
                cv2.setNumThreads(1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                sys.setswitchinterval(self._before[0])
                cv2.setNumThreads(self._before[1])


_ONE_THREAD_EACH = _OneThreadEach()
