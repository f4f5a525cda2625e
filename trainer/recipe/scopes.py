"""What names mean inside a block: its own layers and inputs, under the names that the model has for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from trainer.errors import Problem, nearest
from trainer.layers.wiring import PART
from trainer.recipe.blocks import Template
from trainer.recipe.nodes import Node, Use, calls_again, option, reads, renamed, under_kind, whole, with_option

Steps = tuple[str, ...]


@dataclass
class LayerList:
    """A layer list under way."""

    inputs: Steps
    "What the model that it belongs to reads."
    above: str
    "What its first line reads when it does not say."
    lines: list[Node] = field(default_factory=list)
    named: dict[str, Node] = field(default_factory=dict)
    "Name to line, for all lines that have one."
    last: str | None = None
    "Name of the line that was added last."

    def name_above(self, use: str) -> str:
        """The name of what the next line reads; a layer called again, which may have none, is given one."""
        if not self.lines:
            return self.above
        line = self.lines[-1]
        if self.last is None:
            self.last = f"{use}_input"
        if option(line, "name") is None:
            line = self.lines[-1] = with_option(line, "name", Node(self.last, line.spot, line.path))
        self.named.setdefault(self.last, line)
        return self.last


@dataclass(frozen=True)
class Scope:
    """A layer list: that of a model, where names mean themselves, or that of a block in one of its uses."""

    uses: frozenset[str] = frozenset()
    "Names of the lines that are uses of blocks."
    within: Steps = ()
    "The blocks that the list stands in."
    use: Use | None = None
    block: Template | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    "Name of a layer in the block to its name in the model."
    inputs: Mapping[str, Node] = field(default_factory=dict)
    "Name of an input of the block to what the use hands it."

    def meant(self, name: str) -> str:
        """The name in the model of a layer of the list, or of one that a use in the list brings in."""
        if name in self.names:
            return self.names[name]
        inner = max((n for n in self.uses if name.startswith(f"{n}_")), key=len, default=None)
        return name if inner is None else self.names.get(inner, inner) + name[len(inner) :]

    def translated(self, line: Node, blocks: Mapping[str, Template]) -> Node:
        """A line of the block with the names that the model has for what it reads, and for what it calls again."""
        again = calls_again(line, blocks)
        if again is not None:
            line = under_kind(line, self.meant(again))
        inputs = option(line, "inputs")
        return line if inputs is None else with_option(line, "inputs", renamed(inputs, self._read))

    def _read(self, node: Node) -> Node:
        name, slash, part = node.value.partition(PART)
        handed = self.inputs.get(name)
        if handed is None:
            return replace(node, value=self.meant(name) + slash + part)
        return replace(handed, value=handed.value + slash + part)

    def strangers(self, lines: list[Node], made: LayerList, blocks: Mapping[str, Template]) -> Iterator[Problem]:
        """A problem for each name that is none of the block's own."""
        assert self.block is not None
        for line in lines:
            again = calls_again(line, blocks)
            if again is not None and not again[:1].isupper() and not self._knows(again, made):
                yield self._stranger(again, line, made, "no layer, and there is no kind of layer,")
            for node in reads(line):
                if whole(node.value) not in self.block.inputs and not self._knows(whole(node.value), made):
                    yield self._stranger(whole(node.value), node, made, "no layer and no input")

    def _knows(self, name: str, made: LayerList) -> bool:
        return name in self.names or (self.meant(name) != name and self.meant(name) in made.named)

    def _stranger(self, name: str, node: Node, made: LayerList, what: str) -> Problem:
        assert self.block is not None
        known = [*self.names, *self.block.inputs]
        hint = nearest(name, known)
        if not hint and (name in made.named or name in made.inputs):
            hint = f"a block sees only what is handed to it: add {name} to its inputs"
        hint = hint or f"there are {', '.join(known[:12])}"
        return Problem(f'the block {self.block.name} has {what} called "{name}"', node.path, hint, "block")
