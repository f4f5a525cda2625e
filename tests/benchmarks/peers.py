"""One row in another library, under the interpreter that has it; what it took, as JSON.

    python tests/benchmarks/peers.py --list
    python tests/benchmarks/peers.py keras-jax pima --arrays pima.npz --epochs 5
    python tests/benchmarks/peers.py keras-jax pima --arrays pima.npz --judge

The arrays are those of arrays.py.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import sys
from dataclasses import asdict
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peer_data import Data
    from rows import Row

PEERS: dict[str, tuple[str, ...]] = {
    "keras-torch": ("keras", "torch"),
    "keras-jax": ("keras", "jax"),
    "keras-tensorflow": ("keras", "tensorflow"),
    "lightning": ("lightning", "torch"),
    "skorch": ("skorch", "torch"),
    "torch": ("torch",),
}
"What each needs."
LARGE = 1024
"Rows of a large batch."


def installed() -> dict[str, str]:
    """The peers that can run here, each with its versions."""
    found = {name: needs for name, needs in PEERS.items() if all(util.find_spec(need) for need in needs)}
    return {name: ", ".join(f"{need} {version(need)}" for need in needs) for name, needs in found.items()}


def version(package: str) -> str:
    """Of the distribution that holds a package."""
    return metadata.version(metadata.packages_distributions()[package][0])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", nargs="?", choices=list(PEERS))
    parser.add_argument("row", nargs="?")
    parser.add_argument("--arrays", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--judge", action="store_true", help="Evaluate and predict with an untrained model instead.")
    parser.add_argument("--list", action="store_true", help="Say which peers are installed, with versions.")
    asked = parser.parse_args()
    if asked.list:
        print(json.dumps(installed()))
        return
    how = judged if asked.judge else functools.partial(measured, epochs=asked.epochs)
    print(json.dumps(how(asked.peer, asked.row, asked.arrays)))


def opened(peer: str, name: str, arrays: Path) -> tuple[Any, Row, Data]:
    """(the module that knows a peer's tool, the row, its data)"""
    tool, _, backend = peer.partition("-")
    if backend:
        os.environ["KERAS_BACKEND"] = backend
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from peer_data import read
    from rows import ROWS

    return importlib.import_module(f"with_{tool}"), ROWS[name], read(ROWS[name], arrays)


def judged(peer: str, name: str, arrays: Path) -> dict[str, float]:
    """Milliseconds of evaluating and of predicting the training rows, by the batch size that is the fastest."""
    module, row, data = opened(peer, name, arrays)
    found = [module.judged(row, data, size) for size in (row.batch, LARGE)]
    return {figure: min(each[figure] for each in found) for figure in found[0]}


def measured(peer: str, name: str, arrays: Path, epochs: int) -> dict[str, object]:
    """Train a row, all its folds one after the other; the seconds of an epoch are then those of all folds."""
    module, row, data = opened(peer, name, arrays)
    results = [module.train(row, part, epochs) for part in (data.folds(row.folds) if row.folds else [data])]
    seconds = [sum(parts) for parts in zip(*(r.epoch_seconds for r in results), strict=True)]
    return {**asdict(results[-1]), "epoch_seconds": seconds}


if __name__ == "__main__":
    sys.exit(main())
