"""Labels as people write them, as codes with the classes' names beside.

In a table ``label`` is an int64 code from 0 to C - 1, -1 where it is unknown. The names of the classes, in the
order of the codes, are in ``table.attrs["classes"]`` and, for tables made by `read_studies` from anything but
MURA, in the column ``finding`` row by row; `classes_of` gives them whichever of the two is left. Of two classes
the second (code 1) is the positive one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, Final

import numpy as np
import pandas as pd

from .names import asked_for, listed, pick

DEFAULT: Final = ("normal", "abnormal")
"""The names of two classes that have none of their own."""

ABNORMAL: Final = frozenset({"1", "positive", "abnormal", "yes"})
NORMAL: Final = frozenset({"0", "negative", "normal", "no"})
SPOKEN: Final = frozenset({"positive", "abnormal", "negative", "normal"})

_EMPTY: Final = frozenset(
    {
        "",
        "na",
        "n/a",
        "#n/a",
        "#n/a n/a",
        "#na",
        "nan",
        "-nan",
        "<na>",
        "null",
        "#null!",
        "nat",
        "1.#qnan",
        "-1.#ind",
    }
)
_NUMBER: Final = re.compile(r"[+-]?\d+(?:[.,]\d*)?")


def missing(value: object) -> bool:
    """Return whether a cell is empty: None, NaN, blank, or a word for it such as NA, #N/A and NULL.

    Examples
    --------
    >>> [missing(v) for v in (None, float("nan"), " ", "NA", "#N/A", "null", 0, "none")]
    [True, True, True, True, True, True, False, False]
    """
    if isinstance(value, str):
        return value.strip().casefold() in _EMPTY
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, float | np.floating | Decimal) and bool(value != value)


def label_key(value: object) -> str | None:
    """Give what makes two labels the same: 1, True, "1", "1.0" and " TRUE" are; None where there is none.

    Examples
    --------
    >>> [label_key(v) for v in (1, True, "1.0", "TRUE", " Cyst  of bone ", "cyst of bone", "2,5", None)]
    ['1', '1', '1', '1', 'cyst of bone', 'cyst of bone', '2.5', None]
    """
    if missing(value):
        return None
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    word = " ".join(unicodedata.normalize("NFKC", str(value)).split()).casefold()
    if _NUMBER.fullmatch(word):
        exact = Decimal(word.replace(",", "."))
        return f"{exact.normalize():f}" if exact else "0"
    return {"true": "1", "false": "0"}.get(word, word)


@dataclass
class Seen:
    """The distinct labels of some rows, with how often and how each is written."""

    count: Counter[str] = field(default_factory=Counter)
    spelled: dict[str, Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Iterable[object]) -> Seen:
        """Count the labels of some rows; empty ones are left out."""
        seen = cls()
        for raw, number in Counter((type(v), v) for v in values if not missing(v)).items():
            key = label_key(raw[1])
            if key is not None:
                seen.count[key] += number
                seen.spelled.setdefault(key, Counter())[" ".join(str(raw[1]).split())] += number
        return seen

    def name(self, key: str) -> str:
        """Give a label as it is written most often; numbers in their shortest form."""
        return key if is_number(key) or key not in self.spelled else self.spelled[key].most_common(1)[0][0]

    @property
    def names(self) -> dict[str, str]:
        """All labels by key, in order."""
        return {key: self.name(key) for key in sorted(self.count, key=_natural)}


@dataclass(frozen=True)
class Classes:
    """How labels become codes."""

    names: tuple[str, ...]
    codes: dict[str, int]
    ordered: bool = False
    why: str = ""

    def code(self, value: object) -> int | None:
        """Give a label's code; None where it is empty or of no class."""
        key = label_key(value)
        return None if key is None else self.codes.get(key)


def is_number(key: str) -> bool:
    """Return whether a key is a number."""
    return bool(_NUMBER.fullmatch(key))


def two_classes(values: Iterable[object], positive: object, where: str) -> Classes:
    """Sort labels into normal and abnormal.

    Parameters
    ----------
    values : iterable
        The labels of all rows.
    positive : object
        What means abnormal, one value or any iterable of them; None for the usual words.
    where : str
        What holds the rows, for errors.

    Raises
    ------
    ValueError
        If no row has a value of `positive`, or all labels mean abnormal.
    """
    if positive is None:
        return Classes(DEFAULT, dict.fromkeys(NORMAL, 0) | dict.fromkeys(ABNORMAL, 1))
    seen = Seen.of(values)
    wanted = pick("positive", positive, seen.names, label_key, where)
    rest = [key for key in seen.names if key not in wanted]
    if not rest and len(wanted) > 1:
        raise ValueError(f"positive={positive!r} names every label of {where}: none is left to be normal.")
    names = (
        _joined(seen, rest) if rest else DEFAULT[0],
        _joined(seen, [k for k in seen.names if k in wanted]),
    )
    why = f"positive is {names[1]!r}; negative is {names[0]!r}"
    return Classes(names, dict.fromkeys(rest, 0) | dict.fromkeys(wanted, 1), why=why)


def choose_classes(
    values: Sequence[object],
    where: str,
    positive: object = None,
    classes: object = None,
    ordered: bool | None = None,
) -> Classes:
    """Choose the classes of any labels, and their codes.

    Parameters
    ----------
    values : sequence
        The labels of all rows.
    where : str
        What holds the rows, for errors.
    positive : object
        Of two classes the positive one's values.
    classes : iterable, optional
        All classes in the order of their codes.
    ordered : bool, optional
        Whether the classes are grades. Default: three or more numbers are.

    Raises
    ------
    ValueError
        If no row has a label, a value that is asked for is not there, there is one class alone, or it is not
        clear which of two is the positive one.
    """
    seen = Seen.of(values)
    if not seen.count:
        raise ValueError(f"no row of {where} has a label; fill the column, or name another with columns=.")
    if classes is not None:
        return _given(seen, positive, classes, ordered, where)
    if positive is not None:
        return two_classes(values, positive, where)
    keys = seen.names
    if set(keys) <= NORMAL | ABNORMAL:
        own = [[k for k in keys if k in group and k in SPOKEN] for group in (NORMAL, ABNORMAL)]
        names = tuple(seen.name(k[0]) if k else d for k, d in zip(own, DEFAULT, strict=True))
        codes = dict.fromkeys(NORMAL, 0) | dict.fromkeys(ABNORMAL, 1)
        return Classes(names, codes, why="the labels are the usual words for normal and abnormal")
    if len(keys) == 1:
        raise ValueError(
            f"all {sum(seen.count.values())} labels of {where} are {listed(keys.values())}: one class alone; "
            "name all of them with classes=[...], the positive one last of two."
        )
    if len(keys) == 2:
        return _two(seen, where)
    if len(keys) > 50 and 2 * len(keys) > sum(seen.count.values()):
        raise ValueError(
            f"the labels of {where} have {len(keys)} different values in {sum(seen.count.values())} rows "
            f"({listed(keys.values(), 3)}): is another column the label? Name it with columns=."
        )
    numbers = all(map(is_number, keys))
    order = sorted(keys, key=lambda k: (k not in NORMAL and not numbers, _natural(k)))
    grades = numbers if ordered is None else ordered
    how = (
        "numbers, so taken as ordered grades (ordered=False if they are not)"
        if grades and numbers
        else "named"
    )
    return Classes(
        tuple(map(seen.name, order)),
        {key: code for code, key in enumerate(order)},
        grades,
        f"there are {len(order)} different labels, {how}",
    )


def _two(seen: Seen, where: str) -> Classes:
    """Find the positive one of two labels, where one of them is a usual word."""
    keys = list(seen.names)
    for at, (first, other) in enumerate((keys, keys[::-1])):
        normal, abnormal = first in NORMAL, first in ABNORMAL
        if (normal or abnormal) and not is_number(other):
            pair = (first, other) if normal else (other, first)
            named = tuple(seen.name(k) if not is_number(k) else DEFAULT[i] for i, k in enumerate(pair))
            why = f"{seen.name(keys[at])!r} is a usual word for {'normal' if normal else 'abnormal'}"
            return Classes(named, {pair[0]: 0, pair[1]: 1}, why=why)
    first, second = seen.names.values()
    raise ValueError(
        f"which of the labels {listed((first, second))} of {where} is the positive one is not clear: say so "
        f"with positive={second!r}, or with classes=[negative, positive]."
    )


def _given(seen: Seen, positive: object, classes: object, ordered: bool | None, where: str) -> Classes:
    """Take the classes as they are named."""
    wanted = asked_for("classes", classes)
    keys = [label_key(one) for one in wanted]
    if len(keys) < 2 or len(set(keys)) < len(keys) or None in keys:
        raise ValueError(f"classes={wanted!r}: name at least two classes, each once.")
    codes = {str(key): code for code, key in enumerate(keys)}
    lacking = {key: name for key, name in seen.names.items() if key not in codes}
    if lacking:
        number = sum(seen.count[key] for key in lacking)
        raise ValueError(
            f"classes={wanted!r} leaves out {listed(lacking.values())}, which {number} rows of {where} have; "
            "name all classes, or leave those rows out."
        )
    if positive is not None and [label_key(p) for p in asked_for("positive", positive)] != keys[1:]:
        raise ValueError(
            f"positive={positive!r} beside classes={wanted!r}: of two classes the second is the positive one; "
            "of more none is. Leave positive out."
        )
    names = tuple(" ".join(str(one).split()) for one in wanted)
    return Classes(names, codes, bool(ordered) and len(names) > 2, "classes= names them")


def classes_of(table: pd.DataFrame) -> tuple[str, ...]:
    """Name the classes of a table's labels, in the order of their codes.

    Taken from ``table.attrs["classes"]``; where pandas has lost that (after a merge, say), from the column
    ``finding`` beside ``label``; else ("normal", "abnormal") for labels 0 and 1, and the codes themselves for
    more.

    Parameters
    ----------
    table : DataFrame
        With the column ``label`` (int64; -1 is unknown) as the readers return it.

    Returns
    -------
    tuple of str
        At least two names; ``names[label]`` is a row's class. Of two, the second is the positive one.

    Raises
    ------
    ValueError
        If ``label`` is no whole number of at least -1, or names and labels contradict each other.

    Examples
    --------
    >>> table = pd.DataFrame({"label": [0, 2, 1], "finding": ["normal", "fracture", "cyst"]})
    >>> classes_of(table)
    ('normal', 'cyst', 'fracture')
    >>> classes_of(pd.DataFrame({"label": [0, 1]}))
    ('normal', 'abnormal')
    """
    if "label" not in table:
        raise ValueError(f"table has no column 'label' (its columns: {listed(table.columns)}).")
    if len(table) and table["label"].dtype.kind not in "iub":
        raise ValueError(
            f"table['label'] is {table['label'].dtype}; codes from 0 are wanted: make the table with read_studies."
        )
    codes = sorted({int(code) for code in table["label"].unique()} - {-1})
    if codes and codes[0] < 0:
        raise ValueError(f"table['label'] holds {codes[0]}; codes are 0 or more, -1 where unknown.")
    most = codes[-1] if codes else -1
    names = tuple(str(name) for name in table.attrs.get("classes", ()))
    by_row = _findings(table)
    if not names and by_row:
        size = max(2, most + 1)
        default = DEFAULT if size == 2 else tuple(map(str, range(size)))
        names = tuple(by_row.get(code, default[code]) for code in range(size))
    names = names or (DEFAULT if most < 2 else tuple(map(str, range(most + 1))))
    if most >= len(names):
        raise ValueError(
            f"table.attrs['classes'] names {len(names)} classes ({listed(names)}), but label holds {most}."
        )
    wrong = [code for code, name in by_row.items() if names[code] != name]
    if wrong:
        raise ValueError(
            f"table['finding'] is {by_row[wrong[0]]!r} where table.attrs['classes'] names label {wrong[0]} "
            f"{names[wrong[0]]!r}: one of them was changed; read the table again."
        )
    return names


def _findings(table: pd.DataFrame) -> dict[int, str]:
    """Read the name of each code from the column ``finding``, where it is one name a code."""
    if "finding" not in table or not len(table):
        return {}
    pairs = table.loc[table["label"] >= 0, ["label", "finding"]].dropna().drop_duplicates()
    one_each = pairs["label"].is_unique and pairs["finding"].is_unique
    return {int(c): str(n) for c, n in zip(pairs["label"], pairs["finding"], strict=True)} if one_each else {}


def _joined(seen: Seen, keys: Sequence[str], most: int = 3) -> str:
    """Name a class made of several labels."""
    names = [seen.name(key) for key in keys]
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return " or ".join(names[:most] + more)


def _natural(key: str) -> tuple[Any, ...]:
    """Sort numbers by value, and words with numbers in them by those."""
    if is_number(key):
        return (0, float(key), key)
    return (1, 0.0, [(0, int(t), "") if t.isdecimal() else (1, 0, t) for t in re.split(r"(\d+)", key) if t])
