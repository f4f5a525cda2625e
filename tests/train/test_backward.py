"""Gradients from the engine are those of the documented function, and training does not load sympy for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.train.recipes import trained
from trainer.train import backward


@pytest.mark.parametrize("way", [backward.engine(), backward.documented])
def test_gradients(way: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backward, "engine", lambda: way)
    a, b, unused = (torch.randn(3, 2, requires_grad=True) for _ in range(3))
    roots, seeds = [a * b, (a**2).sum()], [torch.randn(3, 2), torch.tensor(2.0)]
    found = backward.gradients(roots, seeds, [a, b, unused])
    assert found[2] is None
    torch.testing.assert_close(found[0], seeds[0] * b + 4 * a)
    torch.testing.assert_close(found[1], seeds[0] * a)
    assert a.grad is None


def test_the_engine_has_not_moved() -> None:
    assert backward.engine() is not backward.documented


TWO = """
name: two
seed: 1
dataset:
  source: digits
  inputs: {image: {}}
  targets: {digit: {field: label}, same: {field: label}}
  limit: 200
model:
  layers:
    - Flatten: {name: flat}
    - Dense: {name: digit, units: 10, activation: softmax}
    - Dense: {name: same, inputs: flat, units: 10, activation: softmax, trainable: false}
  outputs: [digit, same]
compile: {optimizer: sgd, loss: {digit: sparse_categorical_crossentropy, same: sparse_categorical_crossentropy}}
fit: {epochs: 2, batch_size: 50}
"""


@pytest.mark.parametrize("engine", ["plain", "auto"])
def test_an_output_that_no_weight_moves_goes_along(tmp_path: Path, engine: str) -> None:
    history = trained(tmp_path, TWO, engine=engine).history
    first, second = history["digit_loss"]
    assert second < first
    assert history["same_loss"][0] == pytest.approx(history["same_loss"][1], rel=1e-6)
    assert history["loss"] == pytest.approx([first + history["same_loss"][0], second + history["same_loss"][0]])


def test_training_loads_no_sympy() -> None:
    code = """
import sys
from tests.train.recipes import DIGITS, loaded
from trainer.train.job import Options, fit
import tempfile, pathlib
with tempfile.TemporaryDirectory() as folder:
    fit(loaded(DIGITS), Options(runs=pathlib.Path(folder), device="cpu"), b"")
print([name for name in ("sympy", "torch._dynamo") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
