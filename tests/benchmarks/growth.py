"""How time and memory of `trainer fit` grow with rows, width, depth, batch size and classes, on drawn tables.

    python tests/benchmarks/growth.py --json growth.json --plot growth.png
    python tests/benchmarks/growth.py --curves rows=1000,2000 --features 8     # other points, in short

Each point is a run through the command line, after one that is not measured. Its time is the median epoch after the
first; its memory the peak of the process less that of one that only imports. `law` is that memory divided by the bytes
of the data, three times those of the weights (weights, gradients, RMSprop's slot) and those of a batch through all
layers; `beyond` the same without what the smallest run takes. `exponent` is the slope between a point and the one
before it when both axes are logarithmic: 1 is linear growth, 0 none.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from processes import fit, machine, run, script
from tables import amount, markdown

IMPORTS = "import trainer.cli.app, trainer.train.job, trainer.report.page"
"What a run loads that finds the layout of its model file; pictures are drawn by another process."


@dataclass(frozen=True)
class Point:
    """A dense network on a table."""

    rows: int = 10_000
    width: int = 64
    depth: int = 2
    batch: int = 100
    classes: int = 10
    features: int = 32

    def recipe(self) -> dict[str, Any]:
        """As YAML would hold it."""
        hidden = [{"Dense": {"units": self.width, "activation": "relu"}}] * self.depth
        return {
            "name": "growth",
            "seed": 0,
            "dataset": {"source": {"npz": {"path": "table.npz"}}, "inputs": {"x": {}}, "targets": {"y": {}}},
            "model": {"layers": [*hidden, {"Dense": {"units": self.classes, "activation": "softmax"}}]},
            "compile": {"optimizer": "rmsprop", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]},
            "fit": {"epochs": 2, "batch_size": self.batch},
        }

    def weights(self) -> int:
        """Numbers that are trained."""
        widths = [self.features, *[self.width] * self.depth, self.classes]
        return sum(a * b + b for a, b in itertools.pairwise(widths))

    def batch_bytes(self) -> int:
        """A batch and what every layer makes of it."""
        return 4 * self.batch * (self.features + self.depth * self.width + self.classes)


CURVES: dict[str, tuple[int, ...]] = {
    "rows": (1_000, 10_000, 100_000, 1_000_000),
    "width": (16, 64, 256, 1024, 2048),
    "depth": (1, 2, 4, 8, 16, 32),
    "batch": (1, 10, 100, 1_000, 10_000),
    "classes": (2, 10, 100, 1_000, 10_000),
}


SMALLEST = Point(rows=8, width=1, depth=1, batch=8, classes=2, features=1)


def measure(point: Point, epochs: int, rounds: int, imports: int, fixed: float = 0.0) -> tuple[dict[str, float], str]:
    """Milliseconds of an epoch, megabytes above the imports, the law's ratio, also without `fixed` MB, and whether
    steps are compiled code; where."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = [f"--{name}={getattr(point, name)}" for name in ("rows", "features", "classes")]
        data = script("drawn.py", "table", f"{folder}/table.npz", *sizes).last()["bytes"]
        recipe = Path(folder) / "growth.yaml"
        recipe.write_text(json.dumps(point.recipe()))
        # The first one may compile its steps and load HDF5; what they come to is kept.
        runs = [fit(str(recipe), epochs, data=Path(folder)) for _ in range(1 + rounds)][1:]
    parameters = runs[0][1]["figures"]["parameters"]
    if parameters != point.weights():
        raise SystemExit(f"{point} has {parameters} weights, expected {point.weights()}")
    seconds = statistics.median(statistics.median(record["epoch_seconds"][1:]) for _, record in runs)
    peak = statistics.median(done.peak for done, _ in runs) - imports
    allowed = data + 3 * 4 * point.weights() + point.batch_bytes()
    found = {"epoch_ms": 1e3 * seconds, "peak_mb": peak / 1e6, "allowed_mb": allowed / 1e6, "law": peak / allowed}
    found["beyond"] = (peak - 1e6 * fixed) / allowed
    return {**found, "compiled": float(runs[0][1]["steps_by"] == "compiled code")}, machine(runs[0][1])


def slope(before: tuple[float, float], here: tuple[float, float]) -> float:
    """The local exponent between two (x, y); not a number where a logarithm is none."""
    if min(*before, *here) <= 0:
        return math.nan
    return math.log(here[1] / before[1]) / math.log(here[0] / before[0])


def exponents(points: Mapping[int, Mapping[str, float]], figure: str) -> list[float]:
    """Of each point but the first."""
    along = [(float(x), found[figure]) for x, found in points.items()]
    return [slope(a, b) for a, b in itertools.pairwise(along)]


def table(name: str, points: Mapping[int, Mapping[str, float]]) -> str:
    """A curve as Markdown."""
    head = [name, "ms an epoch", "exponent", "MB above imports", "exponent", "data + 3 × weights + batch, MB"]
    head += ["law", "beyond", "compiled"]
    times, peaks = (["–", *(f"{e:.2f}" for e in exponents(points, key))] for key in ("epoch_ms", "peak_mb"))
    rows = [
        [
            *(f"{x:,}", amount(p["epoch_ms"]), time, amount(p["peak_mb"]), peak, amount(p["allowed_mb"])),
            *(f"{p[key]:.2f}" for key in ("law", "beyond")),
            "yes" if p["compiled"] else "no",
        ]
        for (x, p), time, peak in zip(points.items(), times, peaks, strict=True)
    ]
    return markdown(head, rows)


def plot(curves: Mapping[str, Mapping[int, Mapping[str, float]]], path: Path) -> None:
    """Time and memory of every curve, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(curves), 7), layout="constrained")
    axes = figure.subplots(2, len(curves), squeeze=False)
    for column, (name, points) in enumerate(curves.items()):
        for line, (key, words) in enumerate([("epoch_ms", "ms an epoch"), ("peak_mb", "MB above imports")]):
            ax = axes[line][column]
            ax.loglog(list(points), [p[key] for p in points.values()], "o-", label=words)
            if key == "peak_mb":
                ax.loglog(list(points), [p["allowed_mb"] for p in points.values()], "--", label="the law")
            ax.set(xlabel=name, ylabel=words)
            ax.grid(alpha=0.3)
    axes[1][0].legend()
    figure.savefig(path, dpi=100)


def curve(text: str) -> tuple[str, tuple[int, ...]]:
    """`rows`, or `rows=1000,2000`."""
    name, _, points = text.partition("=")
    if name not in CURVES:
        raise argparse.ArgumentTypeError(f"no curve {name}; there are {', '.join(CURVES)}")
    return name, tuple(int(p) for p in points.split(",")) if points else CURVES[name]


def measured(curves: Sequence[tuple[str, Sequence[int]]], base: Point, asked: argparse.Namespace) -> dict[str, Any]:
    """Everything that is shown."""
    imports = run([sys.executable, "-c", IMPORTS]).peak
    smallest, where = measure(SMALLEST, 2, 1, imports)
    fixed = smallest["peak_mb"]
    found: dict[str, dict[int, dict[str, float]]] = {}
    for name, points in curves:
        for x in points:
            figures, _ = measure(replace(base, **{name: x}), asked.epochs, asked.rounds, imports, fixed)
            found.setdefault(name, {})[x] = figures
            print(name, x, json.dumps(figures), file=sys.stderr, flush=True)
    return {
        "machine": where,
        "imports_mb": imports / 1e6,
        "smallest_mb": fixed,
        "base": vars(base),
        "curves": found,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", nargs="*", type=curve, default=list(CURVES.items()), metavar="NAME[=X,X,…]")
    parser.add_argument("--features", type=int, default=Point.features)
    parser.add_argument("--epochs", type=int, default=4, help="At least 2; the first is left out.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="Also write the results here.")
    parser.add_argument("--plot", type=Path, help="Draw the curves into this PNG file.")
    asked = parser.parse_args()
    if asked.epochs < 2:
        parser.error("--epochs: the first epoch is left out, so there must be 2")
    results = measured(asked.curves, Point(features=asked.features), asked)
    for name, points in results["curves"].items():
        print(table(name, points), end="\n\n")
    memory = f"imports {results['imports_mb']:.0f} MB, the smallest run {results['smallest_mb']:.0f} MB above them"
    print(f"Elsewhere: {json.dumps(results['base'])}; {memory}; {results['machine']}")
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1))
    if asked.plot:
        plot(results["curves"], asked.plot)


if __name__ == "__main__":
    main()
