"""Layouts: boxes apart, edges that touch their boxes and no other, ranks that grow; by us and by Graphviz."""

from __future__ import annotations

import random
import stat
import time
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from scipy.optimize import linprog

from trainer.errors import EnvironmentFault
from trainer.report import graphviz
from trainer.report.crossings import crossings, ordered
from trainer.report.graphviz import installed, placed_by_dot
from trainer.report.layered import layered, ranks_of
from trainer.report.layout import Arc, Box, Layout, Size, piece
from trainer.report.simplex import Distance, nearest_values

needs_dot = pytest.mark.skipif(not installed(), reason="needs Graphviz's program dot")


def random_graph(seed: int, most: int = 22) -> tuple[list[Size], list[Arc]]:
    """Boxes of all sizes and edges between them, also several between two boxes, and parts without any."""
    draw = random.Random(seed)
    count = draw.randint(1, most)
    sizes = [(2 * draw.randint(20, 160), 2 * draw.randint(10, 60)) for _ in range(count)]
    shuffled = draw.sample(range(count), count)
    pairs = list(combinations(range(count), 2))
    density = draw.choice([0.0, 0.05, 0.1, 0.2])
    arcs = [(shuffled[a], shuffled[b]) for a, b in pairs if draw.random() < density or (b == a + 1 and density)]
    return sizes, arcs + arcs[: draw.choice([0, 0, 2])]


def blocks(count: int) -> tuple[list[Size], list[Arc]]:
    """A residual network of so many blocks, five boxes each."""
    arcs = []
    for block in range(count):
        first = 5 * block
        arcs += [(first + i, first + i + 1) for i in range(5)] + [(first, first + 5)]
    return [(200, 46)] * (5 * count + 1), arcs


def inside(box: Box, x: float, y: float, slack: float) -> bool:
    return box.left + slack < x < box.right - slack and box.top + slack < y < box.bottom - slack


def on_border(box: Box, x: float, y: float) -> bool:
    along = box.left - 0.01 <= x <= box.right + 0.01 and box.top - 0.01 <= y <= box.bottom + 0.01
    return along and min(abs(x - box.left), abs(x - box.right), abs(y - box.top), abs(y - box.bottom)) < 0.06


def check(layout: Layout, sizes: list[Size], arcs: list[Arc], slack: float) -> None:
    """Everything that a drawing must be, whoever made it."""
    assert [(b.width, b.height) for b in layout.boxes] == sizes
    assert len(layout.routes) == len(arcs)
    for a, b in combinations(layout.boxes, 2):
        apart = a.right + 8 <= b.left or b.right + 8 <= a.left or a.bottom + 8 <= b.top or b.bottom + 8 <= a.top
        assert apart, (a, b)
    for box in layout.boxes:
        assert 0 < box.left < box.right < layout.width
        assert 0 < box.top < box.bottom < layout.height
    for (tail, head), route in zip(arcs, layout.routes, strict=True):
        assert on_border(layout.boxes[tail], *route[0])
        assert on_border(layout.boxes[head], *route[-1])
        assert layout.boxes[tail].bottom < layout.boxes[head].top
        assert len(route) % 3 == 1
        points = [piece(route, n, step / 30) for n in range(len(route) // 3) for step in range(31)]
        for x, y in points:
            assert 0 < x < layout.width
            assert 0 < y < layout.height
            assert not [b for b in layout.boxes if inside(b, x, y, slack)], (tail, head, x, y)


@pytest.mark.parametrize("part", range(10))
def test_random_graphs(part: int) -> None:
    for seed in range(30 * part, 30 * part + 30):
        sizes, arcs = random_graph(seed)
        layout = layered(sizes, arcs)
        check(layout, sizes, arcs, 0.0)
        for route in layout.routes:
            assert all(a[1] <= b[1] for a, b in pairwise(route)), "edges run downwards"
        assert layered(sizes, arcs) == layout


def test_a_chain_is_upright() -> None:
    layout = layered([(100, 40), (180, 40), (60, 90)], [(0, 1), (1, 2)])
    assert len({box.x for box in layout.boxes}) == 1
    assert all(len({x for x, _ in route}) == 1 for route in layout.routes)


def test_branches_stand_evenly_under_their_root() -> None:
    layout = layered([(100, 40)] * 6, [(0, n) for n in range(1, 5)] + [(n, 5) for n in range(1, 5)])
    xs = [layout.boxes[n].x for n in range(1, 5)]
    assert layout.boxes[0].x == layout.boxes[5].x == sum(xs) / 4
    assert xs == sorted(xs)
    assert {b - a for a, b in pairwise(xs)} == {128}


def test_the_trunk_of_a_residual_network_is_upright() -> None:
    sizes, arcs = blocks(20)
    started = time.perf_counter()
    layout = layered(sizes, arcs)
    assert time.perf_counter() - started < 5
    assert len(layout.boxes) == 101
    assert len({box.x for box in layout.boxes}) == 1
    skips = [route for arc, route in zip(arcs, layout.routes, strict=True) if arc[1] - arc[0] == 5]
    assert len({max(x for x, _ in route) for route in skips}) == 1, "skips run on one side, in one line"


def test_nested_skips_do_not_cross() -> None:
    count = 9
    arcs = [(n, n + 1) for n in range(count - 1)] + [(n, count - 1 - n) for n in range(3)]
    layout = layered([(100, 40)] * count, arcs)
    assert len({box.x for box in layout.boxes}) == 1
    far = [max(abs(x - layout.boxes[0].x) for x, _ in route) for route in layout.routes[count - 1 :]]
    assert far == sorted(far, reverse=True)
    assert len(set(far)) == 3


def test_edges_between_the_same_boxes_are_told_apart() -> None:
    layout = layered([(100, 40), (100, 40)], [(0, 1)] * 3)
    assert len({route[0] for route in layout.routes}) == 3
    check(layout, [(100, 40)] * 2, [(0, 1)] * 3, 0.0)


def test_nothing_and_one_box() -> None:
    assert layered([], []).boxes == ()
    assert layered([(100, 40)], []).boxes == (Box(66, 36, 100, 40),)


def test_rings_are_refused() -> None:
    with pytest.raises(ValueError, match="without rings, found one through 2 of its nodes"):
        layered([(10, 10)] * 3, [(0, 1), (1, 2), (2, 1)])


def test_ranks_grow_along_edges_and_inputs_stand_near_their_use() -> None:
    for seed in range(100):
        sizes, arcs = random_graph(seed)
        ranks = ranks_of(len(sizes), arcs)
        assert min(ranks) == 0
        assert all(ranks[tail] < ranks[head] for tail, head in arcs)
    assert ranks_of(5, [(0, 1), (1, 2), (2, 4), (3, 4)]) == [0, 1, 2, 2, 3]
    assert ranks_of(4, [(0, 1), (1, 3), (0, 2), (2, 3)]) == [0, 1, 1, 2]


def test_distances_are_the_linear_programs_optimum() -> None:
    for seed in range(40):
        draw = random.Random(seed)
        count = draw.randint(2, 18)
        pairs = [sorted(draw.sample(range(count), 2)) for _ in range(draw.randint(1, 3 * count))]
        distances = [Distance(a, b, draw.randint(0, 5), draw.randint(0, 5)) for a, b in pairs]
        slope = [0.0] * count
        rows = []
        for tail, head, _, weight in distances:
            slope[tail] -= weight
            slope[head] += weight
            rows.append([1.0 if n == tail else -1.0 if n == head else 0.0 for n in range(count)])
        optimum = linprog(slope, rows, [-d.least for d in distances], bounds=[(0, None)] * count).fun
        for centred in ((), range(count)):
            values = nearest_values(count, distances, centred)
            assert min(values) == 0
            assert all(values[d.head] - values[d.tail] >= d.least for d in distances)
            assert sum(d.weight * (values[d.head] - values[d.tail]) for d in distances) == pytest.approx(optimum)


def test_crossings_are_counted_and_taken_away() -> None:
    below = [[4, 5], [3], [5, 3], [], [], []]
    assert crossings([[0, 1, 2], [3, 4, 5]], below) == sum(
        (a - b) * (c - d) < 0 for (a, c), (b, d) in combinations([(0, 4), (0, 5), (1, 3), (2, 5), (2, 3)], 2)
    )
    steps = [(a, b) for a, ends in enumerate(below) for b in ends]
    rows = ordered([0, 0, 0, 1, 1, 1], steps)
    assert sorted(rows[0]) == [0, 1, 2]
    assert crossings(rows, below) == 0


@needs_dot
@pytest.mark.parametrize("part", range(4))
def test_graphviz_places_random_graphs(part: int) -> None:
    for seed in range(10 * part, 10 * part + 10):
        sizes, arcs = random_graph(seed, 14)
        layout = placed_by_dot(sizes, arcs)
        check(layout, sizes, arcs, 1.0)
        assert placed_by_dot(sizes, arcs) == layout


@needs_dot
def test_graphviz_keeps_the_trunk_upright() -> None:
    sizes, arcs = blocks(20)
    layout = placed_by_dot(sizes, arcs)
    check(layout, sizes, arcs, 1.0)
    assert max(b.x for b in layout.boxes) - min(b.x for b in layout.boxes) <= 1


def fake_dot(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of that name, the only one on the PATH."""
    program = folder / "dot"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))


ANSWER = """graph 1 2 4
node 0 1 3.5 1 0.5 "" solid box black lightgrey
node 1 1 0.5 1 0.5 "" solid box black lightgrey
edge 0 1 4 1 3.25 1 2.5 1 1.5 1 0.75 solid black
stop"""


def test_what_dot_answers_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dot(tmp_path, f"while read line; do :; done\necho '{ANSWER}'", monkeypatch)
    layout = placed_by_dot([(72, 36), (72, 36)], [(0, 1)])
    assert layout.boxes == (Box(88, 52, 72, 36), Box(88, 268, 72, 36))
    assert layout.routes == (((88.0, 70.0), (88.0, 124.0), (88.0, 196.0), (88.0, 250.0)),)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'Error: lost in a swamp' >&2; exit 3", "`dot` failed: Error: lost in a swamp"),
        ("exit 3", "`dot` failed: exit code 3"),
        ("echo 'graph 1 2'", "answered what is no layout"),
        (f"echo '{ANSWER.replace('node 1', 'node 7')}'", "answered what is no layout"),
        (f"echo '{ANSWER.replace('edge 0 1 4', 'edge 0 1 3')}'", "answered what is no layout"),
        ("exec /bin/sleep 60", "took more than"),
    ],
)
def test_a_dot_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    fake_dot(tmp_path, script, monkeypatch)
    monkeypatch.setattr(graphviz, "SECONDS", 0.5)
    with pytest.raises(EnvironmentFault, match="dot") as caught:
        placed_by_dot([(72, 36), (72, 36)], [(0, 1)])
    assert said in str(caught.value)
    assert "--layout builtin" in str(caught.value)


def test_without_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not installed()
    with pytest.raises(EnvironmentFault, match="not on the PATH"):
        placed_by_dot([(72, 36)], [])
