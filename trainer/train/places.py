"""The place in the recipe of what is wrong with the data, and ids that a table has no vector for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from trainer.errors import DataError, Path
from trainer.layers.embedding import Table
from trainer.layers.wiring import Wiring

if TYPE_CHECKING:
    from trainer.train.feed import Slot


@contextmanager
def said_at(path: Path) -> Iterator[None]:
    """Problems of data that are found inside stand at a path of the recipe, unless they have one."""
    try:
        yield
    except DataError as error:
        raise DataError(*(p if p.path else replace(p, path=path) for p in error.problems)) from None


def check_ids(wiring: Wiring, slots: Mapping[str, Slot]) -> None:
    """Hold the ids of each input against the tables that read it.

    Raises:
        DataError: a table is too small; says how large it must be.
    """
    for name, slot in slots.items():
        for call in wiring.calls:
            table = wiring.layers[call.layer]
            reads = wiring.inputs[name] in call.inputs and not call.options
            if reads and isinstance(table, Table):
                with said_at((*wiring.lines[call.output], "input_dim")):
                    _hold(name, slot, table)


def _hold(name: str, slot: Slot, table: Table) -> None:
    ids, words = slot.resident, slot.pipeline.names() or ()
    if ids is None or ids.numel() == 0 or slot.pipeline.drawn:
        return
    if int(ids.min()) < 0:
        raise DataError(f"input {name}: expected ids of 0 or more, found {int(ids.min())}", code="vocabulary")
    needed = max(len(words), int(ids.max()) + 1)
    if needed > table.input_dim:
        found = f"its vocabulary has {len(words)}" if needed == len(words) else f"its largest id is {needed - 1}"
        message = f"input {name} has more ids than input_dim, {table.input_dim}: {found}"
        raise DataError(message, hint=f"input_dim: {needed}", code="vocabulary")
