"""The recipe language as a JSON Schema (draft 07), for editors; made from the declarations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.activations.base import Activation
from trainer.block import Block, block_in, describe
from trainer.callbacks.base import Callback
from trainer.constraints.base import Constraint
from trainer.declare import KIND_MARK, Declared
from trainer.initializers.base import Initializer
from trainer.layers.base import Layer
from trainer.losses.base import Loss
from trainer.metrics.base import Metric
from trainer.naming import plural
from trainer.optimizers.base import Optimizer
from trainer.recipe.schema import Recipe
from trainer.regularizers.base import Regularizer
from trainer.schedules.base import Schedule
from trainer.sources.base import Source

KINDS: tuple[type[Declared], ...] = (
    Activation,
    Callback,
    Constraint,
    Initializer,
    Layer,
    Loss,
    Metric,
    Optimizer,
    Regularizer,
    Schedule,
    Source,
)


PARTIAL = ".changed"
"Ends the name of a definition as it holds in a recipe that extends another: the same, but nothing must be given."


def json_schema() -> dict[str, Any]:
    """The schema of a whole recipe file, alone or extending another."""
    definitions: dict[str, Any] = {}
    whole = _documented(Recipe, _linked(Recipe.model_json_schema(), definitions))
    whole["required"] = [n for n in whole.get("required", []) if n != "name"]
    for block in _blocks(Recipe):
        definitions[block.__name__] = _documented(block, definitions[block.__name__])
    for kind in KINDS:
        definitions[kind.kind] = _kind(kind, definitions)
    extends = {"type": "string", "description": "Another recipe; this one says what differs.", "minLength": 1}
    changed = _changed(whole, definitions)
    changed["properties"] = {"extends": extends, **changed["properties"]}
    definitions |= {"recipe": whole, f"recipe{PARTIAL}": changed}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "trainer recipe",
        "type": "object",
        "if": {"type": "object", "required": ["extends"]},
        "then": {"$ref": f"#/definitions/recipe{PARTIAL}"},
        "else": {"$ref": "#/definitions/recipe"},
        "definitions": dict(sorted(definitions.items())),
    }


def _blocks(cls: type[Block]) -> Iterator[type[Block]]:
    """The blocks that a block is made of."""
    for option in cls.model_fields.values():
        inner = block_in(option.annotation)
        if inner is not None:
            yield inner
            yield from _blocks(inner)


def _changed(value: Any, definitions: dict[str, Any]) -> Any:
    """A schema for what is merged over a parent's value: lists are replaced, so they stay as they are."""
    if isinstance(value, list):
        return [_changed(v, definitions) for v in value]
    if not isinstance(value, dict):
        return value
    made = {k: v if k == "items" else _changed(v, definitions) for k, v in value.items() if k != "required"}
    name = str(value.get("$ref", "")).removeprefix("#/definitions/")
    if not name:
        return made
    if f"{name}{PARTIAL}" not in definitions:
        definitions[f"{name}{PARTIAL}"] = {}  # kinds nest in themselves
        definitions[f"{name}{PARTIAL}"] = _changed(definitions[name], definitions)
    return {**made, "$ref": f"#/definitions/{name}{PARTIAL}"}


def _kind(kind: type[Declared], definitions: dict[str, Any]) -> dict[str, Any]:
    names = kind.spellings()
    objects: dict[str, Any] = {}
    for name, final in names.items():
        key = f"{kind.kind}.{final.__name__}"
        if key not in definitions:
            definitions[key] = _documented(final, _linked(final.model_json_schema(), definitions))
        objects[name] = {"anyOf": [{"$ref": f"#/definitions/{key}"}, {"type": "null"}]}
    bare = {"enum": sorted(n for n, c in names.items() if not _required(c))}
    keyed = {
        "type": "object",
        "properties": objects,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    short = [{"type": ["number", "string"]}] if kind is Schedule else []
    return {"anyOf": [bare, keyed, *short], "description": (kind.__doc__ or "").strip()}


def _required(final: type[Declared]) -> bool:
    return any(f.is_required() for f in final.model_fields.values())


def _documented(cls: type[Block], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a declared class or block with the first line of its docstring and the line of each option."""
    schema["description"] = (cls.__doc__ or "").strip().split("\n")[0]
    for option, line in describe(cls).items():
        name = cls.written(option)
        if line and name in schema.get("properties", {}):
            schema["properties"][name] = {**schema["properties"][name], "description": line}
    return schema


def _linked(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Move pydantic's `$defs` to our definitions and turn kind marks into references."""
    for name, inner in schema.pop("$defs", {}).items():
        definitions.setdefault(name, _walk(inner))
    return _walk(schema)


def _walk(value: Any) -> Any:
    if isinstance(value, list):
        return [_walk(v) for v in value]
    if not isinstance(value, dict):
        return value
    if KIND_MARK in value:
        return {"$ref": f"#/definitions/{value[KIND_MARK]}"}
    made = {k: _walk(v) for k, v in value.items() if k not in ("default", "title")}
    if "$ref" in made:
        made["$ref"] = made["$ref"].replace("#/$defs/", "#/definitions/")
    return made


def kind_named(word: str) -> type[Declared] | None:
    """The kind of a word such as `layers` or `layer`."""
    return next((k for k in KINDS if word in (k.kind, plural(k.kind))), None)
