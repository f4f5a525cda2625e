"""Types of options: each says in words what it expects, and reads a recipe's value strictly.

Integers and booleans are taken as they are; a number may also be written as a fraction (`1/255`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from trainer.errors import Path


def shown(value: Any, limit: int = 60) -> str:
    """A value as the user would write it, cut to a readable length."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, BaseModel):
        text = type(value).__name__
    else:
        text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


class Rule:
    """A type of option: what is expected in words, and the function that returns the value or raises ValueError."""

    def __init__(self, expected: str, read: Callable[[Any], Any], schema: dict[str, Any]):
        self.expected, self.read, self.schema = expected, read, schema

    def _check(self, value: Any) -> Any:
        try:
            return self.read(value)
        except (ValueError, TypeError, OverflowError, ZeroDivisionError):
            raise complaint(f"expected {self.expected}, found {shown(value)}", self._unquoted(value)) from None

    def _unquoted(self, value: Any) -> str:
        """A hint for a number that was written as text."""
        if not isinstance(value, str):
            return ""
        try:
            self.read(int(value) if value.strip("-+").isdecimal() else float(value))
        except (ValueError, TypeError, OverflowError, ZeroDivisionError):
            return ""
        return f"without quotes: {value}"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return dict(self.schema)


def complaint(message: str, hint: str = "", *, on_key: bool = False, code: str = "value") -> PydanticCustomError:
    """An error of ours in the form that travels through pydantic."""
    return PydanticCustomError(
        "trainer", "{message}", {"message": message, "hint": hint, "on_key": on_key, "code": code}
    )


def raise_all(errors: list[tuple[PydanticCustomError, Path]]) -> NoReturn:
    """Raise several located errors from inside a validator; pydantic keeps them apart and prefixes their place."""
    details = [InitErrorDetails(type=e, loc=loc, input=None) for e, loc in errors]
    raise ValidationError.from_exception_data("recipe", details)


def number(value: Any) -> float:
    """A float from a number or a fraction such as `1/255`."""
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, str):
        top, slash, bottom = value.partition("/")
        if not slash:
            raise ValueError
        value = float(top) / float(bottom)
    if not math.isfinite(value):
        raise ValueError
    return float(value)


def integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _bounded(
    read: Callable[[Any], Any],
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Callable[[Any], Any]:
    def bounded(value: Any) -> Any:
        value = read(value)
        low = (least is not None and value < least) or (above is not None and value <= above)
        high = (most is not None and value > most) or (below is not None and value >= below)
        if low or high:
            raise ValueError
        return value

    return bounded


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


_FRACTION = {"type": "string", "pattern": r"^-?[0-9.]+/[0-9.]+$"}


def number_schema(**bounds: float) -> dict[str, Any]:
    """The JSON Schema of what `number` reads."""
    return {"anyOf": [{"type": "number", **bounds}, _FRACTION]}


_BOUNDS = {"least": "minimum", "most": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}


def within(expected: str, **bounds: float) -> Rule:
    """A number that is no less than `least`, no more than `most`, more than `above`, less than `below`."""
    return Rule(expected, _bounded(number, **bounds), number_schema(**{_BOUNDS[k]: v for k, v in bounds.items()}))


Int = Annotated[int, Rule("an integer", integer, {"type": "integer"})]
PositiveInt = Annotated[int, Rule("an integer above 0", _bounded(integer, least=1), {"type": "integer", "minimum": 1})]
NonNegativeInt = Annotated[
    int, Rule("an integer of 0 or more", _bounded(integer, least=0), {"type": "integer", "minimum": 0})
]
Float = Annotated[float, within("a number")]
PositiveFloat = Annotated[float, within("a number above 0", above=0)]
NonNegativeFloat = Annotated[float, within("a number of 0 or more", least=0)]
Fraction = Annotated[float, within("a number from 0 to 1", least=0, most=1)]
ProperFraction = Annotated[float, within("a number from 0 to below 1", least=0, below=1)]
PositiveFraction = Annotated[float, within("a number above 0, up to 1", above=0, most=1)]
Bool = Annotated[bool, Rule("true or false", _boolean, {"type": "boolean"})]
Str = Annotated[str, Rule("text", _string, {"type": "string"})]


def _identifier(value: Any) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", _string(value)):
        raise ValueError
    return value


Name = Annotated[
    str,
    Rule(
        "a name of letters, digits, '.', '_' or '-' (1 to 64 characters)",
        _identifier,
        {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
    ),
]


def read_axes(value: Any) -> int | tuple[int, ...]:
    """An axis, or several.

    Raises:
        TypeError, ValueError: something else than an integer or a list of at least one.
    """
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError
        return tuple(integer(v) for v in value)
    return integer(value)


_AXES = {"type": "array", "items": {"type": "integer"}, "minItems": 1}
Axes = Annotated[
    int | tuple[int, ...],
    Rule("an axis or a list of axes", read_axes, {"anyOf": [{"type": "integer"}, _AXES]}),
]


def ints(length: int | None = None, least: int = 1) -> Rule:
    """A tuple of integers: a bare integer stands for all `length` of them (Keras's `kernel_size: 3`)."""
    one = _bounded(integer, least=least)

    def read(value: Any) -> tuple[int, ...]:
        if isinstance(value, (list, tuple)):
            if length is not None and len(value) != length:
                raise ValueError
            return tuple(one(v) for v in value)
        return (one(value),) * (length or 1)

    bound = {"minimum": least}
    what = f"an integer of {least} or more, or a list of {length or 'them'}"
    return Rule(
        what, read, {"anyOf": [{"type": "integer", **bound}, {"type": "array", "items": {"type": "integer", **bound}}]}
    )
