"""The benchmark's results as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

Figures = dict[str, float]
Results = dict[str, dict[str, Figures]]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def amount(value: float) -> str:
    """Three digits that matter, and whole numbers above."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def peers_of(results: Results) -> list[str]:
    """Everyone but us, in the order in which they came."""
    names = dict.fromkeys(who for by in results.values() for who in by)
    return [who for who in names if who not in ("trainer", "floor")]


def epochs_table(results: Results) -> str:
    """Our milliseconds an epoch and microseconds a step; the others' milliseconds an epoch; the ratios."""
    peers = peers_of(results)
    head = ["row", "trainer: ms an epoch", "µs a step", "× floor", *(f"{p}, ms" for p in peers), "fastest peer, ×"]
    rows = []
    for name, by in results.items():
        mine = by["trainer"]["epoch_ms"]
        floor = f"{mine / by['floor']['epoch_ms']:.2f}" if "floor" in by else "–"
        rest = [amount(by[p]["epoch_ms"]) for p in peers]
        rows.append([name, amount(mine), amount(by["trainer"]["step_us"]), floor, *rest, fastest(by, "epoch_ms")])
    return markdown(head, rows)


def process_table(results: Results) -> str:
    """Whole processes: seconds and peak memory of everyone."""
    peers = peers_of(results)
    head = ["row", "trainer: s, MB", *(f"{p}: s, MB" for p in peers), "fastest peer, ×", "leanest peer, ×"]
    rows = [
        [
            name,
            *(f"{by[who]['wall_s']:.1f}, {by[who]['peak_mb']:,.0f}" for who in ["trainer", *peers]),
            fastest(by, "wall_s"),
            fastest(by, "peak_mb"),
        ]
        for name, by in results.items()
    ]
    return markdown(head, rows)


def fastest(by: dict[str, Figures], figure: str) -> str:
    """The best of the others: who, and how many times what we take."""
    others = {who: found[figure] for who, found in by.items() if who not in ("trainer", "floor")}
    if not others:
        return "–"
    best = min(others, key=lambda who: others[who])
    return f"{best} {others[best] / by['trainer'][figure]:.2f}"
