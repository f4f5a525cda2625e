"""CSV files: typed columns, and the place of whatever is wrong in one."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from trainer.errors import DataError, EnvironmentFault
from trainer.lazy import np
from trainer.options import Bool, NonNegativeInt, Rule, Str
from trainer.sources.base import Places, Source
from trainer.sources.columns import Column, Field, Rows, Table, Unreadable
from trainer.sources.csv_places import line_of, undecodable, uneven
from trainer.sources.downloading import digest

if TYPE_CHECKING:
    import numpy

MOSTLY = 0.9
"A column counts as numbers when at least this share of its values are."
NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*|[+-]?(nan|inf)", re.IGNORECASE)


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(v, str) for v in values):
        raise TypeError
    return tuple(values)


def _names(value: Any) -> tuple[str, ...]:
    names = _texts(value)
    if not names or len(set(names)) < len(names):
        raise ValueError
    return names


def _delimiter(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 1 or not value.isascii() or value in '"\r\n\0':
        raise ValueError
    return value


def _encoding(value: Any) -> str:
    try:
        "a".encode(value)
        return value
    except (LookupError, UnicodeError):
        raise ValueError from None


_TEXT_OR_LIST = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
Texts = Annotated[tuple[str, ...], Rule("a text or a list of texts", _texts, _TEXT_OR_LIST)]
Names = Annotated[tuple[str, ...], Rule("a list of names, each once", _names, _TEXT_OR_LIST)]
Delimiter = Annotated[
    str, Rule("one ASCII character, no quote and no line end", _delimiter, {"type": "string", "maxLength": 1})
]
Encoding = Annotated[str, Rule("an encoding of text that Python knows", _encoding, {"type": "string"})]


class Csv(Source):
    """A table of comma-separated values; columns without names are called 0, 1, 2, …"""

    path: Str
    "The file, counted from the recipe's folder or the data folder."
    names: Names | None = None
    "Column names, when the file has no header."
    header: Bool | None = None
    "Whether the first line holds names; by default yes, unless names are given."
    delimiter: Delimiter = ","
    "Character between values."
    missing: Texts = ()
    """Texts that stand for a missing value. Rows that lack a number are refused, and so are empty texts unless "" is
    named here; in a column of text, what is named here becomes the empty text."""
    strip: Bool = True
    "Whether white space around texts is left out."
    encoding: Encoding = "utf-8"
    "Encoding of the file."
    skip_rows: NonNegativeInt = 0
    "Lines to pass over at the start."

    def fields(self) -> dict[str, Field] | None:
        return {name: Field() for name in self.names} if self.names is not None else None

    def open(self, places: Places) -> Table:
        path = places.file(self.path)
        with_header = self.header if self.header is not None else self.names is None
        columns = read_csv(path, self, with_header)
        fields = {n: Field((), _dtype(c)) for n, c in columns.items()}
        return Table(Rows(columns), None, fields, {path.name: digest(path)})


def _dtype(column: Column) -> str:
    if isinstance(column, Unreadable):
        return "unknown"
    return str(column.dtype) if column.dtype.kind != "O" else "string"


def read_csv(path: Path, options: Csv, header: bool) -> dict[str, Column]:
    """The columns of a CSV file by name: float32, int64, text, or unreadable with the place of the first wrong value.

    Raises:
        DataError: ragged or empty rows, names that clash; names file and line.
    """
    table = _table(path, options, header, {})
    names = _names_of(path, options, header, table)
    # pyarrow would write dates and times in its own form; such columns are read again as the text that they are.
    odd = {
        str(given): "string" for given, kind in zip(table.column_names, table.schema.types, strict=True) if _odd(kind)
    }
    # Texts are read as they are: with the marks of missing values, which are no gaps there.
    odd |= {str(n): "string" for n, k in zip(table.column_names, table.schema.types, strict=True) if _is_text(k)}
    texts = _table(path, options, header, odd, gaps=False) if odd else table
    if table.num_rows == 0:
        raise DataError(f"{path}: there are no rows", code="csv")
    read = [texts if str(given) in odd else table for given in table.column_names]
    return {n: Reader(path, options, header, n).read(read[i].column(i)) for i, n in enumerate(names)}


def _table(path: Path, options: Csv, header: bool, types: dict[str, Any], *, gaps: bool = True) -> Any:
    try:
        import pyarrow
        from pyarrow import csv
    except ImportError:
        raise EnvironmentFault("reading CSV needs pyarrow", hint="pip install 'recipe-trainer[data]'") from None
    reading = csv.ReadOptions(
        skip_rows=options.skip_rows, autogenerate_column_names=not header, encoding=options.encoding
    )
    parsing = csv.ParseOptions(delimiter=options.delimiter, newlines_in_values=True)
    converting = csv.ConvertOptions(
        column_types=types,
        null_values=["", *options.missing],
        strings_can_be_null=gaps,
        quoted_strings_can_be_null=True,
    )
    try:
        return csv.read_csv(path, reading, parsing, converting)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _refusal(path, options, str(error)) from None


def _refusal(path: Path, options: Csv, said: str) -> DataError:
    """What pyarrow says of a file, in the user's terms and with the line."""
    wrong = undecodable(path, options.encoding)
    if wrong is not None:
        message = f"{path}:{wrong}: the line holds bytes that are not {options.encoding}"
        return DataError(message, hint="name the file's encoding: {encoding: latin-1}", code="csv")
    if "Empty CSV" in said or "Could not skip" in said:
        return DataError(f"{path}: there are no rows", code="csv")
    if "straddling" in said:
        message = f"{path}: a row is longer than a mebibyte"
        return DataError(message, hint="is the delimiter right, and is no quote left open?", code="csv")
    found = uneven(path, options.encoding, options.delimiter, options.skip_rows)
    if found is not None:
        line, width, expected = found
        hint = "every row needs the same number of values; is no quote left open?"
        return DataError(f"{path}:{line}: expected {expected} values, found {width}", hint=hint, code="csv")
    return DataError(f"{path}: {said.splitlines()[0][:200]}", code="csv")


def _names_of(path: Path, options: Csv, header: bool, table: Any) -> list[str]:
    if options.names is not None:
        names = list(options.names)
    elif header:
        try:
            names = [str(n).strip() if options.strip else str(n) for n in table.column_names]
        except UnicodeDecodeError as error:
            raise _refusal(path, options, str(error)) from None
    else:
        names = [str(i) for i in range(table.num_columns)]
    if len(names) != table.num_columns:
        raise DataError(f"{path}: expected {len(names)} columns, one a name, found {table.num_columns}", code="csv")
    twice = [n for i, n in enumerate(names) if n in names[:i]]
    if twice:
        raise DataError(f'{path}: two columns are called "{twice[0]}"', hint="give other names", code="csv")
    return names


def _is_text(kind: Any) -> bool:
    import pyarrow

    return pyarrow.types.is_string(kind)


def _odd(kind: Any) -> bool:
    import pyarrow

    known = (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_boolean, pyarrow.types.is_null)
    return not any(is_kind(kind) for is_kind in (*known, pyarrow.types.is_string, pyarrow.types.is_binary))


class Reader:
    """Reads one column, and names its file, line and name when a value is not what it should be."""

    def __init__(self, path: Path, options: Csv, header: bool, name: str):
        self.path, self.options, self.header, self.name = path, options, header, name

    def read(self, column: Any) -> Column:
        """The column, or why it can't be read: a table may have columns that no recipe needs."""
        try:
            return self.values(column)
        except DataError as error:
            return Unreadable(error, len(column))

    def values(self, column: Any) -> numpy.ndarray:
        """The column as float32, int64 or text.

        Raises:
            DataError: a value is missing or no number; names file, line and column.
        """
        import pyarrow

        kind = column.type
        if pyarrow.types.is_binary(kind):
            raise _refusal(self.path, self.options, "")
        if pyarrow.types.is_string(kind):
            return self._texts(column.to_pylist())
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise self._error(row, "has no value", "remove the row, or fill it in")
        if pyarrow.types.is_integer(kind):
            return column.to_numpy().astype("int64")
        if pyarrow.types.is_boolean(kind):
            return np.asarray(column.to_pylist(), "int64")
        return self._floats(column.to_numpy())

    def _texts(self, raw: list[str]) -> numpy.ndarray:
        """A column in which something is no number."""
        texts = [text.strip() for text in raw] if self.options.strip else raw
        gaps = {"", *self.options.missing}
        if not self._refuse_text([None if text in gaps else text for text in texts]):
            absent = next((row for row, text in enumerate(texts) if text in gaps), None)
            if absent is not None:
                raise self._error(absent, "has no value", "remove the row, or fill it in")
            # Numbers that pyarrow takes for text, such as +7.
            return self._floats(np.asarray([float(text) for text in texts]))
        if "" in texts and "" not in self.options.missing:
            hint = 'remove the row, or name it: {missing: ""} takes it for a text like others'
            raise self._error(texts.index(""), "has no value", hint)
        return np.asarray(["" if text in gaps else text for text in texts], dtype=object)

    def _floats(self, values: numpy.ndarray) -> numpy.ndarray:
        largest = np.finfo("float32").max
        bad = np.flatnonzero(~(np.abs(values) <= largest))
        if len(bad):
            row = int(bad[0])
            why = "is too large" if math.isfinite(values[row]) else "is no finite number"
            raise self._error(row, f"holds {values[row]:g}, which {why}")
        return values.astype("float32")

    def _refuse_text(self, texts: list[str | None]) -> int:
        """Refuse a column of numbers in which a few values are none; otherwise how many are none."""
        values = [(row, text) for row, text in enumerate(texts) if text is not None]
        odd = [(row, text) for row, text in values if not NUMBER.fullmatch(text)]
        if odd and len(odd) <= (1 - MOSTLY) * len(values):
            row, value = odd[0]
            hint = f'say that it is missing: {{missing: "{value}"}}, or mend the row' if len(value) < 20 else ""
            raise self._error(row, f'holds "{value[:40]}", expected a number', hint)
        return len(odd)

    def _error(self, row: int, what: str, hint: str = "") -> DataError:
        options = self.options
        line = line_of(self.path, options.encoding, options.delimiter, options.skip_rows, row + self.header)
        return DataError(f'{self.path}:{line}: column "{self.name}" {what}', hint=hint, code="csv")
