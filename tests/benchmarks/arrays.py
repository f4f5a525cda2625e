"""The raw columns of a row's data set as an .npz file that the peers read: x and y, and x_test and y_test.

python tests/benchmarks/arrays.py pima pima.npz --data FOLDER
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rows import ROWS

from trainer.recipe.load import load_recipe
from trainer.sources.base import Places
from trainer.sources.columns import Ragged

ROOT = Path(__file__).resolve().parents[2]


def columns(fields: Mapping[str, Any]) -> tuple[Any, np.ndarray]:
    """Inputs and target: the last column, by the columns before it."""
    *inputs, target = fields.values()
    return (inputs[0] if len(inputs) == 1 else np.stack(inputs, 1)), np.asarray(target)


def named(x: Any, y: np.ndarray, suffix: str) -> dict[str, np.ndarray]:
    """The arrays as they are stored; sequences of unequal length lie end to end."""
    if isinstance(x, Ragged):
        return {f"x{suffix}": x.values, f"offsets{suffix}": x.offsets, f"y{suffix}": y}
    return {f"x{suffix}": np.asarray(x), f"y{suffix}": y}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("row", choices=list(ROWS))
    parser.add_argument("path", type=Path)
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    row = ROWS[asked.row]
    source = load_recipe(ROOT / row.recipe, [*row.sets, "expect={}"]).recipe.dataset.source
    table = source.open(Places(None, asked.data))
    stored = named(*columns(table.train.columns), "")
    if table.test is not None:
        stored |= named(*columns(table.test.columns), "_test")
    np.savez(asked.path, **stored)
    print(json.dumps({"rows": len(stored["y"])}))


if __name__ == "__main__":
    main()
