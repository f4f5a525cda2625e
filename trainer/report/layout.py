"""Where the boxes of a diagram stand and how its edges run; numbers alone, whoever found them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Size = tuple[int, int]
Arc = tuple[int, int]
"An edge: the numbers of the boxes that it leaves and enters."

MARGIN = 16
NODE_GAP = 28
"Between boxes side by side."
RANK_GAP = 34
"Between boxes one above the other."
PARALLEL = 12
"Between edges that join the same two boxes."


@dataclass(frozen=True)
class Box:
    """A rectangle by its middle; y grows downwards."""

    x: float
    y: float
    width: int
    height: int

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2

    def nearest(self, point: Point) -> Point:
        """The point of the border that is nearest to one."""
        x = max(self.left, min(self.right, point[0]))
        y = max(self.top, min(self.bottom, point[1]))
        sides = [(self.left, y), (self.right, y), (x, self.top), (x, self.bottom)]
        return min(sides, key=lambda side: abs(side[0] - point[0]) + abs(side[1] - point[1]))


@dataclass(frozen=True)
class Layout:
    """Size of the drawing, a box for each node, and a route for each edge.

    A route is a Bézier curve: its first point, then three points (two of control, one of the curve) for each piece.
    """

    width: int
    height: int
    boxes: tuple[Box, ...]
    routes: tuple[tuple[Point, ...], ...]


def lanes(arcs: Sequence[Arc]) -> list[tuple[int, int]]:
    """(which one, of how many) each edge is among those that join the same two boxes."""
    counts: dict[Arc, int] = {}
    numbers = []
    for arc in arcs:
        numbers.append(counts.get(arc, 0))
        counts[arc] = numbers[-1] + 1
    return [(number, counts[arc]) for number, arc in zip(numbers, arcs, strict=True)]


def piece(route: Sequence[Point], number: int, share: float) -> Point:
    """The point at `share` (0 to 1) of a piece of a route."""
    a, b, c, d = route[3 * number : 3 * number + 4]
    rest = 1 - share
    weights = (rest**3, 3 * rest * rest * share, 3 * rest * share * share, share**3)
    x, y = (sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
    return x, y


def line(start: Point, end: Point) -> list[Point]:
    """The three points that lead a route straight from `start` to `end`."""
    (x, y), (u, v) = start, end
    return [((2 * x + u) / 3, (2 * y + v) / 3), ((x + 2 * u) / 3, (y + 2 * v) / 3), end]
