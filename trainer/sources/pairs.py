"""Pairs of rows of another source, alike or not, for a model that compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from trainer.errors import DataError, nearest
from trainer.lazy import np
from trainer.options import NonNegativeInt, PositiveInt, Str, complaint, raise_all
from trainer.sources.base import Places, Source
from trainer.sources.columns import Column, Field, Ragged, Rows, Table, take
from trainer.sources.drawn import MOST_BYTES, digest_of
from trainer.streams import stream

if TYPE_CHECKING:
    import numpy

    Generator = numpy.random.Generator


class Pairs(Source):
    """Pairs of rows of another source: `left`, `right`, and `same`, 1 where both are of one class; half of them are.

    The class is drawn first, each as often as any other, then two different rows of it, or one row each of two
    classes. Training pairs are drawn from the training rows of the source and test pairs from its test rows: no test
    pair holds a row that a training pair has. A row, and a pair too, may be drawn again.
    """

    source: Source
    "Where the rows come from, such as mnist."
    pairs: PositiveInt = 10_000
    "Training pairs."
    test_pairs: PositiveInt | None = None
    "Test pairs; null for as many to a test row as there are to a training row, none where there are no test rows."
    field: Str | None = None
    "Field of the source to compare; by default its first."
    label: Str | None = None
    "Field of the source that holds the class; by default its last."
    seed: NonNegativeInt = 0
    "Seed that the pairs are drawn from."

    @model_validator(mode="after")
    def _known(self) -> Pairs:
        fields = self.source.fields()
        wrong = [(w, n) for w in ("field", "label") if (n := getattr(self, w)) is not None and n not in (fields or {n})]
        for word, name in wrong:
            hint = nearest(name, fields or ()) or f"it has {', '.join(list(fields or ())[:8])}"
            raise_all([(complaint(f'the source has no field "{name}"', hint), (word,))])
        return self

    def _compared(self, fields: dict[str, Field]) -> tuple[str, str]:
        names = list(fields)
        return self.field or names[0], self.label or names[-1]

    def fields(self) -> dict[str, Field] | None:
        inner = self.source.fields()
        return self._fields(inner) if inner is not None else None

    def _fields(self, inner: dict[str, Field]) -> dict[str, Field]:
        held = inner[self._compared(inner)[0]]
        side = Field(held.shape, held.dtype)
        return {"left": side, "right": side, "same": Field((), "int64", ("different", "same"))}

    def open(self, places: Places) -> Table:
        table = self.source.open(places)
        names = self._compared(table.fields)
        if self.test_pairs is not None and table.test is None:
            raise DataError("test_pairs needs test rows, but the source has none", hint="leave test_pairs out")
        train, drawn = self._rows(table.train, names, "train", self.pairs)
        test = None
        if table.test is not None:
            count = self.test_pairs or max(1, round(self.pairs * len(table.test) / len(table.train)))
            test, held = self._rows(table.test, names, "test", count)
            drawn += held
        return Table(
            train, test, self._fields(table.fields), {**table.digests, "pairs": digest_of(*drawn)}, table.words
        )

    def _rows(self, rows: Rows, names: tuple[str, str], part: str, count: int) -> tuple[Rows, list[Any]]:
        """(the pairs, what was drawn)."""
        shown, classes = rows.column(names[0]), rows.column(names[1])
        if isinstance(classes, Ragged) or classes.ndim > 1 or classes.dtype.kind == "f":
            raise DataError(f'expected a class a row in "{names[1]}"', hint="label names the field that has it")
        left, right, same = draw_pairs(stream(self.seed, "pairs", part), classes, count)
        if _bytes(shown, left) + _bytes(shown, right) > MOST_BYTES:
            raise DataError(f"{count:,} pairs take more than {MOST_BYTES >> 30} GiB", hint="fewer pairs")
        return Rows({"left": take(shown, left), "right": take(shown, right), "same": same}), [left, right, same]


def _bytes(column: Column, index: numpy.ndarray) -> int:
    """What the rows of `index` take."""
    if isinstance(column, Ragged):
        return int(column.lengths()[index].sum()) * column.values.itemsize
    return len(index) * (column.nbytes // max(1, len(column)))


def draw_pairs(
    generator: Generator, classes: numpy.ndarray, count: int
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """(row on the left, row on the right, 1 where their classes are the same) of each pair, half of them 1.

    Raises:
        DataError: there are not two classes, or none has two rows.
    """
    counts = np.unique(classes, return_counts=True)[1]
    several = np.flatnonzero(counts > 1)
    if len(counts) < 2 or not len(several):
        raise DataError(f"pairs need two classes, one with two rows, found {len(counts)} in {len(classes)} rows")
    order, starts = np.argsort(classes, kind="stable"), np.cumsum(counts) - counts
    like, unlike = count // 2, count - count // 2
    one = several[generator.integers(0, len(several), like)]
    a, b = _two(generator, counts[one])
    first, second = _two(generator, np.full(unlike, len(counts)))
    left = np.concatenate([starts[one] + a, starts[first] + generator.integers(0, counts[first])])
    right = np.concatenate([starts[one] + b, starts[second] + generator.integers(0, counts[second])])
    same, mixed = np.repeat([1, 0], [like, unlike]), generator.permutation(count)
    return order[left[mixed]], order[right[mixed]], same[mixed]


def _two(generator: Generator, counts: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Two different numbers below each of the counts."""
    a, b = generator.integers(0, counts), generator.integers(0, counts - 1)
    return a, b + (b >= a)
