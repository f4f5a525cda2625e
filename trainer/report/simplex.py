"""Whole numbers that keep their distances and are as near to each other as they may: the network simplex method.

Gansner, Koutsofios, North and Vo, A Technique for Drawing Directed Graphs, IEEE TSE 19 (1993), sections 2.3 and 4.2.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Distance(NamedTuple):
    """`value[head] - value[tail]` is at least `least`, and `weight` times it is to be small."""

    tail: int
    head: int
    least: int
    weight: int


def topological(count: int, arcs: Sequence[tuple[int, int]]) -> list[int]:
    """The nodes, each after all that lead to it, otherwise by number.

    Raises:
        ValueError: some nodes lead back to themselves.
    """
    waiting = [0] * count
    after: list[list[int]] = [[] for _ in range(count)]
    for tail, head in arcs:
        waiting[head] += 1
        after[tail].append(head)
    ready = [node for node in range(count) if not waiting[node]]
    for node in ready:
        for head in after[node]:
            waiting[head] -= 1
            if not waiting[head]:
                ready.append(head)
    if len(ready) < count:
        ring = [node for node in range(count) if waiting[node]]
        raise ValueError(f"expected a graph without rings, found one through {len(ring)} of its nodes")
    return ready


def nearest_values(count: int, distances: Sequence[Distance], centred: Collection[int] = ()) -> list[int]:
    """The values of `count` unknowns with the smallest sum of weighted distances; the smallest value is 0.

    Those of `centred` that stand at one end of places which are equally good go to the middle of them.

    Raises:
        ValueError: the distances lead round in a ring.
    """
    root = count
    pinned = [Distance(root, node, 0, 0) for node in range(count)]
    tree = _Tree(count + 1, [*distances, *pinned])
    # Each step is an improvement or leaves all as it was; the bound ends rounds of the latter, whose values are good.
    for _ in range(20 * len(tree.values)):
        if not tree.improve():
            break
    tree.centre(set(centred))
    lowest = min(tree.values[:count], default=0)
    return [value - lowest for value in tree.values[:count]]


class _Tree:
    """Values that keep all distances, and a spanning tree of distances that are kept exactly."""

    def __init__(self, count: int, distances: list[Distance]):
        self.distances = distances
        self.values = _smallest(count, distances)
        self.touching: list[list[int]] = [[] for _ in range(count)]
        "Distances of the tree at each node."
        self.balance = [0] * count
        "Weight that leaves each node, less the weight that enters it."
        for tail, head, _, weight in distances:
            self.balance[tail] += weight
            self.balance[head] -= weight
        self._span(count)

    def slack(self, index: int) -> int:
        tail, head, least, _ = self.distances[index]
        return self.values[head] - self.values[tail] - least

    def _span(self, count: int) -> None:
        """Grow a tree of tight distances over all nodes, moving what is grown when nothing tight leads on."""
        around: list[list[int]] = [[] for _ in range(count)]
        for index, distance in enumerate(self.distances):
            around[distance.tail].append(index)
            around[distance.head].append(index)
        grown: set[int] = set()
        self._grow(count - 1, grown, around)
        while len(grown) < count:
            leaving = [i for i, d in enumerate(self.distances) if (d.tail in grown) != (d.head in grown)]
            chosen = min(leaving, key=lambda i: (self.slack(i), i))
            distance, slack = self.distances[chosen], self.slack(chosen)
            self._move(grown, slack if distance.tail in grown else -slack)
            self._grow(distance.tail if distance.tail in grown else distance.head, grown, around)

    def _grow(self, start: int, grown: set[int], around: list[list[int]]) -> None:
        grown.add(start)
        stack = [start]
        while stack:
            node = stack.pop()
            for index in around[node]:
                tail, head, _, _ = self.distances[index]
                other = head if tail == node else tail
                if other not in grown and self.slack(index) == 0:
                    grown.add(other)
                    self.touching[node].append(index)
                    self.touching[other].append(index)
                    stack.append(other)

    def improve(self) -> bool:
        """Lengthen the distance of the tree that gains most, until another one is tight and takes its place."""
        cuts = self._cuts()
        node = min(cuts, key=lambda n: (cuts[n][0], n))
        cut, leaving = cuts[node]
        if cut >= 0:
            return False
        under = self._under(node, leaving)
        away = self.distances[leaving].head == node
        chosen = self._limit(under, away)
        self._move(under, self.slack(chosen) if away else -self.slack(chosen))
        for index, change in ((leaving, list.remove), (chosen, list.append)):
            change(self.touching[self.distances[index].tail], index)
            change(self.touching[self.distances[index].head], index)
        return True

    def centre(self, centred: set[int]) -> None:
        """Lengthen what costs nothing half as far as it may be, where both sides hold some of those."""
        for node, (cut, index) in self._cuts().items():
            if cut or not centred:
                continue
            under = self._under(node, index)
            away = self.distances[index].head == node
            limit = self._limit(under, away)
            if under & centred and centred - under and limit >= 0:
                self._move(under, self.slack(limit) // 2 * (1 if away else -1))

    def _limit(self, under: set[int], away: bool) -> int:
        """The distance that is tight first when all of `under` grows (`away`) or shrinks; -1 when there is none."""
        closing = [
            i for i, d in enumerate(self.distances) if (d.tail in under) is away and (d.head in under) is not away
        ]
        return min(closing, key=lambda i: (self.slack(i), i), default=-1)

    def _move(self, nodes: set[int], shift: int) -> None:
        for node in nodes:
            self.values[node] += shift

    def _cuts(self) -> dict[int, tuple[int, int]]:
        """By node: what the sum grows by with the distance of the tree above it, and that distance."""
        order, above, sums = self._walk()
        return {n: (sums[n] if self.distances[above[n]].tail == n else -sums[n], above[n]) for n in order[1:]}

    def _walk(self) -> tuple[list[int], dict[int, int], list[int]]:
        """(nodes from the root on, the tree's distance above each, sums of the balances below each)."""
        root = len(self.values) - 1
        order, above = [root], {root: -1}
        for node in order:
            for index in self.touching[node]:
                tail, head, _, _ = self.distances[index]
                other = head if tail == node else tail
                if other not in above:
                    above[other] = index
                    order.append(other)
        sums = list(self.balance)
        for node in reversed(order[1:]):
            tail, head, _, _ = self.distances[above[node]]
            sums[head if tail == node else tail] += sums[node]
        return order, above, sums

    def _under(self, node: int, barred: int) -> set[int]:
        """The nodes on one side of a distance of the tree."""
        found, stack = {node}, [node]
        while stack:
            here = stack.pop()
            for index in self.touching[here]:
                tail, head, _, _ = self.distances[index]
                other = head if tail == here else tail
                if index != barred and other not in found:
                    found.add(other)
                    stack.append(other)
        return found


def _smallest(count: int, distances: list[Distance]) -> list[int]:
    """The smallest values from 0 on that keep the distances."""
    leaving: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for tail, head, least, _ in distances:
        leaving[tail].append((head, least))
    values = [0] * count
    for node in topological(count, [(d.tail, d.head) for d in distances]):
        for head, least in leaving[node]:
            values[head] = max(values[head], values[node] + least)
    return values
