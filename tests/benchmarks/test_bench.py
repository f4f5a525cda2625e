"""The benchmark runs, in short: tables and JSON come out. Times are not judged here."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.recipe.load import load_recipe

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def shown(script: str, *arguments: str) -> str:
    """Standard output of a script of this folder."""
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A way to import the scripts, which find each other beside themselves."""
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module


def test_bench(tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    asked = ["--rows", "digits", "--epochs", "2", "--rounds", "1", "--peers", "torch", "--json", str(written)]
    out = shown("bench.py", *asked)
    found = json.loads(written.read_text())
    assert set(found) == {"machine", "peers", "rounds", "rows", "start"}
    row = found["rows"]["digits"]
    assert set(row) == {"trainer", "torch"}
    for figures in row.values():
        assert figures["parameters"] == 64 * 64 + 64 + 64 * 10 + 10
        assert figures["step_us"] == pytest.approx(1e3 * figures["epoch_ms"] / math.ceil(1797 / 32))
        assert 0 < figures["loss"] < 3
        assert 50 < figures["peak_mb"] < 5000
        assert figures["wall_s"] > figures["epoch_ms"] / 1e3 > 0
    epochs, processes = out.split("\n\n")[:2]
    for table, first in ((epochs, "row | trainer: ms an epoch"), (processes, "row | trainer: s, MB")):
        head, _, line = table.splitlines()
        assert head.startswith(f"| {first}")
        assert line.startswith("| digits |")
        assert head.count("|") == line.count("|")
    assert found["machine"] in out


def test_at_once() -> None:
    head, _, line = shown("at_once.py", "--rows", "digits", "--rounds", "1").split("\n\n")[0].splitlines()
    assert head == "| row | alone: ms an epoch | 2 at once, giving way (×) | 2 at once, not (×) |"
    assert line.startswith("| digits |")
    assert line.count("(") == 2


def test_judging(tmp_path: Path) -> None:
    written = tmp_path / "judging.json"
    out = shown(
        "judging.py", "--rows", "digits", "--rounds", "1", "--peers", "torch", "keras-torch", "--json", str(written)
    )
    row = json.loads(written.read_text())["rows"]["digits"]
    assert set(row) == {"trainer", "torch", "keras-torch"}
    assert all(figures["evaluate_ms"] > 0 < figures["predict_ms"] for figures in row.values())
    for table, title in zip(out.split("\n\n"), ("evaluating", "predicting"), strict=True):
        head, _, line = table.strip().splitlines()
        assert head.startswith(f"| {title} | trainer, ms |")
        assert line.startswith("| digits |")
        assert head.count("|") == line.count("|")


def test_growth(tmp_path: Path) -> None:
    written, drawn = tmp_path / "growth.json", tmp_path / "growth.png"
    asked = ["--curves", "rows=100,300", "--features", "4", "--epochs", "2"]
    out = shown("growth.py", *asked, "--json", str(written), "--plot", str(drawn))
    found = json.loads(written.read_text())
    assert list(found["curves"]["rows"]) == ["100", "300"]
    point = found["curves"]["rows"]["300"]
    assert set(point) == {"epoch_ms", "peak_mb", "allowed_mb", "law", "beyond", "compiled"}
    weights = 4 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
    assert point["allowed_mb"] == pytest.approx((300 * (4 * 4 + 8) + 12 * weights + 400 * (4 + 2 * 64 + 10)) / 1e6)
    assert point["law"] == pytest.approx(point["peak_mb"] / point["allowed_mb"])
    assert [line.split(" | ")[0] for line in out.splitlines()[:4]] == ["| rows", "| ---", "| 100", "| 300"]
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_ablation(tmp_path: Path) -> None:
    written = tmp_path / "ablation.json"
    asked = ["--rows", "digits", "--epochs", "2", "--rounds", "1", "--switches", "without heap"]
    out = shown("ablation.py", *asked, "--json", str(written))
    found = json.loads(written.read_text())
    row = found["rows"]["digits"]
    assert list(row) == ["all on", "without heap"]
    assert row["all on"]["times"] == 1
    assert all(figures["loss_off"] == 0 and figures["epoch_ms"] > 0 for figures in row.values())
    assert out.startswith("| row | all on: ms an epoch | without heap, × (loss off) |\n")


def test_engines_in_double_precision(tmp_path: Path) -> None:
    written = tmp_path / "ablation.json"
    asked = ["--rows", "digits", "--epochs", "3", "--rounds", "1", "--switches", "plain engine"]
    shown("ablation.py", *asked, "--set", "model.dtype=float64", "--json", str(written))
    found = json.loads(written.read_text())
    assert found["set"] == ["model.dtype=float64"]
    assert found["rows"]["digits"]["plain engine"]["loss_off"] < 1e-10


def test_exponent_of_a_power(modules: Any) -> None:
    growth = modules("growth")
    points = {x: {"epoch_ms": 3.0 * x**1.5} for x in (1, 10, 1000)}
    assert growth.exponents(points, "epoch_ms") == pytest.approx([1.5, 1.5])
    assert math.isnan(growth.slope((1.0, 0.0), (2.0, 5.0)))


def test_best_of_the_others(modules: Any) -> None:
    tables = modules("tables")
    by = {"trainer": {"wall_s": 2.0}, "a": {"wall_s": 5.0}, "b": {"wall_s": 3.0}, "floor": {}}
    assert tables.fastest(by, "wall_s") == "b 1.50"
    assert tables.fastest({"trainer": {"wall_s": 2.0}}, "wall_s") == "–"
    assert [tables.amount(x) for x in (0, 0.01234, 5.678, 1234.5)] == ["0", "0.0123", "5.68", "1,234"]


def test_steps_of_folds(modules: Any) -> None:
    rows = modules("rows")
    assert rows.steps(rows.ROWS["boston"], 404) == 26
    assert rows.steps(rows.ROWS["boston_folds"], 404) == 4 * 19


def test_rows_are_what_their_recipes_are(modules: Any) -> None:
    """Batch size, optimizer, loss and units: the peers train what we train."""
    losses = {"binary": "BinaryCrossentropy", "mse": "MeanSquaredError", "classes": "CategoricalCrossentropy"}
    rows = modules("rows").ROWS
    assert len(rows) >= 12
    for name, row in rows.items():
        recipe = load_recipe(ROOT / row.recipe, [*row.sets, "expect={}"]).recipe
        assert recipe.fit.batch_size == row.batch, name
        assert type(recipe.compile.optimizer).__name__.lower() == row.optimizer, name
        assert type(recipe.compile.loss).recipe_name().removeprefix("Sparse") == losses[row.loss], name
        units = [
            found.units for layer in recipe.model.layers for found in (layer, *layer.held()) if hasattr(found, "units")
        ]
        assert units == [options[0] for kind, *options in row.stack if kind in ("dense", "lstm", "gru", "both")], name
        assert not recipe.fit.validation_split, name


def test_every_switch_replaces_what_is_there(modules: Any) -> None:
    switches = modules("ablation").SWITCHES
    assert len(switches) >= 11
    for switch in switches:
        assert switch.arguments or switch.environment or switch.replace, switch.name
        for module, name, expression in switch.replace:
            assert hasattr(importlib.import_module(module), name), switch.name
            compile(expression, switch.name, "eval")
