"""A model's graph as a drawing: plain data in, SVG or PNG out, the same bytes for the same data.

Graphviz places the boxes where it is installed, our own layered layout otherwise; what is drawn looks alike.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainer.errors import EnvironmentFault
from trainer.report.graphviz import installed, placed_by_dot
from trainer.report.layered import layered
from trainer.report.layout import Arc, Layout, Size
from trainer.wording import clean

Engine = Literal["auto", "graphviz", "builtin"]
Tone = Literal["data", "weights", "frozen", "plain"]
Place = Callable[[Sequence[Size], Sequence[Arc]], Layout]

TITLE, SMALL = 13.0, 11.0
"Sizes of letters."
PAD, ROW = 14, 17
SPACE = 10
"Between name and class."
LEAST_WIDTH, GRID = 120, 16
"Widths of boxes are multiples of the grid, so that those of a chain are alike."
LONGEST = 44
"Characters of a text that are shown."
FRAME = 12
"Between a frame and what it holds."
# Widths of DejaVu Sans, the widest of the common fonts, in twentieths of the size of the letters.
_WIDTHS = {
    6: "'IJijl", 7: " ,./:;\\|", 8: "()-[]ft", 9: "!r·", 10: '"*_`', 11: "?csz", 12: "FLkvxy", 14: "ABCKRVXZ",
    15: "NU", 16: "&DGHOQ", 17: "#+<=>^w~", 18: "M", 20: "%@Wm…",
}  # fmt: skip
_WIDTH = {character: width / 20 for width, characters in _WIDTHS.items() for character in characters}


@dataclass(frozen=True)
class Node:
    """A box: its name and class in the first row, a row for each of `lines`; or a frame around a diagram."""

    id: str
    title: str
    kind: str = ""
    lines: tuple[str, ...] = ()
    tone: Tone = "plain"
    dashed: bool = False
    inside: Diagram | None = None


@dataclass(frozen=True)
class Edge:
    """An arrow from the box `tail` to the box `head`."""

    tail: str
    head: str
    label: str = ""


@dataclass(frozen=True)
class Diagram:
    """Boxes and arrows, and what the whole is called.

    Raises:
        ValueError: two boxes have one id, or an arrow's end is no box.
    """

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()

    def __post_init__(self) -> None:
        ids = {node.id for node in self.nodes}
        if len(ids) < len(self.nodes):
            raise ValueError("expected boxes of different ids")
        if strange := [e for e in self.edges if not {e.tail, e.head} <= ids]:
            raise ValueError(f"expected an arrow between boxes, found one from {strange[0].tail} to {strange[0].head}")

    def as_data(self) -> dict[str, Any]:
        """The diagram as values that JSON has."""
        return asdict(self)

    @classmethod
    def of_data(cls, data: Any) -> Diagram:
        """The diagram that `as_data` gave.

        Raises:
            ValueError: it is no such data.
        """
        try:
            nodes = [_node(**n) for n in data["nodes"]]
            edges = [Edge(*(str(e[key]) for key in ("tail", "head", "label"))) for e in data["edges"]]
            return cls(str(data["title"]), tuple(nodes), tuple(edges))
        except (TypeError, KeyError, RecursionError):
            raise ValueError("expected the nodes and edges of a diagram") from None


def _node(id: Any, title: Any, kind: Any, lines: Any, tone: Any, dashed: Any, inside: Any) -> Node:
    if tone not in ("data", "weights", "frozen", "plain"):
        raise ValueError(f"{tone} is no tone of a box")
    held = None if inside is None else Diagram.of_data(inside)
    return Node(str(id), str(title), str(kind), tuple(map(str, lines)), tone, bool(dashed), held)


@dataclass(frozen=True)
class Drawing:
    """A diagram with a place for everything; `inside` are the drawings of frames, by number of the node."""

    diagram: Diagram
    layout: Layout
    inside: dict[int, Drawing]


def draw(diagram: Diagram, engine: Engine = "auto") -> Drawing:
    """Place everything, by Graphviz when it is asked for, or when it is installed and able to (`auto`).

    Raises:
        EnvironmentFault: Graphviz is asked for and can't do it.
        ValueError: the arrows lead round in a ring.
    """
    if engine == "builtin" or (engine == "auto" and not installed()):
        return _placed(diagram, layered)
    try:
        return _placed(diagram, placed_by_dot)
    except EnvironmentFault:
        if engine == "graphviz":
            raise
        return _placed(diagram, layered)


def _placed(diagram: Diagram, place: Place) -> Drawing:
    inside = {n: _placed(node.inside, place) for n, node in enumerate(diagram.nodes) if node.inside is not None}
    sizes = []
    for number, node in enumerate(diagram.nodes):
        width, height = size_of(node)
        if number in inside:
            held = inside[number].layout
            width, height = max(width, held.width + 2 * FRAME), height + held.height
        sizes.append((width, height))
    numbers = {node.id: n for n, node in enumerate(diagram.nodes)}
    arcs = [(numbers[e.tail], numbers[e.head]) for e in diagram.edges]
    return Drawing(diagram, place(sizes, arcs), inside)


def size_of(node: Node) -> Size:
    """Width and height of a box that holds its texts."""
    head = text_width(shown(node.title), TITLE, bold=True)
    if node.kind:
        head += SPACE + text_width(shown(node.kind), SMALL)
    widest = max([head, *(text_width(shown(line), SMALL) for line in node.lines)])
    width = max(LEAST_WIDTH, -(-int(widest + 2 * PAD + 1) // GRID) * GRID)
    return width, 12 + ROW * (1 + len(node.lines))


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """About the width of a text; rather more than less."""
    return sum(_WIDTH.get(c) or _other(c) for c in text) * size * (1.13 if bold else 1.0)


def _other(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    if character.isascii():
        return 0.65
    return 1.05 if unicodedata.east_asian_width(character) in "WF" else 0.85


def shown(text: object, longest: int = LONGEST) -> str:
    """Text of strangers on one line, without characters that nobody sees; a long one loses its middle."""
    kept = " ".join(clean(written(text)).split()) or "?"
    if len(kept) <= longest:
        return kept
    end = longest // 3
    return f"{kept[: longest - end - 1]}…{kept[-end:]}"


def written(text: object) -> str:
    """Text without what XML can't hold."""
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff" else c for c in str(text))
