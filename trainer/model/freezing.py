"""Which layers a list of names and shell patterns means, and those layers frozen; no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from trainer.errors import Path, Problem, RecipeError, nearest
from trainer.layers.base import Layer
from trainer.wording import clean

SHOWN = 12
"Names that an error lists."


def matching(names: Sequence[str], patterns: Sequence[str], path: Path = ()) -> list[str]:
    """The names that a pattern means, in their own order: `*` stands for any text, `?` for a character, `[ab]` for one
    of these, and a name for itself. Upper and lower case differ.

    `path` is where the list of patterns stands in the recipe.

    Raises:
        RecipeError: a pattern means none of the names; every such pattern at once.
    """
    meant: set[str] = set()
    problems = []
    for index, pattern in enumerate(patterns):
        found = {name for name in names if name == pattern or fnmatchcase(name, pattern)}
        if not found:
            problems.append(Problem(f'no layer is called "{clean(pattern)}"', (*path, index), _hint(pattern, names)))
        meant |= found
    if problems:
        raise RecipeError(*problems)
    return [name for name in names if name in meant]


def _hint(pattern: str, names: Sequence[str]) -> str:
    """The nearest name to what the pattern says in letters, or some of those there are."""
    near = nearest(re.sub(r"\[.*?\]|[*?]", "", pattern), names)
    if near or not names:
        return near or "the model has no layers"
    return f"the layers are {', '.join(names[:SHOWN])}{', …' * (len(names) > SHOWN)}"


def frozen(layers: Mapping[str, Layer], patterns: Sequence[str], path: Path = ()) -> dict[str, Layer]:
    """The layers, those that a pattern means with `trainable: false`, which freezes all that they hold too.

    Raises:
        RecipeError: a pattern means none of them.
    """
    meant = {*matching(list(layers), patterns, path)}
    return {n: layer.model_copy(update={"trainable": False}) if n in meant else layer for n, layer in layers.items()}
