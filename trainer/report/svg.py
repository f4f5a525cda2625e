"""A drawing as SVG text: no scripts, no styles, no references, and everything that strangers wrote escaped."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from trainer.report.diagram import Diagram, Drawing, shown, written
from trainer.report.drawing import LINE, PAPER, ArrowHead, Curve, Part, Rectangle, Words, parts
from trainer.report.layout import Point
from trainer.wording import clean

FONTS = "'DejaVu Sans', Verdana, 'Segoe UI', Helvetica, Arial, sans-serif"
MOST_TOLD = 200
"Connections that the description names."


def svg(drawing: Drawing) -> str:
    """The drawing as an `<svg>` element, to be a file or to stand in a page."""
    width, height = drawing.layout.width, drawing.layout.height
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label={_attribute(drawing.diagram.title)} font-family="{FONTS}">',
        f"<title>{_text(drawing.diagram.title)}</title>",
        f"<desc>{_text(description(drawing.diagram))}</desc>",
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        *(_group(part) for part in parts(drawing)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def description(diagram: Diagram) -> str:
    """The diagram in words: how many boxes and arrows, and which box leads to which."""
    names = {node.id: shown(node.title) for node in diagram.nodes}
    told = [f"{names[e.tail]} to {names[e.head]}" for e in diagram.edges[:MOST_TOLD]]
    rest = len(diagram.edges) - len(told)
    counts = f"{len(diagram.nodes)} nodes, {len(diagram.edges)} connections"
    return f"{counts}: {', '.join(told)}{f' and {rest} more' if rest else ''}" if told else counts


def _group(part: Part) -> str:
    return f"<g><title>{_text(part.name)}</title>{''.join(_shape(s) for s in part.shapes)}</g>"


def _shape(shape: Rectangle | Curve | ArrowHead | Words) -> str:
    if isinstance(shape, Rectangle):
        dashes = ' stroke-dasharray="5 3"' if shape.dashed else ""
        place = f'x="{_number(shape.x)}" y="{_number(shape.y)}" width="{_number(shape.width)}"'
        size = f'height="{_number(shape.height)}" rx="{_number(shape.radius)}"'
        return f'<rect {place} {size} fill="{shape.fill}" stroke="{shape.border}"{dashes}/>'
    if isinstance(shape, Curve):
        return f'<path d="{_path(shape.points)}" fill="none" stroke="{LINE}" stroke-width="1.3"/>'
    if isinstance(shape, ArrowHead):
        return f'<path d="M{" L".join(map(_point, shape.points))} Z" fill="{LINE}"/>'
    anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
    weight = ' font-weight="bold"' if shape.bold else ""
    halo = f' stroke="{PAPER}" stroke-width="5" paint-order="stroke"' if shape.halo else ""
    place = f'x="{_number(shape.x)}" y="{_number(shape.y)}" font-size="{_number(shape.size)}" fill="{shape.colour}"'
    return f"<text {place}{anchor}{weight}{halo}>{_text(shape.text)}</text>"


def _path(points: tuple[Point, ...]) -> str:
    """A route in SVG's words; what is straight as a line."""
    words = [f"M{_point(points[0])}"]
    for start in range(0, len(points) - 1, 3):
        piece = points[start : start + 4]
        if len({x for x, _ in piece}) == 1:
            words.append(f"L{_point(piece[-1])}")
        else:
            words.append(f"C{' '.join(map(_point, piece[1:]))}")
    return " ".join(words)


def _point(point: Point) -> str:
    return f"{_number(point[0])},{_number(point[1])}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0").replace("-0.0", "0") if value else "0"


def _text(text: str) -> str:
    return escape(clean(written(text)))


def _attribute(text: str) -> str:
    return quoteattr(clean(written(text)))
