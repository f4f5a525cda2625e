"""Gradients from the engine are those of the documented function, and training does not load sympy for them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

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
