"""From raw columns to batches of tensors: resident arrays, and the order of rows.

A column becomes a resident tensor once when the result is not much larger than what was read; otherwise (thousands of
multi-hot columns from short lists) each batch is made when it is needed. The values are the same either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainer.layers.base import Layer
from trainer.shapes import size
from trainer.sources.columns import Column, Ragged, take
from trainer.train.pipeline import CHUNK, Pipeline, read_column

__all__ = ["Batch", "Feed", "Gathered", "Pipeline", "Slot", "input_dtype", "read_column"]

RESIDENT_BYTES = 2 << 30
EPOCH_COPY_BYTES = 256 << 20


def _chunks(column: Column) -> Iterator[Column]:
    for start in range(0, len(column), CHUNK):
        yield take(column, slice(start, min(start + CHUNK, len(column))))


class Slot:
    """One feature of a set of rows, ready to be cut into batches."""

    def __init__(self, pipeline: Pipeline, column: Column, dtype: torch.dtype | None, device: torch.device):
        column = pipeline.begin(column)
        self.pipeline, self.column, self.dtype, self.device = pipeline, column, dtype, device
        self.resident: torch.Tensor | None = None
        width = size(pipeline.shape[1:])
        raw = column.values.nbytes if isinstance(column, Ragged) else column.nbytes
        after = len(column) * (width or 0) * 4
        if width is not None and after <= min(RESIDENT_BYTES, max(64 << 20, 8 * raw)):
            parts = [self._cast(pipeline.rest(c)) for c in _chunks(column)]
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
            return self._cast(self.pipeline.rest(take(self.column, index)))
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
