"""Tables of pandas, and a vector a row, in a table of SQL: the kinds of their columns, values, conditions."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import ArrayLike, NDArray

from ._arrays import pack, unpack
from ._pgvector import vector_type
from ._validation import check_columns, check_filled, check_positions

__all__ = ["VectorTable", "one_of"]

log = logging.getLogger(__name__)

KINDS: dict[str, Any] = {"str": sa.Text, "int64": sa.BigInteger, "float64": sa.Double, "bool": sa.Boolean}
_WORDS = {
    "str": "text (Unicode)",
    "bool": "True or False",
    "int64": "whole numbers (int64)",
    "float64": "numbers",
}
_TEXT = "str" if pd.__version__ >= "3" else object


def value_of(value: Any, kind: str, name: str) -> Any:
    """Give one value as a column's kind, or refuse it: "1" is no number, and 1 is no truth value.

    Examples
    --------
    >>> value_of(3, "float64", "age")
    3.0
    >>> value_of("1", "int64", "label")
    Traceback (most recent call last):
    ValueError: label='1' does not fit the column; give whole numbers (int64).
    """
    if kind == "str" and isinstance(value, str):
        if value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value):
            return value
    elif isinstance(value, bool | np.bool_):
        if kind == "bool":
            return bool(value)
    elif kind == "float64" and isinstance(value, Real) and value == value:
        return float(value)
    elif kind == "int64" and isinstance(value, Integral | float | np.floating):
        number: Any = value
        if number % 1 == 0 and abs(number) < 2**63:
            return int(number)
    raise ValueError(f"{name}={value!r} does not fit the column; give {_WORDS[kind]}.")


def fit(
    table: pd.DataFrame,
    held: Mapping[str, str],
    allowed: Mapping[str, Sequence[str]],
    reserved: Sequence[str],
) -> tuple[dict[str, str], dict[str, list[Any]]]:
    """Give the columns held, and those that are new, with their kinds; and the table's values by column.

    `allowed`: of some columns, the kinds that they may have. No name may be reserved, begin with ``case_``, or differ
    from another by capitals alone. Missing values are None.
    """
    columns, values = dict(held), {}
    for i, name in enumerate(table.columns):
        if not isinstance(name, str) or name in reserved or name.startswith("case_"):
            raise ValueError(f"table has a column {name!r}, a name that the index uses itself; rename it.")
        others = [*(other for other in held if other != name), *table.columns[:i]]
        if name.lower() in map(str.lower, others):
            raise ValueError(
                f"table has the column {name!r} twice, or one that differs by case alone stands there or in the index; "
                "leave it out, or rename it."
            )
    for key, column in table.items():
        name = str(key)
        said = f"table[{name!r}]"
        own = {"b": "bool", "i": "int64", "u": "int64", "f": "float64"}.get(column.dtype.kind, "str")
        if own not in (wanted := allowed.get(name, KINDS)):
            raise ValueError(
                f"{said} is {column.dtype}; give {' or '.join(_WORDS[each] for each in wanted)}."
            )
        kind = columns.setdefault(name, own)
        listed = zip(column.isna(), column.tolist(), strict=True)
        # By its own kind first: 2**64 is no whole number that could be read again, and would be a float.
        values[name] = [
            None if missing else value_of(value if kind == own else value_of(value, own, said), kind, said)
            for missing, value in listed
        ]
    return columns, values


def frame_of(
    rows: Sequence[Sequence[Any]], kinds: Mapping[str, str], front: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Make a table of rows from the database; their first values are its index, unless columns stand in `front`."""
    made = dict[str, Any]() if front is None else dict(front)
    columns = dict(zip(kinds, list(zip(*rows, strict=True))[1:] or [()] * len(kinds), strict=True))
    # All texts at once: making an array of them takes longer than a search among some thousand cases.
    texts = [name for name, kind in kinds.items() if kind == "str"]
    joined = pd.array([value for name in texts for value in columns[name]], dtype=cast("Any", _TEXT))
    for name, kind in kinds.items():
        if kind == "str":
            at = texts.index(name) * len(rows)
            made[name] = joined[at : at + len(rows)]
            continue
        if None in columns[name]:
            kind = {"int64": "Int64", "bool": "boolean"}.get(kind, kind)
        made[name] = pd.array(list(columns[name]), dtype=cast("Any", kind))
    numbers = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    return pd.DataFrame(made, index=numbers if front is None else pd.RangeIndex(len(rows)), copy=False)


def one_of(column: sa.ColumnElement[Any], numbers: Iterable[int]) -> Any:
    """Condition that a column is one of some whole numbers, however many: they stand in the statement itself."""
    listed = [int(number) for number in numbers]
    return column.in_(sa.bindparam("numbers", listed, expanding=True, literal_execute=True))


def conditions(
    column_of: Callable[[str], Any], kinds: Mapping[str, str], asked: Iterable[tuple[str, Any]]
) -> list[Any]:
    """Conditions on columns: a value, some (list, set, array), a range of numbers (tuple), or None (missing)."""
    found: list[Any] = []
    for name, wanted in asked:
        column = column_of(name)
        kind = kinds[name]
        if wanted is None:
            found.append(column.is_(None))
        elif isinstance(wanted, tuple) and kind in ("int64", "float64"):
            if len(wanted) != 2:
                raise ValueError(
                    f"{name}={wanted!r}: a tuple is a range (least, most), with None for no bound."
                )
            least, most = (None if end is None else value_of(end, "float64", name) for end in wanted)
            found.append(column.is_not(None))
            found += [] if least is None else [column >= least]
            found += [] if most is None else [column <= most]
        elif isinstance(wanted, list | tuple | set | frozenset | range | np.ndarray | pd.Series | pd.Index):
            if len(wanted) > 30_000:
                raise ValueError(f"{name} asks for {len(wanted)} values; ask for at most 30,000 at once.")
            found.append(column.in_([value_of(value, kind, name) for value in wanted]))
        else:
            found.append(column == value_of(wanted, kind, name))
    return found


class VectorTable:
    """Rows with a vector each, as one transaction sees them.

    The person's columns have their own names, under the keys c0, c1, ...; beside them stand a number, a digest, the
    vector, and its checksum.
    """

    name = "siamura_cases"
    required: Mapping[str, Sequence[str]] = {}  # columns that there must be, and the kinds that they may have
    reserved: Sequence[str] = ()  # names of no column

    def __init__(self, connection: sa.Connection, postgres: bool, dim: int, columns: dict[str, str]) -> None:
        self.connection, self.postgres, self.dim, self.columns = connection, postgres, dim, columns

    @property
    def table(self) -> sa.Table:
        """The table in SQL."""
        return _table(self.name, self.postgres, self.dim, tuple(self.columns.items()))

    def column(self, name: str) -> Any:
        """A column by the person's name."""
        if name not in self.columns:
            held = ", ".join(self.columns) or "no case yet"
            raise ValueError(f"column {name!r} is not in the index; it holds {held}.")
        return self.table.c[f"c{list(self.columns).index(name)}"]

    def conditions(self, where: Iterable[tuple[str, Any]], numbers: ArrayLike | None = None) -> list[Any]:
        """Conditions on columns, and on the rows' numbers."""
        asked = [] if numbers is None else [one_of(self.table.c.number, check_positions("cases", numbers))]
        return asked + conditions(self.column, self.columns, where)

    def select(self, columns: Sequence[Any], *given: Any) -> Any:
        """These columns of the rows under these conditions, in the order of their numbers."""
        return self.connection.execute(sa.select(*columns).where(*given).order_by(self.table.c.number))

    def rows(self, *given: Any) -> pd.DataFrame:
        """Rows under these conditions; the frame's index holds their numbers."""
        found = self.select([self.table.c.number, *map(self.column, self.columns)], *given)
        return frame_of(found.fetchall(), self.columns or dict.fromkeys(self.required, "str"))

    def rows_of(self, numbers: NDArray[np.int64], front: Mapping[str, Any]) -> pd.DataFrame:
        """Rows of these numbers in their order, behind the columns of `front`."""
        columns = [self.table.c.number, *map(self.column, self.columns)]
        found = {
            row[0]: row for row in self.select(columns, one_of(self.table.c.number, set(numbers.tolist())))
        }
        rows = [found[number] for number in numbers.tolist()]
        return frame_of(rows, self.columns or dict.fromkeys(self.required, "str"), front)

    def numbers(self, *given: Any) -> NDArray[np.int64]:
        """Numbers of the rows under these conditions, of SQLite: as one text, read in a fifth of the time of rows."""
        asked = sa.select(sa.func.group_concat(self.table.c.number)).where(*given)
        found = self.connection.execute(asked).scalar()
        return np.fromstring(found, np.int64, sep=",") if found else np.empty(0, np.int64)

    def embeddings(self, *given: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers and vectors of the rows under these conditions, of those whose checksum is right."""
        c = self.table.c
        if not self.postgres:  # by its length: nothing larger than a vector is read
            given = (*given, sa.func.length(c.vector) == 4 * self.dim)
        found = self.select([c.number, c.crc, c.vector], *given).fetchall()
        if self.postgres:
            found = ((number, crc, pack(vector)) for number, crc, vector in found)
        return unpack(found, self.dim)

    def frame(self, *given: Any) -> pd.DataFrame:
        """All that is kept of the rows: their columns, ``case_digest`` and ``case_vector``."""
        numbers, vectors = self.embeddings(*given)
        digests = self.select([self.table.c.digest], *given).scalars().all()
        rows = self.rows(*given).assign(case_digest=digests).loc[numbers]
        return rows.assign(case_vector=list(vectors)).reset_index(drop=True)

    def fit(self, table: pd.DataFrame) -> list[list[Any]]:
        """Add the columns that are new; give the values of a table, checked, in the order of the columns held."""
        held, count = self.columns, len(check_columns(table, self.required))
        self.columns, values = fit(table, held, self.required, self.reserved)
        check_filled(table, self.required)
        new = [name for name in self.columns if name not in held]
        absent = [name for name in held if name not in values]
        for column in map(self.column, new):
            words = sa.schema.CreateColumn(column).compile(self.connection)
            self.connection.exec_driver_sql(f"ALTER TABLE {self.name} ADD COLUMN {words}")
            for index in self.table.indexes:
                if any(column is each for each in index.columns):
                    index.create(self.connection)
        for names, whose in ((new if held else [], "earlier"), (absent, "new")):
            if names:
                log.warning("missing values for %s of the %s cases", ", ".join(names), whose)
        return [values.get(name, [None] * count) for name in self.columns]

    def change(self, values: Mapping[str, Any] | None, given: Sequence[Any]) -> int:
        """Write other values into the rows under these conditions, or (None) delete them; return how many."""
        command: Any = self.table.delete()
        if values is not None:
            made = {}
            for name, value in values.items():
                column, empty = self.column(name), value is None and name not in self.required
                made[column] = None if empty else value_of(value, self.columns[name], name)
            command = self.table.update().values(made)
        return int(self.connection.execute(command.where(*given)).rowcount)


@functools.lru_cache(32)  # SQLAlchemy compiles its statements once for each such object
def _table(name: str, postgres: bool, dim: int, columns: tuple[tuple[str, str], ...]) -> sa.Table:
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("case_number", sa.BigInteger, primary_key=True, autoincrement=False, key="number"),
        sa.Column("case_digest", sa.Text, nullable=False, key="digest"),
        sa.Column("case_crc32", sa.BigInteger, nullable=False, key="crc"),
        sa.Column(
            "case_vector", vector_type(dim) if postgres else sa.LargeBinary, nullable=False, key="vector"
        ),
        *(
            sa.Column(name, KINDS[kind], key=f"c{i}", quote=True, index=name == "patient")
            for i, (name, kind) in enumerate(columns)
        ),
    )
