"""Rows to predict whose columns hold texts or whole numbers: CSV, JSON lines, and plain text with one text a line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainer.errors import DataError, nearest
from trainer.layers.host import HostLayer
from trainer.recipe.dataset import Feature
from trainer.sources.columns import Column, Ragged, Rows
from trainer.sources.csv_files import Csv
from trainer.train.pipeline import beside, is_text


@dataclass(frozen=True)
class RawColumns:
    """The columns that a feature reads, with what they hold."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    "text, integer or number, as in the training rows."
    every: tuple[str, ...]
    "All columns of the training rows, in order."
    targets: tuple[str, ...] = ()
    "Those of them that are to be predicted, which rows may lack."
    gaps: frozenset[str] = frozenset()
    "Texts that stand for the empty one."
    strip: bool = True
    delimiter: str = ","
    headed: bool = False
    "Whether the training rows came with a header, so that rows to predict must have one too."

    @classmethod
    def of(cls, feature: Feature, rows: Rows, source: Any, targets: tuple[str, ...] = ()) -> RawColumns | None:
        """The columns of a feature; None when it begins with numbers as they are, or with lists of them."""
        if not feature.preprocess or not isinstance(feature.preprocess[0], HostLayer):
            return None
        names = feature.columns or (feature.field or "",)
        columns = [rows.column(n) for n in names]
        if any(isinstance(c, Ragged) or c.ndim > 1 for c in columns):
            return None
        made = cls(names, tuple(map(_kind, columns)), tuple(rows.columns), targets)
        if not isinstance(source, Csv):
            return made
        headed = source.header if source.header is not None else source.names is None
        return replace(
            made, gaps=frozenset(source.missing), strip=source.strip, delimiter=source.delimiter, headed=headed
        )

    def read(self, source: str, text: bytes) -> Column:
        """The rows of a file, told by its name and what it begins with.

        Raises:
            DataError: names the line and the column.
        """
        told = text.decode("utf-8-sig", "replace")
        if source.endswith((".jsonl", ".json", ".ndjson")) or told.lstrip()[:1] in ("[", "{"):
            rows = self._json(source, told)
        elif source.endswith(".txt") and self.kinds == ("text",):
            rows = (([line], f"{source}:{n}") for n, line in enumerate(told.splitlines(), 1) if line.strip())
        else:
            rows = self._csv(source, told)
        parts: list[list[Any]] = [[] for _ in self.names]
        for row, place in rows:
            for values, value, name, kind in zip(parts, row, self.names, self.kinds, strict=True):
                values.append(self._value(value, name, kind, place))
        types = {"text": object, "integer": "int64", "number": "float32"}
        made = [np.asarray(v, types[k]) for v, k in zip(parts, self.kinds, strict=True)]
        return beside(made, whole=True)

    def _value(self, value: Any, name: str, kind: str, place: str) -> Any:
        if kind == "text":
            if not isinstance(value, str):
                raise DataError(f'{place}: expected text in "{name}", found {value!r}')
            value = value.strip() if self.strip else value
            return "" if value in self.gaps else value
        try:
            if isinstance(value, bool) or value is None:
                raise TypeError
            return int(value) if kind == "integer" else float(value)
        except (ValueError, TypeError, OverflowError):
            expected = "a whole number" if kind == "integer" else "a number"
            raise DataError(f'{place}: expected {expected} in "{name}", found {str(value)[:40]!r}') from None

    def _json(self, source: str, text: str) -> Iterator[tuple[list[Any], str]]:
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            place = f"{source}:{number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{place}: not JSON: {error}") from None
            if isinstance(row, dict):
                absent = next((n for n in self.names if n not in row), None)
                if absent is not None:
                    raise DataError(f'{place}: the row has no "{absent}"', hint=nearest(absent, map(str, row)))
                row = [row[n] for n in self.names]
            row = row if isinstance(row, list) else [row]
            if len(row) != len(self.names):
                raise DataError(f"{place}: expected {len(self.names)} values, found {len(row)}")
            yield row, place

    def _csv(self, source: str, text: str) -> Iterator[tuple[list[Any], str]]:
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter)
            rows = [(row, reader.line_num) for row in reader if row]
        except csv.Error as error:
            raise DataError(f"{source}: {error}") from None
        if not rows:
            raise DataError(f"{source}: there are no rows")
        first = [cell.strip() for cell in rows[0][0]]
        absent = [n for n in self.names if n not in first]
        header = None if absent else first
        names = sum(cell in self.every for cell in first if not cell.isdigit())
        if header is None and (self.headed or 2 * names >= len(first)):
            # Texts look like names and names like texts: without this, a header would be taken for a row.
            message = f'{source}: the first line has no column "{absent[0]}"'
            message += "; like the training rows, it must hold names" if self.headed else ""
            raise DataError(message, hint=nearest(absent[0], first) or f"expected {', '.join(self.names)}")
        wanted = self._positions(header, len(first), source)
        for row, line in rows[1:] if header else rows:
            if len(row) != len(first):
                raise DataError(f"{source}:{line}: expected {len(first)} values, found {len(row)}")
            yield [row[i] for i in wanted], f"{source}:{line}"

    def _positions(self, header: list[str] | None, width: int, source: str) -> list[int]:
        if header is not None:
            return [header.index(n) for n in self.names]
        rest = tuple(n for n in self.every if n not in self.targets)
        for known in (self.every, rest):
            if width == len(known) and set(self.names) <= set(known):
                return [known.index(n) for n in self.names]
        if width == len(self.names):
            return list(range(width))
        message = f"{source}: expected {len(self.names)} values a row ({', '.join(self.names[:6])}), found {width}"
        raise DataError(message, hint="only the input's columns, or a header with their names")


def _kind(column: np.ndarray) -> str:
    return "text" if is_text(column) else "integer" if column.dtype.kind in "biu" else "number"
