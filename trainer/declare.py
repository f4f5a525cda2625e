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

import ast
import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    LiteralString,
    NamedTuple,
    NoReturn,
    Self,
    cast,
    get_args,
    get_origin,
)

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticUndefined, core_schema

from trainer.errors import Path, Problem, RecipeError, nearest
from trainer.options import Rule, article, complaint, shown

KIND_MARK = "trainer-kind"


def snake_case(name: str) -> str:
    """Keras's rule from a class name to a layer name: `Conv2D` to `conv2d`, `MaxPooling2D` to `max_pooling2d`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class Block(BaseModel):
    """A frozen mapping of options with our words for errors: the base of recipe blocks and of everything declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, protected_namespaces=())

    @classmethod
    def read(cls, options: Any) -> Self:
        """The validated block.

        Raises:
            ValidationError: every problem at once, each in our words (`problems_of` turns it into Problems).
        """
        if options is None:
            options = {}
        if not isinstance(options, dict):
            raise_all([(complaint(f"expected the options of {cls.__name__} as a mapping, found {shown(options)}"), ())])
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            raise _translated(cls, error) from None

    @classmethod
    def field_owner(cls, name: str) -> type[Block]:
        """The class that annotates the field (inherited options are explained where they are declared)."""
        return next(c for c in cls.__mro__ if name in inspect.get_annotations(c))


class Declared(Block):
    """Root of everything that a recipe can name."""

    kind: ClassVar[str] = ""
    "What the recipe calls one of these: layer, loss, …"
    room: ClassVar[str] = ""
    "Package whose modules declare the finals; imported at the first look into the catalogue."
    keras: ClassVar[str] = ""
    "Module of Keras that has the class of the same name; empty when Keras lacks it."
    aliases: ClassVar[tuple[str, ...]] = ()
    "Further names under which Keras knows the class."
    not_keras: ClassVar[tuple[str, ...]] = ("inputs",)
    "Options of ours that have no place in a Keras config."
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
            raise_all([(_again(dict(e)), (name, *e["loc"])) for e in error.errors()])

    @classmethod
    def options(cls) -> list[str]:
        """Option names, the class's own first and those common to the kind last."""
        root = next(c for c in cls.__mro__ if "kind" in vars(c))
        own = [n for n in cls.model_fields if cls.field_owner(n) is not root]
        shared = [n for n in cls.model_fields if n not in own]
        return own + shared

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
        return {n: plain(getattr(value, n)) for n in type(value).model_fields}
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


def plural(kind: str) -> str:
    """`loss` to `losses`, `layer` to `layers`."""
    return kind + ("es" if kind.endswith("s") else "s")


class Named(NamedTuple):
    """Where the class of a name stands."""

    final: str
    module: str
    is_short: bool
    "Whether the name is the snake-case form."


_CLASS = re.compile(r"^class (\w+)\(([^)]*)\):\n((?:(?!^\S).*\n?)*)", re.MULTILINE)
_ALIASES = re.compile(r"^    aliases = (\(.*?\))$", re.MULTILINE | re.DOTALL)


@functools.cache
def names_in(room: str) -> dict[str, Named]:
    """Every spelling in a package, as its files say it: to import one class without the others.

    Where there is no text to read there is nothing.
    """
    finals: dict[str, Named] = {}
    others: dict[str, Named] = {}
    for folder in importlib.import_module(room).__path__:
        for file in sorted(FilePath(folder).glob("*.py")):
            for name, bases, body in _CLASS.findall(file.read_text(encoding="utf-8")):
                if "abstract=True" in bases or "kind=" in bases:
                    continue
                finals[name] = place = Named(name, f"{room}.{file.stem}", False)
                others.setdefault(snake_case(name), place._replace(is_short=True))
                aliases = _ALIASES.search(body)
                others |= dict.fromkeys(ast.literal_eval(aliases[1]) if aliases else (), place)
    return {**finals, **{name: place for name, place in others.items() if name not in finals}}


@functools.cache
def load_room(room: str) -> None:
    """Import every module of a package once, so that its classes are in the catalogue."""
    package = importlib.import_module(room)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{room}.{module.name}")


def raise_all(errors: list[tuple[PydanticCustomError, Path]]) -> NoReturn:
    """Raise several located errors from inside a validator; pydantic keeps them apart and prefixes their place."""
    details = [InitErrorDetails(type=e, loc=loc, input=None) for e, loc in errors]
    raise ValidationError.from_exception_data("recipe", details)


def _again(e: dict[str, Any]) -> PydanticCustomError:
    """An error that was found deeper, to be raised once more."""
    return PydanticCustomError(cast(LiteralString, e["type"]), "{message}", e["ctx"])


_WORDS = {
    "list_type": "expected a list, found {found}",
    "tuple_type": "expected a list, found {found}",
    "dict_type": "expected a mapping, found {found}",
    "literal_error": "expected one of {expected}, found {found}",
    "invalid_key": "expected a name as a key, found {found}",
    "model_type": "expected a mapping, found {found}",
    "model_attributes_type": "expected a mapping, found {found}",
    "too_short": "expected at least {min_length} entries, found {actual_length}",
    "too_long": "expected at most {max_length} entries, found {actual_length}",
    "none_required": "expected null, found {found}",
}


def _translated(cls: type[Block], error: ValidationError) -> ValidationError:
    """pydantic's errors in our words; those that are ours already pass unchanged."""
    return ValidationError.from_exception_data(
        cls.__name__,
        [
            InitErrorDetails(type=_translate(_block_at(cls, e["loc"]), dict(e)), loc=tuple(e["loc"]), input=None)
            for e in error.errors(include_url=False)
        ],
    )


def _block_at(cls: type[Block], loc: Path) -> type[Block]:
    """The block that holds the last step of a path."""
    for part in loc[:-1]:
        field = cls.model_fields.get(str(part))
        cls = (block_in(field.annotation) if field is not None else None) or cls
    return cls


def block_in(annotation: Any) -> type[Block] | None:
    """The plain block that an annotation holds, such as `Fit` or `dict[str, Feature]`."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return None if issubclass(annotation, Declared) else annotation
    return next((b for b in map(block_in, get_args(annotation)) if b is not None), None)


def _translate(cls: type[Block], e: dict[str, Any]) -> PydanticCustomError:
    if e["type"] == "trainer":
        return PydanticCustomError("trainer", "{message}", e["ctx"])
    name = str(e["loc"][-1]) if e["loc"] else ""
    if e["type"] == "extra_forbidden":
        hint = nearest(name, cls.model_fields) or f"its options are: {', '.join(cls.model_fields)}"
        return complaint(f"{cls.__name__} has no option {shown(name)}", hint, on_key=True, code="unknown-option")
    if e["type"] == "missing":
        says = describe(cls).get(name, "")
        return complaint(f"{cls.__name__} needs {name}, which is missing", says and f"{name}: {says}", code="missing")
    if e["type"] == "value_error":
        return complaint(str(e["ctx"]["error"]), code="value")
    context = {**e.get("ctx", {}), "found": shown(e["input"])}
    words = _WORDS.get(e["type"])
    return complaint(words.format(**context) if words else f"{e['msg']}, found {context['found']}", code=e["type"])


def problems_of(error: ValidationError) -> list[Problem]:
    """The problems in a ValidationError from `Block.read` or `Declared.parse`, with their recipe paths."""
    found = []
    for e in error.errors(include_url=False):
        c = e.get("ctx") or {}
        message = c.get("message", e["msg"])
        found.append(
            Problem(message, tuple(e["loc"]), c.get("hint", ""), c.get("code", e["type"]), None, c.get("on_key", False))
        )
    return found


@functools.cache
def _field_lines(module: str) -> dict[str, dict[str, str]]:
    """Class name to {field: the string that stands under it}, read from the module's source without running it."""
    lines: dict[str, dict[str, str]] = {}
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        found = lines.setdefault(node.name, {})
        for field, text in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                says = text.value.value if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) else None
                if isinstance(says, str):
                    found[field.target.id] = inspect.cleandoc(says)
    return lines


def describe(cls: type[Block]) -> dict[str, str]:
    """Option name to its line of explanation, inherited options included."""
    found = {}
    for name in cls.model_fields:
        owner = cls.field_owner(name)
        found[name] = _field_lines(owner.__module__).get(owner.__name__, {}).get(name, "")
    return found


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
    names = cls.options() if issubclass(cls, Declared) else list(cls.model_fields)
    for name in names:
        field = cls.model_fields[name]
        yield name, type_words(field.annotation, field.metadata), field.get_default(), lines[name]


REQUIRED = PydanticUndefined
