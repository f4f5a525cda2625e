"""A recipe's text as a tree of values that know where they stand.

PyYAML scans and parses; from its events the tree is made here, so that no YAML constructor exists at all, aliases, depth
and size are bounded before memory is taken, and every mistake is reported with its place, all at once.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from trainer.errors import Place, Problem, RecipeError
from trainer.recipe.scalars import Scalar, scalar
from trainer.recipe.syntax import explain

Key = str | int | float

BYTES = 2**20
DEPTH = 64
NODES = 100_000
ALIASES = 32
ALIASED_NODES = 10_000
PROBLEMS = 50
LINE_SHOWN = 400
"A longer line is shown up to here, and not at all when the mistake stands beyond."


@dataclass(frozen=True)
class Node:
    """A value and its place; `size` and `height` count the values in it and their nesting."""

    content: Scalar | Mapping[Key, Entry] | tuple[Node, ...]
    place: Place
    size: int = 1
    height: int = 1

    @classmethod
    def of(cls, content: Mapping[Key, Entry] | tuple[Node, ...], place: Place) -> Node:
        """A collection, measured."""
        inner = content if isinstance(content, tuple) else [e.node for e in content.values()]
        return cls(content, place, 1 + sum(n.size for n in inner), 1 + max((n.height for n in inner), default=0))

    @property
    def entries(self) -> Mapping[Key, Entry]:
        """The entries of a mapping; none for anything else."""
        return self.content if isinstance(self.content, Mapping) else {}

    @property
    def items(self) -> tuple[Node, ...]:
        """The items of a list; none for anything else."""
        return self.content if isinstance(self.content, tuple) else ()

    @property
    def only(self) -> tuple[Key, Entry] | None:
        """Key and entry of a mapping that has one only."""
        return next(iter(self.entries.items())) if len(self.entries) == 1 else None

    def plain(self) -> Any:
        """The value as dict, list or scalar; a new one at each call."""
        if isinstance(self.content, Mapping):
            return {k: e.node.plain() for k, e in self.content.items()}
        if isinstance(self.content, tuple):
            return [n.plain() for n in self.content]
        return self.content

    def with_entry(self, key: Key, entry: Entry) -> Node:
        """The same mapping with one entry set."""
        return Node.of({**self.entries, key: entry}, self.place)

    def with_item(self, index: int, node: Node) -> Node:
        """The same list with one item replaced."""
        return Node.of((*self.items[:index], node, *self.items[index + 1 :]), self.place)


@dataclass(frozen=True)
class Entry:
    """A value of a mapping, and where its key stands."""

    key: Place
    node: Node


class Source:
    """A text with a name, of which the part from `start` on is YAML."""

    def __init__(self, text: str, file: str, start: int = 0, kind: type[Place] = Place):
        self.text, self.file, self.start, self.kind = text, file, start, kind
        self.breaks = [0, *(m.end() for m in re.finditer(r"\r\n|\r|\n", text))]

    def place(self, start: int, end: int) -> Place:
        """The place of characters `start` to `end` of the whole text, as far as they stand on one line."""
        if start >= len(self.text):
            start = len(self.text.rstrip())
            end = start + 1
        number = bisect.bisect_right(self.breaks, start)
        first = self.breaks[number - 1]
        stop = self.breaks[number] if number < len(self.breaks) else len(self.text)
        line = self.text[first : min(stop, first + LINE_SHOWN)].rstrip("\r\n")
        width = max(1, len(self.text[start : min(end, stop)].rstrip()))
        shown = line if start - first + width <= LINE_SHOWN else ""
        return self.kind(self.file, number, start - first + 1, shown, width)


class _Events(Reader, Scanner, Parser):
    """PyYAML as far as its events: nothing here makes a node or a Python object."""

    def __init__(self, text: str):
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)

    def __iter__(self) -> Iterator[Any]:
        while self.check_event():
            yield self.get_event()


def read_tree(source: Source) -> Node:
    """The tree of a text.

    Raises:
        RecipeError: with every mistake that could be found, each at its place.
    """
    return _Composer(source).root()


@dataclass
class _Composer:
    source: Source
    problems: list[Problem] = field(default_factory=list)
    anchors: dict[str, Node | None] = field(default_factory=dict)
    "None while the anchored value is still being read."
    nodes: int = 0
    aliases: int = 0
    aliased: int = 0

    def root(self) -> Node:
        events = None
        node = Node(None, self.source.place(self.source.start, self.source.start + 1))
        try:
            events = _Events(self.source.text[self.source.start :])
            node = self._document(iter(events), node)
        except yaml.YAMLError as error:
            self.problems.append(explain(error, self.source))
        except (ValueError, OverflowError, LookupError, AttributeError) as error:
            # PyYAML leaks these on odd escapes, directives and ends of text.
            at = self.source.start + (events.index if events else 0)
            message = f"expected YAML, found something that can't be read ({error})"
            self.problems.append(Problem(message, code="yaml", place=self.source.place(at, at + 1)))
        if self.problems:
            raise RecipeError(*sorted(self.problems, key=lambda p: (p.place.line, p.place.column) if p.place else (0, 0)))
        return node

    def _document(self, events: Iterator[Any], node: Node) -> Node:
        seen = False
        for event in events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            if seen:
                message, hint = "expected one document, found the start of a second one", "a recipe is one file"
                self._report(message, hint, "document", self._place(event))
                break
            seen = True
            node = self._node(next(events), events, (), 1)
        return node

    def _node(self, event: Any, events: Iterator[Any], path: tuple[Any, ...], depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, depth)
        self.nodes += 1
        if self.nodes > NODES:
            self._stop(f"expected at most {NODES:,} values in a recipe, found more", event)
        if depth > DEPTH:
            self._stop(f"expected at most {DEPTH} levels of nesting, found more", event)
        if event.tag is not None:
            self._tag(event, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, events, path, depth)
        else:
            node = self._mapping(event, events, path, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _scalar(self, event: Any, path: tuple[Any, ...]) -> Node:
        # A block text is marked by its | or >.
        place = self._place(event, event.start_mark.index + 1 if event.style in ("|", ">") else None)
        if re.search("[\ud800-\udfff]", event.value):
            message = "expected whole characters, found half of one (a surrogate escape)"
            self._report(message, r"write it as it is, or as one \UXXXXXXXX escape", "text", place, path)
            return Node("", place)
        if event.style is not None:
            return Node(event.value, place)
        try:
            return Node(scalar(event.value), place)
        except ValueError as error:
            self._report(str(error), "in quotes it is text", "number", place, path)
            return Node(0, place)

    def _sequence(self, start: Any, events: Iterator[Any], path: tuple[Any, ...], depth: int) -> Node:
        items: list[Node] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                place = self._place(start, event.end_mark.index if start.flow_style else start.start_mark.index + 1)
                return Node.of(tuple(items), place)
            node = self._node(event, events, (*path, len(items)), depth + 1)
            if _empty(event):
                at = self.source.start + event.start_mark.index
                node = replace(node, place=self.source.place(at - 1, at))
            items.append(node)
        raise LookupError("a list without an end")

    def _mapping(self, start: Any, events: Iterator[Any], path: tuple[Any, ...], depth: int) -> Node:
        entries: dict[Key, Entry] = {}
        first: Place | None = None
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                place = self._place(start, event.end_mark.index)
                return Node.of(entries, first if first and not start.flow_style else place)
            name = self._node(event, events, path, depth + 1)
            first = first or name.place
            key = self._key(event, name, entries, path)
            value_event = next(events)
            node = self._node(value_event, events, (*path, key), depth + 1)
            if _empty(value_event):
                self._glued(start, event, name)
                node = replace(node, place=name.place)
            entries.setdefault(key, Entry(name.place, node))
        raise LookupError("a mapping without an end")

    def _key(self, event: Any, name: Node, entries: Mapping[Key, Entry], path: tuple[Any, ...]) -> Key:
        """The key itself; a stand-in after a mistake, so that reading goes on."""
        key, found, hint = name.content, "", "in quotes it is text"
        if key == "<<" and getattr(event, "style", "") is None:
            found, hint = "the merge key <<", "write the options out, or use extends: for a recipe that differs little"
        elif isinstance(key, (Mapping, tuple)):
            found, hint = f"a {'list' if isinstance(key, tuple) else 'mapping'}", "a name in { } or [ ] needs quotes"
        elif key is None or isinstance(key, bool) or key != key:
            found = {None: "null", True: "true", False: "false"}.get(key, "not-a-number")
        if found:
            self._report(f"expected a name or a number as a key, found {found}", hint, "key", name.place, path, on_key=True)
            return f"?{len(entries)}"
        assert isinstance(key, (str, int, float))
        if key in entries:
            hint = "keep one of the two"
            message = f"expected each key once, found {key} again (first on line {entries[key].key.line})"
            self._report(message, hint, "duplicate-key", name.place, (*path, key), on_key=True)
        return key

    def _glued(self, start: Any, event: Any, name: Node) -> None:
        """`{units:64}` is one word to YAML; nobody means that."""
        if start.flow_style and isinstance(name.content, str) and getattr(event, "style", "") is None:
            before, colon, after = name.content.partition(":")
            if colon and after:
                message = f"expected a space after the colon, found {name.content}"
                self._report(message, f"{before}: {after}", "yaml", name.place)

    def _alias(self, event: Any, path: tuple[Any, ...], depth: int) -> Node:
        self.aliases += 1
        name, place = event.anchor, self._place(event)
        node = self.anchors.get(name)
        if node is None:
            inside = name in self.anchors
            message = f"found *{name} inside its own &{name}" if inside else f"found *{name}, but no &{name} above it"
            hint = "" if inside else f'in quotes it is text: "*{name}"'
            self._report(f"expected a value, {message}", hint, "alias", place, path)
            return Node(None, place)
        self.aliased += node.size
        if self.aliases > ALIASES:
            self._stop(f"expected at most {ALIASES} aliases (*name), found more", event)
        if self.aliased > ALIASED_NODES:
            self._stop(f"expected aliases to stand for at most {ALIASED_NODES:,} values, found more", event)
        if depth + node.height - 1 > DEPTH:
            self._stop(f"expected at most {DEPTH} levels of nesting, found more", event)
        return node

    def _tag(self, event: Any, path: tuple[Any, ...]) -> None:
        start, end = (self.source.start + m.index for m in (event.start_mark, event.end_mark))
        found = re.compile(r"!\S*").search(self.source.text, start, max(end, start + 200))
        if found:
            start, end = found.span()
        tag = self.source.text[start:end]
        hint = f'remove it; in quotes it is text: "{tag}"'
        self._report(f"expected a value without a tag, found {tag}", hint, "tag", self.source.place(start, end), path)

    def _place(self, event: Any, end: int | None = None) -> Place:
        stop = event.end_mark.index if end is None else end
        return self.source.place(self.source.start + event.start_mark.index, self.source.start + stop)

    def _report(
        self, message: str, hint: str, code: str, place: Place, path: tuple[Any, ...] = (), on_key: bool = False
    ) -> None:
        self.problems.append(Problem(message, path, hint, code, place, on_key))
        if len(self.problems) >= PROBLEMS:
            raise RecipeError(*self.problems)

    def _stop(self, message: str, event: Any) -> None:
        raise RecipeError(*self.problems, Problem(message, code="limit", place=self._place(event)))


def _empty(event: Any) -> bool:
    """Whether nothing was written where a value belongs."""
    return isinstance(event, yaml.ScalarEvent) and event.start_mark.index == event.end_mark.index
