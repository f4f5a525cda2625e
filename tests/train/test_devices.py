"""What a process does once before it computes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.recipes import loaded
from trainer.model.network import Network
from trainer.train import devices
from trainer.train.job import Options, fit

RECIPE = """
name: ready
dataset: {source: digits, limit: 100, split: {test: {last: 20}}}
model: {layers: [Flatten, {Dense: {units: 10, activation: softmax}}]}
compile: {loss: sparse_categorical_crossentropy}
fit: {epochs: 1}
"""
FIRST_CALL = """
import torch
from trainer.train.devices import choose_device
choose_device("cpu")
torch.set_num_threads(2)
torch.manual_seed(0)
square = torch.rand(512, 512)
square @ square
numbers = torch.rand(336000) * 0.8 + 0.1
for name in ("sqrt", "tanh", "erf", "sin"):
    first, second = (getattr(numbers, name)() for _ in range(2))
    assert torch.equal(first, second), name
"""


@pytest.mark.parametrize("time", range(3))
def test_the_first_call_of_vector_functions_is_as_exact_as_all_others(time: int) -> None:
    """Threads have to meet for it to be another: without `find_vector_functions` one process in twenty fails here."""
    done = subprocess.run([sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_vector_functions_are_found_before_there_is_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    find, make = devices.find_vector_functions, Network.__init__
    monkeypatch.setattr(devices, "find_vector_functions", lambda: [order.append("found"), find()])
    monkeypatch.setattr(Network, "__init__", lambda *given: [order.append("made"), make(*given)][1])
    fit(loaded(RECIPE), Options(runs=tmp_path, device="cpu"), RECIPE.encode(), None)
    assert order[0] == "found"
    assert "made" in order
