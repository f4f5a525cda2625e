"""Evaluating and predicting rows with a model at hand, beside Keras on its three backends and plain PyTorch.

    python tests/benchmarks/judging.py --data FOLDER --peer-python OTHER/bin/python
    python tests/benchmarks/judging.py --rows digits    # bundled data

All training rows of a program: loss and metric, then the outputs alone. We choose how many rows go through at a time;
the peers are asked once with the program's batch size and once with 1,024, and the faster counts. They take turns; a
figure is the median over rounds of the median of three calls after one that counts for nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from bench import Bench
from processes import TRAINER, run, script
from rows import ROWS
from tables import amount, fastest, markdown, peers_of

PEERS = ("keras-torch", "keras-jax", "keras-tensorflow", "torch")
TABLES = {"evaluate_ms": "evaluating", "predict_ms": "predicting"}


def measure(bench: Bench, name: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of everyone; our run is trained for an epoch beforehand."""
    row, arrays, runs = ROWS[name], bench.scratch / f"{name}-arrays.npz", bench.scratch / "runs"
    folder = bench.folder(row)
    where = ["--data", str(folder)] if folder else []
    sets = [word for change in (*row.sets, "fit.epochs=1", "expect={}") for word in ("--set", change)]
    told = run([*TRAINER, "fit", row.recipe, "--json", "--runs", str(runs), *sets, *where]).out
    script("arrays.py", name, str(arrays), *where)
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        found.setdefault("trainer", []).append(script("judged.py", json.loads(told)["result"]["run"], *where).last())
        for peer in bench.versions:
            asked = ["peers.py", peer, name, "--arrays", str(arrays), "--judge"]
            found.setdefault(peer, []).append(script(*asked, python=bench.python).last())
    arrays.unlink()
    return {who: {f: statistics.median(r[f] for r in all_) for f in TABLES} for who, all_ in found.items()}


def table(results: dict[str, dict[str, dict[str, float]]], figure: str) -> str:
    """Milliseconds of everyone, and the ratio to the fastest peer."""
    peers = peers_of(results)
    head = [TABLES[figure], "trainer, ms", *(f"{peer}, ms" for peer in peers), "fastest peer, ×"]
    lines = [
        [name, *(amount(by[who][figure]) for who in ("trainer", *peers)), fastest(by, figure)]
        for name, by in results.items()
    ]
    return markdown(head, lines)


def main() -> None:
    """The command line."""
    rows = [name for name, row in ROWS.items() if not row.folds]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=rows, choices=rows)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRAINER_DATA") or None)
    parser.add_argument("--peer-python", default=sys.executable, help="The interpreter that has the peers.")
    parser.add_argument("--peers", nargs="*", choices=PEERS, help="By default those of them that it has.")
    parser.add_argument("--json", type=Path, help="Write the figures there too.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(asked.data, asked.peer_python, asked.peers, Path(scratch))
        bench.versions = {name: version for name, version in bench.versions.items() if name in PEERS}
        results = {name: measure(bench, name, asked.rounds) for name in asked.rows}
    print("\n\n".join(table(results, figure) for figure in TABLES))
    if asked.json:
        asked.json.write_text(json.dumps({"peers": bench.versions, "rows": results}, indent=1))


if __name__ == "__main__":
    main()
