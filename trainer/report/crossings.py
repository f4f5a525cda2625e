"""The order of nodes within ranks, with few crossings of edges."""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections.abc import Sequence

SWEEPS = 24
PATIENCE = 6
"Sweeps without a gain before the search ends."

Rows = list[list[int]]
Near = list[list[int]]


def ordered(ranks: Sequence[int], steps: Sequence[tuple[int, int]]) -> Rows:
    """The nodes of each rank from the left: medians of the neighbours, sweep by sweep, then swaps of neighbours.

    `steps` join nodes of neighbouring ranks. The best order found is kept.
    """
    above: Near = [[] for _ in ranks]
    below: Near = [[] for _ in ranks]
    for tail, head in steps:
        below[tail].append(head)
        above[head].append(tail)
    rows = _first(ranks, above, below)
    best, fewest, since = [list(row) for row in rows], crossings(rows, below), 0
    for sweep in range(SWEEPS):
        if not fewest or since >= PATIENCE:
            break
        down = sweep % 2 == 0
        _sweep(rows, above if down else below, down)
        _swap(rows, above, below)
        found = crossings(rows, below)
        since += 1
        if found < fewest:
            best, fewest, since = [list(row) for row in rows], found, 0
    return best


def crossings(rows: Rows, below: Near) -> int:
    """How many pairs of edges cross."""
    total = 0
    for row, following in itertools.pairwise(rows):
        place = {node: i for i, node in enumerate(following)}
        seen: list[int] = []
        for node in row:
            ends = sorted(place[other] for other in below[node])
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _first(ranks: Sequence[int], above: Near, below: Near) -> Rows:
    """Along the edges into the depth, so that branches stand beside each other."""
    rows: Rows = [[] for _ in range(max(ranks) + 1)]
    seen: set[int] = set()
    for start in sorted((n for n in range(len(ranks)) if not above[n]), key=lambda n: (ranks[n], n)):
        stack = [start]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                rows[ranks[node]].append(node)
                stack += reversed(below[node])
    return rows


def _sweep(rows: Rows, near: Near, down: bool) -> None:
    """Sort each rank by the medians of the places in the rank before it; nodes without neighbours stay."""
    order = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
    for rank in order:
        before = {node: i for i, node in enumerate(rows[rank - 1 if down else rank + 1])}
        medians = {n: _median(sorted(before[other] for other in near[n])) for n in rows[rank] if near[n]}
        moving = iter(sorted(medians, key=lambda n: medians[n]))
        rows[rank] = [next(moving) if n in medians else n for n in rows[rank]]


def _median(places: list[int]) -> float:
    """The median; between two middle ones, nearer to the side on which places stand closer together."""
    middle = len(places) // 2
    if len(places) % 2 or len(places) == 2:
        return (places[middle] + places[-1 - middle]) / 2
    left, right = places[middle - 1] - places[0], places[-1] - places[middle]
    if left + right == 0:
        return (places[middle - 1] + places[middle]) / 2
    return (places[middle - 1] * right + places[middle] * left) / (left + right)


def _swap(rows: Rows, above: Near, below: Near) -> None:
    """Swap neighbours as long as that takes crossings away."""
    for _ in range(8):
        gained = False
        for rank, row in enumerate(rows):
            sides = [(near, rows[r]) for near, r in ((above, rank - 1), (below, rank + 1)) if 0 <= r < len(rows)]
            places = [(near, {node: i for i, node in enumerate(other)}) for near, other in sides]
            for i in range(len(row) - 1):
                left, right = row[i], row[i + 1]
                ends = [(sorted(p[o] for o in near[left]), sorted(p[o] for o in near[right])) for near, p in places]
                if sum(_inversions(a, b) - _inversions(b, a) for a, b in ends) > 0:
                    row[i], row[i + 1] = right, left
                    gained = True
        if not gained:
            break


def _inversions(left: list[int], right: list[int]) -> int:
    """Pairs of sorted ends that cross when `left` stands left of `right`."""
    return sum(len(left) - bisect_right(left, end) for end in right)
