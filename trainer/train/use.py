"""A finished run put to use: its model and preprocessing opened again, raw rows read, predictions made."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import DataError, FileError, RunError, nearest
from trainer.recipe.dataset import Feature
from trainer.recipe.load import Loaded
from trainer.runs.directory import RunDirectory
from trainer.runs.model_file import read_model
from trainer.shapes import size
from trainer.sources.arrays import read_npy, read_npz
from trainer.sources.columns import Column, Ragged, Rows, Table
from trainer.sources.idx import read_idx
from trainer.train.build import Built, build, check_finite, real_outline
from trainer.train.devices import choose_device, set_threads
from trainer.train.feed import Slot, input_dtype
from trainer.train.identity import check_data, source_folder
from trainer.train.job import reloaded
from trainer.train.raw import RawColumns
from trainer.train.rows import Sets, divide
from trainer.train.scoring import predict
from trainer.train.state import load_weights, state_of
from trainer.train.terms import Options, open_table


class OpenRun:
    """A run whose model is ready to use."""

    def __init__(self, directory: RunDirectory, options: Options, checkpoint: str | None = None):
        self.directory, self.options = directory, options
        self.loaded: Loaded = reloaded(directory, options)
        self.recipe = self.loaded.recipe
        self.model = read_model(model_source(directory, checkpoint))
        self.state = state_of(self.model)
        self.folder = source_folder(directory)
        self.table: Table = open_table(self.recipe, self.folder, options)
        self.sets: Sets = divide(self.recipe, self.table)
        outline = real_outline(self.recipe, self.table)
        sample = self.sets.train.take(slice(0, 1))
        self.device = choose_device(options.device)
        self.built: Built = build(self.recipe, outline, sample, self.device, self.state["preprocessing"])
        load_weights(self.built, self.model)
        set_threads(1 << 30)

    def rows(self, split: str) -> Rows:
        """The rows of a part of the run's own data.

        Raises:
            RunError: the run has no such part.
        """
        changed = check_data(self.directory.record(), self.table)
        if changed:
            hint = "`trainer fit` the recipe on the new data, or put the old back"
            raise RunError(
                f"these are not the rows that the run was made with: changed are {', '.join(changed)}", hint=hint
            )
        rows = getattr(self.sets, split, None)
        if rows is None:
            raise RunError(f"the run has no {split} rows", hint="--split train, or --data FILE for rows from elsewhere")
        return rows

    def slot(self, column: Column) -> Slot:
        """Raw input rows, ready for the model."""
        return Slot(self.built.x, column, input_dtype((*self.built.x.drawn, *self.recipe.model.layers)), self.device)

    def predict(self, column: Column, layer: str | None = None) -> np.ndarray:
        """The model's output for raw rows, in their order; `layer` asks for what a layer makes."""
        return predict(self.built.network, self.slot(column), until=self._tensor(layer))

    def _tensor(self, layer: str | None) -> int | None:
        if layer is None:
            return None
        made = {c.layer: c.output for c in self.built.graph.calls}
        if layer not in made:
            hint = nearest(layer, made) or f"the layers are {', '.join(made)}"
            raise RunError(f'the model has no layer "{layer}"', hint=hint)
        return made[layer]

    def class_names(self, count: int) -> list[str]:
        """Names of the classes: the source's, or their numbers."""
        known = self.built.outline.classes
        if known is not None and len(known) >= count:
            return list(known[:count])
        return [str(n) for n in range(count)]

    def is_classifier(self) -> bool:
        """Whether the loss chooses among classes."""
        return self.built.loss.targets in ("one_hot", "integer", "binary")


def model_source(directory: RunDirectory, checkpoint: str | None) -> Path | bytes:
    """The model file of a run: `model.h5`, the last checkpoint of one that is not complete, or what is named.

    Raises:
        RunError: there is no such file yet.
    """
    if checkpoint == "last" and not directory.has_model():
        data, _ = directory.load_checkpoint()
        if data is not None:
            return data
    return model_path(directory, checkpoint)


def model_path(directory: RunDirectory, checkpoint: str | None) -> Path:
    """The file that holds a run's model."""
    if checkpoint in (None, "last"):
        path = directory.path / "model.h5"
    else:
        path = directory.path / "checkpoints" / f"{checkpoint}.h5"
        beside = [directory.path / f"{checkpoint}.h5", directory.path / str(checkpoint)]
        path = next((p for p in beside if not path.exists() and p.exists()), path)
    if not path.is_file() or directory.path.resolve() not in path.resolve().parents:
        have = [str(p.relative_to(directory.path)) for p in sorted(directory.path.glob("**/*.h5"))]
        if checkpoint not in (None, "last"):
            hint = f"there are {', '.join(have)}" if have else "the run has no checkpoints"
        elif directory.record().get("state") == "done":
            hint = "its folds were trained and no final model; set fit.kfold.final to true for one"
        else:
            hint = "it is not complete: `trainer resume` it" + (", or use `--checkpoint last`" if have else "")
        raise RunError(f"the run {directory.label} has no {path.name}", hint=hint)
    return path


def other_rows(run: OpenRun, file: Path, split: str = "train") -> Rows:
    """Rows of another file that looks like the run's own source: its test rows, where it has some and `split` asks.

    Raises:
        FileError: the source reads no such files.
    """
    source = run.recipe.dataset.source
    if "path" not in type(source).model_fields:
        raise FileError(
            f"{type(source).__name__.lower()} is a named data set; it reads no other file", hint="--split test"
        )
    moved = source.model_copy(update={"path": str(file.resolve())})
    table = run.loaded.recipe.dataset.model_copy(update={"source": moved}).source.open(
        replace_places(run.options, run.folder)
    )
    return table.train if split != "test" or table.test is None else table.test


def replace_places(options: Options, folder: Path) -> Any:
    """Where the files of a run are looked for."""
    from trainer.sources.base import Places

    return replace(Places(folder, options.data), download=options.download)


def read_input(run: OpenRun, source: str, text: bytes) -> Column:
    """Raw input rows from a file's bytes: CSV, JSON lines, NPY or NPZ, told by content and name.

    Raises:
        DataError: the rows do not fit the model's input.
    """
    found = _read_input(run, source, text)
    if len(found) == 0:
        raise DataError(f"{source}: there are no rows")
    check_finite(found, source)
    return found


def _read_input(run: OpenRun, source: str, text: bytes) -> Column:
    feature = run.built.outline.input
    raw = raw_row_shape(run)
    if text[:2] == b"\x1f\x8b" or source.endswith("-ubyte"):
        return _shaped(read_idx(Path(source)), source, raw)
    if text[:6] == b"\x93NUMPY" or text[:2] == b"PK":
        return _from_arrays(text, source, feature, raw)
    columns = RawColumns.of(feature, run.sets.train, run.recipe.dataset.source)
    if columns is not None:
        return columns.read(source, text)
    if source.endswith((".jsonl", ".json", ".ndjson")) or text.lstrip()[:1] in (b"[", b"{"):
        return _from_json_lines(text, source, feature, raw)
    return _from_csv(text, source, feature, raw)


def raw_row_shape(run: OpenRun) -> tuple[int, ...] | None:
    """Shape of one raw input row; None for lists of unequal length."""
    from trainer.train.feed import read_column

    column = read_column(run.sets.train.take(slice(0, 1)), run.built.outline.input)
    return None if isinstance(column, Ragged) else tuple(column.shape[1:])


def _from_arrays(text: bytes, source: str, feature: Feature, raw: tuple[int, ...] | None) -> Column:
    if text[:2] != b"PK":
        return _shaped(read_npy(text, source), source, raw)
    found = read_npz(Path(source), stream=io.BytesIO(text))
    name = feature.field if feature.field in found else next(iter(found)) if len(found) == 1 else None
    if name is None:
        raise DataError(f'{source}: expected an array called "{feature.field}", found {", ".join(found)}')
    return _shaped(found[name], source, raw)


def _shaped(array: np.ndarray, source: str, raw: tuple[int, ...] | None) -> Column:
    if raw is None:
        return Ragged.of(list(array))
    if tuple(array.shape[1:]) == raw:
        return array
    if (array.ndim == 2 and array.shape[1] == size(raw)) or (array.ndim == 1 and size(raw) == 1):
        return array.reshape(len(array), *raw)
    raise DataError(f"{source}: expected rows of shape {raw}, found {tuple(array.shape[1:])}")


def _from_json_lines(text: bytes, source: str, feature: Feature, raw: tuple[int, ...] | None) -> Column:
    rows = []
    for line_number, line in enumerate(text.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{source}:{line_number}: not JSON: {error}") from None
        if isinstance(row, dict):
            names = feature.columns or (feature.field or "",)
            missing = [n for n in names if n not in row]
            if missing:
                raise DataError(f'{source}:{line_number}: the row has no "{missing[0]}"')
            row = [row[n] for n in names] if feature.columns else row[names[0]]
        rows.append(row)
    try:
        return Ragged.of(rows) if raw is None else _shaped(np.asarray(rows, "float32"), source, raw)
    except (ValueError, TypeError) as error:
        raise DataError(f"{source}: expected rows of numbers of equal length: {error}") from None


def _from_csv(text: bytes, source: str, feature: Feature, raw: tuple[int, ...] | None) -> Column:
    import csv

    lines = list(csv.reader(io.StringIO(text.decode("utf-8-sig", "replace"))))
    lines = [(n, row) for n, row in enumerate(lines, 1) if row]
    if not lines:
        raise DataError(f"{source}: there are no rows")
    # A row with a number in it is data, and what is no number there is an error, not a heading.
    header = lines[0][1] if not any(map(_is_number, lines[0][1])) or _names(lines[0][1], feature) else None
    if header is None and len(lines[0][1]) > 2 and lines[0][1] == [str(n) for n in range(len(lines[0][1]))]:
        message = f"{source}: the first line counts the columns (0, 1, 2, …), so it seems to be a header"
        raise DataError(message, hint="remove it, or write the rows without one")
    body = lines[1:] if header else lines
    if raw is None:
        return Ragged.of([_numbers(row, range(len(row)), source, n) for n, row in body])
    wanted = _positions(header, len(lines[0][1]), feature, size(raw) or 0, source)
    rows = [_numbers(row, wanted, source, n) for n, row in body]
    return _shaped(np.asarray(rows, "float32").reshape(len(rows), len(wanted)), source, raw)


def _names(row: list[str], feature: Feature) -> bool:
    return bool(feature.columns) and set(feature.columns or ()) <= set(row)


def _positions(header: list[str] | None, width: int, feature: Feature, need: int, source: str) -> list[int]:
    names = list(feature.columns or ())
    absent = [n for n in names if header and n not in header and not n.isdigit()]
    if header and absent:
        hint = nearest(absent[0], header) or f"it has {', '.join(header[:12])}"
        raise DataError(f'{source}: the header has no column "{absent[0]}"', hint=hint)
    if header and names and set(names) <= set(header):
        return [header.index(n) for n in names]
    if width == need:
        return list(range(width))
    if names and all(n.isdigit() and int(n) < width for n in names):
        return [int(n) for n in names]
    raise DataError(f"{source}: expected {need} numbers a row, found {width} columns", hint="only the input's columns")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(row: list[str], wanted: Any, source: str, line: int) -> list[float]:
    values = []
    for position in wanted:
        if position >= len(row):
            raise DataError(f"{source}:{line}: expected a value in column {position + 1}, found {len(row)} columns")
        if not _is_number(row[position]):
            raise DataError(
                f'{source}:{line}: expected a number in column {position + 1}, found "{row[position][:40]}"'
            )
        values.append(float(row[position]))
    return values


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities made sharper (below 1) or flatter (above 1): exp(log(p) / T), normalised over the last axis."""
    logits = np.log(np.clip(probabilities.astype("float64"), 1e-300, None)) / temperature
    logits -= logits.max(-1, keepdims=True)
    scaled = np.exp(logits)
    return (scaled / scaled.sum(-1, keepdims=True)).astype(probabilities.dtype)
