"""A recipe's text as plain values with positions: YAML 1.2 scalars, no duplicate keys, no tags, bounded aliases."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, TypeVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from trainer.declare import snake_case
from trainer.errors import Path, Place, Problem, RecipeError, TrainerError, nearest

MOST_BYTES, MOST_NODES, MOST_DEPTH, MOST_ALIASES = 1 << 20, 100_000, 64, 32
Raised = TypeVar("Raised", bound=TrainerError)


def scalar(text: str) -> Any:
    """A plain scalar by the core schema of YAML 1.2: `no` and dates are text, `1e-3` is a number."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text[0] in "tT"
    if re.fullmatch(r"[-+]?[0-9]{1,4000}", text):
        return int(text)
    if re.fullmatch(r"0o[0-7]{1,4000}", text):
        return int(text[2:], 8)
    if re.fullmatch(r"0x[0-9a-fA-F]{1,4000}", text):
        return int(text[2:], 16)
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", text):
        return float(text)
    if re.fullmatch(r"[-+]?\.(inf|Inf|INF)", text):
        return float("-inf" if text[0] == "-" else "inf")
    return float("nan") if text in (".nan", ".NaN", ".NAN") else text


class _Loader(yaml.SafeLoader):
    """Composes nodes only; counts them, and refuses what is too deep, too many, or refers to itself."""

    def __init__(self, text: str):
        super().__init__(text)
        self.nodes = self.depth = self.aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        self.depth += 1
        try:
            if self.check_event(yaml.AliasEvent):
                self.aliases += 1
            event: Any = self.peek_event()
            mark = event.start_mark
            tag = getattr(event, "tag", None)
            if tag is not None:
                raise yaml.MarkedYAMLError(problem=f"expected a plain value, found the tag {tag}", problem_mark=mark)
            if self.depth > MOST_DEPTH or self.nodes > MOST_NODES or self.aliases > MOST_ALIASES:
                limit = f"{MOST_DEPTH} levels, {MOST_NODES:,} values, {MOST_ALIASES} aliases"
                raise yaml.MarkedYAMLError(problem=f"the recipe is larger than is allowed ({limit})", problem_mark=mark)
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


@dataclass(frozen=True)
class Spot:
    """Where a value stands, and where its key does."""

    value: Place
    key: Place | None = None


@dataclass(frozen=True)
class Document:
    """Values with positions; only it knows lines and columns, everything else knows a path."""

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
            data = path.read_bytes()
        except OSError as error:
            folder = path.parent
            names = [p.name for p in folder.glob("*.y*ml")] if folder.is_dir() else []
            raise RecipeError(f"{path}: {error.strerror}", hint=nearest(path.name, names), code="file") from None
        if len(data) > MOST_BYTES:
            raise RecipeError(f"{path}: expected at most {MOST_BYTES:,} bytes, found {len(data):,}")
        try:
            return cls.parse(data.decode("utf-8-sig"), str(path))
        except UnicodeDecodeError as error:
            raise RecipeError(
                f"{path}: expected UTF-8, found byte 0x{data[error.start]:02x} at {error.start}"
            ) from None

    @classmethod
    def parse(cls, text: str, file: str = "<text>") -> Document:
        """The document of a text.

        Raises:
            RecipeError: with every duplicate key and tag, or the first place where the text is no YAML.
        """
        try:
            loader = _Loader(text)
            try:
                node = loader.get_single_node()
            finally:
                loader.dispose()
        except yaml.YAMLError as error:
            raise RecipeError(_syntax(error, text, file)) from None
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"{file}: {error}", code="syntax") from None
        reader = _Reader(text, file)
        value = reader.build(node, ()) if node is not None else None
        if reader.problems:
            raise RecipeError(*reader.problems)
        return cls(file, text, value, reader.spots)

    @property
    def digest(self) -> str:
        """sha256 of the text."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    def place(self, path: Path, on_key: bool = False) -> Place | None:
        """Where the value at a path (or its key) stands; for a path that does not exist, its nearest ancestor."""
        whole = path
        while path not in self.spots:
            if not path:
                return None
            path = path[:-1]
        spot = self.spots[path]
        missing = path != whole and isinstance(self._at(path), dict)
        return spot.key if (on_key or missing) and spot.key is not None else spot.value

    def _at(self, path: Path) -> Any:
        value = self.value
        for part in path:
            value = value[part]
        return value

    def locate(self, error: Raised) -> Raised:
        """The same error with places, in the order of the text."""
        found = [p if p.place else replace(p, place=self.place(p.path, p.on_key)) for p in error.problems]
        order = {id(p): n for n, p in enumerate(found)}
        found.sort(key=lambda p: (p.place.file, p.place.line, p.place.column) if p.place else ("", order[id(p)], 0))
        return type(error)(*found)

    def with_(self, path: Path, value: Any) -> Document:
        """The document with one value replaced."""
        return replace(self, value=_put(self.value, path, value))

    def with_sets(self, sets: Sequence[str]) -> Document:
        """The document with `PATH=VALUE` flags applied, in order.

        Raises:
            RecipeError: a flag that says nothing, or a path that leads nowhere; names the flag.
        """
        document = self
        for flag in sets:
            document = document._set(flag)
        return document

    def _set(self, flag: str) -> Document:
        name = f"--set {flag}"
        words, equals, text = flag.partition("=")
        if not equals or not words:
            raise RecipeError(f"{name}: expected PATH=VALUE", hint="--set fit.epochs=3")
        value = Document.parse(text, name).value
        steps = re.sub(r"\[(\d+)\]", r".\1", words.strip()).split(".")
        path, made = _follow(self.value, steps, name)
        if made and isinstance(self._at(path), dict):
            path, made = (*path, made[0]), made[1:]
        changed = _put(self.value, path, _nested(made, value))
        place = Place(name, 1, 1, flag, len(flag))
        kept = {p: s for p, s in self.spots.items() if p[: len(path)] != path or not made}
        kept[path] = Spot(place, place)
        target = (*path, *made)
        for depth in range(len(path), len(target) + 1):
            kept[target[:depth]] = Spot(place, place)
        for inner in _paths(value, target):
            kept[inner] = Spot(place, place)
        return replace(self, value=changed, spots=kept)


def _paths(value: Any, path: Path) -> Iterator[Path]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*path, key))


def _nested(steps: Path, value: Any) -> Any:
    for step in reversed(steps):
        value = {step: value}
    return value


def _put(tree: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(tree, list):
        return [_put(v, rest, value) if i == first else v for i, v in enumerate(tree)]
    return {**tree, first: _put(tree.get(first), rest, value)}


def _follow(tree: Any, steps: list[str], name: str) -> tuple[Path, Path]:
    """(path to what exists, steps to be made below it)."""
    path: Path = ()
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        if isinstance(tree, list):
            index = _index(tree, step, name)
            path, tree = (*path, index), tree[index]
            continue
        if isinstance(tree, dict) and _key(tree, step) is not None:
            key = _key(tree, step)
            path, tree = (*path, key), tree[key]
            continue
        if isinstance(tree, str) and tree[:1].isalpha() and number:
            rest = steps[number:] if snake_case(tree) == snake_case(step) else [tree, *steps[number:]]
            return path, (*([tree] if rest[0] != tree else []), *(rest[1:] if rest[0] != tree else rest))
        if isinstance(tree, dict) and len(tree) == 1 and _names_a_thing(tree, path):
            (only,) = tree
            inner = tree[only]
            if inner is None or isinstance(inner, dict):
                deeper, made = _follow(inner or {}, steps[number:], name)
                return (*path, only, *deeper), made
        if isinstance(tree, dict) and (last or number == 0 or len(path) == 1 or tree == {}):
            return path, tuple(steps[number:])
        if tree is None:
            return path, tuple(steps[number:])
        hint = nearest(step, map(str, tree)) if isinstance(tree, dict) else ""
        raise RecipeError(f'{name}: there is no "{step}" in {".".join(map(str, path)) or "the recipe"}', hint=hint)
    return path, ()


def _names_a_thing(tree: dict[Any, Any], path: Path) -> bool:
    (only,) = tree
    return isinstance(only, str) and bool(path) and (only[:1].isupper() or path[-1] in ("optimizer", "loss", "source"))


def _key(tree: dict[Any, Any], step: str) -> Any:
    if step in tree:
        return step
    return int(step) if step.isdigit() and int(step) in tree else None


def _index(items: list[Any], step: str, name: str) -> int:
    if step.isdigit():
        if int(step) < len(items):
            return int(step)
        raise RecipeError(f"{name}: expected a number from 0 to {len(items) - 1}, found {step}")
    counts: dict[str, int] = {}
    names: list[str] = []
    for item in items:
        thing = next(iter(item)) if isinstance(item, dict) and len(item) == 1 else item
        options = item[thing] if isinstance(item, dict) and len(item) == 1 else None
        base = snake_case(str(thing))
        given = options.get("name") if isinstance(options, dict) else None
        count = counts.get(base, 0)
        if given is None:
            counts[base] = count + 1
        names.append(str(given) if given is not None else f"{base}_{count}" if count else base)
    if step in names:
        return names.index(step)
    raise RecipeError(f'{name}: nothing is called "{step}" here', hint=nearest(step, names) or ", ".join(names))


class _Reader:
    """Turns nodes into values, keeping where each stands and every problem met."""

    def __init__(self, text: str, file: str):
        self.lines, self.file = re.split("\r\n|[\r\n]", text), file
        self.spots: dict[Path, Spot] = {}
        self.problems: list[Problem] = []
        self.made = 0

    def place(self, node: Node) -> Place:
        """The place of a node."""
        start, end = node.start_mark, node.end_mark
        line = self.lines[start.line] if start.line < len(self.lines) else ""
        end_column = end.column if end.line == start.line else len(line)
        width = end_column - start.column if isinstance(node, ScalarNode) else 1
        return Place(self.file, start.line + 1, start.column + 1, line, max(1, width))

    def build(self, node: Node, path: Path, key: Place | None = None) -> Any:
        """The value of a node."""
        self.made += 1
        if self.made > MOST_NODES or len(path) > MOST_DEPTH:
            raise RecipeError(Problem("the recipe's aliases expand without end", code="size", place=self.place(node)))
        if path not in self.spots:
            self.spots[path] = Spot(self.place(node), key)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        assert isinstance(node, ScalarNode)
        return node.value if node.style is not None else scalar(node.value)

    def _mapping(self, node: MappingNode, path: Path) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        first: dict[Any, int] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, ScalarNode) and key_node.style else None
            if key is None and isinstance(key_node, ScalarNode):
                key = scalar(key_node.value)
            if isinstance(key, bool) or not isinstance(key, (str, int, float)):
                self._problem("expected a name as the key", key_node, path)
                continue
            if key == "<<":
                self._problem("merge keys (<<) are not part of YAML 1.2", key_node, path, "use extends")
                continue
            if key in made:
                line = first[key]
                self._problem(f'"{key}" stands twice here; first in line {line}', key_node, (*path, key), "remove one")
                continue
            first[key] = key_node.start_mark.line + 1
            made[key] = self.build(value_node, (*path, key), self.place(key_node))
        return made

    def _problem(self, message: str, node: Node, path: Path, hint: str = "") -> None:
        self.problems.append(Problem(message, path, hint, "syntax", self.place(node)))


def _syntax(error: yaml.YAMLError, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = getattr(error, "problem", None) or str(error).split("\n")[0]
    context = getattr(error, "context", None)
    message = f"{said} ({context})" if context else str(said)
    hint = "check the indentation, a space after each colon, and closed quotes and brackets"
    if "\\t" in message or "'\t'" in message:
        hint = "indent with spaces, not tabs"
    if "document" in message and "expected a single" in str(context or message):
        hint = "one file is one recipe: remove what follows ---"
    place = None
    if mark is not None:
        lines = re.split("\r\n|[\r\n]", text)
        line = lines[mark.line] if mark.line < len(lines) else ""
        place = Place(file, mark.line + 1, mark.column + 1, line)
    return Problem(message, (), hint, "syntax", place)


def load(path: str | FilePath, sets: Sequence[str] = ()) -> Document:
    """A recipe file with what it extends, and flags applied.

    Raises:
        RecipeError: a problem of the text, of `extends`, or of a flag.
    """
    return _extended(FilePath(path), ()).with_sets(sets)


def _extended(path: FilePath, seen: tuple[FilePath, ...]) -> Document:
    document = Document.read(path)
    if not isinstance(document.value, dict) or "extends" not in document.value:
        return document
    base, place = document.value["extends"], document.place(("extends",))
    here = (*seen, path.resolve())
    if not isinstance(base, str):
        raise RecipeError(Problem("expected the name of another recipe", ("extends",), place=place))
    if (path.parent / base).resolve() in here or len(here) > 5:
        raise RecipeError(Problem("the recipes extend each other in a circle, or too deep", ("extends",), place=place))
    try:
        parent = _extended(path.parent / base, here)
    except RecipeError as error:
        if any(p.place for p in error.problems):
            raise
        raise RecipeError(*(replace(p, path=("extends",), place=place) for p in error.problems)) from None
    spots = dict(parent.spots)
    own = {k: v for k, v in document.value.items() if k != "extends"}
    value = _merged(parent.value, own, (), spots, document)
    return replace(document, value=value, spots=spots)


def _merged(base: Any, child: Any, path: Path, spots: dict[Path, Spot], document: Document) -> Any:
    if not isinstance(base, dict) or not isinstance(child, dict) or _another_thing(base, child):
        for gone in [p for p in spots if p[: len(path)] == path and path]:
            del spots[gone]
        spots.update({p: s for p, s in document.spots.items() if p[: len(path)] == path})
        return child
    if path in document.spots:
        spots[path] = document.spots[path]
    made = dict(base)
    for key, inner in child.items():
        made[key] = _merged(base.get(key), inner, (*path, key), spots, document)
    return made


def _another_thing(base: dict[Any, Any], child: dict[Any, Any]) -> bool:
    if len(base) != 1 or len(child) != 1 or set(base) == set(child):
        return False
    return any(isinstance(k, str) and k[:1].isupper() for k in (*base, *child))


def dump(value: Any) -> str:
    """A plain value as readable YAML that reads back to the same."""
    return "\n".join(_lines(value, 0)) + "\n"


def _lines(value: Any, depth: int) -> Iterator[str]:
    pad = "  " * depth
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(f"{pad}{_flow(key)}:", inner, depth)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _entry(f"{pad}-", inner, depth)
    else:
        yield pad + _flow(value)


def _entry(head: str, inner: Any, depth: int) -> Iterator[str]:
    short = f"{head} {_flow(inner)}"
    if not isinstance(inner, (dict, list)) or not inner or (len(short) <= 100 and depth > 0):
        yield short
        return
    yield head
    yield from _lines(inner, depth + 1)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(v) for v in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return ".nan" if value != value else ".inf" if value > 0 else "-.inf"
        return repr(value)
    if isinstance(value, int):
        return str(value)
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", value) and scalar(value) == value:
        return value
    return json.dumps(value)
