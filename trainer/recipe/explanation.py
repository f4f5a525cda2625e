"""What a name or a key of a recipe means, from its declaration."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

from trainer.block import Block, block_in, describe
from trainer.declare import REQUIRED, Declared, explained, type_words
from trainer.errors import RecipeError, nearest
from trainer.metrics.resolve import BY_SHAPE
from trainer.naming import plural
from trainer.options import article, shown
from trainer.recipe.examples import example
from trainer.recipe.json_schema import KINDS, kind_named
from trainer.recipe.schema import Recipe


@dataclass(frozen=True)
class Option:
    """One argument of a name."""

    name: str
    type: str
    default: str | None
    "As a recipe writes it; None when the argument must be given."
    text: str


@dataclass(frozen=True)
class Explanation:
    """What is known of a name."""

    name: str
    what: str
    text: str
    aliases: tuple[str, ...]
    options: tuple[Option, ...]
    example: str
    "A line to copy."
    under: tuple[str, ...] = ()
    "Paths of the blocks of a recipe that may hold the line."


def explain(word: str) -> list[Explanation]:
    """Every meaning of a name (a loss and a metric may share one) or of a key such as `fit.batch_size`.

    Raises:
        RecipeError: nothing is called so; the hint holds the nearest name.
    """
    found = [_named(kind, kind.spellings()[word]) for kind in KINDS if word in kind.spellings()]
    if word in BY_SHAPE:
        found.insert(0, _by_shape(word))
    key = _key(word.split("."))
    if key is not None:
        found.append(key)
    if not found:
        names = [n for kind in KINDS for n in kind.spellings()] + list(BY_SHAPE) + list(Recipe.model_fields)
        raise RecipeError(f"nothing is called {shown(word)}", hint=nearest(word, names) or "`trainer list layers`")
    return found


def _by_shape(word: str) -> Explanation:
    one, numbers, rows = (f"`{metric.__name__}`" for metric in BY_SHAPE[word])
    text = f"{one} for an output of one unit, {numbers} for targets that are class numbers, {rows} for one-hot rows."
    same = tuple(w for w, metrics in BY_SHAPE.items() if metrics == BY_SHAPE[word] and w != word)
    return Explanation(word, "a metric that the shapes choose", text, same, (), f"- {word}", ("compile.metrics",))


def _named(kind: type[Declared], final: type[Declared]) -> Explanation:
    short = [n for n, c in kind.spellings().items() if c is final and n != final.recipe_name() and n not in BY_SHAPE]
    meaning = article(kind.kind)
    return Explanation(final.recipe_name(), meaning, _text(final), tuple(short), options_of(final), *example(final))


def _text(cls: type[Block]) -> str:
    return inspect.cleandoc(cls.__doc__ or "")


def options_of(cls: type[Block]) -> tuple[Option, ...]:
    """The arguments of a class with types, defaults and their lines."""
    return tuple(
        Option(name, words, None if default is REQUIRED else default_text(default), text)
        for name, words, default, text in explained(cls)
    )


def default_text(value: Any) -> str:
    """A default as a recipe would write it."""
    if isinstance(value, Declared):
        spec = value.spec()
        return spec if isinstance(spec, str) else str(spec) if not isinstance(spec, dict) else next(iter(spec))
    if isinstance(value, Block):
        return "{}"
    if isinstance(value, tuple):
        return str(list(value))
    return shown(value)


def _key(parts: list[str]) -> Explanation | None:
    cls: type[Block] = Recipe
    for depth, part in enumerate(parts):
        field = cls.model_fields.get(part)
        if field is None:
            return None
        inner = block_in(field.annotation)
        if depth == len(parts) - 1:
            text = describe(cls)[part]
            words = type_words(field.annotation, field.metadata)
            options = options_of(inner) if inner is not None else ()
            default = "" if field.is_required() else f", by default {default_text(field.get_default())}"
            kind = f"a key of a recipe: {words}{default}"
            return Explanation(".".join(parts), kind, text, (), options, "")
        if inner is None:
            return None
        cls = inner
    return None


def listed(word: str) -> list[tuple[str, str]]:
    """(name, one-line meaning) of everything of a kind.

    Raises:
        RecipeError: no such kind.
    """
    kind = kind_named(word)
    if kind is None:
        words = [plural(k.kind) for k in KINDS]
        raise RecipeError(f"there is no kind {shown(word)}", hint=nearest(word, words) or f"kinds: {', '.join(words)}")
    kind.spellings()
    finals = sorted((c for c in kind.catalogue.values()), key=lambda c: c.__name__.lower())
    return [(c.recipe_name(), _PAGE.sub("", _text(c).split("\n")[0])) for c in finals]


_PAGE = re.compile(r", https?://[^\s)]+| \(https?://[^\s)]+\)")
