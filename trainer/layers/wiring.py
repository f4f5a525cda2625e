"""Who reads what in a list of layers; no torch, no shapes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from trainer.block import Block, problems_of
from trainer.errors import Path, Problem, RecipeError, nearest
from trainer.layers.base import Layer
from trainer.layers.input_layer import Said
from trainer.layers.lines import Again, Line, held_inside, in_turn, key_of, named, names_read, steps_read
from trainer.layers.order import Call, in_order, keras_order

ONE_INPUT = "input"
"What layers may call the input of a model that has one, whatever its name is."
PART = "/"
"Between the name of a layer that makes several tensors and the number, or name, of one of them."


@dataclass(frozen=True)
class Wiring:
    """Who reads what: tensors are numbers, those of the inputs first."""

    inputs: dict[str, int]
    layers: dict[str, Layer]
    "In Keras's order."
    calls: tuple[Call, ...]
    "In an order in which each finds what it reads."
    outputs: dict[str, int]
    parts: dict[int, tuple[int, int | str]]
    "A tensor that is one of several which a layer makes: the number of them all, and which of them."
    lines: dict[int, Path]
    "Where the call that makes a tensor stands; for one of several that a layer makes, where it is named first."
    said: dict[str, Said]
    "The inputs that stand in the list."
    names: dict[int, str]
    "What the tensors of inputs and calls are called: a layer's name, or the one that a later call was given."


def wire(
    lines: Sequence[Line],
    inputs: Sequence[str],
    outputs: Sequence[str] | None = None,
    at: Path = ("model",),
    inputs_at: Path = ("model", "inputs"),
) -> Wiring:
    """Who reads what in a list of layers; `outputs` is what the last line makes when it names none.

    Raises:
        RecipeError: with every name that is unknown or given twice, circle, layer without input and unused layer.
    """
    return _Wirer(lines, inputs, outputs, at, inputs_at).wiring()


class _Wirer:
    def __init__(
        self, lines: Sequence[Line], inputs: Sequence[str], outputs: Sequence[str] | None, at: Path, inputs_at: Path
    ):
        self.lines, self.asked, self.at, self.inputs_at = lines, outputs, at, inputs_at
        self.inputs = {name: number for number, name in enumerate(inputs)}
        self.paths = [(*at, "layers", i, key_of(line)) for i, line in enumerate(lines)]
        self.names, self.problems = named(lines, at)
        self.held = {n: line for n, line in zip(self.names, lines, strict=True) if n and isinstance(line, Layer)}
        self.count = len(self.inputs) + len(lines)
        self.parts: dict[tuple[int, int | str], int] = {}
        self.wholes: dict[int, int] = {}
        self.parts_at: dict[int, Path] = {}
        self.tensors = [self._makes(i) for i in range(len(lines))]
        self.made = {n: self.tensors[i] for i, n in enumerate(self.names) if n is not None}
        self._check_names()
        if not self.problems:
            self._check_inputs()

    def _problem(self, message: str, path: Path, hint: str = "", *, on_key: bool = False) -> None:
        self.problems.append(Problem(message, path, hint, "graph", None, on_key))

    def _stop(self) -> None:
        if self.problems:
            raise RecipeError(*self.problems)

    def _check_names(self) -> None:
        read = {name.partition(PART)[0] for line in self.lines for name in names_read(line.inputs)}
        asked = read if len(self.inputs) == 1 else self.inputs
        for index, name in enumerate(self.names):
            if name in self.inputs and name in asked and not self._is_input(index):
                message = f'"{name}" is an input already, so that no layer can be called so'
                self._problem(message, (*self.paths[index], "name"), "give the layer another name")

    def _makes(self, index: int) -> int:
        """The tensor that a line makes; for an input, the input's own."""
        line = self.lines[index]
        if isinstance(line, Again) or not line.is_input:
            return len(self.inputs) + index
        if len(self.inputs) == 1:
            return 0
        if line.name not in self.inputs:
            found = f'there is no input "{line.name}"' if line.name else "this input has no name"
            path = (*self.paths[index], "name") if line.name else self.paths[index]
            self._problem(f"{found}; they are {', '.join(self.inputs)}", path)
        return self.inputs.get(line.name or "", 0)

    def _check_inputs(self) -> None:
        """Refuse a second line for an input: later layers read it by its name."""
        seen: set[int] = set()
        for index in filter(self._is_input, range(len(self.lines))):
            number = self.tensors[index]
            if number in seen:
                name = list(self.inputs)[number]
                message, hint = "this input stands in the list already", f"read it by its name: inputs: {name}"
                self._problem(message, self.paths[index], hint)
            seen.add(number)

    def _is_input(self, index: int) -> bool:
        return self.tensors[index] < len(self.inputs)

    def _said(self) -> dict[str, Said]:
        names = {number: name for name, number in self.inputs.items()}
        found = ((i, line) for i, line in enumerate(self.lines) if isinstance(line, Layer) and self._is_input(i))
        return {names[self.tensors[i]]: Said(line, self.paths[i]) for i, line in found}

    def wiring(self) -> Wiring:
        reads = [self._reads(index) for index in range(len(self.lines))]
        says = [self._says(index) for index in range(len(self.lines))]
        outputs = self._outputs()
        self._stop()
        order = self._order(reads)
        self._stop()
        self._used(reads, outputs)
        self._stop()
        first = len(self.inputs)
        calls = tuple(Call(self._layer(i), reads[i], first + i, says[i]) for i in order)
        lines = {first + i: self.paths[i] for i in order} | self.parts_at
        parts = {number: whole for whole, number in self.parts.items()}
        names = keras_order(calls, list(outputs.values()), parts)
        layers = {name: self.held[name] for name in names}
        return Wiring(self.inputs, layers, calls, outputs, parts, lines, self._said(), self._tensor_names())

    def _tensor_names(self) -> dict[int, str]:
        """The names of all tensors; a later call without one is `conv:2`."""
        names = {number: name for name, number in self.inputs.items()}
        counts: dict[str, int] = {}
        for index in (i for i in range(len(self.lines)) if not self._is_input(i)):
            layer = self._layer(index)
            counts[layer] = counts.get(layer, 0) + 1
            names[len(self.inputs) + index] = self.names[index] or f"{layer}:{counts[layer]}"
        return names

    def _layer(self, index: int) -> str:
        line = self.lines[index]
        return line.layer if isinstance(line, Again) else str(self.names[index])

    def _reads(self, index: int) -> tuple[int, ...]:
        """The tensors that a line reads."""
        if self._is_input(index):
            return ()
        line, path = self.lines[index], self.paths[index]
        if isinstance(line, Layer):
            self._check_inside(line, path)
        elif line.layer in self.made and self.made[line.layer] < len(self.inputs):
            self._problem(f'"{line.layer}" is an input, not a layer', path, f"read it: inputs: {line.layer}")
        elif line.layer not in self.held:
            hint = nearest(line.layer, self.held) or nearest(line.layer, Layer.spellings())
            message = f'there is no layer, and no kind of layer, called "{line.layer}"'
            self._problem(message, path, hint or "`trainer list layers` shows the kinds", on_key=True)
        if line.inputs is None:
            return self._above(index)
        layer = line if isinstance(line, Layer) else self.held.get(line.layer)
        arguments = layer.arguments() if layer is not None else tuple(line.inputs)
        if not self._known_arguments(index, arguments):
            return ()
        wanted = zip(in_turn(line.inputs, arguments), steps_read(line.inputs, arguments), strict=True)
        found = [self._tensor(name, (*path, "inputs", *steps), self.names[index]) for name, steps in wanted]
        return tuple(n for n in found if n is not None)

    def _says(self, index: int) -> Block | None:
        """What a later call says beside its inputs, as the layer reads it."""
        line, path = self.lines[index], self.paths[index]
        layer = self.held.get(line.layer) if isinstance(line, Again) else None
        if layer is None or not isinstance(line, Again) or not line.call:
            return None
        if layer.call_options is not None:
            try:
                return layer.call_options.read(line.call)
            except ValidationError as error:
                block, call = layer.call_options.__name__, f"a call of {line.layer}"
                found = [replace(p, message=p.message.replace(block, call, 1)) for p in problems_of(error)]
                self.problems += [p.at(*path) for p in found]
                return None
        message = f"{line.layer} is called again with the options that it has: only inputs and a name can be said here"
        hint = "remove it; a layer with options of its own begins with its kind, such as Dense"
        for option in line.call:
            self._problem(message, (*path, option), hint, on_key=True)
        return None

    def _known_arguments(self, index: int, arguments: Sequence[str]) -> bool:
        """Whether the inputs that a line names as arguments are the layer's, none left out before another."""
        inputs, path = self.lines[index].inputs, (*self.paths[index], "inputs")
        if not isinstance(inputs, dict):
            return True
        called = self._layer(index)
        known = f"they are called {', '.join(arguments)}" if arguments else "they have no names: write a list"
        unknown = [n for n in inputs if n not in arguments]
        for name in unknown:
            message = f'none of the inputs of {called} is called "{name}"'
            self._problem(message, (*path, name), nearest(name, arguments) or known, on_key=True)
        last = max((i for i, n in enumerate(arguments) if n in inputs), default=0)
        missing = [] if unknown else [n for n in arguments[:last] if n not in inputs]
        for name in missing:
            said = f"{called} can't read {arguments[last]} without {name}"
            self._problem(said, path, f"add `{name}: …`", on_key=True)
        return not unknown and not missing

    def _check_inside(self, line: Layer, path: Path) -> None:
        """Refuse `inputs` of layers that are handed their input, and mistakes of a model inside the model."""
        if line.wires:
            try:
                line.wiring(path)
            except RecipeError as error:
                self.problems += error.problems
            return
        for inner, steps in held_inside(line):
            if inner.called_only:
                message = f"{type(line).__name__} can't hold a {type(inner).__name__}"
                self._problem(message, (*path, *steps), "write Sequential for a chain of layers", on_key=True)
            if inner.inputs is not None:
                message = f"{type(inner).__name__} stands inside {type(line).__name__}, which hands it its input"
                self._problem(message, (*path, *steps, "inputs"), "remove its `inputs`", on_key=True)

    def _above(self, index: int) -> tuple[int, ...]:
        if index:
            return (self.tensors[index - 1],)
        if len(self.inputs) > 1:
            message = f"{self._called(index)} must say which input it reads: {', '.join(self.inputs)}"
            self._problem(message, self.paths[index], f"inputs: {next(iter(self.inputs))}", on_key=True)
            return ()
        return (0,)

    def _called(self, index: int) -> str:
        return self.names[index] or self._layer(index)

    def _tensor(self, name: str, path: Path, reader: str | None = None) -> int | None:
        """The tensor of that name; `reader` is the layer that asks for it."""
        whole, slash, part = name.partition(PART)
        number = self.made.get(whole, self.inputs.get(whole))
        if number is None and whole == ONE_INPUT and len(self.inputs) == 1:
            number = 0
        if number is None:
            known = [n for n in (*self.inputs, *self.made) if n != reader]
            hint = nearest(whole, known) or f"there are {', '.join(known[:12])}"
            message = f'nothing is called "{whole}"'
            if whole == ONE_INPUT:
                hint = f"say which of them: {', '.join(self.inputs)}"
                message = f'"{whole}" is short for the only input, and there are {len(self.inputs)}'
            self._problem(message, path, hint)
            return None
        if not slash:
            return number
        if number < len(self.inputs):
            self._problem(
                f'"{whole}" is an input, which is one tensor, so that it has no parts', path, f"write {whole}"
            )
            return None
        key = (number, int(part) if re.fullmatch("[0-9]{1,9}", part) else part)
        if key not in self.parts:
            self.parts[key] = self.count + len(self.parts)
            self.wholes[self.parts[key]], self.parts_at[self.parts[key]] = number, path
        return self.parts[key]

    def _outputs(self) -> dict[str, int]:
        if self.asked is None:
            last = len(self.lines) - 1
            if self._is_input(last):
                self._problem("expected at least one layer behind the inputs, found none", self.paths[last])
            return {self._called(last): self.tensors[last]}
        outputs: dict[str, int] = {}
        for place, name in enumerate(self.asked):
            path = (*self.at, "outputs", place)
            number = self._tensor(name, path)
            if name in outputs:
                self._problem(f'"{name}" is an output already', path, "name each output once")
            elif number is not None and number < len(self.inputs):
                hint = "name a layer that reads it"
                self._problem(f'"{name}" is an input; an output is what a layer makes', path, hint)
            elif number is not None:
                outputs[name] = number
        if not self.asked:
            self._problem("expected at least one output, found none", (*self.at, "outputs"))
        return outputs

    def _whole(self, number: int) -> int:
        return self.wholes.get(number, number)

    def _order(self, reads: list[tuple[int, ...]]) -> list[int]:
        first = len(self.inputs)
        needs = [[self._whole(n) - first for n in tensors if self._whole(n) >= first] for tensors in reads]
        order, circles = in_order([i for i in range(len(self.lines)) if not self._is_input(i)], needs)
        for circle in circles:
            self._circle(circle)
        return order

    def _circle(self, lines: list[int]) -> None:
        # As it is told, the circle begins where it stands first in the list.
        start = lines.index(min(lines))
        lines = [*lines[start:], *lines[:start]]
        names = [self._called(i) for i in lines]
        others = [*names[1:], names[0]] if len(names) > 1 else ["itself"]
        steps = f"{names[0]} reads {', which reads '.join(others)}"
        hint = f"let {names[-1]} read something else" if len(names) > 1 else f"let {names[0]} read another layer"
        path = (*self.paths[lines[0]], "inputs")
        self._problem(f"layers can't read each other in a circle: {steps}", path, hint)

    def _used(self, reads: list[tuple[int, ...]], outputs: dict[str, int]) -> None:
        """Refuse layers and inputs that lead to no output."""
        first = len(self.inputs)
        used, todo = set(), [self._whole(n) for n in outputs.values()]
        while todo:
            number = todo.pop()
            if number not in used:
                used.add(number)
                todo += [self._whole(n) for n in reads[number - first]] if number >= first else []
        for name, number in self.inputs.items():
            if number not in used:
                hint = f"write `inputs: {name}` in a layer, or take the input out"
                message = f'no layer that leads to an output reads the input "{name}"'
                self._problem(message, (*self.inputs_at, name), hint, on_key=True)
        for index in range(len(self.lines)):
            if first + index not in used and not self._is_input(index):
                hint = "read it in another layer, add it to outputs, or remove it"
                if index + 1 < len(self.lines) and self._is_input(index + 1):
                    hint = "the layers below the input begin anew with it: let it stand first"
                what = self.names[index] or f"this call of {self._layer(index)}"
                self._problem(f"what {what} makes leads to no output", self.paths[index], hint, on_key=True)


def hears_masks(layer: Layer, count: int) -> bool:
    """Whether a layer is handed the masks of the `count` tensors that it reads.

    Keras hands none to a recurrent layer that is called with first states beside its sequence: it reads padding like
    all else there. The sequence's mask goes on behind it all the same.
    """
    return layer.takes_mask and not (count > 1 and "initial_state" in layer.arguments())
