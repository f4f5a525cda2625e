"""What stands on a drawing, shape by shape, for whoever writes it as SVG or PNG."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from trainer.report.diagram import ROW, SMALL, SPACE, TITLE, Drawing, Node, shown, text_width
from trainer.report.layout import Box, Layout, Point, line, piece

INK, MUTED, LINE, PAPER = "#1b1f24", "#57606a", "#6e7781", "#ffffff"
FILL = {"data": "#eef1f4", "weights": "#e8f1fb", "frozen": "#e6eef0", "plain": "#ffffff"}
BORDER = {"data": "#8c959f", "weights": "#3b7dbd", "frozen": "#6f8f99", "plain": "#9aa4ae"}
HEAD_LENGTH, HEAD_WIDTH = 8.0, 7.0
LONGEST_LABEL = 24
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Rectangle:
    """A box by its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    radius: float
    fill: str
    border: str
    dashed: bool


@dataclass(frozen=True)
class Curve:
    """An edge; the points are those of a route."""

    points: tuple[Point, ...]


@dataclass(frozen=True)
class ArrowHead:
    """A filled triangle: its tip first."""

    points: tuple[Point, Point, Point]


@dataclass(frozen=True)
class Words:
    """A text by the left end, the middle or the right end of its base line; `halo` keeps lines away from it."""

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: Anchor = "middle"
    bold: bool = False
    halo: bool = False


@dataclass(frozen=True)
class Part:
    """The shapes of one thing on the drawing, and its whole name for who points at it or can't see it."""

    name: str
    shapes: tuple[Rectangle | Curve | ArrowHead | Words, ...]


def parts(drawing: Drawing, x: float = 0.0, y: float = 0.0) -> Iterator[Part]:
    """Everything that is drawn, what lies behind first."""
    layout, diagram = drawing.layout, drawing.diagram
    titles = {node.id: node.title for node in diagram.nodes}
    for number, (node, box) in enumerate(zip(diagram.nodes, layout.boxes, strict=True)):
        if number in drawing.inside:
            yield Part(node.title, tuple(_frame(node, _moved(box, x, y))))
            held = drawing.inside[number]
            left = box.x - held.layout.width / 2
            yield from parts(held, x + left, y + box.bottom - held.layout.height)
    for edge, route in zip(diagram.edges, layout.routes, strict=True):
        moved = tuple((px + x, py + y) for px, py in route)
        yield Part(f"{titles[edge.tail]} → {titles[edge.head]}", (_shortened(moved), _arrow_head(moved)))
    for number, (node, box) in enumerate(zip(diagram.nodes, layout.boxes, strict=True)):
        if number not in drawing.inside:
            name = " ".join(filter(None, (node.title, node.kind, *node.lines)))
            yield Part(name, tuple(_box(node, _moved(box, x, y))))
    for number, edge in enumerate(diagram.edges):
        if edge.label:
            yield Part(edge.label, (_label(edge.label, layout, number, x, y),))


def _moved(box: Box, x: float, y: float) -> Box:
    return Box(box.x + x, box.y + y, box.width, box.height)


def _box(node: Node, box: Box) -> Iterator[Rectangle | Words]:
    radius = box.height / 2 if node.tone == "data" and not node.lines else 5.0
    fill, border = FILL[node.tone], BORDER[node.tone]
    yield Rectangle(box.left, box.top, box.width, box.height, radius, fill, border, node.dashed)
    yield from _texts(node, box)


def _frame(node: Node, box: Box) -> Iterator[Rectangle | Words]:
    yield Rectangle(box.left, box.top, box.width, box.height, 8.0, "#fafbfc", BORDER[node.tone], node.dashed)
    yield from _texts(node, box)


def _texts(node: Node, box: Box) -> Iterator[Words]:
    """Name and class side by side, the lines under them; all in the middle."""
    title, kind = shown(node.title), shown(node.kind) if node.kind else ""
    wide = text_width(title, TITLE, bold=True)
    both = wide + (SPACE + text_width(kind, SMALL) if kind else 0)
    base = box.top + 18
    if kind:
        # Letters are rather narrower than they are taken for, so both stand against the gap between them.
        end = box.x - both / 2 + wide
        yield Words(end, base, title, TITLE, INK, "end", bold=True)
        yield Words(end + SPACE, base, kind, SMALL, MUTED, "start")
    else:
        yield Words(box.x, base, title, TITLE, INK, bold=True)
    for number, text in enumerate(node.lines, 1):
        yield Words(box.x, base + ROW * number - 1, shown(text), SMALL, MUTED)


def _shortened(route: tuple[Point, ...]) -> Curve:
    """The route up to where its arrow head begins."""
    (x, y), back = route[-1], _direction(route)
    end = (x - back[0] * HEAD_LENGTH * 0.8, y - back[1] * HEAD_LENGTH * 0.8)
    if math.dist(route[-4], route[-1]) <= HEAD_LENGTH:
        return Curve(route)
    a, b, c, d = route[-4:]
    moved = (c[0] + end[0] - d[0], c[1] + end[1] - d[1])
    return Curve((*route[:-4], a, *line(a, end)) if _is_straight(a, b, c, d) else (*route[:-4], a, b, moved, end))


def _is_straight(a: Point, b: Point, c: Point, d: Point) -> bool:
    return a[0] == b[0] == c[0] == d[0]


def _direction(route: tuple[Point, ...]) -> Point:
    """The unit vector in which a route arrives."""
    x, y = route[-1]
    for u, v in reversed(route[:-1]):
        far = math.hypot(x - u, y - v)
        if far > 1e-6:
            return (x - u) / far, (y - v) / far
    return 0.0, 1.0


def _arrow_head(route: tuple[Point, ...]) -> ArrowHead:
    (x, y), (u, v) = route[-1], _direction(route)
    foot = (x - u * HEAD_LENGTH, y - v * HEAD_LENGTH)
    half = HEAD_WIDTH / 2
    return ArrowHead(((x, y), (foot[0] - v * half, foot[1] + u * half), (foot[0] + v * half, foot[1] - u * half)))


def _label(label: str, layout: Layout, number: int, x: float, y: float) -> Words:
    """The label of an edge, on the edge but within the drawing."""
    text = shown(label, LONGEST_LABEL)
    px, py = label_place(layout, number)
    half = text_width(text, SMALL) / 2 + 2
    inside = max(half, min(layout.width - half, px))
    return Words(inside + x, py + y + 4, text, SMALL, MUTED, halo=True)


def label_place(layout: Layout, number: int) -> Point:
    """Where an edge is in the middle of the empty band above the box that it enters."""
    route = layout.routes[number]
    arrives = route[-1][1]
    above = [b.bottom for b in layout.boxes if b.bottom < arrives]
    entered = [b.top for b in layout.boxes if b.top <= arrives < b.bottom]
    wanted = (max(above, default=route[0][1]) + min(entered, default=arrives)) / 2
    count = (len(route) - 1) // 3
    points = (piece(route, n, step / 24) for n in range(count) for step in range(25))
    return min(points, key=lambda p: abs(p[1] - wanted))
