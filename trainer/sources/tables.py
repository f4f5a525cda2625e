"""Tables: CSV files, NPZ files, and the named sets that are tables."""

from __future__ import annotations

import csv as csv_text
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from trainer.errors import DataError, EnvironmentFault, FileError
from trainer.lazy import np
from trainer.options import Bool, NonNegativeInt, ProperFraction, Rule, Str, integer
from trainer.sources.arrays import read_npz
from trainer.sources.base import Places, Source
from trainer.sources.columns import Field, Rows, Table
from trainer.sources.finding import Published, digest, find

if TYPE_CHECKING:
    import numpy

MOSTLY = 0.9
"A column counts as numbers when at least this share of its values are."


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(v, str) for v in values):
        raise TypeError
    return tuple(values)


_TEXT_OR_LIST = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
Texts = Annotated[tuple[str, ...], Rule("a text or a list of texts", _texts, _TEXT_OR_LIST)]


class Csv(Source):
    """A table of comma-separated values; columns without names are called 0, 1, 2, …"""

    path: Str
    "The file, counted from the recipe's folder or the data folder."
    names: Texts | None = None
    "Column names, when the file has no header."
    header: Bool | None = None
    "Whether the first line holds names; by default yes, unless names are given."
    delimiter: Str = ","
    "Character between values."
    missing: Texts = ()
    "Texts that stand for a missing value, beside the empty one; rows that lack a value in a column are refused."
    encoding: Str = "utf-8"
    "Encoding of the file."
    skip_rows: NonNegativeInt = 0
    "Lines to pass over at the start."

    def fields(self) -> dict[str, Field] | None:
        return {name: Field() for name in self.names} if self.names is not None else None

    def open(self, places: Places) -> Table:
        path = places.file(self.path)
        with_header = self.header if self.header is not None else self.names is None
        columns = read_csv(path, self, with_header)
        fields = {n: Field((), str(c.dtype) if c.dtype.kind != "O" else "string") for n, c in columns.items()}
        return Table(Rows(columns), None, fields, {path.name: digest(path)})


def read_csv(path: Path, options: Csv, header: bool) -> dict[str, numpy.ndarray]:
    """The columns of a CSV file by name: float32, int64 or text.

    Raises:
        DataError: ragged or empty rows, names that clash, values that are no numbers.
        FileError: the file can't be read.
    """
    try:
        import pyarrow
        from pyarrow import csv
    except ImportError:
        raise EnvironmentFault("reading CSV needs pyarrow", hint="pip install 'recipe-trainer[data]'") from None
    reading = csv.ReadOptions(
        skip_rows=options.skip_rows, autogenerate_column_names=not header, encoding=options.encoding
    )
    try:
        parsing = csv.ParseOptions(delimiter=options.delimiter)
        converting = csv.ConvertOptions(column_types={}, null_values=["", *options.missing], strings_can_be_null=True)
        table = csv.read_csv(path, reading, parsing, converting)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowException, OSError, UnicodeError, LookupError, ValueError) as error:
        raise DataError(f"{path}: {_said(error)}", hint=_remedy(str(error)), code="csv") from None
    names = list(options.names) if options.names is not None else [str(n) for n in table.column_names]
    if not header and options.names is None:
        names = [str(i) for i in range(table.num_columns)]
    _check_names(path, names, table.num_columns)
    if table.num_rows == 0:
        raise DataError(f"{path}: there are no rows")
    first = 1 + options.skip_rows + header
    return {n: _column(path, n, table.column(i), first) for i, n in enumerate(names)}


def _said(error: Exception) -> str:
    return str(error).split("\n")[0].replace("CSV parse error: ", "")


def _remedy(text: str) -> str:
    if "UTF8" in text or "utf-8" in text.lower() or "codec" in text:
        return "name the file's encoding: {encoding: latin-1}"
    return "every row needs the same number of values" if "Expected" in text else ""


def _check_names(path: Path, names: list[str], width: int) -> None:
    if len(names) != width:
        raise DataError(f"{path}: expected {len(names)} columns, one a name, found {width}")
    twice = [n for i, n in enumerate(names) if n in names[:i]]
    if twice:
        raise DataError(f'{path}: two columns are called "{twice[0]}"', hint="give other names")


def _column(path: Path, name: str, column: Any, first: int) -> numpy.ndarray:
    import pyarrow

    kind = column.type
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        if column.null_count < len(column) and not pyarrow.types.is_null(kind):
            _refuse_text(path, name, column, first)
        raise DataError(f'{path}:{first + row}: column "{name}" has no value', hint="remove the row, or fill it in")
    if pyarrow.types.is_integer(kind):
        return column.to_numpy().astype("int64")
    if pyarrow.types.is_boolean(kind):
        return np.asarray(column.to_pylist(), "int64")
    if pyarrow.types.is_floating(kind):
        values = column.to_numpy().astype("float32")
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            row = int(bad[0])
            raise DataError(f'{path}:{first + row}: column "{name}" holds {values[row]}, which is no finite number')
        return values
    texts = column.cast(pyarrow.string()) if not pyarrow.types.is_string(kind) else column
    _refuse_text(path, name, texts, first)
    return np.asarray(texts.to_pylist(), dtype=object)


def _refuse_text(path: Path, name: str, column: Any, first: int) -> None:
    """Refuse a column of numbers in which a few values are none; a column of text is left alone."""
    values = [v for v in enumerate(column.to_pylist()) if v[1] is not None]
    odd = [(row, v) for row, v in values if isinstance(v, str) and not _is_number(v)]
    if odd and len(odd) <= (1 - MOSTLY) * len(values):
        row, value = odd[0]
        hint = f'say that it is missing: {{missing: "{value}"}}, or mend the row' if len(value) < 20 else ""
        raise DataError(f'{path}:{first + row}: column "{name}" holds "{value[:40]}", expected a number', hint=hint)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


class Npz(Source):
    """Arrays of an .npz file as columns; x_train, y_train, x_test, y_test become train and test rows of x and y."""

    path: Str
    "The file, counted from the recipe's folder or the data folder."

    def open(self, places: Places) -> Table:
        path = places.file(self.path)
        arrays = read_npz(path)
        parts = {p: {n.removesuffix(f"_{p}"): a for n, a in arrays.items() if n.endswith(f"_{p}")} for p in PARTS}
        train = parts["train"] or {n: a for n, a in arrays.items() if not n.endswith("_test")}
        for name, columns in (("train", train), ("test", parts["test"])):
            lengths = {n: len(a) if a.ndim else -1 for n, a in columns.items()}
            if len(set(lengths.values())) > 1 or -1 in lengths.values():
                found = ", ".join(f"{n}: {v}" for n, v in lengths.items())
                raise DataError(f"{path}: expected {name} arrays of equal length, found {found}")
        fields = {n: Field(tuple(a.shape[1:]), str(a.dtype)) for n, a in train.items()}
        test = Rows(parts["test"]) if parts["test"] else None
        return Table(Rows(train), test, fields, {path.name: digest(path)})


PARTS = ("train", "test")


class BostonHousing(Source):
    """Boston house prices, 404 + 102 rows of 13 measurements (Harrison and Rubinfeld, 1978); price in 1,000 dollars."""

    test_split: ProperFraction = 0.2
    "The last share of the shuffled rows is the test part."
    seed: Annotated[int, Rule("an integer", integer, {"type": "integer"})] = 113
    "Seed of the shuffling (numpy's RandomState, as Keras's loader does it)."

    def fields(self) -> dict[str, Field]:
        return {"features": Field((13,), "float32"), "price": Field((), "float32")}

    def open(self, places: Places) -> Table:
        published = Published(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/boston_housing.npz",
            "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5",
        )
        path = find(places, "boston_housing.npz", (), published)
        arrays = read_npz(path)
        x, y = arrays.get("x"), arrays.get("y")
        if x is None or y is None or x.shape[1:] != (13,) or y.shape != x.shape[:1]:
            raise FileError(f"{path}: expected x with 13 columns and y")
        order = np.arange(len(x))
        np.random.RandomState(self.seed).shuffle(order)
        x, y = x[order].astype("float32"), y[order].astype("float32")
        at = int(len(x) * (1 - self.test_split))
        train, test = Rows({"features": x[:at], "price": y[:at]}), Rows({"features": x[at:], "price": y[at:]})
        return Table(train, test, self.fields(), {path.name: digest(path)})


class PimaIndiansDiabetes(Source):
    """768 Pima women: eight measurements, and whether diabetes began within five years (Smith et al., 1988)."""

    def fields(self) -> dict[str, Field]:
        named = {str(i): Field((), "float32") for i in range(8)}
        return {**named, "8": Field((), "int64", ("healthy", "diabetic"))}

    def open(self, places: Places) -> Table:
        path = find(places, "pima-indians-diabetes.csv")
        try:
            lines = [row for row in csv_text.reader(path.read_text(encoding="ascii").splitlines()) if row]
            values = np.asarray([[float(v) for v in row] for row in lines], "float32")
        except (ValueError, OSError, csv_text.Error) as error:
            raise FileError(f"{path}: expected nine numbers a row: {error}") from None
        if values.ndim != 2 or values.shape[1] != 9:
            raise FileError(f"{path}: expected nine numbers a row, found the shape {values.shape}")
        columns: dict[str, Any] = {str(i): values[:, i] for i in range(8)}
        columns["8"] = values[:, 8].astype("int64")
        return Table(Rows(columns), None, self.fields(), {path.name: digest(path)})
