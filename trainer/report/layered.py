"""A layered drawing of a graph, from the top down: ranks, order within ranks, places, routes.

Sugiyama, Tagawa and Toda, Methods for Visual Understanding of Hierarchical System Structures, IEEE SMC 11 (1981), with
the ranks and places of Gansner et al. (1993) as network simplex problems. A long edge stands in each rank that it
passes as a point, which has its room beside the boxes; edges bend only between ranks, so none runs through a box.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from trainer.report.crossings import ordered
from trainer.report.layout import MARGIN, NODE_GAP, PARALLEL, RANK_GAP, Arc, Box, Layout, Point, Size, lanes, line
from trainer.report.simplex import Distance, nearest_values, topological

LONG_GAP = 14
"Between an edge that passes and what stands beside it."
TRUNK, BRANCH, LONG = 4, 1, 8
"How much pieces of edges want to be upright: between boxes with few edges, at other boxes, between points."
FEW = 2
"Edges on one side of a box up to which the short ones among them are its trunk."
MOST_GAP = 90


@dataclass
class Layers:
    """Boxes and the points of long edges, by number (boxes first), in ranks."""

    sizes: list[Size]
    boxes: int
    ranks: list[int]
    chains: list[list[int]]
    "The nodes along each edge, one in each rank."
    rows: list[list[int]] = field(default_factory=list)
    "The nodes of each rank, from the left."

    def __post_init__(self) -> None:
        self.steps: list[Arc] = [step for chain in self.chains for step in itertools.pairwise(chain)]
        "Pieces of edges between neighbouring ranks."
        self.out = Counter(tail for tail, _ in self.steps)
        self.into = Counter(head for _, head in self.steps)

    def is_box(self, node: int) -> bool:
        return node < self.boxes

    def alone(self, tail: int, head: int) -> bool:
        """Whether a piece joins two boxes and is the only one that leaves the one and enters the other."""
        return self.is_box(tail) and self.is_box(head) and self.out[tail] == self.into[head] == 1

    def pull(self, tail: int, head: int) -> int:
        """How much a piece wants to be upright."""
        if self.is_box(tail) != self.is_box(head):
            return BRANCH
        if not self.is_box(tail):
            return LONG
        return TRUNK if max(self.out[tail], self.into[head]) <= FEW else BRANCH

    def apart(self, left: int, right: int) -> int:
        """Least distance of the middles of two neighbours in a rank."""
        gap = NODE_GAP if self.is_box(left) and self.is_box(right) else LONG_GAP
        return (self.sizes[left][0] + self.sizes[right][0] + 1) // 2 + gap


def layered(sizes: Sequence[Size], arcs: Sequence[Arc]) -> Layout:
    """Place boxes of given sizes (width, height) so that every edge runs downwards.

    Raises:
        ValueError: the edges lead round in a ring.
    """
    if not sizes:
        return Layout(2 * MARGIN, 2 * MARGIN, (), ())
    layers = _split(sizes, arcs, ranks_of(len(sizes), arcs))
    layers.rows = ordered(layers.ranks, layers.steps)
    xs = _across(layers)
    tops, bottoms = _down(layers, xs)
    middles = [(tops[r] + bottoms[r]) / 2 for r in layers.ranks]
    boxes = tuple(Box(xs[n], middles[n], *sizes[n]) for n in range(len(sizes)))
    routes = []
    for chain, (lane, count) in zip(layers.chains, lanes(arcs), strict=True):
        shift = _shift(lane, count, min(boxes[chain[0]].width, boxes[chain[-1]].width)) if len(chain) == 2 else 0.0
        routes.append(_route(chain, layers.ranks, xs, tops, bottoms, boxes, shift))
    width = max(max(xs) + LONG_GAP, max(b.right for b in boxes)) + MARGIN
    return Layout(round(width), round(bottoms[-1] + MARGIN), boxes, tuple(routes))


def ranks_of(count: int, arcs: Sequence[Arc]) -> list[int]:
    """The rank of each node, from 0: below all that lead to it, with edges as short as they can be together."""
    ranks = nearest_values(count, [Distance(tail, head, 1, 1) for tail, head in arcs])
    before: list[list[int]] = [[] for _ in range(count)]
    after = [0] * count
    for tail, head in arcs:
        before[head].append(tail)
        after[tail] += 1
    for node in topological(count, arcs):
        # Where up and down are as good, branches begin side by side.
        if before[node] and len(before[node]) >= after[node]:
            ranks[node] = 1 + max(ranks[tail] for tail in before[node])
    number = {rank: n for n, rank in enumerate(sorted(set(ranks)))}
    return [number[rank] for rank in ranks]


def _split(sizes: Sequence[Size], arcs: Sequence[Arc], ranks: list[int]) -> Layers:
    """Put a point into every rank that an edge passes."""
    all_sizes, all_ranks, chains = list(sizes), list(ranks), []
    for tail, head in arcs:
        chain = [tail]
        for rank in range(ranks[tail] + 1, ranks[head]):
            chain.append(len(all_sizes))
            all_sizes.append((0, 0))
            all_ranks.append(rank)
        chains.append([*chain, head])
    return Layers(all_sizes, len(sizes), all_ranks, chains)


def _across(layers: Layers) -> list[int]:
    """The middle of each node along its rank."""
    column = _columns(layers)
    pairs: dict[Arc, int] = {}
    for tail, head in layers.steps:
        a, b = sorted((column[tail], column[head]))
        if a != b:
            pairs[a, b] = pairs.get((a, b), 0) + layers.pull(tail, head)
    apart: dict[Arc, int] = {}
    for row in layers.rows:
        for left, right in itertools.pairwise(row):
            key = column[left], column[right]
            apart[key] = max(apart.get(key, 0), layers.apart(left, right))
    count = 1 + max(column)
    distances = [Distance(left, right, least, 0) for (left, right), least in apart.items()]
    for extra, ((a, b), weight) in enumerate(pairs.items(), count):
        # The difference of two unknowns is what both are above a third one that is below them.
        distances += [Distance(extra, a, 0, weight), Distance(extra, b, 0, weight)]
    boxed = {column[n] for n in range(layers.boxes)}
    places = nearest_values(count + len(pairs), distances, boxed)[:count]
    _settle(layers, column, boxed, places, apart)
    start = [
        places[column[n]] - layers.sizes[n][0] / 2 - (0 if layers.is_box(n) else LONG_GAP) for n in range(len(column))
    ]
    return [places[c] - int(min(start) - MARGIN) for c in column]


def _settle(layers: Layers, column: list[int], boxed: set[int], places: list[int], apart: dict[Arc, int]) -> None:
    """Move long edges under the boxes that they leave, as far as their neighbours let them: they bend once then."""
    for chain in layers.chains:
        here = column[chain[1]]
        if here not in boxed:
            floor = [places[left] + least for (left, right), least in apart.items() if right == here]
            ceiling = [places[right] - least for (left, right), least in apart.items() if left == here]
            wanted = places[column[chain[0]]]
            places[here] = max([*floor, min([*ceiling, wanted])])


def _columns(layers: Layers) -> list[int]:
    """The column of each node: long edges, and edges that are the only one at both ends, are upright.

    Joined pieces between two ranks don't cross, so columns have a left and a right.
    """
    place = {node: i for row in layers.rows for i, node in enumerate(row)}
    above = list(range(len(layers.sizes)))
    joined: dict[int, list[Arc]] = {}
    both = [s for s in layers.steps if not layers.is_box(s[0]) and not layers.is_box(s[1])]
    alone = [s for s in layers.steps if layers.alone(*s)]
    for tail, head in [*both, *alone]:
        rank, step = layers.ranks[tail], (place[tail], place[head])
        if all((step[0] - a) * (step[1] - b) > 0 for a, b in joined.get(rank, [])):
            joined.setdefault(rank, []).append(step)
            above[head] = tail
    numbers: dict[int, int] = {}
    column = [0] * len(above)
    for node in (node for row in layers.rows for node in row):
        column[node] = numbers.setdefault(node, len(numbers)) if above[node] == node else column[above[node]]
    return column


def _down(layers: Layers, xs: list[int]) -> tuple[list[float], list[float]]:
    """Top and bottom of each rank; wide swings get more room."""
    swings = [0] * len(layers.rows)
    for tail, head in layers.steps:
        swings[layers.ranks[head]] = max(swings[layers.ranks[head]], abs(xs[tail] - xs[head]))
    tops: list[float] = []
    bottoms: list[float] = []
    for rank, row in enumerate(layers.rows):
        top = bottoms[-1] + min(MOST_GAP, RANK_GAP + swings[rank] // 10) if bottoms else MARGIN
        tops.append(top)
        bottoms.append(top + max(layers.sizes[n][1] for n in row))
    return tops, bottoms


def _shift(lane: int, count: int, width: int) -> float:
    """How far from the middle an edge leaves and enters, of several between the same two boxes."""
    return (lane - (count - 1) / 2) * min(PARALLEL, width / (count + 1))


def _route(
    chain: list[int],
    ranks: list[int],
    xs: list[int],
    tops: list[float],
    bottoms: list[float],
    boxes: tuple[Box, ...],
    shift: float,
) -> tuple[Point, ...]:
    """Upright along ranks, and an S between them."""
    corners: list[Point] = [(xs[chain[0]] + shift, boxes[chain[0]].bottom)]
    for tail, head in itertools.pairwise(chain):
        corners += [(xs[tail] + shift, bottoms[ranks[tail]]), (xs[head] + shift, tops[ranks[head]])]
    corners.append((xs[chain[-1]] + shift, boxes[chain[-1]].top))
    kept = [corners[0]]
    for corner, following in zip(corners[1:], [*corners[2:], None], strict=True):
        upright = corner[0] == kept[-1][0]
        if corner != kept[-1] and not (upright and following is not None and following[0] == corner[0]):
            kept.append(corner)
    route = [kept[0]]
    for start, end in itertools.pairwise(kept):
        if start[0] == end[0]:
            route += line(start, end)
        else:
            middle = (start[1] + end[1]) / 2
            route += [(start[0], middle), (end[0], middle), end]
    return tuple(route)
