"""First recipes: for a table, with the layers and loss that its target calls for, or for the bundled digits."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import DataError, FileError, nearest
from trainer.recipe.load import default_name

LOOKED_AT = 2000
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
# {rows} rows of {file}: predicts {target}.
#   trainer fit {path}
name: {name}
seed: 1
dataset:
  source: {{csv: {{path: {relative}{header}}}}}
  inputs:
    features: {{columns: [{columns}], preprocess: [Normalization]}}
  targets:
    {label}: {{columns: [{target}]}}
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
    rows: list[list[str]]


def for_digits(path: Path) -> str:
    """A recipe for the bundled digits."""
    return DIGITS.format(path=path, name=default_name(path))


def for_csv(table: Path, path: Path, target: str | None) -> str:
    """A recipe for a table of numbers.

    Raises:
        DataError: no such column, or a target that is no number.
    """
    seen = look(table)
    name = seen.names[-1] if target is None else target
    if name not in seen.names:
        raise DataError(
            f'{table}: there is no column "{name}"', hint=nearest(name, seen.names) or ", ".join(seen.names)
        )
    numeric = [n for i, n in enumerate(seen.names) if all(_number(r[i]) is not None for r in seen.rows)]
    if name not in numeric:
        raise DataError(f'{table}: the target "{name}" holds text', hint="write its classes as numbers 0, 1, 2, …")
    columns = [n for n in numeric if n != name]
    if not columns:
        raise DataError(f"{table}: no column but the target holds numbers alone")
    values = [_number(r[seen.names.index(name)]) or 0.0 for r in seen.rows]
    units, activation, loss, metric = problem(values)
    label = name if name[0].isalpha() and default_name(name) == name else "target"
    return TABLE.format(
        rows="First" if len(seen.rows) == LOOKED_AT else len(seen.rows),
        file=table.name,
        target=_quoted(name),
        label=label,
        path=path,
        name=default_name(path),
        relative=_quoted(os.path.relpath(table, path.parent)),
        header="" if seen.header else ", header: false",
        columns=", ".join(map(_quoted, columns)),
        units=units,
        activation=f", activation: {activation}" if activation else "",
        loss=loss,
        metric=metric,
    )


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
            lines = [row for _, row in zip(range(LOOKED_AT + 1), csv.reader(file), strict=False) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{table}: {getattr(error, 'strerror', None) or error}") from None
    header = bool(lines) and not any(_number(cell) is not None for cell in lines[0])
    rows = lines[1:] if header else lines
    if not rows:
        raise DataError(f"{table}: there are no rows")
    names = lines[0] if header else [str(i) for i in range(len(lines[0]))]
    ragged = next((n for n, r in enumerate(rows, 1 + header) if len(r) != len(names)), None)
    if ragged is not None:
        raise DataError(f"{table}:{ragged}: expected {len(names)} values, found {len(rows[ragged - 1 - header])}")
    return Looked(names, header, rows)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _quoted(text: str) -> str:
    plain = text.replace("_", "").replace(".", "").replace("/", "").replace("-", "")
    return text if plain.isalnum() and text[0].isalpha() else f'"{text}"' if not text.isdigit() else text
