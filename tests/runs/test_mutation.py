"""The model file of a real run with bytes changed or cut off: its weights, or one kind of error; soon and in bounds."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.train.recipes import trained
from trainer.errors import FileError
from trainer.runs.look import looked_at

SECONDS = 5
SPARE = 700 * 2**20
"Bytes that reading may take beside what torch takes: twice what a file may declare, and some."

READER = """
import os, random, resource, signal, sys
from pathlib import Path
from tests.runs.test_mutation import changed, RECIPE
from tests.train.recipes import loaded
from trainer.errors import TrainerError
from trainer.runs.directory import RunDirectory
from trainer.runs.model_file import read_model
from trainer.train.job import Options
from trainer.train.state import load_weights, state_of
from trainer.train.use import OpenRun

run = OpenRun(RunDirectory(Path(sys.argv[1])), Options(device="cpu"))
data = (Path(sys.argv[1]) / "model.h5").read_bytes()
whole = read_model(data)
shapes = {name: [a.shape for a in arrays] for name, arrays in whole.weights.items()}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    print(number, end=" ", flush=True)
    signal.alarm(int(sys.argv[4]))  # no handler: the system ends the process, even within the C library
    try:
        found = read_model(changed(data, number))
        state = state_of(found)
        load_weights(run.built, found)
        assert [a.shape for arrays in found.weights.values() for a in arrays] == sum(shapes.values(), [])
        assert state.keys() == whole.extra.keys()
        assert repr(state) == repr(whole.extra)
        print("read", flush=True)
    except TrainerError as error:
        print("refused", flush=True)
        assert str(error) and len(str(error)) < 2000
signal.alarm(0)
print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, flush=True)
"""

RECIPE = """
name: small
seed: 3
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}, Normalization]}}
  targets: {label: {}}
  limit: 60
model:
  layers: [{Dense: {units: 4, activation: relu}}, BatchNormalization, {Dense: {units: 10, activation: softmax}}]
compile: {optimizer: adam, loss: sparse_categorical_crossentropy, metrics: [accuracy]}
fit: {epochs: 1, batch_size: 32}
"""


def changed(data: bytes, number: int) -> bytes:
    """A mutant: cut off, with 1 to 8 bytes changed, a stretch of zeros or noise, or a stretch repeated or left out."""
    dice = random.Random(number)
    made, size = bytearray(data), len(data)
    kind = number % 5
    at = dice.randrange(8, dice.choice([size, 4096]))
    stretch = dice.randrange(1, 64)
    if kind == 0:
        return bytes(made[: dice.choice([at, dice.randrange(size), size - stretch])])
    if kind == 1:
        made[at : at + stretch] = dice.choice([bytes(stretch), b"\xff" * stretch, dice.randbytes(stretch)])
    elif kind == 2:
        made[at:at] = made[at : at + stretch]
    elif kind == 3:
        del made[at : at + stretch]
    else:
        for _ in range(dice.randint(1, 8)):
            made[dice.randrange(8, dice.choice([size, 4096]))] = dice.choice([0, 1, 255, dice.randrange(256)])
    return bytes(made)


@dataclass
class Seen:
    """What came of a series of mutants."""

    read: int
    refused: int
    stuck: list[int]
    "Those on which the reading process hung or crashed."
    memory: int
    "Bytes that the largest reading process grew by."


def seen(run: Path, start: int, stop: int) -> Seen:
    """Read mutants in processes of their own; a hang or a crash ends one, and the next goes on behind it."""
    found = Seen(0, 0, [], 0)
    while start < stop:
        command = [sys.executable, "-c", READER, str(run), str(start), str(stop), str(SECONDS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        words = done.stdout.split()
        assert "Traceback" not in done.stderr, f"mutant {words[-1:]}: {done.stderr}"
        found.read += words.count("read")
        found.refused += words.count("refused")
        if done.returncode == 0:
            found.memory = max(found.memory, int(words[-1]) * 1024)
            break
        found.stuck.append(int(words[-1]))
        start = found.stuck[-1] + 1
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("run"), RECIPE).directory


def hold(run: Path, start: int, stop: int) -> None:
    found = seen(run, start, stop)
    count = stop - start
    assert found.read + found.refused + len(found.stuck) == count
    assert found.refused > count // 2
    assert found.read > 0, "some bytes of a file carry nothing"
    assert len(found.stuck) <= 1 + count // 50
    assert found.memory < SPARE
    data = (run / "model.h5").read_bytes()
    for number in found.stuck:
        # What a stranger's file goes through first.
        with pytest.raises(FileError):
            looked_at(changed(data, number), seconds=SECONDS)


def test_200_mutants(run: Path) -> None:
    hold(run, 0, 200)


@pytest.mark.long
def test_2000_mutants(run: Path) -> None:
    hold(run, 200, 2200)


def test_every_length(run: Path) -> None:
    """Cut off anywhere, a file is never taken for a whole one."""
    from trainer.runs.model_file import read_model

    data = (run / "model.h5").read_bytes()
    lengths = {*range(0, 600, 7), *range(0, len(data), 997), *range(len(data) - 40, len(data))}
    for length in sorted(lengths):
        with pytest.raises(FileError):
            read_model(data[:length])


def test_every_byte_of_the_state_is_watched(run: Path) -> None:
    """A number of the optimizer or of the preprocessing that was changed in the file is found."""
    import h5py

    from trainer.runs.model_file import read_model

    path = run.parent / "changed.h5"
    with h5py.File(run / "model.h5") as file:
        names = [f"trainer/arrays/{n}" for n in file["trainer/arrays"]] + ["trainer/json"]
        sizes = {name: file[name].size for name in names}
    for name in names:
        path.write_bytes((run / "model.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            flat = file[name][()].reshape(-1).view("u1")
            flat[random.Random(name).randrange(flat.size)] ^= 1
            file[name][()] = flat.view(file[name].dtype).reshape(file[name].shape)
        with pytest.raises(FileError, match="changed after it was written"):
            read_model(path)
    assert len(sizes) > 10
