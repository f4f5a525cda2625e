"""Python text: names, literals and lines of at most 120 characters. Strangers' text never becomes code here."""

from __future__ import annotations

import builtins
import json
import keyword
import math
import re
from collections.abc import Container, Iterator
from typing import Any

WIDTH = 120
_OPEN, _CLOSE = "([{", ")]}"
TAKEN = frozenset({"F", "Tensor", "nn", "np", "torch", "math", "self", "sys", "Path", "Callable", *dir(builtins)})
"Names that exported source uses for something else."


def identifier(name: str, taken: Container[str] = (), otherwise: str = "layer") -> str:
    """A Python name like `name` that is none of `taken`: letters, digits and underscores of ASCII."""
    found = re.sub(r"[^0-9A-Za-z_]+", "_", name)[:60].strip("_") or otherwise
    if found[0].isdigit():
        found = f"{otherwise}_{found}"
    free, number = found, 1
    while free in taken or free in TAKEN or keyword.iskeyword(free) or keyword.issoftkeyword(free):
        free, number = f"{found}_{number}", number + 1
    return free


def class_name(name: str, taken: Container[str] = ()) -> str:
    """`tower_of_right` as `TowerOfRight`."""
    words = re.findall(r"[0-9A-Za-z]+", name)[:8]
    return identifier("".join(w[:1].upper() + w[1:] for w in words), taken, "Part")


def plain(name: str) -> str:
    """Strangers' text as it may stand in a docstring or a comment."""
    return re.sub(r"[^0-9A-Za-z .,_+/-]+", "?", name)[:60]


def literal(value: Any) -> str:
    """A number, text, or nested tuple of them as Python writes it.

    Raises:
        TypeError: anything else.
    """
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, (tuple, list)):
        inner = ", ".join(map(literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float) and not math.isfinite(value):
        return "math.nan" if math.isnan(value) else "math.inf" if value > 0 else "-math.inf"
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    raise TypeError(f"no literal for {type(value).__name__}")


def _quoted(text: str) -> str:
    """Text in the quotes of which it holds fewer, as ruff prefers it; nothing but ASCII."""
    double = json.dumps(text)
    if text.count('"') <= text.count("'"):
        return double
    return "'" + double[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"


def one_or_all(values: tuple[int, ...]) -> str:
    """The sizes along all axes, or the one number that they are."""
    return literal(values[0] if len(set(values)) == 1 else values)


def call(name: str, *arguments: str | None, **options: str | None) -> str:
    """`name(arguments, option=…)`, without those that are None."""
    given = [a for a in arguments if a is not None]
    return f"{name}({', '.join([*given, *(f'{k}={v}' for k, v in options.items() if v is not None)])})"


def laid_out(line: str, indent: int) -> str:
    """A statement, indented, over several lines where it is too long for one: as ruff and black break lines."""
    lead = " " * indent
    if indent + len(line) <= WIDTH:
        return lead + line
    head, inner, tail = _last_bracket(line)
    if not inner:
        return lead + line
    parts = list(_split(inner))
    body = laid_out(inner, indent + 4)
    if len(inner) + indent + 4 > WIDTH and len(parts) > 1:
        body = "".join(laid_out(part, indent + 4) + ",\n" for part in parts).rstrip("\n")
    return f"{lead}{head}\n{body}\n{lead}{tail}"


def _last_bracket(line: str) -> tuple[str, str, str]:
    """The line up to the last pair of brackets that is in no other, what is in it, and the rest."""
    found, open_at, depth = (0, 0), 0, 0
    for place, sign in _signs(line):
        if sign in _OPEN:
            open_at, depth = (place if depth == 0 else open_at), depth + 1
        elif sign in _CLOSE:
            depth -= 1
            if depth == 0 and place > open_at + 1:
                found = open_at, place
    start, end = found
    return line[: start + 1], line[start + 1 : end], line[end:]


def _split(inner: str) -> Iterator[str]:
    start = depth = 0
    for place, sign in _signs(inner):
        depth += (sign in _OPEN) - (sign in _CLOSE)
        if sign == "," and depth == 0:
            yield inner[start:place].strip()
            start = place + 1
    if inner[start:].strip():
        yield inner[start:].strip()


def _signs(line: str) -> Iterator[tuple[int, str]]:
    """Places of brackets and commas that are in no text."""
    within, skip = "", False
    for place, sign in enumerate(line):
        if skip:
            skip = False
        elif within and sign == "\\":
            skip = True
        elif within or sign in "'\"":
            within = "" if sign == within else within or sign
        elif sign in "([{)]},":
            yield place, sign
