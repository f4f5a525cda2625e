"""A drawing as PNG, through matplotlib; letters that its font lacks are boxes there (SVG has them all)."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.report.diagram import Drawing
from trainer.report.drawing import LINE, PAPER, ArrowHead, Curve, Rectangle, Words, parts

if TYPE_CHECKING:
    from matplotlib.artist import Artist

SCALE = 2.0
"Pixels for a point of the drawing."
MOST_PIXELS, MOST_SIDE = 80e6, 30_000
"Larger pictures are drawn smaller."
FAMILY = "DejaVu Sans"
"Comes with matplotlib, so pictures are the same everywhere."


def png(drawing: Drawing) -> bytes:
    """The drawing as PNG bytes."""
    from matplotlib.figure import Figure

    width, height = drawing.layout.width, drawing.layout.height
    scale = min(SCALE, MOST_SIDE / max(width, height), (MOST_PIXELS / (width * height)) ** 0.5)
    figure = Figure(figsize=(width / 72, height / 72), dpi=72 * scale, facecolor=PAPER)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for order, shape in enumerate(shape for part in parts(drawing) for shape in part.shapes):
        artist = _words(shape) if isinstance(shape, Words) else _patch(shape)
        artist.set_zorder(order)
        axes.add_artist(artist)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _patch(shape: Rectangle | Curve | ArrowHead) -> Artist:
    from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
    from matplotlib.path import Path as Outline

    if isinstance(shape, Curve):
        codes = [Outline.MOVETO] + [Outline.CURVE4] * (len(shape.points) - 1)
        return PathPatch(Outline(shape.points, codes), fill=False, edgecolor=LINE, linewidth=1.3)
    if isinstance(shape, ArrowHead):
        return Polygon(shape.points, facecolor=LINE, edgecolor="none")
    style = f"round,pad=0,rounding_size={shape.radius:g}"
    corner, dashes = (shape.x, shape.y), (0, (5, 3)) if shape.dashed else "solid"
    return FancyBboxPatch(
        corner, shape.width, shape.height, style, facecolor=shape.fill, edgecolor=shape.border, linestyle=dashes
    )


def _words(words: Words) -> Artist:
    from matplotlib.patheffects import withStroke
    from matplotlib.text import Text

    side = {"start": "left", "middle": "center", "end": "right"}[words.anchor]
    weight = "bold" if words.bold else "normal"
    made = Text(words.x, words.y, drawable(words.text, weight), color=words.colour, parse_math=False)
    made.set(fontfamily=FAMILY, fontsize=words.size, fontweight=weight, ha=side, va="baseline")
    if words.halo:
        made.set_path_effects([withStroke(linewidth=5, foreground=PAPER)])
    return made


def drawable(text: str, weight: str) -> str:
    """The text with a box for each letter that the font lacks."""
    has = _letters(weight)
    return "".join(c if ord(c) in has else "\u25a1" for c in text)


@functools.cache
def _letters(weight: str) -> frozenset[int]:
    import matplotlib
    from matplotlib.ft2font import FT2Font

    name = "DejaVuSans-Bold.ttf" if weight == "bold" else "DejaVuSans.ttf"
    return frozenset(FT2Font(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name))).get_charmap())
