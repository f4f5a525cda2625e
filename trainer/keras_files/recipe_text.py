"""A recipe of an imported model as text: comments first, a line for each layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trainer.recipe.scalars import flow

WIDTH = 118
OPEN = {"dataset", "model", "layers"}
"Keys whose values always stand below them."


def recipe_text(recipe: dict[str, Any], header: Sequence[str]) -> str:
    """The text of a recipe, which reads back to the same."""
    comments = [f"# {_line(text)}".rstrip() for text in header]
    return "\n".join([*comments, *_mapping(recipe, 0)]) + "\n"


def _line(text: str) -> str:
    """Text in a comment, which must not leave its line."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _mapping(value: dict[str, Any], depth: int) -> Iterator[str]:
    for key, inner in value.items():
        yield from _entry("  " * depth + f"{flow(key)}:", inner, depth, key in OPEN)


def _entry(head: str, inner: Any, depth: int, is_open: bool = False) -> Iterator[str]:
    short = f"{head} {flow(inner)}"
    if not isinstance(inner, (dict, list)) or not inner or (not is_open and len(short) <= WIDTH):
        yield short
        return
    yield head
    yield from _mapping(inner, depth + 1) if isinstance(inner, dict) else _list(inner, depth + 1)


def _list(items: list[Any], depth: int) -> Iterator[str]:
    pad = "  " * depth
    for item in items:
        if isinstance(item, dict) and len(item) == 1:
            ((key, inner),) = item.items()
            yield from _entry(f"{pad}- {flow(key)}:", inner, depth + 1)
        else:
            yield f"{pad}- {flow(item)}"
