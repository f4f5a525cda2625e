"""Values of a recipe changed from outside: `--set model.layers.dense_1.units=8`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from trainer.errors import Path, Place, RecipeError, nearest
from trainer.layers.lines import written_names
from trainer.naming import snake_case
from trainer.recipe.nodes import BLOCKS
from trainer.recipe.tree import Spot, Text, Tree, read_tree

_STEP = re.compile(r'\[(?P<index>[0-9]{1,9})\]|(?:^|\.)(?:"(?P<quoted>[^"]*)"|(?P<word>[^.\[\]"]+))')
_INDEX = re.compile(r"[0-9]{1,9}")
FLAG = "--set "
NAMED = ("optimizer", "loss", "source")
"Keys whose value is a named thing even when its name is written small."


class Flag(Place):
    """A place in a flag: the flag itself says where, a line and column would not."""

    def __str__(self) -> str:
        return self.file if len(self.file) <= 100 else self.file[:99] + "…"


@dataclass(frozen=True)
class Step:
    """A word of the flag's path and where it stands."""

    word: str
    place: Place


def with_flag(tree: Tree, flag: str) -> Tree:
    """The tree with one `PATH=VALUE` applied.

    Raises:
        RecipeError: a flag that says nothing, is no YAML, or whose path leads nowhere; names the flag.
    """
    # An argument that is not UTF-8 reaches Python as halves of surrogate pairs, which nothing could print.
    flag = flag.encode("utf-8", "backslashreplace").decode()
    name = FLAG + flag
    text = Text(name, name, name.find("=") + 1, Flag)
    steps = _steps(flag.partition("=")[0], text) if "=" in flag else []
    if not steps:
        raise RecipeError(f"{name[:100]}: expected PATH=VALUE", hint="--set fit.epochs=3")
    given = read_tree(text)
    path = _followed(tree.value, steps, name)
    spots = {p: s for p, s in tree.spots.items() if p[: len(path)] != path}
    for length in range(len(path)):
        spots.setdefault(path[:length], Spot(given.spots[()].value, steps[0].place))
    spots |= {(*path, *p): Spot(s.value, s.key or steps[-1].place) for p, s in given.spots.items()}
    return Tree(put(tree.value, path, given.value), spots)


def put(tree: Any, path: Path, value: Any) -> Any:
    """The tree with one value replaced, or added with the mappings that lead to it."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(tree, list):
        return [put(v, rest, value) if i == first else v for i, v in enumerate(tree)]
    known = tree if isinstance(tree, dict) else {}
    return {**known, first: put(known.get(first), rest, value)}


def _steps(words: str, text: Text) -> list[Step]:
    lead = len(FLAG)
    steps, end = [], 0
    while found := _STEP.match(words, end):
        end = found.end()
        part = next(k for k, v in found.groupdict().items() if v is not None)
        steps.append(Step(found[part], text.place(lead + found.start(part), lead + found.end(part))))
    return steps if end == len(words) and not words.startswith(".") else []


def _followed(tree: Any, steps: list[Step], name: str) -> Path:
    """The path in the recipe that the words of a flag mean; what it lacks is to be made."""
    path: Path = ()
    while steps:
        step = steps[0].word
        if isinstance(tree, list):
            found: Path = _parameter(tree, step) if path[:2] == BLOCKS and path[-1:] == ("parameters",) else ()
            found, taken = found or (_item(tree, step, f"{name}: {_where(path)}"),), 1
        elif isinstance(tree, dict):
            found, taken = _entry(tree, [s.word for s in steps], path)
        elif isinstance(tree, str) and path and tree[:1].isalpha():
            # A bare name gets options: `Flatten` becomes `{Flatten: {…}}`.
            found, taken = (tree,), int(snake_case(tree) == snake_case(step))
        elif tree is None:
            found, taken = (step,), 1
        else:
            raise RecipeError(f'{name}: there is no "{step}" in {_where(path)}, which is a plain value')
        path, steps = (*path, *found), steps[taken:]
        tree = at(tree, found)
    return path


def at(tree: Any, path: Path) -> Any:
    """The value at a path; None where there is none."""
    for part in path:
        if isinstance(tree, list):
            tree = tree[part] if isinstance(part, int) and part < len(tree) else None
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _where(path: Path) -> str:
    return ".".join(map(str, path)) or "the recipe"


def _entry(tree: dict[Any, Any], words: list[str], path: Path) -> tuple[Path, int]:
    """(path into a mapping, number of words used up); the name of a thing that stands alone may be left out."""
    for taken in range(1, len(words) + 1):
        word = ".".join(words[:taken])
        if word in tree:
            return (word,), taken
        if _INDEX.fullmatch(word) and int(word) in tree:
            return (int(word),), taken
    step = words[0]
    only = next(iter(tree)) if len(tree) == 1 else None
    if isinstance(only, str) and path and (only[:1].isupper() or path[-1] in NAMED or path[-2:-1] == ("layers",)):
        return (only,), int(snake_case(only) == snake_case(step))
    numbered = tree and all(isinstance(k, int) for k in tree)
    return (int(step) if numbered and _INDEX.fullmatch(step) else step,), 1


def _parameter(items: list[Any], step: str) -> Path:
    """The path to the value of a block's parameter in the list of them; empty when there is none of that name."""
    for index, item in enumerate(items):
        if step == item or (isinstance(item, dict) and step in item):
            return index, step
    return ()


def _item(items: list[Any], step: str, where: str) -> int:
    """The index of a list item, by number or by name as Keras would call it (`dense`, `dense_1`)."""
    if _INDEX.fullmatch(step):
        if int(step) < len(items):
            return int(step)
        has = f"a number from 0 to {len(items) - 1}" if items else "no number, for the list is empty"
        raise RecipeError(f"{where}: expected {has}, found {step}")
    names = list(written_names(items))
    if step in names:
        return names.index(step)
    raise RecipeError(f'{where}: nothing is called "{step}" here', hint=nearest(step, names) or ", ".join(names[:20]))
