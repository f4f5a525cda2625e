"""Raw rows to predict, from a file: CSV, JSON lines, NPY, NPZ or IDX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import DataError, nearest
from trainer.layers.host import HostLayer
from trainer.recipe.dataset import Feature
from trainer.shapes import clash, size
from trainer.sources.arrays import read_npy, read_npz
from trainer.sources.columns import Column, Ragged
from trainer.sources.csv_files import Csv
from trainer.sources.idx import read_idx
from trainer.train.build import check_finite
from trainer.train.pipeline import beside, read_column
from trainer.train.raw import RawColumns
from trainer.train.use import OpenRun


def read_inputs(run: OpenRun, source: str, text: bytes) -> list[Column]:
    """Raw rows of every input from a file's bytes: CSV, JSON lines, NPY or NPZ, told by content and name.

    Raises:
        DataError: the rows do not fit the model's inputs.
    """
    inputs = run.built.outline.inputs
    found = [_read_input(run, Wanted.of(run, name), source, text) for name in inputs]
    for column in found:
        if len(column) == 0:
            raise DataError(f"{source}: there are no rows")
        if len(column) != len(found[0]):
            counts = ", ".join(f"{name} {len(c)}" for name, c in zip(inputs, found, strict=True))
            raise DataError(f"{source}: expected as many rows of each input, found {counts}")
        check_finite(column, source)
    return found


@dataclass(frozen=True)
class Wanted:
    """An input that is looked for in a file."""

    name: str
    feature: Feature
    alone: bool
    "Whether the model has no other input, so that all columns of the file may be meant."
    every: tuple[str, ...] = ()
    "The columns of the table that the training rows came from, in order."
    targets: tuple[str, ...] = ()
    "Those of them that are to be predicted, which rows may lack."
    delimiter: str = ","

    @classmethod
    def of(cls, run: OpenRun, name: str) -> Wanted:
        """An input of a run's model."""
        outline, source = run.built.outline, run.recipe.dataset.source
        made = cls(name, outline.inputs[name].feature, len(outline.inputs) == 1)
        if not isinstance(source, Csv):
            return made
        asked = tuple(n for t in outline.targets.values() for n in t.feature.columns or (t.feature.field or "",))
        return replace(made, every=tuple(run.sets.train.columns), targets=asked, delimiter=source.delimiter)

    def columns(self, need: int) -> tuple[str, ...]:
        """What a file's columns of this input are called: a field of several values as `story_0`, `story_1`, …"""
        field = self.feature.field or ""
        return self.feature.columns or ((field,) if need == 1 else tuple(f"{field}_{i}" for i in range(need)))

    def unheaded(self, width: int) -> list[int] | None:
        """Where its columns stand in rows without a header that are like the training rows, with or without targets."""
        names = self.feature.columns or (self.feature.field or "",)
        rest = tuple(n for n in self.every if n not in self.targets)
        like = next((known for known in (self.every, rest) if known and len(known) == width), ())
        return [like.index(n) for n in names] if set(names) <= set(like) else None

    def arrays(self, found: Mapping[str, Any]) -> list[str]:
        """Which of a file's arrays hold it: one, or one for each column; none when that can't be told."""
        known = next((n for n in (self.feature.field, self.name) if n in found), None)
        if known is not None:
            return [known]
        if self.feature.columns and set(self.feature.columns) <= set(found):
            return list(self.feature.columns)
        return list(found) if self.alone and len(found) == 1 else []

    def value(self, row: Mapping[str, Any], place: str) -> Any:
        """Its value in a row of JSON.

        Raises:
            DataError: the row lacks it.
        """
        names = self.feature.columns or (self.feature.field or "",)
        missing = [n for n in names if n not in row]
        if missing and self.name in row:
            return row[self.name]
        if missing:
            raise DataError(f'{place}: the row has no "{missing[0]}"', hint=nearest(missing[0], map(str, row)))
        return [row[n] for n in names] if self.feature.columns else row[names[0]]


def _read_input(run: OpenRun, wanted: Wanted, source: str, text: bytes) -> Column:
    feature = wanted.feature
    raw = raw_row_shape(run, feature)
    if text[:2] == b"\x1f\x8b" or source.endswith("-ubyte"):
        return _shaped(read_idx(Path(source)), source, raw)
    if text[:6] == b"\x93NUMPY" or text[:2] == b"PK":
        return _from_arrays(text, source, wanted, raw)
    columns = RawColumns.of(feature, run.sets.train, run.recipe.dataset.source, wanted.targets)
    if columns is not None:
        return columns.read(source, text)
    if source.endswith((".jsonl", ".json", ".ndjson")) or text.lstrip()[:1] in (b"[", b"{"):
        return _from_json_lines(text, source, wanted, raw)
    return _from_csv(text, source, wanted, raw)


def raw_row_shape(run: OpenRun, feature: Feature) -> tuple[int | None, ...] | None:
    """Shape of one raw input row; None for lists of unequal length, and for sizes that the model leaves open."""
    if (feature.field or "") in run.shapes:
        return run.shapes[feature.field or ""]
    column = read_column(run.sets.train.take(slice(0, 1)), feature)
    return None if isinstance(column, Ragged) else tuple(column.shape[1:])


def _from_arrays(text: bytes, source: str, wanted: Wanted, raw: tuple[int | None, ...] | None) -> Column:
    if text[:2] != b"PK":
        if not wanted.alone:
            hint = "an .npz file with an array for each input"
            raise DataError(f"{source}: one array can't hold the model's several inputs", hint=hint)
        return _shaped(read_npy(text, source), source, raw)
    found = read_npz(Path(source), stream=io.BytesIO(text))
    names = wanted.arrays(found)
    if not names:
        called = wanted.feature.field or wanted.name
        raise DataError(f'{source}: expected an array called "{called}", found {", ".join(found)}')
    if len(names) == 1:
        return _shaped(found[names[0]], source, raw)
    counts = {len(found[n]) for n in names}
    if len(counts) > 1 or any(found[n].ndim != 1 for n in names):
        raise DataError(f"{source}: expected arrays of one length and one axis called {', '.join(names)}")
    first = wanted.feature.preprocess[0] if wanted.feature.preprocess else None
    return beside([found[n] for n in names], whole=isinstance(first, HostLayer))


def _shaped(array: np.ndarray, source: str, raw: tuple[int | None, ...] | None) -> Column:
    if raw is None:
        return Ragged.of(list(array))
    if not clash(tuple(array.shape[1:]), raw):
        return array
    if (array.ndim == 2 and array.shape[1] == size(raw)) or (array.ndim == 1 and size(raw) == 1):
        return array.reshape(len(array), *(n or 1 for n in raw))
    raise DataError(f"{source}: expected rows of shape {raw}, found {tuple(array.shape[1:])}")


def _from_json_lines(text: bytes, source: str, wanted: Wanted, raw: tuple[int | None, ...] | None) -> Column:
    rows = []
    for line_number, line in enumerate(text.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{source}:{line_number}: not JSON: {error}") from None
        if isinstance(row, dict):
            row = wanted.value(row, f"{source}:{line_number}")
        elif not wanted.alone:
            message = f"{source}:{line_number}: which values are the input {wanted.name} can't be told"
            raise DataError(message, hint='write each row as {"name": values, …}')
        rows.append(row)
    try:
        return Ragged.of(rows) if raw is None else _shaped(np.asarray(rows, "float32"), source, raw)
    except (ValueError, TypeError) as error:
        raise DataError(f"{source}: expected rows of numbers of equal length: {error}") from None


def _from_csv(text: bytes, source: str, wanted: Wanted, raw: tuple[int | None, ...] | None) -> Column:
    feature = wanted.feature
    lines = list(csv.reader(io.StringIO(text.decode("utf-8-sig", "replace")), delimiter=wanted.delimiter))
    lines = [(n, row) for n, row in enumerate(lines, 1) if row]
    if not lines:
        raise DataError(f"{source}: there are no rows")
    first = [cell.strip() for cell in lines[0][1]]
    # A row with a number in it is data, and what is no number there is an error, not a heading.
    header = first if not any(map(_is_number, first)) or _names(first, feature) else None
    if header is None and len(lines[0][1]) > 2 and lines[0][1] == [str(n) for n in range(len(lines[0][1]))]:
        message = f"{source}: the first line counts the columns (0, 1, 2, …), so it seems to be a header"
        raise DataError(message, hint="remove it, or write the rows without one")
    body = lines[1:] if header else lines
    if raw is None:
        return Ragged.of([_numbers(row, range(len(row)), source, n) for n, row in body])
    width = len(lines[0][1])
    places = _positions(header, width, wanted, width if raw == (None,) else size(raw) or 0, source)
    rows = [_numbers(row, places, source, n) for n, row in body]
    return _shaped(np.asarray(rows, "float32").reshape(len(rows), len(places)), source, raw)


def _names(row: list[str], feature: Feature) -> bool:
    return bool(feature.columns) and set(feature.columns or ()) <= set(row)


def _positions(header: list[str] | None, width: int, wanted: Wanted, need: int, source: str) -> list[int]:
    names = wanted.columns(need)
    absent = [n for n in wanted.feature.columns or () if header and n not in header and not n.isdigit()]
    if header and absent:
        hint = nearest(absent[0], header) or f"it has {', '.join(header[:12])}"
        raise DataError(f'{source}: the header has no column "{absent[0]}"', hint=hint)
    if header and set(names) <= set(header):
        return [header.index(n) for n in names]
    if width == need and wanted.alone:
        return list(range(width))
    found = None if header else wanted.unheaded(width)
    if found is not None:
        return found
    if wanted.feature.columns and all(n.isdigit() and int(n) < width for n in names):
        return [int(n) for n in names]
    if not wanted.alone:
        message = f"{source}: which columns are the input {wanted.name} can't be told"
        called = ", ".join(names) if len(names) < 9 else f"{names[0]}, {names[1]}, …, {names[-1]}"
        raise DataError(message, hint=f"write a header with {called}, or an .npz or .jsonl file")
    raise DataError(f"{source}: expected {need} numbers a row, found {width} columns", hint="only the input's columns")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(row: list[str], places: Any, source: str, line: int) -> list[float]:
    values = []
    for position in places:
        if position >= len(row):
            raise DataError(f"{source}:{line}: expected a value in column {position + 1}, found {len(row)} columns")
        if not _is_number(row[position]):
            raise DataError(
                f'{source}:{line}: expected a number in column {position + 1}, found "{row[position][:40]}"'
            )
        values.append(float(row[position]))
    return values
