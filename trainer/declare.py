"""One declaration, many uses.

A class whose annotated fields are its options, with a line under each field to say what it means, is everything that
a recipe can name. From that text come the validated, frozen config (a pydantic model), the catalogue entry, the JSON
Schema, `trainer explain`, the plain spec in `resolved.yaml` and the Keras config in a checkpoint.

    class Regularizer(Declared, kind="regularizer", room="trainer.regularizers", keras="keras.regularizers"): ...
    class L2(Regularizer):
        \"\"\"Sum of squares.\"\"\"
        l2: NonNegativeFloat = 0.01
        "Factor of the sum."

Rules: a class is abstract (a kind's root, or `abstract=True`) or final; finals alone are in the catalogue; two finals
of one kind can't share a name; a declared object is options only, so state (weights, slots, counters) is handed in.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import PydanticUndefined, core_schema

from trainer.block import Block, describe, raise_under
from trainer.errors import RecipeError, nearest
from trainer.naming import load_room, names_in, plural, snake_case
from trainer.options import Rule, article, complaint, raise_all, shown

KIND_MARK = "trainer-kind"


class Declared(Block):
    """Root of everything that a recipe can name."""

    named = True
    kind: ClassVar[str] = ""
    "What the recipe calls one of these: layer, loss, …"
    room: ClassVar[str] = ""
    "Package whose modules declare the finals; imported at the first look into the catalogue."
    keras: ClassVar[str] = ""
    "Module of Keras that has the class of the same name; empty when Keras lacks it."
    aliases: ClassVar[tuple[str, ...]] = ()
    "Further names under which Keras knows the class."
    not_keras: ClassVar[tuple[str, ...]] = ()
    "Options of ours that have no place in a Keras config."
    keras_order: ClassVar[str] = ""
    """Options in the order of Keras's arguments, as far as that is not the order of their declaration. The class's own
    that it does not list come after, or where it says `...`; last of all those that every class of the kind has."""
    snake_names: ClassVar[bool] = True
    "Whether the snake-case form of the class name is a name too (not for layers, as in Keras)."
    catalogue: ClassVar[dict[str, type[Any]]] = {}
    abstract: ClassVar[bool] = True

    def __init_subclass__(
        cls, kind: str = "", room: str = "", keras: str | None = None, abstract: bool = False, **rest: Any
    ):
        super().__init_subclass__(**rest)
        if kind:
            cls.kind, cls.room, cls.catalogue = kind, room, {}
        if keras is not None:
            cls.keras = keras
        cls.abstract = bool(kind) or abstract

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if cls.abstract:
            return
        if any(not c.abstract for c in cls.__mro__[1:] if isinstance(c, type) and issubclass(c, Declared)):
            raise TypeError(f"{cls.__name__} extends a final {cls.kind}; a class is abstract or final")
        known = cls.catalogue.get(cls.__name__)
        if known is not None and known.__module__ != cls.__module__:
            raise TypeError(f"two {cls.kind} classes are called {cls.__name__}: {known.__module__}, {cls.__module__}")
        for name in cls._in_keras_order():
            cls.model_fields[name] = cls.model_fields.pop(name)
        cls.catalogue[cls.__name__] = cls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        if cls.abstract:
            return core_schema.no_info_plain_validator_function(cls.parse)
        return handler(source)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {KIND_MARK: cls.kind} if cls.abstract else handler(schema)

    @classmethod
    def spellings(cls) -> dict[str, type[Self]]:
        """Every accepted spelling to its class, class names first."""
        load_room(cls.room)
        # Sorted: the order in which modules were imported is an accident.
        found = {name: c for name, c in sorted(cls.catalogue.items()) if issubclass(c, cls)}
        for c in list(found.values()):
            short = (snake_case(c.__name__),) if cls.snake_names else ()
            for name in (*short, *c.aliases):
                found.setdefault(name, c)
        return found

    @classmethod
    def known(cls, name: str) -> type[Self] | None:
        """The final class of a name, imported by itself; None for what only the whole catalogue can tell."""
        place = names_in(cls.room).get(name)
        if place is None or (place.is_short and not cls.snake_names):
            return None
        importlib.import_module(place.module)
        found = cls.catalogue.get(place.final)
        return found if found is not None and issubclass(found, cls) else None

    @classmethod
    def find(cls, name: str) -> type[Self]:
        """The final class of that name.

        Raises:
            RecipeError: no such name; the hint holds the nearest one.
        """
        found = cls.known(name)
        if found is not None:
            return found
        hint = cls._like(name)
        if hint is None:
            names = cls.spellings()
            if name in names:
                return names[name]
            hint = nearest(name, names)
        hint = hint or f"`trainer list {plural(cls.kind)}` shows them all"
        raise RecipeError(f"there is no {cls.kind} called {shown(name)}", hint=hint, code="unknown-name")

    @classmethod
    def _like(cls, name: str) -> str | None:
        """The hint for a name that nothing has, from the files alone; None where the whole catalogue must be asked."""
        names = [n for n, place in names_in(cls.room).items() if cls.snake_names or not place.is_short]
        plugged = any(not c.__module__.startswith(f"{cls.room}.") for c in cls.catalogue.values())
        hint = nearest(name, names)
        if plugged or name in names or not names:
            return None
        meant = hint.removeprefix("did you mean ").removesuffix("?")
        return hint if meant and cls.known(meant) is not None else None

    @classmethod
    def short(cls, value: Any) -> Any:
        """A kind's own short spellings, turned into a name or a one-key mapping; overridden by kinds that have some."""
        return value

    @classmethod
    def parse(cls, value: Any) -> Self:
        """An instance from a bare name, a mapping with one name as its key, or an instance."""
        if isinstance(value, cls):
            return value
        value = cls.short(value)
        if isinstance(value, cls):
            return value
        if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value)), str):
            ((name, options),) = value.items()
        elif isinstance(value, str):
            name, options = value, {}
        else:
            found = f"a mapping with {len(value) or 'no'} keys" if isinstance(value, dict) else shown(value)
            found = "a mapping whose key is no name" if isinstance(value, dict) and len(value) == 1 else found
            hint = f"write a name, or {{Name: {{option: value}}}}; `trainer list {plural(cls.kind)}` shows the names"
            raise_all([(complaint(f"expected {article(cls.kind)}, found {found}", hint), ())])
        try:
            final = cls.find(name)
        except RecipeError as error:
            problem, keyed = error.problems[0], isinstance(value, dict)
            found = complaint(problem.message, problem.hint, on_key=keyed, code=problem.code)
            raise_all([(found, (name,) if keyed else ())])
        try:
            return final.read(options)
        except ValidationError as error:
            raise_under((name,), error)

    @classmethod
    def _in_keras_order(cls) -> list[str]:
        root = next(c for c in cls.__mro__ if "kind" in vars(c))
        before, _, after = (part.split() for part in cls.keras_order.partition("..."))
        others = [n for n in cls.model_fields if n not in (*before, *after)]
        own = [n for n in others if cls.field_owner(n) is not root]
        common = [n for n in others if n not in own]
        return [n for n in (*before, *own, *after, *common) if n in cls.model_fields]

    def spec(self) -> Any:
        """The plain recipe value that parses back to this: a bare name, or `{Name: {every option}}`."""
        values = {n: plain(getattr(self, n)) for n in self.options()}
        return {self.recipe_name(): values} if values else self.recipe_name()

    @classmethod
    def recipe_name(cls) -> str:
        """How a recipe writes the name."""
        return cls.__name__

    def keras_config(self) -> dict[str, Any]:
        """Keras's `get_config()`: the options under Keras's names, declared values as Keras objects."""
        return {n: _keras_value(getattr(self, n)) for n in self.options() if n not in self.not_keras}

    def to_keras(self) -> Any:
        """Keras's serialized object."""
        return {
            "module": self.keras or None,
            "class_name": type(self).__name__,
            "config": self.keras_config(),
            "registered_name": None if self.keras else f"trainer>{type(self).__name__}",
        }


def plain(value: Any) -> Any:
    """A value as it stands in YAML or JSON."""
    if isinstance(value, Declared):
        return value.spec()
    if isinstance(value, Block):
        return {value.written(n): plain(getattr(value, n)) for n in type(value).model_fields}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def _keras_value(value: Any) -> Any:
    if isinstance(value, Declared):
        return value.to_keras()
    if isinstance(value, (list, tuple)):
        return [_keras_value(v) for v in value]
    return value


def type_words(annotation: Any, metadata: list[Any] | None = None) -> str:
    """An option's type as a person would say it: `an integer above 0`, `an initializer or null`."""
    for extra in metadata or []:
        if isinstance(extra, Rule):
            return extra.expected
    args = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return type_words(args[0], list(args[1:]))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(shown(a) for a in args)
    if isinstance(annotation, type) and issubclass(annotation, Declared):
        return article(annotation.kind)
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return "a mapping"
    if type(None) in args:
        return " or ".join([*(type_words(a) for a in args if a is not type(None)), "null"])
    if get_origin(annotation) in (list, tuple):
        inner = [a for a in args if a is not ...]
        return "a list of: " + type_words(inner[0]) if inner else "a list"
    if get_origin(annotation) is dict:
        return f"a mapping to: {type_words(args[1])}"
    return getattr(annotation, "__name__", str(annotation))


def explained(cls: type[Block]) -> Iterator[tuple[str, str, Any, str]]:
    """(option, type in words, default or PydanticUndefined, explanation) for each option."""
    lines = describe(cls)
    for name in cls.options():
        field = cls.model_fields[name]
        yield cls.written(name), type_words(field.annotation, field.metadata), field.get_default(), lines[name]


REQUIRED = PydanticUndefined
