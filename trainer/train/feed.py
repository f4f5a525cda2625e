"""From raw columns to batches of tensors: resident arrays, and the order of rows.

A column becomes a resident tensor once when the result is not much larger than what was read; otherwise (thousands of
multi-hot columns from short lists) each batch is made when it is needed. The values are the same either way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainer.errors import DataError
from trainer.layers.bags import Bags
from trainer.layers.base import Layer
from trainer.layers.dense import Dense
from trainer.layers.encoding import CategoryEncoding
from trainer.layers.input_layer import Said
from trainer.layers.models import Composite
from trainer.layers.wiring import Wiring
from trainer.recipe.outline import Outline
from trainer.shapes import size
from trainer.sources.columns import Column, Ragged, take
from trainer.train.pipeline import CHUNK, Pipeline, read_column

__all__ = ["Batch", "Feed", "Pipeline", "Slot", "input_dtypes", "read_column"]

RESIDENT_BYTES = 2 << 30
EPOCH_COPY_BYTES = 32 << 20
MADE_AT_ONCE = 1 << 16
"Numbers of a resident tensor that are made at a time: what comes about on the way takes several times their memory."

LISTS_IN = (None, "float32", "bfloat16", "mixed_bfloat16")
"Number types of a layer that can be handed Bags: those that torch adds up rows in."


class Slot:
    """One feature of a set of rows, ready to be cut into batches."""

    def __init__(
        self,
        pipeline: Pipeline,
        column: Column,
        dtype: torch.dtype | None,
        device: torch.device,
        said: Said | None = None,
        as_lists: bool = False,
    ):
        """`as_lists`: multi-hot rows may be handed out as Bags, since whoever reads them can."""
        column = pipeline.begin(column)
        self.bags = multi_hot_lists(pipeline, column) if as_lists and said is None else None
        self.pipeline, self.column, self.dtype, self.device, self.said = pipeline, column, dtype, device, said
        self.resident: torch.Tensor | None = None
        width = size(pipeline.shape[1:])
        raw = column.values.nbytes if isinstance(column, Ragged) else column.nbytes
        after = len(column) * (width or 0) * 4
        if self.bags is None and width is not None and after <= min(RESIDENT_BYTES, max(64 << 20, 8 * raw)):
            self.resident = self._resident(column)

    def _resident(self, column: Column) -> torch.Tensor:
        """All rows, made in chunks; the column itself where nothing is to be made of it."""
        if not self.pipeline.cells and not isinstance(column, Ragged):
            return self._cast(self.pipeline.rest(column))
        made: torch.Tensor | None = None
        many = max(1, min(CHUNK, MADE_AT_ONCE // max(1, size(self.pipeline.shape[1:]) or 1)))
        for start in range(0, len(column), many):
            rows = slice(start, min(start + many, len(column)))
            try:
                part = self._cast(self.pipeline.rest(take(column, rows)))
            except DataError:
                # All rows at once tell the number that the bad one has among them.
                self._cast(self.pipeline.rest(column))
                raise
            if made is None:
                made = part.new_empty(len(column), *part.shape[1:])
            made[rows] = part
        return torch.zeros(0) if made is None else made

    def _cast(self, value: torch.Tensor) -> torch.Tensor:
        if self.said is not None and self.said.layer.dtype not in (None, "float32"):
            _hold_type(value, self.said)
        if self.dtype is not None:
            value = value.to(self.dtype)
        elif value.dtype == torch.uint8 or not value.is_floating_point():
            value = value.long()
        return value.to(self.device)

    def rows(self, index: np.ndarray | slice) -> Any:
        """The rows of `index`: a tensor, or Bags."""
        if self.bags is not None:
            return self.bags.rows(index)
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
    """Rows of one step: inputs, targets and, for each target whose rows are weighed, their weights."""

    xs: tuple[torch.Tensor, ...]
    ys: tuple[torch.Tensor, ...]
    weights: tuple[torch.Tensor | None, ...]

    @property
    def size(self) -> int:
        """The number of rows."""
        return self.xs[0].shape[0]


@dataclass
class Feed:
    """A set of rows as batches: inputs and targets in the order of the model's, and weights of rows by target."""

    xs: tuple[Slot, ...]
    ys: tuple[Slot, ...]
    weights: tuple[torch.Tensor | None, ...]

    def __len__(self) -> int:
        return len(self.xs[0].column)

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self.xs[0].device

    def steps(self, batch_size: int) -> int:
        """Batches that hold every row once; the last may be smaller."""
        return -(-len(self) // batch_size)

    def batches(
        self, batch_size: int, order: np.ndarray | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[Batch]:
        """Batches number `start` to `stop` over the rows, in `order`."""
        stop = self.steps(batch_size) if stop is None else stop
        if order is not None and self._fits_twice() and stop - start > 1:
            span = slice(start * batch_size, stop * batch_size)
            yield from _cut(self._rows(order[span]), batch_size, stop - start)
            return
        for number in range(start, stop):
            span = slice(number * batch_size, min((number + 1) * batch_size, len(self)))
            yield self._rows(span if order is None else order[span])

    def let_go(self) -> None:
        """Hold no inputs ready any more: those that are asked for after all are made then."""
        for slot in self.xs:
            slot.resident = None

    def _fits_twice(self) -> bool:
        """Whether an epoch's rows may be copied into their order."""
        sizes = [slot.bytes for slot in (*self.xs, *self.ys)]
        return all(sizes) and sum(sizes) <= EPOCH_COPY_BYTES

    def _rows(self, index: np.ndarray | slice) -> Batch:
        xs, ys = (tuple([slot.rows(index) for slot in slots]) for slots in (self.xs, self.ys))
        place = index if isinstance(index, slice) else torch.from_numpy(index)
        return Batch(xs, ys, tuple([None if w is None else w[place] for w in self.weights]))


def _hold_type(value: torch.Tensor, said: Said) -> None:
    """Refuse what a type of integers can't hold.

    Raises:
        DataError: names the type and the value.
    """
    dtype = str(said.layer.dtype)
    held = torch.iinfo(getattr(torch, dtype))
    bad = (value < held.min) | (value > held.max) | (value != value.trunc() if value.is_floating_point() else False)
    if bool(bad.any()):
        expected = f"expected whole numbers from {held.min} to {held.max} ({dtype})"
        message, hint = f"{expected}, found {value[bad][0].item():g}", "leave dtype out: the data say it"
        raise DataError(message, path=(*said.path, "dtype"), hint=hint)


def _cut(rows: Batch, size: int, count: int) -> Iterator[Batch]:
    """The first `count` batches of rows that are in their order: views."""
    xs, ys = zip(*(x.split(size) for x in rows.xs), strict=True), zip(*(y.split(size) for y in rows.ys), strict=True)
    weighed = any(w is not None for w in rows.weights)
    none = (None,) * len(rows.weights)
    parts = [itertools.repeat(None) if w is None else w.split(size) for w in rows.weights]
    weights = zip(*parts, strict=False) if weighed else itertools.repeat(none)
    for x, y, weight in itertools.islice(zip(xs, ys, weights, strict=False), count):
        yield Batch(x, y, weight)


def multi_hot_lists(pipeline: Pipeline, column: Column) -> Bags | None:
    """What a multi-hot encoding of lists makes of them, without its zeros; None where the preprocessing is another.

    Raises:
        DataError: an id that the encoding can't take.
    """
    layer = pipeline.cells[0].layer if len(pipeline.cells) == 1 and not pipeline.drawn else None
    if not isinstance(layer, CategoryEncoding) or layer.output_mode != "multi_hot" or not isinstance(column, Ragged):
        return None
    layer.check_ragged(torch.from_numpy(column.values), torch.from_numpy(column.offsets))
    return Bags.of(column.values, column.offsets, layer.num_tokens)


def reads_lists(wiring: Wiring) -> list[bool]:
    """Whether whatever reads each input can be handed Bags."""
    each = (list(readers(wiring, number)) for number in wiring.inputs.values())
    return [all(type(layer) is Dense and layer.dtype in LISTS_IN for layer in found) for found in each]


def input_dtypes(outline: Outline, drawn: Sequence[Sequence[Layer]]) -> list[torch.dtype | None]:
    """float32 for each input, unless what reads it first reads integers (Embedding); `drawn` act before the model."""
    wiring = outline.wiring
    found: list[torch.dtype | None] = []
    for number, front in zip(wiring.inputs.values(), drawn, strict=True):
        first = list(front[:1]) or list(readers(wiring, number))
        found.append(None if all(layer.reads_integers for layer in first) else torch.float32)
    return found


def readers(wiring: Wiring, number: int) -> Iterator[Layer]:
    """The layers that read a tensor, also inside models."""
    for call in wiring.calls:
        layer = wiring.layers[call.layer]
        if number in call.inputs and isinstance(layer, Composite):
            yield from readers(layer.wiring(), call.inputs.index(number))
        elif number in call.inputs:
            yield layer
