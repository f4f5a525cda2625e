"""Trainings that run at once: what each takes, beside one that is alone on the machine.

    python tests/benchmarks/at_once.py --data FOLDER
    python tests/benchmarks/at_once.py --rows digits --rounds 1    # bundled data

Each row through `trainer fit`, alone and then several times at once, with and without giving way to each other
(`TRAINER_WITHOUT=crowd`). Where they share the processors fairly, two take twice as long as one.
"""

from __future__ import annotations

import argparse
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from processes import fit, machine
from rows import ROWS, Row
from tables import amount, markdown

from trainer.switches import VARIABLE

WAYS = {"giving way": {}, "not": {VARIABLE: "crowd"}}


def measure(row: Row, count: int, rounds: int, data: Path | None) -> tuple[list[float], str]:
    """Median milliseconds of an epoch: of one alone, and of `count` at once in each of the ways; where."""
    where = ""

    def epoch(environment: dict[str, str]) -> float:
        nonlocal where
        _, record = fit(row.recipe, row.epochs, row.sets, data, environment=environment)
        where = machine(record)
        return 1e3 * statistics.median(record["epoch_seconds"][1:])

    found: list[list[float]] = []
    for _ in range(rounds):
        each = [epoch({})]
        for environment in WAYS.values():
            with ThreadPoolExecutor(count) as pool:
                each.append(statistics.mean(pool.map(epoch, [environment] * count)))
        found.append(each)
    return [statistics.median(column) for column in zip(*found, strict=True)], where


def main() -> None:
    """The command line."""
    rows = [name for name, row in ROWS.items() if not row.drawn and not row.folds]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=rows, choices=rows)
    parser.add_argument("--count", type=int, default=2, help="Trainings at once.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRAINER_DATA") or None)
    asked = parser.parse_args()
    lines, where = [], ""
    for name in asked.rows:
        (alone, *several), where = measure(ROWS[name], asked.count, asked.rounds, asked.data)
        lines.append([name, amount(alone), *(f"{amount(ms)} ({ms / alone:.2f})" for ms in several)])
    print(markdown(["row", "alone: ms an epoch", *(f"{asked.count} at once, {way} (×)" for way in WAYS)], lines))
    print(f"\n{where}. {asked.rounds} rounds.")


if __name__ == "__main__":
    main()
