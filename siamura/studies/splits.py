"""Splits that keep a person on one side."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from numbers import Real

import numpy as np
import pandas as pd

from siamura._validation import check_filled

from .checks import check_table
from .names import listed, split_names

log = logging.getLogger(__name__)


def split_patients(
    table: pd.DataFrame, valid: float | Mapping[str, float] = 0.2, seed: int = 0
) -> pd.DataFrame:
    """Split a table by patient, with the same share of every part and label in each split.

    No patient is in two splits, whatever their parts and studies. Patients are taken largest first, and each
    goes where it brings the counts of views (per part and label) and of patients closest to the asked
    shares; among equals a seeded shuffle decides. The order of the rows does not matter.

    Parameters
    ----------
    table : DataFrame
        A table as the readers return it; its own ``split`` column is replaced.
    valid : float or mapping
        Share of the validation split, between 0 and 1, the rest being ``"train"``; or the shares of several
        splits by name, as in ``{"train": 0.7, "valid": 0.2, "calibration": 0.1}``, which add up to 1.
    seed : int
        Same seed, same split.

    Returns
    -------
    DataFrame
        A copy with the ``split`` column set, rows in the same order.

    Raises
    ------
    ValueError
        Shares that are not positive or do not add up to 1, fewer patients than splits, or a patient who is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"path": [f"{i}.png" for i in range(40)], "part": "XR_HAND",
    ...                       "patient": [f"p{i // 2}" for i in range(40)], "study": "study1",
    ...                       "label": [i // 2 % 2 for i in range(40)], "split": "train"})
    >>> split_patients(table, valid=0.2).groupby(["split", "label"])["patient"].nunique()
    split  label
    train  0        8
           1        8
    valid  0        2
           1        2
    Name: patient, dtype: int64
    """
    shares = _shares(valid)
    check_table(table, ("part", "patient", "label"))
    check_filled(table, ("patient",))
    names = list(shares)
    patients, codes = _sorted_codes(table["patient"])
    if len(patients) < len(names):
        raise ValueError(
            f"table has {len(patients)} patients, too few for {len(names)} splits ({', '.join(names)}); "
            "give more patients or fewer splits."
        )
    strata = table.groupby(["part", "label"], sort=True, dropna=False).ngroup().to_numpy()
    counts = np.zeros((len(patients), int(strata.max()) + 2))
    np.add.at(counts, (codes, strata), 1.0)
    counts[:, -1] = 1.0  # the number of patients counts like one more stratum
    chosen = _assign(counts, np.array([shares[n] for n in names]), np.random.default_rng(seed))
    result = table.copy()
    result["split"] = pd.array(np.array(names, dtype=object)[chosen[codes]], dtype="str")
    lacking = [
        f"{name!r} has no label {label}"
        for name in names
        for label in sorted(set(table["label"]))
        if not ((result["split"] == name) & (result["label"] == label)).any()
    ]
    if lacking:
        warnings.warn(
            f"After the split {', '.join(lacking)}: too few patients have it to share out.",
            UserWarning,
            stacklevel=2,
        )
    return result


def train_valid(table: pd.DataFrame, valid: float = 0.2, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give the two splits of a table: its own, or made by patient where it has none.

    Parameters
    ----------
    table : DataFrame
        As `siamura.read_studies` returns it.
    valid : float
        Share of the validation split where it has to be made, between 0 and 1.
    seed : int
        Of a split that has to be made: same seed, same split.

    Returns
    -------
    train, valid : DataFrame
        Each with an index from 0. In both, ``attrs["split"]`` says how the split came about: ``made`` (bool),
        ``valid`` and ``seed`` where it was made, and ``sentence`` for a report. Rows of other splits, such as
        test, are in neither.

    Raises
    ------
    ValueError
        A patient or file is on both sides, or the table has splits but no train.

    Notes
    -----
    A table with train and valid keeps them. One with train alone, or train and test, has its train split by
    patient (see `split_patients`); test stays aside.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"path": [f"{i}.png" for i in range(40)], "part": "XR_HAND",
    ...                       "patient": [f"p{i // 2}" for i in range(40)], "study": "study1",
    ...                       "label": [i // 2 % 2 for i in range(40)], "split": "train"})
    >>> train, valid = train_valid(table, seed=1)
    >>> len(train), len(valid), valid.attrs["split"]["sentence"]
    (32, 8, 'The table had no validation split: one fifth of its patients (valid=0.2) was drawn with seed 1.')
    """
    check_table(table)
    check_filled(table, ("patient", "split"))
    names = table["split"].map(split_names(dict.fromkeys(table["split"])))
    there = list(dict.fromkeys(names))
    if "train" not in there:
        raise ValueError(
            f"table has the splits {listed(there) if there else '(no row)'} but no train; name the column of the "
            'splits with columns={"its name": "split"}, or set table["split"] to "train" and "valid".'
        )
    rows = table.assign(split=names.astype("str"))
    rest = [name for name in there if name not in ("train", "valid")]
    said: dict[str, object]
    if "valid" in there:
        said = {"made": False, "sentence": "The split into training and validation is the table's own."}
    else:
        inner = rows[rows["split"] == "train"].reset_index(drop=True)
        share = "one fifth" if valid == 0.2 else f"{100 * valid:g} %"
        sentence = (
            f"The table had no validation split: {share} of its patients (valid={valid:g}) was drawn with seed "
            f"{seed}."
        )
        said = {"made": True, "valid": float(valid), "seed": int(seed), "sentence": sentence}
        rows = split_patients(inner, valid, seed)
    sides = []
    for name in ("train", "valid"):
        side = rows[rows["split"] == name].reset_index(drop=True)
        side.attrs = {**table.attrs, "split": said}
        sides.append(side)
    check_disjoint(*sides)
    log.info("%s%s", said["sentence"], f" Not used: {listed(rest)}." if rest else "")
    return sides[0], sides[1]


def _shares(valid: object) -> dict[str, float]:
    """Check the asked shares."""
    if isinstance(valid, Mapping):
        shares = {str(k): float(v) for k, v in valid.items()}
        if len(shares) < 2 or not all(0 < v < 1 for v in shares.values()):
            raise ValueError(f"valid={dict(valid)!r}: name at least two splits, each with a share above 0.")
        if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
            raise ValueError(f"valid={dict(valid)!r}: the shares add up to {sum(shares.values()):g}, not 1.")
        return shares
    if not isinstance(valid, Real) or not 0 < float(valid) < 1:
        raise ValueError(f"valid={valid!r} is no share: give a number between 0 and 1, as in valid=0.2.")
    return {"train": 1.0 - float(valid), "valid": float(valid)}


def _sorted_codes(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Sort the distinct patients, so that the order of the rows does not matter, and number the rows."""
    patients, codes = np.unique(column.to_numpy(dtype=object).astype(str), return_inverse=True)
    return patients, codes


def _assign(counts: np.ndarray, shares: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Give each row of counts (patients, strata) to a split; return the number of its split."""
    totals = counts.sum(axis=0)
    wanted = shares[:, None] * totals
    scale = 1.0 / (wanted * totals)  # a chi-square of the deviation, each stratum with the same weight
    order = random.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    held = np.zeros_like(wanted)
    chosen = np.empty(len(counts), dtype=np.int64)
    for i in order:
        row = counts[i]
        cost = (row * (2.0 * (held - wanted) + row) * scale).sum(axis=1)
        best = int(np.argmin(cost))
        chosen[i] = best
        held[best] += row
    for split in range(len(shares)):
        if not (chosen == split).any():
            # A share so small that no patient fits: an empty split would fail far from here.
            fullest = np.bincount(chosen, minlength=len(shares)).argmax()
            givers = order[chosen[order] == fullest]
            chosen[givers[-1]] = split
    return chosen


def check_disjoint(*tables: pd.DataFrame) -> None:
    """Refuse a split that puts one patient, or one file, on two sides.

    Parameters
    ----------
    *tables : DataFrame
        One table, whose ``split`` column is checked; or several, one a side.

    Raises
    ------
    ValueError
        Names the patients (the first five) that are on two sides.

    Examples
    --------
    >>> import pandas as pd
    >>> train = pd.DataFrame({"patient": ["p1", "p2"], "path": ["a", "b"]})
    >>> valid = pd.DataFrame({"patient": ["p2", "p3"], "path": ["c", "d"]})
    >>> check_disjoint(train, valid)
    Traceback (most recent call last):
        ...
    ValueError: 1 patient on two sides: p2. Split by patient: siamura.split_patients(table).
    """
    if not tables:
        raise ValueError("give check_disjoint one table with a split column, or one table a side.")
    if len(tables) == 1:
        check_table(tables[0], ("patient", "split"))
        sides = [side for _, side in tables[0].groupby("split", sort=False)]
    else:
        for table in tables:
            check_table(table, ("patient",))
        sides = list(tables)
    for column, what in (("patient", "patient"), ("path", "file")):
        seen: set[str] = set()
        shared: set[str] = set()
        for side in sides:
            if column in side:
                here = set(side[column])
                shared |= seen & here
                seen |= here
        if shared:
            first = sorted(map(str, shared))[:5]
            more = f" and {len(shared) - 5} more" if len(shared) > 5 else ""
            raise ValueError(
                f"{len(shared)} {what}{'s' if len(shared) > 1 else ''} on two sides: "
                f"{', '.join(first)}{more}. Split by patient: siamura.split_patients(table)."
            )
