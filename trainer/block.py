"""A mapping of options: frozen, with a line under each to say what it means, and our words for what is wrong in it."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from typing import Any, ClassVar, LiteralString, NoReturn, Self, cast, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from trainer.errors import Path, Problem, nearest
from trainer.options import complaint, raise_all, shown


class Block(BaseModel):
    """A frozen mapping of options with our words for errors: the base of recipe blocks and of everything declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, protected_namespaces=())

    named: ClassVar[bool] = False
    "Whether a recipe chooses the class by a name (everything declared), rather than by the key it stands under."

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
    def options(cls) -> list[str]:
        """Option names, in the order in which they are shown and written (Keras's, where a class is Keras's)."""
        return list(cls.model_fields)

    @classmethod
    def written(cls, name: str) -> str:
        """How a recipe writes an option whose name Python keeps for itself (`from`)."""
        return cls.model_fields[name].alias or name

    @classmethod
    def field_owner(cls, name: str) -> type[Block]:
        """The class that annotates the field (inherited options are explained where they are declared)."""
        return next(c for c in cls.__mro__ if name in inspect.get_annotations(c))


def block_in(annotation: Any) -> type[Block] | None:
    """The plain block that an annotation holds, such as `Fit` or `dict[str, Feature]`."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return None if annotation.named else annotation
    return next((b for b in map(block_in, get_args(annotation)) if b is not None), None)


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


def raise_under(place: Path, error: ValidationError) -> NoReturn:
    """Raise once more the errors that were found deeper, with the place in which all of them stand."""
    raise_all([(_ours(dict(e)), (*place, *e["loc"])) for e in error.errors()])


def _ours(e: dict[str, Any]) -> PydanticCustomError:
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


def _translate(cls: type[Block], e: dict[str, Any]) -> PydanticCustomError:
    if e["type"] == "trainer":
        return _ours(e)
    name = str(e["loc"][-1]) if e["loc"] else ""
    if e["type"] == "extra_forbidden":
        names = [cls.written(n) for n in cls.model_fields]
        hint = nearest(name, names) or f"its options are: {', '.join(names)}"
        return complaint(f"{cls.__name__} has no option {shown(name)}", hint, on_key=True, code="unknown-option")
    if e["type"] == "missing":
        says = describe(cls).get(name) or describe(cls).get(f"{name}_", "")
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
