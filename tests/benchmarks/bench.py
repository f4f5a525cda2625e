"""Programs through `trainer fit`, beside Keras on its three backends, Lightning, skorch and a plain PyTorch loop.

    python tests/benchmarks/bench.py --data FOLDER --peer-python OTHER/bin/python   # every row, every peer
    python tests/benchmarks/bench.py --rows digits --epochs 2 --rounds 1            # bundled data, in short

The contestants take turns, several rounds; a figure is the median over rounds of the median epoch (the first is left
out), and of the whole process from start to exit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from processes import TRAINER, Done, fit, machine, run, script
from rows import ROWS, Row, steps
from tables import epochs_table, process_table

Figures = dict[str, float]


class Bench:
    """What all rows share."""

    def __init__(self, data: Path | None, peer_python: str, peers: Sequence[str] | None, scratch: Path):
        self.data, self.python, self.scratch, self.machine = data, peer_python, scratch, ""
        found = script("peers.py", "--list", python=peer_python).last()
        if missing := [name for name in peers or () if name not in found]:
            raise SystemExit(f"{peer_python} has no {', '.join(missing)}; it has {', '.join(found)}")
        self.versions: dict[str, str] = {name: v for name, v in found.items() if peers is None or name in peers}

    def folder(self, row: Row) -> Path | None:
        """Where a row's data are; those that are drawn are made now."""
        if not row.drawn:
            return self.data
        kind, *more = row.drawn
        script("drawn.py", kind, str(self.scratch / f"{kind}.npz"), *more)
        return self.scratch

    def measure(self, name: str, rounds: int, epochs: int | None) -> dict[str, Figures]:
        """Medians for everyone."""
        row, arrays = ROWS[name], self.scratch / f"{name}-arrays.npz"
        folder, count = self.folder(row), epochs or row.epochs
        rows = script("arrays.py", name, str(arrays), *(["--data", str(folder)] if folder else [])).last()["rows"]
        found: dict[str, list[Figures]] = {}
        for _ in range(rounds):
            found.setdefault("trainer", []).append(self.ours(row, count, folder))
            for peer in self.versions:
                done = script(
                    "peers.py", peer, name, "--arrays", str(arrays), "--epochs", str(count), python=self.python
                )
                found.setdefault(peer, []).append(figures(done, done.last()))
        arrays.unlink()
        same_models(name, found)
        result = {who: {k: statistics.median(r[k] for r in all_) for k in all_[0]} for who, all_ in found.items()}
        for each in result.values():
            each["step_us"] = 1e3 * each["epoch_ms"] / steps(row, rows)
        if row.floor:
            result["floor"] = script("floor.py", name, "--rows", str(rows)).last()
        return result

    def ours(self, row: Row, epochs: int, data: Path | None) -> Figures:
        """A run through the command line.

        run.json has no times of folds: an epoch of all folds is what a longer run takes more than a shorter one.
        """
        done, record = fit(row.recipe, epochs, row.sets, data)
        self.machine, told = machine(record), record["figures"]
        if not row.folds:
            known = {"epoch_seconds": record["epoch_seconds"], "parameters": told["parameters"]}
            return figures(done, {**known, "loss": told["history.loss.last"]})
        longer = fit(row.recipe, epochs * (1 + row.timing), row.sets, data)[1]
        epoch = (longer["seconds"] - record["seconds"]) / (epochs * row.timing)
        return {"epoch_ms": 1e3 * epoch, "wall_s": done.seconds, "peak_mb": done.peak / 1e6}


def figures(done: Done, told: dict[str, Any]) -> Figures:
    """What is kept of a run."""
    kept = {"epoch_ms": 1e3 * statistics.median(told["epoch_seconds"][1:]), "wall_s": done.seconds}
    return kept | {"peak_mb": done.peak / 1e6, "parameters": told["parameters"], "loss": told["loss"]}


def same_models(name: str, found: dict[str, list[Figures]]) -> None:
    """Stop when someone trained a model of another size."""
    sizes = {who: runs[0]["parameters"] for who, runs in found.items() if "parameters" in runs[0]}
    if len(set(sizes.values())) > 1:
        raise SystemExit(f"{name}: the models have unequal numbers of parameters: {sizes}")


def start_up(rounds: int, bench: Bench) -> Figures:
    """Seconds of commands that train nothing, of the first step of a small recipe, of reading a file of 100 MB, and of
    `import torch`, which the last two do."""
    data = bench.data
    commands = {
        "help_s": [*TRAINER, "--help"],
        "validate_s": [*TRAINER, "validate", "recipes/mnist_cnn.yaml"],
        "import_torch_alone_s": [sys.executable, "-c", "import torch"],
    }
    if data:
        commands["first_step_s"] = [*TRAINER, "fit", "recipes/pima.yaml", "--dry-run", "--data", str(data)]
    if any(peer.startswith("keras") for peer in bench.versions):
        model = str(bench.scratch / "model.keras")
        script("model_file.py", model, python=bench.python)
        commands["import_of_100_MB_s"] = [*TRAINER, "import", model, "--runs", str(bench.scratch / "runs")]
    taken = [{name: run(command).seconds for name, command in commands.items()} for _ in range(rounds)]
    return {name: statistics.median(each[name] for each in taken) for name in commands}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="At least 2; by default each row its own.")
    parser.add_argument("--data", type=Path, default=os.environ.get("TRAINER_DATA") or None)
    parser.add_argument("--peer-python", default=sys.executable, help="The interpreter that has the peers.")
    parser.add_argument("--peers", nargs="*", help="Only these; by default all that it has.")
    parser.add_argument("--json", type=Path, help="Also write the results here.")
    asked = parser.parse_args()
    if asked.epochs is not None and asked.epochs < 2:
        parser.error("--epochs: the first epoch is left out, so there must be 2")
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(asked.data, asked.peer_python, asked.peers, Path(scratch))
        for name in asked.rows:
            results[name] = bench.measure(name, asked.rounds, asked.epochs)
            print(name, json.dumps(results[name]), file=sys.stderr, flush=True)
        starts = start_up(asked.rounds, bench)
    print(epochs_table(results), process_table(results), sep="\n\n")
    told = ", ".join(f"{name.removesuffix('_s').replace('_', ' ')} {value:.2f} s" for name, value in starts.items())
    versions = "; ".join(f"{name}: {version}" for name, version in bench.versions.items())
    print(f"\nStart: {told}. {bench.machine}. {asked.rounds} rounds. {versions}.")
    if asked.json:
        kept = {
            "machine": bench.machine,
            "peers": bench.versions,
            "rounds": asked.rounds,
            "rows": results,
            "start": starts,
        }
        asked.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
