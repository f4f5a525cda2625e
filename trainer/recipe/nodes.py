"""Values of a recipe that know where they stand, so that they can be copied and moved; and lines of layer lists."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainer.errors import Path, Place
from trainer.layers.lines import is_kind, written_names
from trainer.layers.wiring import PART
from trainer.recipe.tree import Spot, Tree

BLOCKS: Path = ("model", "blocks")
LAYERS: Path = ("model", "layers")
MODELS = ("Model", "Sequential")
"Layers that hold a layer list of their own."


@dataclass(frozen=True, slots=True)
class Use:
    """Why a line stands where it does: what it is a part of, and the line of the recipe that asks for that."""

    name: str
    place: Place
    path: Path


@dataclass(frozen=True, slots=True)
class Node:
    """A plain value, a list of nodes or a dict of them, with its spot and the path under which the text has it."""

    value: Any
    spot: Spot
    path: Path
    live: bool = False
    "Whether a `$` stands somewhere in it."
    use: Use | None = None
    "For a line that a use of a block brought in."

    def holds(self, option: str, what: Node) -> Node:
        """The same mapping with one more entry."""
        return replace(self, value={**self.value, option: what})


@dataclass(frozen=True)
class Moved(Spot):
    """The spot of a value that stands elsewhere in the text than in the recipe."""

    source: Path = ()
    "The path under which the text has it."
    use: Use | None = None
    "The use of a block that brought it where it is."


def flat(node: Node, path: Path, spots: dict[Path, Spot], use: Use | None = None) -> Any:
    """The plain value of a node; the spots of all that it holds are noted under `path`."""
    use = node.use or use
    spots[path] = Moved(node.spot.value, node.spot.key, node.path, use)
    if isinstance(node.value, dict):
        return {k: flat(v, (*path, k), spots, use) for k, v in node.value.items()}
    if isinstance(node.value, list):
        return [flat(v, (*path, i), spots, use) for i, v in enumerate(node.value)]
    return node.value


def node_of(tree: Tree, path: Path = ()) -> Node:
    """The value at a path of a tree, with its places."""
    value = tree.value
    for step in path:
        value = value[step]
    return _node(value, path, tree.spots)


def _node(value: Any, path: Path, spots: Mapping[Path, Spot]) -> Node:
    if isinstance(value, dict):
        entries = {k: _node(v, (*path, k), spots) for k, v in value.items()}
        return Node(entries, spots[path], path, any(n.live for n in entries.values()))
    if isinstance(value, list):
        items = [_node(v, (*path, i), spots) for i, v in enumerate(value)]
        return Node(items, spots[path], path, any(n.live for n in items))
    return Node(value, spots[path], path, isinstance(value, str) and "$" in value)


def plain(node: Node | None) -> Any:
    """The value of a node without places; None for no node."""
    if node is None:
        return None
    if isinstance(node.value, dict):
        return {k: plain(v) for k, v in node.value.items()}
    return [plain(v) for v in node.value] if isinstance(node.value, list) else node.value


def size_of(node: Node, most: int) -> int:
    """How many values a node holds, itself included, counted up to a little more than `most`: parts may be shared."""
    count, todo = 0, [node]
    while todo and count <= most:
        value = todo.pop().value
        count += 1
        todo += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return count


def kind_of(line: Node) -> str | None:
    """The name that a line begins with; None where it has none."""
    name = next(iter(line.value)) if isinstance(line.value, dict) and len(line.value) == 1 else line.value
    return name if isinstance(name, str) else None


def options_of(line: Node) -> dict[Any, Node]:
    """The options of a line; none where it is a bare name, or something that options can't be."""
    inner = next(iter(line.value.values())).value if isinstance(line.value, dict) and len(line.value) == 1 else None
    return inner if isinstance(inner, dict) else {}


def option(line: Node, name: str) -> Node | None:
    """An option of a line; None where it is not given, or null."""
    found = options_of(line).get(name)
    return None if found is None or found.value is None else found


def with_option(line: Node, name: str, what: Node) -> Node:
    """A line with an option; as it is, where it is no line."""
    if isinstance(line.value, str):
        return replace(line, value={line.value: replace(line, value={name: what}, use=None)})
    if not isinstance(line.value, dict) or len(line.value) != 1:
        return line
    ((kind, inner),) = line.value.items()
    if inner.value is not None and not isinstance(inner.value, dict):
        return line
    return replace(line, value={kind: replace(inner, value={**(inner.value or {}), name: what})})


def under_kind(line: Node, kind: str) -> Node:
    """A line that begins with another name."""
    return replace(line, value=kind if isinstance(line.value, str) else {kind: next(iter(line.value.values()))})


def reads(line: Node) -> Iterator[Node]:
    """The names of layers and inputs that a line reads, parts of them included (`lstm/1`)."""
    inputs = option(line, "inputs")
    return iter(()) if inputs is None else _texts(inputs)


def _texts(node: Node) -> Iterator[Node]:
    if isinstance(node.value, str):
        yield node
    elif isinstance(node.value, (list, dict)):
        for inner in node.value.values() if isinstance(node.value, dict) else node.value:
            yield from _texts(inner)


def whole(name: str) -> str:
    """The layer of `lstm/1`."""
    return name.partition(PART)[0]


def renamed(node: Node, meant: Callable[[Node], Node]) -> Node:
    """What stands under `inputs`, with every name replaced by what it means."""
    if isinstance(node.value, dict):
        return replace(node, value={k: renamed(v, meant) for k, v in node.value.items()})
    if isinstance(node.value, list):
        return replace(node, value=[renamed(v, meant) for v in node.value])
    return meant(node) if isinstance(node.value, str) else node


def calls_again(line: Node, blocks: Container[str]) -> str | None:
    """The name of the layer that a line calls once more; None for a layer, a use of a block, and what is neither."""
    kind = kind_of(line)
    return None if kind is None or kind in blocks or is_kind(kind) else kind


def names_of(lines: Sequence[Node], blocks: Container[str]) -> list[str | None]:
    """The name of each line, as Keras would give it; None for a layer called again that is given none for it."""
    written = written_names([_named(line) for line in lines])
    return [
        None if calls_again(line, blocks) is not None and option(line, "name") is None else name
        for line, name in zip(lines, written, strict=True)
    ]


def _named(line: Node) -> Any:
    name = option(line, "name")
    return {kind_of(line): {"name": name.value}} if name is not None else kind_of(line)
