"""First values of a layer's weights that stand in the recipe as nested lists of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from trainer.layers.plan import Plan
from trainer.lazy import np
from trainer.options import Rule

if TYPE_CHECKING:
    import numpy


def _size(value: Any) -> tuple[int, ...]:
    """Shape of a nested list of numbers.

    Raises:
        ValueError: it is none, or its rows are not equally long.
    """
    if isinstance(value, (list, tuple)):
        inner = {_size(v) for v in value}
        if len(inner) != 1:
            raise ValueError
        return (len(value), *inner.pop())
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError
    return ()


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else float(value)


def _arrays(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError
    for array in value:
        _size(array)
    return _frozen(value)


Arrays = Annotated[
    tuple[Any, ...],
    Rule("a list of nested lists of numbers, one a weight", _arrays, {"type": "array", "minItems": 1}),
]


class Given:
    """Starts a weight from an array."""

    seed = None

    def __init__(self, array: Any):
        self.array = array

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        """The array."""
        return np.asarray(self.array, "float32")


def start_from(plan: Plan, arrays: Sequence[Any]) -> None:
    """Let the weights of a plan and of what it holds start from arrays, in Keras's order.

    Raises:
        ValueError: another number of arrays, or another shape.
    """
    places = list(_places(plan))
    if len(places) != len(arrays):
        raise ValueError(f"expected weights: a list of {len(places)} arrays, found {len(arrays)}")
    for (owner, number), array in zip(places, arrays, strict=True):
        spec, size = owner.weights[number], _size(array)
        if spec.shape != size:
            raise ValueError(f"expected an array of shape {spec.shape} for {spec.name} in weights, found {size}")
        first: Any = Given(array)
        owner.weights[number] = replace(spec, initializer=first)


def _places(plan: Plan) -> list[tuple[Plan, int]]:
    own = [(plan, number) for number in range(len(plan.weights))]
    return own + [place for _, inner in plan.children.values() for place in _places(inner)]
