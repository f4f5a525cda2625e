"""Rows in memory: named columns of equal length, each an array or a ragged list of integers."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import TYPE_CHECKING, Any

from trainer.errors import DataError
from trainer.lazy import np

if TYPE_CHECKING:
    import numpy


LONG = 16
"Values of a row from which on rows are copied one by one, instead of all by the places of their values."


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length, end to end: row i is values[offsets[i]:offsets[i + 1]]."""

    values: numpy.ndarray
    offsets: numpy.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> numpy.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def lengths(self) -> numpy.ndarray:
        """Entries of each row."""
        return np.diff(self.offsets)

    def take(self, index: numpy.ndarray | slice) -> Ragged:
        """The rows of `index`, in its order: a view where that is a slice of rows that follow each other."""
        if isinstance(index, slice) and index.step in (None, 1):
            start, stop, _ = index.indices(len(self))
            ends = self.offsets[start : max(start, stop) + 1]
            return Ragged(self.values[ends[0] : ends[-1]], ends - ends[0])
        starts, lengths = self.offsets[:-1][index], self.lengths()[index]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        if offsets[-1] < LONG * len(lengths):
            return Ragged(self.values[_places_of(starts, offsets, lengths)], offsets)
        made = np.empty(offsets[-1], self.values.dtype)
        self.copy(starts, lengths, made, offsets[:-1])
        return Ragged(made, offsets)

    def copy(self, starts: numpy.ndarray, lengths: numpy.ndarray, made: numpy.ndarray, places: numpy.ndarray) -> None:
        """Copy so many values from each start on to its place in `made`."""
        for start, length, place in zip(starts.tolist(), lengths.tolist(), places.tolist(), strict=True):
            made[place : place + length] = self.values[start : start + length]

    @classmethod
    def of(cls, rows: Any, dtype: str = "int64") -> Ragged:
        """From a sequence of sequences."""
        offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows], dtype="int64")]).astype("int64")
        values = np.concatenate([np.asarray(r, dtype) for r in rows]) if len(rows) else np.zeros(0, dtype)
        return cls(values, offsets)


def _places_of(starts: numpy.ndarray, offsets: numpy.ndarray, lengths: numpy.ndarray) -> numpy.ndarray:
    """starts[i], starts[i] + 1, … for each of `lengths`, end to end, where row i begins at offsets[i]."""
    whole = "int32" if starts.max(initial=0) + offsets[-1] < 1 << 31 else "int64"
    made = np.repeat((starts - offsets[:-1]).astype(whole), lengths)
    made += np.arange(offsets[-1], dtype=whole)
    return made


@dataclass(frozen=True)
class Unreadable:
    """A column that can't be read, which matters only to whoever reads it."""

    error: DataError
    count: int

    def __len__(self) -> int:
        return self.count

    def take(self, index: numpy.ndarray | slice) -> Unreadable:
        """As many rows as the `index` has."""
        return Unreadable(self.error, len(np.empty(self.count, "bool")[index]))


Column = Any
"numpy.ndarray with rows along the first axis, Ragged, or Unreadable."


def take(column: Column, index: Any) -> Column:
    """The rows of `index` of a column."""
    return column.take(index) if isinstance(column, (Ragged, Unreadable)) else column[index]


@dataclass(frozen=True)
class Field:
    """What a column holds: the shape of one row (None: unknown or ragged), its dtype, and the names of its classes."""

    shape: tuple[int | None, ...] = ()
    dtype: str = "float32"
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Rows:
    """Columns by name, all of one length."""

    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    @property
    def nbytes(self) -> int:
        """Bytes of the columns that can be read."""
        arrays = [c.values if isinstance(c, Ragged) else c for c in self.columns.values()]
        return sum(array.nbytes for array in arrays if not isinstance(array, Unreadable))

    def column(self, name: str) -> Column:
        """A column to read.

        Raises:
            DataError: there is none of that name, or its values are not what they should be.
        """
        if name not in self.columns:
            raise DataError(f'the rows have no column "{name}"', hint=f"they have {', '.join(list(self.columns)[:12])}")
        found = self.columns[name]
        if isinstance(found, Unreadable):
            raise found.error
        return found

    def take(self, index: Any) -> Rows:
        """The rows of `index` (an integer array or a slice), in its order."""
        return Rows({name: take(column, index) for name, column in self.columns.items()})


@dataclass(frozen=True)
class Table:
    """An opened source: its training rows, its own test rows if it has some, and what the columns mean."""

    train: Rows
    test: Rows | None = None
    fields: dict[str, Field] = dataclass_field(default_factory=dict)
    digests: dict[str, str] = dataclass_field(default_factory=dict)
    "File name to sha256 of what was read."
    words: tuple[str, ...] | None = None
    "Token number to word, for text that comes as numbers."
