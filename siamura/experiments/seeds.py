"""One experiment with several seeds: a run each, their spread, and the ensemble."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from siamura._files import atomic_write, write_csv
from siamura._names import BASELINES
from siamura._run_files import seed_folders
from siamura._stored import read_json
from siamura._validation import check_whole
from siamura.evaluation import compare, compare_seeds, mean_probability, seed_scores
from siamura.evaluation.scores import said_once
from siamura.report.seeds import seed_rows, seed_table, seeds_markdown, write_seeds_page
from siamura.training.distributed import on_rank_zero

from . import metrics as measuring
from .answers import Answers, load_answers
from .calibrating import fit_points, score_points
from .folder import Run, finished_run, load_run, write_config, write_json, write_points
from .running import run
from .settings import Experiment

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

__all__ = ["SeedRuns", "check_seeds", "load_seeds", "run_seeds"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeedRuns:
    """What `run_seeds` wrote: a finished run a seed, and what they come to together.

    Parameters
    ----------
    folder : Path
        Where it lies.
    config : dict
        ``config.json``: settings, seeds, data.
    metrics : dict
        ``metrics["valid"][level][head]`` as of a run, of the ensemble and of the baselines; ``comparison`` and
        ``operating`` of the ensemble; ``seeds``: ``scores[level][head][metric]`` with the seeds' ``values``, their
        ``mean`` with ``low`` and ``high``, ``sd``, ``least`` and ``most``, and
        ``differences[level][head]["mean" or "ensemble"][baseline][metric]``.
    runs : dict of int to Run
        By seed.

    Examples
    --------
    .. code-block:: python

        from siamura.experiments import load_seeds
        found = load_seeds("runs/seeds")
        found.table().columns[:7].tolist()
        # ['level', 'head', 'metric', 'seed 0', 'seed 4', 'mean', 'low']
        sorted(found.runs)
        # [0, 4]
    """

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    runs: dict[int, Run]

    def table(self) -> pd.DataFrame:
        """The main scores, seeds side by side: ``level, head, metric``, the seeds, ``mean``, ``sd``, ``ensemble``."""
        return seed_table(self.metrics)


def check_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """Refuse seeds that are not whole, repeat, or are fewer than two.

    Examples
    --------
    >>> check_seeds([0, 1, 2])
    (0, 1, 2)
    >>> check_seeds([0, 0])
    Traceback (most recent call last):
    ValueError: seeds holds 0 twice; give each seed once.
    """
    found = tuple(check_whole("seeds", seed, least=0, most=2**63 - 1) for seed in seeds)
    if repeated := [seed for seed in found if found.count(seed) > 1]:
        raise ValueError(f"seeds holds {repeated[0]} twice; give each seed once.")
    if len(found) < 2:
        raise ValueError(
            f"seeds={list(found)}: a spread needs two seeds or more; for one, set the seed of a run."
        )
    return found


def run_seeds(
    experiment: Experiment,
    out: str | os.PathLike[str],
    seeds: Iterable[int] = (0, 1, 2),
    *,
    overwrite: bool = False,
    cache: str | os.PathLike[str] | None = None,
) -> SeedRuns:
    """Train one experiment with several seeds, and measure their mean, their spread and their ensemble.

    Parameters
    ----------
    experiment : Experiment
        The settings. Its `seed` plays no part; the data are drawn and split with its `data_seed` (where that is None,
        with its `seed`), the same for all.
    out : path
        The folder above the run folders ``seed0``, ``seed1``, ... A finished run in it with the same settings is
        kept, a stopped one is gone on with.
    seeds : iterable of int
        Two or more; of weights, batches, augmentation and heads.
    overwrite : bool
        Whether runs of these seeds are trained anew.
    cache : path, optional
        As for `siamura.run`.

    Returns
    -------
    SeedRuns
        Beside the run folders there are ``metrics.json``, ``seeds.csv`` (every figure, one a row), ``seeds.md``,
        ``report.html`` and ``operating_point.json`` (of the ensemble).

    Raises
    ------
    ValueError
        If a seed is not whole or repeats, there is one alone, or a run to be gone on with has other settings.
    FileExistsError
        If the folder holds anything else.
    KeyboardInterrupt
        After Ctrl-C in a run, whose folder is marked as interrupted; the same call goes on with it.

    Notes
    -----
    Intervals are over patients. The mean over seeds is that of the seeds' scores; the ensemble has the mean of their
    probabilities, and is compared with the baselines as they are, on the same draws of patients.

    Examples
    --------
    .. code-block:: python

        settings = Experiment(views=96, size=32, steps=1, k=4, trunk="squeezenet1_1", augment="none")
        found = run_seeds(settings, "runs/two", seeds=(0, 1))
        sorted(found.metrics["seeds"]["scores"]["study"]["mlp"]["auroc"])
        # ['high', 'least', 'low', 'mean', 'most', 'sd', 'values']
        (found.folder / "seed1" / "report.html").is_file()
        # True
    """
    given, folder = check_seeds(seeds), Path(out)
    base = replace(experiment, seed=experiment.seed_of_data, data_seed=experiment.seed_of_data)
    on_rank_zero(lambda: _open(folder, base, given))
    runs: dict[int, Run] = {}
    try:
        for number, seed in enumerate(given, start=1):
            _log.info("%d of %d: seed %d", number, len(given), seed)
            runs[seed] = _member(replace(base, seed=seed), folder / f"seed{seed}", overwrite, cache)
    except (ValueError, OSError):
        if os.listdir(folder) == ["config.json"]:  # bad input leaves nothing behind
            shutil.rmtree(folder)
        raise
    return on_rank_zero(lambda: _summarise(base, folder, runs))


def _member(
    experiment: Experiment, folder: Path, overwrite: bool, cache: str | os.PathLike[str] | None
) -> Run:
    """Run one seed, or read it where it is finished."""
    if not overwrite and (kept := finished_run(folder, experiment)) is not None:
        return cast("Run", kept)
    done = run(experiment, folder, overwrite=overwrite, resume=not overwrite, cache=cache)
    if done.config["status"] == "interrupted":
        raise KeyboardInterrupt(f"Stopped in {folder}: the runs are partial; the same call goes on with it.")
    return done


def load_seeds(folder: str | os.PathLike[str]) -> SeedRuns:
    """Read what `run_seeds` wrote.

    Raises
    ------
    FileNotFoundError
        If the folder holds no several seeds, or they are not finished.
    ValueError
        If a file is damaged.

    Examples
    --------
    .. code-block:: python

        sorted(load_seeds("runs/seeds").runs)
        # [0, 4]
    """
    folder = Path(folder)
    members = seed_folders(folder)
    if not members or not (folder / "metrics.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no finished runs of several seeds; give what run_seeds wrote."
        )
    config = read_json(folder / "config.json")
    runs = {seed: load_run(member) for seed, member in zip(config["seeds"], members, strict=True)}
    return SeedRuns(folder, config, read_json(folder / "metrics.json"), runs)


def _open(folder: Path, base: Experiment, seeds: tuple[int, ...]) -> None:
    """Make the folder above the runs, or find an earlier one; begin its ``config.json``."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose another folder with --out.")
    if folder.is_dir() and any(folder.iterdir()) and not seed_folders(folder):
        raise FileExistsError(
            f"{folder} holds files of something else than runs of several seeds; choose another --out."
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(13, "no permission to write; choose another run folder with --out", str(folder))
    (folder / "metrics.json").unlink(missing_ok=True)  # of fewer seeds, or of other settings
    write_config(folder, base, kind="seeds", seeds=list(seeds), status="training")


@said_once()
def _summarise(base: Experiment, folder: Path, runs: Mapping[int, Run]) -> SeedRuns:
    first = next(iter(runs.values()))
    data = first.config["data"]
    classes = tuple(data["classes"])
    about: dict[str, Any] = {"classes": classes, "ordered": data["ordered"], "seed": base.seed_of_data}
    answers = {seed: load_answers(done.folder, len(classes)) for seed, done in runs.items()}
    table = _common_table(runs)
    table.attrs = {"classes": classes, "ordered": data["ordered"]}
    valid = _rows(table, np.flatnonzero(table["split"] == "valid"))
    of_first = answers[first.experiment.seed].valid
    members = {
        head: {seed: each.valid[head] for seed, each in answers.items()}
        for head in of_first
        if head not in BASELINES
    }
    ensemble = {head: mean_probability(each) for head, each in members.items()}
    baselines = {name: of_first[name] for name in BASELINES if name in of_first}
    metrics: dict[str, Any] = {"valid": measuring.measure(valid, {**ensemble, **baselines}, **about)}
    differences: dict[str, Any] = {}
    scores: dict[str, Any] = {}
    for level in measuring.LEVELS:
        scores[level] = {
            head: _spread(seed_scores(valid, each, level, **about), list(runs))
            for head, each in members.items()
        }
        differences[level] = {
            head: {
                "mean": {
                    b: _figures(compare_seeds(valid, each, p, level, **about)) for b, p in baselines.items()
                },
                "ensemble": {
                    b: _figures(compare(valid, ensemble[head], p, level, **about))
                    for b, p in baselines.items()
                },
            }
            for head, each in members.items()
        }
    metrics["seeds"] = {"seeds": list(runs), "scores": scores, "differences": differences}
    main = "auroc" if len(classes) == 2 else "auroc_macro"
    metrics["comparison"] = {
        head: {b: {"metric": main, **found[main]} for b, found in kinds["ensemble"].items()}
        for head, kinds in differences["study"].items()
    }
    operating = _operating(base, folder, runs, answers, table, valid, ensemble)
    if operating:
        metrics["operating"] = operating
    write_json(folder / "metrics.json", metrics)
    config = write_config(
        folder, base, kind="seeds", seeds=list(runs), status="finished", data=data,
        preprocessing=first.config["preprocessing"], recipe=first.config["recipe"],
        batches=first.config.get("batches", {}),
    )  # fmt: skip
    write_csv(seed_rows(metrics), folder / "seeds.csv")
    atomic_write(folder / "seeds.md", seeds_markdown(config, metrics))
    write_seeds_page(folder)
    return SeedRuns(folder, config, metrics, dict(runs))


def _common_table(runs: Mapping[int, Run]) -> pd.DataFrame:
    """The rows that all runs have, in their order."""
    tables = {seed: done.embeddings()[1] for seed, done in runs.items()}
    (first, table), *others = tables.items()
    for seed, other in others:
        if not _named(other).equals(_named(table)):
            raise ValueError(
                f"the runs of seeds {first} and {seed} have other views or labels: the data have changed between "
                "them; run them again with --overwrite."
            )
    return table


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the names of its files alone, wherever they lay."""
    return table.assign(path=[Path(path).name for path in table["path"]])


def _rows(table: pd.DataFrame, some: npt.NDArray[np.int64]) -> pd.DataFrame:
    found = table.iloc[some].reset_index(drop=True)
    found.attrs = table.attrs
    return found


def _spread(frame: pd.DataFrame, seeds: list[int]) -> dict[str, Any]:
    return {
        str(metric): {
            "values": [measuring.plain(row[seed]) for seed in seeds],
            **{name: measuring.plain(row[name]) for name in ("mean", "low", "high", "sd", "least", "most")},
        }
        for metric, row in frame.iterrows()
    }


def _figures(frame: pd.DataFrame) -> dict[str, Any]:
    return {
        str(metric): {str(name): measuring.plain(value) for name, value in row.items()}
        for metric, row in frame.iterrows()
    }


def _operating(
    base: Experiment,
    folder: Path,
    runs: Mapping[int, Run],
    answers: Mapping[int, Answers],
    table: pd.DataFrame,
    valid: pd.DataFrame,
    ensemble: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Fit the ensemble's operating point on the patients apart of its members; None where a member has none."""
    (folder / "operating_point.json").unlink(missing_ok=True)
    first = next(iter(answers.values()))
    if any(
        set(each.apart) != set(ensemble) or not np.array_equal(each.rows, first.rows)
        for each in answers.values()
    ):
        return None
    apart = {
        head: mean_probability({seed: each.apart[head] for seed, each in answers.items()})
        for head in ensemble
    }
    points = fit_points(base, _rows(table, first.rows), apart)
    how = (
        f"{next(iter(runs.values())).metrics['operating']['how']} The ensemble's probability is the mean of its "
        "members'."
    )
    write_points(folder, points, how)
    attrs = table.attrs
    return score_points(
        points,
        valid,
        ensemble,
        how,
        classes=attrs["classes"],
        ordered=attrs["ordered"],
        seed=base.seed_of_data,
    )
