"""Each seed program through `trainer fit`, beside real Keras on torch and a plain PyTorch loop, in one session.

    python tests/benchmarks/bench.py --data FOLDER            # every row; FOLDER holds the large sets
    python tests/benchmarks/bench.py --rows digits --epochs 3 # bundled data only

The contestants take turns, several rounds; a figure is the median over rounds of the median epoch (the first is left
out), and of the whole process from start to exit. Ratios above 1 say how many times faster trainer is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ROWS: dict[str, tuple[str, int, list[str]]] = {
    "digits": ("digits.yaml", 10, ["fit.validation_split=0", "dataset.split={}", "callbacks=[]"]),
    "pima": ("pima.yaml", 20, []),
    "boston": ("boston.yaml", 20, ["fit.kfold=null"]),
    "mnist_mlp": ("fashion_mnist_mlp.yaml", 4, ["fit.validation_split=0"]),
    "mnist_cnn": ("mnist_cnn_5k.yaml", 4, ["fit.validation_split=0"]),
    "imdb": ("imdb.yaml", 4, []),
    "reuters": ("reuters.yaml", 6, ["dataset.split={}"]),
    "imdb_lstm": ("imdb_lstm.yaml", 3, ["fit.validation_split=0"]),
}
PEERS = ("keras", "torch")


def timed(command: list[str], **more: Any) -> tuple[float, str]:
    """(wall seconds, standard output) of a process that must succeed."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **more)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began, done.stdout


def ours(row: str, epochs: int, data: Path | None) -> dict[str, Any]:
    """One run through the command line."""
    recipe, _, sets = ROWS[row]
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "trainer.cli.app", "fit", f"recipes/{recipe}", "--json", "--runs", runs]
        for change in [*sets, f"fit.epochs={epochs}", "expect={}"]:
            command += ["--set", change]
        command += ["--data", str(data)] if data else []
        wall, out = timed(command)
        run = Path(json.loads(out)["result"]["run"])
        return {"wall": wall, **json.loads((run / "run.json").read_text())}


def peer(name: str, row: str, epochs: int, data: Path | None) -> dict[str, Any]:
    """One run of a peer."""
    command = [sys.executable, str(HERE / "peers.py"), name, row, "--epochs", str(epochs)]
    wall, out = timed(command + (["--data", str(data)] if data else []))
    return {"wall": wall, **json.loads(out.strip().splitlines()[-1])}


def measure(row: str, rounds: int, epochs: int | None, data: Path | None) -> dict[str, dict[str, float]]:
    """Median epoch and median process time of everyone, in milliseconds and seconds."""
    count = epochs or ROWS[row][1]
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(rounds):
        found.setdefault("trainer", []).append(ours(row, count, data))
        for name in PEERS:
            found.setdefault(name, []).append(peer(name, row, count, data))
    return {
        name: {
            "epoch_ms": 1e3 * statistics.median(statistics.median(r["epoch_seconds"][1:]) for r in runs),
            "wall_s": statistics.median(r["wall"] for r in runs),
        }
        for name, runs in found.items()
    }


def start_up(rounds: int) -> dict[str, float]:
    """Seconds of `trainer --help` and `trainer validate`."""
    base = [sys.executable, "-m", "trainer.cli.app"]
    help_s = statistics.median(timed([*base, "--help"])[0] for _ in range(rounds))
    check_s = statistics.median(timed([*base, "validate", "recipes/mnist_cnn.yaml"])[0] for _ in range(rounds))
    return {"help_s": help_s, "validate_s": check_s}


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The results as Markdown."""
    lines = [
        "| program | trainer: ms an epoch | Keras (torch) | plain PyTorch | × Keras | × PyTorch "
        "| whole process, s | × Keras | × PyTorch |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row, by in results.items():
        me, keras, eager = by["trainer"], by["keras"], by["torch"]
        epoch = [me["epoch_ms"], keras["epoch_ms"], eager["epoch_ms"]]
        lines.append(
            f"| {row} | {epoch[0]:.1f} | {epoch[1]:.1f} | {epoch[2]:.1f} | {epoch[1] / epoch[0]:.2f} "
            f"| {epoch[2] / epoch[0]:.2f} | {me['wall_s']:.1f} | {keras['wall_s'] / me['wall_s']:.2f} "
            f"| {eager['wall_s'] / me['wall_s']:.2f} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """What the figures were measured on."""
    import torch

    cores = len(os.sched_getaffinity(0))
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{cores} cores ({capability}), Python {platform.python_version()}, torch {torch.__version__}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRAINER_DATA") or None)
    parser.add_argument("--json", type=Path, help="Also write the results here.")
    asked = parser.parse_args()
    results = {}
    for row in asked.rows:
        results[row] = measure(row, asked.rounds, asked.epochs, asked.data)
        print(row, json.dumps(results[row]), file=sys.stderr, flush=True)
    starts = start_up(max(3, asked.rounds))
    print(table(results))
    print(f"\n`trainer --help` {starts['help_s']:.2f} s, `trainer validate` {starts['validate_s']:.2f} s; {machine()}")
    if asked.json:
        asked.json.write_text(json.dumps({"machine": machine(), "rows": results, **starts}, indent=1))


if __name__ == "__main__":
    main()
