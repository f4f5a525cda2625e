"""Places and routes by Graphviz's `dot`, where that program is installed.

It is handed sizes and numbers only, no text of anybody's. https://graphviz.org/docs/outputs/plain/
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence

from trainer.errors import EnvironmentFault
from trainer.report.layered import FEW, ranks_of
from trainer.report.layout import MARGIN, NODE_GAP, RANK_GAP, Arc, Box, Layout, Point, Size

PROGRAM = "dot"
SECONDS = 30.0
INCH = 72.0
TRUNK_WEIGHT = 20
HINT = "--layout builtin draws without it"


def installed() -> bool:
    """Whether `dot` is on the PATH."""
    return shutil.which(PROGRAM) is not None


def placed_by_dot(sizes: Sequence[Size], arcs: Sequence[Arc]) -> Layout:
    """Place boxes of given sizes (width, height) as `dot` does.

    Raises:
        EnvironmentFault: there is no such program, it fails, it takes too long, or it answers what can't be.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        hint = f"install Graphviz, or {HINT}"
        raise EnvironmentFault("Graphviz's program `dot` is not on the PATH", hint=hint, code="graphviz")
    try:
        done = subprocess.run(
            [program, "-Tplain"], input=_question(sizes, arcs), capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFault(f"`dot` took more than {SECONDS:.0f} s", hint=HINT, code="graphviz") from None
    except OSError as error:
        raise EnvironmentFault(f"{program} can't be run: {error.strerror}", hint=HINT, code="graphviz") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().split("\n")[0]
        raise EnvironmentFault(f"`dot` failed: {said or f'exit code {done.returncode}'}", hint=HINT, code="graphviz")
    try:
        return _answer(done.stdout.decode(), sizes, arcs)
    except (ValueError, IndexError, KeyError):
        raise EnvironmentFault("`dot` answered what is no layout of the graph", hint=HINT, code="graphviz") from None


def _question(sizes: Sequence[Size], arcs: Sequence[Arc]) -> bytes:
    lines = [
        "digraph {",
        f"graph [rankdir=TB, nodesep={NODE_GAP / INCH:.4f}, ranksep={1.4 * RANK_GAP / INCH:.4f}]",
        'node [shape=box, fixedsize=true, label=""]',
        "edge [dir=none]",
    ]
    lines += [f"{n} [width={w / INCH:.6f}, height={h / INCH:.6f}]" for n, (w, h) in enumerate(sizes)]
    lines += [f"{tail} -> {head} [weight={weight}]" for (tail, head), weight in zip(arcs, _weights(arcs), strict=True)]
    return "\n".join([*lines, "}"]).encode()


def _weights(arcs: Sequence[Arc]) -> list[int]:
    """How straight each edge wants to be: those of the trunk more than those that skip it."""
    out, into = Counter(tail for tail, _ in arcs), Counter(head for _, head in arcs)
    ranks = ranks_of(1 + max(map(max, arcs), default=0), arcs)
    short = [ranks[head] - ranks[tail] == 1 for tail, head in arcs]
    few = [max(out[tail], into[head]) <= FEW for tail, head in arcs]
    return [TRUNK_WEIGHT if a and b else 1 for a, b in zip(short, few, strict=True)]


def _answer(text: str, sizes: Sequence[Size], arcs: Sequence[Arc]) -> Layout:
    """What `dot -Tplain` says, in points, with y downwards and routes that end exactly at their boxes."""
    words = [line.split() for line in text.splitlines()]
    (graph,) = [w for w in words if w[:1] == ["graph"]]
    height = float(graph[3]) * INCH

    def point(x: str, y: str) -> Point:
        return float(x) * INCH + MARGIN, height - float(y) * INCH + MARGIN

    found = {int(w[1]): point(w[2], w[3]) for w in words if w[:1] == ["node"]}
    boxes = tuple(Box(round(found[n][0]), round(found[n][1]), *size) for n, size in enumerate(sizes))
    routes: dict[Arc, list[list[Point]]] = {}
    for w in words:
        if w[:1] == ["edge"]:
            count = int(w[3])
            numbers = w[4 : 4 + 2 * count]
            if count % 3 != 1 or count < 4:
                raise ValueError("expected pieces of four points")
            points = [point(x, y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
            routes.setdefault((int(w[1]), int(w[2])), []).append(points)
    joined = []
    for tail, head in arcs:
        route = routes[tail, head].pop(0)
        route[0], route[-1] = boxes[tail].nearest(route[0]), boxes[head].nearest(route[-1])
        joined.append(tuple((round(x, 1), round(y, 1)) for x, y in route))
    corners = [p for route in joined for p in route]
    right = max([b.right for b in boxes] + [x for x, _ in corners])
    bottom = max([b.bottom for b in boxes] + [y for _, y in corners])
    return Layout(round(right + MARGIN), round(bottom + MARGIN), boxes, tuple(joined))
