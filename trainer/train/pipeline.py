"""From raw columns to tensors: what a feature reads, and its preprocessing, fitted to the training rows once.

Steps from the first random one on stand in front of the network instead: they act on each batch, in training alone.

Layers that read texts work on the host, before torch; what they make is kept, so that it is made once for all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from trainer.errors import DataError, RecipeError
from trainer.layers.arrays import as_numpy
from trainer.layers.base import Layer
from trainer.layers.discretization import Discretization
from trainer.layers.encoding import CategoryEncoding, PadSequences
from trainer.layers.host import HostLayer, Learner, UnknownValue
from trainer.layers.plan import Plan
from trainer.layers.reshaping import Flatten, Permute, RepeatVector, Reshape
from trainer.model.cell import Cell, Clock
from trainer.recipe.dataset import Feature
from trainer.recipe.features import at_each_step
from trainer.shapes import Shape
from trainer.sources.columns import Column, Ragged, Rows, take

CHUNK = 4096
KEEPS_CLASSES = (CategoryEncoding, Flatten, PadSequences, Permute, RepeatVector, Reshape)
"Steps after which a class has the number, or the place, that it had."
LEARNED = "learned"
"What a state calls the options that a layer learned."


def read_column(rows: Rows, feature: Feature, *, target: bool = False) -> Column:
    """The raw column of a feature: a field, or columns side by side.

    Raises:
        DataError: a column is missing, or holds what the feature's first step does not read.
    """
    first = feature.preprocess[0] if feature.preprocess else None
    reads = first if isinstance(first, HostLayer) else None
    if feature.columns is None:
        return _as_rows(_readable(rows.column(feature.field or ""), feature.field or "", reads), target)
    parts = [_readable(rows.column(name), name, reads) for name in feature.columns]
    if target and len(parts) == 1:
        return parts[0]
    return beside([np.asarray(p) for p in parts], whole=reads is not None)


def beside(parts: list[np.ndarray], *, whole: bool = False) -> np.ndarray:
    """Columns side by side: float32; for steps that read texts or integers (`whole`), each value as it is."""
    if not whole:
        return np.stack([np.asarray(p, "float32") for p in parts], axis=1)
    kinds = {is_text(p) for p in parts}
    if kinds == {False}:
        integers = all(p.dtype.kind in "biu" for p in parts)
        return np.stack([p.astype("int64" if integers else "float64") for p in parts], axis=1)
    out = np.empty((len(parts[0]), len(parts)), object)
    for number, part in enumerate(parts):
        out[:, number] = part.tolist()
    return out


def is_text(column: Column) -> bool:
    """Whether a column holds texts."""
    return not isinstance(column, Ragged) and column.dtype.kind in "OUS"


def _readable(column: Column, name: str, first: HostLayer | None) -> Column:
    if is_text(column):
        if first is None:
            row, found = next(((i, v) for i, v in enumerate(column.astype(str)) if not _is_number(v)), (0, ""))
            message = f'column "{name}" holds text ("{found}" in row {row + 1}), but numbers are needed'
            hint = "begin its preprocess with StringLookup (a category), TextVectorization (sentences) or Hashing"
            raise DataError(message, hint=hint, code="text")
        if "text" not in first.reads:
            message = f'{type(first).__name__} reads whole numbers, but column "{name}" holds text'
            raise DataError(message, hint="StringLookup reads texts", code="text")
    elif first is not None and "integer" not in first.reads and not _inverts(first):
        message = f'{type(first).__name__} reads texts, but column "{name}" holds numbers'
        raise DataError(message, hint="IntegerLookup reads whole numbers, Discretization any", code="text")
    return column


def _inverts(layer: HostLayer) -> bool:
    return bool(getattr(layer, "invert", False))


def _as_rows(column: Column, target: bool) -> Column:
    return column if target or isinstance(column, Ragged) or column.ndim > 1 else column[:, None]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class Pipeline:
    """The preprocessing of one feature: built, adapted to the training rows once, then applied to any rows."""

    def __init__(self, feature: Feature, shape: Shape, path: str):
        self.feature, self.path, self.start = feature, path, shape
        self.cells: list[Cell] = []
        self.readers: dict[int, Callable[[Any], Any]] = {}
        self.shape = shape
        layers = tuple(layer.by_rows() for layer in feature.preprocess)
        drawn = at_each_step(layers)
        self.steps, self.drawn = layers[:drawn], layers[drawn:]
        for layer in self.steps:
            if isinstance(layer, Learner) and layer.is_open():
                # What follows has no shape before rows were seen.
                break
            self._add(layer)

    def _add(self, layer: Layer) -> Cell:
        index, plan = len(self.cells), Plan()
        self.shape = self._built(layer, plan, self.shape, index)
        if isinstance(layer, HostLayer):
            self.readers[index] = layer.reader()
        cell = Cell(layer, plan, f"{self.path}/{index}", Clock(0), trainable=False).eval()
        self.cells.append(cell)
        return cell

    def front(self) -> tuple[Shape, list[tuple[Layer, Plan, str]]]:
        """(the shape that reaches the model, the steps that each batch goes through: layer, plan and path).

        Raises:
            RecipeError: a step can't take what reaches it.
        """
        shape, found = self.shape, []
        for index, layer in enumerate(self.drawn, len(self.steps)):
            plan = Plan()
            shape = self._built(layer, plan, shape, index)
            found.append((layer, plan, f"{self.path}/{index}"))
        return shape, found

    def _built(self, layer: Layer, plan: Plan, shape: Shape, index: int) -> Shape:
        try:
            return layer.build(plan, shape)
        except ValueError as error:
            raise RecipeError(
                f"{self.path}.preprocess[{index}] {type(layer).__name__}: {error}", code="shape"
            ) from None

    def _begin(self) -> None:
        self.cells, self.readers, self.shape = [], {}, self.start

    def adapt(self, column: Column) -> None:
        """Let every step that learns from data see the training rows, in order."""
        self._begin()
        for index, layer in enumerate(self.steps):
            if isinstance(layer, Learner) and layer.is_open():
                layer = layer.learned(_plain(c) for c in self._before(column, index))
            cell = self._add(layer)
            if not layer.fitted or not cell.specs:
                continue
            first = self._through(take(column, slice(0, 1)), index)
            if isinstance(first, Ragged):
                raise self._unequal(type(layer).__name__)
            shape = (None, *first.shape[1:])
            found = layer.adapt((np.asarray(c) for c in self._before(column, index)), shape)
            cell.load_state_dict({name: torch.as_tensor(value) for name, value in found.items()})

    def _before(self, column: Column, index: int) -> Iterator[Any]:
        """The training rows as they reach a step, in chunks."""
        for start in range(0, len(column), CHUNK):
            value = self._through(take(column, slice(start, min(start + CHUNK, len(column)))), index)
            yield as_numpy(value) if isinstance(value, torch.Tensor) else value

    def state(self) -> dict[str, np.ndarray]:
        """What was learned from the training rows."""
        found = {f"{i}/{k}": as_numpy(v).copy() for i, c in enumerate(self.cells) for k, v in c.state_dict().items()}
        for index, layer in enumerate(self.steps):
            if isinstance(layer, Learner) and layer.is_open():
                learned = self.cells[index].layer
                assert isinstance(learned, Learner)
                found[f"{index}/{LEARNED}"] = learned.found()
        return found

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take up what an earlier run learned; nothing is adapted again."""
        self._begin()
        for index, layer in enumerate(self.steps):
            if isinstance(layer, Learner) and layer.is_open():
                layer = layer.with_found(state[f"{index}/{LEARNED}"])
            cell = self._add(layer)
            cell.load_state_dict({k: torch.as_tensor(state[f"{index}/{k}"]) for k in cell.state_dict()})

    def names(self, classes: tuple[str, ...] | None = None) -> tuple[str, ...] | None:
        """What the numbers that come out stand for, when a vocabulary or the `classes` of the column tell it."""
        found = classes
        for cell in self.cells:
            if isinstance(cell.layer, HostLayer):
                found = cell.layer.names()
            elif isinstance(cell.layer, Discretization) and found is not None:
                found = cell.layer.in_bins(found)
            elif not isinstance(cell.layer, KEEPS_CLASSES):
                found = None
        return found

    def begin(self, column: Column) -> Column:
        """The rows after the host's part of the first step, compact enough to keep; `rest` goes on from there.

        Raises:
            DataError: a value has no number; names row and column.
        """
        return self._read(0, column) if 0 in self.readers else column

    def rest(self, begun: Column) -> torch.Tensor:
        """The preprocessed rows of what `begin` made."""
        value = self._from(begun, len(self.cells))
        if isinstance(value, Ragged):
            raise self._unequal("the model")
        return value if isinstance(value, torch.Tensor) else _tensor(value)

    def __call__(self, column: Column) -> torch.Tensor:
        """The preprocessed rows."""
        return self.rest(self.begin(column))

    def _through(self, column: Column, stop: int) -> Any:
        return self._from(self.begin(column) if stop else column, stop)

    def _from(self, value: Any, stop: int) -> Any:
        with torch.no_grad():
            for index, cell in enumerate(self.cells[:stop]):
                if index in self.readers:
                    value = self._read(index, value) if index else value
                    layer = cell.layer
                    if isinstance(layer, HostLayer) and (layer.makes_text() or not layer.encodes()):
                        continue
                value = self._step(cell, value)
        return value

    def _read(self, index: int, value: Any) -> Column:
        raw = as_numpy(value) if isinstance(value, torch.Tensor) else value
        try:
            made = self.readers[index](_plain(raw))
        except UnknownValue as error:
            raise self._unknown(error, raw) from None
        return Ragged(*made) if isinstance(made, tuple) else made

    def _unknown(self, error: UnknownValue, raw: Column) -> DataError:
        place, columns = error.place, self.feature.columns or (self.feature.field or "",)
        if isinstance(raw, Ragged):
            row, name = int(np.searchsorted(raw.offsets, place, side="right")) - 1, columns[0]
        else:
            width = max(1, raw.size // max(1, len(raw)))
            row, name = place // width, columns[place % width if len(columns) == width else 0]
        message = f'{self.path}: column "{name}", row {row}: {error}'
        return DataError(message, hint=error.hint, code="vocabulary")

    def _step(self, cell: Cell, value: Any) -> torch.Tensor:
        if not isinstance(value, Ragged):
            return cell(value if isinstance(value, torch.Tensor) else _tensor(value))
        if not cell.layer.reads_ragged and not isinstance(cell.layer, HostLayer):
            raise self._unequal(type(cell.layer).__name__)
        return cell.layer.forward_ragged(cell, torch.from_numpy(value.values), torch.from_numpy(value.offsets))

    def _unequal(self, reader: str) -> DataError:
        return DataError(
            f"{self.path}: rows have unequal lengths, which {reader} can't read",
            hint="begin its preprocess with {PadSequences: {maxlen: 200}} or a multi_hot CategoryEncoding",
        )


def _plain(column: Column) -> Any:
    """A column as the layers know it."""
    return (column.values, column.offsets) if isinstance(column, Ragged) else column


def _tensor(column: np.ndarray) -> torch.Tensor:
    value = torch.from_numpy(np.ascontiguousarray(column))
    return value.float() if value.dtype == torch.float64 else value
