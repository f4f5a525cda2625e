"""From raw columns to batches of tensors: preprocessing pipelines, resident arrays, and the order of rows.

A column becomes a resident tensor once when the result is not much larger than what was read; otherwise (thousands of
multi-hot columns from short lists) each batch is made when it is needed. The values are the same either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainer.errors import DataError, RecipeError
from trainer.layers.base import Layer, Plan
from trainer.model.network import Cell, Clock
from trainer.recipe.schema import Feature
from trainer.shapes import Shape, size
from trainer.sources.columns import Column, Ragged, Rows, take

CHUNK = 4096
RESIDENT_BYTES = 2 << 30
EPOCH_COPY_BYTES = 256 << 20


def read_column(rows: Rows, feature: Feature, *, target: bool = False) -> Column:
    """The raw column of a feature: a field, or columns side by side.

    Raises:
        DataError: a column is missing or holds text.
    """
    if feature.columns is None:
        return _numbers(_column(rows, feature.field or ""), feature.field or "", target=target)
    parts = [_numbers(_column(rows, name), name, target=True) for name in feature.columns]
    if target and len(parts) == 1:
        return parts[0]
    return np.stack([np.asarray(p, "float32") for p in parts], axis=1)


def _column(rows: Rows, name: str) -> Column:
    if name not in rows.columns:
        raise DataError(f'the rows have no column "{name}"', hint=f"they have {', '.join(list(rows.columns)[:12])}")
    return rows.columns[name]


def _numbers(column: Column, name: str, *, target: bool) -> Column:
    if isinstance(column, Ragged):
        return column
    if column.dtype.kind in "OUS":
        row, found = next(((i, v) for i, v in enumerate(column.astype(str)) if not _is_number(v)), (0, ""))
        raise DataError(f'column "{name}" holds text ("{found}" in row {row + 1}), but numbers are needed')
    return column if target or column.ndim > 1 else column[:, None]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class Pipeline:
    """The preprocessing of one feature: built, adapted to the training rows once, then applied to any rows."""

    def __init__(self, feature: Feature, shape: Shape, path: str):
        self.path = path
        self.cells: list[Cell] = []
        for index, layer in enumerate(feature.preprocess):
            plan = Plan()
            try:
                shape = layer.build(plan, shape)
            except ValueError as error:
                raise RecipeError(f"{path}.preprocess[{index}] {type(layer).__name__}: {error}", code="shape") from None
            cell = Cell(layer, plan, f"{path}/{index}", Clock(0), trainable=False)
            self.cells.append(cell.eval())
        self.shape = shape

    def adapt(self, column: Column) -> None:
        """Let every step that learns from data see the training rows, in order."""
        for index, cell in enumerate(self.cells):
            if not cell.layer.fitted or not cell.specs:
                continue
            chunks = (self._through(c, index).numpy() for c in _chunks(column))
            shape = (None, *self._through(take(column, slice(0, 1)), index).shape[1:])
            found = cell.layer.adapt(chunks, shape)
            cell.load_state_dict({name: torch.as_tensor(value) for name, value in found.items()})

    def state(self) -> dict[str, np.ndarray]:
        """What was learned from the training rows."""
        return {f"{i}/{k}": v.numpy().copy() for i, c in enumerate(self.cells) for k, v in c.state_dict().items()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take up what an earlier run learned; nothing is adapted again."""
        for index, cell in enumerate(self.cells):
            cell.load_state_dict({k: torch.as_tensor(state[f"{index}/{k}"]) for k in cell.state_dict()})

    def _through(self, column: Column, stop: int | None = None) -> torch.Tensor:
        cells = self.cells[:stop]
        with torch.no_grad():
            if isinstance(column, Ragged):
                if not cells or not cells[0].layer.reads_ragged:
                    first = type(cells[0].layer).__name__ if cells else "the model"
                    raise DataError(
                        f"{self.path}: rows have unequal lengths, which {first} can't read",
                        hint="begin its preprocess with {PadSequences: {maxlen: 200}} or a multi_hot CategoryEncoding",
                    )
                offsets = torch.from_numpy(column.offsets)
                value = cells[0].layer.ragged(cells[0], torch.from_numpy(column.values), offsets)
                cells = cells[1:]
            else:
                value = torch.from_numpy(np.ascontiguousarray(column))
                if value.dtype == torch.float64:
                    value = value.float()
            for cell in cells:
                value = cell(value)
        return value

    def __call__(self, column: Column) -> torch.Tensor:
        """The preprocessed rows."""
        return self._through(column)


def _chunks(column: Column) -> Iterator[Column]:
    for start in range(0, len(column), CHUNK):
        yield take(column, slice(start, min(start + CHUNK, len(column))))


class Slot:
    """One feature of a set of rows, ready to be cut into batches."""

    def __init__(self, pipeline: Pipeline, column: Column, dtype: torch.dtype | None, device: torch.device):
        self.pipeline, self.column, self.dtype, self.device = pipeline, column, dtype, device
        self.resident: torch.Tensor | None = None
        width = size(pipeline.shape[1:])
        raw = column.values.nbytes if isinstance(column, Ragged) else column.nbytes
        after = len(column) * (width or 0) * 4
        if width is not None and after <= min(RESIDENT_BYTES, max(64 << 20, 8 * raw)):
            parts = [self._cast(pipeline(c)) for c in _chunks(column)]
            self.resident = torch.cat(parts) if parts else torch.zeros(0)

    def _cast(self, value: torch.Tensor) -> torch.Tensor:
        if self.dtype is not None:
            value = value.to(self.dtype)
        elif value.dtype == torch.uint8 or not value.is_floating_point():
            value = value.long()
        return value.to(self.device)

    def rows(self, index: np.ndarray | slice) -> torch.Tensor:
        """The rows of `index`."""
        if self.resident is None:
            return self._cast(self.pipeline(take(self.column, index)))
        if isinstance(index, slice):
            return self.resident[index]
        return self.resident.index_select(0, torch.from_numpy(index).to(self.device))

    @property
    def bytes(self) -> int:
        """Size of the resident tensor; 0 without one."""
        return 0 if self.resident is None else self.resident.numel() * self.resident.element_size()


@dataclass
class Batch:
    """Rows of one step."""

    x: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor | None


@dataclass
class Feed:
    """A set of rows as batches: input, target and, when rows are weighed, their weights."""

    x: Slot
    y: Slot
    weight: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.x.column)

    def steps(self, batch_size: int) -> int:
        """Batches that hold every row once; the last may be smaller."""
        return -(-len(self) // batch_size)

    def batches(
        self, batch_size: int, order: np.ndarray | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[Batch]:
        """Batches number `start` to `stop` over the rows, in `order`."""
        stop = self.steps(batch_size) if stop is None else stop
        if order is not None and 0 < self.x.bytes <= EPOCH_COPY_BYTES and self.y.bytes and stop - start > 1:
            span = slice(start * batch_size, stop * batch_size)
            rows = self._gathered(order[span])
            yield from rows.batches(batch_size, stop=stop - start)
            return
        for number in range(start, stop):
            span = slice(number * batch_size, min((number + 1) * batch_size, len(self)))
            index: Any = span if order is None else order[span]
            weight = (
                None if self.weight is None else self.weight[torch.from_numpy(index) if order is not None else span]
            )
            yield Batch(self.x.rows(index), self.y.rows(index), weight)

    def _gathered(self, order: np.ndarray) -> Gathered:
        return Gathered(self.x.rows(order), self.y.rows(order), self._weights(order))

    def _weights(self, index: np.ndarray | slice) -> torch.Tensor | None:
        if self.weight is None:
            return None
        return self.weight[index if isinstance(index, slice) else torch.from_numpy(index)]


@dataclass
class Gathered:
    """An epoch's rows, already in their order: batches are views."""

    x: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor | None

    def batches(self, batch_size: int, stop: int) -> Iterator[Batch]:
        """The first `stop` batches."""
        xs, ys = self.x.split(batch_size), self.y.split(batch_size)
        weights = [None] * len(xs) if self.weight is None else self.weight.split(batch_size)
        for number in range(stop):
            yield Batch(xs[number], ys[number], weights[number])


def input_dtype(layers: tuple[Layer, ...]) -> torch.dtype | None:
    """float32, unless the first layer reads integers (Embedding)."""
    return None if layers[0].reads_integers else torch.float32
