"""Weights of a file in today's layouts, by the names that our layers give them.

A file before Keras 3 lists what trains before what does not, through all that a layer holds; so the `trainable` flags
of its description are read along, and what comes out is named, so that nothing hangs on the order any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.errors import FileError
from trainer.keras_files import layouts
from trainer.keras_files.leaves import Leaf, Slot, Tree, listed, tree
from trainer.keras_files.reading import in_order
from trainer.keras_files.replaced import AND_ACTIVATION, HIGHWAY
from trainer.naming import snake_case
from trainer.runs.weights_file import LAYERS, OLD_LAYERS, ByLayer, ByPlace, Saved
from trainer.wording import clean

if TYPE_CHECKING:
    import numpy

    from trainer.keras_files.current import Description
    from trainer.keras_files.opening import Opened

Entry = dict[str, Any]
_OLD_NAMES = {"depthwise_kernel": "kernel", "running_mean": "moving_mean", "running_std": "moving_variance"}
_STEM = re.compile(r"(.*?)(?:_\d+)?$")


@dataclass(frozen=True)
class Layout:
    """How a file keeps arrays."""

    keras_1: bool = False
    "Whether each gate has its own arrays, and kernels the axes of Keras 1."
    turned: bool = False
    "Whether kernels were made for Theano's convolution."


def current_arrays(description: Description, opened: Opened, *, by_name: bool = False) -> ByLayer | ByPlace:
    """The file's weights in today's layouts, those of files before Keras 3 under our own layers' names.

    Layers are matched by name where the file has all of these names, or with `by_name`, else in their order.

    Raises:
        FileError: the file holds another number of layers with weights than the description, or of a layer's weights.
    """
    with in_order("the file's weights"):
        return _current_arrays(description, opened, by_name)


def _current_arrays(description: Description, opened: Opened, by_name: bool) -> ByLayer | ByPlace:
    weights = opened.weights
    if weights is None:
        raise FileError("expected weights in the file, found a description alone", hint="import without weights")
    held = trees(description.architecture)
    if isinstance(weights, ByPlace):
        return ByLayer(tuple(_by_place(held, weights))) if description.old or _is_old(weights) else weights
    layout = layout_of(description, opened)
    if layout is None:
        return weights
    return ByLayer(tuple(_by_layer(held, weights, layout, by_name)), weights.top)


def layout_of(description: Description, opened: Opened) -> Layout | None:
    """How the file keeps its arrays; None for today's way."""
    if major(opened.weights_version or opened.version) >= TODAY:
        return None
    return Layout(opened.weights_version is None, description.theano or opened.backend == "theano")


TODAY = 3
"The release since which arrays are kept as they are today."


def major(version: str | None) -> int:
    """The first number of a release; 1 where none is named."""
    found = re.match(r"\d+", version or "1")
    return int(found[0]) if found else 1


def trees(architecture: Entry) -> list[Tree]:
    """What each layer of the model holds."""
    return [tree(x) for x in architecture["config"]["layers"] if x["class_name"] != "InputLayer"]


def matched(held: Sequence[Tree], weights: ByLayer, by_name: bool = False) -> list[tuple[Tree | None, Saved]]:
    """Which layer each of the file's is; None for one that the description lacks (by name alone).

    Raises:
        FileError: in order, the numbers of layers with weights differ.
    """
    ours = {t.name: t for t in held}
    there = [saved for saved in weights.layers if saved.arrays]
    if by_name or all(saved.layer in ours for saved in there):
        return [(ours.get(saved.layer), saved) for saved in there]
    here = [t for t in held if any(True for _ in t.leaves())]
    if len(here) != len(there):
        found = f"{_names([s.layer for s in there])} in the file, {_names([t.name for t in here])} in the description"
        raise FileError(f"expected as many layers with weights as the description has, found {found}")
    return list(zip(here, there, strict=True))


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(clean(n) for n in names[:12])
    return f"{len(names)} ({shown}{', …' * (len(names) > 12)})"


def _by_layer(held: Sequence[Tree], weights: ByLayer, layout: Layout, by_name: bool) -> Iterator[Saved]:
    for layer, saved in matched(held, weights, by_name):
        if layer is None:
            yield saved
            continue
        yield _saved(layer, saved.layer if by_name else layer.name, split(layer, saved, layout), layout)


def split(layer: Tree, saved: Saved, layout: Layout) -> list[tuple[Leaf, list[numpy.ndarray]]]:
    """The file's arrays of a layer to the leaves in it, each in its own order.

    Raises:
        FileError: there are more or fewer of them than the layer has weights.
    """
    for per_gate in (True, False) if layout.keras_1 else (False,):
        slots = [part for slot in listed(layer) for part in _parts(slot, per_gate)]
        if len(slots) == len(saved.arrays):
            break
    else:
        hint = "the file's description and weights do not belong together"
        message = f"{layer.name}: expected {len(listed(layer))} weights, found {len(saved.arrays)} in the file"
        raise FileError(clean(message), hint=hint)
    order = _order(slots, saved.names)
    found: dict[int, tuple[Leaf, dict[str, numpy.ndarray]]] = {}
    for slot, array in zip(slots, _highways(slots, [saved.arrays[n] for n in order]), strict=True):
        _, arrays = found.setdefault(id(slot.leaf), (slot.leaf, {}))
        arrays[slot.name] = array
    return [(leaf, list(arrays.values())) for leaf, arrays in found.values()]


def _parts(slot: Slot, per_gate: bool) -> list[Slot]:
    """A weight, or what Keras 1 kept for it: all gates' at the place of the first weight."""
    count = layouts.gated(slot.leaf.kind) if per_gate else 0
    if not count:
        return [slot]
    return [Slot(slot.leaf, f"{slot.name}:{n}") for n in range(count)] if slot.name == slot.leaf.names[0] else []


def _order(slots: Sequence[Slot], names: Sequence[str]) -> list[int]:
    """Which of the file's arrays each weight is: its turn, unless the names say plainly that it is another.

    Keras 2 does not say of a model in a model that it is frozen, which changes the order.
    """
    turn = list(range(len(slots)))
    ours = [(slot.leaf.path.split("/")[-1], slot.name.split("/")[-1]) for slot in slots]
    theirs = [_read(name) for name in names]
    if len({*ours}) < len(ours) or sorted(ours) != sorted(theirs):
        return turn
    return [theirs.index(pair) for pair in ours]


def _read(name: str) -> tuple[str, str]:
    """(layer, weight) of `block/conv_1/kernel:0`."""
    parts = name.partition(":")[0].split("/")
    role = _OLD_NAMES.get(parts[-1], parts[-1])
    return (parts[-2] if len(parts) > 1 else "", role)


def _highways(slots: Sequence[Slot], arrays: list[numpy.ndarray]) -> list[numpy.ndarray]:
    """Keras 1's Highway lists both its matrices, then both its biases; its two Dense layers have one of each."""
    by_model: dict[str, list[int]] = {}
    for number, slot in enumerate(slots):
        above, _, own = slot.leaf.path.rpartition("/")
        if own in {f"{above.rpartition('/')[2]}_{part}" for part in HIGHWAY}:
            by_model.setdefault(above, []).append(number)
    made = list(arrays)
    for numbers in by_model.values():
        given = [arrays[n] for n in numbers]
        for ndim in (1, 2):
            into = [n for n in numbers if slots[n].name == ("kernel" if ndim == 2 else "bias")]
            for number, array in zip(into, [a for a in given if a.ndim == ndim], strict=False):
                made[number] = array
    return made


def _saved(layer: Tree, name: str, parts: list[tuple[Leaf, list[numpy.ndarray]]], layout: Layout) -> Saved:
    rows: list[tuple[bool, str, numpy.ndarray]] = []
    for leaf, found in parts:
        made = converted(leaf, found, layout)
        # More or fewer of them are said where they are put into the model.
        moving = [leaf.moves and n in leaf.trained for n in leaf.names]
        rows += zip(moving, (f"{leaf.path}/{n}" for n in leaf.names), made, strict=False)
    rows.sort(key=lambda row: not row[0])
    return Saved(name, tuple(n for _, n, _ in rows), tuple(a for *_, a in rows))


def converted(leaf: Leaf, arrays: list[numpy.ndarray], layout: Layout) -> list[numpy.ndarray]:
    """A leaf's arrays in today's layout."""
    if layout.keras_1:
        arrays = layouts.from_keras_1(leaf.kind, leaf.config, arrays)
    if layout.turned:
        arrays = layouts.turned(leaf.kind, leaf.config, arrays)
    return layouts.settled(leaf.kind, leaf.config, arrays)


def _is_old(weights: ByPlace) -> bool:
    """Whether a file with places is of TensorFlow 2.12 to 2.15: `_layer_checkpoint_dependencies`, `_query_dense`.

    The latter only in a MultiHeadAttention: that of groups of queries, which Keras 3 brought, has it to this day.
    """
    heads = (p for p in weights.places if p.endswith("/_query_dense") and "grouped_query_attention" not in p)
    return any(place.startswith(OLD_LAYERS) for place in weights.places) or any(True for _ in heads)


def _by_place(held: Sequence[Tree], weights: ByPlace) -> Iterator[Saved]:
    places = _Places(weights)
    for layer, place in places.of(held, ""):
        parts = [(leaf, arrays) for leaf, arrays in places.leaves(layer, place) if arrays]
        if parts:
            yield _saved(layer, layer.name, parts, Layout())


class _Places:
    """Where an archive of TensorFlow keeps the weights of what a model holds."""

    def __init__(self, weights: ByPlace):
        self.places = weights.places
        self.filled = [place for place, arrays in weights.places.items() if arrays]

    def of(
        self, held: Sequence[Tree], above: str, rooms: Sequence[str] = (OLD_LAYERS, LAYERS)
    ) -> list[tuple[Tree, str]]:
        """The place of each layer with weights, class by class: the numbers in the names have gaps."""
        room = next((r for r in (f"{above}/{r}".strip("/") for r in rooms) if self._any(r)), "")
        children = {place[len(room) + 1 :].split("/")[0] for place in self.filled if place.startswith(f"{room}/")}
        by_class: dict[str, list[str]] = {}
        for name in children:
            match = _STEM.match(name)
            by_class.setdefault(match[1] if match else name, []).append(name)
        found: list[tuple[Tree, str]] = []
        for layer in (x for x in held if any(True for _ in x.leaves())):
            names = sorted(by_class.get(snake_case(layer.kind), []), key=_number)
            if not names:
                message = f"{layer.name}: expected the weights of a {layer.kind} in the file, found no more of them"
                raise FileError(clean(message), hint="the file's description and weights do not belong together")
            by_class[snake_case(layer.kind)] = names[1:]
            found.append((layer, f"{room}/{names[0]}"))
        return found

    def _any(self, place: str) -> bool:
        return any(p.startswith(f"{place}/") for p in self.filled)

    def leaves(self, layer: Tree, place: str) -> Iterator[tuple[Leaf, list[numpy.ndarray]]]:
        """The arrays of each leaf of a layer."""
        if layer.leaf is not None:
            yield layer.leaf, self._arrays(layer.leaf, place)
        if layer.kind in ("Sequential", "Functional") and layer.children and place:
            for inner, at in self.of([child for _, child in layer.children], place):
                yield from self.leaves(inner, at)
        elif layer.kind == "StackedRNNCells":
            for inner, at in self.of([child for _, child in layer.children], place, ("cells",)):
                yield from self.leaves(inner, at)
        else:
            for attribute, child in layer.children:
                yield from self.leaves(*self._inner(child, f"{place}/{attribute}" if attribute else f"{place}/layer"))

    @staticmethod
    def _inner(child: Tree, place: str) -> tuple[Tree, str]:
        """A layer that was put into a Sequential with its activation stands in the file without one."""
        if child.kind == "Sequential" and child.name.endswith(AND_ACTIVATION):
            return child.children[0][1], place
        return child, place

    def _arrays(self, leaf: Leaf, place: str) -> list[numpy.ndarray]:
        if leaf.kind == "MultiHeadAttention":
            heads = [f"{head}_dense" for head in ("query", "key", "value", "output")]
            return [a for head in heads for a in self._at(f"{place}/_{head}") or self._at(f"{place}/{head}")]
        return self._at(place) or self._at(f"{place}/cell")

    def _at(self, place: str) -> list[numpy.ndarray]:
        found = self.places.get(place, {})
        return [found[key] for key in sorted(found, key=int)]


def _number(name: str) -> int:
    found = re.search(r"_(\d+)$", name)
    return int(found[1]) if found else 0
