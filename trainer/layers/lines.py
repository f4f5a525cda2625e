"""The lines of a layer list: layers, and layers called again by their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic_core import core_schema

from trainer.block import Block, raise_under
from trainer.declare import KIND_MARK
from trainer.errors import Path, Problem, RecipeError
from trainer.layers.base import Inputs, Layer
from trainer.naming import snake_case
from trainer.options import Name, Str, complaint


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


def layer_names(lines: Sequence[Line], at: Path = ("model",)) -> list[str | None]:
    """Keras's names: the class in snake case, with `_1`, `_2`, … from the second of a class on.

    A layer called again has the name that it was given for it, or none.

    Raises:
        RecipeError: two lines ask for one name.
    """
    names, problems = named(lines, at)
    if problems:
        raise RecipeError(*problems)
    return names


def named(lines: Sequence[Line], at: Path) -> tuple[list[str | None], list[Problem]]:
    """(the name of each line, a problem for each line that asks for the name of another one)."""
    names: list[str | None] = []
    problems: list[Problem] = []
    counts: dict[str, int] = {}
    seen: set[str] = set()
    given = {line.name for line in lines if line.name}
    for index, line in enumerate(lines):
        name = line.name
        if name and name in seen:
            path = (*at, "layers", index, key_of(line), "name")
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


def key_of(line: Line) -> str:
    return line.layer if isinstance(line, Again) else type(line).__name__


def names_read(inputs: Any) -> Iterator[str]:
    """All names under `inputs`."""
    for part in inputs.values() if isinstance(inputs, dict) else [inputs or ()]:
        yield from part


def steps_read(inputs: Any, arguments: Sequence[str]) -> list[Path]:
    """Where each name that `in_turn` gives stands under `inputs`."""
    if not isinstance(inputs, dict):
        return [(i,) for i in range(len(inputs))]
    return [(argument, i) for argument in arguments if argument in inputs for i in range(len(inputs[argument]))]


def in_turn(inputs: Any, arguments: Sequence[str]) -> list[str]:
    """The names that a layer reads, in order, from a list of them or from a mapping by its arguments' names."""
    if not isinstance(inputs, dict):
        return list(inputs)
    return [name for argument in arguments if argument in inputs for name in inputs[argument]]


def held_inside(layer: Layer) -> Iterator[tuple[Layer, Path]]:
    """The layers that a layer holds and where, but for those inside models, which have wirings of their own."""
    for option in type(layer).model_fields:
        value = getattr(layer, option)
        items = list(enumerate(value)) if isinstance(value, (list, tuple)) else [(None, value)]
        for place, inner in items:
            if isinstance(inner, Layer):
                steps: Path = (option, *(() if place is None else (place,)), key_of(inner))
                yield inner, steps
                if not inner.wires:
                    yield from ((held, (*steps, *more)) for held, more in held_inside(inner))
