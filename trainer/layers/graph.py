"""A model as a graph of layer calls, with every shape inferred; no torch.

A list of layers is a chain in a graph, so there is one kind of model. `wire` finds out who reads what; `grown` gives
every tensor its shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic_core import core_schema

from trainer.block import Block, problems_of, raise_under
from trainer.declare import KIND_MARK
from trainer.errors import Path, Problem, RecipeError, nearest
from trainer.layers.base import DType, Inputs, Layer, Plan
from trainer.layers.misfit import Misfit
from trainer.naming import snake_case
from trainer.options import Name, Str, complaint
from trainer.shapes import Shape, clash, size, text

ONE_INPUT = "input"
"What layers may call the input of a model that has one, whatever its name is."
PART = "/"
"Between the name of a layer that makes several tensors and the number, or name, of one of them."


@dataclass(frozen=True)
class Call:
    """One use of a layer: which tensors it reads and which one it makes (numbers into `Graph.shapes`)."""

    layer: str
    inputs: tuple[int, ...]
    output: int
    says: Block | None = None
    "What this call says beside its inputs."

    @property
    def options(self) -> dict[str, Any]:
        """That as keywords for the layer; nothing that stands at its default."""
        return {} if self.says is None else self.says.model_dump(exclude_defaults=True)


class Again(Block):
    """A layer called once more, with the weights that it has."""

    layer: Name
    "Name of the layer."
    inputs: Inputs | None = None
    "What it reads this time; by default what the line above makes."
    name: Name | None = None
    "What other layers call the result by."
    call: Annotated[dict[Str, Any], Field(default_factory=dict)]
    "What the layer's call takes beside its inputs; it may also stand beside them (`- embed: {reverse: true}`)."


Line = Layer | Again


class Lines:
    """The type of a layer list: layers, and names of layers called again (`- conv: {inputs: right}`)."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        line = core_schema.no_info_plain_validator_function(cls.line)
        listed = core_schema.tuple_variable_schema(line)
        return core_schema.no_info_before_validator_function(cls.spelled, listed)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        again = {
            "type": "object",
            "description": "A use of a block, or a layer called again by its name, with the weights that it has.",
            "propertyNames": {"pattern": "^[a-z0-9]"},
            "maxProperties": 4,
        }
        items = {"anyOf": [{KIND_MARK: "layer"}, {"type": "string", "pattern": "^[a-z0-9]"}, again]}
        return {"type": "array", "items": items, "minItems": 1}

    @staticmethod
    def spelled(value: Any) -> Any:
        """The list with layers that are called again written as `{layer: NAME, …}`."""
        if not isinstance(value, (list, tuple)):
            return value
        if not value:
            raise complaint("expected at least one layer, found an empty list")
        names = {name for item, name in zip(value, written_names(value), strict=True) if _makes_layer(item)}
        return tuple(_spelled(item, names) for item in value)

    @staticmethod
    def line(value: Any) -> Line:
        """A line of the list."""
        if isinstance(value, Again):
            return value
        if not isinstance(value, dict) or "layer" not in value:
            first = next(iter(value)) if isinstance(value, dict) and len(value) > 1 else None
            if first is not None and value[first] is None:
                found = ", ".join(map(str, list(value)[1:4]))
                raise complaint(f"expected {first} alone, found {found} beside it", f"indent what belongs to {first}")
            return Layer.parse(value)
        own = {k: v for k, v in value.items() if k in Again.model_fields}
        call, rest = own.get("call") or {}, {k: v for k, v in value.items() if k not in own}
        try:
            return Again.read({**own, "call": {**rest, **call} if isinstance(call, dict) else call})
        except ValidationError as error:
            raise_under((value["layer"],), error)


def _parted(item: Any) -> tuple[Any, Any]:
    """(what a line begins with, its options)."""
    return next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (item, None)


def _makes_layer(item: Any) -> bool:
    """Whether a line makes what others can name: a layer, or a call that is given a name of its own."""
    name, options = _parted(item)
    return is_kind(name) or (isinstance(options, dict) and "name" in options)


def is_kind(name: Any) -> bool:
    """Whether a name is that of a class of layers."""
    return isinstance(name, str) and (Layer.known(name) is not None or name in Layer.catalogue)


def _spelled(item: Any, names: set[str]) -> Any:
    name, options = _parted(item)
    if not isinstance(name, str) or is_kind(name) or not isinstance(options, (dict, type(None))):
        return item
    # With nothing but what it reads, a line that names no kind of layer calls one again, if by a wrong name.
    again = name in names or (not name[:1].isupper() and set(options or ()) <= {"inputs", "name"})
    return {"layer": name, **(options or {})} if again else item


def written_names(items: Sequence[Any]) -> Iterator[str]:
    """Names of the lines of a layer list (or of another list of things) as it was written, as Keras would give them."""
    pairs = [_parted(item) for item in items]
    named = [o["name"] if isinstance(o, dict) and isinstance(o.get("name"), str) else None for _, o in pairs]
    taken: set[str | None] = set(named)
    counts: dict[str, int] = {}
    for (thing, _), name in zip(pairs, named, strict=True):
        base = snake_case(str(thing)[:200])
        while name is None:
            count = counts[base] = counts.get(base, -1) + 1
            free = f"{base}_{count}" if count else base
            name = None if free in taken else free
        yield name


@dataclass(frozen=True)
class Said:
    """A line of the list that says what an input must be."""

    layer: Layer
    path: Path

    def held(self, shape: Shape, at: Path | None) -> Shape:
        """The shape of the input, with sizes that only the line knows.

        Raises:
            RecipeError: the line says another one (a ValueError, when the model has no place `at` which it stands).
        """
        said = self.layer.whole_shape()
        if said is None:
            return shape
        if clash(said, shape):
            message = f"expected {text(shape)}, the shape of the input, found {text(said)}"
            path = (*self.path, self.layer.shape_option())
            if at is None:
                raise Misfit(message, "leave the shape out: what reaches the model says it", path[1:])
            raise RecipeError(message, path=path, hint="leave the shape out: the data say it", code="shape")
        return (shape[0], *(n or m for n, m in zip(shape[1:], said[1:], strict=True)))


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
        self.paths = [(*at, "layers", i, _key(line)) for i, line in enumerate(lines)]
        self.names, self.problems = _named(lines, at)
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
        read = {name.partition(PART)[0] for line in self.lines for name in _read(line.inputs)}
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
        wanted = zip(in_turn(line.inputs, arguments), _steps(line.inputs, arguments), strict=True)
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
        for inner, steps in _inner(line):
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
        """The lines in an order in which each finds what it reads, otherwise as they stand."""
        order: list[int] = []
        seen: set[int] = set()
        for start in range(len(self.lines)):
            if start not in seen and not self._is_input(start):
                self._follow(start, reads, order, seen)
        return order

    def _follow(self, start: int, reads: list[tuple[int, ...]], order: list[int], seen: set[int]) -> None:
        """Add a line to the order, after all that it reads; a circle is told, and gone on from as if it were open."""
        under_way = {start: self._lines_read(reads[start])}
        while under_way:
            line = next(reversed(under_way))
            need = next((n for n in under_way[line] if n not in seen), None)
            if need is None:
                del under_way[line]
                seen.add(line)
                order.append(line)
            elif need in under_way:
                steps = list(under_way)
                self._circle(steps[steps.index(need) :])
            else:
                under_way[need] = self._lines_read(reads[need])

    def _lines_read(self, tensors: Sequence[int]) -> Iterator[int]:
        first = len(self.inputs)
        return (self._whole(n) - first for n in tensors if self._whole(n) >= first)

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


def _key(line: Line) -> str:
    return line.layer if isinstance(line, Again) else type(line).__name__


def _inner(layer: Layer) -> Iterator[tuple[Layer, Path]]:
    """The layers that a layer holds and where, but for those inside models, which have wirings of their own."""
    for option in type(layer).model_fields:
        value = getattr(layer, option)
        items = list(enumerate(value)) if isinstance(value, (list, tuple)) else [(None, value)]
        for place, inner in items:
            if isinstance(inner, Layer):
                steps: Path = (option, *(() if place is None else (place,)), _key(inner))
                yield inner, steps
                if not inner.wires:
                    yield from ((held, (*steps, *more)) for held, more in _inner(inner))


def _read(inputs: Any) -> Iterator[str]:
    """All names under `inputs`."""
    for part in inputs.values() if isinstance(inputs, dict) else [inputs or ()]:
        yield from part


def _steps(inputs: Any, arguments: Sequence[str]) -> list[Path]:
    """Where each name that `in_turn` gives stands under `inputs`."""
    if not isinstance(inputs, dict):
        return [(i,) for i in range(len(inputs))]
    return [(argument, i) for argument in arguments if argument in inputs for i in range(len(inputs[argument]))]


def in_turn(inputs: Any, arguments: Sequence[str]) -> list[str]:
    """The names that a layer reads, in order, from a list of them or from a mapping by its arguments' names."""
    if not isinstance(inputs, dict):
        return list(inputs)
    return [name for argument in arguments if argument in inputs for name in inputs[argument]]


def hears_masks(layer: Layer, count: int) -> bool:
    """Whether a layer is handed the masks of the `count` tensors that it reads.

    Keras hands none to a recurrent layer that is called with first states beside its sequence: it reads padding like
    all else there. The sequence's mask goes on behind it all the same.
    """
    return layer.takes_mask and not (count > 1 and "initial_state" in layer.arguments())


def keras_order(calls: Sequence[Call], outputs: Sequence[int], parts: Mapping[int, tuple[int, Any]]) -> list[str]:
    """Names of the layers in the order in which Keras lists those of a functional model.

    Layers farther from the outputs come first; among equals, those that are met first on the way back from them.
    """
    makers = {call.output: call for call in calls}

    def maker(number: int) -> Call | None:
        return makers.get(parts[number][0] if number in parts else number)

    met: dict[str, int] = {}
    finished: dict[int, Call] = {}
    for output in outputs:
        stack: list[tuple[Call, Iterator[int]]] = []
        entered: Call | None = maker(output)
        while entered is not None or stack:
            if entered is not None:
                met.setdefault(entered.layer, len(met))
                stack.append((entered, iter(entered.inputs)))
            call, rest = stack[-1]
            entered = next((c for c in map(maker, rest) if c is not None and c.output not in finished), None)
            if entered is None:
                finished[call.output] = call
                stack.pop()
    depths: dict[int, int] = {}
    of_layer: dict[str, int] = {}
    for number, call in reversed(finished.items()):
        depth = max(depths.get(number, 0), of_layer.get(call.layer, 0))
        depths[number] = of_layer[call.layer] = depth
        for before in filter(None, map(maker, call.inputs)):
            depths[before.output] = max(depth + 1, depths.get(before.output, 0))
    return sorted(of_layer, key=lambda name: (-of_layer[name], met[name]))


@dataclass
class Graph:
    """A wiring with the shape of every tensor and the plan of every layer."""

    wiring: Wiring
    name: str = "model"
    dtype: DType = "float32"
    "Number type of layers that say none."
    shapes: dict[int, Any] = field(default_factory=dict)
    "The Shape of each tensor; a list of Shapes where a layer makes several."
    plans: dict[str, Plan] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, int]:
        """Name to tensor of the inputs."""
        return self.wiring.inputs

    @property
    def outputs(self) -> dict[str, int]:
        """Name to tensor of the outputs."""
        return self.wiring.outputs

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers by name, in Keras's order."""
        return self.wiring.layers

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls, in an order in which each finds what it reads."""
        return self.wiring.calls

    @property
    def output_shapes(self) -> list[Shape]:
        """Shapes of the outputs, in order."""
        return [self.shapes[number] for number in self.outputs.values()]

    @property
    def output_shape(self) -> Shape:
        """Shape of the only output."""
        (shape,) = self.output_shapes
        return shape

    def tensor(self, name: str) -> int | None:
        """The tensor that is called so: a layer's, that of a later call of it, one of several, or an output's."""
        made = {self.called(n): n for n in (*(call.output for call in self.calls), *self.wiring.parts)}
        return made.get(name, self.outputs.get(name))

    def called(self, number: int) -> str:
        """What a tensor is called: `conv`, or `lstm/1` for one of several."""
        if number not in self.wiring.parts:
            return self.wiring.names[number]
        whole, which = self.wiring.parts[number]
        return f"{self.wiring.names[whole]}{PART}{which}"

    def is_chain(self) -> bool:
        """Whether each layer is called once, on what the one before it made, from the one input to the one output."""
        tensor = next(iter(self.inputs.values()))
        for call in self.calls:
            if call.inputs != (tensor,):
                return False
            tensor = call.output
        once = len(self.calls) == len(self.layers)
        return once and len(self.inputs) == 1 and list(self.outputs.values()) == [tensor]

    def weight_paths(self) -> Iterator[str]:
        """What the weights are called: `dense/kernel`."""
        for name, plan in self.plans.items():
            yield from _weight_paths(plan, name)

    def sizes(self) -> Iterator[tuple[str, Layer, Any, int, int]]:
        """(name, layer, output shape or shapes, trainable parameters, other parameters) for each layer, in order."""
        made = {c.layer: self.shapes[c.output] for c in reversed(self.calls)}
        for name, layer in self.layers.items():
            yield name, layer, made[name], *parameters(layer, self.plans[name])


def _weight_paths(plan: Plan, path: str) -> Iterator[str]:
    for weight in plan.weights:
        yield "/".join(part for part in (path, weight.group, weight.name) if part)
    for name, (inner, inner_plan) in plan.children.items():
        yield from _weight_paths(inner_plan, f"{path}/{inner.name or name}")


def parameters(layer: Layer, plan: Plan) -> tuple[int, int]:
    """(trainable, non-trainable) parameters of a layer and what it holds."""
    moving = still = 0
    for weight in plan.weights:
        if weight.trainable and layer.trainable:
            moving += size(weight.shape) or 0
        else:
            still += size(weight.shape) or 0
    for inner, inner_plan in plan.children.values():
        inner_moving, inner_still = parameters(inner, inner_plan)
        if layer.trainable:
            moving += inner_moving
            still += inner_still
        else:
            still += inner_moving + inner_still
    return moving, still


def layer_names(lines: Sequence[Line], at: Path = ("model",)) -> list[str | None]:
    """Keras's names: the class in snake case, with `_1`, `_2`, … from the second of a class on.

    A layer called again has the name that it was given for it, or none.

    Raises:
        RecipeError: two lines ask for one name.
    """
    names, problems = _named(lines, at)
    if problems:
        raise RecipeError(*problems)
    return names


def _named(lines: Sequence[Line], at: Path) -> tuple[list[str | None], list[Problem]]:
    """(the name of each line, a problem for each line that asks for the name of another one)."""
    names: list[str | None] = []
    problems: list[Problem] = []
    counts: dict[str, int] = {}
    seen: set[str] = set()
    given = {line.name for line in lines if line.name}
    for index, line in enumerate(lines):
        name = line.name
        if name and name in seen:
            path = (*at, "layers", index, _key(line), "name")
            problems.append(Problem(f'two layers are called "{name}"', path, "layer names must differ", "graph"))
        seen.add(name or "")
        base = snake_case(type(line).__name__) if isinstance(line, Layer) else None
        while base is not None and not name:
            number = counts.get(base, 0)
            counts[base] = number + 1
            free = f"{base}_{number}" if number else base
            name = free if free not in given else None
        names.append(name)
    return names, problems


def built(wiring: Wiring, shapes: Mapping[int, Any], plans: dict[str, Plan], at: Path | None = None) -> dict[int, Any]:
    """The shape of every tensor of a wiring, from those of its inputs; each layer's plan goes to `plans`.

    Raises:
        RecipeError: a layer can't take what reaches it (a ValueError, when it has no place `at` which it stands).
    """
    found = dict(shapes)
    for name, said in wiring.said.items():
        found[wiring.inputs[name]] = said.held(found[wiring.inputs[name]], at)
    parts: dict[int, list[int]] = {}
    for number, (whole, _) in wiring.parts.items():
        parts.setdefault(whole, []).append(number)
    for call in wiring.calls:
        layer, number = wiring.layers[call.layer], call.output
        try:
            found[number] = _made(call, layer, [found[n] for n in call.inputs], plans)
            several = found[number]
            for number in parts.get(call.output, ()):
                found[number] = several[_place(call.layer, layer, wiring.parts[number][1], several)]
        except ValueError as error:
            misfit = error if isinstance(error, Misfit) else Misfit("")
            path = (*wiring.lines[number], *(misfit.path if layer.wires else ()))
            message = str(error) if number != call.output else f"{call.layer}: {error}"
            if at is None:
                raise Misfit(message, misfit.hint, path[1:]) from None
            raise RecipeError(message, path=path, hint=misfit.hint, code="shape") from None
    return found


def _made(call: Call, layer: Layer, read: list[Any], plans: dict[str, Plan]) -> Any:
    """The shape, or shapes, that a layer makes of those that it reads.

    Raises:
        ValueError: it can't take them.
    """
    plan = Plan()
    made = layer.build(plan, _given(layer, read), **call.options)
    known = plans.setdefault(call.layer, plan)
    if _weights(known) != _weights(plan):
        shape = text(read[0]) if isinstance(read[0], tuple) else "these inputs"
        raise Misfit(
            f"its weights are those of another shape, so that it can't be called again on {shape}",
            "write a layer of its own",
        )
    return made


def _weights(plan: Plan) -> list[Any]:
    """Names and shapes of all weights."""
    inner = [(name, _weights(held)) for name, (_, held) in plan.children.items()]
    return [(w.name, w.shape) for w in plan.weights] + inner


def _given(layer: Layer, shapes: list[Any]) -> Any:
    """What a layer's `build` is handed: a shape, or a list of them.

    Raises:
        ValueError: the layer takes one tensor and is given several.
    """
    given = shapes[0] if len(shapes) == 1 else shapes
    if isinstance(given, list) and not layer.reads_several:
        why = "" if len(shapes) > 1 else "; return_state and merge_mode null make lists"
        hint = "join them first, in Concatenate or Add" if len(shapes) > 1 else "name one of them, such as `lstm/0`"
        raise Misfit(f"expected one tensor, found a list of {len(given)}{why}", hint)
    if len(shapes) > 1 and any(isinstance(s, list) for s in shapes):
        raise Misfit("one of its inputs is a list of tensors", "name one of them, such as `lstm/0`")
    return given


def _place(name: str, layer: Layer, which: int | str, made: Any) -> int:
    """Which of the tensors that a layer makes is meant by a number or a name.

    Raises:
        ValueError: there is none of that.
    """
    if not isinstance(made, list):
        raise Misfit(f'{name} makes one tensor, so that there is no "{name}{PART}{which}"', f"write {name}")
    names = layer.output_names()
    if which not in (*names, *range(len(made))):
        known = ", ".join(f"{name}{PART}{n}" for n in (*names, *range(len(made))))
        raise Misfit(f'there is no "{name}{PART}{which}" among the {len(made)} tensors of {name}', f"write {known}")
    return layer.part(which)


def grown(
    wiring: Wiring,
    shapes: Mapping[str, Shape],
    name: str = "model",
    batch_size: int | None = None,
    dtype: DType = "float32",
    at: Path = ("model",),
) -> Graph:
    """A wiring with the shape of every tensor, from those of the inputs (which begin with the batch, None).

    `batch_size` is what stateful layers, which need batches of one size, keep states for; `dtype` is the number type of
    layers that say none.

    Raises:
        RecipeError: a layer can't take what reaches it; the path names the layer.
    """
    layers = wiring.layers
    if dtype != "float32" or any(layer.types() != {None} for layer in layers.values()):
        layers = {n: layer.typed(dtype) for n, layer in layers.items()}
        wiring = replace(wiring, layers=layers)
    batch = batch_size if any(getattr(layer, "stateful", False) for layer in layers.values()) else None
    given = {wiring.inputs[n]: (batch or s[0], *s[1:]) for n, s in shapes.items()}
    graph = Graph(wiring, name, dtype)
    graph.shapes = built(wiring, given, graph.plans, at)
    for number in wiring.outputs.values():
        if isinstance(graph.shapes[number], list):
            found = f"expected one tensor as an output of the model, found a list of {len(graph.shapes[number])}"
            hint = "name one of them as an output, such as `lstm/0`; return_state and merge_mode null make lists"
            raise RecipeError(found, path=wiring.lines[number], hint=hint, code="shape")
    return graph


def chain(
    layers: Sequence[Layer],
    inputs: Mapping[str, Shape],
    name: str = "model",
    batch_size: int | None = None,
    dtype: DType = "float32",
) -> Graph:
    """The graph of a list of layers, each reading the one above it.

    Raises:
        RecipeError: a layer can't take what reaches it; the path names the layer.
    """
    return grown(wire(layers, list(inputs)), inputs, name, batch_size, dtype)
