"""What an exported model is fed, and how it is held against the run: raw rows in, with preprocessing that is numbers.

Steps that read texts, or rows of unequal length, stay outside: the exported model takes what they make.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from trainer.errors import RunError
from trainer.keras_files.parity import Parity, compared, drawn
from trainer.layers.arrays import as_numpy
from trainer.layers.discretization import Discretization
from trainer.layers.host import HostLayer
from trainer.layers.plan import Plan
from trainer.model.cell import Cell
from trainer.model.network import Network
from trainer.shapes import Shape, text
from trainer.sources.columns import Column, Ragged, take
from trainer.train.feed import input_dtypes
from trainer.train.pipeline import Pipeline

if TYPE_CHECKING:
    from trainer.train.use import OpenRun

ROWS = 64
"Rows that predictions are compared on."
Accept = Callable[[Cell, Shape, Shape, bool], str]
"(step, its input's and output's shape, whether values are integers) to why it stays outside; empty when it need not."


@dataclass
class Entry:
    """An input as the exported model takes it."""

    name: str
    pipeline: Pipeline
    start: int
    "Steps of the preprocessing that stay outside."
    shape: Shape
    "Of the rows that it takes."
    dtype: torch.dtype
    wanted: torch.dtype | None
    "What reaches the model; None where integers stay integers."
    fronts: list[Cell] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def cells(self) -> list[Cell]:
        """The steps that are exported."""
        return self.pipeline.cells[self.start :]

    @property
    def is_float(self) -> bool:
        """Whether numbers with fractions are taken, or integers at once made such."""
        return self.dtype.is_floating_point or self.wanted is not None

    @property
    def counts(self) -> bool:
        """Whether the last step makes integers of what must be floats."""
        last = self.cells[-1].layer if self.cells else None
        return self.wanted is not None and isinstance(last, Discretization) and last.output_mode == "int"

    def words(self, sizes: Sequence[int | None] | None = None) -> str:
        """What the rows are: `float32 (rows, 28, 28)`; `sizes` are those that an exporter came to."""
        shape = text(tuple(self.shape if sizes is None else sizes))
        return f"{str(self.dtype).removeprefix('torch.')} {shape.replace('None', 'rows', 1).replace('None', 'any')}"

    def fed(self, column: Column) -> torch.Tensor:
        """Raw rows as the exported model takes them."""
        return fed(self.pipeline, column, self.start)


class Served(nn.Module):
    """The model behind the exported steps of its preprocessing, called with raw rows of each input."""

    def __init__(self, network: Network, entries: Sequence[Entry]):
        super().__init__()
        self.network, self.entries = network, tuple(entries)
        self.steps = nn.ModuleList(nn.ModuleList(entry.cells) for entry in entries)

    def forward(self, *rows: torch.Tensor) -> Any:
        """The output tensor, or several."""
        made = []
        for entry, steps, x in zip(self.entries, self.steps, rows, strict=True):
            for cell in steps.children():
                x = cell(x)
            made.append(x.to(entry.wanted) if entry.wanted else x if x.is_floating_point() else x.long())
        return self.network(*made)


def fed(pipeline: Pipeline, column: Column, stop: int) -> torch.Tensor:
    """Rows after the first steps of a preprocessing."""
    value = pipeline._through(column, stop)
    value = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
    assert isinstance(value, torch.Tensor)
    return value.float() if value.dtype == torch.float64 else value


def numbers(cell: Cell, before: Shape, after: Shape, integers: bool) -> str:
    """Why a step can't be exported at all; empty for one that computes with numbers."""
    if isinstance(cell.layer, HostLayer):
        return "reads texts or looks values up"
    return ""


def entries_of(run: OpenRun, columns: Sequence[Column], accept: Accept = numbers) -> list[Entry]:
    """The inputs of a run's model as an exported one takes them; `columns` are raw rows of each.

    Raises:
        RunError: the model keeps a state from call to call.
    """
    network = run.built.network
    if network.batch_size is not None or network.states():
        raise RunError(
            "a stateful layer keeps what it saw from call to call, which this form has no place for",
            hint="--to keras, or train with stateful: false",
        )
    fronts = dict(network.fronts)
    dtypes = input_dtypes(run.built.outline, [p.drawn for p in run.built.inputs.values()])
    found = []
    for place, ((name, pipeline), column, wanted) in enumerate(
        zip(run.built.inputs.items(), columns, dtypes, strict=True)
    ):
        start, why = _outside(pipeline, column, accept)
        some = fed(pipeline, take(column, slice(0, 1)), start)
        given = network.graph.shapes[network.graph.inputs[name]]
        shape = tuple(some.shape) if start else pipeline.start if pipeline.cells else given
        notes = [_said(name, pipeline, start, why)] if start else []
        entry = Entry(name, pipeline, start, (None, *shape[1:]), some.dtype, wanted, fronts.get(place, []), notes)
        found.append(entry)
    return found


def _said(name: str, pipeline: Pipeline, start: int, why: str) -> str:
    steps = ", ".join(type(cell.layer).__name__ for cell in pipeline.cells[:start])
    return f"{name}: {steps} {'are' if start > 1 else 'is'} not in it ({why}); it takes what trainer makes of the rows"


def _outside(pipeline: Pipeline, column: Column, accept: Accept) -> tuple[int, str]:
    """(how many steps stay outside, why the last of them does)."""
    found, why, shape = 0, "", pipeline.start
    ragged = isinstance(column, Ragged)
    integers = not ragged and column.dtype.kind in "biu"
    for number, cell in enumerate(pipeline.cells):
        after = cell.layer.build(Plan(), shape)
        reason = "reads rows of unequal length" if ragged else accept(cell, shape, after, integers)
        if reason:
            found, why = number + 1, reason
        # What a step makes of lists of unequal length has one length.
        ragged = ragged and isinstance(cell.layer, HostLayer) and not cell.layer.encodes()
        integers = integers and cell.layer.reads_integers
        shape = after
    return found, why


def some_rows(run: OpenRun) -> tuple[list[Column], str]:
    """(raw rows of every input, what rows they are): the run's own, drawn ones for a model that has none."""
    if run.imported:
        made = drawn(run)
        return [made[name] for name in run.built.inputs], "drawn rows"
    part = "test" if run.sets.test is not None else "train"
    rows = run.rows(part)
    chosen = rows.take(slice(0, min(ROWS, len(rows))))
    return run.built.columns(chosen), f"{part} rows"


def hold(run: OpenRun, columns: Sequence[Column], made: dict[str, np.ndarray], rows: str, form: str) -> Parity:
    """The predictions of what was exported, held against the run's own.

    Raises:
        RunError: they differ; nothing is to be written.
    """
    found = compared(made, run.predict(columns), f"the run on {rows}")
    if not found.difference <= tolerance(run):
        raise RunError(f"--to {form}: {found}; nothing was written", hint="please report this model as a bug")
    return found


def words(found: Parity) -> str:
    """How far the two are apart, for who asked for the export."""
    return str(found).replace("NOT EQUAL", "equal within half precision")


def tolerance(run: OpenRun) -> float:
    """The largest difference that counts as equal: half precision rounds at other places in other libraries."""
    graph = run.built.graph
    types = {graph.dtype} | {t for layer in graph.layers.values() for t in layer.types()}
    return 2e-2 if any(t and "16" in t for t in types) else 1e-5


def as_arrays(entries: Sequence[Entry], columns: Sequence[Column]) -> dict[str, np.ndarray]:
    """Rows by the inputs' names, as an exported model takes them."""
    return {e.name: as_numpy(e.fed(c)) for e, c in zip(entries, columns, strict=True)}
