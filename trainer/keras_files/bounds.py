"""What a stranger's description may ask for, held against the file before any memory is taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.errors import FileError
from trainer.layers.graph import Graph
from trainer.layers.plan import Plan
from trainer.runs.hdf5 import first_line
from trainer.runs.weights_file import ByLayer, ByPlace
from trainer.shapes import size, text
from trainer.wording import clean

MOST_ROW = 2**28
"Numbers of one row of an input or an output, and of what layers keep from batch to batch."
MOST_BATCH = 2**20
MOST_FRESH = 2**29
"Parameters of a model whose weights the file does not hold."
_ODD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, UnicodeError)
"What Python raises of a description that no Keras ever wrote."


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Errors of a description that is none, as one of the file.

    Raises:
        FileError: instead of whatever Python says.
    """
    try:
        yield
    except _ODD as error:
        message = f"{path}: the description is damaged, or none that Keras writes: {clean(first_line(error))}"
        raise FileError(message, hint="copy or download it again; --debug shows where", code="damaged") from error
    except MemoryError:
        raise FileError(f"{path}: the description asks for more memory than there is", code="size") from None


def check_sizes(graph: Graph, weights: ByLayer | ByPlace | None, batch_size: int) -> None:
    """Refuse a model that is larger than what the file holds for it.

    Raises:
        FileError: sizes that can't be meant.
    """
    if batch_size > MOST_BATCH:
        raise FileError(f"expected batches of at most {MOST_BATCH:,} rows, found {batch_size:,}", code="size")
    for name, number in (*graph.inputs.items(), *graph.outputs.items()):
        row = size(n or 1 for n in graph.shapes[number][1:]) or 0
        if row > MOST_ROW:
            raise FileError(f"a row of {clean(name)} would have {row:,} numbers, more than {MOST_ROW:,}", code="size")
    states = sum(size(n or 1 for n in shape) or 0 for plan in graph.plans.values() for shape in _states(plan))
    if states > MOST_ROW:
        raise FileError(f"the layers would keep {states:,} numbers, more than {MOST_ROW:,}", code="size")
    asked = sum(moving + still for *_, moving, still in graph.sizes())
    if weights is None and asked > MOST_FRESH:
        raise FileError(f"the model has {asked:,} parameters, and the file holds none of them", code="size")
    if weights is not None and asked > (held := sum(array.size for array in _arrays(weights))):
        message = f"the description asks for {asked:,} parameters, and the file holds {held:,}{_where(graph, weights)}"
        raise FileError(message, hint="the weights of the file are those of another model", code="weights")


def _where(graph: Graph, weights: ByLayer | ByPlace) -> str:
    """The first layer that asks for other weights than the file holds for it, where the file tells them by layer."""
    held = {s.layer: [a.shape for a in s.arrays] for s in weights.layers} if isinstance(weights, ByLayer) else {}
    for name, _, _, moving, still in graph.sizes():
        there = held.get(name)
        if there and sum(size(shape) or 1 for shape in there) != moving + still:
            found = ", ".join(text(tuple(shape)) for shape in there[:6])
            return f": {clean(name)} asks for {moving + still:,}, and has arrays of {found}"
    return ""


def _states(plan: Plan) -> Iterator[Any]:
    yield from plan.states.values()
    for _, inner in plan.children.values():
        yield from _states(inner)


def _arrays(weights: ByLayer | ByPlace) -> Iterator[Any]:
    if isinstance(weights, ByLayer):
        yield from (array for saved in weights.layers for array in saved.arrays)
    else:
        yield from (array for arrays in weights.places.values() for array in arrays.values())
