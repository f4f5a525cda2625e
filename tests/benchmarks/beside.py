"""What runs spend beside their steps: callbacks, checkpoints and progress, as shares of the whole process.

    python tests/benchmarks/beside.py --data FOLDER
    python tests/benchmarks/beside.py --rows digits --rounds 1    # bundled data

Each row through `trainer fit --profile`, with a ModelCheckpoint of the best epoch, a CSVLogger and an EarlyStopping
that never comes. `loop` is what the loop itself takes, the history among it; its part of the clock's own work is in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

from processes import fit, machine
from rows import ROWS, Row
from tables import amount, markdown

BEST = "ModelCheckpoint: {filepath: best.h5, monitor: loss, save_best_only: true}"
NEVER = "EarlyStopping: {monitor: loss, patience: 1000}"
CALLBACKS = f"callbacks=[{{{BEST}}}, {{{NEVER}}}, {{CSVLogger: {{filename: log.csv}}}}]"
PARTS = ("callbacks", "checkpoint", "progress", "loop")


def measure(row: Row, rounds: int, data: Path | None) -> tuple[dict[str, float], str]:
    """Median milliseconds of each part and of the process; where."""
    found: list[dict[str, float]] = []
    where = ""
    for _ in range(rounds):
        done, record = fit(row.recipe, row.epochs, (*row.sets, CALLBACKS), data, more=["--profile"])
        parts: dict[str, Any] = json.loads(done.out)["result"]["profile"]["parts"]
        found.append({"process": 1e3 * done.seconds, **{part: 1e3 * parts[part]["seconds"] for part in PARTS}})
        where = machine(record)
    return {name: statistics.median(each[name] for each in found) for name in found[0]}, where


def table(results: dict[str, dict[str, float]]) -> str:
    """Milliseconds, and the shares of the process."""
    head = ["row", "process, ms", *(f"{part}, ms" for part in PARTS), "first three, %", "all four, %"]
    lines = []
    for name, by in results.items():
        shares = [sum(by[part] for part in parts) / by["process"] for parts in (PARTS[:-1], PARTS)]
        lines.append([name, *map(amount, by.values()), *(f"{100 * share:.1f}" for share in shares)])
    return markdown(head, lines)


def main() -> None:
    """The command line."""
    rows = [name for name, row in ROWS.items() if not row.drawn and not row.folds]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=rows, choices=rows)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRAINER_DATA") or None)
    asked = parser.parse_args()
    results, where = {}, ""
    for name in asked.rows:
        results[name], where = measure(ROWS[name], asked.rounds, asked.data)
    print(table(results))
    print(f"\n{where}. {asked.rounds} rounds.")


if __name__ == "__main__":
    main()
