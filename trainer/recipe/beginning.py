"""First recipes: for a table, with the layers and loss that its target calls for, or for the bundled digits."""

from __future__ import annotations

import csv
import itertools
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import DataError, FileError, nearest
from trainer.recipe.load import default_name
from trainer.recipe.scalars import flow

LOOKED_AT = 2000
LONGEST = 1 << 16
"So much of the first line is looked at for the character between values."
FEW = 20
"A whole-number target with at most so many different values counts as classes."

DIGITS = """\
# Handwritten digits, 8 x 8 pixels, from scikit-learn; nothing to download.
#   trainer fit {path}
name: {name}
seed: 1
dataset:
  source: digits
  inputs:
    image: {{preprocess: [{{Reshape: {{target_shape: [64]}}}}, {{Rescaling: {{scale: 1/16}}}}]}}
  split: {{test: 0.2}}
model:
  layers:
    - Dense: {{units: 64, activation: relu}}
    - Dense: {{units: 10, activation: softmax}}
compile:
  optimizer: adam
  loss: sparse_categorical_crossentropy
  metrics: [accuracy]
fit: {{epochs: 20, batch_size: 32, validation_split: 0.2}}
"""

TABLE = """\
# {rows} rows of {file}: predicts {target}.{others}
#   trainer fit {path}
name: {name}
seed: 1
dataset:
  source: {{csv: {{path: {relative}{reading}}}}}
  inputs:
    features: {{columns: [{columns}], preprocess: [Normalization]}}
  targets:
    {label}: {{columns: [{column}]{labels}}}
  split: {{test: 0.2}}
model:
  layers:
    - Dense: {{units: 32, activation: relu}}
    - Dense: {{units: 32, activation: relu}}
    - Dense: {{units: {units}{activation}}}
compile:
  optimizer: adam
  loss: {loss}
  metrics: [{metric}]
fit: {{epochs: 50, batch_size: 32, validation_split: 0.2}}
callbacks:
  - EarlyStopping: {{patience: 5, restore_best_weights: true}}
"""


@dataclass(frozen=True)
class Looked:
    """What the first rows of a table show."""

    names: list[str]
    header: bool
    delimiter: str
    rows: list[list[str]]


def for_digits(path: Path) -> str:
    """A recipe for the bundled digits."""
    return DIGITS.format(path=_comment(path), name=flow(default_name(path)))


def for_csv(table: Path, path: Path, target: str | None) -> str:
    """A recipe for a table of numbers.

    Raises:
        DataError: no such column, or a target that is no number.
        FileError: the table can't be read.
    """
    seen = look(table)
    name, columns = _chosen(table, seen, target)
    cells = [r[seen.names.index(name)].strip() for r in seen.rows]
    words = any(_number(cell) is None for cell in cells)
    units, activation, loss, metric = _of_words(table, name, cells) if words else problem([float(c) for c in cells])
    others = [n for n in seen.names if n != name and n not in columns]
    label = name if name[:1].isalpha() and default_name(name) == name else "target"
    reading = "" if seen.delimiter == "," else f", delimiter: {flow(seen.delimiter)}"
    return TABLE.format(
        rows="First" if len(seen.rows) == LOOKED_AT else len(seen.rows),
        file=_comment(table.name),
        target=_comment(name),
        others=f"\n# Not read, for they hold texts or gaps: {_comment(', '.join(others))}." if others else "",
        labels=", preprocess: [{StringLookup: {num_oov_indices: 0}}]" if words else "",
        column=_column(name),
        label=flow(label),
        path=_comment(path),
        name=flow(default_name(path)),
        relative=flow(Path(os.path.relpath(table, path.parent)).as_posix()),
        reading=reading if seen.header else f"{reading}, header: false",
        columns=", ".join(map(_column, columns)),
        units=units,
        activation=f", activation: {activation}" if activation else "",
        loss=loss,
        metric=metric,
    )


def _chosen(table: Path, seen: Looked, target: str | None) -> tuple[str, list[str]]:
    """The target's column and those of the inputs."""
    name = seen.names[-1] if target is None else target
    if name not in seen.names:
        hint = nearest(name, seen.names) or ", ".join(seen.names[:20])
        raise DataError(f'{table}: there is no column "{name}"', hint=hint)
    numeric = [
        n for i, n in enumerate(seen.names) if _can_be_named(n) and all(_number(r[i]) is not None for r in seen.rows)
    ]
    if not _can_be_named(name):
        raise DataError(f'{table}: a recipe can\'t name the column "{name}"', hint="give it another name in the file")
    columns = [n for n in numeric if n != name]
    if not columns:
        raise DataError(f"{table}: no column but the target holds numbers alone")
    return name, columns


def _can_be_named(column: str) -> bool:
    """Whether a recipe can name the column: `0-7` would be a range."""
    return column != "" and "\0" not in column and not re.fullmatch(r"\d+-\d+", column)


def _of_words(table: Path, name: str, cells: list[str]) -> tuple[int, str, str, str]:
    """What `problem` gives, for a target of words, each of which is a class.

    Raises:
        DataError: a row has none, some are numbers, or there are too many to be classes, or too few.
    """
    kinds, hint = len(set(cells)), "name another column with --target"
    if "" in cells:
        raise DataError(f'{table}: the target "{name}" has no value in row {cells.index("") + 1}')
    if any(_number(cell) is not None for cell in cells):
        odd = next(cell for cell in cells if _number(cell) is None)
        raise DataError(f'{table}: the target "{name}" holds text among numbers: "{odd[:40]}"', hint=hint)
    if not 2 <= kinds <= FEW:
        what = f"{kinds} different ones, too many to be classes" if kinds > FEW else "the same in every row"
        raise DataError(f'{table}: the target "{name}" holds text, {what}', hint=hint)
    if kinds == 2:
        return 1, "sigmoid", "binary_crossentropy", "accuracy"
    return kinds, "softmax", "sparse_categorical_crossentropy", "accuracy"


def problem(values: list[float]) -> tuple[int, str, str, str]:
    """(units, activation, loss, metric) of the standard last layer for such a target."""
    whole = all(v == int(v) and v >= 0 for v in values)
    kinds = set(values)
    if whole and kinds <= {0.0, 1.0}:
        return 1, "sigmoid", "binary_crossentropy", "accuracy"
    if whole and len(kinds) <= FEW and max(kinds) < FEW:
        return int(max(kinds)) + 1, "softmax", "sparse_categorical_crossentropy", "accuracy"
    return 1, "", "mse", "mae"


def look(table: Path) -> Looked:
    """The columns of a CSV file and its first rows.

    Raises:
        FileError: the file can't be read.
        DataError: it has no rows.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline(LONGEST)
            delimiter = max(",;\t|", key=first.count)
            file.seek(0)
            lines = [row for row in itertools.islice(csv.reader(file, delimiter=delimiter), LOOKED_AT + 1) if row]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise FileError(f"{table}: {getattr(error, 'strerror', None) or error}") from None
    header = bool(lines) and not any(_number(cell) is not None for cell in lines[0])
    rows = lines[1:] if header else lines
    if not rows:
        raise DataError(f"{table}: there are no rows")
    names = lines[0] if header else [str(i) for i in range(len(lines[0]))]
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        raise DataError(f'{table}: two columns are called "{twice}"', hint="give other names in the file")
    ragged = next((n for n, r in enumerate(rows, 1 + header) if len(r) != len(names)), None)
    if ragged is not None:
        raise DataError(f"{table}:{ragged}: expected {len(names)} values, found {len(rows[ragged - 1 - header])}")
    return Looked(names, header, delimiter, rows)


_NUMBER = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*", re.ASCII)


def _number(cell: str) -> float | None:
    """A finite number as a reader of CSV takes it; Python's own spellings (`1_000`, `inf`) are text."""
    value = float(cell) if _NUMBER.fullmatch(cell) else math.inf
    return value if math.isfinite(value) else None


def _column(name: str) -> str:
    return name if re.fullmatch(r"[0-9]{1,6}", name) else flow(name)


def _comment(text: object) -> str:
    """Text in a comment, which must not leave its line."""
    return "".join(c if c.isprintable() else "?" for c in str(text))
