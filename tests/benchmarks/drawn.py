"""Data sets made by drawing, of any size: pictures or tables whose classes can be learned.

    python tests/benchmarks/drawn.py pictures FOLDER/pictures.npz --rows 2000
    python tests/benchmarks/drawn.py table FOLDER/table.npz --rows 1000 --features 32 --classes 10

Prints rows and bytes as JSON. It runs in a process of its own, because a process inherits the peak memory of the one
that starts it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np


def pictures(rows: int, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Colour pictures of 32 x 32 bytes: the pattern of a class under noise; and the classes."""
    draw = np.random.default_rng(0)
    patterns = draw.integers(60, 196, (classes, 32, 32, 3))
    labels = draw.integers(0, classes, rows)
    noise = draw.normal(0, 60, (rows, 32, 32, 3))
    return np.clip(patterns[labels] + noise, 0, 255).astype("uint8"), labels.astype("int64")


def table(rows: int, features: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers around the centre of a class; and the classes."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(classes, features)).astype("float32")
    labels = draw.integers(0, classes, rows)
    x = draw.standard_normal((rows, features), dtype="float32")
    x += centres[labels]
    return x, labels.astype("int64")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["pictures", "table"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--classes", type=int, default=10)
    asked = parser.parse_args()
    x, y = pictures(asked.rows) if asked.kind == "pictures" else table(asked.rows, asked.features, asked.classes)
    np.savez(asked.path, x=x, y=y)
    print(json.dumps({"rows": len(x), "bytes": x.nbytes + y.nbytes}))


if __name__ == "__main__":
    main()
