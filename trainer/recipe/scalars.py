"""Words of YAML 1.2 and the values they stand for, both ways: `1e-3` is a number, `no` is a word."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

Scalar = str | int | float | bool | None

DIGITS = 100
"Most digits of a whole number."
WIDTH = 100
"`dump` writes what fits into so many characters on one line."

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(f"{sign}inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_ESCAPED = re.compile(r'[\x00-\x1f"\\\x7f-\xa0\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]')
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def scalar(text: str) -> Scalar:
    """The value of a word without quotes (core schema, https://yaml.org/spec/1.2.2/#103-core-schema).

    Raises:
        ValueError: a whole number of more than 100 digits.
    """
    if text in _WORDS:
        return _WORDS[text]
    based = bool(_BASED.fullmatch(text))
    if based or _INTEGER.fullmatch(text):
        if len(text) > DIGITS:
            raise ValueError(f"expected a whole number of at most {DIGITS} digits, found {len(text)} characters")
        return int(text, 0) if based else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def dump(value: Any) -> str:
    """A plain value as readable YAML that reads back to the same."""
    return "\n".join(_lines(value, 0)) + "\n"


def _lines(value: Any, depth: int) -> Iterator[str]:
    pad = "  " * depth
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(f"{pad}{flow(key)}:", inner, depth)
    elif isinstance(value, (list, tuple)) and value:
        for inner in value:
            yield from _entry(f"{pad}-", inner, depth)
    else:
        yield pad + flow(value)


def _entry(head: str, inner: Any, depth: int) -> Iterator[str]:
    short = f"{head} {flow(inner)}"
    if not isinstance(inner, (dict, list, tuple)) or not inner or (len(short) <= WIDTH and depth > 0):
        yield short
        return
    yield head
    yield from _lines(inner, depth + 1)


def flow(value: Any) -> str:
    """A plain value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(v) for v in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, (int, float)):
        return repr(value)
    return value if _BARE.fullmatch(value) and scalar(value) == value else quoted(value)


def quoted(text: str) -> str:
    """Text in double quotes; what can't be seen is escaped."""
    return '"' + _ESCAPED.sub(lambda m: _SHORT.get(m[0]) or f"\\u{ord(m[0]):04x}", text) + '"'
