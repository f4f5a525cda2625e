"""A recipe as plain values with positions: read from a file, with what it extends and the flags applied.

Only the Document knows lines and columns; everything else knows a path, and `locate` gives its problems their places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, TypeVar

from trainer.errors import Path, Place, Problem, RecipeError, TrainerError, nearest
from trainer.naming import snake_case
from trainer.recipe.nodes import BLOCKS, Moved, Use
from trainer.recipe.overrides import at, put, with_flag
from trainer.recipe.scalars import dump
from trainer.recipe.tree import Spot, Text, Tree, read_tree
from trainer.recipe.uses import expanded

__all__ = ["Document", "Spot", "dump", "load"]

MOST_BYTES = 1 << 20
MOST_PARENTS = 5
MOST_SHOWN = 100
"So many problems of one recipe are shown."
Raised = TypeVar("Raised", bound=TrainerError)


@dataclass(frozen=True)
class Document:
    """Values with positions."""

    file: str
    text: str
    value: Any
    spots: dict[Path, Spot] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: str | FilePath) -> Document:
        """The document in a file.

        Raises:
            RecipeError: the file is missing, too large, not UTF-8, or not YAML as recipes write it.
        """
        path = FilePath(path)
        try:
            with path.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or error
            raise RecipeError(f"{path}: {said}", hint=_like(path), code="file") from None
        if len(data) > MOST_BYTES:
            raise RecipeError(f"{path}: expected a recipe of at most {MOST_BYTES:,} bytes, found more", code="size")
        try:
            return cls.parse(data.decode("utf-8"), str(path))
        except UnicodeDecodeError as error:
            before = data[: error.start].decode("utf-8").split("\n")
            place = Place(str(path), len(before), len(before[-1]) + 1)
            message = f"expected UTF-8, found byte 0x{data[error.start]:02x}"
            raise RecipeError(Problem(message, (), "save the file as UTF-8", "encoding", place)) from None

    @classmethod
    def parse(cls, text: str, file: str = "<text>") -> Document:
        """The document of a text.

        Raises:
            RecipeError: with every duplicate key and tag, and the first place where the text is no YAML.
        """
        if len(text) > MOST_BYTES:
            raise RecipeError(
                f"{file}: expected a recipe of at most {MOST_BYTES:,} characters, found more", code="size"
            )
        text = text.removeprefix("\ufeff")
        tree = read_tree(Text(text, file))
        return cls(file, text, tree.value, tree.spots)

    def place(self, path: Path, on_key: bool = False) -> Place | None:
        """Where the value at a path (or its key) stands; for a path that does not exist, its nearest ancestor."""
        whole = path = self._spelled(path)
        while path not in self.spots:
            if not path:
                return None
            path = path[:-1]
        spot = self.spots[path]
        missing = path != whole and isinstance(at(self.value, path), dict)
        return spot.key if (on_key or missing) and spot.key is not None else spot.value

    def _spelled(self, path: Path) -> Path:
        """The path with the names of things in lists as the text has them, which may be aliases."""
        found: list[str | int] = []
        for step in path:
            thing = at(self.value, tuple(found)) if found and isinstance(found[-1], int) else None
            alone = isinstance(thing, dict) and len(thing) == 1 and isinstance(step, str)
            found.append(next(iter(thing)) if alone and isinstance(thing, dict) else step)
        return tuple(found)

    def locate(self, error: Raised) -> Raised:
        """The same error with places, in the order of the text."""
        seen: dict[Problem, list[Use]] = {}
        for problem in error.problems:
            placed, use = (problem, None) if problem.place else self._placed(problem)
            seen.setdefault(placed, []).extend([use] if use is not None else [])
        found = [_noted(problem, uses) for problem, uses in seen.items()]
        order = {id(p): n for n, p in enumerate(found)}
        found.sort(key=lambda p: (p.place.file, p.place.line, p.place.column) if p.place else ("", order[id(p)], 0))
        if len(found) > MOST_SHOWN:
            found[MOST_SHOWN:] = [Problem(f"and {len(found) - MOST_SHOWN} more problems", code="more")]
        return type(error)(*found)

    def _placed(self, problem: Problem) -> tuple[Problem, Use | None]:
        """A problem where the text has it, and the use of a block that brought it there when it stands in the block."""
        if problem.path[-1:] == ("[key]",):  # pydantic's way to say that the key, not its value, is wrong
            problem = replace(problem, path=problem.path[:-1], on_key=True)
        path = problem.path
        placed = replace(problem, place=self.place(path, problem.on_key))
        known = next((n for n in range(len(path), 0, -1) if path[:n] in self.spots), 0)
        spot = self.spots.get(path[:known])
        if not isinstance(spot, Moved):
            return placed, None
        return replace(placed, path=(*spot.source, *path[known:])), spot.use if spot.source[:2] == BLOCKS else None

    def with_(self, path: Path, value: Any) -> Document:
        """The document with one value replaced."""
        return replace(self, value=put(self.value, path, value))

    def expanded(self) -> Document:
        """The document with uses of blocks replaced by their layers.

        Raises:
            RecipeError: a block, or a use of one, is faulty.
        """
        try:
            tree = expanded(Tree(self.value, self.spots))
        except RecipeError as error:
            raise self.locate(error) from None
        return replace(self, value=tree.value, spots=tree.spots)

    def with_sets(self, sets: Sequence[str]) -> Document:
        """The document with `PATH=VALUE` flags applied, in order.

        Raises:
            RecipeError: a flag that says nothing, or a path that leads nowhere; names the flag.
        """
        tree = Tree(self.value, self.spots)
        for flag in sets:
            tree = with_flag(tree, flag)
        return replace(self, value=tree.value, spots=tree.spots)


def load(path: str | FilePath, sets: Sequence[str] = ()) -> Document:
    """A recipe file with what it extends, and flags applied.

    Raises:
        RecipeError: a problem of the text, of `extends`, or of a flag.
    """
    return _extended(FilePath(path), ()).with_sets(sets)


def _noted(problem: Problem, uses: Sequence[Use]) -> Problem:
    """A problem of a block, with the use in which it was found."""
    if not uses or problem.place is None:
        return problem
    first = uses[0]
    here = first.place.file == problem.place.file
    where = f"line {first.place.line}" if here else str(first.place)
    more = f", and {len(uses) - 1} more" if len(uses) > 1 else ""
    return replace(problem, message=f"{problem.message} (in {first.name}, {where}{more})")


def _like(path: FilePath) -> str:
    """The nearest recipe beside a file that is not there."""
    try:
        return nearest(path.name, [p.name for p in path.parent.glob("*.y*ml")])
    except (OSError, ValueError):
        return ""


def _extended(path: FilePath, seen: tuple[FilePath, ...]) -> Document:
    document = Document.read(path)
    if not isinstance(document.value, dict) or "extends" not in document.value:
        return document
    base = document.value["extends"]
    if not isinstance(base, str):
        raise document.locate(RecipeError("expected the file name of another recipe", path=("extends",)))
    try:
        parent = _extended(_parent(path, base, seen), (*seen, path))
    except RecipeError as error:
        if any(p.place for p in error.problems):
            raise
        raise document.locate(RecipeError(*(replace(p, path=("extends",)) for p in error.problems))) from None
    own = Tree({k: v for k, v in document.value.items() if k != "extends"}, document.spots)
    if not isinstance(parent.value, dict):
        raise document.locate(RecipeError(f"expected a recipe to extend, {base} holds no mapping", path=("extends",)))
    merged = merge(Tree(parent.value, parent.spots), own)
    return replace(document, value=merged.value, spots=merged.spots)


def _parent(path: FilePath, base: str, seen: tuple[FilePath, ...]) -> FilePath:
    found = path.parent / base
    chain = [*seen, path]
    try:
        circle = any(found.samefile(p) for p in chain)
        regular = found.is_file() or not found.exists()
    except (OSError, ValueError):
        circle, regular = False, True  # reading it says what is wrong
    if circle:
        raise RecipeError(f"the recipes extend each other in a circle: {' > '.join(p.name for p in [*chain, found])}")
    if len(chain) > MOST_PARENTS:
        raise RecipeError(f"expected at most {MOST_PARENTS} recipes that extend each other, found more")
    if not regular:
        raise RecipeError(f"{found}: expected a file")
    return found


def merge(base: Tree, own: Tree) -> Tree:
    """What `own` says over what `base` says.

    Mappings are merged entry by entry, lists and single values replaced. A thing (source, optimizer, loss, or one among
    their options) of another name replaces the thing that stood there, options and all.
    """
    spots = dict(base.spots)
    return Tree(_merged(base.value, own, (), spots), spots)


def _merged(base: Any, own: Tree, path: Path, spots: dict[Path, Spot]) -> Any:
    value = own.value
    if isinstance(base, dict) and isinstance(value, dict) and _is_thing(path, base, value):
        base = _renamed(base, value, path, spots)
    if not isinstance(base, dict) or not isinstance(value, dict):
        for gone in [p for p in spots if p[: len(path)] == path]:
            del spots[gone]
        spots.update({p: s for p, s in own.spots.items() if p[: len(path)] == path})
        return value
    spots[path] = own.spots[path]
    made = dict(base)
    for key, inner in value.items():
        made[key] = _merged(base.get(key), Tree(inner, own.spots), (*path, key), spots)
    return made


def _is_thing(path: Path, base: dict[Any, Any], value: dict[Any, Any]) -> bool:
    """Whether a named thing stands at a path: source, optimizer, loss, and every second level below."""
    named = path[:2] in (("dataset", "source"), ("compile", "optimizer"), ("compile", "loss"))
    # The default of a block's parameter may be a thing too, such as an initializer.
    default = path[:2] == BLOCKS and path[3:4] == ("parameters",) and len(path) % 2 == 1 and len(path) > 4
    return (default or (named and len(path) % 2 == 0)) and len(base) == len(value) == 1


def _renamed(base: dict[Any, Any], value: dict[Any, Any], path: Path, spots: dict[Path, Spot]) -> Any:
    """The base's thing under the name that the child writes it with; None when it is another thing."""
    (old,), (new,) = base, value
    if snake_case(str(old)) != snake_case(str(new)):
        return None
    deep = len(path) + 1
    for moved in [p for p in spots if p[:deep] == (*path, old) and old != new]:
        spots[(*path, new, *moved[deep:])] = spots.pop(moved)
    return {new: base[old]}
