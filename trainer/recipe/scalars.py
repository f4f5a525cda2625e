"""What a plain word of YAML 1.2 stands for (core schema): `1e-3` is a number, `no` is a word."""

from __future__ import annotations

import re

Scalar = str | int | float | bool | None

DIGITS = 100
"Most digits of a whole number."

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + dot: float(f"{sign}inf") for sign in ("", "+", "-") for dot in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def scalar(text: str) -> Scalar:
    """The value of a word without quotes (https://yaml.org/spec/1.2.2/#103-core-schema).

    Raises:
        ValueError: a whole number of more than 100 digits.
    """
    if text in _WORDS:
        return _WORDS[text]
    based = bool(_BASED.fullmatch(text))
    if based or _INT.fullmatch(text):
        if len(text) > DIGITS:
            raise ValueError(f"expected a whole number of at most {DIGITS} digits, found {len(text)} characters")
        return int(text, 0) if based else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
