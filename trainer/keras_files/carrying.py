"""The optimizer's state of a file for the model that was made of it: in our order of weights and in today's layouts.

What an optimizer keeps for a weight has the weight's form, so it goes the way of the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trainer.errors import FileError
from trainer.keras_files.arrays import current_arrays, layout_of, matched, trees
from trainer.keras_files.current import Description
from trainer.keras_files.leaves import Tree
from trainer.keras_files.opening import Opened
from trainer.keras_files.state import COUNTERS, State, columns_of, filled, generation, slots_of
from trainer.optimizers.base import Optimizer
from trainer.runs.weights_file import ByLayer, Saved

if TYPE_CHECKING:
    import numpy


def carried(
    opened: Opened, description: Description, optimizer: Optimizer, fresh: State, called: Mapping[str, str]
) -> dict[str, numpy.ndarray]:
    """The state of the file's optimizer, in the form that `Updater.load_state` takes.

    `fresh` is the state of a new optimizer over the model's weights; `called` says what we call a layer of the file.

    Raises:
        FileError: it does not fit.
    """
    saved = opened.optimizer or ()
    layout = layout_of(description, opened)
    old = generation([name for name, _ in saved], opened.version) == "old"
    if layout is not None and (layout.keras_1 or layout.turned) and old and isinstance(opened.weights, ByLayer):
        return _Converted(opened, description, opened.weights, called).state(optimizer, fresh)
    names = [entry["config"].get("name", "") for entry in description.architecture["config"]["layers"]]
    places = {called.get(name, name): number for number, name in enumerate(names)}
    found = slots_of(optimizer, dict(_in_order(fresh, places)), saved, opened.version)
    return {key: found[key] for key in fresh}


def _in_order(fresh: State, places: Mapping[str, int]) -> Iterator[tuple[str, numpy.ndarray]]:
    """A state as it would be if the model's layers stood in the file's order."""
    groups: list[list[str]] = []
    known: set[str] = set()
    for key in fresh:
        path = _path(key)
        last = _path(groups[-1][-1]) if groups else None
        # Slots side by side share a group; a path that comes again begins the next slot.
        if path is None or last is None or (path in known and path != last):
            groups, known = [*groups, []], set()
        known |= {path} if path is not None else set()
        groups[-1].append(key)
    for group in groups:
        for key in sorted(group, key=lambda k: places.get((_path(k) or "").partition("/")[0], len(places))):
            yield key, fresh[key]


def _path(key: str) -> str | None:
    """The path of a slot's weight, None for a counter; `0/momentum/dense/kernel` belongs to one of several."""
    parts = key.split("/")
    parts = parts[1:] if parts[0].isdigit() else parts
    return None if parts[0] in COUNTERS else "/".join(parts[1:])


class _Converted:
    """The state of a file whose arrays have another layout than today's."""

    def __init__(self, opened: Opened, description: Description, weights: ByLayer, called: Mapping[str, str]):
        self.opened, self.description, self.weights, self.called = opened, description, weights, called
        pairs = matched(trees(description.architecture), weights)
        self.counts = {id(saved): _training(layer, len(saved.arrays)) for layer, saved in pairs if layer is not None}

    def state(self, optimizer: Optimizer, fresh: State) -> dict[str, numpy.ndarray]:
        """Every slot put in the place of the weights, brought into today's layout, and taken out by name."""
        arrays = [values for _, values in self.opened.optimizer or ()]
        iteration, columns = columns_of(optimizer, sum(self.counts.values()), arrays)
        found = {}
        for slot, column in columns.items():
            for name, values in self._today(column):
                if f"{slot}/{name}" in fresh:
                    found[f"{slot}/{name}"] = values
        lacking = [key for key in fresh if key not in COUNTERS and key not in found]
        if lacking:
            raise FileError(
                f"the optimizer's state does not fit: nothing in it is {lacking[0]}", code="optimizer-state"
            )
        return filled(fresh, iteration, found)

    def _today(self, column: Sequence[numpy.ndarray]) -> Iterator[tuple[str, numpy.ndarray]]:
        """A slot's arrays by our paths of weights."""
        put = ByLayer(tuple(self._filled(iter(column))), self.weights.top)
        made = current_arrays(self.description, replace(self.opened, weights=put))
        assert isinstance(made, ByLayer)
        for saved in made.layers:
            for name, values in zip(saved.names, saved.arrays, strict=True):
                layer, _, rest = name.partition("/")
                yield f"{self.called.get(layer, layer)}/{rest}", values

    def _filled(self, column: Iterable[numpy.ndarray]) -> Iterator[Saved]:
        """The file's layers with the arrays of a slot in the place of the weights that train."""
        rest = iter(column)
        for saved in self.weights.layers:
            count = self.counts.get(id(saved), 0)
            taken = [next(rest) for _ in range(count)]
            if any(a.shape != b.shape for a, b in zip(taken, saved.arrays, strict=False)):
                raise FileError(
                    f"the optimizer's state does not fit the weights of {saved.layer}", code="optimizer-state"
                )
            yield Saved(saved.layer, saved.names, (*taken, *saved.arrays[count:]))


def _training(layer: Tree, count: int) -> int:
    """How many of a layer's `count` arrays in a file are of weights that train; they stand first."""
    return max(count - _fixed(layer, False), 0) if layer.trainable else 0


def _fixed(layer: Tree, frozen: bool) -> int:
    frozen = frozen or not layer.trainable
    own = 0 if layer.leaf is None else len(layer.leaf.names if frozen else layer.leaf.fixed)
    return own + sum(_fixed(child, frozen) for _, child in layer.children)
