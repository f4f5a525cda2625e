"""A recipe's text as plain values and their places: no duplicate keys, no tags, bounded aliases, depth and size.

PyYAML scans and parses; the values are made from its events, so that no YAML constructor exists at all, what would be
too large is refused while it is read, and every mistake is reported with its place, all at once.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.scanner import Scanner

from trainer.errors import Path, Place, Problem, RecipeError
from trainer.options import shown
from trainer.recipe.scalars import scalar
from trainer.recipe.syntax import explained, mark_of

MOST_NODES, MOST_DEPTH, MOST_ALIASES, MOST_PROBLEMS = 30_000, 64, 32, 50
KEY_LENGTH = 200
ASIDE = "\0"
"Begins the path of what is read for its mistakes only; no key of a recipe begins so."
LINE_SHOWN = 400
"A longer line is shown up to here, and not at all when the mistake stands beyond."


@dataclass(frozen=True)
class Spot:
    """Where a value stands, and where its key does."""

    value: Place
    key: Place | None = None


@dataclass(frozen=True)
class Tree:
    """Plain values (dict, list, scalars) and the spot of each, by its path."""

    value: Any
    spots: dict[Path, Spot]


class Text:
    """A text with a name, of which the part from `start` on is YAML."""

    def __init__(self, text: str, file: str, start: int = 0, kind: type[Place] = Place):
        self.text, self.file, self.start, self.kind = text, file, start, kind
        self.breaks = [0, *(m.end() for m in re.finditer("\r\n|\r|\n", text))]

    def place(self, start: int, end: int) -> Place:
        """The place of characters `start` to `end` of the whole text, as far as they stand on one line."""
        number = bisect.bisect_right(self.breaks, start)
        first = self.breaks[number - 1]
        stop = self.breaks[number] if number < len(self.breaks) else len(self.text)
        width = max(1, len(self.text[start : min(end, stop)].rstrip()))
        line = self.text[first : min(stop, first + LINE_SHOWN)].rstrip("\r\n")
        seen = start - first + width <= LINE_SHOWN
        return self.kind(self.file, number, start - first + 1, line if seen else "", width)


def read_tree(text: Text) -> Tree:
    """The values of a text.

    Raises:
        RecipeError: with every duplicate key, tag and wrong key, and the first place where the text is no YAML.
    """
    return _Composer(text).tree()


class _Events(Reader, Scanner, Parser):
    """PyYAML as far as its events."""

    def __init__(self, text: str):
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)

    def __iter__(self) -> Iterator[Any]:
        while self.check_event():
            yield self.get_event()


class _Enough(Exception):
    """Reading further makes no sense."""


@dataclass
class _Composer:
    text: Text
    spots: dict[Path, Spot] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    anchors: dict[str, tuple[Path, Any] | None] = field(default_factory=dict)
    "Name to path and value; None while the value is still being read."
    nodes: int = 0
    aliases: int = 0

    def tree(self) -> Tree:
        value, parser = None, None
        self.spots[()] = Spot(self.at(0, 1))
        try:
            parser = _Events(self.text.text[self.text.start :])
            value = self.document(iter(parser))
        except _Enough:
            pass
        except ReaderError as error:
            message = f"expected text, found the control character U+{int(error.character):04X}"
            self.problem(message, self.at(error.position, error.position + 1), hint="remove it")
        except yaml.MarkedYAMLError as error:
            mark = mark_of(error)
            message, hint = explained(error)
            self.problem(message, self.at(mark.index, mark.index + 1) if mark is not None else None, hint=hint)
        except (ValueError, OverflowError):
            # PyYAML turns escapes such as \Uffffffff and the digits of %YAML into Python values unchecked.
            where = parser.index if parser is not None else 0
            self.problem("expected an escape of a Unicode character, found a number that is none", self.at(where, 0))
        if self.problems:
            raise RecipeError(*self.problems)
        return Tree(value, self.spots)

    def at(self, start: int, end: int) -> Place:
        """The place of characters counted as PyYAML does, from where the YAML begins."""
        if self.text.start + start >= len(self.text.text):
            last = max(self.text.start, len(self.text.text.rstrip()))
            return self.text.place(last, last + 1)
        return self.text.place(self.text.start + start, self.text.start + end)

    def span(self, event: Any) -> Place:
        """Where an event stands: a scalar as a whole, of anything else where it begins."""
        start = event.start_mark.index
        return self.at(start, event.end_mark.index if isinstance(event, yaml.ScalarEvent) else start + 1)

    def problem(self, message: str, place: Place | None, path: Path = (), hint: str = "", code: str = "syntax") -> None:
        shown_path = tuple(itertools.takewhile(lambda part: not str(part).startswith(ASIDE), path))
        self.problems.append(Problem(message, shown_path, hint, code, place))
        if len(self.problems) >= MOST_PROBLEMS:
            raise _Enough

    def document(self, events: Iterator[Any]) -> Any:
        value = None
        begun = False
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and begun:
                hint = "remove what follows ---"
                self.problem("one file is one recipe, found a second document", self.span(event), hint=hint)
                return value
            begun = begun or isinstance(event, yaml.DocumentStartEvent)
            if isinstance(event, yaml.NodeEvent):
                value = self.node(event, events, ())
        return value

    def node(self, event: Any, events: Iterator[Any], path: Path, key: Place | None = None) -> Any:
        """The value that begins with an event."""
        here = self.span(event)
        self.grow(1, path, here)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(str(event.anchor), path, Spot(here, key))
        self.spots[path] = Spot(here, key)
        if event.tag is not None:
            self.problem(f"expected a plain value, found the tag {_tag(event)}", here, path, "remove the tag")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.MappingStartEvent):
            value: Any = self.mapping(events, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self.sequence(events, path)
        else:
            value = self.scalar(event, here, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = (path, value)
        return value

    def grow(self, by: int, path: Path, place: Place) -> None:
        self.nodes += by
        if self.nodes > MOST_NODES or len(path) > MOST_DEPTH:
            what = f"{MOST_NODES:,} values" if self.nodes > MOST_NODES else f"{MOST_DEPTH} levels"
            self.problem(f"expected a recipe of at most {what}, found more", place, code="size")
            raise _Enough

    def scalar(self, event: Any, place: Place, path: Path) -> Any:
        try:
            return scalar(event.value) if event.style is None else _sound(event.value)
        except ValueError as error:
            self.problem(str(error), place, path, "put quotes around it to make it text" if event.style is None else "")

    def sequence(self, events: Iterator[Any], path: Path) -> list[Any]:
        made: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            made.append(self.node(event, events, (*path, len(made))))
        return made

    def mapping(self, events: Iterator[Any], path: Path) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            place = self.span(event)
            key = self.key(event, events, place, path)
            if key is not None and key in made:
                first = self.spots[(*path, key)].key or place
                message = f"{shown(key)} stands twice here; first in line {first.line}, column {first.column}"
                self.problem(message, place, (*path, key), "remove one")
                key = None
            if key is None:
                # The value of a key that is not taken is still read for its own mistakes, off to the side.
                self.node(next(events), events, (*path, f"{ASIDE}{self.nodes}"), place)
            else:
                made[key] = self.node(next(events), events, (*path, key), place)
        return made

    def key(self, event: Any, events: Iterator[Any], place: Place, path: Path) -> str | int | None:
        """The key that begins with an event; None, with a problem, when it can't be one."""
        if not isinstance(event, yaml.ScalarEvent):
            found = "an alias" if isinstance(event, yaml.AliasEvent) else "a list or mapping"
            self.node(event, events, (*path, f"{ASIDE}{self.nodes}"))
            self.problem(f"expected a name as the key, found {found}", place, path)
            return None
        if event.tag is not None:
            self.problem(f"expected a plain key, found the tag {_tag(event)}", place, path, "remove the tag")
        known = len(self.problems)
        key = self.scalar(event, place, path)
        if len(self.problems) > known:
            return None
        if key == "<<" and event.style is None:
            self.problem("merge keys (<<) are not part of YAML 1.2", place, path, "use extends")
        elif isinstance(key, str) and len(key) > KEY_LENGTH:
            self.problem(f"expected a key of at most {KEY_LENGTH} characters, found {len(key)}", place, path)
        elif isinstance(key, bool) or not isinstance(key, (str, int)):
            self.problem(f"expected a name as the key, found {shown(event.value)}", place, path, "put it in quotes")
        else:
            return key
        return None

    def alias(self, name: str, path: Path, spot: Spot) -> Any:
        """The anchored value again; what is inside keeps its places."""
        self.aliases += 1
        if self.aliases > MOST_ALIASES:
            self.problem(f"expected at most {MOST_ALIASES} aliases, found more", spot.value, path, code="size")
            raise _Enough
        self.spots[path] = spot
        found = self.anchors.get(name)
        if found is None:
            what = f"the value &{name} holds itself" if name in self.anchors else f"there is no anchor &{name} above"
            self.problem(what, spot.value, path, "write the value out")
            return None
        origin, value = found
        for inner in list(_inside(value)):
            self.grow(1, (*path, *inner), spot.value)
            self.spots[(*path, *inner)] = self.spots[(*origin, *inner)]
        return value


def _tag(event: Any) -> str:
    """A tag as it is written."""
    return shown(event.tag.replace("tag:yaml.org,2002:", "!!")).strip('"')


def _inside(value: Any) -> Iterator[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (key,)
        yield from ((key, *rest) for rest in _inside(inner))


def _sound(text: str) -> str:
    """Text from quotes: JSON's pairs of surrogates joined (YAML 1.2 reads all JSON), nothing that can't be written."""
    if "\0" in text:
        raise ValueError("expected text, found a zero byte in it")
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ValueError("expected text, found half a pair of surrogates (\\ud800 to \\udfff)") from None
