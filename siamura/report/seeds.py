"""Several seeds of one experiment: their scores as tables, as Markdown and as a page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from pprint import pformat
from typing import Any

import pandas as pd

from siamura._files import atomic_write
from siamura._names import BASELINES, HEADS
from siamura._stored import read_json

from . import sections
from .gallery import classes_named
from .naming import glance_of, title_of
from .operating import beaten_sentences, operating_section
from .page import Block, Cell, Paragraph, Program, Score, Section, Table, Text, render
from .record import csv_or_none
from .tables import RESEARCH, data_sentence, with_interval

__all__ = ["seed_rows", "seed_table", "seeds_markdown", "write_seeds_page"]

#: The scores that tables for people show, of those that there are.
_SHOWN = ("kappa", "kappa_quadratic", "auroc", "auroc_macro", "average_precision", "accuracy", "brier")
_LEVELS = ("study", "view")
#: Columns of what is said of a mean over seeds.
_SPREAD = ("low", "high", "sd", "least", "most")


def seed_rows(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Give every figure of `siamura.run_seeds`, one a row.

    Parameters
    ----------
    metrics : mapping
        As ``metrics.json`` holds it.

    Returns
    -------
    DataFrame
        ``level, head, of, metric, value, low, high, sd, least, most``: `of` is a seed (``seed 0``), the ``mean`` over
        seeds (whose spread over seeds stands in the last three), the ``ensemble``, a ``baseline``, or a paired
        difference (``ensemble less trivial``).

    Examples
    --------
    >>> scores = {"auroc": {"values": [0.7, 0.9], "mean": 0.8, "low": 0.6, "high": 0.9, "sd": 0.14, "least": 0.7,
    ...                     "most": 0.9}}
    >>> metrics = {"valid": {"study": {"knn": {"auroc": 0.85, "interval": {"auroc": [0.7, 0.95]}}}},
    ...            "seeds": {"seeds": [0, 1], "scores": {"study": {"knn": scores}}, "differences": {}}}
    >>> seed_rows(metrics)[["of", "metric", "value", "low"]].to_dict("records")[1:]
    [{'of': 'seed 1', 'metric': 'auroc', 'value': 0.9, 'low': nan},
     {'of': 'mean', 'metric': 'auroc', 'value': 0.8, 'low': 0.6},
     {'of': 'ensemble', 'metric': 'auroc', 'value': 0.85, 'low': 0.7}]
    """
    seeds, scores, differences = (metrics["seeds"][name] for name in ("seeds", "scores", "differences"))
    rows: list[dict[str, Any]] = []
    for level in _LEVELS:
        for head, own in sections.by_head(metrics, "valid", level).items():
            spread = scores.get(level, {}).get(head)
            for metric in spread or next(iter(scores.get(level, {}).values()), own["interval"]):
                about = {"level": level, "head": head, "metric": metric}
                low, high = own["interval"].get(metric, (None, None))
                answer = {"value": own.get(metric), "low": low, "high": high}
                if spread is None:
                    rows.append({**about, "of": "baseline", **answer})
                    continue
                figures = spread[metric]
                rows += [
                    {**about, "of": f"seed {seed}", "value": value}
                    for seed, value in zip(seeds, figures["values"], strict=True)
                ]
                mean = {key: figures[key] for key in _SPREAD}
                rows.append({**about, "of": "mean", "value": figures["mean"], **mean})
                rows.append({**about, "of": "ensemble", **answer})
                for of, by_baseline in differences.get(level, {}).get(head, {}).items():
                    for baseline, found in by_baseline.items():
                        one = found[metric]
                        less = {"value": one["difference"], "low": one["low"], "high": one["high"]}
                        rows.append({**about, "of": f"{of} less {baseline}", **less})
    columns = ["level", "head", "of", "metric", "value", *_SPREAD]
    numbers = dict.fromkeys(columns[4:], "float64")
    return pd.DataFrame(rows, columns=columns).astype(numbers)


def seed_table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Set the seeds side by side: a row for each level, head or baseline, and main score.

    Parameters
    ----------
    metrics : mapping
        As ``metrics.json`` holds it.

    Returns
    -------
    DataFrame
        ``level, head, metric``, a column a seed, their ``mean`` with its interval ``low, high``, ``sd``, ``least`` and
        ``most`` over seeds, and ``ensemble, ensemble_low, ensemble_high``. A baseline does not depend on the seed: its
        score is in ``mean``.

    Examples
    --------
    >>> metrics = {"valid": {"study": {"trivial": {"kappa": 0.1, "interval": {"kappa": [0.0, 0.2]}}}},
    ...            "seeds": {"seeds": [0, 1], "scores": {}, "differences": {}}}
    >>> seed_table(metrics)[["head", "metric", "mean", "low", "high"]].to_dict("records")
    [{'head': 'trivial', 'metric': 'kappa', 'mean': 0.1, 'low': 0.0, 'high': 0.2}]
    """
    rows = seed_rows(metrics)
    names = [f"seed {seed}" for seed in metrics["seeds"]["seeds"]]
    found = []
    for (level, head), own in rows.groupby(["level", "head"], sort=False):
        for metric in (name for name in _SHOWN if (own["metric"] == name).any()):
            of = own[own["metric"] == metric].set_index("of")
            mean = of.loc["mean" if "mean" in of.index else "baseline"]
            line: dict[str, Any] = {"level": level, "head": head, "metric": metric}
            line |= {name: of["value"].get(name) for name in names}
            line |= {"mean": mean["value"], **{name: mean[name] for name in _SPREAD}}
            for column, name in (("value", ""), ("low", "_low"), ("high", "_high")):
                line[f"ensemble{name}"] = of[column].get("ensemble")
            found.append(line)
    ensemble = ["ensemble", "ensemble_low", "ensemble_high"]
    columns = ["level", "head", "metric", *names, "mean", *_SPREAD, *ensemble]
    return pd.DataFrame(found, columns=columns).astype(dict.fromkeys(columns[3:], "float64"))


def seeds_markdown(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Write ``seeds.md``: what was measured on whom, the table, and what is concluded.

    Parameters
    ----------
    config, metrics : mapping
        As ``config.json`` and ``metrics.json`` hold them.
    """
    seeds = metrics["seeds"]["seeds"]
    header = [
        "level",
        "head",
        "score",
        *(f"seed {seed}" for seed in seeds),
        "mean over seeds",
        "SD",
        "range",
        "ensemble",
    ]
    lines = [
        f"# {_title(config, metrics)}",
        "",
        data_sentence(config["data"]),
        *_how(config, metrics),
        RESEARCH,
        "",
    ]
    lines += ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for level, head, metric, cells in _cells(metrics):
        words = [_words(cell) for cell in cells]
        lines.append(
            "| " + " | ".join([level, HEADS.get(head, head), sections.METRICS[metric], *words]) + " |"
        )
    for sentence in _conclusions(metrics):
        lines += ["", sentence]
    return "\n".join(lines) + "\n"


def write_seeds_page(folder: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` of several seeds from what their folder holds.

    Parameters
    ----------
    folder : path
        Of `siamura.run_seeds`: ``config.json`` and ``metrics.json`` must be there.

    Returns
    -------
    Path
        The page, one file that fetches nothing.

    Examples
    --------
    .. code-block:: python

        write_seeds_page("runs/seeds").name
        # 'report.html'
    """
    folder = Path(folder)
    config, metrics = read_json(folder / "config.json"), read_json(folder / "metrics.json")
    classes, seeds = classes_named(config["data"]), metrics["seeds"]["seeds"]
    unreadable = csv_or_none(folder / f"seed{seeds[0]}" / "unreadable.csv", dtype=str)
    tables: list[Block] = []
    for level in _LEVELS:
        rows: list[list[Cell]] = []
        for at, head, metric, cells in _cells(metrics):
            if at == level:
                rows.append([Text(HEADS.get(head, head), sections.METRICS[metric]), *cells])
        header = ["", *(f"Seed {seed}" for seed in seeds), "Mean over seeds", "SD", "Range", "Ensemble"]
        basis = sections.rests_on(next(iter(sections.by_head(metrics, "valid", level).values())), level)
        tables.append(Table(f"Validation, per {level}: {basis}", header, rows))
    content = [
        Section("seeds", "The seeds", [*map(Paragraph, _how(config, metrics)), *tables]),
        Section("baselines", "Against the baselines", _differences(metrics)),
        Section("scores", "Scores of the ensemble", sections.scores_section(metrics, classes)),
        Section(
            "operating",
            "Operating point and calibration of the ensemble",
            operating_section(metrics, classes),
        ),
        Section("parts", "Body parts, by the ensemble", sections.parts_section(metrics)),
        Section("data", "Data", sections.data_section(config, unreadable)),
        Section("again", "To run it again", _again(config, metrics)),
    ]
    text = render(
        "page.html",
        title=_title(config, metrics),
        research=RESEARCH,
        phantoms=bool(config["data"].get("phantoms")),
        status=config.get("status") or "finished",
        glance=[(f"{name}, ensemble of {len(seeds)}", *rest) for name, *rest in glance_of(metrics)],
        sections=[section for section in content if section.blocks],
        version=config.get("versions", {}).get("siamura", ""),
    )
    atomic_write(folder / "report.html", text)
    return folder / "report.html"


def _title(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    return f"{title_of(config)}, {len(metrics['seeds']['seeds'])} seeds"


def _how(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    seeds = metrics["seeds"]["seeds"]
    return [
        f"The same experiment was trained with the seeds {', '.join(map(str, seeds))}, on the same patients: phantoms, "
        f"split and patients held back are drawn with seed {config['experiment']['data_seed']} for all of them.",
        "In brackets: 95 % intervals by a bootstrap over patients, which say what other patients would change, not "
        "what another seed would. SD is the standard deviation over the seeds (n - 1), the range goes from the least "
        "of them to the most. The ensemble answers with the mean of the seeds' probabilities.",
    ]


def _cells(metrics: Mapping[str, Any]) -> list[tuple[str, str, str, list[Cell]]]:
    """Level, head and score of each row, and the cells of the seeds, their mean, spread, range, and the ensemble."""
    out: list[tuple[str, str, str, list[Cell]]] = []
    for row in seed_table(metrics).to_dict("records"):
        of_seeds: list[Cell] = [_score(row[f"seed {seed}"]) for seed in metrics["seeds"]["seeds"]]
        between = "–" if pd.isna(row["least"]) else f"{row['least']:.3f} to {row['most']:.3f}"
        mean = _score(row["mean"], row["low"], row["high"])
        ensemble = _score(row["ensemble"], row["ensemble_low"], row["ensemble_high"])
        if row["head"] in BASELINES:  # a baseline does not depend on the seed
            of_seeds, between, ensemble = ["–"] * len(of_seeds), "–", "–"
        sd: Cell = "–" if pd.isna(row["sd"]) else _score(row["sd"])
        out.append((row["level"], row["head"], row["metric"], [*of_seeds, mean, sd, between, ensemble]))
    return out


def _score(value: float | None, low: float | None = None, high: float | None = None) -> Cell:
    """A figure, undefined where it is missing, with its interval where there is one."""
    bounds = None if low is None or high is None or pd.isna(low) or pd.isna(high) else (low, high)
    return Score(None if value is None or pd.isna(value) else value, bounds)


def _words(cell: Cell) -> str:
    if not isinstance(cell, Score):
        return str(cell)
    bounds = {} if cell.bounds is None else {"interval": {"": cell.bounds}}
    return with_interval({"": cell.value, **bounds}, "")


def _differences(metrics: Mapping[str, Any]) -> list[Block]:
    """Tables of the paired differences to the baselines, and sentences on the ensemble."""
    out: list[Block] = []
    for level in _LEVELS:
        rows: list[list[Cell]] = []
        for head, by_kind in metrics["seeds"]["differences"].get(level, {}).items():
            for of, by_baseline in by_kind.items():
                who = f"{HEADS.get(head, head)}, {'mean over seeds' if of == 'mean' else 'ensemble'}"
                for baseline, found in by_baseline.items():
                    shown = [metric for metric in _SHOWN[:4] if metric in found]
                    cells = [
                        _score(*(found[metric][name] for name in ("difference", "low", "high")))
                        for metric in shown
                    ]
                    rows.append([Text(who, f"less {HEADS.get(baseline, baseline)}"), *cells])
        if rows:
            header = ["", *(sections.METRICS[metric] for metric in shown)]
            out.append(Table(f"Validation, per {level}: difference and its 95 % interval", header, rows))
    if out:
        said = (
            "Paired: head and baseline meet the same patients in each of the draws, so that what makes patients easy "
            "for both cancels. An interval that leaves out 0 shows a difference beyond chance of the patients."
        )
        out = [Paragraph(said), *out, *map(Paragraph, _conclusions(metrics))]
    return out


def _conclusions(metrics: Mapping[str, Any]) -> list[str]:
    """Say of the ensemble and of the mean over seeds whether they beat each baseline."""
    out = [f"Ensemble. {sentence}" for sentence in beaten_sentences(metrics)]
    heads = metrics["seeds"]["differences"].get("study", {})
    names = {key: {b: f for b, f in heads[key]["mean"].items() if b in BASELINES} for key in heads}
    metric = "auroc" if any("auroc" in f for by in names.values() for f in by.values()) else "auroc_macro"
    mean = {head: {b: {"metric": metric, **f[metric]} for b, f in by.items()} for head, by in names.items()}
    return [*out, *(f"Mean over seeds. {sentence}" for sentence in beaten_sentences({"comparison": mean}))]


def _again(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> Sequence[Block]:
    seeds = tuple(metrics["seeds"]["seeds"])
    code = (
        "from siamura import Experiment, run_seeds\n\n"
        f"experiment = Experiment.from_dict({pformat(config['experiment'], sort_dicts=False)})\n"
        f'run_seeds(experiment, out="runs/again", seeds={seeds})'
    )
    folders = ", ".join(f"seed{seed}" for seed in seeds)
    return [
        Paragraph(f"Each seed's own run, with its figures and page, lies beside this page: {folders}."),
        Program(code),
    ]
