"""A run takes about the memory of its data: no copy of all rows stands beside another."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

RECIPE = """
name: memory
dataset: {source: {npz: {path: table.npz}}, inputs: {x: {}}, targets: {y: {}}}
model: {layers: [{Dense: {units: 4, activation: relu}}, {Dense: {units: 1}}]}
compile: {optimizer: sgd, loss: mse}
fit: {epochs: 2, batch_size: 1000}
"""
PEAK = """
import sys
from trainer.cli.app import run
code = run(["fit", "recipe.yaml", "--runs", "runs", "--progress", "none", "-q"])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
sys.exit(code)
"""
LEFT = """
import ctypes
from trainer.train.devices import return_heap
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def resident():
    return 4096 * int(open("/proc/self/statm").read().split()[1])

blocks = [libc.malloc(100_000) for _ in range(1000)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:
    libc.free(block)
before = resident()
return_heap()
print(before - resident())
"""
FEATURES, ROWS = 100, 200_000


def peak(folder: Path, rows: int) -> int:
    """Bytes that a process takes at most which trains on so many rows."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    x = draw.standard_normal((rows, FEATURES), dtype="float32")
    np.savez(folder / "table.npz", x=x, y=x[:, :1].copy())
    (folder / "recipe.yaml").write_text(RECIPE)
    done = subprocess.run([sys.executable, "-c", PEAK], cwd=folder, capture_output=True, text=True, check=True)
    return 1024 * int(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc elsewhere")
def test_a_run_takes_the_memory_of_its_data(tmp_path: Path) -> None:
    data = 4 * ROWS * (FEATURES + 1)
    # The first run may load HDF5, to lay out the model's file; what it finds is kept for later ones.
    _, small, large = peak(tmp_path / "first", 2000), peak(tmp_path / "small", 2000), peak(tmp_path / "large", ROWS)
    # Once the data, and not twice; how much of what comes and goes stays with a process differs from run to run.
    assert 0.5 * data < large - small < 1.9 * data


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_freed_memory_goes_back() -> None:
    """The last block is still in use, so that the system would not get those before it by itself."""
    done = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 90_000_000
