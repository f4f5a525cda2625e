"""What a use of a block asks for: its name, its parameters in each repetition, and what it hands the block's inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from trainer.errors import Path
from trainer.options import Name, shown
from trainer.recipe.blocks import OF_A_USE, Template
from trainer.recipe.nodes import Node, option, options_of, plain
from trainer.recipe.scopes import LayerList

MOST_TIMES = 5_000
NAME = get_args(Name)[1]
Values = dict[str, Node]


@dataclass(frozen=True)
class Asked:
    """One use of a block, read; what is wrong in it goes to `wrong`."""

    block: Template
    line: Node
    name: str
    wrong: Callable[..., None]

    @property
    def options(self) -> Mapping[Any, Node]:
        """What stands behind the block's name."""
        return options_of(self.line)

    @property
    def path(self) -> Path:
        """Where the block's name stands."""
        return (*self.line.path, self.block.name) if isinstance(self.line.value, dict) else self.line.path

    def check(self) -> None:
        """Refuse options that are no mapping, a name that can't be one, and parameters that the block does not have."""
        inner = next(iter(self.line.value.values())) if isinstance(self.line.value, dict) else None
        if inner is not None and inner.value is not None and not isinstance(inner.value, dict):
            message = f"expected the parameters of {self.block.name} as a mapping, found {shown(plain(inner))}"
            self.wrong(message, inner.path, self._example(self.block.parameters))
        name = option(self.line, "name")
        if name is not None:
            try:
                NAME.read(name.value)
            except (ValueError, TypeError):
                self.wrong(f"expected {NAME.expected}, found {shown(plain(name))}", name.path)
        self._known({k: v for k, v in self.options.items() if k not in OF_A_USE})

    def _is_sound(self) -> bool:
        """Whether it names parameters of the block alone, so that one that is missing is no misspelt one."""
        return all(k in (*OF_A_USE, *self.block.parameters) for k in self.options)

    def _known(self, given: Mapping[Any, Node]) -> None:
        for key, value in given.items():
            if key not in self.block.parameters:
                message, hint = self.block.no_parameter(key)
                self.wrong(message, value.path, hint, on_key=True)

    def _example(self, parameters: Iterable[str]) -> str:
        return f"{self.block.name}: {{{', '.join(f'{n}: …' for n in parameters)}}}"

    def rounds(self) -> list[Values]:
        """The values of the parameters in each repetition."""
        block, each = self.block, option(self.line, "each")
        base = {**block.defaults, **{k: v for k, v in self.options.items() if k in block.parameters}}
        rounds = [base] * self._times() if each is None else self._each(each, base)
        missing = [n for n in block.required if any(n not in values for values in ([base] if each is None else rounds))]
        if missing and self._is_sound():
            on_key = isinstance(self.line.value, dict)
            self.wrong(f"the block {block.name} needs {', '.join(missing)}", self.path, self._example(missing), on_key)
        return rounds

    def _times(self) -> int:
        times = option(self.line, "times")
        if times is None:
            return 1
        count = times.value
        if not isinstance(count, bool) and isinstance(count, int) and 1 <= count <= MOST_TIMES:
            return count
        message = f"expected how often the block is repeated, 1 to {MOST_TIMES:,}, found {shown(plain(times))}"
        self.wrong(message, times.path)
        return 1

    def _each(self, each: Node, base: Values) -> list[Values]:
        times = option(self.line, "times")
        if times is not None:
            self.wrong("expected `times` or `each`, found both", times.path, "remove `times`", on_key=True)
        if not isinstance(each.value, list) or not each.value or any(not isinstance(e.value, dict) for e in each.value):
            message = f"expected a list of mappings, one for each repetition, found {shown(plain(each))}"
            self.wrong(message, each.path, f"each: [{{{', '.join(f'{n}: …' for n in self.block.parameters)}}}, …]")
            return [base]
        for entry in each.value:
            self._known(entry.value)
        return [{**base, **entry.value} for entry in each.value]

    def reads(self, made: LayerList) -> list[Node]:
        """What is handed to each input of the block; nothing where its first layer reads the line above."""
        block, given = self.block, option(self.line, "inputs")
        if given is not None:
            return self._handed(given)
        if len(block.inputs) > 1:
            hint = f"inputs: {{{', '.join(f'{n}: …' for n in block.inputs)}}}"
            on_key = isinstance(self.line.value, dict)
            self.wrong(f"{self.name} must say what it reads as {', '.join(block.inputs)}", self.path, hint, on_key)
        elif not made.lines and len(made.inputs) > 1:
            message = f"{self.name} must say which input it reads: {', '.join(made.inputs)}"
            self.wrong(message, self.path, f"inputs: {made.inputs[0]}", on_key=isinstance(self.line.value, dict))
        elif block.names_its_input:
            return [Node(made.name_above(self.name), self.line.spot, self.line.path)]
        return []

    def _handed(self, given: Node) -> list[Node]:
        block, entries = self.block, given.value
        if isinstance(entries, dict):
            found = [entries[n] for n in block.inputs if n in entries]
            found = found if len(entries) == len(found) else []
        else:
            found = list(entries) if isinstance(entries, list) else [given]
        if len(found) == len(block.inputs) and all(isinstance(n.value, str) and n.value for n in found):
            return found
        takes = f"{len(block.inputs)} input{'s' * (len(block.inputs) > 1)} ({', '.join(block.inputs)})"
        self.wrong(f"the block {block.name} reads {takes}, found {shown(plain(given))}", given.path)
        return []
