"""Windows over a series of measurements in a CSV file, each with the values that follow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from trainer.errors import DataError, nearest
from trainer.lazy import np
from trainer.options import NonNegativeInt, PositiveInt, Rule, Str
from trainer.sources.base import Places, Source
from trainer.sources.columns import Field, Rows, Table, Unreadable
from trainer.sources.csv_files import Csv, Delimiter, Encoding, Names, read_csv
from trainer.sources.downloading import digest

if TYPE_CHECKING:
    import numpy


def _part(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise ValueError
    if isinstance(value, float) and value >= 1:
        raise ValueError
    return value


Part = Annotated[
    Any,
    Rule("a share between 0 and 1, or a number of windows", _part, {"type": "number", "exclusiveMinimum": 0}),
]


class Series(Source):
    """Windows over columns of a CSV file with a header, in the order of its rows: fields `window` and `next`.

    Window i holds the values at i * stride, one sampling_rate later, and so on, as in Keras's
    timeseries_dataset_from_array (https://keras.io/api/data_loading/timeseries/); `next` holds the target's values at
    the following horizon places, at the same pace: one number when horizon is 1.
    """

    path: Str
    "The file, counted from the recipe's folder or the data folder."
    window: PositiveInt
    "Values of each column in a window (Keras's sequence_length)."
    columns: Names | None = None
    "Columns that a window holds, by the names in the file's first line; null for every one that holds numbers."
    horizon: PositiveInt = 1
    "Values to foretell."
    stride: PositiveInt = 1
    "Rows from the beginning of a window to that of the next one (Keras's sequence_stride)."
    sampling_rate: PositiveInt = 1
    "Rows from one value of a window to the next."
    target: Str | None = None
    "Column to foretell; by default the first of columns."
    test: Part | None = None
    """The last windows are the test rows: a share or a number. They may look back at values of the training rows, as
    every forecast does; training windows whose `next` reaches into the time that test rows foretell are left out."""
    delimiter: Delimiter = ","
    "Character between values."
    encoding: Encoding = "utf-8"
    "Encoding of the file."
    skip_rows: NonNegativeInt = 0
    "Lines to pass over before the header."

    def fields(self) -> dict[str, Field]:
        return self._fields(None if self.columns is None else len(self.columns))

    def _fields(self, width: int | None) -> dict[str, Field]:
        return {"window": Field((self.window, width)), "next": Field(() if self.horizon == 1 else (self.horizon,))}

    def open(self, places: Places) -> Table:
        path = places.file(self.path)
        table = Csv(path=self.path, delimiter=self.delimiter, encoding=self.encoding, skip_rows=self.skip_rows)
        columns = read_csv(path, table, header=True)
        names = self.columns or tuple(n for n, c in columns.items() if isinstance(c, Unreadable) or c.dtype.kind != "O")
        if not names:
            raise DataError(f"{path}: expected a column of numbers, found none", hint="is the delimiter right?")
        series = np.stack([measured(columns, name, path) for name in names], axis=1)
        target = measured(columns, self.target or names[0], path)
        rows = Rows({"window": self._windows(series, path), "next": self._next(target)})
        train, test = self._divided(rows, path)
        return Table(train, test, self._fields(len(names)), {path.name: digest(path)})

    def _windows(self, series: numpy.ndarray, path: Path) -> numpy.ndarray:
        """Shape: (windows, window, columns), a view of the series."""
        need = (self.window + self.horizon - 1) * self.sampling_rate + 1
        if len(series) < need:
            message = f"{path}: a window and what follows it take {need} rows, found {len(series)}"
            raise DataError(message, hint="a smaller window, horizon or sampling_rate")
        reach = (self.window - 1) * self.sampling_rate + 1
        # A view, so that windows take no memory; writeable because torch warns of what is not.
        views = np.lib.stride_tricks.sliding_window_view(series, reach, axis=0, writeable=True)
        return views[: len(series) - need + 1 : self.stride, :, :: self.sampling_rate].transpose(0, 2, 1)

    def _next(self, target: numpy.ndarray) -> numpy.ndarray:
        """Shape: (windows,) or (windows, horizon)."""
        first, rate = self.window * self.sampling_rate, self.sampling_rate
        count = len(target) - first - (self.horizon - 1) * rate
        found = [target[first + k * rate :][:count][:: self.stride] for k in range(self.horizon)]
        return found[0].copy() if self.horizon == 1 else np.stack(found, axis=1)

    def _divided(self, rows: Rows, path: Path) -> tuple[Rows, Rows | None]:
        if self.test is None:
            return rows, None
        held = round(self.test * len(rows)) if isinstance(self.test, float) else self.test
        first = len(rows) - held
        # Of the windows before, those that foretell nothing of what the first test row does.
        trained = first - (self.horizon - 1) * self.sampling_rate // self.stride
        if held < 1 or trained < 1:
            raise DataError(
                f"{path}: test takes {held} of {len(rows)} windows, which leaves {max(0, trained)} to train on"
            )
        return rows.take(slice(0, trained)), rows.take(slice(first, None))


def measured(columns: dict[str, Any], name: str, path: Path) -> numpy.ndarray:
    """A column of numbers as float32.

    Raises:
        DataError: there is none of that name, or it holds text.
    """
    if name not in columns:
        hint = nearest(name, columns) or f"the first line names {', '.join(list(columns)[:8])}"
        raise DataError(f'{path}: there is no column "{name}"', hint=hint)
    column = Rows(columns).column(name)
    if column.dtype.kind == "O":
        raise DataError(f'{path}: column "{name}" holds text ("{column[0][:40]}"), but a series is made of numbers')
    return column.astype("float32")
