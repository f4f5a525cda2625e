"""Vocabularies: as options, from a file beside the recipe, and counted in training rows as Keras counts them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Annotated, Any

from trainer.errors import DataError, RecipeError, nearest
from trainer.options import Rule, integer, number, number_schema

MOST_BYTES = 64 << 20
"A larger vocabulary file is a slip."

_FILE_OR = {"type": "string"}


def _texts(value: Any) -> Any:
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(v, str) for v in value):
        raise TypeError
    return tuple(value)


def _integers(value: Any) -> Any:
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, (list, tuple)) or not value:
        raise TypeError
    return tuple(integer(v) for v in value)


def _weights(value: Any) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise TypeError
    return tuple(number(v) for v in value)


def _above_one(value: Any) -> int:
    if integer(value) < 2:
        raise ValueError
    return value


def _salt(value: Any) -> tuple[int, int]:
    if isinstance(value, (list, tuple)):
        first, second = (integer(v) for v in value)
    else:
        first = second = integer(value)
    if not all(0 <= v < 2**64 for v in (first, second)):
        raise ValueError
    return first, second


def _widths(value: Any) -> Any:
    found = tuple(integer(v) for v in value) if isinstance(value, (list, tuple)) else integer(value)
    if not found or min(found if isinstance(found, tuple) else (found,)) < 1:
        raise ValueError
    return found


_LIST = {"type": "array", "minItems": 1}
_COUNT = {"type": "integer", "minimum": 1}
Texts = Annotated[
    tuple[str, ...] | str,
    Rule(
        "a list of texts, or the name of a file beside the recipe",
        _texts,
        {"anyOf": [_FILE_OR, {**_LIST, "items": {"type": "string"}}]},
    ),
]
Integers = Annotated[
    tuple[int, ...] | str,
    Rule(
        "a list of integers, or the name of a file beside the recipe",
        _integers,
        {"anyOf": [_FILE_OR, {**_LIST, "items": {"type": "integer"}}]},
    ),
]
IdfWeights = Annotated[tuple[float, ...], Rule("a list of numbers", _weights, {**_LIST, "items": number_schema()})]
MaxTokens = Annotated[int, Rule("an integer above 1", _above_one, {"type": "integer", "minimum": 2})]
Salt = Annotated[
    tuple[int, int],
    Rule(
        "an integer of 0 or more, or a list of two",
        _salt,
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "array", "minItems": 2, "maxItems": 2}]},
    ),
]
Widths = Annotated[
    int | tuple[int, ...],
    Rule("an integer above 0, or a list of them", _widths, {"anyOf": [_COUNT, {**_LIST, "items": _COUNT}]}),
]


def problem_of(tokens: tuple[Any, ...], mask_token: Any, oov_token: Any) -> str:
    """What is wrong with a vocabulary without its special tokens at the front; empty when nothing is."""
    twice = [token for token, times in Counter(tokens).items() if times > 1]
    if twice:
        return f"the vocabulary holds {_shown(twice[0])} more than once"
    if not tokens:
        return "the vocabulary holds nothing but special tokens"
    for name, token in (("mask_token", mask_token), ("oov_token", oov_token)):
        if token is not None and token in tokens:
            return (
                f"the vocabulary holds the {name} {_shown(token)} at position {tokens.index(token)}; "
                "it stands at the front, in its place, or not at all"
            )
    return ""


def _shown(token: Any) -> str:
    return f'"{token}"' if isinstance(token, str) else str(token)


def read_file(path: Path, encoding: str) -> tuple[str, ...]:
    """The tokens of a file, one a line.

    Raises:
        RecipeError: it can't be read, or is no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        near = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise RecipeError(f"{path}: {error.strerror}", hint=near, code="file") from None
    if len(data) > MOST_BYTES:
        raise RecipeError(f"{path}: expected a vocabulary of at most {MOST_BYTES >> 20} MiB", code="size")
    try:
        lines = data.decode(encoding).split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}: the line holds bytes that are not {encoding}", code="encoding") from None
    lines = [line.removesuffix("\r") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return tuple(lines)


class Tally:
    """Tokens counted over rows: how often each occurs and, for tf_idf, in how many rows."""

    def __init__(self, documents: bool):
        self.tokens: Counter[Any] = Counter()
        self.found_in: Counter[Any] = Counter()
        self.rows, self.documents = 0, documents

    def add(self, rows: Iterable[Iterable[Hashable]]) -> None:
        """Count the tokens of some rows."""
        for row in rows:
            self.rows += 1
            here = list(row)
            self.tokens.update(here)
            if self.documents:
                self.found_in.update(set(here))

    def most_frequent(self, special: Iterable[Any], most: int | None) -> list[Any]:
        """Tokens by falling frequency, those of equal frequency from the last in their order on (Keras's rule).

        Raises:
            DataError: there are none.
        """
        left = {token: times for token, times in self.tokens.items() if token not in set(special)}
        if not left:
            raise DataError("the training rows hold nothing to make a vocabulary of")
        return sorted(left, key=lambda token: (left[token], token), reverse=True)[:most]

    def idf(self, tokens: Iterable[Any]) -> list[float]:
        """log(1 + rows / (1 + rows with the token)) for each."""
        return [math.log(1 + self.rows / (1 + self.found_in[token])) for token in tokens]
