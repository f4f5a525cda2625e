"""Blocks of a recipe: lists of layers with parameters, written once and used many times.

    blocks:
      fire:
        parameters: [squeeze, {expand: 64}]
        layers:
          - Conv2D: {name: squeezed, filters: $squeeze, kernel_size: 1}
          - Conv2D: {name: left, filters: $expand, kernel_size: 1}
          - Conv2D: {name: right, inputs: squeezed, filters: $expand, kernel_size: 3, padding: same}
          - Concatenate: {inputs: [left, right]}
    layers:
      - fire: {name: fire2, squeeze: 16}

A block sees its own layers and its inputs, nothing else; its only input is `input` unless the block names its inputs.
Here stands what a block is; `trainer.recipe.uses` puts its layers where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import ValidationError

from trainer.block import Block, problems_of
from trainer.declare import KIND_MARK
from trainer.errors import Path, Problem, nearest
from trainer.layers.lines import is_kind
from trainer.layers.wiring import ONE_INPUT
from trainer.options import Rule, shown
from trainer.recipe.nodes import Node, kind_of, option, plain, reads, whole

BLOCK_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
PARAMETER = re.compile(r"\$([A-Za-z_]\w*)")
_OPERAND = r"(?:\$[A-Za-z_]\w*|\d+(?:\.\d+)?)"
FORMULA = re.compile(rf"({_OPERAND})\s*([-+*/])\s*({_OPERAND})")
OF_A_USE = ("name", "inputs", "times", "each")
"What every use of a block may say, so that no parameter can be called so."


def _parameters(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) or (isinstance(item, str) and isinstance(value, list)) for item in items):
        raise ValueError
    return value


def _inputs(value: Any) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not names or len(set(map(str, names))) < len(names):
        raise ValueError
    if not all(isinstance(n, str) and re.fullmatch(r"[A-Za-z]\w{0,63}", n) for n in names):
        raise ValueError
    return names


def _lines(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(value)


_STRING = {"type": "string"}
_LOOSE = {"type": "object", "minProperties": 1, "maxProperties": 1}
Parameters = Annotated[
    Any,
    Rule(
        "a list of names, such as [filters, {kernel_size: 3}], or a mapping from names to values",
        _parameters,
        {"anyOf": [{"type": "array", "items": {"anyOf": [_STRING, {"type": "object"}]}}, {"type": "object"}]},
    ),
]
BlockInputs = Annotated[
    tuple[str, ...],
    Rule(
        "a name of letters, digits and _, or a list of them, each once",
        _inputs,
        {"anyOf": [_STRING, {"type": "array", "items": _STRING, "minItems": 1}]},
    ),
]
BlockLines = Annotated[
    tuple[Any, ...],
    Rule(
        "a list of layers",
        _lines,
        # Any option may be a parameter, so a layer that the first form refuses is taken by the third.
        {"type": "array", "items": {"anyOf": [{KIND_MARK: "layer"}, _STRING, _LOOSE]}, "minItems": 1},
    ),
]


class LayerBlock(Block):
    """A list of layers with parameters, which `layers` use by its name: `- fire: {name: fire2, squeeze: 16}`.

    A use may say `times: 3`, or `each: [{squeeze: 16}, {squeeze: 32}]`, to repeat the block one after the other.
    """

    parameters: Parameters = ()
    """What each use gives: names, with a default where one stands behind it. `$squeeze` in a layer is the value, and
    `$squeeze * 4` is computed from it (+, -, * and /)."""
    inputs: BlockInputs = (ONE_INPUT,)
    "What the layers call the tensors that the block reads; each use says them as its `inputs`, in this order."
    layers: BlockLines
    "The layers, in order; the last one makes what the block makes, and has the name of the use."


@dataclass(frozen=True)
class Template:
    """A sound block: what a use needs of it."""

    name: str
    inputs: tuple[str, ...]
    required: tuple[str, ...]
    defaults: dict[str, Node]
    lines: tuple[Node, ...]
    names_its_input: bool
    "Whether its layers call its inputs by name; otherwise the first layer reads the only one."

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of all parameters."""
        return (*self.required, *self.defaults)

    def no_parameter(self, name: Any) -> tuple[str, str]:
        """(message, hint) for a name that is no parameter."""
        known = f"it has {', '.join(self.parameters)}" if self.parameters else "it has no parameters"
        return f'the block {self.name} has no parameter "{name}"', nearest(str(name), self.parameters) or known


@dataclass
class Blocks:
    """The blocks of a recipe, and what is wrong in them."""

    sound: dict[str, Template] = field(default_factory=dict)
    faulty: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def __contains__(self, name: object) -> bool:
        return name in self.sound or name in self.faulty

    def __iter__(self) -> Iterator[str]:
        return iter((*self.sound, *self.faulty))

    @classmethod
    def read(cls, node: Node) -> Blocks:
        """The blocks of a recipe's `model.blocks`, with every mistake in their declarations."""
        made = cls()
        if not isinstance(node.value, dict):
            message = f"expected a mapping from names of blocks to blocks, found {shown(plain(node))}"
            made.problems.append(Problem(message, node.path, "blocks: {fire: {layers: [...]}}", "block"))
            return made
        for name, inner in node.value.items():
            reader = _Reader(name, inner)
            found = reader.template()
            if reader.problems or found is None:
                made.faulty.add(name)
                made.problems += reader.problems
            else:
                made.sound[name] = found
        return made


@dataclass
class _Reader:
    """Reads one block."""

    name: Any
    node: Node
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, message: str, path: Path, hint: str = "", *, on_key: bool = False) -> None:
        self.problems.append(Problem(message, path, hint, "block", None, on_key))

    def template(self) -> Template | None:
        """The block, as far as it can be read."""
        self._check_name()
        try:
            block = LayerBlock.read(plain(self.node))
        except ValidationError as error:
            self.problems += [p.at(*self.node.path) for p in problems_of(error)]
            return None
        lines = tuple(self.node.value["layers"].value)
        named = self._parameters(self.node.value.get("parameters"))
        required = tuple(n for n, default in named.items() if default is None)
        defaults = {n: default for n, default in named.items() if default is not None}
        read = {whole(node.value) for line in lines for node in reads(line)}
        by_name = not read.isdisjoint(block.inputs) or any(name.startswith("$") for name in read)
        made = Template(self.name, block.inputs, required, defaults, lines, by_name)
        self._check_parameters(made)
        self._check_inputs(made, read)
        return made

    def _check_name(self) -> None:
        hint = "small letters, digits and _, a letter first"
        if is_kind(self.name):
            self.wrong(f'"{self.name}" is a layer already', self.node.path, "give the block another name", on_key=True)
        elif not isinstance(self.name, str) or not BLOCK_NAME.fullmatch(self.name):
            self.wrong(f"expected the name of a block, found {shown(self.name)}", self.node.path, hint, on_key=True)

    def _parameters(self, node: Node | None) -> dict[str, Node | None]:
        """Name to default of each parameter; None for those that a use must give."""
        named: dict[str, Node | None] = {}
        items = [] if node is None else [node] if isinstance(node.value, dict) else node.value
        for item in items:
            given = item.value if isinstance(item.value, dict) else {item.value: None}
            for name, default in given.items():
                where = item if default is None else default
                if not isinstance(name, str) or not PARAMETER.fullmatch(f"${name}") or name in OF_A_USE:
                    why = "every use of a block has it" if name in OF_A_USE else "letters, digits and _, a letter first"
                    message = f"expected the name of a parameter, found {shown(name)}"
                    self.wrong(message, where.path, why, on_key=default is not None)
                elif name in named:
                    self.wrong(f'two parameters are called "{name}"', where.path, "remove one", on_key=True)
                named[str(name)] = default
        return named

    def _check_parameters(self, block: Template) -> None:
        """Hold the parameters against what the layers use."""
        used: set[str] = set()
        for node in (found for line in block.lines for found in _live(line)):
            names = _asked(node.value, block.parameters)
            if names is None:
                hint = "write a name, as in $filters, or one step of computation, as in $filters * 4"
                self.wrong(f"expected a parameter or a formula, found {shown(node.value)}", node.path, hint)
            for name in names or ():
                used.add(name)
                if name not in block.parameters:
                    message, hint = block.no_parameter(name)
                    self.wrong(message, node.path, hint)
        for name in () if self.problems else block.parameters:
            if name not in used:
                default = block.defaults.get(name)
                path = default.path if default is not None else self._parameter_path(name)
                hint = f"write ${name} where its value belongs, or remove it"
                self.wrong(f"no layer of the block {self.name} uses ${name}", path, hint, on_key=default is not None)

    def _parameter_path(self, name: str) -> Path:
        items = self.node.value["parameters"].value
        return next(item.path for item in items if item.value == name)

    def _check_inputs(self, block: Template, read: set[str]) -> None:
        """Hold the inputs against what the layers read."""
        first = block.lines[0]
        takes_one = len(block.inputs) == 1 and option(first, "inputs") is None
        if len(block.inputs) > 1 and option(first, "inputs") is None:
            message = f"the first layer of a block with several inputs must say which it reads: {_listed(block.inputs)}"
            self.wrong(message, first.path, f"inputs: {block.inputs[0]}")
        open_ended = any(n.startswith("$") for n in read) or any(
            (kind_of(n) or "").startswith("$") for n in block.lines
        )
        for name in block.inputs:
            if name not in read and not takes_one and not open_ended:
                message = f'no layer of the block {self.name} reads its input "{name}"'
                given = self.node.value.get("inputs")
                path = given.path if given is not None else self.node.path
                self.wrong(message, path, f"write `inputs: {name}` in a layer", on_key=given is None)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def _live(node: Node) -> Iterator[Node]:
    """Every text in a node that holds a `$`."""
    if not node.live:
        return
    if isinstance(node.value, (dict, list)):
        for inner in node.value.values() if isinstance(node.value, dict) else node.value:
            yield from _live(inner)
    else:
        yield node


def _asked(text: str, known: tuple[str, ...]) -> list[str] | None:
    """The parameters that a text asks for; None where it names some in a way that means nothing."""
    if PARAMETER.fullmatch(text) or FORMULA.fullmatch(text):
        return PARAMETER.findall(text)
    return None if any(name in known for name in PARAMETER.findall(text)) else []
